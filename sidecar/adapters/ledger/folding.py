"""What has changed between two states of evidence, and drills of several processes put into one order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from sidecar.core.evidence import Evidence
from sidecar.core.instants import from_the_future
from sidecar.core.model import Drill, Outcome


def changed(facts: Iterable[str], before: Evidence | None, now: Evidence) -> frozenset[str]:
    """Facts that differ. Most are the very same object, which costs nothing to see."""
    if before is None:
        return frozenset(fact for fact in facts if getattr(now, fact) is not None)
    pairs = ((fact, getattr(before, fact), getattr(now, fact)) for fact in facts)
    return frozenset(fact for fact, old, new in pairs if new is not old and new != old)


def seen_again(before: Evidence, now: Evidence) -> frozenset[str]:
    """What the newest look says as the one before did, at a later time."""
    same: set[str] = set()
    if before.sighting is not None and now.sighting is not None:
        old = before.sighting
        if replace(now.sighting, read_at=old.read_at, finished_at=old.finished_at, listing=old.listing) == old:
            same.add("sighting")
    listed = before.listing
    if listed is not None and now.listing is not None and replace(now.listing, read_at=listed.read_at) == listed:
        same.add("listing")
    return frozenset(same)


def fold(evidence: Evidence, drill: Drill, max_shrink: float, now: datetime) -> Evidence:
    """`after_drill`, also for a drill of another process that ended before the newest one here.

    One that ended after now does not count as newer: the clock was set back, and it would outweigh every drill until it is caught up.
    """
    newest = evidence.last_drill
    if newest is not None and newest.id == drill.id and newest.outcome is not Outcome.ABORTED:
        return evidence  # a write that was thought to have failed
    if newest is None or drill.finished_at >= newest.finished_at or from_the_future(newest.finished_at, now):
        return evidence.after_drill(drill, max_shrink=max_shrink)
    counted = 0 if newest.outcome is Outcome.PASSED else 1  # it is applied a second time below
    before = replace(evidence, not_passed_in_a_row=max(0, evidence.not_passed_in_a_row - counted))
    grown = before.after_drill(drill, max_shrink=max_shrink).after_drill(newest, max_shrink=max_shrink)
    passed, restored = _later(evidence.last_passed, grown.last_passed), _later(evidence.restored, grown.restored)
    return replace(
        grown,
        last_passed=passed,
        last_restored=restored if passed is not None and passed.by_change else None,
        proof_stood_at=evidence.proof_stood_at if passed == evidence.last_passed else None,
        last_audit=_later(evidence.last_audit, grown.last_audit),
        last_compared=_later(evidence.last_compared, grown.last_compared),
    )


def _later(one: Drill | None, other: Drill | None) -> Drill | None:
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda drill: drill.finished_at)


def last_heard(evidence: Evidence) -> datetime:
    """The newest time at which anything was learnt of a database."""
    read = [each.read_at for each in (evidence.live, evidence.claim, evidence.sighting) if each is not None]
    drilled = [evidence.last_drill.finished_at] if evidence.last_drill is not None else []
    return max([evidence.first_seen_at, *read, *drilled])


def lost_drill(drill_id: str, started_at: str, now: datetime) -> Drill:
    """A drill whose process ended before it did: it proved nothing, and that is said."""
    try:
        began = datetime.fromisoformat(started_at)
    except ValueError:
        began = now
    return Drill(
        id=drill_id,
        outcome=Outcome.ABORTED,
        reason="aborted",
        message="the process that ran this drill ended before the drill did",
        hint="look at the log for why it ended; the next drill begins by itself",
        position=None,
        started_at=began,
        finished_at=now,
    )
