"""The workshop: restores and copies under way, each on a seat of its own, one piece of work per database at a time.

Workers return values and touch no evidence; `collect` records what they brought, on the loop's own thread. Proofs are the
exception: their walk reads what it has just learnt, so it writes evidence itself, each change whole under the ledger's lock.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from sidecar.core.errors import SidecarError
from sidecar.core.live_state import FileId
from sidecar.core.model import Database, DatabaseCheck, Drill, Outcome
from sidecar.core.policy import Policy
from sidecar.core.proof import Proof
from sidecar.core.schedule import Heavy, Subject
from sidecar.core.turns import HeavyKind
from sidecar.deploy.proof_desk import ProofTicket
from sidecar.drill_attempt import Order
from sidecar.fleet import Fleet, FleetKeeper
from sidecar.house import House

log = logging.getLogger("sidecar.workshop")


@dataclass(frozen=True, slots=True)
class _Begun:
    """What a worker was given, to know what its result is about."""

    database: Database
    policy: Policy
    file_id: FileId | None
    ticket: ProofTicket | None = None  # of a proof that somebody asked for


class Workshop:
    """For the loop's thread alone; open it for as long as the loop turns.

    Args:
        house: the adapters, the desk and the ledger.
        keeper: the fleet in force when a result arrives may be another than when its work began.
        stop: ends what runs.
        wake: set when a worker has ended.
    """

    def __init__(self, house: House, keeper: FleetKeeper, stop: threading.Event, wake: threading.Event) -> None:
        self._house, self._keeper, self._stop, self._wake = house, keeper, stop, wake
        self._working: dict[Future[Any], _Begun] = {}

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Workers come and go with the block; what runs at its end is waited for (children end within seconds)."""
        with ThreadPoolExecutor(self._house.seats.heavy, "drill", initializer=self._be_nice) as self._pool:
            yield

    @property
    def busy(self) -> frozenset[str]:
        """Paths of the databases that are worked on."""
        return frozenset(each.database.path for each in self._working.values())

    def begin(self, fleet: Fleet, work: Heavy, subject: Subject) -> None:
        """Begin a drill or a check of production; there must be a free seat."""
        database, policy, live = fleet.databases[work.path], subject.policy, subject.evidence.live
        future: Future[Any]
        if work.kind is HeavyKind.DRILL:
            asked = self._house.desk.open_at(database.path) is not None  # until it begins
            drill_id = self._house.drills.begin(database)
            order = Order(
                database, policy, work.check, drill_id, parity=work.parity, asked=asked, by_change=work.by_change and not asked,
            )  # fmt: skip
            future = self._pool.submit(self._house.driller.run, order, stop=self._stop, progress=_unseen)
        elif live is not None:
            future = self._pool.submit(
                self._house.examiner.run, database, policy, live, stop=self._stop, progress=_unseen
            )
        else:
            return
        self._working[future] = _Begun(database, policy, live.file_id if live is not None else None)
        future.add_done_callback(lambda _: self._wake.set())

    def begin_proofs(self, fleet: Fleet) -> None:
        """Begin the proofs that wait, as far as seats are free: a deploy waits for them, so they come first."""
        for ticket in self._house.proofs.queued():
            database = fleet.named(ticket.demand.name)
            if database is None:
                self._house.proofs.finish(ticket, None, f"there is no database {ticket.demand.name} any more")
            elif len(self._working) < self._house.seats.heavy and database.path not in self.busy:
                self._house.proofs.begin(ticket)
                future = self._pool.submit(self._house.road.prove, ticket.demand, stop=self._stop, progress=_unseen)
                self._working[future] = _Begun(database, fleet.policies[database.path], None, ticket)
                future.add_done_callback(lambda _: self._wake.set())

    def collect(self) -> bool:
        """Record what workers brought back; whether a seat became free."""
        ended = [each for each in self._working if each.done()]
        for future in ended:
            begun = self._working.pop(future)
            if begun.ticket is not None:
                self._proved(begun.ticket, future)
                continue
            found = future.result()
            if isinstance(found, Drill):
                self._drilled(begun, found)
            elif isinstance(found, DatabaseCheck):
                self._checked(begun, found)
        return bool(ended)

    def _be_nice(self) -> None:
        # On Linux niceness belongs to the thread, and a child process inherits its thread's.
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):  # nicer than asked for already, and not allowed to be less nice
            os.setpriority(os.PRIO_PROCESS, thread, max(self._house.nice, os.getpriority(os.PRIO_PROCESS, thread)))

    def _same_file(self, begun: _Begun) -> bool:
        known = self._house.ledger.snapshot().get(begun.database.path)
        return known is None or begun.file_id is None or known.file_id == begun.file_id

    def _drilled(self, begun: _Begun, drill: Drill) -> None:
        database, found = begun.database, drill
        if not self._keeper.fleet.holds(database) or not self._same_file(begun):
            why = "its database was replaced, moved or removed meanwhile"
            found = replace(drill, outcome=Outcome.ABORTED, reason="aborted", message=why)
        self._house.drills.end(database, found, max_shrink=begun.policy.max_shrink)
        level = logging.INFO if found.outcome is Outcome.PASSED else logging.WARNING
        log.log(level, "%s: drill %s %s: %s", database.name, found.id, found.outcome.value, found.message)

    def _proved(self, ticket: ProofTicket, future: Future[Any]) -> None:
        try:
            proof: Proof = future.result()
        except SidecarError as error:
            self._house.proofs.finish(ticket, None, error.message)
        except Exception as error:
            log.exception("a proof failed in a way that nobody foresaw")
            self._house.proofs.finish(ticket, None, f"the proof itself failed: {type(error).__name__}")
        else:
            self._house.proofs.finish(ticket, proof)
            log.info("%s: proof %s: %s", ticket.demand.name, ticket.id, proof.reason)

    def _checked(self, begun: _Begun, check: DatabaseCheck) -> None:
        if not self._same_file(begun):
            return  # another file stands there now
        self._house.ledger.record(begun.database.path, lambda evidence: evidence.after_database_check(check))
        if not check.sound:
            log.warning("%s: production check: %s: %s", begun.database.name, check.reason, check.message)


def _unseen(stage: str, done: int, total: int | None) -> None:
    """Nobody watches a daemon's progress."""
