"""Keeps a rehearsed command away from production: looks at what its processes have open, and kills what opens production.

A process is the command's if it stands in the command's session, or carries our mark in its environment, which a daemon that has
left the session still does. Files are told by device and inode, so that a link or another path to production is production.
Where there is no `/proc` nothing is seen, and `sees` says so.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from sidecar.core.rehearsal import TouchedProduction

PROC = Path("/proc")
SESSION_FIELD = 3  # in /proc/PID/stat, counted after the command's name: state ppid pgrp session
KILL_WAIT_MS = 5000
_BESIDE = ("", "-wal", "-shm", "-journal")


class Guard:
    """Watches the processes of one command.

    Args:
        production: production's database file.
        mark: `NAME=value` that stands in the command's environment and in no other's.
        ours: the folder in which the copy lies.
    """

    sees = (PROC / "self" / "fd").is_dir()

    def __init__(self, production: Path, mark: str, ours: Path) -> None:
        # As the kernel names them; SQLite, too, puts its files beside the file that a link leads to.
        self._production, self._ours = Path(os.path.realpath(production)), Path(os.path.realpath(ours))
        self._mark = os.fsencode(mark)
        self._session: int | None = (
            None  # not 0: so `/proc` names a session whose leader stands outside our PID namespace
        )
        self._judged: dict[int, bool] = {}
        self.opened_copy = False

    def started(self, pid: int) -> None:
        """The command runs as this process, the leader of its session."""
        self._session = pid

    def look(self) -> None:
        """One look at every process of the command's. Raises TouchedProduction, after killing whoever has production open."""
        forbidden = dict(_identities(self._production))
        for pid in self.members():
            for opened in _open_files(pid):
                with contextlib.suppress(OSError):
                    found = opened.stat()
                    where = forbidden.get((found.st_dev, found.st_ino))
                    if where is not None:
                        self.kill(pid)
                        raise TouchedProduction(
                            f"the command opened production ({where}) and was killed",
                            "let it open the copy: write {db} where its arguments name the database, or say "
                            "--env NAME={db} or --database-url for the variable that it reads",
                        )
            self.opened_copy = self.opened_copy or self._has_copy_open(pid)

    def other_writers(self) -> tuple[str, ...]:
        """Who else has production's database open for writing: its app and its Litestream, as far as we may see."""
        found = []
        for entry in PROC.iterdir() if self.sees else ():
            pid = int(entry.name) if entry.name.isdigit() else os.getpid()
            if pid != os.getpid() and not self._is_member(pid) and self._writes_production(pid):
                found.append(f"{_name(pid)} (pid {pid})")
        return tuple(found)

    def members(self) -> Iterator[int]:
        """The command's processes that live."""
        alive = {int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()} if self.sees else set()
        self._judged = {pid: known for pid, known in self._judged.items() if pid in alive}
        for pid in sorted(alive):
            if pid not in self._judged:
                self._judged[pid] = self._is_member(pid)
            if self._judged[pid]:
                yield pid

    def left(self) -> Mapping[int, str]:
        """The names of the command's processes that run on without their leader."""
        return {pid: _name(pid) for pid in self.members() if pid != self._session and not _is_zombie(pid)}

    def end_what_is_left(self) -> None:
        """Kill every process of the command's, also one that has left its session."""
        for pid in self.members():
            if pid != self._session:
                self.kill(pid)

    def kill(self, pid: int) -> None:
        """Kill one process and wait until it is gone; not if its number has become a stranger's."""
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(pid)
            try:
                if pid == self._session or self._is_member(pid):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    ended = select.poll()
                    ended.register(handle, select.POLLIN)
                    ended.poll(KILL_WAIT_MS)
            finally:
                os.close(handle)

    def _is_member(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            if pid == self._session or int(_stat(pid)[SESSION_FIELD]) == self._session:
                return True
            return self._mark in (PROC / str(pid) / "environ").read_bytes().split(b"\0")
        return False

    def _writes_production(self, pid: int) -> bool:
        for opened in _open_files(pid):
            with contextlib.suppress(OSError, ValueError):
                if opened.samefile(self._production):
                    said = (PROC / str(pid) / "fdinfo" / opened.name).read_text()
                    flags = next(line.split()[1] for line in said.splitlines() if line.startswith("flags:"))
                    if int(flags, 8) & os.O_ACCMODE != os.O_RDONLY:
                        return True
        return False

    def _has_copy_open(self, pid: int) -> bool:
        for opened in _open_files(pid):
            with contextlib.suppress(OSError):
                if self._ours in opened.readlink().parents:
                    return True
        return False


def _identities(production: Path) -> Iterator[tuple[tuple[int, int], str]]:
    for suffix in _BESIDE:
        with contextlib.suppress(OSError):
            file = production.with_name(production.name + suffix)
            found = file.stat()
            yield (found.st_dev, found.st_ino), file.name


def _open_files(pid: int) -> Iterable[Path]:
    try:
        return list((PROC / str(pid) / "fd").iterdir())
    except OSError:  # it has ended, or has become another user's
        return ()


def _stat(pid: int) -> list[str]:
    return (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()


def _is_zombie(pid: int) -> bool:
    try:
        return _stat(pid)[0] in {"Z", "X"}
    except OSError:
        return True


def _name(pid: int) -> str:
    try:
        return (PROC / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return "?"
