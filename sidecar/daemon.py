"""The daemon's loop: notice what changed, begin what is due, record what came back.

Events only wake the loop; it works at its own pace. Workers return values and touch no shared state: only the loop writes
evidence, so nothing has to be ordered. The loop never waits for Litestream, a store or a disk, so it always turns.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from sidecar.core.errors import SidecarError, Stopped
from sidecar.core.evidence import Evidence
from sidecar.core.model import Claim, Database, DatabaseCheck, Drill, FileId, Outcome, Scratch
from sidecar.core.policy import Policy
from sidecar.core.schedule import Busy, Heavy, HeavyKind, Subject, due
from sidecar.drill import Order
from sidecar.fleet import Fleet, FleetKeeper
from sidecar.house import House
from sidecar.look import Looked

TICK_S, TICK_MIN_S = 1.0, 0.25  # half of the shortest look interval, within these
COALESCE_S = 0.1  # a burst of events is one wake
PULSE_S = 5.0  # local files are read this often even when no event comes
PULSE_WOKEN_S = 1.0  # and at most this often when events do come
PLAN_WOKEN_S = 0.5  # planning a thousand databases takes milliseconds; a busy app may wake us ten times a second
FLUSH_S = 5.0
ALIVE_S = 30.0  # a loop that has not turned for this long is stuck

log = logging.getLogger("sidecar.daemon")
T = TypeVar("T")


class Daemon:
    """One loop, a pool for looks, a pool for heavy work, one thread to ask Litestream."""

    def __init__(self, house: House, keeper: FleetKeeper, stop: threading.Event) -> None:
        self.house, self.keeper, self.stop = house, keeper, stop
        self.wake = threading.Event()
        self.reload = threading.Event()
        self.scratch: Scratch | None = None
        self._turned_at = house.clock.monotonic()
        self._pulsed_at = self._flushed_at = -1e9
        self._asked_at = self._planned_at = -1e9
        self._looks_for_work = True  # a seat became free, or somebody asked for a drill
        self._claims = house.claims(keeper.fleet)
        self._looks: dict[Future[Looked], Database] = {}
        self._heavy: dict[Future[Any], tuple[Heavy, Database, Policy, FileId | None]] = {}
        self._asking: Future[dict[str, Claim]] | None = None
        self._said: dict[str, str | None] = {}

    @property
    def alive(self) -> bool:
        """Whether the loop has turned lately, by the monotonic clock."""
        return self.house.clock.monotonic() - self._turned_at < ALIVE_S

    def run(self) -> None:
        """Turn until the stop event is set, then end what runs (children within seconds) and record it."""
        seats = self.house.seats
        with (
            ThreadPoolExecutor(seats.looks, "look") as self._look_pool,
            ThreadPoolExecutor(seats.heavy, "drill", initializer=self._be_nice) as self._heavy_pool,
            ThreadPoolExecutor(1, "claims") as self._claims_pool,
        ):
            self.house.watching.watch(self.keeper.fleet)
            self.house.ledger.forget(frozenset(self.keeper.fleet.databases))
            self._warn(self.keeper.fleet)
            while not self.stop.is_set():
                try:
                    self.turn()
                except Exception:  # a turn that fails does not count as one: /livez says so before long
                    log.exception("the loop failed in a way that nobody foresaw")
                self.wake.wait(self._tick_s())
                if self.wake.is_set():
                    self.stop.wait(COALESCE_S)
        self._collect()
        self.house.ledger.flush()

    def _tick_s(self) -> float:
        """Seconds that the loop may sleep, so that the shortest interval is still kept."""
        shortest = min(
            (each.look_interval.total_seconds() for each in self.keeper.fleet.policies.values()), default=TICK_S
        )
        return min(max(shortest / 2, TICK_MIN_S), TICK_S)

    def _be_nice(self) -> None:
        # On Linux niceness belongs to the thread, and a child process inherits its thread's.
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):  # nicer than asked for already, and not allowed to be less nice
            os.setpriority(os.PRIO_PROCESS, thread, max(self.house.nice, os.getpriority(os.PRIO_PROCESS, thread)))

    def turn(self) -> None:
        """One turn: collect, reload, pulse, ask, begin, flush."""
        woken = self.wake.is_set()
        self.wake.clear()
        self._looks_for_work |= self._collect()
        self._take_over()
        fleet, mono = self.keeper.fleet, self.house.clock.monotonic()
        if mono - self._pulsed_at >= (PULSE_WOKEN_S if woken else PULSE_S):
            self._pulsed_at = mono
            self._pulse(fleet)
        if self._asking is None and mono - self._asked_at >= PULSE_S:
            self._asked_at = mono
            self._asking = self._claims_pool.submit(self._claims.read, tuple(fleet.databases.values()))
            self._asking.add_done_callback(self._finished)
        if self._looks_for_work or mono - self._planned_at >= PLAN_WOKEN_S:
            self._planned_at, self._looks_for_work = mono, False
            self._begin(fleet)
        if mono - self._flushed_at >= FLUSH_S:
            self._flushed_at = mono
            self.house.ledger.flush()
            self._say("evidence cannot be written", self.house.ledger.error)
        self.house.turned()
        self._turned_at = self.house.clock.monotonic()

    def _say(self, what: str, error: str | None) -> None:
        """Log what stays wrong once, not every few seconds."""
        if error is not None and self._said.get(what) != error:
            log.error("%s: %s", what, error)
        self._said[what] = error

    def _finished(self, _: object) -> None:
        self.wake.set()

    def _take_over(self) -> None:
        force, fleet = self.reload.is_set(), self.keeper.fleet
        self.reload.clear()
        if not self.keeper.poll(force=force):
            return
        if self.keeper.error is not None:
            log.error("configuration not taken over, the old one stays in force: %s", self.keeper.error)
            return
        before, fleet = fleet, self.keeper.fleet
        log.info("configuration taken over; databases: %d", len(fleet.databases))
        self._warn(fleet)
        for path, database in fleet.databases.items():
            if path in before.databases and before.databases[path].replica != database.replica:
                self.house.ledger.record(path, Evidence.unseen)
        self._claims = self.house.claims(fleet)
        self._asked_at = self._pulsed_at = -1e9
        self.house.desk.drop(frozenset(fleet.databases))
        self.house.ledger.forget(frozenset(fleet.databases))
        self.house.watching.watch(fleet)

    @staticmethod
    def _warn(fleet: Fleet) -> None:
        for warning in fleet.warnings:
            log.warning("configuration: %s", warning)

    def _pulse(self, fleet: Fleet) -> None:
        """Read what the local files say of every database; microseconds each."""
        house = self.house
        house.watching.rearm()  # before the reading: what changes during it wakes us again
        for path, database in fleet.databases.items():
            live = house.live.read(database)
            replica = database.replica
            house.ledger.record(path, lambda known, live=live, at=replica: known.of_replica(at).after_live(live))  # type: ignore[misc] # bound now
        try:
            self.scratch = Scratch(house.clock.now(), house.scratch.free_bytes())
            self._say("scratch cannot be used", None)
        except (SidecarError, OSError) as error:
            self.scratch = None
            self._say("scratch cannot be used", str(error))
        house.ledger.refresh()

    def _begin(self, fleet: Fleet) -> None:
        evidence, now = self.house.ledger.snapshot(), self.house.clock.now()
        subjects = {
            path: Subject(evidence.get(path, Evidence(first_seen_at=now)), policy)
            for path, policy in fleet.policies.items()
        }
        busy = Busy(
            frozenset(each.path for each in self._looks.values()),
            frozenset(work.path for work, *_ in self._heavy.values()),
        )
        work = due(subjects, now, seats=self.house.seats, busy=busy, requested=self.house.desk.queued())
        self.house.telemetry.due(work.drills_due)
        for path in work.looks:
            known, policy = evidence.get(path), fleet.policies[path]
            look = self._look_pool.submit(
                self.house.looker.look, fleet.databases[path], known, policy, fleet.command_timeout_s, self.stop
            )
            self._looks[look] = fleet.databases[path]
            look.add_done_callback(self._finished)
        for heavy in work.heavy:
            self._begin_heavy(fleet, heavy, subjects[heavy.path])

    def _begin_heavy(self, fleet: Fleet, work: Heavy, subject: Subject) -> None:
        database, live = fleet.databases[work.path], subject.evidence.live
        future: Future[Any]
        if work.kind is HeavyKind.DRILL:
            drill_id = self.house.desk.begin(work.path)
            self.house.ledger.begin_drill(database, drill_id)
            order = Order(database, subject.policy, work.check, drill_id)
            future = self._heavy_pool.submit(self.house.driller.run, order, stop=self.stop, progress=_unseen)
        elif live is not None:
            future = self._heavy_pool.submit(
                self.house.examiner.run, database, subject.policy, live, stop=self.stop, progress=_unseen
            )
        else:
            return
        self._heavy[future] = (work, database, subject.policy, live.file_id if live is not None else None)
        future.add_done_callback(self._finished)

    def _collect(self) -> bool:
        """Record what workers brought back; whether anything was."""
        running = len(self._looks) + len(self._heavy)
        if self._asking is not None and self._asking.done():
            for path, claim in (self._result(self._asking) or {}).items():
                if path in self.keeper.fleet.databases:
                    self.house.ledger.record(path, lambda evidence, claim=claim: evidence.after_claim(claim))  # type: ignore[misc] # bound now
            self._asking = None
        for look in [each for each in self._looks if each.done()]:
            self._looked(self._looks.pop(look), self._result(look))
        for heavy in [each for each in self._heavy if each.done()]:
            work, database, policy, file_id = self._heavy.pop(heavy)
            self._worked(work, database, policy, file_id, heavy.result())
        return len(self._looks) + len(self._heavy) < running

    @staticmethod
    def _result(future: Future[T]) -> T | None:
        """What a worker brought; None when it was told to stop, or failed in a way that nobody foresaw.

        The verbs turn what they foresee into evidence; what is left leaves the evidence as it was, to age and turn red.
        """
        try:
            return future.result()
        except Stopped:
            return None
        except Exception:
            log.exception("a worker failed in a way that nobody foresaw")
            return None

    def _looked(self, database: Database, looked: Looked | None) -> None:
        path = database.path
        if looked is None or not self._still(database):
            return
        result = looked.sighting.result.value
        self.house.telemetry.looked(database.name, result)
        before = self.house.ledger.snapshot().get(path)
        self.house.ledger.record(path, looked.applied)
        known = before.sighting.result.value if before is not None and before.sighting is not None else None
        if result != known:
            level = logging.INFO if result == "ok" else logging.WARNING
            why = f": {looked.sighting.message}" if looked.sighting.message else ""
            log.log(level, "%s: replica %s%s", database.name, result, why)

    def _still(self, database: Database) -> bool:
        """Whether the fleet still holds this database and sends it to this replica: what is known must be of them."""
        now = self.keeper.fleet.databases.get(database.path)
        return now is not None and now.replica == database.replica

    def _worked(
        self, work: Heavy, database: Database, policy: Policy, file_id: FileId | None, found: Drill | DatabaseCheck
    ) -> None:
        known = self.house.ledger.snapshot().get(work.path)
        same_file = known is None or file_id is None or known.file_id == file_id
        if isinstance(found, Drill):
            if not self._still(database) or not same_file:
                why = "its database was replaced, moved or removed meanwhile"
                found = replace(found, outcome=Outcome.ABORTED, reason="aborted", message=why)
            self.house.desk.finish(work.path, found.outcome.value)
            self.house.ledger.add_drill(database, found, max_shrink=policy.max_shrink)
            self.house.telemetry.drilled(database.name, found)
            level = logging.INFO if found.outcome is Outcome.PASSED else logging.WARNING
            log.log(level, "%s: drill %s %s: %s", database.name, found.id, found.outcome.value, found.message)
        elif isinstance(found, DatabaseCheck):
            if not same_file:
                return  # another file stands there now
            self.house.ledger.record(work.path, lambda evidence: evidence.after_database_check(found))
            if not found.sound:
                log.warning("%s: production check: %s: %s", database.name, found.reason, found.message)


def _unseen(stage: str, done: int, total: int | None) -> None:
    """Nobody watches a daemon's progress."""
