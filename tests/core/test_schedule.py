"""The planner: never more than the seats, the longest waiting first, and nobody starves, whatever the others do."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count, pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.evidence import Evidence
from sidecar.core.model import CheckKind, Content, LookResult, Outcome
from sidecar.core.policy import Policy
from sidecar.core.schedule import Busy, Heavy, Seats, Subject, Work, due
from sidecar.core.turns import (
    LONG_AGO,
    HeavyKind,
    database_check_due_at,
    drill_due_at,
    drill_kind,
    look_due_at,
    queues_from,
)
from tests.core.evidences import (
    NOW,
    ago,
    audit,
    capture,
    claim,
    could_not_check,
    database_check,
    drill,
    events,
    healthy,
    histories,
    listing,
    live,
    looked,
    rests,
    seen,
    uncounted,
    unknown,
)

POLICY = Policy()
IDLE = Busy(frozenset(), frozenset())
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def plan(
    fleet: Mapping[str, Evidence], *, looks: int = 4, heavy: int = 1, busy: Busy = IDLE, requested: Iterable[str] = ()
) -> Work:
    subjects = {path: Subject.of(evidence, POLICY) for path, evidence in fleet.items()}
    return due(subjects, NOW, seats=Seats(looks, heavy), busy=busy, requested=requested)


# Properties

paths = st.sampled_from([f"/data/{name}.db" for name in "abcdefgh"])
fleets = st.dictionaries(paths, histories(), max_size=6)
busies = st.builds(Busy, st.frozensets(paths, max_size=4), st.frozensets(paths, max_size=3))


@given(fleets, busies, st.integers(1, 4), st.integers(1, 3), st.lists(paths, max_size=4))
@settings(deadline=None, max_examples=60)
def test_never_more_than_the_free_seats_and_nobody_twice(
    fleet: dict[str, Evidence], busy: Busy, looks: int, heavy: int, requested: list[str]
) -> None:
    work = plan(fleet, looks=looks, heavy=heavy, busy=busy, requested=requested)
    assert len(work.looks) <= max(looks - len(busy.looks), 0)
    assert len(work.heavy) <= max(heavy - len(busy.heavy), 0)
    begun = [each.path for each in work.heavy]
    assert len(set(begun)) == len(begun)
    assert len(set(work.looks)) == len(work.looks)
    assert not set(begun) & busy.heavy
    assert not set(work.looks) & busy.looks
    assert {*begun, *work.looks} <= set(fleet)
    assert work.drills_due <= len(fleet)


@given(fleets, busies, st.lists(paths, max_size=4))
@settings(deadline=None, max_examples=40)
def test_the_same_state_makes_the_same_plan_in_whatever_order_it_comes(
    fleet: dict[str, Evidence], busy: Busy, requested: list[str]
) -> None:
    one = plan(fleet, heavy=2, busy=busy, requested=requested)
    turned = dict(reversed(fleet.items()))
    assert one == plan(turned, heavy=2, busy=busy, requested=requested)


def silent(evidence: Evidence) -> bool:
    """Those may have to wait for one of the seats that they share."""
    return evidence.sighting is not None and evidence.sighting.result is LookResult.TIMEOUT


@given(fleets)
@settings(deadline=None, max_examples=40)
def test_the_longest_waiting_comes_first(fleet: dict[str, Evidence]) -> None:
    everything = plan(fleet, looks=99, heavy=99)
    for seats in range(3):
        some = plan(fleet, looks=seats, heavy=seats)
        begun = [each for each in some.looks if not silent(fleet[each])]
        assert begun == [each for each in everything.looks if not silent(fleet[each])][: len(begun)]
        assert list(some.looks) == [each for each in everything.looks if each in some.looks]
        assert some.heavy == everything.heavy[:seats]
    since = [queues_from(fleet[each.path], POLICY, each.kind, each.due_at) for each in everything.heavy]
    assert since == sorted(since), "and what has failed again and again lets the others pass"
    assert all(each.due_at <= NOW for each in everything.heavy)


@given(fleets, paths)
@settings(deadline=None, max_examples=40)
def test_what_somebody_asked_for_comes_first(fleet: dict[str, Evidence], asked: str) -> None:
    work = plan(fleet, requested=[asked])
    if asked in fleet:
        (begun,) = work.heavy
        assert (begun.path, begun.kind) == (asked, HeavyKind.DRILL)
    else:
        assert work == plan(fleet)


@given(fleets, paths)
@settings(deadline=None, max_examples=20)
def test_a_database_under_work_is_not_begun_again_even_when_asked_for(fleet: dict[str, Evidence], asked: str) -> None:
    work = plan(fleet, heavy=9, busy=Busy(frozenset(), frozenset({asked})), requested=[asked])
    assert asked not in {each.path for each in work.heavy}


@given(histories())
@settings(deadline=None, max_examples=80)
def test_nothing_ever_waits_longer_than_its_interval(evidence: Evidence) -> None:
    """Whatever happened before NOW, also with the clock set back to NOW."""
    later = NOW + max(POLICY.drill_every, POLICY.database_check_every, POLICY.look_every) + timedelta(minutes=2)
    subjects = {"a": Subject.of(evidence, POLICY)}
    for now in (later, LONG_AGO + timedelta(days=9)):
        work = due(subjects, now, seats=Seats(9, 9), busy=IDLE)
        assert work.looks == ("a",)
        listed = evidence.sighting is not None and evidence.sighting.result is LookResult.OK
        there = evidence.live is not None and evidence.live.file_id is not None
        assert bool(work.drills_due) == listed
        assert bool(work.heavy) == (listed or there)


# A fleet lived through: random durations, some databases that never pass


@dataclass
class Life:
    """A daemon's days in seconds: what `due` begins takes a random time and is recorded when it ends."""

    dice: Random
    fates: Mapping[str, Outcome]
    seats: Seats
    now: datetime = NOW
    evidence: dict[str, Evidence] = field(default_factory=dict)
    drilled: dict[str, list[datetime]] = field(default_factory=dict)
    most_at_once: int = 0
    running: dict[str, HeavyKind] = field(default_factory=dict)
    looking: set[str] = field(default_factory=set)
    _ends: list[tuple[datetime, int, str, Heavy | None]] = field(default_factory=list)
    _count: Iterable[int] = field(default_factory=count)

    def live_for(self, length: timedelta, work_s: tuple[float, float], asked: str | None = None) -> None:
        self.evidence = {path: unknown(self.now) for path in self.fates}
        self.drilled = {path: [self.now] for path in self.fates}
        end = self.now + length
        while self.now < end:
            self._begin(work_s, [asked] if asked is not None else [])
            self.most_at_once = max(self.most_at_once, len(self.running))
            self._tick()

    def _begin(self, work_s: tuple[float, float], asked: list[str]) -> None:
        subjects = {path: Subject.of(evidence, POLICY) for path, evidence in self.evidence.items()}
        busy = Busy(frozenset(self.looking), frozenset(self.running))
        work = due(subjects, self.now, seats=self.seats, busy=busy, requested=asked)
        for path in work.looks:
            self.looking.add(path)
            self._end_in(self.dice.uniform(0.1, 3), path, None)
        for heavy in work.heavy:
            assert heavy.path not in self.running
            self.running[heavy.path] = heavy.kind
            self._end_in(self.dice.uniform(*work_s), heavy.path, heavy)

    def _end_in(self, length_s: float, path: str, heavy: Heavy | None) -> None:
        heapq.heappush(self._ends, (self.now + timedelta(seconds=length_s), next(iter(self._count)), path, heavy))

    def _tick(self) -> None:
        """On to the next thing that ends, or by half a minute."""
        self.now = min([self.now + timedelta(seconds=30), *(at for at, *_ in self._ends[:1])])
        while self._ends and self._ends[0][0] <= self.now:
            _, _, path, heavy = heapq.heappop(self._ends)
            if heavy is None:
                self.looking.discard(path)
                still = live(self.now, modified_at=NOW)
                self.evidence[path] = self.evidence[path].after_sighting(still, seen(self.now)).after_live(still)
            else:
                del self.running[path]
                self.evidence[path] = self._ended(path, heavy)

    def _ended(self, path: str, heavy: Heavy) -> Evidence:
        if heavy.kind is HeavyKind.DATABASE_CHECK:
            check = (
                database_check(self.now)
                if self.fates[path] is Outcome.PASSED
                else could_not_check("check_old", self.now)
            )
            return self.evidence[path].after_database_check(check)
        self.drilled[path].append(self.now)
        outcome = self.fates[path]
        reason = None if outcome is Outcome.PASSED else "timeout"
        return self.evidence[path].after_drill(drill(self.now, outcome, reason, check=heavy.check))

    def longest_wait(self, path: str) -> timedelta:
        times = [*self.drilled[path], self.now]
        return max(later - earlier for earlier, later in pairwise(times))


@given(st.integers(0, 10**6), st.lists(st.sampled_from(Outcome), min_size=1, max_size=6), st.integers(1, 2))
@settings(deadline=None, max_examples=12)
def test_every_database_is_drilled_in_time_whatever_becomes_of_the_others(
    seed: int, fates: list[Outcome], seats: int
) -> None:
    life = Life(Random(seed), {f"/data/{number}.db": fate for number, fate in enumerate(fates)}, Seats(2, seats))
    life.live_for(timedelta(hours=14), work_s=(5, 120))
    assert life.most_at_once <= seats
    for path in life.fates:
        assert life.longest_wait(path) < POLICY.drill_every + timedelta(minutes=45), path


def test_databases_that_never_pass_cannot_keep_the_one_seat_from_the_others() -> None:
    fates = {f"/data/{number}.db": Outcome.INCONCLUSIVE for number in range(6)} | {"/data/good.db": Outcome.PASSED}
    life = Life(Random(1), fates, Seats(2, 1))
    life.live_for(timedelta(hours=20), work_s=(200, 600))
    assert life.longest_wait("/data/good.db") < POLICY.drill_every + 2 * HOUR


def test_with_too_few_seats_all_wait_about_equally() -> None:
    life = Life(Random(2), {f"/data/{number}.db": Outcome.PASSED for number in range(8)}, Seats(2, 1))
    life.live_for(timedelta(hours=30), work_s=(3000, 3600))  # a round of drills and checks takes 15 hours
    rounds = Counter(len(times) for times in life.drilled.values())
    assert max(rounds) - min(rounds) <= 1, rounds


# When


def test_what_is_new_is_looked_at_at_once_and_drilled_once_it_can_be_restored() -> None:
    assert plan({"a": unknown()}).looks == ("a",)
    assert plan({"a": unknown()}).heavy == ()
    shown = unknown().after_sighting(live(), seen())
    first = plan({"a": shown}, heavy=1).heavy
    assert first == (Heavy("a", HeavyKind.DRILL, CheckKind.QUICK, LONG_AGO, parity=True),)


def test_a_drill_that_somebody_asked_for_runs_even_where_nothing_was_listed() -> None:
    (begun,) = plan({"a": unknown()}, requested=["a"]).heavy
    assert begun.kind is HeavyKind.DRILL


@pytest.mark.parametrize("result", [each for each in LookResult if each is not LookResult.OK])
def test_no_drill_is_due_while_the_replica_cannot_be_listed(result: LookResult) -> None:
    assert drill_due_at(healthy().after_sighting(live(), looked(result)), POLICY) is None


def test_looks_follow_each_other_more_quickly_while_the_database_changes() -> None:
    still = healthy()
    assert look_due_at(still, POLICY) == NOW + POLICY.look_every
    assert look_due_at(still.after_live(live(frames=9)), POLICY) == NOW + timedelta(seconds=40)


def test_a_new_database_is_looked_at_every_two_seconds_until_its_first_backup() -> None:
    nothing = unknown().after_sighting(live(), looked(LookResult.NO_BACKUP))
    assert look_due_at(nothing, POLICY) == NOW + timedelta(seconds=2)
    old = replace(nothing, first_seen_at=ago(minutes=3))
    assert look_due_at(old, POLICY) == NOW + timedelta(seconds=40)


def failing(times: int, took: timedelta = timedelta(seconds=2)) -> Evidence:
    evidence = unknown().after_sighting(live(), seen())
    for _ in range(times):
        evidence = evidence.after_drill(drill(NOW, Outcome.INCONCLUSIVE, "timeout", started_at=NOW - took))
    return evidence


@pytest.mark.parametrize(
    ("times", "rest"),
    [(1, MINUTE), (2, 2 * MINUTE), (3, 4 * MINUTE), (8, 128 * MINUTE), (10, 6 * HOUR), (99, 6 * HOUR)],
)
def test_what_did_not_pass_is_tried_again_soon_and_then_ever_more_slowly(times: int, rest: timedelta) -> None:
    assert drill_due_at(failing(times), POLICY) == NOW + rest


def test_long_work_rests_longer_before_it_is_repeated() -> None:
    assert drill_due_at(failing(1, took=timedelta(minutes=30)), POLICY) == NOW + 5 * HOUR
    slow = healthy().after_database_check(replace(could_not_check("check_old"), seconds=1800))
    assert database_check_due_at(slow, POLICY) == NOW + 5 * HOUR
    quick = healthy().after_database_check(could_not_check("unreadable"))
    assert database_check_due_at(quick, POLICY) == NOW + MINUTE


def test_a_pass_rests_for_drill_every_and_production_for_its_own_interval() -> None:
    assert drill_due_at(healthy(), POLICY) == NOW + rests(POLICY.drill_every)
    assert database_check_due_at(healthy(), POLICY) == drill_due_at(healthy(), POLICY), "the drill checks it, too"
    alone = replace(POLICY, parity=False)
    assert database_check_due_at(healthy(), alone) == NOW + rests(POLICY.database_check_every, NOW)
    assert database_check_due_at(unknown(), POLICY) is None
    new = unknown().after_live(live())
    assert database_check_due_at(new, POLICY) == new.first_seen_at + POLICY.drill_timeout, "the first drill may say it"
    assert database_check_due_at(new, replace(POLICY, parity=False)) == LONG_AGO
    assert (
        database_check_due_at(new.after_drill(drill(outcome=Outcome.INCONCLUSIVE, reason="raced")), POLICY) == LONG_AGO
    )
    lost = new.after_sighting(live(), looked(LookResult.UNREACHABLE))
    assert database_check_due_at(lost, POLICY) == LONG_AGO, "no drill can come"
    assert database_check_due_at(unknown().after_live(live(file_id=None)), POLICY) is None


@pytest.mark.parametrize(
    "migrated", [uncounted(schema_digest="d2"), uncounted(schema_version=None), uncounted(application_id=8)]
)
def test_a_migration_is_drilled_soon_once_the_replica_has_moved_on(migrated: Content) -> None:
    evidence = healthy().after_content(migrated, None)
    assert drill_due_at(evidence, POLICY) == NOW + rests(POLICY.drill_every), (
        "the same position would come out the same"
    )
    moved = evidence.after_sighting(live(txid=43, captures=(capture(43),)), seen(shown=listing(txid=43)))
    assert drill_due_at(moved, POLICY) == NOW + MINUTE
    blind = moved.after_content(None, "not the app's user")
    assert drill_due_at(blind, POLICY) == NOW + rests(POLICY.drill_every), "an old reading of production says nothing"


def planned(evidence: Evidence, policy: Policy, now: datetime = NOW) -> Work:
    return due({"a": Subject.of(evidence, policy)}, now, seats=Seats(1, 1), busy=IDLE)


def test_a_check_that_a_drill_will_make_is_not_taken_for_one_of_a_clock_set_back() -> None:
    seven = replace(POLICY, drill_every=7 * HOUR)
    assert database_check_due_at(healthy(), seven) == NOW + rests(7 * HOUR), "past its own interval of 6 h"
    assert planned(healthy(), seven).heavy == ()
    assert planned(healthy(), seven, NOW - 30 * HOUR).heavy != (), "a clock that was set back is noticed all the same"


def test_a_restart_of_litestream_brings_a_drill_forward_and_never_puts_one_off() -> None:
    at = NOW - HOUR
    restarted = healthy(at).after_claim(claim(NOW, started_at=NOW))
    assert drill_due_at(restarted, POLICY) == NOW
    overdue = healthy(NOW - 9 * HOUR).after_claim(claim(NOW, started_at=NOW))
    assert drill_due_at(overdue, POLICY) == NOW - 9 * HOUR + rests(6 * HOUR)
    ahead = healthy().after_claim(claim(NOW, started_at=NOW + 24 * HOUR))  # the clock was set back under it
    assert drill_due_at(ahead, POLICY) == NOW + rests(POLICY.drill_every)
    assert planned(ahead, POLICY).heavy == ()


def test_a_clock_that_was_set_during_a_drill_does_not_make_it_a_long_one() -> None:
    """What took long rests long before it is repeated early, so a drill that seems to have taken an hour would keep the next away."""
    at, restarted_at = NOW - HOUR, NOW - MINUTE
    jumped = drill(at, started_at=at - HOUR, took_seconds=2.0)
    known = healthy(at).after_drill(jumped).after_claim(claim(NOW, started_at=restarted_at))
    assert drill_due_at(known, POLICY) == restarted_at
    assert drill_due_at(known.after_drill(replace(jumped, took_seconds=3600.0)), POLICY) != restarted_at
    back = replace(jumped, started_at=at + HOUR, took_seconds=None)  # by a sidecar of before
    assert back.took == timedelta(0)


def test_who_asked_first_is_served_first() -> None:
    lost = healthy().after_sighting(live(), looked(LookResult.UNREACHABLE))
    fleet = {"x": lost, "good": healthy(), "y": lost}
    assert [each.path for each in plan(fleet, heavy=3, requested=["good", "y", "x", "good"]).heavy] == [
        "good",
        "y",
        "x",
    ]


@pytest.mark.parametrize(("times", "rest"), [(1, MINUTE), (2, 2 * MINUTE), (5, 16 * MINUTE), (99, 6 * HOUR)])
def test_production_that_cannot_be_checked_is_tried_ever_more_slowly(times: int, rest: timedelta) -> None:
    evidence = healthy()
    for _ in range(times):
        evidence = evidence.after_database_check(could_not_check("unreadable"))
    assert database_check_due_at(evidence, POLICY) == NOW + rest
    damaged = evidence.after_database_check(database_check(sound=False, reason="db_corrupt"))
    assert database_check_due_at(damaged, POLICY) == NOW + MINUTE


def test_a_thousand_new_databases_do_not_keep_one_from_being_looked_at_that_changes() -> None:
    busy = healthy().after_live(live(frames=9))  # listed every 40 s
    now = NOW + timedelta(seconds=160)
    new = {f"n{number:04}": replace(unknown(NOW), first_seen_at=NOW) for number in range(1000)}
    work = due(
        {path: Subject.of(each, POLICY) for path, each in {**new, "z": busy}.items()}, now, seats=Seats(4, 0), busy=IDLE
    )
    assert work.looks == ("z", "n0000", "n0001", "n0002"), "three of its intervals late, the others less than three"


def test_a_silent_store_rests_as_long_as_it_kept_us_and_takes_half_the_seats() -> None:
    began = NOW - timedelta(seconds=50)
    silent = healthy(began).after_sighting(
        live(NOW), replace(looked(LookResult.TIMEOUT), read_at=began, finished_at=NOW)
    )
    assert look_due_at(silent, POLICY) == NOW + timedelta(seconds=50)
    fleet = {**{f"s{number}": silent for number in range(9)}, **{f"t{number}": healthy() for number in range(9)}}
    subjects = {path: Subject.of(evidence, POLICY) for path, evidence in fleet.items()}
    begun = due(subjects, NOW + HOUR, seats=Seats(4, 0), busy=IDLE).looks
    assert sorted(each[0] for each in begun) == ["s", "s", "t", "t"]
    busy = Busy(frozenset(("s0", "s1")), frozenset())
    assert [each[0] for each in due(subjects, NOW + HOUR, seats=Seats(4, 0), busy=busy).looks] == ["t", "t"]


# Which check


def test_the_first_drill_is_quick_and_the_audit_comes_next() -> None:
    assert drill_kind(unknown(), POLICY, NOW) is CheckKind.QUICK
    assert drill_kind(unknown().after_drill(drill()), POLICY, NOW) is CheckKind.FULL
    audited = unknown().after_drill(audit())
    assert drill_kind(audited, POLICY, NOW) is CheckKind.QUICK
    assert drill_kind(audited, POLICY, NOW + POLICY.audit_every) is CheckKind.FULL
    assert drill_kind(audited, POLICY, ago(days=1)) is CheckKind.FULL, "an audit from the future is none"


def test_an_audit_that_does_not_end_gives_way_to_a_quick_drill() -> None:
    proved = unknown().after_drill(drill())
    cut = proved.after_drill(drill(NOW, Outcome.INCONCLUSIVE, "timeout", check=CheckKind.FULL))
    assert drill_kind(cut, POLICY, NOW) is CheckKind.QUICK
    assert drill_kind(cut.after_drill(drill()), POLICY, NOW) is CheckKind.FULL


def test_what_integrity_check_found_is_looked_at_with_integrity_check_again() -> None:
    failed = healthy().after_drill(drill(NOW, Outcome.FAILED, "db_corrupt", check=CheckKind.FULL))
    assert drill_kind(failed, POLICY, NOW) is CheckKind.FULL
    assert drill_kind(failed.after_drill(drill()), POLICY, NOW) is CheckKind.FULL


def test_what_began_together_does_not_stay_together() -> None:
    """A thousand databases, or a thousand sidecars, whose drills all ended at one instant."""
    first = replace(healthy(), last_audit=None)
    for known, share in ((healthy(), 0.1), (first, 0.5)):
        dues = [drill_due_at(replace(known, last_drill=drill(id=f"{number:012x}")), POLICY) for number in range(1000)]
        early = [(NOW + POLICY.drill_every - due) / POLICY.drill_every for due in dues if due is not None]
        assert 0 <= min(early) < max(early) <= share, "never later than drill-every"
        tenths = Counter(int(each / share * 9.999) for each in early)
        assert set(tenths) == set(range(10))
        assert max(tenths.values()) < 150, "spread evenly"


def test_what_never_comes_to_an_end_lets_the_others_pass_and_still_has_its_turn() -> None:
    """The one seat, a hundred restores that hang, and one database whose drill has just become due."""
    only = replace(POLICY, database_check_every=timedelta(days=30))
    hanging = failing(3, took=POLICY.drill_timeout).after_database_check(database_check())
    due_at = drill_due_at(hanging, only)
    assert due_at is not None
    fleet = {f"hangs{number:03d}": Subject.of(hanging, only) for number in range(100)}
    for waited, first in ((POLICY.drill_every - MINUTE, "good"), (POLICY.drill_every + MINUTE, "hangs000")):
        now = due_at + waited
        good = Subject.of(healthy(now - rests(POLICY.drill_every)), only)
        work = due(fleet | {"good": good}, now, seats=Seats(1, 1), busy=IDLE)
        assert [each.path for each in work.heavy] == [first]
    unreadable = replace(healthy(), database_check=could_not_check("unreadable", NOW), unchecked_in_a_row=3)
    at = database_check_due_at(unreadable, POLICY)
    assert at is not None
    assert queues_from(unreadable, POLICY, HeavyKind.DATABASE_CHECK, at) == at + POLICY.database_check_every


@given(histories(), st.lists(st.tuples(st.timedeltas(timedelta(0), HOUR), st.none() | events), max_size=6))
@settings(deadline=None, max_examples=150)
def test_what_was_reckoned_once_is_what_would_be_reckoned_anew(
    known: Evidence, more: list[tuple[timedelta, Any]]
) -> None:
    subject, now = Subject.of(known, POLICY), NOW
    for step, event in more:
        now += step
        known = event(known, now) if event is not None else known
        for learnt in (known, known.after_claim(claim(now)), known.after_live(replace(live(now), file_id=None))):
            again = Subject.of(learnt, POLICY, subject)
            assert again == Subject.of(learnt, POLICY)
        subject = Subject.of(known, POLICY, subject)


def test_only_what_bears_on_when_work_is_due_makes_it_reckoned_anew() -> None:
    known = healthy()
    before = Subject.of(known, POLICY)
    for same in (
        known.after_claim(replace(claim(), read_at=NOW + MINUTE)),
        replace(known, live=live(NOW + MINUTE, modified_at=ago(hours=1)), covered_at=NOW + MINUTE),
    ):
        assert Subject.of(same, POLICY, before).dues is before.dues
        assert Subject.of(same, POLICY, before).evidence is same
    assert Subject.of(known, POLICY, before) is before
    restarted = known.after_claim(replace(claim(), started_at=NOW + MINUTE))
    assert Subject.of(restarted, POLICY, before).dues.drill_at == NOW + MINUTE
    other = replace(POLICY, look_every=9 * MINUTE)
    assert Subject.of(known, other, before).dues != before.dues
