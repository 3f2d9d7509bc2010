"""Forecast: what the next drill of a database will need of scratch, time and memory, by what its own last ones took, and whether to begin it.

Values in, values out. What nobody knows is None, and what is None refuses nothing: a database that has never been drilled borrows no
speed from another. A forecast may be wrong, and a drill that is not begun measures nothing: so what somebody asked for is begun
regardless, and of what is merely due every `TRY_EVERY`th that has not passed is begun in earnest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sidecar.core.case import room_for
from sidecar.core.errors import Overdue, SidecarError
from sidecar.core.evidence import Evidence
from sidecar.core.live_state import LiveState
from sidecar.core.model import CheckKind, Drill, Outcome
from sidecar.core.parity import ParityResult

COMPRESSION_MAX = 4  # how many times larger than its backup files a database is taken to be when its size is not known
# A stage takes as long for no bytes at all as for so many: a process, a connection, a list. Measured: `tests/bench/forecast.py`.
FIXED_BYTES = 8 * 1024 * 1024
# A comparison waits for Litestream to sync and to list, and then reads hundreds of megabytes a second.
PARITY_FIXED_BYTES = 64 * 1024 * 1024
# The same of a restore's memory. Measured with 0.5.17: 34 MiB for 10 MB, 44 for 200 MB, 136 for 1 GB, 227 for 2 GB of random data,
# so 32 MiB and a tenth of the database; a thousand small files instead of one take 10 MiB more.
MEMORY_FIXED_BYTES = 340_000_000
LATE = 1.5  # times drill-timeout: speeds differ that much from one drill to the next on a shared disk or a busy store
TRY_EVERY = 4  # with the default policy once in drill-max-age, where tries are drill-every apart
MEGABYTE = 1_000_000
_MINUTES_FROM_S, _HOURS_FROM_S = 120, 7200


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a drill is to do."""

    check: CheckKind
    parity: bool  # production is in reach, and to be compared


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a drill will need; None where nobody knows. A stage that is not wanted takes 0 seconds."""

    size_bytes: int | None = None  # of the restored database
    scratch_bytes: int | None = None  # margin included
    plan_seconds: float | None = None
    restore_seconds: float | None = None
    check_seconds: float | None = None
    parity_seconds: float | None = None
    memory_bytes: int | None = None  # of Litestream's restore, at its peak

    @property
    def rto_seconds(self) -> float | None:
        """Plan and restore, as the metric `rto_seconds` counts them."""
        return None if self.restore_seconds is None else (self.plan_seconds or 0.0) + self.restore_seconds

    @property
    def seconds(self) -> float | None:
        """All stages."""
        stages = (self.restore_seconds, self.check_seconds, self.parity_seconds)
        return None if None in stages else self.seconds_min

    @property
    def seconds_min(self) -> float:
        """Those of all stages of which it is known: the drill takes at least as long."""
        stages = (self.plan_seconds, self.restore_seconds, self.check_seconds, self.parity_seconds)
        return sum(each for each in stages if each is not None)


def scratch_bytes(evidence: Evidence, live: LiveState | None, plan_bytes: int | None = None) -> int | None:
    """Scratch bytes that a drill wants, margin included; the one place that says so.

    As large as production where it is in reach, and not what was restored before: a database that was emptied must not ask for
    room that it no longer needs. Else as large as what was restored last, else what the plan's files may unpack to.
    """
    if live is not None and live.file_id is not None:
        return room_for(live.size_bytes + live.wal_bytes)
    drilled = _newest(evidence, lambda drill: drill.size_bytes is not None)
    if drilled is not None and drilled.size_bytes is not None:
        return room_for(drilled.size_bytes)
    return room_for(plan_bytes * COMPRESSION_MAX) if plan_bytes is not None else None


def forecast(evidence: Evidence, live: LiveState | None, wanted: Wanted, plan_bytes: int | None = None) -> Forecast:
    """What a drill will need.

    Args:
        evidence: the database's own past; `restored` and its like are what is learnt from.
        live: production's files as read last.
        wanted: which check, and whether production is to be compared.
        plan_bytes: bytes of backup files that the restore reads, where it has been planned.
    """
    scratch, passed = scratch_bytes(evidence, live, plan_bytes), evidence.restored
    if passed is None or not passed.size_bytes:
        return Forecast(scratch_bytes=scratch)
    size = _restored_bytes(live, passed)
    checked = _newest(evidence, lambda drill: drill.check is wanted.check and drill.outcome is Outcome.PASSED)
    compared = _newest(evidence, _compared)
    weighed = _newest(evidence, lambda drill: drill.memory_bytes is not None)
    return Forecast(
        size_bytes=size,
        scratch_bytes=scratch,
        plan_seconds=passed.plan_seconds,
        restore_seconds=_scaled(passed.restore_seconds, passed, size),
        check_seconds=_scaled(checked.check_seconds, checked, size) if checked is not None else None,
        parity_seconds=_parity_seconds(compared, size) if wanted.parity else 0.0,
        memory_bytes=_memory(weighed, size),
    )


def restore_like_last(evidence: Evidence) -> float | None:
    """Seconds to plan and restore the database as large as it is now, by the last passed drill. As `forecast` says, for every scrape."""
    passed = evidence.restored
    if passed is None or not passed.size_bytes:
        return None
    seconds = _scaled(passed.restore_seconds, passed, _restored_bytes(evidence.live, passed))
    return None if seconds is None else (passed.plan_seconds or 0.0) + seconds


def drill_like_last(evidence: Evidence) -> float | None:
    """Seconds of a drill that does again what the last passed one did, with the database as large as it is now."""
    passed, restore = evidence.restored, restore_like_last(evidence)
    if passed is None or restore is None:
        return None
    size = _restored_bytes(evidence.live, passed)
    check = _scaled(passed.check_seconds, passed, size)
    parity = _parity_seconds(passed, size) if _compared(passed) else 0.0
    return None if check is None or parity is None else restore + check + parity


def why_not(
    ahead: Forecast, evidence: Evidence, check: CheckKind, *, limit_s: float, memory_free_bytes: int | None
) -> SidecarError | None:
    """Why a drill that is merely due is not begun: it could not end in time, or there is less memory than it took last. None: begin it.

    In time it is beyond doubt that it cannot end, or the last one did not and this one would not either. Whatever the forecast, of
    `TRY_EVERY` drills in a row that did not pass, refused ones among them, one is begun. What only integrity_check makes too long is
    begun: after it comes a quick drill, which passes and ends the row, so that an audit once refused would never be tried again.

    Args:
        ahead: what the drill will need.
        evidence: what came of those before.
        check: which one the drill is to make.
        limit_s: `policy.drill-timeout`, in seconds.
        memory_free_bytes: what a child process may take; None where it cannot be told.

    Returns:
        `Overdue`, which makes the drill inconclusive for `timeout`, or an error that makes it so for `restore_failed`.
    """
    if evidence.not_passed_in_a_row % TRY_EVERY == TRY_EVERY - 1:
        return None
    last = evidence.last_drill
    timed_out = last is not None and last.outcome is Outcome.INCONCLUSIVE and last.reason == "timeout"
    needs_s = ahead.seconds_min - (ahead.check_seconds or 0.0 if check is CheckKind.FULL else 0.0)
    if needs_s > limit_s * (1.0 if timed_out else LATE):
        return Overdue(
            f"the drill would take about {about(needs_s)} by what the last ones took (drill-timeout {about(limit_s)})",
            f"raise policy.drill-timeout; meanwhile every {TRY_EVERY}th drill is tried all the same, and so is one that is asked for "
            "(POST /drills or `litestream-sidecar verify`)",
        )
    need, free = ahead.memory_bytes, memory_free_bytes
    if need is not None and free is not None and free < need:
        return SidecarError(
            f"the restore would need about {need / MEGABYTE:.0f} MB of memory by what the last one took, {free / MEGABYTE:.0f} MB are free",
            "give the machine or the container more memory (MemoryMax= in its unit, resources.limits.memory of the container); the "
            f"drill is postponed, and every {TRY_EVERY}th tried all the same",
        )
    return None


def about(seconds: float) -> str:
    """Seconds, roughly, as people say them: `45 s`, `52 min`, `3.4 h`."""
    if seconds < _MINUTES_FROM_S:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < _HOURS_FROM_S else f"{seconds / 3600:.1f} h"


def _newest(evidence: Evidence, fits: Callable[[Drill], bool]) -> Drill | None:
    """The newest drill in the evidence of which this is true."""
    known = (
        evidence.last_drill, evidence.last_passed, evidence.last_restored, evidence.last_compared, evidence.last_audit,
    )  # fmt: skip
    return max((each for each in known if each is not None and fits(each)), key=_ended, default=None)


def _ended(drill: Drill) -> float:
    return drill.finished_at.timestamp()


def _compared(drill: Drill) -> bool:
    """Whether it compared to an end; a comparison that found nothing out says nothing of how long one takes."""
    parity = drill.parity
    return parity is not None and drill.parity_seconds is not None and parity.result is not ParityResult.INCONCLUSIVE


def _restored_bytes(live: LiveState | None, passed: Drill) -> int | None:
    """How large the database will come back: without what its WAL holds of it twice, where Litestream says how many pages there are."""
    if live is None or live.file_id is None:
        return passed.size_bytes
    pages = live.capture.page_count if live.capture is not None else None
    if pages is not None and passed.content is not None:
        return pages * passed.content.page_size
    return live.size_bytes


def _scaled(seconds: float | None, measured: Drill, size_bytes: int | None, fixed: int = FIXED_BYTES) -> float | None:
    """What took so long for the one size, for the other."""
    if seconds is None or measured.size_bytes is None or size_bytes is None:
        return None
    return seconds * ((fixed + size_bytes) / (fixed + measured.size_bytes))


def _parity_seconds(compared: Drill | None, size_bytes: int | None) -> float | None:
    if compared is None:
        return None
    return _scaled(compared.parity_seconds, compared, size_bytes, PARITY_FIXED_BYTES)


def _memory(weighed: Drill | None, size_bytes: int | None) -> int | None:
    if weighed is None or weighed.memory_bytes is None:
        return None
    if weighed.size_bytes is None or size_bytes is None:
        return weighed.memory_bytes
    share = (MEMORY_FIXED_BYTES + size_bytes) / (MEMORY_FIXED_BYTES + weighed.size_bytes)
    return int(weighed.memory_bytes * share)
