"""Drills made elsewhere: what another daemon offers, what of it is taken over, and why the rest is not. Pure.

A drill from elsewhere proves what one of another process on this machine would, and no more: it is of a replica of the same type
and label, it comes whole, it is dated as this machine's clock allows, and it began after whatever made earlier proofs void.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sidecar.core.evidence import Evidence
from sidecar.core.finding import Reason
from sidecar.core.instants import CLOCK_SLACK, from_the_future
from sidecar.core.model import Content, Drill, Outcome, Replica

FORMAT = 1  # of the document that is offered; another number is another language
OFFERED_MAX = 20  # newest drills of a database
TEXT_MAX = 10_000  # characters of a drill's message or hint
_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Offer:
    """What a verifier offers of one database. `unreadable`: a sentence for each drill that could not be read whole."""

    replica_type: str
    replica_label: str
    drills: tuple[Drill, ...]
    at: datetime  # by the verifier's clock, when it answered
    unreadable: tuple[str, ...] = ()


def offered(drills: Sequence[Drill], evidence: Evidence | None) -> list[Drill]:
    """Which of one's own drills to offer, in the order given: those that prove something of the replica as it is now.

    Not what was taken over from others, so that two daemons that ask each other tell each other nothing twice; and no comparison.
    """
    void_until = evidence.unproved_at if evidence is not None else None
    return [
        _without_comparison(each)
        for each in drills
        if each.verifier is None and each.outcome is not Outcome.ABORTED and _after(each, void_until)
    ][:OFFERED_MAX]


def another_replica(offer: Offer, replica: Replica) -> str | None:
    """A sentence where the offer is about another replica than ours; both labels are printable."""
    if (offer.replica_type, offer.replica_label) == (replica.type, replica.label):
        return None
    return f"its replica is {offer.replica_type} {offer.replica_label}, ours is {replica.type} {replica.label}"


def clock_ahead(offer: Offer, now: datetime) -> str | None:
    """A sentence where the verifier's clock, when it has just answered, is so far ahead that its drills look newer than they are."""
    if not from_the_future(offer.at, now):
        return None
    slack = CLOCK_SLACK.total_seconds()  # and not by how much: the same sentence is said once
    return f"its clock is more than {slack:.0f} s ahead of ours: set both machines' clocks right (NTP)"


def why_not(drill: Drill, evidence: Evidence, now: datetime) -> str | None:
    """Why this drill is not taken over, in a sentence; None where it is."""
    if not _ID.fullmatch(drill.id):
        return "a drill's id is none"
    why = _unlike_a_drill(drill)
    if why is not None:
        return f"drill {drill.id} {why}"
    dates = [drill.started_at, drill.finished_at, *([drill.content.read_at] if drill.content is not None else [])]
    if any(from_the_future(each, now) for each in dates):
        return f"drill {drill.id} is dated ahead of this machine's clock: set both machines' clocks right (NTP)"
    void_until = evidence.unproved_at  # by our clock; the other one may be as far ahead as is let pass
    if not _after(drill, void_until + CLOCK_SLACK if void_until is not None else None):
        return f"drill {drill.id} began before the database's file or its replica was replaced"
    return None


def taken(drill: Drill, verifier: str) -> Drill:
    """The drill as evidence: it says where from, compares nothing, and accepts nothing that only people here may accept."""
    return replace(_without_comparison(drill), verifier=verifier, accepts_shrink=False)


def _without_comparison(drill: Drill) -> Drill:
    return replace(drill, parity=None, parity_seconds=None)


def _after(drill: Drill, instant: datetime | None) -> bool:
    return instant is None or drill.started_at > instant


def _unlike_a_drill(drill: Drill) -> str | None:
    """What no daemon of ours would say of a drill that has ended and found something out."""
    if drill.outcome is Outcome.ABORTED:
        return "was stopped, which says nothing"
    if drill.finished_at < drill.started_at:
        return "ends before it begins"
    if max(len(drill.message), len(drill.hint)) > TEXT_MAX:
        return "says too much"
    if (drill.reason is None) is not (drill.outcome is Outcome.PASSED):
        return "passed with a reason, or did not pass without one"
    if drill.reason is not None and drill.reason not in {each.value for each in Reason}:
        return "names a reason that is not known here"
    if drill.reason == Reason.PAGES_DIFFER:
        return "was compared with production, which only we can do"
    if drill.outcome is Outcome.PASSED and (drill.position is None or drill.content is None or not drill.size_bytes):
        return "passed and does not say what it restored"
    figures = (
        drill.plan_seconds, drill.restore_seconds, drill.apply_seconds, drill.check_seconds, drill.took_seconds,
        drill.size_bytes, drill.memory_bytes,
    )  # fmt: skip
    if not all(map(_figure, figures)):
        return "holds a figure that is none"
    if sum(filter(None, (drill.plan_seconds, drill.restore_seconds, drill.check_seconds))) > _lasted_s(drill):
        return "has stages that took longer than all of it"  # what drills here would take is told by them, too
    return None if drill.content is None or _plausible(drill.content) else "read a content that cannot be"


def _lasted_s(drill: Drill) -> float:
    """Seconds, with some more: a clock may have been set during a drill, and stages are measured by another one."""
    return (drill.finished_at - drill.started_at + CLOCK_SLACK).total_seconds()


def _figure(value: float | None) -> bool:
    return value is None or (math.isfinite(value) and value >= 0)


def _plausible(content: Content) -> bool:
    return content.page_count > 0 and content.page_size > 0 and all(rows >= -1 for rows in content.tables.values())
