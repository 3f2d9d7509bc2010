"""The trace of lags: a minute's worst, a day long, bounded; over a clock that is set by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

from sidecar import trace
from sidecar.trace import LagTrace
from tests.fakes import House, healthy


def behind(house: House, seconds: float | None, path: str = "/data/app.db") -> None:
    """From now on this database is so far behind; None: nobody knows."""
    at = house.clock.at - timedelta(seconds=seconds) if seconds is not None else None
    house.ledger.evidence[path] = replace(house.ledger.evidence[path], covered_at=at, covered_live=None)


def turn(house: House, made: LagTrace, seconds: float | None, after: float = 60) -> None:
    house.clock.go(timedelta(seconds=after))
    behind(house, seconds)
    made.turned()


def watched(**bounds: int) -> tuple[House, LagTrace]:
    house = House()
    house.add("app", healthy())
    return house, LagTrace(house.answers, **bounds)


def test_there_is_no_curve_before_the_first_turn() -> None:
    house, made = watched()
    assert made.curve("/data/app.db") is None
    made.turned()
    curve = made.curve("/data/app.db")
    assert curve is not None
    assert (list(curve.at), list(curve.seconds)) == ([house.clock.at], [0.0])
    assert made.curve("/data/other.db") is None


def test_the_worst_of_a_minute_is_kept() -> None:
    house, made = watched()
    for seconds in (3, None, 40, 5):
        turn(house, made, seconds, after=6)
    turn(house, made, 1)
    curve = made.curve("/data/app.db")
    assert curve is not None
    assert list(curve.seconds) == [40.0, 1.0]


def test_what_nobody_knows_is_a_gap_and_no_zero() -> None:
    house, made = watched()
    for seconds in (2, None, 4):
        turn(house, made, seconds)
    curve = made.curve("/data/app.db")
    assert curve is not None
    assert [each if not math.isnan(each) else None for each in curve.seconds] == [2.0, None, 4.0]


def test_turns_between_cost_nothing() -> None:
    house, made = watched()
    made.turned()
    reads = house.ledger.reads
    house.clock.go(timedelta(seconds=2))
    made.turned()
    assert house.ledger.reads == reads


def test_a_day_is_kept_and_no_more() -> None:
    house, made = watched()
    for minute in range(trace.SLOTS_MAX + 30):
        turn(house, made, minute % 7)
    curve = made.curve("/data/app.db")
    assert curve is not None
    assert len(curve.seconds) == len(curve.at) == trace.SLOTS_MAX
    assert curve.at[-1] - curve.at[0] == timedelta(minutes=trace.SLOTS_MAX - 1)


def test_many_databases_get_a_shorter_trace_each() -> None:
    house, made = watched(values_max=40)
    for number in range(9):
        house.add(f"more-{number}", healthy())
    for _ in range(10):
        turn(house, made, 1)
    curve = made.curve("/data/app.db")
    assert curve is not None
    assert len(curve.seconds) == 4


def test_a_database_that_comes_later_has_its_own_times_and_one_that_leaves_is_forgotten() -> None:
    house, made = watched()
    turn(house, made, 1)
    turn(house, made, 1)
    house.add("late", healthy(house.clock.at))
    turn(house, made, 1)
    late = made.curve("/data/late.db")
    assert late is not None
    assert list(late.at) == [house.clock.at]
    house.remove("late")
    turn(house, made, 1)
    assert made.curve("/data/late.db") is None


def test_a_clock_that_is_set_back_begins_a_new_minute() -> None:
    house, made = watched()
    turn(house, made, 1)
    house.clock.at -= timedelta(hours=3)
    turn(house, made, 2, after=6)
    turn(house, made, 3, after=6)
    curve = made.curve("/data/app.db")
    assert curve is not None
    assert list(curve.seconds) == [1.0, 3.0]
