"""Watches a database that another process writes: how long its write lock is held, and how much goes through the WAL.

Nothing is locked and SQLite is not involved: `F_GETLK` asks who holds a lock without taking one, and the WAL index says what was
committed. A connection of ours would be in the way: POSIX locks of one process do not exclude each other, and a second
connection keeps `PRAGMA journal_mode` from changing anything.

A look takes microseconds and comes about every millisecond. A lock's length is therefore an upper bound, by two pauses between
looks at most; a lock shorter than a pause may go unseen, and so may what is committed in a WAL that comes and goes within one.
`resolution_seconds` is the longest pause.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import threading
import time
from pathlib import Path
from typing import Self

from sidecar.core.rehearsal import Watched
from sidecar.core.restarts import PAGES_MIN
from sidecar.core.wal import FRAME_HEADER_BYTES, INDEX_BYTES, parse_index

LOOK_EVERY_S = 0.001
INDEX_TRIES = 3  # a writer replaces the index's header within microseconds
# Where SQLite's locks lie (SQLite, "WAL-mode File Format", 2.3; os.h): the writer's byte of `-shm`; of the main file, in rollback
# mode and with `locking_mode=exclusive`, the bytes of RESERVED and PENDING.
WAL_WRITE = 120
PENDING = 0x40000000
RESERVED = PENDING + 1
_NOATIME = getattr(os, "O_NOATIME", 0)  # our own looks must not look like the command's
_FLOCK = struct.Struct("hhqqi0q")  # type, whence, start, length, pid, as the kernel's 64-bit struct has them
_NUMBER = struct.Struct("=I")
_WRITE_VERSION_AT = 18  # in the main file's header: 2 in WAL mode
_CHANGES_AT, _PAGES_AT = 8, 20  # in the WAL index: its change counter, and the pages of the database


class CopyWatch:
    """Watches from `with` to its end, in a thread of its own; `watched()` says what was seen.

    Args:
        file: the main file of a database that nobody has open yet.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._shm = file, file.with_name(f"{file.name}-shm")
        self._wal = file.with_name(f"{file.name}-wal")
        self._main = os.open(file, os.O_RDONLY | _NOATIME)
        self._index: int | None = None
        self._inode = 0
        self._state = (b"", 0, 0)  # salts, mxFrame, change counter of the last look
        self._holder: tuple[int, int] | None = None  # pid and change counter while a lock is held
        self._since = self._looked_at = 0.0
        self._end = threading.Event()
        self._looking = threading.Lock()  # a look closes an index that was replaced; not while its lock is asked for
        self._thread = threading.Thread(target=self._run, name="copy-watch", daemon=True)
        self._longest_lock_s = self._resolution_s = 0.0
        self._commits = self._wal_bytes = self._wal_peak = self._largest = 0
        self._rewrites = self._in_wal_mode = self._left_wal = False

    def __enter__(self) -> Self:
        """Nobody may have the file open yet."""
        self._in_wal_mode = self._is_wal()
        self._looked_at = time.monotonic()
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._look()
        self._released()
        for descriptor in (self._main, self._index):
            if descriptor is not None:
                os.close(descriptor)

    def holder(self) -> int | None:
        """The process that holds the write lock at this instant, if any."""
        with self._looking:
            return self._lock_of() or None

    def watched(self) -> Watched:
        """What was seen; to be asked after the block."""
        return Watched(
            longest_lock_seconds=round(self._longest_lock_s, 4),
            commits=self._commits,
            wal_written_bytes=self._wal_bytes,
            wal_peak_bytes=self._wal_peak,
            largest_transaction_bytes=self._largest,
            rewrote_all=self._rewrites,
            left_wal=self._left_wal,
            resolution_seconds=round(self._resolution_s, 4),
        )

    def _run(self) -> None:
        while not self._end.wait(LOOK_EVERY_S):
            self._look()

    def _look(self) -> None:
        with self._looking:
            self._look_once()

    def _look_once(self) -> None:
        began = time.monotonic()
        self._resolution_s = max(self._resolution_s, began - self._looked_at)
        self._follow()
        self._read_index()
        pid = self._lock_of()
        holder = (pid, self._state[2]) if pid else None
        if holder != self._holder:
            self._released()
            self._holder, self._since = holder, self._looked_at  # it was taken after the look before this one
        self._looked_at = began
        self._left_wal = self._left_wal or (self._in_wal_mode and not self._is_wal())
        with contextlib.suppress(OSError):
            self._wal_peak = max(self._wal_peak, self._wal.stat().st_size)

    def _is_wal(self) -> bool:
        return os.pread(self._main, 1, _WRITE_VERSION_AT) == b"\2"

    def _released(self) -> None:
        if self._holder is not None:
            self._longest_lock_s = max(self._longest_lock_s, time.monotonic() - self._since)
        self._holder = None

    def _follow(self) -> None:
        """Keep the newest `-shm` open: the last connection removes it, and what it held last can be read all the same.

        In WAL mode an empty one is put in its place, which the next connection takes over: so even the shortest one has an
        index that we have open.
        """
        with contextlib.suppress(OSError):
            if not self._shm.exists() and self._is_wal():
                self._shm.touch(mode=0o600)
            inode = self._shm.stat().st_ino
            if self._index is not None and inode == self._inode:
                return
            opened = os.open(self._shm, os.O_RDONLY)
            if self._index is not None:
                self._read_index()
                os.close(self._index)
                self._state = (*self._state[:2], 0)  # a new index counts from nothing
            self._index, self._inode = opened, inode

    def _lock_of(self) -> int:
        """The pid that holds a write lock, 0 for nobody, -1 for one that has no number here."""
        for descriptor, start, length in ((self._index, WAL_WRITE, 1), (self._main, PENDING, 2)):
            if descriptor is not None:
                asked = _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, start, length, 0)
                kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
                if kind == fcntl.F_WRLCK:
                    return int(pid) or -1
        return 0

    def _read_index(self) -> None:
        if self._index is None:
            return
        data, index = b"", None
        for _ in range(INDEX_TRIES):
            data = os.pread(self._index, INDEX_BYTES, 0)
            index = parse_index(data)
            if index is not None:
                break
        if index is None:
            return
        (counter,), (pages,) = _NUMBER.unpack_from(data, _CHANGES_AT), _NUMBER.unpack_from(data, _PAGES_AT)
        before, self._state = self._state, (index.salts, index.max_frame, counter)
        frames = index.max_frame - (before[1] if before[0] == index.salts else 0)
        if frames <= 0:
            return
        commits = max(counter - before[2], 1)
        frame_bytes = FRAME_HEADER_BYTES + index.page_size
        self._commits += commits
        self._wal_bytes += frames * frame_bytes
        largest = frames - (commits - 1)  # of several commits between two looks each wrote a frame at least
        self._largest = max(self._largest, largest * frame_bytes)
        self._rewrites = self._rewrites or (largest >= pages >= PAGES_MIN)
