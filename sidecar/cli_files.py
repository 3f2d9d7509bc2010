"""The commands that put database files in place, as click reads them: backup, restore, rollback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sidecar.cli_options import FILE, common, option, options, say

FORCE = option("--force", is_flag=True, help="replace what stands there; what is in use is never replaced")
FULL = option("--full", is_flag=True, help="integrity_check instead of quick_check")
AS_JSON = option("--json", "as_json", is_flag=True, help="print one JSON document and nothing else")


@click.command()
@common("warning")
@click.argument("db")
@click.argument("out", type=FILE)
@option("--vacuum", is_flag=True, help="VACUUM INTO: a compact copy, without free pages")
@FORCE
@FULL
@AS_JSON
def backup(db: str, out: Path, **given: Any) -> int:
    """A verified copy of production, by SQLite's Online Backup API."""
    from sidecar.commands.backup import backup as command  # noqa: PLC0415

    return command(options(given), db, out, echo=say, **given)


@click.command()
@common("warning")
@click.argument("db")
@option("--to", type=FILE, required=True, help="where the restored database is to stand")
@option("--position", help="restore exactly this position instead of the newest, while the replica has it")
@FORCE
@FULL
@AS_JSON
def restore(db: str, to: Path, **given: Any) -> int:
    """A safe restore of the newest backup: checked first, then put in place whole."""
    from sidecar.commands.restore import restore as command  # noqa: PLC0415

    return command(options(given), db, to, echo=say, **given)


@click.command()
@common("warning")
@option("--receipt", type=FILE, required=True, help="the receipt that the gate wrote")
@option("--key-file", type=FILE, help="check the receipt's signature with this key")
@option("--execute", is_flag=True, help="do the file part: put the artifacts in place, keep what they replace")
@AS_JSON
def rollback(receipt: Path, key_file: Path | None, **given: Any) -> int:
    """The way back: exact commands, what would be lost, how long it takes."""
    from sidecar.commands.rollback import rollback as command  # noqa: PLC0415

    return command(options(given), receipt, key_file, echo=say, **given)
