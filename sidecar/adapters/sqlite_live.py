"""The live database through SQLite: read-only, for short, and never at the app's expense.

Opening a WAL database makes `-wal` and `-shm` where they are missing. Made by another uid, they lock the app out for good,
so we open only where what would be made is the app's: as the database's owner, as root (SQLite hands both files to the owner), or where this
process can make no file at all. Nothing is written or checkpointed, and no read transaction outlives one
sequential read of the file.
"""

from __future__ import annotations

import errno
import math
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Protocol

import apsw

from sidecar.adapters.sqlite_content import Deadline, connect, read_content, watched
from sidecar.core.errors import OPEN_FILES_HINT, ScratchFull, SidecarError, Unreadable
from sidecar.core.model import Content
from sidecar.core.ports import Progress

BUSY_MS = 1000
BUSY_TRIES = 3
CONTENT_S = 5.0  # a read transaction on production; migration tables and schemas take milliseconds
STEP_PAGES = 1024  # 4 MB, some 4 ms: how late a stop is noticed, and how long a rollback-journal writer waits
BUSY_PAUSE_S = 0.02
HEADER_BYTES = 100
_MAGIC = b"SQLite format 3\0"
_CAP_CHOWN = 1 << 0  # linux/capability.h
_WRITING = {apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_TRUNCATE, apsw.SQLITE_IOERR_FSYNC}


class Descriptors(Protocol):
    """What keeps SQLite's locks while live files are also opened by hand: `LiveDescriptors`."""

    def read(self, path: Path | str, size: int, offset: int) -> bytes:
        """Bytes of a live file. Raises OSError."""
        ...

    def read_each(self, path: Path | str, size: int, offsets: Sequence[int]) -> list[bytes]:
        """As `read`, many places of one file. Raises OSError."""
        ...

    def connection(self, path: Path | str) -> AbstractContextManager[None]:
        """Stands around the life of a SQLite connection."""
        ...


@dataclass(frozen=True, slots=True)
class LiveSqlite:
    """Satisfies `ports.Production`. Every call has a connection of its own; safe to share between threads."""

    descriptors: Descriptors
    busy_ms: int = BUSY_MS

    def content(self, path: str, *, schema_version: str, now: datetime) -> Content:
        """Schema facts, in one short read transaction; rows are -1.

        Raises:
            Unreadable: it may not be opened safely, cannot be opened, or stays locked.
        """
        for tries_left in reversed(range(BUSY_TRIES)):
            try:
                with _translated(path), self._opened(path) as connection:
                    return _content(connection, path, schema_version, now)
            except _Busy:
                if not tries_left:
                    raise
            except (SidecarError, UnicodeDecodeError) as error:
                if isinstance(error, Unreadable):
                    raise
                raise Unreadable(f"{path}: {error}", "check the database with the app itself") from None
        raise AssertionError("unreachable: the last try raises or returns")

    def copy(
        self,
        path: str,
        target: Path,
        *,
        timeout_s: float,
        stop: Event,
        progress: Progress,
        hold_s: float | None = None,
    ) -> int:
        """A consistent copy at `target` (new, mode 0600, nothing beside it); the bytes copied.

        Of a WAL database it is one snapshot, of the instant when the copy began; its writers go on. A database with a
        rollback journal is copied in steps, from the start again when it changes, because a lock that lasts as long as
        the copy would stop its writers. `hold_s`: how long the read transaction on a WAL database may last; None: as long as the copy does.

        Raises:
            Unreadable: as in `content`.
            ScratchFull: no room for the copy.
            Overdue, Stopped: as their names say; Overdue also past `hold_s`. `target` is removed then, as after every error.
        """
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            with _translated(path), self._opened(path) as source:
                deadline = Deadline(f"copying {path}", timeout_s, stop)
                _copy(source, target, deadline, hold_s, progress)
        except BaseException:
            for suffix in ("", "-journal"):
                Path(f"{target}{suffix}").unlink(missing_ok=True)
            raise
        return target.stat().st_size

    def read(self, path: Path | str, size: int, offset: int) -> bytes:
        """Bytes of a live file, in a way that drops no lock. Raises OSError."""
        return self.descriptors.read(path, size, offset)

    def read_each(self, path: Path | str, size: int, offsets: Sequence[int]) -> list[bytes]:
        """As `read`, many places of one file. Raises OSError."""
        return self.descriptors.read_each(path, size, offsets)

    @contextmanager
    def opened(self, path: str) -> Iterator[apsw.Connection]:
        """A connection for somebody who reads more than one thing. Raises Unreadable, also for what SQLite says in the block."""
        with _translated(path), self._opened(path) as connection:
            yield connection

    @contextmanager
    def _opened(self, path: str) -> Iterator[apsw.Connection]:
        """A connection that leaves the WAL as it is. Raises Unreadable, apsw.Error."""
        self._refuse(path)
        with self.descriptors.connection(path):
            connection = connect(path, immutable=False, busy_ms=self.busy_ms)
            try:
                yield connection
            finally:
                connection.close(True)

    def _refuse(self, path: str) -> None:
        """Raise Unreadable where SQLite would fail anyway, and where its success would harm the app."""
        try:
            status = Path(path).stat()
            header = self.descriptors.read(path, HEADER_BYTES, 0) if stat.S_ISREG(status.st_mode) else b""
        except FileNotFoundError:
            raise Unreadable(
                f"there is no database file at {path}",
                "check that the volume is mounted and the path in litestream.yml is right",
            ) from None
        except OSError as error:
            raise Unreadable(
                f"{path} cannot be read: {error.strerror}",
                OPEN_FILES_HINT
                if error.errno == errno.EMFILE
                else f"run the sidecar as the app's user (this is uid {os.geteuid()})",
            ) from None
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable(f"{path} is no file", "check the path in litestream.yml")
        if header and not header.startswith(_MAGIC):  # an empty file is a database that nobody has written to yet
            raise Unreadable(
                f"{path} is not a SQLite database",
                "check the path in litestream.yml; encrypted databases cannot be read",
            )
        folder = Path(os.path.realpath(path)).parent  # SQLite follows links before it makes files
        if not _ours_are_the_apps(status.st_uid) and os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
            raise Unreadable(
                f"{path} belongs to uid {status.st_uid}: opening it as uid {os.geteuid()} could leave files that lock the app out",
                f"run the sidecar as uid {status.st_uid}, or let it read {folder} only",
            )


def _ours_are_the_apps(owner: int) -> bool:
    """Whether files that SQLite makes in this process end up with the database's owner.

    As root SQLite gives them away with fchown, and goes on silently where a container has taken that capability.
    """
    if os.geteuid() == owner:
        return True
    if os.geteuid() != 0:
        return False
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        held = next(line for line in lines if line.startswith("CapEff:"))
        return bool(int(held.split()[1], 16) & _CAP_CHOWN)
    return True  # no such file: not Linux, root may do everything


def _content(connection: apsw.Connection, path: str, schema_version: str, now: datetime) -> Content:
    with watched(connection, f"reading the schema of {path}", timeout_s=CONTENT_S, stop=None):
        connection.execute("begin")
        try:
            return read_content(connection, schema_version=schema_version, now=now, count=False)
        finally:
            connection.execute("rollback")


def _copy(source: apsw.Connection, target: Path, deadline: Deadline, hold_s: float | None, progress: Progress) -> None:
    with closing(apsw.Connection(str(target), flags=apsw.SQLITE_OPEN_READWRITE)) as destination:
        destination.pragma("locking_mode", "exclusive")  # the copy's header says WAL: with this no -shm is ever made
        destination.pragma("journal_mode", "off")
        destination.pragma("synchronous", "off")  # a copy that a crash cuts short is thrown away
        hold = Deadline("the copy's read transaction", hold_s if hold_s is not None else math.inf, None)
        source.execute("begin")
        source.pragma("schema_version")  # the first read fixes the snapshot
        if source.pragma("journal_mode") != "wal":
            source.execute("rollback")
        backup = destination.backup("main", source, "main")
        try:
            while not backup.done:
                deadline.check()
                if source.in_transaction:
                    hold.check()
                try:
                    backup.step(STEP_PAGES)
                except (apsw.BusyError, apsw.LockedError):
                    deadline.pause(BUSY_PAUSE_S)
                progress("copy", backup.page_count - backup.remaining, backup.page_count)
        finally:
            backup.close(True)
            if source.in_transaction:
                source.execute("rollback")


class _Busy(Unreadable):
    """Locked for as long as we wait; worth another try."""


@contextmanager
def _translated(path: str) -> Iterator[None]:
    """The one table from what SQLite says of production to a sentence and what to do."""
    try:
        yield
    except (apsw.BusyError, apsw.LockedError) as error:
        raise _Busy(
            f"{path} stayed locked: {error}",
            "find who holds it (`fuser -v`); an app in exclusive locking mode cannot be read beside",
        ) from None
    except apsw.FullError as error:
        raise ScratchFull(f"no room for a copy of {path}: {error}", "free some space, or move scratch-dir") from None
    except apsw.IOError as error:
        if _extended(error) in _WRITING:
            raise SidecarError(
                f"the copy of {path} cannot be written: {error}", "check the disk that holds scratch-dir"
            ) from None
        said = str(error).replace(
            "not an error", "a file of it ended too soon"
        )  # what a backup says of a WAL that was cut off
        raise Unreadable(f"{path}: {said}", "check the disk (`dmesg`)") from None
    except (apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError) as error:
        raise Unreadable(f"{path} cannot be opened: {error}", _closed_hint(path, error)) from None
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise Unreadable(
            f"{path}: SQLite says: {error}", "check it now (`PRAGMA integrity_check`), and do not migrate"
        ) from None
    except apsw.Error as error:
        raise Unreadable(
            f"{path}: SQLite {apsw.sqlite_lib_version()} says: {error}", "check the database with the app itself"
        ) from None


def _closed_hint(path: str, error: apsw.Error) -> str:
    if _extended(error) == apsw.SQLITE_READONLY_ROLLBACK:
        return "the app died while writing: start it, so that it rolls its last transaction back"
    folder = Path(path).parent
    return (
        f"while the app has it closed, a WAL database opens only where {folder} may be written: start the app,"
        " or run the sidecar as its user with the folder writable"
    )


def _extended(error: apsw.Error) -> int:
    """SQLite's extended result code; apsw sets it on errors that come from SQLite."""
    return int(getattr(error, "extendedresult", 0))
