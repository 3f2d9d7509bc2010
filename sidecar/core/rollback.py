"""The way back that a receipt names: which targets still exist, and what going back to them costs.

Pure: what was found goes in, a plan comes out. Nothing here decides to act.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from sidecar.core.model import Position
from sidecar.core.occupancy import Occupancy
from sidecar.core.position import position
from sidecar.core.receipt import Entry, Receipt

BESIDE = ("-wal", "-shm", "-journal")
READS = 4  # of the artifact's size: hashed while copied, written, and hashed again in its place; writing counts twice


class State(StrEnum):
    """What became of the kept copy."""

    SOUND = "there"
    MISSING = "missing"
    ALTERED = "altered"
    UNREADABLE = "unreadable"  # by us: nobody knows
    NEVER = "never made"  # the gate was overridden


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """The kept copy, looked at now. `read_seconds`: hashing it took this long, which is the disk's speed."""

    state: State
    why: str = ""
    size_bytes: int | None = None
    read_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Whether Litestream can restore the receipt's position itself; None: not known, and `why`."""

    restorable: bool | None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Production now. `path` is where the file really is, links followed; `position` is Litestream's newest local one."""

    path: str
    exists: bool
    beside: tuple[str, ...] = ()  # which of `BESIDE` exist
    uid: int | None = None
    gid: int | None = None
    mode: int | None = None
    position: str | None = None
    last_commit: datetime | None = None
    occupancy: Occupancy = field(default_factory=Occupancy)


class Way(StrEnum):
    """How one database can go back."""

    ARTIFACT = "artifact"
    POSITION = "position"  # a restore of the TXID
    NONE = "none"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One database of the receipt, with all that was found out about it."""

    entry: Entry
    artifact: Artifact
    probe: Probe
    standing: Standing

    @property
    def way(self) -> Way:
        """The kept copy before anything else: it exists, and was checked."""
        if self.artifact.state is State.SOUND:
            return Way.ARTIFACT
        if self.probe.restorable:
            return Way.POSITION
        unknown = self.artifact.state is State.UNREADABLE or self.probe.restorable is None
        return Way.UNKNOWN if unknown else Way.NONE

    @property
    def seconds(self) -> float | None:
        """How long the file part takes, by what was measured; None where nothing was."""
        drill = self.entry.drill or {}
        check = drill.get("check_seconds")
        if self.way is Way.ARTIFACT and self.artifact.read_seconds is not None:
            return self.artifact.read_seconds * READS + 2 * (check or 0)
        restore = drill.get("restore_seconds")
        return restore + (check or 0) if self.way is Way.POSITION and restore is not None else None

    @property
    def positions_lost(self) -> int | None:
        """How many of Litestream's transactions production is past the target; None where that cannot be counted."""
        target, now = position_of(self.entry.rollback.position), position_of(self.standing.position)
        if target is None or now is None or target.txid is None or now.txid is None:
            return None
        return max(now.txid - target.txid, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the commands name: files, the generation of Litestream, the options that the verification is given."""

    receipt_file: str
    key_file: str | None
    litestream_config: str
    litestream: str | None  # the version; None where it could not be found
    options: tuple[str, ...]  # common options as they were given
    now: datetime

    @property
    def stamp(self) -> str:
        """For names of folders."""
        return self.now.strftime("%Y%m%dT%H%M%SZ")


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it."""

    receipt: Receipt
    cases: tuple[Case, ...]
    around: Surroundings

    @property
    def exit_code(self) -> int:
        """0: every database has a way back; 1: one has none, proved; 3: of one it is not known."""
        ways = {case.way for case in self.cases}
        return 1 if Way.NONE in ways or not ways else 3 if Way.UNKNOWN in ways else 0

    @property
    def seconds(self) -> float | None:
        """Of all databases together."""
        each = [case.seconds for case in self.cases]
        known = [seconds for seconds in each if seconds is not None]
        return sum(known) if len(known) == len(each) else None


def position_of(text: str | None) -> Position | None:
    """A position as a receipt has it; None where there is none, or none that we can read."""
    try:
        return position(text) if text is not None else None
    except ValueError:
        return None
