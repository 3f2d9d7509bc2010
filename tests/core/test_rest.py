"""What rests is listed less often, is not taken for overdue meanwhile, and is looked at as soon as it wakes up."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sidecar.core.budget import Spender, pace
from sidecar.core.case import Case
from sidecar.core.checks import replica
from sidecar.core.coverage import REST_MAX, hours_at_rest
from sidecar.core.evidence import Evidence
from sidecar.core.finding import Reason, Status
from sidecar.core.model import LookResult
from sidecar.core.policy import Policy
from sidecar.core.schedule import Busy, Seats, Subject, due
from sidecar.core.turns import look_due_at
from tests.core.evidences import NOW, ROOM, capture, healthy, listing, live, looked, seen

POLICY = Policy()
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def resting(hours: float) -> Evidence:
    """Written to last so long ago, all of it in the replica, and just looked at."""
    written = NOW - hours * HOUR
    files = live(NOW, modified_at=written, captures=(capture(at=written),))
    return healthy().after_sighting(files, seen(NOW, listing(NOW)))


@pytest.mark.parametrize(("hours", "rest"), [(0, 1), (1.9, 1), (2, 2), (5.5, 5), (59, 59), (999, REST_MAX), (-3, 1)])
def test_hours_count_from_the_last_write(hours: float, rest: int) -> None:
    assert hours_at_rest(live(NOW, modified_at=NOW - hours * HOUR)) == rest
    assert hours_at_rest(live(NOW, modified_at=None)) == 1


@pytest.mark.parametrize(("hours", "every"), [(1, MINUTE), (3, 3 * MINUTE), (10, 10 * MINUTE), (500, 10 * MINUTE)])
def test_looks_come_the_more_seldom_the_longer_it_rests(hours: float, every: timedelta) -> None:
    assert look_due_at(resting(hours), POLICY) == NOW + every
    assert look_due_at(resting(hours), Policy(look_at_rest_every=MINUTE)) == NOW + MINUTE, "it can be switched off"
    slow = Policy(look_every=HOUR)
    assert look_due_at(resting(hours), slow) == NOW + HOUR, "never more often than asked for, nor more seldom"


def test_only_what_is_known_to_be_whole_in_the_replica_rests() -> None:
    files = live(NOW, frames=4, modified_at=NOW - 5 * HOUR, captures=(capture(at=NOW - 5 * HOUR),))
    behind = healthy().after_sighting(files, seen(NOW, listing(NOW)))
    assert behind.sighting is not None
    assert behind.sighting.rest == 1
    failed = resting(5).after_sighting(live(NOW), looked(LookResult.UNREACHABLE, NOW))
    assert look_due_at(failed, POLICY) <= NOW + MINUTE


def test_whoever_wakes_up_is_looked_at_at_once_and_is_not_red_meanwhile() -> None:
    known, later = resting(24), NOW + 9 * MINUTE
    awake = known.after_live(live(later, frames=9, modified_at=later))
    assert look_due_at(awake, POLICY) < later
    assert replica(Case(awake, POLICY, ROOM, later)).status is Status.PASS


def test_a_look_that_does_not_come_is_said_after_some_were_missed() -> None:
    known = resting(5)
    found = replica(Case(known, POLICY, ROOM, NOW + 9 * MINUTE))
    assert found.status is Status.PASS
    late = replica(Case(known, POLICY, ROOM, NOW + 18 * MINUTE))
    assert (late.status, late.reason) == (Status.UNKNOWN, Reason.TIMEOUT)
    assert replica(Case(resting(1), POLICY, ROOM, NOW + 6 * MINUTE)).status is Status.UNKNOWN


def test_the_planner_waits_and_notices_a_clock_that_was_set_back() -> None:
    fleet, seats, idle = {"a": Subject.of(resting(24), POLICY)}, Seats(1, 0), Busy(frozenset(), frozenset())

    def looks(after: timedelta) -> tuple[str, ...]:
        return due(fleet, NOW + after, seats=seats, busy=idle).looks

    assert [looks(each * MINUTE) for each in (1, 9)] == [(), ()]
    assert looks(10 * MINUTE) == ("a",)
    assert looks(-HOUR) == ("a",), "else nobody would look for an hour"


def test_the_budget_knows_of_it() -> None:
    awake, rested = Spender(POLICY, changing=False, each=1), Spender(POLICY, changing=False, each=1, rest=24)
    assert pace([awake], None).requests == pytest.approx(1440)
    assert pace([rested], None).requests == pytest.approx(144)
    assert pace([awake, rested], None).requests == pytest.approx(1584)
