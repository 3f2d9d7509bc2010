"""The check `lag`: has every commit older than max-lag reached the replica? And does the replica hold more than production?"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from sidecar.core import ahead
from sidecar.core.case import LOOKS_MISSED_MAX, Case, clock_set_back, seconds
from sidecar.core.evidence import JUST_NOW, Evidence
from sidecar.core.finding import Finding, Holding, Reason, Status
from sidecar.core.model import LookResult

REPLICA_HINTS: Mapping[LookResult, str] = {
    LookResult.UNREACHABLE: "check that the replica's host is up and can be reached from here",
    LookResult.AUTH: "check the replica's credentials in litestream.yml and the environment",
    LookResult.TIMEOUT: "the store accepts connections and does not answer; check it, or raise litestream.command-timeout",
    LookResult.NO_BACKUP: "check the replica's path; if its files were deleted, restart Litestream so that it takes a snapshot",
}


def lag(case: Case) -> Finding:
    """Has every commit older than max-lag reached the replica?"""
    name, evidence = "lag", case.evidence
    replica_ahead = _replica_ahead(evidence, case.now)
    if replica_ahead is not None:
        return replica_ahead
    if evidence.covered_at is None:
        return _unknown(case)
    future = clock_set_back(name, Reason.LAGGING, "the last known good replication", evidence.covered_at, case.now)
    if future is not None:
        return future
    lag_s, limit = seconds(evidence.lag(case.now) or timedelta(0)), case.policy.max_lag.total_seconds()
    sync_error = evidence.claim.sync_error if evidence.claim is not None and evidence.claim.up else None
    unseen_s = _not_looked_for(case, limit) if lag_s > limit else None
    if unseen_s is not None and not sync_error:
        return Finding(
            name, Status.UNKNOWN, f"the replica was last listed {unseen_s:.0f} s ago; commits of the last {lag_s:.0f} s may "
            f"not be in it (limit {limit:.0f} s)", Reason.LAGGING,
            "wait for the next look; a limit below the time between two looks cannot be met while the app writes",
            True, lag_s, limit, "seconds",
        )  # fmt: skip
    if lag_s > limit:
        why = f"; Litestream says: {sync_error}" if sync_error else ""
        if evidence.live is not None and evidence.live.error:
            why += f"; the local files cannot be read: {evidence.live.error}"
        return Finding(
            name, Status.FAIL, f"replica lacks commits of the last {lag_s:.0f} s (limit {limit:.0f} s){why}",
            Reason.STALLED if sync_error else Reason.LAGGING, _hint(sync_error),
            True, lag_s, limit, "seconds",
        )  # fmt: skip
    if sync_error:
        return Finding(
            name, Status.WARN, f"Litestream cannot sync: {sync_error}", Reason.STALLED,
            "look at Litestream's log", True, lag_s, limit, "seconds",
        )  # fmt: skip
    holds: Holding | None = Holding(evidence.covered_at + case.policy.max_lag, evidence.covered_at, _replicated)
    if lag_s == 0:  # nothing is lacking, as far as production was read just now; or it is dated a little ahead
        holds = Holding(evidence.covered_at + JUST_NOW) if evidence.covered_at < case.now else None
    return Finding(name, Status.PASS, _replicated(lag_s), None, "", False, lag_s, limit, "seconds", holds)


def _replicated(lag_s: float) -> str:
    return f"every commit up to {lag_s:.0f} s ago is in the replica"


def _unknown(case: Case) -> Finding:
    """Nobody knows which commits the replica holds."""
    sighting, listing = case.evidence.sighting, case.evidence.listing
    if listing is not None:
        dated, what = listing.last_at or listing.at, "the newest file of the replica"
        future = clock_set_back("lag", Reason.LAGGING, what, dated, case.now)
        if future is not None:
            return future
    empty = sighting is not None and sighting.result is LookResult.NO_BACKUP
    message = (
        "the replica holds no commit of this database"
        if empty
        else "not known yet which commits have reached the replica"
    )
    return Finding(
        "lag", Status.UNKNOWN, message, Reason.LAGGING, REPLICA_HINTS[LookResult.NO_BACKUP] if empty else "",
        retryable=not empty or listing is None,
    )  # fmt: skip


def _hint(sync_error: str | None) -> str:
    if sync_error and "no such table: _litestream_" in sync_error:  # measured: nothing but a restart makes them again
        return "restart Litestream: its own tables were dropped, and it makes them when it starts"
    if sync_error and "cannot verify wal state" in sync_error:  # measured: it never finds its way back by itself
        return "restart Litestream: its folder beside the database is not what it left there, and it begins anew when it starts"
    return "look at Litestream's log and at the replica's store; new commits are not being backed up"


def _not_looked_for(case: Case, limit_s: float) -> float | None:
    """Seconds since the last look, where that look still found all well and only the time since then exceeds the limit."""
    sighting, covered_at = case.evidence.sighting, case.evidence.covered_at
    if sighting is None or covered_at is None or sighting.result is not LookResult.OK:
        return None
    age_s = seconds(case.now - sighting.read_at)
    every = case.policy.look_every_at_rest(sighting.rest)
    overdue = age_s >= (every * LOOKS_MISSED_MAX).total_seconds()  # then nobody looks any more
    well_then = seconds(sighting.read_at - covered_at) <= limit_s
    return age_s if well_then and not overdue else None


def _replica_ahead(evidence: Evidence, now: datetime) -> Finding | None:
    """The replica holds what production never had: now, or again and again in the last minutes."""
    told = ahead.positions(evidence.live, evidence.sighting, evidence.listing)
    if evidence.ahead is not None and evidence.ahead.another_writer(now):
        return Finding(
            "lag", Status.FAIL, f"the replica was ahead of production {evidence.ahead.times} times, and production at its position in "
            f"between, last {seconds(now - evidence.ahead.last_at):.0f} s ago: another Litestream writes to the same path", Reason.REPLICA_AHEAD,
            "find it (another host, a second Pod, an old unit), stop it, and give each database a path of its own: what lies there now is a mixture",
        )  # fmt: skip
    if told is None or not ahead.is_ahead(*told):
        return None
    return Finding(
        "lag", Status.FAIL, f"the replica is at {told[0]}, production only at {told[1]}", Reason.REPLICA_AHEAD,
        "production is older than its backup: was it restored or replaced? Keep the replica, and decide which one is right",
    )  # fmt: skip
