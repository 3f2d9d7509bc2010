"""A drill that would restore what the last one did is not made: when its proof stands, what ends that, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.case import Case
from sidecar.core.checks_content import drill as check_drill
from sidecar.core.checks_parity import parity as check_parity
from sidecar.core.evidence import Evidence
from sidecar.core.finding import Reason, Status
from sidecar.core.listing import digest, reduce
from sidecar.core.model import CheckKind, LookResult, Outcome, Position, ReplicaFile
from sidecar.core.parity import ParityResult
from sidecar.core.policy import Policy
from sidecar.core.schedule import Busy, Seats, Subject, Work, due
from sidecar.core.turns import drill_due_at, stands
from tests.core.evidences import (
    NOW,
    ROOM,
    ago,
    audit,
    claim,
    drill,
    healthy,
    listing,
    live,
    looked,
    parity,
    rests,
    seen,
)

POLICY = Policy()
HOUR = timedelta(hours=1)
FILES = "0123456789abcdef"  # the digest of what is there
THEN = NOW + POLICY.drill_every  # the next drill is due
WRITTEN = ago(hours=9)  # when production last was
AT_REST = live(NOW, modified_at=WRITTEN)
SEATS, IDLE = Seats(4, 1), Busy(frozenset(), frozenset())


def seen_at(evidence: Evidence, at: datetime, digest_then: str | None = FILES, txid: int = 42) -> Evidence:
    return evidence.after_sighting(live(at, modified_at=WRITTEN), seen(at, listing(at, txid, plan_digest=digest_then)))


def proved(at: datetime = NOW) -> Evidence:
    """An audit that passed at `at`, and a look at the moment the next drill is due that shows the same files."""
    made = audit(at, plan_digest=FILES, live_digest=AT_REST.digest)
    return seen_at(healthy(at).after_drill(made), at + POLICY.drill_every)


def planned(evidence: Evidence, now: datetime, policy: Policy = POLICY, **more: object) -> Work:
    return due({"a": Subject.of(evidence, policy)}, now, seats=SEATS, busy=IDLE, **more)  # type: ignore[arg-type] # as `due` takes them


def test_the_drill_that_is_due_is_not_made() -> None:
    work = planned(proved(), THEN)
    assert (work.standing, work.drills_due) == (("a",), 0)
    assert not [each for each in work.heavy if each.kind == "drill"]
    stood = proved().after_standing()
    assert stood.proof_stood_at == THEN
    assert drill_due_at(stood, POLICY) == THEN + rests(POLICY.drill_every), "and then it is asked again"


ENDS: dict[str, Callable[[Evidence], Evidence]] = {
    "a file came": lambda known: seen_at(known, THEN, "another"),
    "there is no way to the newest position": lambda known: seen_at(known, THEN, None),
    "the same files, another position": lambda known: seen_at(known, THEN, txid=43),
    "the newest look found nothing out": lambda known: known.after_sighting(
        live(THEN), looked(LookResult.TIMEOUT, THEN)
    ),
    "the newest drill is one of before": lambda known: replace(known, last_drill=audit(NOW)),
    "Litestream was restarted since": lambda known: known.after_claim(claim(THEN, started_at=NOW + HOUR)),
    "the audit is due": lambda known: replace(known, last_audit=audit(ago(days=8))),
    "there never was one": lambda known: replace(known, last_audit=None),
    "it was not compared, and is to be": lambda known: replace(known, last_compared=None),
    "another drill was compared": lambda known: replace(known, last_compared=drill(NOW, id="d9")),
    "somebody wrote to production, past SQLite": lambda known: known.after_live(live(THEN, modified_at=NOW)),
    "production's files cannot be read": lambda known: known.after_live(
        live(THEN, modified_at=WRITTEN, error="Permission denied")
    ),
    "it was compared by a sidecar that did not say with what": lambda known: replace(
        known, last_compared=replace(known.last_drill, live_digest=None) if known.last_drill else None
    ),
    "damage stands against it": lambda known: replace(
        known, last_conclusive=drill(NOW, Outcome.FAILED, "db_corrupt", check=CheckKind.FULL)
    ),
    "the newest drill did not pass": lambda known: known.after_drill(drill(NOW, Outcome.ABORTED, "aborted")),
    "the last look is older than a drill may be": lambda known: seen_at(known, NOW),
    "the last look is dated ahead": lambda known: seen_at(known, THEN + HOUR),
}


@pytest.mark.parametrize("what", ENDS)
def test_what_ends_it(what: str) -> None:
    known = ENDS[what](proved())
    assert not stands(known, POLICY, THEN)
    assert not planned(known, THEN).standing


def test_a_drill_that_is_asked_for_is_made() -> None:
    work = planned(proved(), THEN, requested=["a"])
    assert not work.standing
    assert [each.kind for each in work.heavy] == ["drill"]


def test_nothing_stands_while_a_drill_runs() -> None:
    work = due({"a": Subject.of(proved(), POLICY)}, THEN, seats=SEATS, busy=Busy(frozenset(), frozenset({"a"})))
    assert not work.standing


def test_it_can_be_switched_off() -> None:
    never = replace(POLICY, skip_proved=False)
    assert [each.kind for each in planned(proved(), THEN, never).heavy][:1] == ["drill"]
    aged = Case(proved().after_standing(), never, ROOM, NOW + timedelta(hours=25))
    assert check_drill(aged).reason is Reason.DRILL_OLD, "what stood before counts for nothing then"


def test_where_nothing_is_to_be_compared_it_need_not_have_been() -> None:
    known = replace(proved(), last_compared=None)
    assert stands(known, replace(POLICY, parity=False), THEN)
    seldom = replace(POLICY, parity_every=timedelta(days=2))
    other = replace(known, last_compared=drill(ago(hours=30), id="d9"))
    assert stands(other, seldom, THEN)
    assert not stands(other, seldom, THEN + timedelta(days=1))


def at(known: Evidence, now: datetime, policy: Policy = POLICY) -> Case:
    return Case(known, policy, ROOM, now)


def test_the_checks_say_both_ages() -> None:
    known = proved().after_standing()
    found = check_drill(at(known, THEN + HOUR))
    assert found.status is Status.PASS
    assert found.message == "restored and checked 7h ago; a restore would have read the same files 1h ago"
    assert (found.observed, found.limit) == (3600.0, 86400.0)
    compared = check_parity(at(known, NOW + timedelta(hours=29)))
    assert compared is not None
    assert compared.status is Status.PASS
    assert check_drill(at(known, NOW + timedelta(hours=31))).reason is Reason.DRILL_OLD, "nobody saw it stand for 25 h"
    late = check_parity(at(known, NOW + timedelta(hours=31)))
    assert late is not None
    assert late.reason is Reason.NOT_COMPARED


def test_whoever_asks_for_a_younger_proof_asks_for_a_restore() -> None:
    known, now = proved().after_standing(), THEN + timedelta(minutes=5)
    asked = POLICY.tightened(max_age=timedelta(minutes=10))
    assert check_drill(at(known, now, asked)).reason is Reason.DRILL_OLD
    assert check_drill(at(known, now, POLICY.tightened(max_age=timedelta(days=3)))).status is Status.PASS, "looser"
    assert check_drill(at(known, now, POLICY.tightened(max_lag=timedelta(seconds=9)))).status is Status.PASS


def test_it_does_not_stand_for_ever() -> None:
    """Audits renew it; where none comes to an end, the restore itself grows too old."""
    limit = POLICY.audit_every + POLICY.drill_max_age
    known = replace(proved(), last_audit=audit(NOW + limit))
    near = seen_at(known, NOW + limit).after_standing()
    assert check_drill(at(near, NOW + limit)).status is Status.PASS
    over = check_drill(at(near, NOW + limit + timedelta(minutes=1)))
    assert (over.status, over.reason, over.limit) == (Status.FAIL, Reason.DRILL_OLD, limit.total_seconds())


def test_a_clock_set_back_is_said() -> None:
    known = seen_at(proved(), THEN + 9 * HOUR).after_standing()
    assert check_drill(at(known, THEN)).status is Status.UNKNOWN


def test_a_new_drill_begins_anew_and_one_that_found_nothing_out_changes_nothing() -> None:
    stood = proved().after_standing()
    assert stood.after_drill(drill(THEN)).proof_stood_at is None
    assert stood.after_drill(drill(THEN, Outcome.INCONCLUSIVE, "timeout")).proof_stood_at == THEN
    assert stood.unproved().proof_stood_at is None
    weak = replace(stood, last_compared=drill(NOW, id="d9", parity=parity(ParityResult.EQUAL)))
    assert weak.proved_at(drill(NOW, id="d9")) == NOW, "what stood was another drill"


def file(level: int, first: int, last: int, size: int = 100, at: datetime = NOW) -> ReplicaFile:
    return ReplicaFile(level, Position.of_txid(first), Position.of_txid(last), size, at)


files = st.builds(
    lambda level, first, more, size, age: file(level, 1 if level == 9 else first, first + more, size, ago(seconds=age)),
    st.sampled_from([0, 1, 2, 9]), st.integers(1, 12), st.integers(0, 6), st.integers(100, 103), st.integers(0, 3),
)  # fmt: skip


@given(
    st.lists(files, min_size=1, max_size=25, unique_by=lambda each: (each.level, each.first, each.last)), st.randoms()
)
def test_the_digest_depends_on_the_files_and_not_on_their_order(found: list[ReplicaFile], dice: object) -> None:
    one = reduce(tuple(found), NOW)
    dice.shuffle(found)  # type: ignore[attr-defined] # Random
    assert reduce(tuple(found), NOW).plan_digest == one.plan_digest
    assert (one.plan_digest is None) == (one.gap is not None or one.reachable is None)


def test_every_fact_of_a_file_counts() -> None:
    known = file(0, 2, 3)
    others = [
        replace(known, level=1), replace(known, first=Position.of_txid(1)), replace(known, last=Position.of_txid(4)),
        replace(known, size_bytes=101), replace(known, at=NOW + timedelta(seconds=1)),
    ]  # fmt: skip
    assert len({digest([each]) for each in [known, *others]}) == 6
    assert digest([replace(known, at=NOW + timedelta(milliseconds=900))]) == digest([known]), "listed in whole seconds"
    assert digest([known, known]) != digest([known])
