"""The daemon's loop: notice what changed, begin what is due, record what came back.

Events only wake the loop; it works at its own pace. Workers return values and touch no shared state: only the loop writes
evidence, so nothing has to be ordered. The loop never waits for Litestream, a store or a disk, so it always turns.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from sidecar.core.case import Scratch
from sidecar.core.errors import SidecarError, Stopped
from sidecar.core.evidence import Evidence
from sidecar.core.model import Claim, Database
from sidecar.core.schedule import Busy, Subject, due
from sidecar.fleet import Fleet, FleetKeeper
from sidecar.house import House
from sidecar.look import Looked
from sidecar.workshop import Workshop

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
        self._workshop = Workshop(house, keeper, stop, self.wake)
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
            self._workshop.open(),
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
            self.house.standing.stopping()
        self._collect()
        self.house.ledger.flush()

    def _tick_s(self) -> float:
        """Seconds that the loop may sleep, so that the shortest interval is still kept."""
        shortest = min(
            (each.look_interval.total_seconds() for each in self.keeper.fleet.policies.values()), default=TICK_S
        )
        return min(max(shortest / 2, TICK_MIN_S), TICK_S)

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
        self.house.telemetry.turned(self.house.clock.now())
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
        if force:
            self.house.standing.reloading()
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
        try:
            house.book.refresh()
            self._say("decisions of deploy commands cannot be read", None)
        except SidecarError as error:
            self._say("decisions of deploy commands cannot be read", error.message)

    def _begin(self, fleet: Fleet) -> None:
        self._workshop.begin_proofs(fleet)
        evidence, now = self.house.ledger.snapshot(), self.house.clock.now()
        subjects = {
            path: Subject(evidence.get(path, Evidence(first_seen_at=now)), policy)
            for path, policy in fleet.policies.items()
        }
        busy = Busy(
            frozenset(each.path for each in self._looks.values()),
            self._workshop.busy,
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
            self._workshop.begin(fleet, heavy, subjects[heavy.path])

    def _collect(self) -> bool:
        """Record what workers brought back; whether anything was."""
        running = len(self._looks)
        if self._asking is not None and self._asking.done():
            for path, claim in (self._result(self._asking) or {}).items():
                if path in self.keeper.fleet.databases:
                    self.house.ledger.record(path, lambda evidence, claim=claim: evidence.after_claim(claim))  # type: ignore[misc] # bound now
            self._asking = None
        for look in [each for each in self._looks if each.done()]:
            self._looked(self._looks.pop(look), self._result(look))
        return self._workshop.collect() or len(self._looks) < running

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
        if looked is None or not self.keeper.fleet.holds(database):
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
