"""Restored copies that are kept in scratch for the next drill to bring forward: one for each database, named after where it stands.

A copy is moved into a drill's room and comes back when the drill has passed, each with one rename: whatever ends a drill in
the middle, what lies here is whole. It is a convenience, never a need: it goes whenever room is needed, and then the whole is restored.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sidecar.core.forward import KeptCopy
from sidecar.core.model import Database, Position

FOLDER = "kept"
# Without suffix: Litestream's `dir:` takes every `*.db` that it finds for a database to replicate, in hidden folders too.
_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})")


@dataclass(frozen=True, slots=True)
class KeptCopies:
    """Satisfies `forwarding.KeptCopies` and `scratch.Kept`; safe to share between threads and processes of one user.

    Args:
        scratch: the scratch directory, so that moving a copy there and back is a rename.
    """

    scratch: Path

    def known(self, database: Database) -> KeptCopy | None:
        """What is kept of this database; None where there is none, of this replica."""
        found = self._of(database)
        return KeptCopy(_position(found[-1]), _written_at(found[-1])) if found else None

    def take(self, database: Database, target: Path) -> Position:
        """Move the copy to `target`, and say where it stands. Raises OSError, FileNotFoundError where there is none."""
        found = self._of(database)
        if not found:
            raise FileNotFoundError(f"no copy of {database.name} is kept")
        found[-1].rename(target)
        return _position(found[-1])

    def put(self, database: Database, position: Position, copy: Path) -> None:
        """Move a copy that has passed here, for good as far as the disk says; older ones of the same database go. Raises OSError."""
        folder = self.scratch / FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        older = self._of(database)
        copy.chmod(0o600)  # it is production's content
        descriptor = os.open(copy, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        made = folder / f"{_key(database)}-{position.index:016x}"
        copy.rename(made)
        for each in older:
            if each != made:
                each.unlink(missing_ok=True)

    def size_bytes(self) -> int:
        """Bytes of disk that all copies take."""
        return sum(_allocated(each) for each in self._all())

    def give_way(self, need_bytes: int) -> None:
        """Remove so much at least, the oldest first, or all."""
        for each in sorted(self._all(), key=_written_at):
            if need_bytes <= 0:
                return
            need_bytes -= _allocated(each)
            each.unlink(missing_ok=True)

    def only(self, databases: Iterable[Database]) -> int:
        """Remove the copies of all others, and whatever else lies here; how many files went."""
        keys = {_key(each) for each in databases}
        going = [each for each in self._all() if (named := _NAME.fullmatch(each.name)) is None or named[1] not in keys]
        for each in going:
            with contextlib.suppress(OSError):
                each.unlink(missing_ok=True)
        return len(going)

    def _all(self) -> list[Path]:
        try:
            return list((self.scratch / FOLDER).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _of(self, database: Database) -> list[Path]:
        """Its copies, the one that stands furthest last: two only where a kill came between two renames."""
        key = _key(database)
        named = [(_NAME.fullmatch(each.name), each) for each in self._all()]
        return sorted(each for name, each in named if name is not None and name[1] == key)


def _key(database: Database) -> str:
    """Of the database and of where it is replicated to: a copy of another replica's must not be brought forward."""
    said = f"{database.path}\0{database.replica.identity}"
    return hashlib.sha256(said.encode(errors="surrogateescape")).hexdigest()[:16]


def _position(copy: Path) -> Position:
    return Position.of_txid(int(copy.name.rpartition("-")[2], 16))


def _allocated(file: Path) -> int:
    try:
        return file.lstat().st_blocks * 512
    except OSError:
        return 0


def _written_at(file: Path) -> datetime:
    """Moving it does not change that."""
    try:
        return datetime.fromtimestamp(file.lstat().st_mtime, UTC)
    except OSError:
        return datetime(1970, 1, 1, tzinfo=UTC)
