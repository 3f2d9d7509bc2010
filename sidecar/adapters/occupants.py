"""Who has a database open: by the descriptors of processes that we may look into, and by SQLite's locks, which show the others.

Neither sees all. A descriptor is seen of our own user's processes (as root, of everybody's in this pid namespace); an idle
connection in rollback-journal mode holds no lock. A WAL connection that has read once holds one for as long as it lives,
whoever and wherever it is. Sources: SQLite, "File Locking And Concurrency" and "WAL-mode File Format", 2.3.1; proc(5).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sidecar.core.occupancy import Occupancy, Occupant

COMMAND_CHARS_MAX = 80
BESIDE = ("", "-wal", "-shm", "-journal")
_MAIN_LOCKS = ((0x40000000, 512),)  # PENDING, RESERVED and the 510 bytes of SHARED
_INDEX_LOCKS = tuple(
    (byte, 1) for byte in range(120, 129)
)  # write, checkpoint, recover, five readers, dead man's switch
_SERVICE = re.compile(r"/(?P<unit>[^/]+\.service)(/|$)")

Lockers = Callable[[Path, Iterable[tuple[int, int]]], frozenset[int]]
"""`(path, spans)` to pids: `LiveDescriptors.lockers`. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Occupants:
    """Looks; takes no lock and opens nothing but what `lockers` opens. `proc` is where procfs is mounted."""

    lockers: Lockers
    proc: Path = Path("/proc")

    def of(self, database: Path) -> Occupancy:
        """Who has it open, this process left out."""
        pids, unseen = self._by_descriptor(_identities(database))
        locking = self._by_lock(database)
        named = {pid for pid in locking if pid and (self.proc / str(pid)).exists()}
        pids |= named - {os.getpid()}
        return Occupancy(
            processes=tuple(Occupant(pid, self._command(pid), self._unit(pid)) for pid in sorted(pids)),
            locked=bool(locking - named),
            unseen=unseen,
        )

    def _by_descriptor(self, identities: set[tuple[int, int]]) -> tuple[set[int], bool]:
        """Processes with one of these files open, and whether there are some that we may not look into."""
        found, unseen = set(), False
        for process in self.proc.glob("[0-9]*"):
            if int(process.name) == os.getpid():
                continue
            try:
                descriptors = list((process / "fd").iterdir())
            except PermissionError:
                unseen = True
                continue
            except OSError:  # it has just ended
                continue
            if any(_identity(each) in identities for each in descriptors):
                found.add(int(process.name))
        return found, unseen

    def _by_lock(self, database: Path) -> frozenset[int]:
        found: set[int] = set()
        for path, spans in ((database, _MAIN_LOCKS), (Path(f"{database}-shm"), _INDEX_LOCKS)):
            with contextlib.suppress(OSError):  # not there, or not ours to open: no proof of anything
                found |= self.lockers(path, spans)
        return frozenset(found)

    def _command(self, pid: int) -> str:
        try:
            words = (self.proc / str(pid) / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ").strip()
        except OSError:
            words = ""
        short = words[: COMMAND_CHARS_MAX - 1] + "…" if len(words) > COMMAND_CHARS_MAX else words
        return short or "?"

    def _unit(self, pid: int) -> str | None:
        """The system service that a process belongs to. A user's own services and sessions are none."""
        with contextlib.suppress(OSError):
            for line in (self.proc / str(pid) / "cgroup").read_text(errors="replace").splitlines():
                found = list(_SERVICE.finditer(line))
                if found and "/user.slice/" not in line:
                    return found[-1]["unit"]
        return None


def _identities(database: Path) -> set[tuple[int, int]]:
    found = (_identity(Path(f"{database}{suffix}")) for suffix in BESIDE)
    return {each for each in found if each is not None}


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of what a path or a process's descriptor leads to."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
