"""The check `lag`: has every commit older than max-lag reached the replica? And does the replica hold more than production?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from sidecar.core.case import LOOKS_MISSED_MAX, Case, clock_set_back, seconds
from sidecar.core.evidence import Evidence
from sidecar.core.finding import Finding, Reason, Status
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
    ahead = _replica_ahead(evidence)
    if ahead is not None:
        return Finding(
            name, Status.FAIL, ahead, Reason.REPLICA_AHEAD,
            "production is older than its backup: was it restored or replaced? Keep the replica, and decide which one is right",
        )  # fmt: skip
    if evidence.covered_at is None:
        empty = evidence.sighting is not None and evidence.sighting.result is LookResult.NO_BACKUP
        message = (
            "the replica holds no commit of this database"
            if empty
            else "not known yet which commits have reached the replica"
        )
        return Finding(
            name, Status.UNKNOWN, message, Reason.LAGGING, REPLICA_HINTS[LookResult.NO_BACKUP] if empty else "",
            retryable=not empty or evidence.listing is None,
        )  # fmt: skip
    future = clock_set_back(name, Reason.LAGGING, "the last known good replication", evidence.covered_at, case.now)
    if future is not None:
        return future
    lag_s, limit = seconds(evidence.lag(case.now) or timedelta(0)), case.policy.max_lag.total_seconds()
    sync_error = evidence.claim.sync_error if evidence.claim is not None and evidence.claim.up else None
    unseen_s = _not_looked_for(case, limit)
    if lag_s > limit and unseen_s is not None and not sync_error:
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
    return Finding(
        name,
        Status.PASS,
        f"every commit up to {lag_s:.0f} s ago is in the replica",
        None,
        "",
        False,
        lag_s,
        limit,
        "seconds",
    )


def _hint(sync_error: str | None) -> str:
    if sync_error and "no such table: _litestream_" in sync_error:  # measured: nothing but a restart makes them again
        return "restart Litestream: its own tables were dropped, and it makes them when it starts"
    return "look at Litestream's log and at the replica's store; new commits are not being backed up"


def _not_looked_for(case: Case, limit_s: float) -> float | None:
    """Seconds since the last look, where that look still found all well and only the time since then exceeds the limit."""
    sighting, covered_at = case.evidence.sighting, case.evidence.covered_at
    if sighting is None or covered_at is None or sighting.result is not LookResult.OK:
        return None
    age_s = seconds(case.now - sighting.read_at)
    overdue = age_s >= (case.policy.look_every * LOOKS_MISSED_MAX).total_seconds()  # then nobody looks any more
    well_then = seconds(sighting.read_at - covered_at) <= limit_s
    return age_s if well_then and not overdue else None


def _replica_ahead(evidence: Evidence) -> str | None:
    """A sentence when the replica holds what production never had. Litestream writes its local file before it uploads,
    so local files read after a listing ended can never be behind that listing."""  # noqa: D205, D209 - one thought
    live, sighting, listing = evidence.live, evidence.sighting, evidence.listing
    if (
        live is None or sighting is None or listing is None or sighting.listing != listing
    ):  # equal: it may come from disk
        return None
    if sighting.finished_at is None or live.read_at < sighting.finished_at or live.capture is None:
        return None
    local = live.capture.position
    if local.generation:  # of a large transaction 0.3 may upload a part: what begins before the local end is not ahead
        local = replace(local, offset=max(local.offset, live.capture.wal_end or 0))
    if listing.position.covers(local) and not local.covers(listing.position):
        return f"the replica is at {listing.position}, production only at {local}"
    return None
