"""Facts: what production's own files show, and Litestream's beside them, without SQLite.

All times are aware UTC; all types are frozen, so they may cross threads.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from sidecar.core.model import Position


@dataclass(frozen=True, slots=True)
class FileId:
    """Which file stands at a path: a replaced file keeps the path and changes this."""

    device: int
    inode: int


@dataclass(frozen=True, slots=True)
class WalIndex:
    """The committed end of the WAL, read from the first 48 bytes of `-shm`.

    Source: SQLite, "WAL-mode File Format", 2.1: mxFrame u32 at 16, salts at 32 (8 bytes, as stored). `page_size` in bytes.
    """

    salts: bytes
    max_frame: int
    page_size: int

    @property
    def end(self) -> int:
        """Byte offset in the WAL just past the last committed frame."""
        return 32 + self.max_frame * (24 + self.page_size)


@dataclass(frozen=True, slots=True)
class Capture:
    """The newest commit that Litestream holds in its local folder (0.5: a level-0 LTX file; 0.3: the shadow WAL).

    `at` is the writer's time of that file; every commit up to `at` is in it. `wal_end` is the WAL offset up to which the
    file has captured (None where the file does not say). `page_count` is the database's size after it (0.5 only).
    """

    position: Position
    at: datetime
    salts: bytes
    wal_end: int | None
    page_count: int | None


@dataclass(frozen=True, slots=True)
class LiveState:
    """What the local files say of production; `captures` are Litestream's newest local files, newest first (bounded)."""

    read_at: datetime
    file_id: FileId | None  # None: there is no database file
    size_bytes: int
    wal_bytes: int
    modified_at: datetime | None  # the later mtime of database and WAL
    wal_index: WalIndex | None  # None: no WAL, or its index is not readable
    captures: tuple[Capture, ...]  # empty: no local folder, or not readable
    error: str | None = None  # why something above could not be read
    in_reach: bool = True  # False: nothing of it was looked for

    @property
    def capture(self) -> Capture | None:
        """The newest capture."""
        return self.captures[0] if self.captures else None

    @property
    def fingerprint(self) -> tuple[object, ...]:
        """Equal between two reads exactly when no commit happened in between, as far as files can show."""
        return (self.file_id, self.size_bytes, self.wal_bytes, self.modified_at, self.wal_index)

    @property
    def digest(self) -> str | None:
        """Of the fingerprint, in 16 hex digits; None where something of it could not be read."""
        return None if self.error else hashlib.sha256(repr(self.fingerprint).encode()).hexdigest()[:16]
