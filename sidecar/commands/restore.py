"""`restore`: the newest backup, or one position of it, checked beside its place and then put there whole."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

from sidecar.adapters.placing import Spot
from sidecar.assembly_files import beside, configured, file_tools
from sidecar.commands.progress import shown
from sidecar.commands.render import Echo
from sidecar.commands.stopping import stopping
from sidecar.commands.told import about_content, about_file, content_document, notes_on
from sidecar.commands.verify import wanted
from sidecar.core.errors import EnvironmentProblem, ProvedBad, SidecarError, Stopped
from sidecar.core.model import CheckKind, Database, Drill, Outcome, Position
from sidecar.core.people import tame
from sidecar.core.position import position as position_of
from sidecar.core.verdict import Document
from sidecar.drill import Driller, new_id
from sidecar.drill_attempt import COPY, Order
from sidecar.logs import set_up
from sidecar.options import Options


def restore(  # noqa: PLR0913 - one keyword per option
    options: Options,
    db: str,
    to: Path,
    *,
    position: str | None,
    force: bool,
    full: bool,
    as_json: bool,
    echo: Echo,
) -> int:
    """Restore to `to`; what was made is told in one sentence, or as a document."""
    set_up(options.log_format, options.log_level)
    wished = _position(position)
    kit, known = file_tools(), configured(options)
    database = wanted(known.fleet, [db])[0]
    began = kit.clock.monotonic()
    notes = [note for note in (kit.placing.recover(to),) if note is not None]
    spot = kit.placing.look(to, force=force)
    check = CheckKind.FULL if full else CheckKind.QUICK
    with (
        stopping() as stop,
        shown(database.name) as progress,
        beside(spot.path) as space,
        space.room(0) as kept,  # the driller's own room is promised what a restore needs
    ):
        # Assertions tell whether a backup is good enough to deploy on; in a disaster one takes what there is.
        policy = replace(known.fleet.policies[database.path], assertions=())
        order = Order(database, policy, check, new_id(), kept, COPY, wished)
        drill = Driller(known.replica, kit.live, kit.integrity, space, kit.clock).run(
            order, stop=stop, progress=progress
        )
        if drill.outcome is Outcome.ABORTED:
            raise Stopped("told to stop")
        if drill.outcome is Outcome.PASSED:
            kit.placing.put(kept / COPY, spot, keep=False)
    took = kit.clock.monotonic() - began
    notes += list(_notes(database, spot))
    if as_json:
        echo(json.dumps(_document(database, spot, drill, took, notes), indent=2, ensure_ascii=False))
    elif drill.content is not None and drill.outcome is Outcome.PASSED:
        said = f"{about_file(drill.size_bytes or 0, took)}, {about_content(drill.content, check)}"
        echo(tame(f"restored {database.name} to {spot.path}: position {drill.position}, {said}"))
        for note in notes:
            echo(tame(f"note: {note}"))
    else:
        raise _refusal(drill)
    return _EXIT[drill.outcome]


def _position(text: str | None) -> Position | None:
    try:
        return position_of(text) if text is not None else None
    except ValueError as error:
        raise EnvironmentProblem(str(error), "`rollback` and `verify --json` print positions") from None


_EXIT = {Outcome.PASSED: 0, Outcome.FAILED: 1, Outcome.INCONCLUSIVE: 3}


def _notes(database: Database, spot: Spot) -> list[str]:
    notes = notes_on(spot)
    if os.path.realpath(database.path) == str(spot.path):
        notes.append(
            "start Litestream first, then the app; until Litestream has synced, its replica holds what it held before"
        )
    return notes


def _refusal(drill: Drill) -> SidecarError:
    kind = ProvedBad if drill.outcome is Outcome.FAILED else SidecarError
    return kind(f"nothing was put in place: {drill.message} ({drill.reason})", drill.hint)


def _document(database: Database, spot: Spot, drill: Drill, took: float, notes: list[str]) -> Document:
    passed = drill.outcome is Outcome.PASSED
    return {
        "name": database.name, "path": str(spot.path), "made": passed, "outcome": drill.outcome.value,
        "reason": drill.reason, "message": drill.message, "hint": drill.hint or None,
        "position": str(drill.position) if drill.position is not None else None,
        "size_bytes": drill.size_bytes, "check": drill.check.value, "seconds": round(took, 3),
        "restore_seconds": drill.restore_seconds, "check_seconds": drill.check_seconds,
        "replaced": passed and spot.replaces, "notes": notes if passed else [],
        **(content_document(drill.content) if passed and drill.content is not None else {}),
    }  # fmt: skip
