"""`backup`: production copied by SQLite's Online Backup API, checked, and only then put in place."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from sidecar.adapters.hashing import sha256_of
from sidecar.adapters.placing import SUFFIXES
from sidecar.adapters.sqlite_vacuum import vacuum_into
from sidecar.assembly_files import FileTools, beside, configured, file_tools
from sidecar.commands.progress import shown
from sidecar.commands.render import Echo
from sidecar.commands.stopping import stopping
from sidecar.commands.told import about_content, about_file, content_document, notes_on
from sidecar.commands.verify import wanted
from sidecar.core.case import room_for
from sidecar.core.errors import EnvironmentProblem, Overdue, ProvedBad, Unreadable
from sidecar.core.model import CheckKind, Content, Database
from sidecar.core.people import tame
from sidecar.core.policy import Policy
from sidecar.core.ports import Progress
from sidecar.core.units import spell
from sidecar.logs import set_up
from sidecar.options import Options


def backup(  # noqa: PLR0913 - one keyword per option
    options: Options, db: str, out: Path, *, vacuum: bool, force: bool, full: bool, as_json: bool, echo: Echo
) -> int:
    """Copy production to `out`; what was made is told in one sentence, or as a document."""
    set_up(options.log_format, options.log_level)
    kit, fleet = file_tools(), configured(options).fleet
    database = wanted(fleet, [db])[0]
    _refuse_own_files(database, out)
    began = kit.clock.monotonic()
    notes = [note for note in (kit.placing.recover(out),) if note is not None]
    spot = kit.placing.look(out, force=force)
    with stopping() as stop, shown(database.name) as progress, beside(spot.path) as space:
        size = _size(database)
        with space.room(room_for(size) * (2 if vacuum else 1)) as room:
            check = CheckKind.FULL if full else CheckKind.QUICK
            work = _Work(kit, database, fleet.policies[database.path], check, began, stop, progress)
            try:
                copy, content = work.made(room, vacuum=vacuum)
            except ProvedBad as error:
                if not as_json:
                    raise
                echo(json.dumps(_refusal(database, spot.path, error), indent=2, ensure_ascii=False))
                return error.exit_code
            digest, size = sha256_of(copy, stop=stop, progress=progress), copy.stat().st_size
            kit.placing.put(copy, spot, keep=False)
    took = kit.clock.monotonic() - began
    notes += notes_on(spot)
    if as_json:
        document = {
            "name": database.name, "path": str(spot.path), "made": True, "reason": None, "message": None, "hint": None,
            "size_bytes": size, "sha256": digest, "check": check.value, "vacuumed": vacuum, "seconds": round(took, 3),
            "replaced": spot.replaces, "notes": notes, **content_document(content),
        }  # fmt: skip
        echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        echo(
            tame(
                f"backed up {database.name} to {spot.path}: {about_file(size, took)}, {about_content(content, check)}, sha256 {digest}"
            )
        )
        for note in notes:
            echo(tame(f"note: {note}"))
    return 0


@dataclass(frozen=True, slots=True)
class _Work:
    """One backup under way: everything before it is put in place."""

    kit: FileTools
    database: Database
    policy: Policy
    kind: CheckKind
    began: float
    stop: Event
    progress: Progress

    def made(self, room: Path, *, vacuum: bool) -> tuple[Path, Content]:
        """The checked copy, and what it holds. Raises ProvedBad, and what copying and checking raise."""
        copy = room / "backup"  # no suffix: Litestream's `dir:` takes every `*.db` for a database
        self.kit.production.copy(
            self.database.path, copy, timeout_s=self._left_s(), stop=self.stop, progress=self.progress
        )
        self._check(copy)
        if vacuum:
            compact = room / "compact"
            vacuum_into(copy, compact, timeout_s=self._left_s(), stop=self.stop)
            copy.unlink()
            self._check(compact)
            copy = compact
        content = self.kit.integrity.content(
            copy,
            schema_version=self.policy.schema_version,
            now=self.kit.clock.now(),
            timeout_s=self._left_s(),
            stop=self.stop,
        )
        return copy, content

    def _check(self, copy: Path) -> None:
        complaints = self.kit.integrity.check(
            copy, self.kind, timeout_s=self._left_s(), stop=self.stop, progress=self.progress
        )
        if complaints:
            pragma = "quick_check" if self.kind is CheckKind.QUICK else "integrity_check"
            raise ProvedBad(
                f"{self.database.path} is damaged (db_corrupt), so nothing was put in place; {pragma} of the copy: {'; '.join(complaints[:3])}",
                "do not migrate; `litestream-sidecar verify` tells whether the replica is sound, and `restore` brings it back",
            )

    def _left_s(self) -> float:
        left = self.began + self.policy.drill_timeout.total_seconds() - self.kit.clock.monotonic()
        if left <= 0:
            raise Overdue(
                f"the backup took longer than policy.drill-timeout ({spell(self.policy.drill_timeout)})",
                "raise policy.drill-timeout",
            )
        return left


def _refuse_own_files(database: Database, out: Path) -> None:
    """Raise where `out` is the database itself or one of the files beside it, by name or by another link."""
    real = Path(os.path.realpath(out))
    for suffix in SUFFIXES:
        each = Path(f"{os.path.realpath(database.path)}{suffix}")
        if real == each or (real.exists() and each.exists() and real.samefile(each)):
            raise EnvironmentProblem(f"{out} is the database {database.name} itself", "name another file")


def _size(database: Database) -> int:
    """What a copy may take: the database, and all that its WAL may add. Raises Unreadable."""
    try:
        beside = Path(f"{database.path}-wal")
        return Path(database.path).stat().st_size + (beside.stat().st_size if beside.exists() else 0)
    except OSError as error:
        raise Unreadable(
            f"{database.path} cannot be read: {error.strerror}",
            "check that the volume is mounted; where it is lost, `litestream-sidecar restore` brings it back",
        ) from None


def _refusal(database: Database, path: Path, error: ProvedBad) -> dict[str, object]:
    return {
        "name": database.name,
        "path": str(path),
        "made": False,
        "reason": "db_corrupt",
        "message": error.message,
        "hint": error.hint,
    }
