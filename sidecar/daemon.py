"""The daemon's loop: notice what changed, begin what is due, record what came back.

Events only wake the loop; it works at its own pace. Workers return values and touch no shared state: only the loop writes
evidence, so nothing has to be ordered. The loop never waits for Litestream, a store or a disk, so it always turns.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from sidecar.core.case import Scratch
from sidecar.core.errors import SidecarError, Stopped
from sidecar.core.evidence import Evidence
from sidecar.core.model import Claim, Database
from sidecar.core.pace import Pace
from sidecar.core.policy import Policy
from sidecar.core.schedule import Busy, Subject, due, seated
from sidecar.fleet import Fleet, FleetKeeper
from sidecar.house import House
from sidecar.look import Looked
from sidecar.pulse import FEW, Pulse
from sidecar.workshop import Workshop

TICK_S, TICK_MIN_S = 1.0, 0.25  # half of the shortest look interval, within these
COALESCE_S = 0.1  # a burst of events is one wake
# Intervals, and what they stretch to where thousands of databases make the work long (`core/pace.py`).
CLAIMS_S = 5.0, 10.0
PLAN_S = 0.5, 2.0  # a busy app may wake us ten times a second
LOOKS_AHEAD = 60  # planned at once where planning takes long: what a seat that becomes free is filled with
FLUSH_S = 5.0, 10.0
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
        self._pulse = Pulse(house.clock, house.live, house.ledger, house.watching)
        self._asks, self._plans, self._flushes = Pace(*CLAIMS_S), Pace(*PLAN_S), Pace(*FLUSH_S)
        self._seat_free = self._heavy_seat_free = True  # one became so, or some are from the start
        self._ahead: list[str] = []  # paths to look at next
        self._subjects: dict[str, Subject] = {}  # of the last plan
        self._tick: tuple[Fleet, float] | None = None
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
        fleet = self.keeper.fleet
        if self._tick is None or self._tick[0] is not fleet:
            shortest = min((each.look_interval.total_seconds() for each in fleet.policies.values()), default=TICK_S)
            self._tick = fleet, min(max(shortest / 2, TICK_MIN_S), TICK_S)
        return self._tick[1]

    def turn(self) -> None:
        """One turn: collect, reload, pulse, ask, begin, flush."""
        woken = self.wake.is_set()
        self.wake.clear()
        self._collect()
        self._take_over()
        fleet, mono = self.keeper.fleet, self.house.clock.monotonic()
        if self._pulse.turn(fleet, woken=woken):
            self._survey()
        if self._asking is None and self._asks.due(mono):
            self._asks.begin(mono)
            self._asking = self._claims_pool.submit(self._claims.read, tuple(fleet.databases.values()))
            self._asking.add_done_callback(self._finished)
        self._workshop.begin_proofs(fleet)
        if self._plan_due(mono):
            self._begin(fleet)
        elif self._ahead:
            self._look(fleet, self.house.ledger.snapshot())
        if self._flushes.due(mono):
            began = self.house.clock.monotonic()
            self._flushes.begin(mono)
            self.house.ledger.flush()
            self._took(self._flushes, began)
            self._say("evidence cannot be written", self.house.ledger.error)
        self.house.turned()
        self.house.telemetry.turned(self.house.clock.now())
        self._turned_at = self.house.clock.monotonic()

    def _took(self, pace: Pace, began: float) -> None:
        if len(self.keeper.fleet.databases) > FEW:  # a few take long on a busy machine only
            pace.took(self.house.clock.monotonic() - began)

    def _plan_due(self, mono: float) -> bool:
        """A seat that became free is filled at once; where planning takes long, one for looks with what was planned ahead."""
        if self._heavy_seat_free or (self._seat_free and not self._plans.stretched):
            return True
        waited = mono - self._plans.began_s >= PLAN_S[0]
        return self._plans.due(mono) or (waited and bool(self.house.desk.queued()))

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
        self._ahead.clear()
        for each in (self._pulse, self._asks, self._plans, self._flushes):
            each.hurry()
        self.house.desk.drop(frozenset(fleet.databases))
        self.house.ledger.forget(frozenset(fleet.databases))
        self.house.watching.watch(fleet)

    @staticmethod
    def _warn(fleet: Fleet) -> None:
        for warning in fleet.warnings:
            log.warning("configuration: %s", warning)

    def _survey(self) -> None:
        """What else is looked at as often: the scratch, and what other processes wrote."""
        house = self.house
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
        began = self.house.clock.monotonic()
        self._plans.begin(began)
        self._seat_free = self._heavy_seat_free = False
        evidence, now = self.house.ledger.snapshot(), self.house.clock.now()
        subjects = self._subjects = {
            path: self._subject(path, evidence.get(path), policy, now) for path, policy in fleet.policies.items()
        }
        busy = Busy(
            frozenset(each.path for each in self._looks.values()),
            self._workshop.busy,
        )
        seats = self.house.seats
        if self._plans.stretched:
            seats = replace(seats, looks=seats.looks + LOOKS_AHEAD)
        asked, awaited = self.house.desk.queued(), self.house.awaited()
        work = due(subjects, now, seats=seats, busy=busy, requested=asked)
        self._took(self._plans, began)
        self.house.telemetry.due(work.drills_due)
        self._ahead = list(work.looks)
        self._look(fleet, evidence)
        for path in work.standing:
            self.house.drills.stands(fleet.databases[path])
        for heavy in work.heavy:
            if heavy.path in awaited and heavy.path not in asked:
                continue
            self._workshop.begin(fleet, heavy, subjects[heavy.path])

    def _subject(self, path: str, known: Evidence | None, policy: Policy, now: datetime) -> Subject:
        """The one of the last plan where nothing was learnt since: a thousand new objects every second keep the garbage collector busy."""
        return Subject.of(known if known is not None else Evidence(first_seen_at=now), policy, self._subjects.get(path))

    def _look(self, fleet: Fleet, evidence: Mapping[str, Evidence]) -> None:
        """Begin the looks that were planned, as far as seats are free."""
        busy = frozenset(each.path for each in self._looks.values())
        for path in seated(self._ahead, evidence, self.house.seats.looks, busy):
            known, policy = evidence.get(path), fleet.policies[path]
            self._ahead.remove(path)
            look = self._look_pool.submit(
                self.house.looker.look, fleet.databases[path], known, policy, fleet.command_timeout_s, self.stop
            )
            self._looks[look] = fleet.databases[path]
            look.add_done_callback(self._finished)

    def _collect(self) -> None:
        """Record what workers brought back."""
        running = len(self._looks)
        if self._asking is not None and self._asking.done():
            began, fleet = self.house.clock.monotonic(), self.keeper.fleet
            many, known = len(fleet.databases) > FEW, self.house.ledger.snapshot()
            for path, claim in (self._result(self._asking) or {}).items():
                if many and path in known and not known[path].is_news(claim):
                    continue  # a thousand copies of what is known, every few seconds
                if path in fleet.databases:
                    self.house.ledger.record(path, lambda evidence, claim=claim: evidence.after_claim(claim))  # type: ignore[misc] # bound now
            self._took(self._asks, began)
            self._asking = None
        for look in [each for each in self._looks if each.done()]:
            self._looked(self._looks.pop(look), self._result(look))
        self._heavy_seat_free |= self._workshop.collect()
        self._seat_free |= len(self._looks) < running

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
