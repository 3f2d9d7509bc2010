"""Which files bring a copy forward: the fewest, exactly to where it is to stand, and none that only a restore may read."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.case import Case
from sidecar.core.checks_content import drill as check_drill
from sidecar.core.evidence import Evidence
from sidecar.core.finding import Finding, Reason, Status
from sidecar.core.forecast import Wanted, forecast
from sidecar.core.forward import KeptCopy, begun_anew, way_on
from sidecar.core.model import CheckKind, Outcome, Position, ReplicaFile
from sidecar.core.policy import Policy
from sidecar.core.schedule import Busy, Seats, Subject, due
from sidecar.core.turns import may_be_by_change
from tests.core.evidences import NOW, ROOM, ago, audit, drill, healthy, listing, live, seen

POLICY = Policy(drill_by_change_from=1)
HOUR = timedelta(hours=1)
at = Position.of_txid


def file(level: int, first: int, last: int) -> ReplicaFile:
    return ReplicaFile(level, at(first), at(last), 100, NOW)


SNAPSHOT = file(9, 1, 30)


@pytest.mark.parametrize(
    ("there", "stands_at", "upto", "found"),
    [
        ([file(0, 5, 5), file(0, 6, 6)], 4, 6, [(5, 5), (6, 6)]),
        ([file(0, 5, 5), file(0, 6, 6), file(1, 5, 6)], 4, 6, [(5, 6)]),
        (
            [file(2, 1, 8), file(0, 9, 9)],
            4,
            9,
            [(1, 8), (9, 9)],
        ),  # a file that begins before the copy's TXID fits as well
        ([file(0, 5, 5), file(1, 5, 6)], 4, 5, [(5, 5)]),  # exactly there, and not beyond
        ([file(1, 5, 6)], 4, 5, None),
        ([file(0, 6, 6)], 4, 6, None),
        ([SNAPSHOT], 4, 30, None),
        ([SNAPSHOT, file(0, 30, 30)], 29, 30, [(30, 30)]),
        ([SNAPSHOT], 30, 30, []),
        ([SNAPSHOT], 31, 30, None),  # the replica was begun anew, or lost its newest files
        ([], 4, 4, []),
    ],
)
def test_the_way_on(there: list[ReplicaFile], stands_at: int, upto: int, found: list[tuple[int, int]] | None) -> None:
    way = way_on(there, at(stands_at), at(upto))
    assert (None if way is None else [(each.first.index, each.last.index) for each in way]) == found


files = st.builds(
    lambda level, first, more: file(level, first, first + more),
    st.integers(0, 3),
    st.integers(1, 20),
    st.integers(0, 5),
)


@given(st.lists(files, max_size=20), st.integers(0, 20), st.integers(0, 25))
def test_a_way_leads_there_without_a_gap_and_is_found_wherever_there_is_one(
    there: list[ReplicaFile], stands_at: int, upto: int
) -> None:
    reachable = {stands_at}
    for _ in there:
        reachable |= {
            each.last.index for each in there if any(each.first.index <= n + 1 <= each.last.index for n in reachable)
        }
    way = way_on(there, at(stands_at), at(upto))
    assert (way is not None) == (upto in reachable)
    reached = stands_at
    for each in way or ():
        assert each.first.index <= reached + 1 <= each.last.index
        reached = each.last.index
    assert way is None or reached == upto


def test_another_history_is_told_by_its_snapshot() -> None:
    copy, later = KeptCopy(at(40), NOW), NOW + timedelta(seconds=1)
    assert not begun_anew([file(9, 1, 30), file(0, 41, 41)], copy)
    assert not begun_anew([replace(file(9, 1, 40), at=later), replace(file(1, 31, 39), at=later)], copy), (
        "compaction is late"
    )
    assert begun_anew([replace(file(9, 1, 39), at=later)], copy)


def test_what_may_be_drilled_by_change() -> None:
    known = healthy().after_drill(audit())
    assert may_be_by_change(known, POLICY, CheckKind.QUICK)
    assert not may_be_by_change(known, Policy(), CheckKind.QUICK), "it is asked for, or not made"
    assert not may_be_by_change(known, POLICY, CheckKind.FULL), "an audit restores the whole"
    size = known.last_passed.size_bytes if known.last_passed else None
    assert size is not None
    assert may_be_by_change(known, Policy(drill_by_change_from=size), CheckKind.QUICK)
    assert not may_be_by_change(known, Policy(drill_by_change_from=size + 1), CheckKind.QUICK)
    assert not may_be_by_change(known.unproved(), POLICY, CheckKind.QUICK), (
        "nothing of this file, or replica, was restored"
    )
    failed = known.after_drill(drill(NOW, Outcome.FAILED, "file_corrupt"))
    assert not may_be_by_change(failed, POLICY, CheckKind.QUICK), "what was found damaged is read again"
    vague = known.after_drill(drill(NOW, Outcome.INCONCLUSIVE, "timeout"))
    assert may_be_by_change(vague, POLICY, CheckKind.QUICK)


def test_the_planner_says_so() -> None:
    known = healthy(ago(hours=7)).after_drill(audit(ago(hours=7)))
    subject, seats, idle = Subject.of(known, POLICY), Seats(1, 1), Busy(frozenset(), frozenset())
    (planned,) = due({"a": subject}, NOW, seats=seats, busy=idle).heavy
    assert (planned.kind, planned.by_change) == ("drill", True)
    (never,) = due({"a": Subject.of(known, Policy())}, NOW, seats=seats, busy=idle).heavy
    assert (never.kind, never.by_change) == ("drill", False)


def test_a_drill_by_change_renews_the_proof_and_not_the_restore() -> None:
    whole, by_change = drill(ago(hours=7), id="whole"), drill(NOW, id="news", by_change=True, restore_seconds=None)
    known = healthy(ago(hours=7)).after_drill(whole).after_drill(by_change)
    assert (known.last_passed, known.restored, known.last_conclusive) == (by_change, whole, by_change)
    again = known.after_drill(replace(by_change, id="more"))
    assert again.restored == whole
    vague = again.after_drill(drill(NOW, Outcome.INCONCLUSIVE, "timeout"))
    assert vague.restored == whole
    renewed = vague.after_drill(drill(NOW, id="again"))
    assert (renewed.restored, renewed.last_restored) == (renewed.last_passed, None)
    assert renewed.unproved().restored is None


def said(known: Evidence, now: datetime, policy: Policy = POLICY) -> Finding:
    return check_drill(Case(known, policy, ROOM, now))


def test_the_check_says_both_ages_and_the_restore_grows_old_all_the_same() -> None:
    whole, by_change = audit(NOW, id="whole"), drill(NOW + 3 * HOUR, id="news", by_change=True)
    known = healthy().after_drill(whole).after_drill(by_change)
    found = said(known, NOW + 4 * HOUR)
    assert found.status is Status.PASS
    assert found.message == "restored and checked 4h ago; brought forward and checked 1h ago"
    assert (found.observed, found.limit) == (3600.0, 86400.0)
    stood = replace(known, proof_stood_at=NOW + 5 * HOUR)
    assert said(stood, NOW + 6 * HOUR).message == (
        "restored and checked 6h ago; brought forward and checked 3h ago; nothing new 1h ago"
    )
    late = said(known, NOW + 28 * HOUR)
    assert late.reason is Reason.DRILL_OLD
    assert late.message == "the backup was last proved 1d1h ago (limit 1d)"
    limit = POLICY.audit_every + POLICY.drill_max_age
    fresh = known.after_drill(drill(NOW + limit, id="newer", by_change=True))
    assert said(fresh, NOW + limit).status is Status.PASS
    over = said(fresh, NOW + limit + HOUR)
    assert (over.status, over.reason, over.limit) == (Status.FAIL, Reason.DRILL_OLD, limit.total_seconds())
    assert "last restored" in over.message, "no audit has renewed it"


def test_where_it_does_not_count_the_restore_does() -> None:
    known = healthy().after_drill(audit(NOW, id="whole")).after_drill(drill(NOW + 20 * HOUR, by_change=True))
    now = NOW + 25 * HOUR
    assert said(known, now).status is Status.PASS
    assert said(known, now, Policy()).reason is Reason.DRILL_OLD, "it was switched off"
    assert said(known, now, POLICY.tightened(max_age=6 * HOUR)).reason is Reason.DRILL_OLD, "a restore is asked for"
    assert said(known, now, POLICY.tightened(max_age=30 * HOUR)).status is Status.PASS


@pytest.mark.parametrize("verifier", [None, "far:9810"])
def test_where_it_does_not_count_the_next_restore_is_due_by_the_last(verifier: str | None) -> None:
    """It was switched off here, or a verifier makes them and we do not take them for proofs."""
    at, off = NOW - 7 * HOUR, Policy(parity=False)
    facts: dict[str, Any] = {"verifier": verifier, "plan_digest": "0" * 16}
    known = healthy(at).after_drill(audit(at, id="whole", **facts)).after_drill(drill(NOW, by_change=True, **facts))
    seen_since = known.after_sighting(live(NOW), seen(NOW, listing(NOW, plan_digest="0" * 16)))
    subject = Subject.of(seen_since, off)
    work = due({"a": subject}, NOW, seats=Seats(0, 1), busy=Busy(frozenset(), frozenset()))
    assert [(each.kind, each.by_change) for each in work.heavy] == [("drill", False)]
    assert not work.standing
    counts = Subject.of(seen_since, replace(off, drill_by_change_from=1))
    assert due({"a": counts}, NOW, seats=Seats(0, 1), busy=Busy(frozenset(), frozenset())).heavy == ()


def test_what_is_measured_of_restores_stays_what_they_took() -> None:
    whole = drill(ago(hours=7), id="whole", memory_bytes=40)
    known = healthy(ago(hours=7)).after_drill(whole)
    before = forecast(known, known.live, Wanted(CheckKind.QUICK, parity=False))
    news = known.after_drill(
        drill(NOW, id="n", by_change=True, restore_seconds=None, apply_seconds=0.01, check_seconds=0.4)
    )
    after = forecast(news, news.live, Wanted(CheckKind.QUICK, parity=False))
    assert (after.restore_seconds, after.memory_bytes, after.rto_seconds) == (
        before.restore_seconds, before.memory_bytes, before.rto_seconds,
    )  # fmt: skip


def test_damage_stands_until_a_restore_clears_it() -> None:
    damaged = healthy().after_drill(drill(NOW, Outcome.FAILED, "file_corrupt"))
    by_change = damaged.after_drill(drill(NOW, by_change=True))
    assert by_change.last_conclusive == damaged.last_conclusive
    assert by_change.after_drill(drill(NOW)).last_conclusive != damaged.last_conclusive
