"""Scratch: private, bounded rooms for restores and copies, always empty after, also after kill -9.

A room is a fresh 0700 directory whose descriptor holds a lock (flock) for as long as its owner lives, so that another
process can tell a room in use from what a killed one left behind. A lock on the scratch directory itself keeps the moment
between making a room and locking it from being taken for a leftover.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import shutil
import signal
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from sidecar.core.errors import EnvironmentProblem, ScratchFull

PREFIX = "room-"
KILL_WAIT_MS = 5000
MEGABYTE = 1_000_000
TTY_FIELD = 4  # in /proc/PID/stat, counted after the command's name: state ppid pgrp session tty_nr


class Kept(Protocol):
    """What lies in scratch between two drills, and may go whenever room is needed."""

    def size_bytes(self) -> int:
        """Bytes of disk that it takes."""
        ...

    def give_way(self, need_bytes: int) -> None:
        """Remove so much of it at least, the oldest first, or all."""
        ...


class Scratch:
    """Rooms in one directory; safe to share between threads, and between processes of one user.

    Args:
        directory: made with mode 0700 where it does not exist.
        max_bytes: what all rooms together may hold, with what is kept; None: what the file system has.
        kept: what lies there between two drills; it counts as free, and gives way.

    Raises:
        EnvironmentProblem: the directory is a symbolic link, another user's, open to others, or cannot be made.
    """

    def __init__(self, directory: Path, max_bytes: int | None, kept: Kept | None = None) -> None:
        self._directory, self._max_bytes, self._kept = directory, max_bytes, kept
        self._guard = threading.Lock()
        self._promised: dict[Path, int] = {}
        self._resisting: set[Path] = set()  # rooms that could not be removed yet
        self._prepare()

    def free_bytes(self) -> int:
        """Free room, as far as `max_bytes` allows to use it; rooms in use count with what they hold by now."""
        return self._empty_bytes() + self._kept_bytes()

    def _kept_bytes(self) -> int:
        return self._kept.size_bytes() if self._kept is not None else 0

    def _empty_bytes(self) -> int:
        self._prepare()
        system = os.statvfs(self._directory)
        free = system.f_bavail * system.f_frsize
        if self._max_bytes is not None:
            free = min(free, self._max_bytes - _used(self._directory))
        return max(free, 0)

    @contextlib.contextmanager
    def room(self, need_bytes: int) -> Iterator[Path]:
        """A fresh directory, removed at the end of the block with all that is in it.

        Args:
            need_bytes: what will be written, margin included; promised to this room until it is removed.

        Raises:
            ScratchFull: less is free.
        """
        for each in list(self._resisting):
            self._remove(each)
        with self._guard:
            outstanding = sum(max(promised - _used(each), 0) for each, promised in self._promised.items())
            empty = self._empty_bytes() - outstanding
            free = max(empty + self._kept_bytes(), 0)
            if self._kept is not None and empty < need_bytes <= free:
                self._kept.give_way(need_bytes - empty)
            if free < need_bytes:
                raise ScratchFull(
                    f"the scratch directory {self._directory} has {free / MEGABYTE:.1f} MB free, "
                    f"{need_bytes / MEGABYTE:.1f} MB are needed",
                    "free some space, raise resources.scratch-max, or move scratch-dir to a larger disk",
                )
            room, lock = self._make()
            self._promised[room] = need_bytes
        try:
            yield room
        finally:
            self._remove(room)
            os.close(lock)
            if room in self._resisting:  # removing needs a descriptor or two, and this may have been the last one
                self._remove(room)
            with self._guard:
                del self._promised[room]

    def sweep(self) -> int:
        """Remove rooms whose owner is gone, after killing what it left running in them; how many there were."""
        self._prepare()
        swept = 0
        for room in sorted(self._directory.glob(f"{PREFIX}*")):
            with self._alone():
                lock = _locked(room)
            if lock is None:
                continue
            try:
                _kill_inside(room)
                shutil.rmtree(room, ignore_errors=True)
                swept += 1
            finally:
                os.close(lock)
        return swept

    def _remove(self, room: Path) -> None:
        """Remove a room that is done with. What resists (no descriptor left, a disk that fails) is tried again with the next room."""
        shutil.rmtree(room, ignore_errors=True)
        if os.path.lexists(room):
            self._resisting.add(room)
        else:
            self._resisting.discard(room)

    def _make(self) -> tuple[Path, int]:
        with self._alone():
            room = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._directory))
            try:
                lock = _locked(room)
            except OSError:  # no descriptor left: the same that `_alone` might have met
                room.rmdir()
                raise
        if lock is None:
            raise EnvironmentProblem(f"{room} cannot be locked", "put scratch-dir on a local file system")
        return room, lock

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process makes or judges a room meanwhile."""
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)

    def _prepare(self) -> None:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self._directory.lstat()
        except OSError as error:
            raise EnvironmentProblem(
                f"the scratch directory {self._directory} cannot be made: {error.strerror}", "check scratch-dir"
            ) from error
        if not stat.S_ISDIR(found.st_mode):
            raise EnvironmentProblem(
                f"the scratch directory {self._directory} is a symbolic link", "name the real directory in scratch-dir"
            )
        if found.st_uid != os.geteuid():
            raise EnvironmentProblem(
                f"the scratch directory {self._directory} belongs to uid {found.st_uid}, we are {os.geteuid()}",
                "give scratch-dir a directory of its own",
            )
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise EnvironmentProblem(
                f"others may write to the scratch directory {self._directory}",
                f"chmod go-w {self._directory}, or give scratch-dir a directory of its own",
            )


def _locked(room: Path) -> int | None:
    """A descriptor that holds the room's lock; None when somebody else holds it, or the room is gone or no directory.

    Raises OSError where this process may open nothing more.
    """
    try:
        descriptor = os.open(room, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno == errno.EMFILE:
            raise
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), room.lstat()):  # else its owner removed it just before us
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _used(directory: Path) -> int:
    """Bytes allocated below a directory; files that vanish meanwhile count nothing."""
    used = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                used += os.lstat(Path(folder) / name).st_blocks * 512
    return used


def _kill_inside(room: Path) -> None:
    """Kill processes that work inside a room whose owner is gone: children it could not take along.

    A process with a terminal is a person looking around, and is left alone.
    """
    for entry in Path("/proc").glob("[0-9]*"):  # nothing there on systems without it
        with contextlib.suppress(OSError):
            pid = int(entry.name)
            if pid == os.getpid() or not _is_inside(entry, room):
                continue
            handle = os.pidfd_open(pid)
            try:
                if _is_inside(entry, room) and not _has_terminal(entry):  # still the same, now that we hold it
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    ended = select.poll()
                    ended.register(handle, select.POLLIN)
                    ended.poll(KILL_WAIT_MS)
            finally:
                os.close(handle)


def _is_inside(entry: Path, room: Path) -> bool:
    works_in = (entry / "cwd").readlink()
    real = Path(os.path.realpath(room))
    return works_in == real or real in works_in.parents


def _has_terminal(entry: Path) -> bool:
    fields = (entry / "stat").read_text().rpartition(")")[2].split()
    return fields[TTY_FIELD] != "0"
