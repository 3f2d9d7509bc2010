"""What a drill will need, by what the last ones took; and that no forecast ever keeps a database from being tried again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.case import room_for
from sidecar.core.checks import READS
from sidecar.core.errors import Overdue, SidecarError
from sidecar.core.evidence import Evidence
from sidecar.core.finding import Status
from sidecar.core.forecast import (
    COMPRESSION_MAX,
    FIXED_BYTES,
    LATE,
    TRY_EVERY,
    Forecast,
    Wanted,
    about,
    drill_like_last,
    forecast,
    restore_like_last,
    scratch_bytes,
    why_not,
)
from sidecar.core.live_state import LiveState
from sidecar.core.model import CheckKind, Drill, Outcome
from sidecar.core.parity import ParityResult
from tests.core.evidences import NOW, PAGE, capture, drill, finding, histories, live, parity, unknown

MB = 1_000_000
QUICK, FULL = Wanted(CheckKind.QUICK, parity=False), Wanted(CheckKind.FULL, parity=False)
COMPARED = Wanted(CheckKind.QUICK, parity=True)
OUT_OF_REACH = live(file_id=None, captures=())
sizes = st.integers(0, 10**13)
spent = st.floats(0, 10**5)
measured = st.one_of(st.none(), spent)


def large(size: int) -> LiveState:
    """Production of this size, with nothing in the WAL."""
    return live(size_bytes=size, wal_bytes=0, captures=())


def took(size: int = 100 * MB, **facts: Any) -> Drill:
    """A passed drill of this size that was measured throughout."""
    figures: dict[str, Any] = {
        "plan_seconds": 1.0,
        "restore_seconds": 10.0,
        "check_seconds": 5.0,
        "parity_seconds": 3.0,
        "size_bytes": size,
    }
    return drill(**(figures | facts))


def after(*drills: Drill) -> Evidence:
    known = unknown(NOW - timedelta(days=1))
    for number, each in enumerate(drills):
        known = known.after_drill(replace(each, finished_at=NOW + timedelta(minutes=number)))
    return known


# Time


def test_the_same_size_takes_the_same_time() -> None:
    ahead = forecast(after(took()), large(100 * MB), COMPARED)
    assert (ahead.plan_seconds, ahead.restore_seconds, ahead.check_seconds, ahead.parity_seconds) == (1, 10, 5, 3)
    assert (ahead.rto_seconds, ahead.seconds, ahead.size_bytes) == (11, 19, 100 * MB)


def test_what_is_much_larger_takes_longer_by_its_bytes_and_the_plan_does_not() -> None:
    ahead = forecast(after(took()), large(1000 * MB), QUICK)
    assert ahead.restore_seconds == pytest.approx(10 * (1000 * MB + FIXED_BYTES) / (100 * MB + FIXED_BYTES))
    assert (ahead.plan_seconds, ahead.parity_seconds) == (1, 0)


def test_small_databases_take_what_small_databases_take() -> None:
    ahead = forecast(after(took(10_000, restore_seconds=0.1)), large(100_000), QUICK)
    assert ahead.restore_seconds is not None
    assert 0.1 <= ahead.restore_seconds < 0.11, "ten times the bytes, but most of it is a process that starts"


@given(size=sizes, other=sizes, before=sizes.filter(bool), seconds=spent)
def test_more_bytes_never_take_less_time(size: int, other: int, before: int, seconds: float) -> None:
    known = after(took(before, restore_seconds=seconds))
    less, more = (forecast(known, large(each), QUICK).restore_seconds for each in sorted((size, other)))
    assert less is not None
    assert more is not None
    assert 0 <= less <= more


def test_a_database_never_drilled_has_no_forecast_of_time_or_memory() -> None:
    for known in (unknown(), after(drill(outcome=Outcome.INCONCLUSIVE, reason="timeout", restore_seconds=1800.0))):
        ahead = forecast(known, large(MB), COMPARED, 5000)
        assert ahead == Forecast(scratch_bytes=room_for(MB))
        assert (ahead.rto_seconds, ahead.seconds, ahead.seconds_min) == (None, None, 0)
        assert (restore_like_last(known), drill_like_last(known)) == (None, None)


def test_a_stage_that_was_cut_off_or_found_nothing_out_teaches_nothing() -> None:
    cut = drill(
        outcome=Outcome.INCONCLUSIVE, reason="timeout", restore_seconds=0.1, check_seconds=0.1, size_bytes=100 * MB
    )
    blind = took(parity=parity(ParityResult.INCONCLUSIVE), parity_seconds=0.01)
    assert forecast(after(took(), cut), large(100 * MB), QUICK).restore_seconds == 10
    assert forecast(after(blind), large(100 * MB), COMPARED).parity_seconds is None
    assert forecast(after(blind), large(100 * MB), COMPARED).seconds is None
    assert forecast(after(took(), blind), large(100 * MB), COMPARED).parity_seconds == 3


def test_an_audit_and_a_quick_check_are_each_foretold_by_their_own_kind() -> None:
    first, second = took(), took(check=CheckKind.FULL, restore_seconds=11.0, check_seconds=50.0, parity=None)
    assert forecast(after(first), large(100 * MB), FULL).check_seconds is None
    assert forecast(after(first), large(100 * MB), FULL).seconds is None
    both = after(first, second)
    assert forecast(both, large(100 * MB), FULL).check_seconds == 50
    assert forecast(both, large(100 * MB), COMPARED).check_seconds == 5, "of the one before, which compared"
    assert forecast(both, large(100 * MB), QUICK).restore_seconds == 11, "the newest that passed"


def test_the_size_is_what_litestream_says_of_pages_and_not_the_wal() -> None:
    there = live(size_bytes=50 * PAGE, wal_bytes=10**9, captures=(replace(capture(42), page_count=60),))
    ahead = forecast(after(took()), there, QUICK)
    assert ahead.size_bytes == 60 * PAGE
    assert ahead.scratch_bytes == room_for(50 * PAGE + 10**9), "room is for the worst"


def test_without_production_the_database_is_as_large_as_it_was() -> None:
    assert forecast(after(took()), OUT_OF_REACH, QUICK).restore_seconds == 10
    assert forecast(after(took()), None, QUICK).restore_seconds == 10


def test_a_drill_like_the_last_one_is_compared_where_that_was() -> None:
    assert drill_like_last(after(took())) == 19
    assert drill_like_last(after(took(parity=None, parity_seconds=None))) == 16
    assert drill_like_last(after(took(check_seconds=None))) is None


@given(
    before=sizes.filter(bool),
    size=sizes,
    check=st.sampled_from(CheckKind),
    with_parity=st.booleans(),
    seconds=st.lists(measured, min_size=3, max_size=3),
)
def test_what_scrapes_are_told_is_what_drills_are_foretold(
    before: int, size: int, check: CheckKind, *, with_parity: bool, seconds: list[float | None]
) -> None:
    plan, restore, checked = seconds
    compared = {} if with_parity else {"parity": None, "parity_seconds": None}
    known = after(
        took(before, check=check, plan_seconds=plan, restore_seconds=restore, check_seconds=checked, **compared)
    )
    known = known.after_live(large(size))
    ahead = forecast(known, known.live, Wanted(check, with_parity))
    assert restore_like_last(known) == ahead.rto_seconds
    assert drill_like_last(known) == pytest.approx(ahead.seconds)


# Memory


def test_memory_is_what_the_last_restore_took_and_more_for_a_larger_database() -> None:
    known = after(took(memory_bytes=40 * MB), took(1000 * MB, memory_bytes=136 * MB))
    assert forecast(known, large(1000 * MB), QUICK).memory_bytes == 136 * MB
    more = forecast(known, large(2000 * MB), QUICK).memory_bytes
    assert more is not None
    assert 220 * MB < more < 250 * MB
    assert forecast(after(took()), large(MB), QUICK).memory_bytes is None


# Scratch: one number for the drill and for the check


def test_room_is_wanted_for_production_else_for_what_came_back_last_else_for_what_files_unpack_to() -> None:
    known = after(took(100 * MB))
    assert scratch_bytes(known, large(7 * MB), 5000) == room_for(7 * MB), "it was emptied: no more than it is now"
    assert scratch_bytes(known, OUT_OF_REACH, 5000) == room_for(100 * MB)
    assert scratch_bytes(unknown(), OUT_OF_REACH, 5000) == room_for(5000 * COMPRESSION_MAX)
    assert scratch_bytes(unknown(), None) is None


@given(known=histories(), plan_bytes=sizes)
def test_the_check_scratch_says_what_the_drill_asks_for(known: Evidence, plan_bytes: int) -> None:
    found, asked = finding("scratch", known), forecast(known, known.live, QUICK, plan_bytes).scratch_bytes
    assert found.limit == asked or scratch_bytes(known, known.live) is None
    assert found.limit is not None
    assert found.limit >= room_for(0)


def test_room_for_what_nobody_knows_is_said_to_be_not_known() -> None:
    found = finding("scratch", unknown())
    assert (found.status, found.message) == (
        Status.PASS,
        "there is room for the next drill, whose size is not known yet",
    )


def test_the_check_is_judged_again_whenever_what_it_reads_is_new() -> None:
    assert {"live", "last_drill", "last_passed", "last_compared", "last_audit"} <= set(READS["scratch"])


# Whether to begin


def reason(
    ahead: Forecast, known: Evidence, check: CheckKind = CheckKind.QUICK, free: int | None = None
) -> SidecarError | None:
    return why_not(ahead, known, check, limit_s=1800.0, memory_free_bytes=free)


def lasting(seconds: float) -> Forecast:
    return Forecast(restore_seconds=seconds, check_seconds=0.0, parity_seconds=0.0)


CUT_OFF = drill(outcome=Outcome.INCONCLUSIVE, reason="timeout")
RACED = drill(outcome=Outcome.INCONCLUSIVE, reason="raced")


def test_a_drill_that_cannot_end_in_time_is_not_begun_and_says_so() -> None:
    error = reason(lasting(3120), after(took(), CUT_OFF))
    assert isinstance(error, Overdue)
    assert error.message == "the drill would take about 52 min by what the last ones took (drill-timeout 30 min)"
    assert "policy.drill-timeout" in error.hint
    assert "POST /drills" in error.hint


@pytest.mark.parametrize(
    ("seconds", "before", "begun"),
    [
        (1799, CUT_OFF, True), (1801, CUT_OFF, False),
        (1801, took(), True), (1800 * LATE - 1, took(), True), (1800 * LATE + 1, took(), False),
        (1801, RACED, True), (1800 * LATE + 1, RACED, False),
    ],
)  # fmt: skip
def test_a_forecast_must_be_beyond_doubt_or_the_last_drill_cut_off(
    seconds: float, before: Drill, *, begun: bool
) -> None:
    assert (reason(lasting(seconds), after(before)) is None) is begun


def test_what_is_known_of_some_stages_suffices() -> None:
    assert reason(Forecast(restore_seconds=5000.0), after(took())) is not None
    assert reason(Forecast(), after(took(), CUT_OFF)) is None


def test_integrity_check_alone_keeps_no_audit_from_being_made() -> None:
    ahead = Forecast(restore_seconds=10.0, check_seconds=9000.0, parity_seconds=0.0)
    assert reason(ahead, after(took()), CheckKind.FULL) is None
    assert reason(ahead, after(took())) is not None
    assert reason(lasting(9000), after(took()), CheckKind.FULL) is not None, "the restore does"


def test_less_memory_than_it_took_postpones_and_says_so() -> None:
    ahead = Forecast(memory_bytes=136 * MB)
    error = reason(ahead, after(took()), free=50 * MB)
    assert error is not None
    assert not isinstance(error, Overdue)
    assert error.message == "the restore would need about 136 MB of memory by what the last one took, 50 MB are free"
    assert "resources.limits.memory" in error.hint
    assert reason(ahead, after(took()), free=136 * MB) is None
    assert reason(ahead, after(took()), free=None) is None
    assert reason(Forecast(), after(took()), free=0) is None


forecasts = st.builds(
    Forecast, plan_seconds=measured, restore_seconds=measured, check_seconds=measured, parity_seconds=measured,
    memory_bytes=st.one_of(st.none(), sizes),
)  # fmt: skip
limits = st.floats(0, 10**5)
free = st.one_of(st.none(), sizes)


@given(
    known=histories(), turns=st.lists(st.tuples(forecasts, limits, free), min_size=TRY_EVERY, max_size=TRY_EVERY),
    checks=st.lists(st.sampled_from(CheckKind), min_size=TRY_EVERY, max_size=TRY_EVERY),
)  # fmt: skip
def test_whatever_happened_and_whatever_is_foretold_one_of_every_few_drills_is_begun(
    known: Evidence, turns: list[tuple[Forecast, float, int | None]], checks: list[CheckKind]
) -> None:
    for (ahead, limit_s, free_bytes), check in zip(turns, checks, strict=True):
        error = why_not(ahead, known, check, limit_s=limit_s, memory_free_bytes=free_bytes)
        if error is None:
            return
        word = "timeout" if isinstance(error, Overdue) else "restore_failed"
        known = known.after_drill(drill(outcome=Outcome.INCONCLUSIVE, reason=word, check=check))
    pytest.fail("none was begun")


@given(ahead=forecasts, limit_s=limits, free_bytes=free, check=st.sampled_from(CheckKind))
def test_what_nobody_knows_refuses_nothing(
    ahead: Forecast, limit_s: float, free_bytes: int | None, check: CheckKind
) -> None:
    known = after(took(), CUT_OFF)
    assert why_not(Forecast(), known, check, limit_s=limit_s, memory_free_bytes=free_bytes) is None
    fits = replace(ahead, plan_seconds=None, restore_seconds=None, check_seconds=None, parity_seconds=None)
    assert why_not(fits, known, check, limit_s=limit_s, memory_free_bytes=None) is None


@given(known=histories(), ahead=forecasts, limit_s=limits, more=limits, check=st.sampled_from(CheckKind))
def test_more_time_never_keeps_a_drill_from_being_begun(
    known: Evidence, ahead: Forecast, limit_s: float, more: float, check: CheckKind
) -> None:
    if why_not(ahead, known, check, limit_s=limit_s, memory_free_bytes=None) is None:
        assert why_not(ahead, known, check, limit_s=limit_s + more, memory_free_bytes=None) is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.25, "0.2 s"), (45, "45 s"), (119, "119 s"), (1800, "30 min"), (3120, "52 min"), (12_240, "3.4 h")],
)
def test_seconds_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert about(seconds) == said
