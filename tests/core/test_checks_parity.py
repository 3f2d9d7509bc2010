"""The check `parity`, and what comparisons mean for the evidence and for the planner."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from sidecar.core.checks_parity import demanded, of_this_comparison
from sidecar.core.evidence import Evidence
from sidecar.core.finding import Reason, Status
from sidecar.core.model import CheckKind, Drill, Outcome
from sidecar.core.parity import Parity, ParityResult, inconclusive
from sidecar.core.policy import Policy
from sidecar.core.turns import database_check_due_at, drill_due_at, parity_due, spread
from tests.core.evidences import (
    NOW,
    Row,
    ago,
    audit,
    claim,
    database_check,
    drill,
    finding,
    healthy,
    live,
    parity,
    rests,
    seen,
    unknown,
)

FAIL, UNKNOWN, WARN, PASS = Status.FAIL, Status.UNKNOWN, Status.WARN, Status.PASS
GOOD, NEW = healthy(), unknown()
WHY = inconclusive("production is not in reach", "drill where production's file is")


def differing(**facts: object) -> Drill:
    found = parity(
        ParityResult.DIFFERENT, proven=998, differing=2, message="2 of 1000 pages are not what", hint="keep it", **facts
    )
    return drill(NOW, Outcome.FAILED, "pages_differ", parity=found)


def uncompared(evidence: Evidence = NEW, why: Parity | None = WHY) -> Evidence:
    return evidence.after_drill(audit(parity=why))


def restarted(evidence: Evidence, *, up: bool = True) -> Evidence:
    """Litestream was started a minute ago, after the newest comparison."""
    before = replace(drill(ago(hours=1)), started_at=ago(hours=1))
    return evidence.after_drill(before).after_claim(claim(started_at=ago(minutes=1), up=up))


def test_a_restart_of_litestream_is_followed_by_a_drill_that_compares() -> None:
    known, policy = restarted(GOOD), Policy(parity_every=timedelta(days=7))
    assert drill_due_at(known, policy) == ago(minutes=1)
    assert parity_due(known, policy, NOW)
    assert drill_due_at(restarted(GOOD, up=False), policy) == ago(hours=1) + rests(policy.drill_every)
    again = known.after_drill(replace(drill(), started_at=NOW, finished_at=NOW))
    assert drill_due_at(again, policy) == NOW + rests(policy.drill_every)
    assert not parity_due(again, policy, NOW)


def test_a_litestream_that_restarts_all_the_time_does_not_fill_the_seats() -> None:
    took = timedelta(minutes=10)
    known = GOOD.after_drill(replace(drill(NOW), started_at=NOW - took)).after_claim(claim(started_at=ago(seconds=5)))
    assert drill_due_at(known, Policy()) == NOW + took * 10
    assert drill_due_at(known, Policy(drill_every=timedelta(hours=1))) == NOW + rests(timedelta(hours=1))


ROWS = [
    Row(check="parity", evidence=GOOD, status=PASS, says="1000 of 1000 pages are what production held"),
    Row(check="parity", evidence=GOOD.after_drill(differing()), status=FAIL, reason=Reason.PAGES_DIFFER, says="2 of 1000 pages"),
    Row(check="parity", evidence=uncompared(), status=WARN, reason=Reason.NOT_COMPARED, says="production is not in reach"),
    Row(check="parity", evidence=NEW, status=UNKNOWN, reason=Reason.NOT_COMPARED, retryable=True, says="has been compared"),
    Row(
        check="parity", evidence=uncompared(why=None), status=UNKNOWN, reason=Reason.NOT_COMPARED, retryable=True,
        says="has been compared",
    ),
    Row(check="parity", evidence=uncompared(GOOD), status=PASS, says="1000 of 1000"),
    Row(
        check="parity", evidence=uncompared(GOOD), now=NOW + timedelta(hours=25), status=WARN, reason=Reason.NOT_COMPARED,
        says="since then: production is not in reach",
    ),
    Row(
        check="parity", evidence=GOOD, now=NOW + timedelta(hours=25), status=WARN, reason=Reason.NOT_COMPARED, says="last compared",
    ),
    Row(
        check="parity", evidence=GOOD, now=NOW + timedelta(hours=25), policy=Policy(parity_every=timedelta(days=1)), status=PASS,
    ),
    Row(
        check="parity", evidence=GOOD, now=NOW - timedelta(hours=1), status=UNKNOWN, reason=Reason.NOT_COMPARED, retryable=True,
        says="the last comparison is dated",
    ),
    Row(
        check="parity", evidence=restarted(GOOD), status=UNKNOWN, reason=Reason.NOT_COMPARED, retryable=True,
        says="Litestream was started again 60 s ago, and no restored copy has been compared since",
    ),
    Row(
        check="parity", evidence=restarted(GOOD).after_drill(replace(drill(), parity=WHY)), status=WARN, reason=Reason.NOT_COMPARED,
        says="compared since: production is not in reach",
    ),
    Row(check="parity", evidence=restarted(GOOD).after_drill(drill()), status=PASS),
    Row(check="parity", evidence=restarted(GOOD, up=False), status=PASS),  # the check `litestream` is red
    Row(check="parity", evidence=GOOD.after_claim(claim(started_at=None)), status=PASS),
    Row(check="parity", evidence=GOOD.after_claim(claim(started_at=NOW + timedelta(hours=1))), status=PASS),  # the clock was set back
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_check_answers(row: Row) -> None:
    row.holds()


def test_what_differed_stands_until_another_comparison_says_equal() -> None:
    known = GOOD.after_drill(differing())
    later = known.after_drill(replace(drill(NOW + timedelta(minutes=1)), parity=WHY))
    assert finding("parity", later, now=NOW + timedelta(minutes=1)).status is FAIL
    assert finding("drill", later, now=NOW + timedelta(minutes=1)).status is FAIL, (
        "quick_check does not see a lost page"
    )
    again = later.after_drill(drill(NOW + timedelta(minutes=2)))
    assert finding("parity", again, now=NOW + timedelta(minutes=2)).status is PASS
    assert finding("drill", again, now=NOW + timedelta(minutes=2)).status is PASS


def test_where_comparing_was_switched_off_a_passed_drill_is_enough_again() -> None:
    known = GOOD.after_drill(differing()).after_drill(replace(drill(NOW + timedelta(minutes=1)), parity=None))
    assert finding("drill", known, now=NOW + timedelta(minutes=1)).status is PASS
    assert finding("parity", known, now=NOW + timedelta(minutes=1)).status is FAIL, "which is asked only where it is on"


def test_whoever_migrates_is_not_content_with_an_older_comparison() -> None:
    found = finding("parity", GOOD)
    assert demanded(found, drill()).status is PASS
    assert of_this_comparison(found, drill(parity=WHY)).status is WARN
    blocked = demanded(found, drill(parity=WHY))
    assert (blocked.status, blocked.reason, blocked.retryable) == (UNKNOWN, Reason.NOT_COMPARED, True)
    assert "not in reach" in blocked.message
    assert demanded(finding("parity", uncompared()), None).status is UNKNOWN, (
        "a younger proof was enough, but was not compared"
    )
    failed = finding("parity", GOOD.after_drill(differing()))
    assert demanded(failed, drill(parity=WHY)) == failed


@pytest.mark.parametrize(
    ("found", "stands"),
    [
        (parity(), True),
        (parity(proven=999, excused=1), True),
        (parity(pages=100_000, proven=99_800, excused=200), False),
        (parity(pages=30, proven=24, excused=6), True),
        (WHY, False),
        (None, False),
    ],
)
def test_a_strong_comparison_stands_for_a_check_of_production(found: Parity | None, *, stands: bool) -> None:
    known = NEW.after_drill(drill(NOW, parity=found))
    assert (known.database_check is not None) is stands
    if known.database_check is not None:
        assert known.database_check.sound
        assert known.database_check.at == drill(NOW).started_at, (
            "what was committed since is not said to have been looked at"
        )
        assert "d0" in known.database_check.message


def test_damage_of_production_is_cleared_only_where_every_page_was_proved() -> None:
    damaged = NEW.after_database_check(
        database_check(NOW - timedelta(hours=1), sound=False, reason="db_corrupt", message="page 7")
    )
    assert finding("database", damaged.after_drill(drill(parity=parity(proven=999, excused=1)))).status is FAIL
    assert finding("database", damaged.after_drill(drill())).status is PASS


def test_a_check_that_is_younger_than_the_drill_stands() -> None:
    newer = NEW.after_database_check(database_check(NOW))
    assert newer.after_drill(drill(NOW)).database_check == database_check(NOW)


def test_a_drill_that_comes_soon_is_waited_for_since_it_checks_production_too() -> None:
    known = NEW.after_sighting(live(), seen()).after_drill(drill(NOW))
    drilled, checked = drill_due_at(known, Policy()), database_check_due_at(known, Policy())
    assert drilled == NOW + spread(timedelta(hours=6), "d0", 0.5), "the first, so up to half sooner"
    assert checked is not None
    assert checked > drilled
    at = drill(NOW).started_at
    assert database_check_due_at(known, Policy(parity=False)) == at + rests(timedelta(hours=6), at)
    rare = Policy(drill_every=timedelta(hours=20))
    assert database_check_due_at(known, rare) == at + rests(timedelta(hours=6), at), "too far away"


def test_how_often_it_is_compared() -> None:
    weekly = Policy(parity_every=timedelta(days=7))
    assert parity_due(None, Policy(), NOW)
    assert parity_due(GOOD, Policy(), NOW), "with every drill"
    assert not parity_due(GOOD, weekly, NOW + timedelta(days=6))
    assert parity_due(GOOD, weekly, NOW + timedelta(days=7))
    assert parity_due(GOOD.after_drill(differing()), weekly, NOW), "what a comparison found, only a comparison clears"
    assert not parity_due(NEW, Policy(parity=False), NOW)


def test_a_drill_of_a_sidecar_that_did_not_compare_is_made_again_soon() -> None:
    old = replace(GOOD, last_compared=None).after_drill(audit(parity=None))
    due = drill_due_at(old, Policy())
    assert due is not None
    assert due - NOW <= timedelta(minutes=1)
    assert drill_due_at(old, Policy(parity=False)) == NOW + rests(timedelta(hours=6))
    assert old.last_audit is not None
    assert old.last_audit.check is CheckKind.FULL
