"""The command line: arguments to one command to one exit code. Errors become `error:` and `try:` here, nowhere else.

Exit codes: 0 yes, passed; 1 no, proved; 2 usage or configuration; 3 could not tell; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from sidecar import __version__
from sidecar.cli_deploy import gate, postcheck, rehearse
from sidecar.cli_files import backup, restore, rollback
from sidecar.cli_options import an_address, common, env_of, logging_options, option, options, say
from sidecar.core.errors import ConfigError, SidecarError
from sidecar.core.people import tame

PROGRAM = "litestream-sidecar"
HERE = Path(__file__).parent
USAGE, COULD_NOT_TELL, INTERRUPTED = 2, 3, 130
REPORT_HINT = f"this is a fault of {PROGRAM} {__version__}: report it with the command that you ran"


class Interrupted(SidecarError):
    """Ctrl-C, or told to stop."""

    exit_code = INTERRUPTED


class _Commands(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; click's own way with Ctrl-C would print an empty line."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted("interrupted") from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name=PROGRAM)
def cli() -> None:
    """Can this SQLite database be brought back, right now, and may we migrate?"""


@cli.command()
@common("info")
@option(
    "--listen",
    callback=an_address,
    help="host:port, or unix:/path [default: http.listen of sidecar.yml, else 127.0.0.1:9810]",
)
def run(listen: str | None, **given: Any) -> int:
    """The daemon: watch, drill, answer /ready and /metrics."""
    from sidecar.commands.run import run as command  # noqa: PLC0415

    return command(replace(options(given), listen=listen))


@cli.command()
@logging_options("error")
@option("--once", is_flag=True, help="stop at the first ready answer, print the /ready JSON, exit 0")
@option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, readable=False),
    help="the folder to work in [default: a temporary one]",
)
@option(
    "--listen", callback=an_address, default="127.0.0.1:9810", show_default=True, help="host:port of the demo's daemon"
)
def demo(folder: Path | None, listen: str, *, once: bool, **given: Any) -> int:
    """Real Litestream, a writing app and the daemon in one folder."""
    from sidecar.commands.demo import demo as command  # noqa: PLC0415

    return command(folder, listen, once=once, echo=say, **given)


@cli.command()
@common("warning")
def doctor(**given: Any) -> int:
    """Check the set-up and print what to change."""
    from sidecar.commands.doctor import doctor as command  # noqa: PLC0415

    return command(options(given), echo=say)


@cli.command()
@common("warning")
@option("--url", help="the daemon's address [default: http.listen of sidecar.yml]")
@option("--json", "as_json", is_flag=True, help="print the /ready document")
@option("--watch", is_flag=True, help="stay, and draw the table anew every two seconds")
def status(url: str | None, *, as_json: bool, watch: bool, **given: Any) -> int:
    """The daemon's answer as a table for people."""
    from sidecar.commands.status import status as command  # noqa: PLC0415

    listen = os.environ.get(env_of("listen"))  # a daemon set up by its environment is asked where it listens
    return command(replace(options(given), listen=listen), url, as_json=as_json, watch=watch, echo=say)


@cli.command()
@common("warning")
@click.argument("db", required=False)
@option("--json", "as_json", is_flag=True, help="print a list of drills, newest first")
@option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="at most this many drills")
@option("--deploys", is_flag=True, help="what gates and postchecks decided, instead of drills")
def history(db: str | None, limit: int, *, deploys: bool, as_json: bool, **given: Any) -> int:
    """Past drills and what they found."""
    from sidecar.commands.history import history as command  # noqa: PLC0415

    return command(options(given), db, limit, deploys=deploys, as_json=as_json, echo=say)


@cli.command()
@common("warning")
@click.argument("dbs", nargs=-1, metavar="[DB]...")
@option("--json", "as_json", is_flag=True, help="print the /ready document and nothing else")
@option("--full", is_flag=True, help="integrity_check instead of quick_check")
@option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False, readable=False),
    help="keep the checked copies in this folder",
)
@option(
    "--accept-shrink", is_flag=True, help="what is gone was meant to go: what this drill restores is the new measure"
)
def verify(
    dbs: tuple[str, ...], keep: Path | None, *, as_json: bool, full: bool, accept_shrink: bool, **given: Any
) -> int:
    """Drill now, in the foreground; no daemon needed."""
    from sidecar.commands.verify import Wishes  # noqa: PLC0415
    from sidecar.commands.verify import verify as command  # noqa: PLC0415

    wishes = Wishes(full=full, keep=keep, accept_shrink=accept_shrink, as_json=as_json)
    return command(options(given), dbs, wishes, echo=say)


@cli.command()
@logging_options("error")
@click.argument("faults", nargs=-1, metavar="[FAULT]...")
@option("--list", "only_list", is_flag=True, help="name the faults and what has to turn red; run nothing")
@option("--json", "as_json", is_flag=True, help="print one document and nothing else")
@option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, readable=False),
    help="the folder to work in, which stays [default: a temporary one]",
)
def selftest(
    faults: tuple[str, ...], folder: Path | None, *, only_list: bool, as_json: bool, log_format: str, log_level: str
) -> int:
    """Break backups of the real Litestream in every way, and show each check turning red."""
    from sidecar.commands.selftest import listed  # noqa: PLC0415
    from sidecar.commands.selftest import selftest as command  # noqa: PLC0415
    from sidecar.logs import set_up  # noqa: PLC0415

    set_up(log_format, log_level)
    return listed(faults, echo=say) if only_list else command(faults, folder, as_json=as_json, echo=say)


for _each in (gate, rehearse, postcheck, rollback, backup, restore):
    cli.add_command(_each)


def entry(arguments: Sequence[str]) -> int:
    """Run one command; every refusal becomes a sentence and an exit code, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names may hold what this terminal's encoding does not
            stream.reconfigure(errors="backslashreplace")
    try:
        code = cli.main(args=list(arguments), prog_name=PROGRAM, standalone_mode=False)
    except ConfigError as error:
        return _refuse([f"{error.source}: {each}" for each in error.mistakes], error.hint, error.exit_code)
    except SidecarError as error:
        return _refuse([error.message], error.hint, error.exit_code)
    except (click.exceptions.Abort, KeyboardInterrupt):  # before the command began
        return INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(f"{error.format_message()}\n")
        return USAGE
    except click.ClickException as error:
        return _refuse([error.format_message()], f"{_path_of(error)} --help", USAGE)
    except Exception as error:  # noqa: BLE001 - the last resort: whatever nobody foresaw is no reason for a traceback
        return _refuse([f"unexpected {type(error).__name__} at {_where(error)}"], REPORT_HINT, COULD_NOT_TELL)
    return code if isinstance(code, int) else 0


def _path_of(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return context.command_path if isinstance(context, click.Context) else PROGRAM


def _where(error: BaseException) -> str:
    """The innermost place of ours that the error went through; its text may quote secrets, so it is not said."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(HERE)] or frames
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "an unknown place"


def _refuse(sentences: Sequence[str], hint: str, code: int) -> int:
    lines = [f"error: {tame(' '.join(each.split()))}" for each in sentences] + ([f"try: {tame(hint)}"] if hint else [])
    below = "\n" if code == INTERRUPTED and sys.stderr.isatty() else ""  # the terminal has just shown ^C
    with contextlib.suppress(BrokenPipeError):
        sys.stderr.write(below + "\n".join(lines) + "\n")
        sys.stderr.flush()
    return code
