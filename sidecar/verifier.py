"""The verifier: another daemon with the same replicas, asked for its drills, which are taken over into the evidence here.

One thread asks, one database after another, and touches no evidence; the loop takes over what it brought. A verifier that cannot
be asked changes nothing: what is known ages, and drills become due here (`core/turns.py`).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Event, Lock, Thread
from typing import Protocol

from sidecar.core.elsewhere import Offer, another_replica, clock_ahead, taken, why_not
from sidecar.core.errors import SidecarError
from sidecar.core.evidence import Evidence
from sidecar.core.model import Database, Drill, Outcome
from sidecar.core.ports import Clock
from sidecar.fleet import FleetKeeper

ASK_EVERY_MIN = timedelta(seconds=10)
PAUSE_S = 0.5  # between two questions: 120 a minute at most
REST_S = 10.0  # after one that found nobody
IDLE_S = 1.0  # how often it is looked whether a question is due
AWAITED_S = 30.0  # after the start: what the verifier has proved need not be proved here at once
BROUGHT_MAX = 4  # answers that the loop has not taken yet; then nobody is asked
TURN_MAX = 2  # answers taken over in one turn of the loop

log = logging.getLogger("sidecar.verifier")


class Elsewhere(Protocol):
    """The other daemon."""

    @property
    def shown(self) -> str: ...  # noqa: D102 - see the adapter
    def ask(self, name: str) -> Offer: ...  # noqa: D102 - see the adapter


class Known(Protocol):
    """What is read of the ledger."""

    def snapshot(self) -> Mapping[str, Evidence]: ...  # noqa: D102 - see the adapter
    def drill(self, drill_id: str) -> tuple[str, Drill] | None: ...  # noqa: D102 - see the adapter


class Taken(Protocol):
    """Where drills are kept and told of."""

    def taken(self, database: Database, drill: Drill, *, max_shrink: float, news: bool) -> Evidence: ...  # noqa: D102


class Verifier:
    """Asks in a thread of its own between `start` and `close`; `turned` and `awaited` are the loop's.

    Args:
        elsewhere: whom to ask.
        unknown: the kind of SidecarError that says: it answers, and does not know this database.
        wake: wakes the loop.
    """

    def __init__(
        self, elsewhere: Elsewhere, unknown: type[SidecarError], keeper: FleetKeeper, ledger: Known, drills: Taken, clock: Clock,
        wake: Callable[[], None],
    ) -> None:  # fmt: skip
        self._elsewhere, self._unknown, self._keeper, self._ledger = elsewhere, unknown, keeper, ledger
        self._drills, self._clock, self._wake = drills, clock, wake
        self._began_s = clock.monotonic()
        self._asked_s: dict[str, float] = {}  # by path: when it was asked last
        self._heard: set[str] = set()  # paths of which an answer was taken over
        self._brought: deque[tuple[Database, Offer | None]] = deque()
        self._until: dict[str, datetime] = {}  # by path: when the newest drill ended that was taken over
        self._said: dict[str, frozenset[str]] = {}  # by path: what was logged of its newest answer
        self._trouble: str | None = None
        self._up: bool | None = None
        self._lock, self._stop = Lock(), Event()
        self._thread = Thread(target=self._run, name="verifier", daemon=True)

    @property
    def up(self) -> bool | None:
        """Whether it answered when it was last asked; None before that."""
        return self._up

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def close(self) -> None:
        """Ask nobody any more; a question under way is not waited for."""
        self._stop.set()

    def awaited(self) -> Collection[str]:
        """Paths of which the verifier is yet to be heard, for a short while after the start: nothing heavy begins on them."""
        if self._up is False or self._clock.monotonic() - self._began_s > AWAITED_S:
            return ()
        return self._keeper.fleet.databases.keys() - self._heard

    def turned(self) -> None:
        """Take over what was brought."""
        for _ in range(TURN_MAX):
            with self._lock:
                if not self._brought:
                    return
                database, offer = self._brought.popleft()
            if offer is not None and self._keeper.fleet.holds(database):
                self._take(database, offer)
            if self._clock.monotonic() - self._began_s <= AWAITED_S:
                self._heard.add(database.path)
        self._wake()

    def _take(self, database: Database, offer: Offer) -> None:
        evidence, now = self._ledger.snapshot().get(database.path), self._clock.now()
        if evidence is None:
            return
        other = another_replica(offer, database.replica) or clock_ahead(offer, now)
        if other is not None:
            self._say(database, [f"no drill of the verifier's is taken over: {other}"])
            return
        sentences = [*offer.unreadable]
        max_shrink = self._keeper.fleet.policies[database.path].max_shrink
        newest = max(offer.drills, key=lambda drill: drill.finished_at, default=None)
        for drill in sorted(offer.drills, key=lambda drill: drill.finished_at):
            why, until = why_not(drill, evidence, now), self._until.get(database.path)
            if why is not None:
                sentences.append(why)
            elif until is None or drill.finished_at > until:  # else it was taken over, and is too old to be kept here
                self._until[database.path] = drill.finished_at
                evidence = self._drills.taken(
                    database, taken(drill, self._elsewhere.shown), max_shrink=max_shrink, news=drill is newest
                )
                level = logging.INFO if drill.outcome is Outcome.PASSED else logging.WARNING
                log.log(
                    level,
                    "%s: drill %s, made by the verifier %s: %s: %s",
                    database.name,
                    drill.id,
                    self._elsewhere.shown,
                    drill.outcome.value,
                    drill.message,
                )
        self._say(database, [f"not taken over from the verifier: {each}" for each in sentences])

    def _say(self, database: Database, sentences: Collection[str]) -> None:
        """Log what was not said of its last answer."""
        before, said = self._said.get(database.path, frozenset()), frozenset(sentences)
        for each in sorted(said - before):
            log.warning("%s: %s", database.name, each)
        self._said[database.path] = said

    # What follows runs in the thread.

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                pause_s = self.step()
            except Exception:  # the next question may be answered; until then what is known ages
                log.exception("asking the verifier failed in a way that nobody foresaw")
                self._up, pause_s = False, REST_S
            self._stop.wait(pause_s)

    def step(self) -> float:
        """Ask about the database that has waited longest, if it is time; seconds until the next step."""
        database = self._due()
        with self._lock:
            waiting = [each.path for each, _ in self._brought]
        if database is None or len(waiting) >= BROUGHT_MAX or database.path in waiting:
            return IDLE_S
        self._asked_s[database.path] = self._clock.monotonic()
        offer: Offer | None = None
        try:
            offer = self._unknown_here(self._elsewhere.ask(database.name))
        except self._unknown as error:
            self._say(database, [error.message])
        except SidecarError as error:
            self._trouble_is(error.message)
            return REST_S
        self._trouble_is(None)
        with self._lock:
            self._brought.append((database, offer))
        self._wake()
        return PAUSE_S

    def _due(self) -> Database | None:
        fleet, now_s = self._keeper.fleet, self._clock.monotonic()
        for path in self._asked_s.keys() - fleet.databases.keys():
            del self._asked_s[path]
            self._said.pop(path, None)
            self._until.pop(path, None)
        waiting = [
            (at, path)
            for path, policy in fleet.policies.items()
            if (at := self._asked_s.get(path, -1e9) + max(policy.look_every, ASK_EVERY_MIN).total_seconds()) <= now_s
        ]
        return fleet.databases[min(waiting)[1]] if waiting else None

    def _unknown_here(self, offer: Offer) -> Offer:
        """The offer without the drills that the ledger holds: that is asked of a disk, so not by the loop."""
        fresh = tuple(each for each in offer.drills if self._ledger.drill(each.id) is None)
        return replace(offer, drills=fresh)

    def _trouble_is(self, trouble: str | None) -> None:
        """Log what has changed, once."""
        self._up = trouble is None
        if trouble is not None and trouble != self._trouble:
            log.warning("%s; until it can be asked again, drills become due here", trouble)
        elif trouble is None and self._trouble is not None:
            log.info("the verifier %s answers again", self._elsewhere.shown)
        self._trouble = trouble
