"""The checks: CHECKS maps each name of the contract to a pure rule from a case to a finding.

A case is evidence, policy, the room for drills and one instant. Absent evidence is `unknown`, never `pass`; every fact
that carries a time counts only while it is young enough, so that a daemon that stopped looking turns red by itself.
The rules about content (drill, identity, database, schema) stand in `checks_content.py`, those about lag and parity in `checks_lag.py` and `checks_parity.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import wraps

from sidecar.core import checks_content, checks_lag, checks_parity
from sidecar.core.case import LOOKS_MISSED_MAX, Case, Scratch, clock_set_back, room_for, seconds, settling, spelled
from sidecar.core.checks_lag import REPLICA_HINTS
from sidecar.core.evidence import Evidence
from sidecar.core.finding import TIMELESS, Finding, Holding, Reason, Status
from sidecar.core.forecast import scratch_bytes
from sidecar.core.litestream_errors import NEW_SNAPSHOT_HINT
from sidecar.core.model import ClaimSource, LookResult
from sidecar.core.policy import Policy

CLAIM_MAX_AGE = timedelta(seconds=60)  # Litestream is asked every few seconds
LOOK_GRACE = timedelta(minutes=2)  # a look may take command-timeout and wait for a seat

SOCKET_HINT = "add to litestream.yml: `socket:` and below it `  enabled: true`, then restart Litestream"


def litestream(case: Case) -> Finding:
    """Is Litestream running, and does it know this database?"""
    name, claim = "litestream", case.evidence.claim
    if claim is None:
        return Finding(
            name, Status.UNKNOWN, "Litestream has not been asked yet", Reason.LITESTREAM_DOWN, retryable=True
        )
    ahead = clock_set_back(name, Reason.LITESTREAM_DOWN, "what Litestream said last", claim.read_at, case.now)
    if ahead is not None:
        return ahead
    age = seconds(case.now - claim.read_at)
    if age > CLAIM_MAX_AGE.total_seconds():
        return Finding(
            name, Status.UNKNOWN, f"Litestream was last asked {age:.0f} s ago", Reason.LITESTREAM_DOWN,
            "look at the sidecar's log: its loop does not turn", True, age, CLAIM_MAX_AGE.total_seconds(), "seconds",
        )  # fmt: skip
    if claim.source is ClaimSource.NONE:
        return Finding(
            name, Status.WARN, "neither control socket nor metrics are enabled, so Litestream cannot be asked",
            Reason.NO_SOCKET, SOCKET_HINT, holds=Holding(claim.read_at + CLAIM_MAX_AGE),
        )  # fmt: skip
    if not claim.up:
        return Finding(
            name, Status.FAIL, f"Litestream does not answer: {claim.error or 'no reason given'}", Reason.LITESTREAM_DOWN,
            "start Litestream, or look at its log for why it stopped", True,
        )  # fmt: skip
    if not claim.managed:
        return Finding(
            name, Status.FAIL, "Litestream runs but does not know this database", Reason.NOT_MANAGED,
            "restart Litestream with this litestream.yml; compare its `dbs:` with the database's path", settling(case),
        )  # fmt: skip
    return Finding(
        name, Status.PASS, f"Litestream {claim.version or ''} runs and knows this database".replace("  ", " "),
        holds=Holding(claim.read_at + CLAIM_MAX_AGE),
    )  # fmt: skip


def replica(case: Case) -> Finding:
    """Can the replica be listed?"""
    name, sighting = "replica", case.evidence.sighting
    if sighting is None:
        return Finding(name, Status.UNKNOWN, "the replica has not been listed yet", Reason.UNREACHABLE, retryable=True)
    ahead = clock_set_back(name, Reason.TIMEOUT, "the last listing of the replica", sighting.read_at, case.now)
    if ahead is not None:
        return ahead
    age = seconds(case.now - sighting.read_at)
    every = case.policy.look_every_at_rest(sighting.rest)  # as it was then: whoever wakes up is looked at at once
    limit = (every * LOOKS_MISSED_MAX + LOOK_GRACE).total_seconds()
    if age > limit:
        return Finding(
            name, Status.UNKNOWN, f"the replica was last listed {spelled(age)} ago", Reason.TIMEOUT,
            "look at the sidecar's log: looks do not happen or do not end", True, age, limit, "seconds",
        )  # fmt: skip
    if sighting.result is not LookResult.OK:
        gone = sighting.result is LookResult.NO_BACKUP and case.evidence.listing is not None
        waiting_helps = (
            sighting.result in {LookResult.UNREACHABLE, LookResult.TIMEOUT, LookResult.NO_BACKUP} and not gone
        )
        message = sighting.message + (" although it held one before" if gone else "")
        return Finding(
            name, Status.FAIL, message, Reason(sighting.result.value),
            sighting.hint or REPLICA_HINTS[sighting.result], waiting_helps,
        )  # fmt: skip
    holds = Holding(sighting.read_at + timedelta(seconds=limit), sighting.read_at)
    return Finding(name, Status.PASS, "the replica can be listed", None, "", False, age, limit, "seconds", holds)


def snapshot(case: Case) -> Finding:
    """Is there a snapshot, young enough for a database that changes?"""
    name, listing = "snapshot", case.evidence.listing
    gone = _no_backup(case.evidence)
    if listing is None or gone:
        status = Status.FAIL if gone else Status.UNKNOWN
        message = "the replica holds no snapshot" if gone else "no snapshot has been seen yet"
        hint = REPLICA_HINTS[LookResult.NO_BACKUP] if gone else ""
        return Finding(name, status, message, Reason.NO_SNAPSHOT, hint, retryable=listing is None)
    if listing.snapshot is None or listing.snapshot_at is None:
        return Finding(
            name, Status.FAIL, "the replica holds changes but no snapshot to start from", Reason.NO_SNAPSHOT,
            "wait for Litestream's next snapshot, or restart Litestream to have one taken", True,
        )  # fmt: skip
    limit = case.policy.max_snapshot_age.total_seconds()
    if listing.beyond_base_at is None:
        return Finding(
            name,
            Status.PASS,
            "nothing has changed since the newest snapshot",
            limit=limit,
            unit="seconds",
            holds=TIMELESS,
        )
    since = max(listing.snapshot_at, listing.beyond_base_at)
    age = seconds(case.now - since)
    if age > limit:
        return Finding(
            name, Status.FAIL, f"changes of the last {spelled(age)} are in no snapshot (limit {spelled(limit)})",
            Reason.SNAPSHOT_OLD, "check `snapshot.interval` in litestream.yml and Litestream's log", True, age, limit, "seconds",
        )  # fmt: skip
    holds = Holding(since + case.policy.max_snapshot_age, since)
    return Finding(
        name, Status.PASS, "the newest snapshot is young enough", None, "", False, age, limit, "seconds", holds
    )


def chain(case: Case) -> Finding:
    """Does an unbroken chain lead from a snapshot to the newest position?"""
    name, listing = "chain", case.evidence.listing
    if listing is None or _no_backup(case.evidence):
        return Finding(
            name,
            Status.UNKNOWN,
            "no chain of backup files has been seen",
            Reason.CHAIN_GAP,
            REPLICA_HINTS[LookResult.NO_BACKUP] if _no_backup(case.evidence) else "",
            retryable=listing is None,
        )
    # 0.3 names a segment by where it starts, so only TXIDs can be held against each other.
    short = listing.reachable is None or (listing.position.txid is not None and listing.reachable != listing.position)
    if listing.gap is not None or short:
        return Finding(
            name, Status.FAIL, listing.gap or f"no unbroken chain of files leads to {listing.position}", Reason.CHAIN_GAP,
            f"states past the gap cannot be restored; find out who deleted the file; {NEW_SNAPSHOT_HINT}",
        )  # fmt: skip
    if listing.overlap is not None:
        return Finding(
            name, Status.WARN, listing.overlap, Reason.CHAIN_OVERLAP,
            "two Litestreams may write to one replica path; make sure that only one runs", holds=TIMELESS,
        )  # fmt: skip
    return Finding(name, Status.PASS, f"an unbroken chain leads to {listing.position}", holds=TIMELESS)


def _no_backup(evidence: Evidence) -> bool:
    return evidence.sighting is not None and evidence.sighting.result is LookResult.NO_BACKUP


def scratch(case: Case) -> Finding:
    """Is there room for the next drill?"""
    name, known = "scratch", scratch_bytes(case.evidence, case.evidence.live)
    need = float(known if known is not None else room_for(0))  # no drill asks for less
    if case.scratch is None:
        return Finding(name, Status.WARN, "free scratch space is not known yet", Reason.SCRATCH_LOW, retryable=True)
    free = float(case.scratch.free_bytes)
    if free < need:
        return Finding(
            name, Status.WARN, f"{free / 1e6:.0f} MB are free for drills, the next one needs {need / 1e6:.0f} MB",
            Reason.SCRATCH_LOW, "free some space, raise resources.scratch-max, or move scratch-dir", False, free, need, "bytes",
            TIMELESS,
        )  # fmt: skip
    says = "there is room for the next drill" + ("" if known is not None else ", whose size is not known yet")
    return Finding(name, Status.PASS, says, None, "", False, free, need, "bytes", TIMELESS)


Check = Callable[[Case], Finding | None]


def of_production(check: Callable[[Case], Finding]) -> Check:
    """The check, left out where production is not in reach: only who has it can answer, and nobody may answer for them."""

    @wraps(check)
    def asked(case: Case) -> Finding | None:
        return check(case) if case.policy.production else None

    return asked


CHECKS: Mapping[str, Check] = {
    "litestream": of_production(litestream),
    "replica": replica,
    "lag": of_production(checks_lag.lag),
    "snapshot": snapshot,
    "chain": chain,
    "drill": checks_content.drill,
    "parity": checks_parity.parity,
    "identity": checks_content.identity,
    "database": of_production(checks_content.database),
    "schema": of_production(checks_content.schema),
    "scratch": scratch,
}


# What of the evidence a check's answer rests on, where that answer says how long it holds: while none of it is exchanged for
# another value, nor the policy, a finding may be held for as long as it says (`held.py`). `ROOM` stands for the room for drills,
# `FILE` and `SAID` for what of `live` and `claim` is not new every few seconds.
ROOM, FILE, SAID = "room", "live.file", "claim.said"
READS: Mapping[str, tuple[str, ...]] = {
    "litestream": ("claim",),
    "replica": ("sighting",),
    "lag": ("live", SAID, "sighting", "listing", "covered_at", "covered_live", "ahead"),
    "snapshot": ("listing", "sighting"),
    "chain": ("listing", "sighting"),
    "drill": ("last_conclusive", "last_passed", "last_restored", "last_drill", "proof_stood_at"),
    "parity": ("last_compared", "last_drill", "last_here", SAID, "last_passed", "proof_stood_at"),
    "identity": ("replaced_at", "content", "last_conclusive", "last_passed", "baseline"),
    "database": (FILE, "database_check", "database_found"),
    "schema": ("content", "content_error", "last_passed"),
    "scratch": ("live", "last_drill", "last_passed", "last_restored", "last_compared", "last_audit", ROOM),
}

_UNKNOWN, _FAIL = Status.UNKNOWN, Status.FAIL


@dataclass(frozen=True, slots=True)
class Judged:
    """All findings about one database at one instant. `blocking` keep it from being ready: proved faults first, then what is not known."""

    findings: tuple[Finding, ...]
    blocking: tuple[Finding, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        blocking = [found for found in self.findings if found.status is _UNKNOWN or found.status is _FAIL]
        if blocking:
            blocking.sort(key=lambda found: found.status is not _FAIL)
        object.__setattr__(self, "blocking", tuple(blocking))  # once: it is asked for again and again

    @property
    def ready(self) -> bool:
        """Whether nothing blocks; no findings at all is not ready."""
        return bool(self.findings) and not self.blocking


def judge(evidence: Evidence, policy: Policy, room: Scratch | None, now: datetime) -> Judged:
    """Run every check on one case."""
    case = Case(evidence, policy, room, now)
    found = (check(case) for check in CHECKS.values())
    return Judged(tuple(finding for finding in found if finding is not None))
