"""`history`: past drills and what they found, past deploys and what was decided; the daemon may be running."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.ledger import Deploys, Ledger
from sidecar.assembly_tools import read_settings
from sidecar.commands.render import Echo, history_table
from sidecar.commands.render_change import decisions_table
from sidecar.core.errors import EnvironmentProblem, SidecarError
from sidecar.core.verdict import drill_document
from sidecar.logs import set_up
from sidecar.options import Options

KEPT_MAX = 10_000  # more than the ledger keeps of one database


class Unknown(SidecarError):
    """A name that no drill bears: a usage error."""

    exit_code = 2


def history(options: Options, db: str | None, limit: int, *, deploys: bool, as_json: bool, echo: Echo) -> int:
    """Print the drills of one database (by name or path) or of all, newest first; with `deploys` what was decided instead."""
    set_up(options.log_format, options.log_level)
    settings = read_settings(options)
    if not settings.state_dir.is_dir():
        hint = "name the daemon's with --state-dir; it is made by the first `run` or `verify`"
        raise EnvironmentProblem(f"there is no state directory {settings.state_dir}", hint)
    if deploys:
        return _deploys(Deploys(settings.state_dir), db, limit, as_json=as_json, echo=echo)
    with closing(Ledger.open(settings.state_dir, clock=SystemClock(), exclusive=False)) as ledger:
        found = list(ledger.history(None, KEPT_MAX if db else limit))
        names = {name for name, _ in found}
        if db is not None and db in names:
            found = [each for each in found if each[0] == db]
        elif db is not None:
            found = list(ledger.history(str(Path(db).absolute()), limit))
    if db is not None and names and not found:
        raise Unknown(f"no drill of a database {db} is recorded", f"one of: {', '.join(sorted(names)[:10])}")
    drills = [(name, drill_document(drill)) for name, drill in found[:limit]]
    if as_json:
        echo(json.dumps([{"db": name, **document} for name, document in drills], indent=2, ensure_ascii=False))
    else:
        echo(history_table(drills) if drills else "no drill has been recorded yet")
    return 0


def _deploys(book: Deploys, db: str | None, limit: int, *, as_json: bool, echo: Echo) -> int:
    decisions = book.newest(KEPT_MAX if db else limit)
    found = [each for each in decisions if db is None or db in each["databases"]][:limit]
    if as_json:
        echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        echo(decisions_table(found) if found else "no deploy has been recorded yet")
    return 0
