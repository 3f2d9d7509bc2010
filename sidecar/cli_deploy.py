"""The commands around a deploy, as click reads them: gate, rehearse, postcheck."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import click

from sidecar.cli_options import (
    DURATION,
    FILE,
    FOLDER,
    SIZE,
    BeforeCommand,
    command_of,
    common,
    option,
    options,
    say,
)

F = TypeVar("F", bound=Callable[..., Any])
TEN_MINUTES = timedelta(minutes=10)
HALF_AN_HOUR = timedelta(minutes=30)
A_DAY = timedelta(days=1)
URL = option(
    "--url",
    help="have the daemon at this address do the work [default: the daemon that runs on --state-dir, else this process]",
)
TOKEN_FILE = option("--token-file", type=FILE, help="the daemon's bearer token")
KEY_FILE = option("--key-file", type=FILE, help="sign the receipt with this key, or check its signature (HMAC-SHA256)")
AS_JSON = option("--json", "as_json", is_flag=True, help="print one JSON document and nothing else")


def _expecting(command: F) -> F:
    """What the deploy is meant to do to the schema and the rows."""
    command = option(
        "--allow-shrink", multiple=True, metavar="TABLE", help="this table may lose rows, or go (repeatable)"
    )(command)
    command = option(
        "--expect",
        type=click.Choice(["changed", "same", "any"]),
        help="the schema version must have changed, or not [default: it must move when the schema does]",
    )(command)
    return option("--expect-version", help="the schema version must be this one afterwards")(command)


@click.command(cls=BeforeCommand, options_metavar="[OPTIONS]")
@common("warning")
@click.argument("dbs", nargs=-1, metavar="[DB]... [-- CMD...]")
@option(
    "--timeout", type=DURATION, default=TEN_MINUTES, show_default="10m", help="how long to wait while waiting can help"
)
@option("--fresh", is_flag=True, help="demand a drill of everything committed by now (the default)")
@option("--max-age", type=DURATION, help="accept a drill that passed at most this long ago")
@option("--receipt", type=FILE, help="where to write the receipt [default: <state-dir>/receipts/<id>.json]")
@option("--valid-for", type=DURATION, default=A_DAY, show_default="24h", help="how long the receipt may be used")
@option(
    "--keep",
    type=FOLDER,
    help="keep rollback artifacts here [default: rollback.keep-dir of sidecar.yml, else <state-dir>/rollback]",
)
@option("--keep-count", type=click.IntRange(2, 1000), help="at most this many deploys' artifacts [default: 10]")
@option("--keep-max", type=SIZE, help="at most this many bytes of artifacts [default: 50GiB]")
@option(
    "--override",
    metavar="REASON",
    help="pass in an emergency; recorded in the receipt, the log, the history and a metric",
)
@KEY_FILE
@URL
@TOKEN_FILE
@_expecting
@AS_JSON
@click.pass_context
def gate(ctx: click.Context, /, **given: Any) -> int:
    """May we deploy? Waits, demands fresh proof, writes a receipt; with a command, runs it and checks what it did."""
    from sidecar.commands.gate import Wishes  # noqa: PLC0415
    from sidecar.commands.gate import gate as command  # noqa: PLC0415

    if given["fresh"] and given["max_age"] is not None:
        raise click.UsageError("--fresh and --max-age exclude each other", ctx)
    return command(options(given), Wishes(command=command_of(ctx), **given), echo=say)


@click.command(cls=BeforeCommand, options_metavar="[OPTIONS]")
@common("warning")
@click.argument("db", metavar="DB -- CMD...")
@option("--database-url", metavar="TEMPLATE", help="set DATABASE_URL to this, {db} replaced, as in sqlite:///{db}")
@option("--env", metavar="NAME=VALUE", multiple=True, help="set this variable too, {db} replaced (repeatable)")
@option("--timeout", type=DURATION, default=HALF_AN_HOUR, show_default="30m", help="how long the command may take")
@_expecting
@AS_JSON
@click.pass_context
def rehearse(ctx: click.Context, /, **given: Any) -> int:
    """Run a migration against the copy just restored from the backup, never against production."""
    from sidecar.commands.rehearse import Wishes  # noqa: PLC0415
    from sidecar.commands.rehearse import rehearse as command  # noqa: PLC0415

    argv = command_of(ctx)
    if argv is None:
        raise click.UsageError("there is no command to rehearse; write `rehearse DB -- ./manage.py migrate`", ctx)
    return command(options(given), Wishes(command=argv, **given), echo=say)


@click.command()
@common("warning")
@option("--receipt", type=FILE, required=True, help="the receipt that the gate wrote")
@option(
    "--timeout",
    type=DURATION,
    default=TEN_MINUTES,
    show_default="10m",
    help="how long to wait for the backup to cover the deploy",
)
@KEY_FILE
@URL
@TOKEN_FILE
@_expecting
@AS_JSON
def postcheck(**given: Any) -> int:
    """After the deploy: intact, as expected, and covered by the backup again?"""
    from sidecar.commands.postcheck import Wishes  # noqa: PLC0415
    from sidecar.commands.postcheck import postcheck as command  # noqa: PLC0415

    return command(options(given), Wishes(**given), echo=say)
