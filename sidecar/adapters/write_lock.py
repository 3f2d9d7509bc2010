"""Who holds a database's write lock right now, asked without taking any (SQLite, "WAL-mode File Format", 2.3.1)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

_RESERVED = ((0x40000001, 1),)  # of the database file: a writer in rollback-journal mode
_WRITE = ((120, 1),)  # WAL_WRITE_LOCK, in `-shm`

Lockers = Callable[[Path, Iterable[tuple[int, int]]], frozenset[int]]
"""`(path, spans)` to pids: `LiveDescriptors.lockers`. Raises OSError."""


@dataclass(frozen=True, slots=True)
class WriteLock:
    """Satisfies `ports.Writers`."""

    lockers: Lockers

    def holder(self, path: str) -> int | None:
        """The process, 0 where it cannot be seen from here; None where nobody holds it or it cannot be told."""
        for file, spans in ((Path(f"{path}-shm"), _WRITE), (Path(path), _RESERVED)):
            with contextlib.suppress(OSError):
                for pid in self.lockers(file, spans):
                    return pid
        return None
