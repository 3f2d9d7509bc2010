"""Who has a database open: what was seen of it, and the sentence that refuses to replace a file in use."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from sidecar.core.errors import SidecarError

NAMED_MAX = 3  # processes that a sentence names


class InUse(SidecarError):
    """A database that was to be replaced is open somewhere: SQLite would go on writing to what was put aside."""


@dataclass(frozen=True, slots=True)
class Occupant:
    """A process that has the database or a file beside it open."""

    pid: int
    command: str  # shortened
    unit: str | None = None  # its systemd service, where it has one

    @property
    def is_litestream(self) -> bool:
        """Whether this is Litestream and not the app."""
        return posixpath.basename(self.command.split(" ", 1)[0]) == "litestream"

    def __str__(self) -> str:
        where = f"pid {self.pid}" + (f", {self.unit}" if self.unit else "")
        return f"`{self.command}` ({where})"


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What was seen. `locked`: SQLite's locks are held by a process that cannot be named, as in another container.

    `unseen`: some processes may not be looked into. In rollback-journal mode an idle connection of theirs leaves no trace.
    """

    processes: tuple[Occupant, ...] = ()
    locked: bool = False
    unseen: bool = False

    @property
    def free(self) -> bool:
        """Whether nobody was seen."""
        return not self.processes and not self.locked

    def refuse(self, path: str) -> None:
        """Raise InUse unless it is free."""
        if self.free:
            return
        if not self.processes:
            raise InUse(
                f"{path} is in use: a process that cannot be seen from here holds SQLite's locks on it",
                "stop the app and Litestream, also in other containers",
            )
        named = ", ".join(str(each) for each in self.processes[:NAMED_MAX])
        more = f" and {len(self.processes) - NAMED_MAX} more" if len(self.processes) > NAMED_MAX else ""
        stops = dict.fromkeys(stop_command(each) for each in self.processes[:NAMED_MAX])
        raise InUse(f"{path} is in use by {named}{more}", f"stop it first: {'; '.join(stops)}")


def stop_command(occupant: Occupant) -> str:
    """What ends it for good: its unit where it has one, since systemd may start a killed service again."""
    return f"systemctl stop {occupant.unit}" if occupant.unit else f"kill {occupant.pid}"
