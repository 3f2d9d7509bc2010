"""A fleet lived through for days in seconds: the real planner, the real evidence and policy, and a world that goes wrong.

`schedule.due` looks at every database each time it is asked, and a month is half a million turns of ten thousand databases.
So the simulation keeps what the planner's own functions say each database is due at, in heaps, and asks `due` about the few
that may begin now. Whether that is what `due` makes of the whole fleet is checked again and again while it runs.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random

from sidecar.core.evidence import Evidence
from sidecar.core.live_state import Capture, FileId, LiveState, WalIndex
from sidecar.core.model import CheckKind, DatabaseCheck, Drill, Listing, LookResult, Outcome, Position, Sighting
from sidecar.core.parity import Parity, ParityResult
from sidecar.core.schedule import Busy, Heavy, Seats, Subject, Work, due
from sidecar.core.turns import HeavyKind, database_check_due_at, drill_due_at, look_due_at, queues_from, stands
from tests.simulation_world import (
    AUDIT_SHARE,
    CHECK_SHARE,
    DAY,
    HOUR,
    LOOK_S,
    PAGE,
    REFUSED_S,
    REPAIR,
    SILENT_S,
    Store,
    Tally,
    Truth,
    World,
)

START_SALTS = b"\x01\x02\x03\x04\x05\x06\x07\x08"
TURN = timedelta(seconds=0.1)  # the daemon waits so long for more before it turns
SAME_FILES = "0123456789abcdef"  # what a drill of a database at rest read, and what is listed ever after
LOOK, DRILL, CHECK = "look", "drill", "check"
# `due` puts a drill before a check of the same instant and path.
ORDER_OF = (DRILL, CHECK)
KINDS = {HeavyKind.DRILL: DRILL, HeavyKind.DATABASE_CHECK: CHECK}


class Life:
    """The days of one World. `run` lives them and leaves `tally`."""

    def __init__(self, world: World, began_at: datetime) -> None:
        self.world, self.now, self.began_at = world, began_at, began_at
        self.end = began_at + timedelta(days=world.days)
        self.tally = Tally()
        self.dice = Random(world.seed)
        self.stores = [Store(began_at) for _ in range(world.stores)]
        paths = [f"/data/{number:06d}.db" for number in range(world.databases)]
        self.truths = {path: self._truth(number) for number, path in enumerate(paths)}
        self.subjects = {path: Subject.of(Evidence(first_seen_at=began_at), world.policy) for path in paths}
        self.looking: set[str] = set()
        self.working: set[str] = set()
        self.asked: dict[str, datetime] = {}  # in the order of asking, like the desk
        self.drills_due: set[str] = set()
        self._due: dict[str, dict[str, datetime | None]] = {
            LOOK: dict.fromkeys(paths), DRILL: dict.fromkeys(paths), CHECK: dict.fromkeys(paths),
        }  # fmt: skip
        self._later: list[tuple[datetime, str, str]] = []
        self._ready_looks: list[tuple[datetime, str]] = []
        self._ready_heavy: list[tuple[datetime, str, int]] = []
        self._ends: list[tuple[datetime, int, datetime, str, Heavy | None]] = []
        self._count = 0
        self._events = self._fates()
        heapq.heapify(self._events)
        self._whole_at = self._hour_at = began_at
        for path in paths:
            self._reckon(path)

    # The world

    def _truth(self, number: int) -> Truth:
        world, dice = self.world, self.dice
        median, sigma = world.work_s
        truth = Truth(
            self.stores[number % world.stores], 1000 + number, median * math.exp(dice.gauss(0, sigma)), self.now
        )
        truth.changing = dice.random() < world.changing
        truth.at_rest = world.at_rest and not truth.changing
        truth.unreadable = dice.random() < world.unreadable
        fate = dice.random()
        if fate < world.hanging:
            truth.never_passes_s = world.policy.drill_timeout.total_seconds()
        elif fate < world.hanging + world.broken:
            truth.never_passes_s = truth.work_s / 2
        return truth

    def _fates(self) -> list[tuple[datetime, str, str, float]]:
        """What will happen and when: outages of a store (with their hours), corruption, requests."""
        world, dice = self.world, self.dice
        length_s = world.days * DAY.total_seconds()
        fates: list[tuple[datetime, str, str, float]] = []
        for number in range(world.stores):
            outages = self._poisson(world.outages_a_month * world.days / 30)
            fates += [(at, "outage", str(number), dice.uniform(1, 8)) for at in outages]
        for path, truth in self.truths.items():
            if truth.sound and dice.random() < world.corrupt:
                fates.append((self.began_at + timedelta(seconds=dice.uniform(0, length_s)), "corrupt", path, 0.0))
        paths = list(self.truths)
        fates += [(at, "request", dice.choice(paths), 0.0) for at in self._poisson(world.requests_a_day * world.days)]
        return fates

    def _poisson(self, expected: float) -> Iterator[datetime]:
        at, end = 0.0, self.world.days * DAY.total_seconds()
        while expected > 0:
            at += self.dice.expovariate(expected / end)
            if at >= end:
                return
            yield self.began_at + timedelta(seconds=at)

    def _happen(self) -> None:
        while self._events and self._events[0][0] <= self.now:
            at, what, whose, hours = heapq.heappop(self._events)
            if what == "outage":
                store = self.stores[int(whose)]
                store.troubled_until, store.silent = at + hours * HOUR, self.dice.random() < self.world.silent
                for path, truth in self.truths.items():
                    if truth.store is store:
                        self._listen(path)
            elif what == "corrupt":
                self.truths[whose].corrupt_at, self.truths[whose].found = at, False
            elif what == "repair":
                truth = self.truths[whose]
                truth.corrupt_at, truth.passed_at = None, at
            else:
                self.asked.setdefault(whose, at)

    # What the daemon learns

    def _live(self, truth: Truth, at: datetime, *, since: bool = False) -> LiveState:
        """Production, all of it in Litestream's newest local file; `since` a look a changing one has gone on."""
        index = WalIndex(START_SALTS, 4 if since and truth.changing else 3, PAGE)
        capture = Capture(Position("", 42), self.began_at, START_SALTS, WalIndex(START_SALTS, 3, PAGE).end, 10)
        return LiveState(at, FileId(8, truth.inode), 10 * PAGE, index.end, self.began_at, index, (capture,))

    def _seen(self, begun_at: datetime, at: datetime) -> Sighting:
        held, old = Position("", 42), self.began_at
        listing = Listing(
            begun_at,
            held,
            old,
            held,
            None,
            None,
            Position("", 1),
            old,
            old,
            old,
            {9: 1, 0: 3},
            9 * PAGE,
            plan_digest=SAME_FILES,
        )
        return Sighting(begun_at, LookResult.OK, "", "", listing, at)

    def _record(self, path: str, evidence: Evidence) -> None:
        self.subjects[path] = Subject.of(evidence, self.world.policy)
        self._reckon(path)

    def _looked(self, path: str, begun_at: datetime) -> None:
        truth, known = self.truths[path], self.subjects[path].evidence
        self.tally.looks += 1
        if truth.store.down(begun_at):
            result = LookResult.TIMEOUT if truth.store.silent else LookResult.UNREACHABLE
            seen = Sighting(begun_at, result, "the store is down", "", None, self.now)
        else:
            seen = self._seen(begun_at, self.now)
            if self.world.quiet_looks and not truth.store.down(self.now):
                truth.quiet_since = begun_at
        self._record(path, self._gone_on(truth, known.after_sighting(self._live(truth, begun_at), seen)))

    def _gone_on(self, truth: Truth, known: Evidence) -> Evidence:
        """A changing database has changed since; of a still one the local files say what they said."""
        return known.after_live(self._live(truth, self.now, since=True)) if truth.changing else known

    def _interval(self, truth: Truth) -> timedelta:
        return self.world.policy.look_interval if truth.changing else self.world.policy.look_every

    def _listen(self, path: str) -> None:
        """From here on looks tell something; the last one that did not is recorded first."""
        truth = self.truths[path]
        if truth.quiet_since is None:
            return
        quiet = (self.now - truth.quiet_since) / self._interval(truth)
        last = truth.quiet_since + int(quiet) * self._interval(truth)
        self.tally.looks_quiet += int(quiet)
        truth.quiet_since = None
        known = self.subjects[path].evidence.after_sighting(self._live(truth, last), self._seen(last, last))
        self._record(path, self._gone_on(truth, known))

    def _drilled(self, path: str, begun_at: datetime, work: Heavy) -> None:
        truth, tally = self.truths[path], self.tally
        outcome, reason = Outcome.PASSED, None
        if truth.never_passes_s is not None:
            outcome, reason = Outcome.INCONCLUSIVE, "timeout"
            tally.of_broken[path] += 1
        elif truth.store.down(begun_at):
            outcome, reason = Outcome.INCONCLUSIVE, "timeout"
        elif truth.corrupt_at is not None and truth.corrupt_at <= begun_at:
            outcome, reason = Outcome.FAILED, "file_corrupt"
            if not truth.found:
                truth.found = True
                tally.delays.append(self.now - truth.corrupt_at)
                heapq.heappush(self._events, (self.now + REPAIR, "repair", path, 0.0))
        else:
            self._passed(truth)
        tally.drills[outcome.value] += 1
        raced = truth.changing and self.dice.random() < 0.3
        parity = Parity(ParityResult.INCONCLUSIVE if raced else ParityResult.EQUAL, 1000, 1000, message="")
        drill = Drill(
            f"{path}{begun_at:%d%H%M%S}", outcome, reason, "", "", Position("", 42), begun_at, self.now, work.check,
            plan_digest=SAME_FILES if truth.at_rest else None, size_bytes=10 * PAGE, parity=parity if outcome is Outcome.PASSED and work.parity else None,
            live_digest=self._live(truth, begun_at).digest,
        )  # fmt: skip
        self._record(path, self._gone_on(truth, self.subjects[path].evidence).after_drill(drill))

    def _passed(self, truth: Truth) -> None:
        tally, since = self.tally, truth.passed_at
        tally.longest_gap_in_all = max(tally.longest_gap_in_all, self.now - since)
        tally.longest_gap = max(tally.longest_gap, self.now - max(since, truth.store.troubled_until))
        truth.passed_at = self.now

    def _checked(self, path: str, begun_at: datetime) -> None:
        truth = self.truths[path]
        self.tally.checks += 1
        sound, reason = (None, "unreadable") if truth.unreadable else (True, None)
        check = DatabaseCheck(self.now, sound, reason, "", "", (self.now - begun_at).total_seconds(), 10 * PAGE)
        self._record(path, self.subjects[path].evidence.after_database_check(check))

    # When

    def _reckon(self, path: str) -> None:
        """What the planner's functions say of it now; only what changed goes into the heap."""
        evidence, policy, truth = self.subjects[path].evidence, self.world.policy, self.truths[path]
        for kind, at in (
            (LOOK, look_due_at(evidence, policy) if truth.quiet_since is None else None),
            (DRILL, drill_due_at(evidence, policy)),
            (CHECK, database_check_due_at(evidence, policy)),
        ):
            if at == self._due[kind][path]:
                continue
            self._due[kind][path] = at
            if kind == DRILL:
                self.drills_due.discard(path)
            if at is not None:
                heapq.heappush(self._later, (at, path, kind))

    def _ripen(self) -> None:
        while self._later and self._later[0][0] <= self.now:
            at, path, kind = heapq.heappop(self._later)
            if self._due[kind][path] != at or (kind == DRILL and self._stands(path)):
                continue
            if kind == LOOK:
                heapq.heappush(self._ready_looks, (at, path))
                continue
            evidence, work = (
                self.subjects[path].evidence,
                HeavyKind.DRILL if kind == DRILL else HeavyKind.DATABASE_CHECK,
            )
            since = queues_from(evidence, self.world.policy, work, at)
            heapq.heappush(self._ready_heavy, (since, path, ORDER_OF.index(kind)))
            if kind == DRILL:
                self.drills_due.add(path)

    def _stands(self, path: str) -> bool:
        """Whether the drill that is due now would restore what the last one did; then that is recorded, as the daemon does."""
        truth = self.truths[path]
        if not truth.at_rest:
            return False
        self._listen(path)
        evidence = self.subjects[path].evidence
        if not stands(evidence, self.world.policy, self.now):
            return False
        self.tally.skipped += 1
        if truth.sound:
            self._passed(truth)
        self._record(path, evidence.after_standing())
        return True

    def _first_looks(self) -> list[tuple[datetime, str]]:
        found: list[tuple[datetime, str]] = []
        while self._ready_looks and len(found) < self.world.seats.looks - len(self.looking):
            at, path = heapq.heappop(self._ready_looks)
            if self._due[LOOK][path] == at and path not in self.looking:
                found.append((at, path))
        return found

    def _first_heavy(self) -> list[tuple[datetime, str, int]]:
        """What has waited longest, and beside it what cannot begin because its database is worked on."""
        found: list[tuple[datetime, str, int]] = []
        free, names = self.world.seats.heavy - len(self.working), set(self.working)
        while self._ready_heavy and free > 0:
            since, path, order = entry = heapq.heappop(self._ready_heavy)
            at, kind = self._due[ORDER_OF[order]][path], (HeavyKind.DRILL, HeavyKind.DATABASE_CHECK)[order]
            if at is None or queues_from(self.subjects[path].evidence, self.world.policy, kind, at) != since:
                continue
            found.append(entry)
            if path not in names:
                names.add(path)
                free -= 1
        return found

    # Turns

    def run(self) -> Tally:
        """Live until the end."""
        while self.now < self.end:
            self._happen()
            self._collect()
            self._ripen()
            self._plan()
            self._watch()
            nexts = [self.end, self._hour_at, *(heap[0][0] for heap in (self._ends, self._later, self._events) if heap)]
            self.now = max(min(nexts), self.now + TURN)
        for path, truth in self.truths.items():
            self._listen(path)
            if truth.sound:  # what still waits has waited as long
                since = truth.passed_at
                self.tally.longest_gap_in_all = max(self.tally.longest_gap_in_all, self.now - since)
                self.tally.longest_gap = max(self.tally.longest_gap, self.now - max(since, truth.store.troubled_until))
        return self.tally

    def _collect(self) -> None:
        while self._ends and self._ends[0][0] <= self.now:
            _, _, begun_at, path, work = heapq.heappop(self._ends)
            if work is None:
                self.looking.remove(path)
                self._looked(path, begun_at)
                continue
            self.working.remove(path)
            self.tally.heavy_s += (self.now - begun_at).total_seconds()
            if work.kind is HeavyKind.DRILL:
                self._drilled(path, begun_at, work)
            else:
                self._checked(path, begun_at)

    def _plan(self) -> None:
        looks, heavy = self._first_looks(), self._first_heavy()
        names = {path for _, path, _ in heavy} | set(self.asked)
        if self.now >= self._whole_at:
            self._whole_at = self.now + self.world.whole_every
            self._compare_whole({path for _, path in looks}, names)
        if looks:  # apart: the look of a database that is to be drilled may be due by evidence and quiet in truth
            self._begin(self._due_of({path for _, path in looks}, heavy=0))
        if not names:
            return
        self._begin(work := self._due_of(names, looks=0))
        begun = {(each.path, KINDS[each.kind]) for each in work.heavy}
        for at, path, order in heavy:  # what has not begun waits on; what has begun comes again when it ends
            if (path, ORDER_OF[order]) not in begun:
                heapq.heappush(self._ready_heavy, (at, path, order))

    def _due_of(self, paths: set[str] | None, *, looks: int | None = None, heavy: int | None = None) -> Work:
        self.tally.planner_calls += 1
        subjects = self.subjects if paths is None else {path: self.subjects[path] for path in sorted(paths)}
        busy, seats = Busy(frozenset(self.looking), frozenset(self.working)), self.world.seats
        seats = Seats(seats.looks if looks is None else looks, seats.heavy if heavy is None else heavy)
        return due(subjects, self.now, seats=seats, busy=busy, requested=tuple(self.asked))

    def _compare_whole(self, looks: set[str], heavy: set[str]) -> None:
        """The whole fleet, as the daemon plans it, must come out as the few that may begin."""
        began = time.process_time()
        whole = self._due_of(None)
        self.tally.planned_us.append((time.process_time() - began) * 1e6)
        wrong = "the heaps and the planner disagree"
        assert whole.heavy == self._due_of(heavy, looks=0).heavy, wrong
        assert whole.drills_due == len(self.drills_due | set(self.asked)), wrong
        if not self.world.quiet_looks:
            assert whole.looks == self._due_of(looks, heavy=0).looks, wrong

    def _begin(self, work: Work) -> None:
        tally, since = self.tally, self.now - self.began_at
        for path in work.looks:
            store = self.truths[path].store
            down_s = SILENT_S if store.silent else REFUSED_S
            assert path not in self.looking
            self.looking.add(path)
            self._end_in(down_s if store.down(self.now) else self.dice.uniform(*LOOK_S), path, None)
        for heavy in work.heavy:
            assert heavy.path not in self.working
            self.working.add(heavy.path)
            if heavy.kind is HeavyKind.DRILL:
                tally.drills_by_hour[int(since / HOUR)] += 1
                tally.audits_by_day[since.days] += heavy.check is CheckKind.FULL
                if heavy.path in self.asked:
                    tally.waits.append(self.now - self.asked.pop(heavy.path))
            self._end_in(self._takes_s(heavy), heavy.path, heavy)
        assert len(self.looking) <= self.world.seats.looks
        assert len(self.working) <= self.world.seats.heavy

    def _takes_s(self, heavy: Heavy) -> float:
        truth = self.truths[heavy.path]
        if heavy.kind is HeavyKind.DATABASE_CHECK:
            return 0.2 if truth.unreadable else truth.work_s * CHECK_SHARE
        if truth.never_passes_s is not None:
            return truth.never_passes_s
        if truth.store.down(self.now):
            return SILENT_S if truth.store.silent else REFUSED_S
        share = AUDIT_SHARE if heavy.check is CheckKind.FULL else 1.0
        return truth.work_s * share * self.dice.uniform(0.8, 1.4)

    def _end_in(self, length_s: float, path: str, work: Heavy | None) -> None:
        self._count += 1
        heapq.heappush(self._ends, (self.now + timedelta(seconds=length_s), self._count, self.now, path, work))

    def _watch(self) -> None:
        tally, since = self.tally, self.now - self.began_at
        if since < self.world.policy.drill_every:
            tally.due_at_first = max(tally.due_at_first, len(self.drills_due))
        elif since > 2 * self.world.policy.drill_every:
            tally.due_later = max(tally.due_later, len(self.drills_due))
        if self.now < self._hour_at:
            return
        self._hour_at = self.now + HOUR
        limit = self.now - self.world.policy.drill_max_age
        tally.overdue_most = max(
            tally.overdue_most, sum(truth.sound and truth.passed_at < limit for truth in self.truths.values())
        )
