"""Drills made elsewhere: what is offered, what is taken over, and when a drill is due here although a verifier makes them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from sidecar.core.case import Case
from sidecar.core.checks import CHECKS, judge
from sidecar.core.elsewhere import OFFERED_MAX, Offer, another_replica, clock_ahead, offered, taken, why_not
from sidecar.core.evidence import Evidence
from sidecar.core.finding import Reason, Status
from sidecar.core.instants import CLOCK_SLACK
from sidecar.core.live_state import FileId, LiveState
from sidecar.core.model import CheckKind, Drill, Outcome
from sidecar.core.parity import ParityResult
from sidecar.core.policy import Policy
from sidecar.core.schedule import Busy, Seats, Subject, due
from sidecar.core.turns import (
    LATE_SHARE,
    LONG_AGO,
    database_check_due_at,
    drill_due_at,
    drill_kind,
    look_due_at,
    stands,
)
from tests.core.evidences import (
    NOW,
    ROOM,
    ago,
    audit,
    claim,
    content,
    drill,
    finding,
    healthy,
    listing,
    live,
    parity,
    replica,
    seen,
    uncounted,
)

FAR = Policy(production=False)
ALONE = Policy(parity=False)
VERIFIER = "verifier.example:9810"
EVERY = Policy().drill_every
FILES = "0123456789abcdef"


def blank(now: datetime = NOW) -> LiveState:
    """What is read of a database that is not in reach."""
    return LiveState(now, None, 0, 0, None, None, (), in_reach=False)


def theirs(now: datetime = NOW, outcome: Outcome = Outcome.PASSED, reason: str | None = None, **facts: Any) -> Drill:
    return drill(now, outcome, reason, **({"id": "v1", "verifier": VERIFIER, "parity": None} | facts))


def far() -> Evidence:
    """All that a verifier learns of a database that can be restored."""
    known = Evidence(first_seen_at=ago(days=9)).of_replica(replica())
    return known.after_sighting(blank(), seen()).after_live(blank()).after_drill(audit(parity=None))


# A daemon that has the replica and nothing else


def test_without_production_only_the_backup_is_judged() -> None:
    judged = judge(far(), FAR, ROOM, NOW)
    assert [each.name for each in judged.findings] == ["replica", "snapshot", "chain", "drill", "identity", "scratch"]
    assert judged.ready
    assert far().lag(NOW) is None
    assert not judge(far(), Policy(), ROOM, NOW).ready, "the same evidence is not enough for who has production"


def test_without_production_what_is_not_known_does_not_pass() -> None:
    nothing = judge(Evidence(first_seen_at=NOW), FAR, ROOM, NOW)
    assert not nothing.ready
    assert {each.status for each in nothing.findings if each.name != "scratch"} == {Status.UNKNOWN}
    assert judge(far(), FAR, ROOM, NOW + timedelta(days=2)).blocking


def test_a_verifier_that_has_the_file_all_the_same_judges_as_if_it_had_not() -> None:
    near = healthy()
    assert [each.name for each in judge(near, FAR, ROOM, NOW).findings] == [
        each.name for each in judge(far(), FAR, ROOM, NOW).findings
    ]
    replaced = replace(near, replaced_at=NOW)
    assert finding("identity", replaced, FAR).status is Status.PASS


@pytest.mark.parametrize(
    ("copy", "reason"), [(content(tables={}), Reason.EMPTY), (content(tables={"users": 3, "orders": 0}), Reason.SHRUNK)]
)
def test_a_copy_alone_may_be_empty_or_shrunk(copy: Any, reason: Reason) -> None:
    known = far().after_drill(drill(parity=None, content=copy))
    found = finding("identity", known, FAR)
    assert (found.status, found.reason) == (Status.FAIL, reason)


def test_every_check_that_is_left_out_says_nothing() -> None:
    for name in ("litestream", "lag", "parity", "database", "schema"):
        assert CHECKS[name](Case(healthy(), FAR, ROOM, NOW)) is None


def test_nothing_of_production_is_scheduled_there() -> None:
    assert database_check_due_at(healthy(), FAR) is None
    assert database_check_due_at(far(), FAR) is None
    assert look_due_at(far(), FAR) == NOW + FAR.look_every, "no lag is to be met"
    work = due({"a": Subject.of(far(), FAR)}, NOW + EVERY, seats=Seats(1, 1), busy=Busy(frozenset(), frozenset()))
    assert [each.parity for each in work.heavy] == [False]


# What is offered, and what is taken over


def test_offered_are_the_newest_own_drills_that_found_something_out_without_comparisons() -> None:
    own = [drill(ago(hours=each), id=f"d{each}") for each in range(OFFERED_MAX + 5)]
    made = [theirs(), drill(outcome=Outcome.ABORTED, reason="aborted", id="x"), *own]
    found = offered(made, healthy())
    assert [each.id for each in found] == [each.id for each in own[:OFFERED_MAX]]
    assert {each.parity for each in found} == {None}
    void = replace(healthy(), unproved_at=ago(hours=1.5))
    assert [each.id for each in offered(made, void)] == ["d0", "d1"]


def test_a_drill_is_taken_over_with_where_it_comes_from_and_without_what_only_we_may_say() -> None:
    found = taken(drill(accepts_shrink=True, parity_seconds=2.0), VERIFIER)
    assert (found.verifier, found.parity, found.parity_seconds, found.accepts_shrink) == (VERIFIER, None, None, False)
    assert why_not(drill(), healthy(), NOW) is None


@pytest.mark.parametrize("label", ["s3://bucket/other", ""])
def test_another_replica_is_told_by_type_and_label(label: str) -> None:
    assert another_replica(Offer("s3", "s3://bucket/app", (), NOW), replica()) is None
    assert another_replica(Offer("s3", label, (), NOW), replica()) is not None
    assert another_replica(Offer("file", "s3://bucket/app", (), NOW), replica()) is not None


def test_a_clock_that_is_ahead_makes_drills_look_newer_than_they_are() -> None:
    assert clock_ahead(Offer("s3", "x", (), NOW + CLOCK_SLACK), NOW) is None
    assert clock_ahead(Offer("s3", "x", (), ago(days=1)), NOW) is None, "that makes them look older"
    assert "more than 60 s ahead of ours" in (clock_ahead(Offer("s3", "x", (), NOW + CLOCK_SLACK * 2), NOW) or "")


FAILED = {"outcome": Outcome.FAILED, "reason": "file_corrupt", "content": None}


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"finished_at": NOW + CLOCK_SLACK * 2}, "ahead of this machine's clock"),
        ({"content": content(NOW + timedelta(days=400))}, "ahead of this machine's clock"),
        ({"started_at": NOW, "finished_at": ago(seconds=9)}, "ends before it begins"),
        ({"content": None}, "does not say what it restored"),
        ({"position": None}, "does not say what it restored"),
        ({"size_bytes": 0}, "does not say what it restored"),
        ({"content": content(page_count=0)}, "cannot be"),
        ({"content": content(tables={"users": -7})}, "cannot be"),
        ({"restore_seconds": float("nan")}, "holds a figure"),
        ({"plan_seconds": -1.0}, "holds a figure"),
        ({"apply_seconds": -1.0}, "holds a figure"),
        ({"took_seconds": float("inf")}, "holds a figure"),
        ({"restore_seconds": 1e9}, "took longer than all of it"),
        ({"reason": "file_corrupt"}, "passed with a reason"),
        ({**FAILED, "reason": None}, "did not pass without one"),
        ({**FAILED, "reason": "the moon"}, "not known here"),
        ({**FAILED, "reason": "pages_differ"}, "only we can do"),
        ({**FAILED, "outcome": Outcome.ABORTED, "reason": "aborted"}, "was stopped"),
        ({"message": "x" * 10_001}, "says too much"),
        ({"id": "../../etc"}, "id is none"),
        ({"id": ""}, "id is none"),
    ],
)  # fmt: skip
def test_what_is_not_taken_over_and_why(facts: dict[str, Any], says: str) -> None:
    why = why_not(replace(drill(), **facts), healthy(), NOW)
    assert why is not None
    assert says in why


def test_what_began_before_the_file_or_the_replica_was_replaced_proves_nothing_any_more() -> None:
    before = drill(ago(minutes=5), id="v1")
    known = healthy(ago(minutes=30)).after_live(live(ago(minutes=4), file_id=FileId(8, 2002)))
    assert known.replaced_at is not None
    assert "replaced" in (why_not(before, known, NOW) or "")
    assert why_not(drill(), known, NOW) is None
    slack = drill(known.unproved_at + CLOCK_SLACK) if known.unproved_at is not None else None
    assert slack is not None
    assert "replaced" in (why_not(slack, known, NOW) or ""), "the other clock may be a minute ahead"
    moved = healthy(ago(minutes=3)).of_replica(replica("s3://bucket/other"))
    assert "replaced" in (why_not(before, moved, NOW) or "")
    assert why_not(drill(), moved, NOW) is None
    assert why_not(before, healthy(), NOW) is None


# Here: when a drill is due although a verifier makes them


def test_a_verifiers_drill_makes_ready_like_an_own_one() -> None:
    known = replace(healthy(), last_drill=None).unproved().after_drill(theirs())
    assert judge(known, ALONE, ROOM, NOW).ready
    assert finding("parity", known).status is Status.UNKNOWN, "nobody has compared anything"


def test_own_drills_are_due_only_once_the_verifier_has_fallen_silent() -> None:
    known = healthy(ago(hours=1)).after_drill(theirs())
    assert drill_due_at(known, ALONE) == NOW + EVERY * (1 + LATE_SHARE) + timedelta(seconds=2)
    work = due(
        {"a": Subject.of(known, ALONE)},
        NOW + timedelta(seconds=1),
        seats=Seats(1, 1),
        busy=Busy(frozenset({"a"}), frozenset()),
    )
    assert work.heavy == (), "and that is not taken for a clock that was set back"
    liar = known.after_drill(theirs(started_at=ago(days=9000)))
    at = drill_due_at(liar, ALONE)
    assert at is not None
    assert at <= NOW + EVERY * (1 + 2 * LATE_SHARE), "however long it says that it took"


def test_only_here_a_copy_is_compared_so_that_is_due_in_its_own_time() -> None:
    known = healthy(ago(hours=5)).after_drill(theirs())
    assert drill_due_at(known, Policy()) == ago(hours=5) + EVERY
    rarely = Policy(parity_every=timedelta(days=2))
    assert drill_due_at(known, rarely) == NOW + EVERY * (1 + LATE_SHARE) + timedelta(seconds=2)
    late = healthy(ago(days=2)).after_drill(theirs())
    assert drill_due_at(late, rarely) == NOW
    assert not stands(late.after_sighting(live(), seen(NOW, listing(plan_digest=FILES))), Policy(), NOW)
    never = healthy().unproved().after_drill(theirs())
    assert drill_due_at(never, Policy()) == LONG_AGO


def test_a_comparison_that_found_nothing_out_is_tried_again_in_time_and_still_warns() -> None:
    could_not = drill(ago(hours=1), id="own", parity=parity(ParityResult.INCONCLUSIVE, message="too busy"))
    known = healthy().unproved().after_drill(could_not).after_drill(theirs())
    assert drill_due_at(known, Policy()) == ago(hours=1) + EVERY
    assert finding("parity", known).status is Status.WARN, "as without a verifier"


def test_a_restart_of_litestream_still_wants_a_comparison() -> None:
    known = healthy(ago(hours=1)).after_drill(theirs())
    restarted = known.after_claim(claim(started_at=ago(minutes=30)))
    assert drill_due_at(restarted, Policy()) == NOW + timedelta(seconds=20), "though the verifier has drilled since"
    assert drill_due_at(restarted, ALONE) == drill_due_at(known, ALONE)
    assert not stands(restarted, Policy(), NOW)


def test_a_verifier_that_cannot_find_out_does_not_keep_us_from_it() -> None:
    useless = theirs(NOW, Outcome.INCONCLUSIVE, "scratch_full")
    assert drill_due_at(healthy(ago(hours=2)).after_drill(useless), ALONE) == ago(hours=2) + EVERY
    assert drill_due_at(healthy().unproved().after_drill(useless), ALONE) == LONG_AGO
    tried = drill(ago(minutes=9), Outcome.INCONCLUSIVE, "timeout", id="own")
    both = healthy().unproved().after_drill(tried).after_drill(useless)
    assert drill_due_at(both, ALONE) == ago(minutes=9) + EVERY, "not after each of its drills"


def test_what_a_comparison_found_no_verifier_clears() -> None:
    differs = drill(ago(hours=1), Outcome.FAILED, "pages_differ", id="own", parity=parity(ParityResult.DIFFERENT))
    known = healthy().after_drill(differs).after_drill(theirs())
    for policy in (Policy(), ALONE):
        assert finding("drill", known, policy).reason is Reason.PAGES_DIFFER
        assert drill_due_at(known, policy) == ago(hours=1) + EVERY, "only a drill here can"


def test_a_failed_drill_of_a_verifiers_is_red_and_left_to_it() -> None:
    known = healthy(ago(hours=1)).after_drill(theirs(NOW, Outcome.FAILED, "file_corrupt"))
    assert finding("drill", known).reason is Reason.FILE_CORRUPT
    at = drill_due_at(known, ALONE)
    assert at is not None
    assert at > NOW + EVERY


def test_a_migration_that_the_verifier_cannot_see_is_drilled_here_soon() -> None:
    known = healthy(ago(hours=1)).after_drill(theirs(ago(minutes=1))).after_content(uncounted(schema_digest="d2"), None)
    more = known.after_sighting(live(txid=43), seen(NOW, listing(txid=43)))
    at = drill_due_at(more, ALONE)
    assert at is not None
    assert at < NOW + timedelta(minutes=1)


def test_audits_are_the_verifiers_while_it_drills() -> None:
    known = healthy().unproved().after_drill(theirs())
    assert drill_kind(known, Policy(), NOW) is CheckKind.QUICK
    assert drill_kind(known.after_drill(drill(id="own")), Policy(), NOW) is CheckKind.FULL


def test_a_verifiers_proof_stands_like_an_own_one() -> None:
    known = healthy(ago(hours=9)).after_drill(theirs(ago(hours=7), plan_digest=FILES))
    same = known.after_sighting(live(), seen(NOW, listing(plan_digest=FILES)))
    assert stands(same, ALONE, NOW)
    at = drill_due_at(same.after_standing(), ALONE)
    assert at is not None
    assert at > NOW + EVERY
