"""A case: what a check is given. One database's evidence, its policy, the room for drills, and one instant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sidecar.core.evidence import Evidence
from sidecar.core.finding import Finding, Reason, Status
from sidecar.core.instants import from_the_future
from sidecar.core.policy import Policy
from sidecar.core.units import spell

SETTLING_FOR = timedelta(minutes=2)  # a database or a Litestream seen for less may still find the other
LOOKS_MISSED_MAX = 3  # then the last listing no longer stands for the replica
ROOM_MARGIN = 0.10  # above the database's own size: it may grow between plan and restore
ROOM_MARGIN_BYTES_MIN = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Scratch:
    """Free room where drills restore to."""

    read_at: datetime
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Case:
    """What a check may look at."""

    evidence: Evidence
    policy: Policy
    scratch: Scratch | None
    now: datetime


def seconds(age: timedelta) -> float:
    """An age in seconds, never negative; facts farther ahead of the clock than `CLOCK_SLACK` are refused before."""
    return max(age.total_seconds(), 0.0)


def settling(case: Case) -> bool:
    """Whether the database, or Litestream, is so new that much of what is missing will come by itself."""
    claim, new = case.evidence.claim, case.now - SETTLING_FOR
    started = claim.started_at if claim is not None else None
    return case.evidence.first_seen_at > new or (started is not None and started > new)


def clock_set_back(name: str, reason: Reason, what: str, at: datetime, now: datetime) -> Finding | None:
    """The answer about a fact from the future: unknown, since it would otherwise stay new until the clock gets there."""
    if not from_the_future(at, now):
        return None
    return Finding(
        name, Status.UNKNOWN, f"{what} is dated {spelled(seconds(at - now))} ahead of this machine's clock, which was set back",
        reason, "check the machine's clock (`timedatectl`); fresh evidence is being gathered", retryable=True,
    )  # fmt: skip


def spelled(age_s: float) -> str:
    """Seconds as people read them: `312 s`, `5h12m`, `3d4h`."""
    if age_s < 600:  # noqa: PLR2004 - below ten minutes seconds read better
        return f"{age_s:.0f} s"
    minutes = timedelta(minutes=age_s // 60)
    return spell(minutes if minutes < timedelta(days=2) else timedelta(hours=age_s // 3600))


def room_for(size_bytes: int) -> int:
    """Scratch bytes wanted for restoring or copying a database of this size (1.0 times and a margin)."""
    return size_bytes + max(int(size_bytes * ROOM_MARGIN), ROOM_MARGIN_BYTES_MIN)
