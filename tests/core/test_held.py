"""What is held of a database is what judging afresh would say, whatever has happened since: its verdict, and its JSON to the byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.case import Case, Scratch
from sidecar.core.checks import CHECKS, FILE, READS, ROOM, SAID, judge
from sidecar.core.evidence import Evidence
from sidecar.core.finding import Reason, Status
from sidecar.core.held import Held
from sidecar.core.model import Claim, ClaimSource, Database, LookResult, Outcome
from sidecar.core.policy import Policy
from sidecar.core.verdict import FleetVerdict, Verdict, database_document, fleet_document, text_lines, verdict_of
from sidecar.core.verdict_text import fleet_text
from tests.core import evidences
from tests.core.evidences import NOW, database, healthy, histories, live, unknown

FREE = Scratch(NOW, 10**12)
SOON = NOW + timedelta(seconds=1)
APP = database()
POLICIES = (Policy(), Policy(parity=False), Policy(max_lag=timedelta(seconds=10), drill_max_age=timedelta(hours=1)))
STEPS = st.one_of(
    st.timedeltas(timedelta(0), timedelta(seconds=40)),
    st.timedeltas(timedelta(0), timedelta(days=30)),
    st.timedeltas(timedelta(days=-2), timedelta(0)),  # the clock is set back
    st.sampled_from([timedelta(seconds=15), timedelta(seconds=60), timedelta(minutes=2), timedelta(hours=24)]),
)


def asked(
    held: Held, known: Evidence, now: datetime, policy: Policy, room: Scratch | None, of: Database = APP
) -> Verdict:
    """Asked of what is held, and held against what judging afresh says."""
    fresh = verdict_of(of, known, policy, room, now)
    found = held.judge(of, known, policy, room, now)
    assert (found.ready, found.retryable, found.judged.blocking) == (
        fresh.ready,
        fresh.retryable,
        fresh.judged.blocking,
    )
    assert held.aged(found) == fresh
    told = FleetVerdict((held.told(found),), now)
    assert text_lines(told) == text_lines(FleetVerdict((fresh,), now))
    assert held.text(found) == json.dumps(database_document(fresh))
    return found


def new(known: Evidence) -> Held:
    return Held(APP, known, POLICIES[0], FREE)


@given(
    histories(),
    st.lists(
        st.tuples(
            STEPS,
            st.none() | evidences.events,
            st.sampled_from(POLICIES),
            st.sampled_from([None, FREE, Scratch(NOW, 1)]),
        ),
        max_size=6,
    ),
)
@settings(deadline=None, max_examples=150)
def test_what_is_held_is_what_judging_afresh_would_say(known: Evidence, steps: list[Any]) -> None:
    held, now = new(known), NOW
    asked(held, known, now, POLICIES[0], FREE)
    for step, event, policy, room in steps:
        now += step
        known = event(known, now) if event is not None else known
        asked(held, known, now, policy, room)


@given(st.lists(STEPS, min_size=1, max_size=4))
@settings(deadline=None, max_examples=100)
def test_a_healthy_database_turns_by_time_alone_to_the_instant(steps: list[timedelta]) -> None:
    known, now = healthy(), NOW
    held = new(known)
    for step in steps:
        now += step
        asked(held, known, now, POLICIES[0], FREE)


def turns() -> list[datetime]:
    """Every instant at which a finding about a healthy database may turn, and the least before and after it."""
    found = [each.holds.until for each in judge(healthy(), Policy(), FREE, SOON).findings if each.holds is not None]
    least = timedelta(microseconds=1)
    return sorted({at for until in found if until.year < NOW.year + 1 for at in (until - least, until, until + least)})


def test_at_each_instant_at_which_something_turns_it_turns() -> None:
    known, held = healthy(), new(healthy())
    assert len(turns()) >= 3 * 6
    ready = [asked(held, known, at, POLICIES[0], FREE).ready for at in (SOON, *turns())]
    assert ready[0]
    assert not ready[-1]
    assert ready == sorted(ready, reverse=True)


CHANGES: dict[str, Callable[[Evidence], Evidence]] = {
    "claim": lambda known: known.after_claim(evidences.claim(managed=False)),
    "look": lambda known: known.after_sighting(live(), evidences.looked(LookResult.AUTH)),
    "production": lambda known: known.after_live(live(file_id=None)),
    "drill": lambda known: known.after_drill(evidences.drill(NOW, Outcome.FAILED, "file_corrupt")),
    "content": lambda known: known.after_content(evidences.uncounted(tables={}), None),
    "check": lambda known: known.after_database_check(evidences.database_check(sound=False, reason="db_corrupt")),
}


@pytest.mark.parametrize("what", CHANGES)
def test_new_evidence_counts_at_once(what: str) -> None:
    known = healthy()
    held = new(known)
    assert asked(held, known, NOW, POLICIES[0], FREE).ready
    assert not asked(held, CHANGES[what](known), NOW, POLICIES[0], FREE).ready
    assert asked(held, known, NOW, POLICIES[0], FREE).ready


def test_another_policy_counts_at_once() -> None:
    known, now = healthy(), NOW + timedelta(seconds=30)
    held = new(known)
    assert asked(held, known, now, POLICIES[0], FREE).ready
    assert not asked(held, known, now, Policy(max_lag=timedelta(seconds=10)), FREE).ready
    assert asked(held, known, now, POLICIES[0], FREE).ready


def test_the_room_for_drills_counts_at_once() -> None:
    known, held = healthy(), new(healthy())
    found = [
        next(
            each.status
            for each in asked(held, known, SOON, POLICIES[0], room).judged.findings
            if each.name == "scratch"
        )
        for room in (FREE, Scratch(NOW, 1), FREE, None, FREE)
    ]
    assert found == [Status.PASS, Status.WARN, Status.PASS, Status.WARN, Status.PASS]


def test_a_clock_that_was_set_back_counts_at_once() -> None:
    known, held = healthy(), new(healthy())
    assert asked(held, known, NOW, POLICIES[0], FREE).ready
    assert not asked(held, known, NOW - timedelta(hours=1), POLICIES[0], FREE).ready
    assert asked(held, known, NOW, POLICIES[0], FREE).ready
    assert not asked(held, known, NOW + timedelta(minutes=3), POLICIES[0], FREE).ready
    assert asked(held, known, NOW, POLICIES[0], FREE).ready


def test_another_database_at_the_path_shows_at_once() -> None:
    known, held = healthy(), new(healthy())
    asked(held, known, NOW, POLICIES[0], FREE)
    asked(
        held, known, NOW, POLICIES[0], FREE, of=replace(APP, name='o"dd\\\n\udcff', replica=evidences.replica("gs://ü"))
    )


def test_where_a_check_fails_nothing_of_before_is_shown() -> None:
    known: Evidence = healthy()
    held, broken = new(known), replace(known, sighting="no sighting")  # type: ignore[arg-type] # so that checks fail
    assert asked(held, known, SOON, POLICIES[0], FREE).ready
    for _ in range(3):
        with pytest.raises(AttributeError):
            held.judge(APP, broken, POLICIES[0], FREE, SOON)
    assert asked(held, known, SOON, POLICIES[0], FREE).ready


def test_what_does_not_change_is_not_judged_again() -> None:
    known, held = healthy(), new(healthy())
    first = held.judge(APP, known, POLICIES[0], FREE, SOON)
    again = held.judge(APP, known, POLICIES[0], FREE, NOW + timedelta(seconds=5))
    assert again.judged is first.judged
    later = held.judge(APP, known.after_claim(evidences.claim()), POLICIES[0], FREE, NOW + timedelta(seconds=5))
    kept = {new.name for old, new in zip(first.judged.findings, later.judged.findings, strict=True) if old is new}
    assert {"replica", "snapshot", "chain", "drill", "identity", "database", "schema", "scratch"} <= kept


# What checks say of themselves


class Watched(Evidence):
    """Evidence that writes down which of its fields are read."""

    __slots__ = ("_read",)

    def __getattribute__(self, name: str) -> Any:
        if name in FIELDS:
            object.__getattribute__(self, "_read").add(name)
        return object.__getattribute__(self, name)


FIELDS = {each.name for each in fields(Evidence)}


def watched(known: Evidence) -> Watched:
    made = object.__new__(Watched)
    object.__setattr__(made, "_read", set())
    for name in FIELDS:
        object.__setattr__(made, name, getattr(known, name))
    return made


@given(histories(), st.timedeltas(timedelta(0), timedelta(minutes=2)), st.sampled_from(POLICIES))
@settings(deadline=None, max_examples=100)
def test_a_check_reads_no_more_than_stands_in_the_table_where_its_answer_may_be_held(
    known: Evidence, later: timedelta, policy: Policy
) -> None:
    for name, check in CHECKS.items():
        seen = watched(known)
        finding = check(Case(seen, policy, FREE, NOW + later))
        if finding is None or finding.holds is None:
            continue
        listed = {{FILE: "live", SAID: "claim"}.get(each, each) for each in READS[name]} - {ROOM}
        assert object.__getattribute__(seen, "_read") <= listed, name


@given(histories(), st.timedeltas(timedelta(0), timedelta(days=3)))
@settings(deadline=None, max_examples=100)
def test_no_finding_that_blocks_is_ever_held(known: Evidence, later: timedelta) -> None:
    for finding in judge(known, Policy(), FREE, NOW + later).findings:
        assert finding.holds is None or not finding.status.blocks


def test_the_table_names_every_check() -> None:
    assert list(READS) == list(CHECKS)
    assert {each for names in READS.values() for each in names} <= FIELDS | {ROOM, FILE, SAID}


# The text


@given(st.lists(st.sampled_from([healthy(), unknown(), CHANGES["drill"](healthy())]), max_size=3))
@settings(deadline=None, max_examples=30)
def test_the_body_of_ready_is_the_document_to_the_byte(known: list[Evidence]) -> None:
    verdicts = tuple(
        verdict_of(database(f"db{number}"), each, Policy(), FREE, NOW) for number, each in enumerate(known)
    )
    whole = FleetVerdict(verdicts, NOW)
    texts = [json.dumps(database_document(each)) for each in verdicts]
    assert fleet_text(whole, "1.0.0", texts) == json.dumps(fleet_document(whole, "1.0.0"))


def test_local_files_that_say_the_same_after_a_look_may_say_that_the_replica_is_ahead() -> None:
    """Before the look had ended they proved nothing of that; only when they were read has changed."""
    shown = replace(evidences.listing(txid=45), read_at=NOW)
    seen = replace(evidences.seen(NOW, shown), finished_at=NOW + timedelta(seconds=2))
    before = replace(healthy(), sighting=seen, listing=shown, covered_at=NOW)
    held = new(before)
    assert asked(held, before, SOON, POLICIES[0], FREE).judged.findings[2].status is Status.PASS
    assert before.live is not None
    after = replace(before, live=replace(before.live, read_at=NOW + timedelta(seconds=3)))
    ahead = asked(held, after, NOW + timedelta(seconds=4), POLICIES[0], FREE)
    assert {each.name: each.reason for each in ahead.judged.blocking} == {"lag": Reason.REPLICA_AHEAD}


def test_whatever_litestream_says_anew_is_heard() -> None:
    """Everything it can say, but for when it was asked and what it last did."""
    said: dict[str, Any] = {
        "source": ClaimSource.NONE, "up": False, "managed": False, "started_at": NOW, "txid": 99, "sync_error": "no room",
        "error": "refused", "version": "0.5.18",
    }  # fmt: skip
    heard = {each.name for each in fields(Claim)} - {"read_at", "last_sync_at", "pid"}
    assert set(said) == heard, "a fact that this test does not know"
    for first in (None, "the disk is full"):
        known = replace(healthy(), live=None, claim=evidences.claim(sync_error=first))
        assert known.claim is not None
        for name, value in said.items():
            held = new(known)
            asked(held, known, SOON, POLICIES[0], FREE)
            another = replace(known, claim=replace(known.claim, **{name: value}))
            asked(held, another, SOON + timedelta(seconds=1), POLICIES[0], FREE)
