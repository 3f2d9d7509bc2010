"""The planner over a whole fleet: five thousand databases of every kind, some of which never pass, and a clock that jumps.

`tests/core/test_schedule.py` shows what becomes of one database; here it is what they do to each other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from random import Random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sidecar.core.evidence import Evidence
from sidecar.core.instants import CLOCK_SLACK
from sidecar.core.model import CheckKind, LookResult, Outcome
from sidecar.core.policy import Policy
from sidecar.core.schedule import Busy, Seats, Subject, Work, due
from sidecar.core.turns import LONG_AGO, HeavyKind, database_check_due_at, drill_due_at, look_due_at, queues_from
from tests.bench.month import figures_of
from tests.core.evidences import NOW, could_not_check, database_check, drill, healthy, live, looked, seen, unknown
from tests.simulation import Life
from tests.simulation_world import HOUR, World

POLICY = Policy()
IDLE = Busy(frozenset(), frozenset())
POOL = 150  # evidence is made so often and dealt out to all: making five thousand takes longer than planning them
BROKEN = "broken"  # in its path: every drill of it fails, whatever the planner does
# The same examples each time: a red run is to be seen again, and a busy machine is no counterexample.
FEW = settings(
    max_examples=10, derandomize=True, deadline=None, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
Fleet = Mapping[str, Evidence]


def one(dice: Random, *, broken: bool) -> Evidence:
    """Anything that a daemon may know of a database, also from before its clock was set back."""

    def past() -> datetime:
        return NOW - timedelta(seconds=dice.uniform(0, 3 * 86400))

    kind = dice.choice(["never looked", "never drilled", "passed", "passed", "failed", "cannot be listed", "future"])
    if broken:
        kind = "failed"
    if kind == "never looked":
        return unknown(past())
    looked_at, checked_at = past() if dice.random() < 0.5 else NOW, past()
    known = replace(healthy(looked_at), claim=None, last_drill=None, database_check=database_check(checked_at))
    if dice.random() < 0.1:
        known = replace(known, database_check=could_not_check("unreadable", checked_at))
    if kind == "never drilled":
        return replace(known, last_passed=None, last_audit=None, last_compared=None, last_conclusive=None)
    at = NOW + timedelta(seconds=dice.uniform(0, 3 * 86400)) if kind == "future" else past()
    last = drill(at, check=dice.choice(list(CheckKind)))
    if kind == "failed":
        last = drill(at, dice.choice([Outcome.FAILED, Outcome.INCONCLUSIVE, Outcome.ABORTED]), "timeout")
    known = replace(known, last_drill=last, not_passed_in_a_row=dice.randint(1, 12) if kind == "failed" else 0)
    if kind == "cannot be listed":
        results = [each for each in LookResult if each is not LookResult.OK]
        return replace(known, sighting=looked(dice.choice(results), looked_at))
    return known


@dataclass(frozen=True)
class Recipe:
    """What a fleet is made from; a counterexample prints this and not five thousand databases."""

    seed: int
    size: int
    broken: float  # share of databases that never pass


@lru_cache(maxsize=2)
def fleet_of(recipe: Recipe) -> Mapping[str, Evidence]:
    dice, size, broken = Random(recipe.seed), recipe.size, recipe.broken
    fates = {False: [one(dice, broken=False) for _ in range(POOL)], True: [one(dice, broken=True) for _ in range(POOL)]}
    fleet = {}
    for number in dice.sample(range(size), size):  # a path's place in the fleet says nothing
        fate = dice.random() < broken
        fleet[f"/data/{number:04d}{BROKEN if fate else ''}.db"] = dice.choice(fates[fate])
    return fleet


shares = st.sampled_from([0.0, 0.1, 0.9])
fleets = st.builds(Recipe, st.integers(0, 10**6), st.one_of(st.integers(1, 40), st.integers(1, 1500)), shares)
# Ten rounds or more of a fleet each: fewer databases, and seats in proportion.
small_fleets = st.builds(Recipe, st.integers(0, 10**6), st.integers(1, 200), shares)
LARGE = Recipe(7, 5000, 0.1)


def planned(fleet: Fleet, now: datetime = NOW, **more: object) -> Work:
    subjects = {path: Subject.of(evidence, POLICY) for path, evidence in fleet.items()}
    return due(subjects, now, **({"seats": Seats(4, 2), "busy": IDLE} | more))  # type: ignore[arg-type] # as `due` takes them


def believed(at: datetime | None, every: timedelta, now: datetime) -> datetime | None:
    """`at`, which is long ago where a clock that was set back since has put it too far ahead."""
    return LONG_AGO if at is not None and at - now > every + CLOCK_SLACK else at


def waiting(fleet: Fleet, now: datetime) -> dict[tuple[str, HeavyKind], datetime]:
    """Since when each piece of heavy work has stood in the queue."""
    found = {}
    for path, evidence in fleet.items():
        drill_at = believed(drill_due_at(evidence, POLICY), POLICY.drill_every, now)
        check_at = believed(database_check_due_at(evidence, POLICY), POLICY.database_check_every, now)
        for kind, at in ((HeavyKind.DRILL, drill_at), (HeavyKind.DATABASE_CHECK, check_at)):
            if at is not None and at <= now:
                found[path, kind] = queues_from(evidence, POLICY, kind, at)
    return found


def looks_waiting(fleet: Fleet, now: datetime) -> list[str]:
    """Paths whose look is due, those first that wait the most intervals of their own."""
    dues = {path: believed(look_due_at(each, POLICY), POLICY.look_every, now) for path, each in fleet.items()}
    late = {
        path: at if fleet[path].sighting is not None else fleet[path].first_seen_at
        for path, at in dues.items()
        if at is not None and at <= now
    }
    return sorted(late, key=lambda path: (-(now - late[path]) / interval_of(fleet[path]), path))


def interval_of(evidence: Evidence) -> timedelta:
    return POLICY.look_interval if evidence.changing and evidence.sighting is not None else POLICY.look_every


# One plan


@given(
    fleets,
    st.integers(0, 9),
    st.one_of(st.integers(1, 20), st.just(6000)),
    st.integers(0, 6),
    st.randoms(use_true_random=False),
)
@example(LARGE, 3, 20, 5, Random(1)).via("the size that is promised")
@FEW
def test_the_free_seats_go_to_what_was_asked_for_and_then_to_what_waits_longest(
    recipe: Recipe, running: int, seats: int, asking: int, dice: Random
) -> None:
    fleet = fleet_of(recipe)
    paths = sorted(fleet)
    busy = Busy(frozenset(dice.choices(paths, k=running)), frozenset(dice.choices(paths, k=running)))
    asked = dice.sample(paths, min(asking, len(paths)))
    work = planned(fleet, seats=Seats(seats, seats), busy=busy, requested=asked)

    begun = [each.path for each in work.heavy]
    assert len(begun) == len(set(begun)), "one piece of heavy work per database"
    assert not set(begun) & busy.heavy
    free, first = max(seats - len(busy.heavy), 0), set(asked) - busy.heavy
    since = sorted((at, path) for (path, _), at in waiting(fleet, NOW).items())
    others = list(dict.fromkeys(path for _, path in since if path not in busy.heavy and path not in first))
    came_first = min(free, len(first))
    assert set(begun[:came_first]) <= first
    assert all(each.kind is HeavyKind.DRILL for each in work.heavy[:came_first])
    assert begun[came_first:] == others[: free - came_first], (
        "a seat is free while something waits, or its turn was not kept"
    )

    turn = [path for path in looks_waiting(fleet, NOW) if path not in busy.looks]
    assert list(work.looks) == turn[: max(seats - len(busy.looks), 0)]
    drills = {path for path, kind in waiting(fleet, NOW) if kind is HeavyKind.DRILL}
    assert work.drills_due == len(drills | set(asked))


@given(fleets)
@example(LARGE).via("the size that is promised")
@FEW
def test_what_is_not_due_changes_no_plan(recipe: Recipe) -> None:
    """So whoever keeps what is due in order need not ask about the others (`tests/simulation.py` does)."""
    fleet = fleet_of(recipe)
    few = {path for path, _ in waiting(fleet, NOW)} | set(looks_waiting(fleet, NOW))
    assert planned(fleet) == planned({path: fleet[path] for path in few})


# Rounds: each finishes what it has begun


def ended(evidence: Evidence, path: str, kind: HeavyKind, check: CheckKind, now: datetime) -> Evidence:
    if kind is HeavyKind.DATABASE_CHECK:
        return evidence.after_database_check(database_check(now))
    if BROKEN in path:
        return evidence.after_drill(drill(now, Outcome.INCONCLUSIVE, "timeout", check=check))
    return evidence.after_drill(drill(now, check=check))


@given(small_fleets, st.integers(6, 15))
@example(LARGE, 7).via("the size that is promised")
@FEW
def test_everything_due_is_begun_within_its_rounds_also_where_most_never_pass(recipe: Recipe, rounds: int) -> None:
    """What failed comes again within minutes, while the rounds go on; it must not come before what has waited all the time."""
    fleet = fleet_of(recipe)
    left = set(waiting(fleet, NOW))
    seats = max(len(left) // rounds, 1)
    known, now = dict(fleet), NOW
    for _ in range(
        math.ceil(len(left) / seats) + 1
    ):  # and one: a database's two pieces of work are never begun at once
        work = planned(known, now, seats=Seats(0, seats))
        begun = {(each.path, each.kind) for each in work.heavy}
        assert not left or begun & left, "a whole round went to what was not due at the beginning"
        now += timedelta(minutes=2)
        for each in work.heavy:
            known[each.path] = ended(known[each.path], each.path, each.kind, each.check, now)
        left -= begun
        left &= set(waiting({path: known[path] for path, _ in left}, now))  # a drill that compares is a check, too
        if not left:
            return
    pytest.fail(f"{len(left)} wait still: {sorted(left)[:5]}")


@given(small_fleets, st.integers(3, 10))
@example(LARGE, 3).via("the size that is promised")
@FEW
def test_every_look_has_its_turn(recipe: Recipe, rounds: int) -> None:
    """What is looked at more often may overtake, and soon no more."""
    fleet = fleet_of(recipe)
    left = set(looks_waiting(fleet, NOW))
    seats = max(len(left) // rounds, 2)
    known, now = dict(fleet), NOW
    for _ in range(2 * math.ceil(len(left) / seats) + 2):
        work = planned(known, now, seats=Seats(seats, 0))
        now += timedelta(seconds=50)
        for path in work.looks:
            result = seen(now) if BROKEN not in path else looked(LookResult.TIMEOUT, now)
            known[path] = known[path].after_sighting(live(now), result)
        left -= set(work.looks)
    assert not left, "starved"


# The clock


@pytest.mark.parametrize("ahead", [timedelta(days=-400), timedelta(hours=-7), timedelta(minutes=-30), 9 * HOUR])
@given(recipe=small_fleets)
@settings(FEW, max_examples=5)
def test_a_clock_that_jumps_makes_nobody_wait_longer_than_an_interval(ahead: timedelta, recipe: Recipe) -> None:
    """However far it was set: everything that can be done at all is due then, or one interval later by the new clock."""
    fleet = fleet_of(recipe)
    listed = {p for p, each in fleet.items() if each.sighting is not None and each.sighting.result is LookResult.OK}
    looks, drills = set[str](), set[str]()
    for now in (NOW + ahead, NOW + ahead + POLICY.drill_every + timedelta(minutes=2)):
        work = planned(fleet, now, seats=Seats(len(fleet), len(fleet)))
        looks |= set(work.looks)
        for path in fleet:  # alone: a check that is due for longer hides a drill
            drills |= {path} if planned({path: fleet[path]}, now).drills_due else set()
    assert looks == set(fleet)
    assert drills == listed


# Days


@given(seed=st.integers(0, 10**6))
@settings(FEW, max_examples=3)
def test_databases_that_never_pass_are_tried_ever_more_slowly_and_keep_no_seat_from_the_others(seed: int) -> None:
    world = World(
        databases=60, days=3, policy=POLICY, seats=Seats(4, 1), seed=seed,
        broken=0.4, hanging=0, corrupt=0, unreadable=0, outages_a_month=0, requests_a_day=0, work_s=(30.0, 0.3),
    )  # fmt: skip
    life = Life(world, NOW)
    tally = life.run()
    assert tally.of_broken, "nothing was broken"
    at_most = (
        11 + world.days * 86400 / POLICY.drill_every.total_seconds()
    )  # doubled from a minute to six hours, then at that pace
    assert max(tally.of_broken.values()) <= at_most
    assert tally.longest_gap < POLICY.drill_every + HOUR


def test_what_was_due_at_one_instant_is_not_due_at_one_instant_again() -> None:
    """Seats space drills out once, and they stay so: no jitter is needed where there are fewer seats than databases."""
    world = World(
        databases=200, days=3, policy=POLICY, seats=Seats(4, 2),
        broken=0, hanging=0, corrupt=0, unreadable=0, changing=0, outages_a_month=0, requests_a_day=0, work_s=(5.0, 0),
    )  # fmt: skip
    tally = Life(world, NOW).run()
    assert tally.due_at_first > 190
    assert tally.due_later <= 8
    assert tally.longest_gap < POLICY.drill_every + timedelta(minutes=20), "the audits came in between"


FLEET = replace(
    POLICY, drill_every=12 * HOUR, drill_max_age=36 * HOUR, database_check_every=12 * HOUR,
    look_every=HOUR, max_lag=3 * HOUR,
)  # fmt: skip


def month(**more: object) -> World:
    made = World(databases=300, days=3, policy=FLEET, stores=5, outages_a_month=10, corrupt=0.05, hanging=0.01)
    return replace(made, **more)  # type: ignore[arg-type] # as World takes them


def test_days_with_outages_and_damage_come_out_as_the_policy_says() -> None:
    """The simulation itself compares its short cut with a plan of the whole fleet, and counts the seats."""
    world = month(whole_every=timedelta(minutes=20))
    tally = Life(world, NOW).run()
    assert tally.drills["passed"] > 300 * 4
    assert min(tally.drills["failed"], tally.drills["inconclusive"], tally.checks, len(tally.waits)) > 0
    assert tally.delays
    assert max(tally.delays) < FLEET.drill_every + 10 * HOUR, "an outage of eight hours came in between"
    assert FLEET.drill_every < tally.longest_gap < FLEET.drill_every + 2 * HOUR
    assert tally.longest_gap_in_all < FLEET.drill_max_age
    assert tally.overdue_most == 0
    assert len(tally.planned_us) > 100
    assert json.dumps(figures_of(world, tally, 1.0))


def test_days_at_rest_cost_audits_and_what_changes_and_damage_waits_for_an_audit() -> None:
    often = replace(FLEET, audit_every=timedelta(days=3))
    world = month(policy=often, days=9, whole_every=HOUR, changing=0.02)
    busy, rest = (Life(replace(world, at_rest=at_rest), NOW).run() for at_rest in (False, True))
    assert busy.skipped == 0
    assert sum(rest.drills.values()) < sum(busy.drills.values()) / 2
    assert rest.skipped > sum(rest.drills.values())
    assert rest.overdue_most == 0
    assert rest.longest_gap < FLEET.drill_every + 2 * HOUR, "a proof that stands counts as one"
    assert rest.delays
    assert max(rest.delays) < often.audit_every + FLEET.drill_every + 10 * HOUR
    assert max(rest.delays) > 2 * FLEET.drill_every, "names and times do not show it"
    most = max(rest.audits_by_day[day] for day in range(4, 9))
    assert most < 0.6 * rest.audits_by_day[0], "audits that began on one day do not stay on one"


def test_looks_that_tell_nothing_may_be_counted_instead_of_lived() -> None:
    """The short cut for ten thousand databases and a month: as many looks, the same drills."""
    hurried, lived = (Life(month(quiet_looks=quiet, days=1), NOW).run() for quiet in (True, False))
    assert hurried.looks + hurried.looks_quiet == pytest.approx(lived.looks, rel=0.02)
    assert hurried.looks < lived.looks / 5
    assert sum(hurried.drills.values()) == pytest.approx(sum(lived.drills.values()), rel=0.05)
    assert hurried.longest_gap / HOUR == pytest.approx(lived.longest_gap / HOUR, abs=1)


def test_the_simulation_sees_a_planner_that_has_other_ideas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the short cut and the planner to part, all its figures would be of another daemon."""
    planner: Callable[..., Work] = due
    monkeypatch.setattr("tests.simulation.due", lambda *a, **k: replace(planner(*a, **k), heavy=()))
    monkeypatch.setattr("tests.simulation.Life._due_of", _of_the_whole_otherwise(planner))
    with pytest.raises(AssertionError, match="disagree"):
        Life(month(), NOW).run()


def _of_the_whole_otherwise(planner: Callable[..., Work]) -> Callable[..., Work]:
    def plan(life: Life, paths: set[str] | None, **_: object) -> Work:
        if paths is None:
            return Work((), (), -1)
        busy = Busy(frozenset(life.looking), frozenset(life.working))
        return planner({path: life.subjects[path] for path in paths}, life.now, seats=life.world.seats, busy=busy)

    return plan
