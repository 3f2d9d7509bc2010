"""The one place that opens a live database's files by hand, so that doing so never drops SQLite's locks.

POSIX locks belong to a process and a file, not to a descriptor: closing any descriptor of `app.db`, `-wal` or `-shm` drops
the locks of every SQLite connection that this process has to it (SQLite, "How To Corrupt An SQLite Database", 2.2). A
read transaction then goes on without isolation, and nobody is told. So a descriptor that was opened while a connection
lives is kept until the last connection to that database is gone, and used again for the next read of the same file.

For the same reason a process may open a live database through one SQLite library only: ours is apsw's, never `sqlite3`.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Condition, Lock

_BESIDE = ("-wal", "-shm", "-journal")
# Not to hang where a pipe stands at the path; harmless for files.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_FLOCK = "hhqqi4x"  # struct flock of 64-bit Linux: type, whence, start, length, pid


class LiveDescriptors:
    """Reads live files and knows of every SQLite connection to them. One object per process; safe to share between threads."""

    def __init__(self) -> None:
        self._guard = Lock()
        self._files: dict[str, _Files] = {}
        self._connected = 0  # connections of this process, to whichever database
        self._plain = 0  # files that are open for a plain read
        self._no_plain = Condition(self._guard)

    def read(self, path: Path | str, size: int, offset: int) -> bytes:
        """Up to `size` bytes from `offset` of a database file or of a file beside it; fewer at its end. Raises OSError."""
        with self._guard:
            plain = not self._connected
            self._plain += plain
        if plain:
            # Nobody's locks can be lost, so it need not be found out whose file it is, which takes longer than the reading.
            try:
                return _read(path, size, offset)
            finally:
                with self._no_plain:
                    self._plain -= 1
                    self._no_plain.notify_all()
        with self._borrowed(path) as files, files.lock, files.opened(path) as descriptor:
            return os.pread(descriptor, size, offset)

    def read_each(self, path: Path | str, size: int, offsets: Sequence[int]) -> list[bytes]:
        """As `read`, many places of one file: looking up which file that is costs more than reading a page of it. Raises OSError."""
        with self._borrowed(path) as files, files.lock, files.opened(path) as descriptor:
            return [os.pread(descriptor, size, offset) for offset in offsets]

    def lockers(self, path: Path | str, spans: Iterable[tuple[int, int]]) -> frozenset[int]:
        """Who holds a POSIX lock, of either kind, in one of these spans (offset, length): pids, 0 for processes that have none here.

        Asks and takes nothing (F_GETLK); the locks of this process are not seen. Raises OSError.
        """
        found = set()
        with self._borrowed(path) as files, files.lock, files.opened(path) as descriptor:
            for offset, length in spans:
                asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, offset, length, 0)
                kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
                if kind != fcntl.F_UNLCK:
                    found.add(max(pid, 0))
        return frozenset(found)

    @contextmanager
    def connection(self, path: Path | str) -> Iterator[None]:
        """Stand around the whole life of a SQLite connection to `path`: enter before opening, leave after closing."""
        with self._counted(), self._borrowed(path) as files:
            with files.lock:
                files.connections += 1
            try:
                yield
            finally:
                with files.lock:
                    files.connections -= 1
                    if not files.connections:
                        files.close()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """No plain read begins any more; those under way have ended."""
        with self._no_plain:
            self._connected += 1
            self._no_plain.wait_for(lambda: not self._plain)
        try:
            yield
        finally:
            with self._guard:
                self._connected -= 1

    @contextmanager
    def _borrowed(self, path: Path | str) -> Iterator[_Files]:
        """A database's files; forgotten when nobody uses them any more."""
        key = _database_of(path)
        with self._guard:
            files = self._files.setdefault(key, _Files())
            files.users += 1
        try:
            yield files
        finally:
            with self._guard:
                files.users -= 1
                if not files.users:
                    del self._files[key]


class _Files:
    """One database: how many connections this process has to it, and the descriptors that must outlive them."""

    def __init__(self) -> None:
        self.lock = Lock()  # held while a descriptor is open unparked, so that no connection can begin meanwhile
        self.users = 0
        self.connections = 0
        self._parked: dict[tuple[int, int], int] = {}  # device and inode to descriptor
        self._doubles: list[int] = []

    @contextmanager
    def opened(self, path: Path | str) -> Iterator[int]:
        """A descriptor of the file, closed after the block only where no connection can lose its locks by that."""
        if self.connections:
            yield self._park(path)
            return
        descriptor = os.open(path, _FLAGS)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _park(self, path: Path | str) -> int:
        """A descriptor of the file that stands at the path now. One parked per file, however often it is read."""
        status = os.stat(path)  # noqa: PTH116 - this module speaks os
        parked = self._parked.get((status.st_dev, status.st_ino))
        if parked is not None:
            return parked
        descriptor = os.open(path, _FLAGS)
        status = os.fstat(descriptor)  # the file may have been replaced since
        known = self._parked.setdefault((status.st_dev, status.st_ino), descriptor)
        if known != descriptor:
            self._doubles.append(descriptor)
        return known

    def close(self) -> None:
        """The last connection is gone: nobody's locks can be lost any more."""
        for descriptor in (*self._parked.values(), *self._doubles):
            os.close(descriptor)
        self._parked.clear()
        self._doubles.clear()


def _read(path: Path | str, size: int, offset: int) -> bytes:
    descriptor = os.open(path, _FLAGS)
    try:
        return os.pread(descriptor, size, offset)
    finally:
        os.close(descriptor)


def _database_of(path: Path | str) -> str:
    """The database that a file belongs to, whichever links lead to it: SQLite follows them too."""
    name = os.fspath(path)
    for suffix in _BESIDE:
        name = name.removesuffix(suffix)
    return os.path.realpath(name)
