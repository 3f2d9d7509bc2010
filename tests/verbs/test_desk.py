"""The drill desk: one drill per database at a time, whoever asks, and however many threads do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from sidecar.desk import FINISHED_KEPT_MAX, DrillDesk, Ticket


@pytest.fixture
def desk() -> DrillDesk:
    numbers = count(1)
    return DrillDesk(lambda: f"drill-{next(numbers)}")


def test_a_drill_is_queued_then_runs_then_has_an_outcome_under_one_id(desk: DrillDesk) -> None:
    asked = desk.request("/a")
    assert asked == Ticket("drill-1", "/a", "queued")
    assert desk.queued() == ("/a",)
    assert desk.begin("/a") == "drill-1"
    assert desk.queued() == ()
    assert desk.running == 1
    assert desk.find("drill-1") == desk.open_at("/a") == Ticket("drill-1", "/a", "running")
    desk.finish("/a", "passed")
    assert desk.running == 0
    assert desk.open_at("/a") is None
    assert desk.find("drill-1") == Ticket("drill-1", "/a", "passed")


def test_a_second_request_gets_the_queued_or_running_one(desk: DrillDesk) -> None:
    first = desk.request("/a")
    assert desk.request("/a") == first
    desk.begin("/a")
    assert desk.request("/a") == Ticket(first.id, "/a", "running")
    assert desk.request("/b").id != first.id


def test_a_request_for_a_database_under_a_scheduled_drill_gets_that_one(desk: DrillDesk) -> None:
    running = desk.begin("/a")
    assert desk.request("/a") == Ticket(running, "/a", "running")


def test_after_one_has_ended_the_next_request_is_a_new_one(desk: DrillDesk) -> None:
    first = desk.request("/a")
    desk.begin("/a")
    desk.finish("/a", "failed")
    assert desk.request("/a").id != first.id


def test_the_queue_is_in_the_order_of_asking(desk: DrillDesk) -> None:
    for path in ("/c", "/a", "/b", "/a"):
        desk.request(path)
    assert desk.queued() == ("/c", "/a", "/b")


def test_databases_that_left_the_fleet_leave_the_queue_but_not_their_seat(desk: DrillDesk) -> None:
    desk.request("/gone")
    desk.request("/stays")
    running = desk.begin("/runs")
    desk.drop(frozenset({"/stays"}))
    assert desk.queued() == ("/stays",)
    assert desk.find(running) == Ticket(running, "/runs", "running")


def test_only_the_latest_finished_ones_are_kept(desk: DrillDesk) -> None:
    for number in range(FINISHED_KEPT_MAX + 5):
        desk.begin(f"/{number}")
        desk.finish(f"/{number}", "passed")
    assert desk.find("drill-5") is None
    assert desk.find("drill-6") is not None
    assert desk.find(f"drill-{FINISHED_KEPT_MAX + 5}") is not None


def test_what_nobody_knows_is_none_and_ends_without_a_word(desk: DrillDesk) -> None:
    desk.finish("/a", "passed")
    assert desk.find("drill-1") is None


def test_many_threads_that_ask_at_once_get_one_drill(desk: DrillDesk) -> None:
    with ThreadPoolExecutor(8) as pool:
        tickets = list(pool.map(lambda _: desk.request("/a"), range(200)))
    assert len({ticket.id for ticket in tickets}) == 1
