"""Verdicts: findings folded into one answer, what age and new evidence may do to it, and the documents that carry it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sidecar.core.case import Scratch
from sidecar.core.checks import Judged, judge
from sidecar.core.evidence import Evidence
from sidecar.core.finding import Finding, Reason, Status
from sidecar.core.model import LookResult, Outcome, Position
from sidecar.core.policy import Policy
from sidecar.core.verdict import FleetVerdict, Verdict, fleet_document, lag_seconds, text_lines, verdict_of
from tests.core.evidences import (
    NOW,
    ROOM,
    ago,
    audit,
    capture,
    claim,
    content,
    database,
    database_check,
    drill,
    healthy,
    histories,
    listing,
    live,
    looked,
    seen,
    uncounted,
    unknown,
)

WORSE = {Status.PASS: 0, Status.WARN: 1, Status.UNKNOWN: 2, Status.FAIL: 3}
POLICY = Policy()


def not_better(before: Judged, after: Judged) -> None:
    """No check answers better than before, and neither does the whole."""
    then = {found.name: found for found in before.findings}
    for found in after.findings:
        assert WORSE[found.status] >= WORSE[then[found.name].status], (then[found.name], found)
    assert not (after.ready and not before.ready)


def not_worse(before: Judged, after: Judged) -> None:
    """No check answers worse than before, and neither does the whole."""
    not_better(after, before)


# Age


@given(histories(), st.timedeltas(timedelta(0), timedelta(days=400)), st.timedeltas(timedelta(0), timedelta(days=400)))
@settings(deadline=None, max_examples=200)
def test_age_alone_never_improves_an_answer(evidence: Evidence, one: timedelta, more: timedelta) -> None:
    """An old fault is no longer proved, so `fail` may become `unknown`; both keep the database from being ready."""
    young, old = judge(evidence, POLICY, ROOM, NOW + one), judge(evidence, POLICY, ROOM, NOW + one + more)
    then = {found.name: found for found in young.findings}
    for found in old.findings:
        before = then[found.name].status
        assert found.status.blocks or (not before.blocks and WORSE[found.status] >= WORSE[before]), found
    assert not (old.ready and not young.ready)


def test_a_daemon_that_stopped_looking_turns_red_by_itself() -> None:
    assert judge(healthy(), POLICY, ROOM, NOW).ready
    assert not judge(healthy(), POLICY, ROOM, NOW + timedelta(minutes=3)).ready


@given(st.timedeltas(timedelta(minutes=2), timedelta(days=4000)))
@settings(deadline=None, max_examples=50)
def test_facts_from_the_future_are_never_ready(ahead: timedelta) -> None:
    judged = judge(healthy(), POLICY, ROOM, NOW - ahead)
    assert not judged.ready
    assert all(found.retryable and found.status is Status.UNKNOWN for found in judged.blocking)


@pytest.mark.parametrize("fact", ["claim", "sighting", "last_passed", "database_found", "covered_at"])
def test_one_fact_from_the_future_is_enough_to_be_unsure(fact: str) -> None:
    ahead = healthy(NOW + timedelta(hours=1))
    evidence = replace(healthy(), **{fact: getattr(ahead, fact)})
    assert not judge(evidence, POLICY, ROOM, NOW).ready


# More evidence of health


@given(histories(), st.booleans())
@settings(deadline=None, max_examples=150)
def test_a_passed_drill_of_the_same_database_never_worsens_an_answer(evidence: Evidence, full: bool) -> None:  # noqa: FBT001 - drawn
    found = content(NOW, tables={"users": 100, "orders": 50})
    evidence = evidence.after_content(found, None)  # production, read just now, and a copy that is the same
    before = judge(evidence, POLICY, ROOM, NOW)
    passed = (audit if full else drill)(NOW, content=found)
    after = judge(evidence.after_drill(passed), POLICY, ROOM, NOW)
    not_worse(before, after)


@given(histories())
@settings(deadline=None, max_examples=150)
def test_a_good_look_never_worsens_an_answer(evidence: Evidence) -> None:
    file_id = evidence.file_id or live().file_id
    still = live(NOW, file_id=file_id)
    assume(evidence.after_live(still).replaced_at is None)  # what Litestream sends then is not what stands at the path
    before = judge(evidence.after_live(still), POLICY, ROOM, NOW)
    grown = evidence.after_sighting(still, seen(NOW)).after_live(still)
    assume(grown.ahead is None or not grown.ahead.another_writer(NOW))  # who was seen twice is remembered for a while
    after = judge(grown, POLICY, ROOM, NOW)
    not_worse(before, after)
    lag = next(found for found in after.findings if found.name == "lag")
    assert lag.status in {Status.PASS, Status.WARN}


@given(histories())
@settings(deadline=None, max_examples=150)
def test_a_sound_check_of_production_never_worsens_an_answer(evidence: Evidence) -> None:
    before = judge(evidence, POLICY, ROOM, NOW)
    not_worse(before, judge(evidence.after_database_check(database_check(NOW)), POLICY, ROOM, NOW))


@given(histories())
@settings(deadline=None, max_examples=100)
def test_litestream_saying_that_all_is_well_never_worsens_an_answer(evidence: Evidence) -> None:
    said = claim(NOW, started_at=NOW - timedelta(days=365))  # a restart after the newest comparison is not all well
    not_worse(judge(evidence, POLICY, ROOM, NOW), judge(evidence.after_claim(said), POLICY, ROOM, NOW))


@given(histories(), st.integers(0, 10**12), st.integers(0, 10**12))
@settings(deadline=None, max_examples=50)
def test_more_room_never_worsens_an_answer(evidence: Evidence, some: int, more: int) -> None:
    little, much = Scratch(NOW, some), Scratch(NOW, some + more)
    not_worse(judge(evidence, POLICY, little, NOW), judge(evidence, POLICY, much, NOW))


# Retryable


@given(histories())
@settings(deadline=None, max_examples=100)
def test_waiting_is_offered_only_where_every_obstacle_may_go_away(evidence: Evidence) -> None:
    verdict = verdict_of(database(), evidence, POLICY, ROOM, NOW)
    blocking = [found for found in verdict.judged.findings if found.status.blocks]
    assert verdict.ready == (not blocking)
    assert verdict.retryable == (bool(blocking) and all(found.retryable for found in blocking))
    assert not (verdict.ready and verdict.retryable)


# The fleet


def judged(*found: Finding) -> Judged:
    return Judged(found)


def verdict(name: str, evidence: Evidence, now: datetime = NOW) -> Verdict:
    return verdict_of(database(name), evidence, POLICY, ROOM, now)


def fleet(*verdicts: Verdict) -> FleetVerdict:
    return FleetVerdict(verdicts, NOW)


REFUSED = healthy().after_sighting(live(), looked(LookResult.AUTH, message="the store refused the key"))
CORRUPT = healthy().after_drill(drill(NOW, Outcome.FAILED, "file_corrupt"))


def test_no_findings_are_not_ready() -> None:
    assert not judged().ready


def test_no_databases_are_never_ready_and_may_still_come() -> None:
    nobody = fleet()
    assert not nobody.ready
    assert nobody.retryable
    assert not nobody.proved_bad
    assert nobody.reason == "litestream.yml names no database that exists"
    assert fleet_document(nobody, "1.0.0")["databases"] == []


@given(st.lists(st.sampled_from([healthy(), REFUSED, CORRUPT, unknown()]), max_size=4))
@settings(deadline=None, max_examples=50)
def test_a_fleet_is_ready_exactly_when_it_has_databases_and_all_are(evidences: list[Evidence]) -> None:
    verdicts = [verdict(f"db{number}", evidence) for number, evidence in enumerate(evidences)]
    whole = fleet(*verdicts)
    assert whole.ready == (bool(verdicts) and all(each.ready for each in verdicts))
    assert whole.ready == ("can be restored" in whole.reason)


def test_one_fault_that_waiting_does_not_cure_makes_the_fleet_not_worth_waiting_for() -> None:
    assert fleet(verdict("a", unknown())).retryable
    assert not fleet(verdict("a", unknown()), verdict("b", REFUSED)).retryable
    assert fleet(verdict("a", unknown()), verdict("b", healthy())).retryable


def test_the_reason_names_a_proved_fault_before_what_is_not_known() -> None:
    whole = fleet(verdict("a", unknown()), verdict("b", CORRUPT))
    assert whole.reason == "b: the newest drill failed: it was file_corrupt (and 1 more)"
    assert whole.proved_bad
    assert not fleet(verdict("a", unknown())).proved_bad
    assert fleet(verdict("a", healthy())).reason == "1 database can be restored"


# The documents


def lagging() -> Evidence:
    behind = live(txid=43, captures=(capture(43), capture(42, ago(seconds=312))))
    evidence = unknown(ago(days=1)).after_sighting(behind, seen())
    evidence = evidence.after_claim(claim()).after_content(uncounted(), None)
    return evidence.after_drill(audit()).after_database_check(database_check())


def test_the_document_has_the_keys_of_the_contract() -> None:
    document = fleet_document(fleet(verdict("app", lagging())), "1.0.0")
    assert list(document) == ["ready", "retryable", "reason", "checked_at", "version", "databases"]
    assert document["ready"] is False
    assert document["retryable"] is True
    assert document["reason"] == "app: replica lacks commits of the last 312 s (limit 120 s)"
    assert document["checked_at"] == "2026-11-23T03:00:00Z"
    (app,) = document["databases"]
    assert list(app) == [
        "name", "path", "ready", "replica", "production", "position", "snapshot", "last_drill", "proof_stood_at",
        "schema_version", "checks",
    ]  # fmt: skip
    assert app["name"] == "app"
    assert app["path"] == "/data/app.db"
    assert app["replica"] == {"type": "s3", "label": "s3://bucket/app"}
    assert app["position"] == {"live": "000000000000002b", "replica": "000000000000002a", "lag_seconds": 312.0}
    assert app["snapshot"] == {"position": "0000000000000001", "created_at": "2026-11-22T22:00:00Z"}
    assert app["schema_version"] == {"source": "django_migrations", "value": "0042_auto"}
    lag = next(each for each in app["checks"] if each["name"] == "lag")
    assert lag == {
        "name": "lag", "status": "fail", "reason": "lagging",
        "message": "replica lacks commits of the last 312 s (limit 120 s)", "observed": 312.0, "limit": 120.0,
        "unit": "seconds", "retryable": True, "hint": lag["hint"],
    }  # fmt: skip
    assert lag["hint"]
    drilled = app["last_drill"]
    named = {
        "id", "outcome", "reason", "position", "finished_at", "restore_seconds", "check_seconds", "size_bytes", "check", "parity",
    }  # fmt: skip
    assert named <= set(drilled)
    assert (drilled["outcome"], drilled["reason"], drilled["check"]) == ("passed", None, "full")
    assert drilled["finished_at"] == "2026-11-23T03:00:00Z"
    assert (drilled["restore_seconds"], drilled["check_seconds"], drilled["size_bytes"]) == (1.2, 0.4, 40960)


def test_what_nobody_knows_is_null_and_never_zero() -> None:
    (app,) = fleet_document(fleet(verdict("app", unknown())), "1.0.0")["databases"]
    assert app["position"] == {"live": None, "replica": None, "lag_seconds": None}
    assert (app["snapshot"], app["last_drill"], app["schema_version"]) == (None, None, None)


def test_the_live_position_is_litestreams_word_where_no_local_file_is_in_reach() -> None:
    evidence = unknown().after_live(live(captures=())).after_claim(claim(txid=43))
    (app,) = fleet_document(fleet(verdict("app", evidence)), "1.0.0")["databases"]
    assert app["position"]["live"] == "000000000000002b"


def test_a_03_position_is_shown_as_generation_index_and_offset() -> None:
    there = Position("0123456789abcdef", 10, 4152)
    evidence = healthy().after_sighting(live(), seen(shown=listing(position=there, reachable=there)))
    (app,) = fleet_document(fleet(verdict("app", evidence)), "1.0.0")["databases"]
    assert app["position"]["replica"] == "0123456789abcdef/0000000a:4152"


@given(histories())
@settings(deadline=None, max_examples=100)
def test_the_document_is_json_without_secrets(evidence: Evidence) -> None:
    text = json.dumps(fleet_document(fleet(verdict("app", evidence)), "1.0.0"), allow_nan=False)
    assert "SECRET" not in text
    assert "SECRET" not in repr(database())


def test_the_lag_is_never_negative_and_nobody_knows_it_when_the_clock_was_set_back() -> None:
    assert lag_seconds(healthy(), NOW - timedelta(seconds=5)) == 0.0
    assert lag_seconds(healthy(), NOW - timedelta(hours=1)) is None
    assert lag_seconds(unknown(), NOW) is None


def test_the_text_form_is_one_sentence_and_one_line_a_check() -> None:
    lines = text_lines(fleet(verdict("app", lagging())))
    assert lines[0] == "app: replica lacks commits of the last 312 s (limit 120 s)"
    assert lines[1] == "[+] app litestream ok"
    assert "[-] app lag lagging: replica lacks commits of the last 312 s (limit 120 s)" in lines
    parity = next(line for line in lines if " parity " in line)
    assert parity == "[+] app parity ok"
    assert len(lines) == 1 + 11


def test_a_message_of_several_lines_stays_on_one_line() -> None:
    evidence = healthy().after_sighting(live(), looked(LookResult.AUTH, message="refused:\n  InvalidAccessKeyId"))
    lines = text_lines(fleet(verdict("app", evidence)))
    assert lines[0] == "app: refused: InvalidAccessKeyId"
    assert all("\n" not in line for line in lines)
    assert f"[-] app replica {Reason.AUTH}: refused: InvalidAccessKeyId" in lines
