"""Answers: what evidence says at this instant, for whoever asks (HTTP, metrics, the terminal). Reads state, causes no work."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock
from typing import Protocol, TypeVar

from sidecar.core.case import Scratch
from sidecar.core.elsewhere import FORMAT, offered
from sidecar.core.evidence import Evidence
from sidecar.core.held import Held
from sidecar.core.model import Database, Drill
from sidecar.core.ports import Clock
from sidecar.core.verdict import (
    Document,
    FleetVerdict,
    Verdict,
    database_document,
    drill_document,
    fleet_document,
    rfc3339,
    verdict_of,
)
from sidecar.core.verdict_text import fleet_text
from sidecar.desk import DrillDesk
from sidecar.fleet import Fleet, FleetKeeper

DRILLS_SHOWN_MAX = 20
OFFERED_OF = 60  # newest drills, of which those are offered that were made here and ended
OFFER_BYTES_MAX = 4 * 1024 * 1024

T = TypeVar("T")


class EvidenceStore(Protocol):
    """What is read of the ledger."""

    def snapshot(self) -> Mapping[str, Evidence]:
        """Evidence by path."""
        ...

    def history(self, path: str | None, limit: int) -> Sequence[tuple[str, Drill]]:
        """(name, drill), newest first."""
        ...

    def drill(self, drill_id: str) -> tuple[str, Drill] | None:
        """The finished drill of that id, with its database's name."""
        ...


@dataclass(frozen=True, slots=True)
class Answers:
    """The read side of the daemon."""

    keeper: FleetKeeper
    ledger: EvidenceStore
    clock: Clock
    desk: DrillDesk
    scratch: Callable[[], Scratch | None]
    version: str
    _held: dict[str, Held] = field(default_factory=dict, init=False, repr=False, compare=False)  # by path
    _lock: Lock = field(default_factory=Lock, init=False, repr=False, compare=False)

    def verdict(
        self,
        databases: Sequence[Database] | None = None,
        *,
        max_age: timedelta | None = None,
        max_lag: timedelta | None = None,
    ) -> FleetVerdict:
        """Judge these databases (None: all) now; the limits tighten every policy and never loosen one."""
        if max_age is None and max_lag is None:
            aged, now = self._each(databases, Held.aged)
            return FleetVerdict(tuple(aged), now)
        fleet, now = self.keeper.fleet, self.clock.now()
        evidence, room = self.ledger.snapshot(), self.scratch()
        return FleetVerdict(
            tuple(
                verdict_of(
                    database,
                    evidence.get(database.path, Evidence(first_seen_at=now)),
                    fleet.policies[database.path].tightened(max_age=max_age, max_lag=max_lag),
                    room,
                    now,
                )
                for database in _in_order(fleet, databases)
            ),
            now,
        )

    def standing(self) -> FleetVerdict:
        """The verdict about all now, for whoever shows no ages: in findings that do not block they may be those of before."""
        verdicts, now = self._each(None, lambda _, verdict: verdict)
        return FleetVerdict(tuple(verdicts), now)

    def told(self, databases: Sequence[Database] | None = None) -> FleetVerdict:
        """The verdict about these (None: all) now, for lines of text: the ages of what simply passes may be those of before."""
        told, now = self._each(databases, Held.told)
        return FleetVerdict(tuple(told), now)

    def ready(self, fleet: FleetVerdict) -> Document:
        """The body of `/ready`."""
        return fleet_document(fleet, self.version)

    def ready_text(self, databases: Sequence[Database] | None = None) -> tuple[FleetVerdict, str]:
        """As `standing`, about these databases (None: all), and the body of `/ready` as JSON, with every age as it is now."""
        found, now = self._each(databases, lambda held, verdict: (verdict, held.text(verdict)))
        fleet = FleetVerdict(tuple(verdict for verdict, _ in found), now)
        return fleet, fleet_text(fleet, self.version, [text for _, text in found])

    def _each(
        self, databases: Sequence[Database] | None, read: Callable[[Held, Verdict], T]
    ) -> tuple[list[T], datetime]:
        """Judge these databases (None: all) now, as far as what was judged before does not hold, and read each verdict."""
        found = []
        with self._lock:  # and the clock is read below it, so that it never seems to go back
            fleet, now = self.keeper.fleet, self.clock.now()
            evidence, room = self.ledger.snapshot(), self.scratch()
            if len(self._held) > len(fleet.databases):
                for path in self._held.keys() - fleet.databases.keys():
                    del self._held[path]
            for database in _in_order(fleet, databases):
                known = evidence.get(database.path) or Evidence(first_seen_at=now)
                policy = fleet.policies[database.path]
                held = self._held.get(database.path)
                if held is None:
                    held = self._held[database.path] = Held(database, known, policy, room)
                found.append(read(held, held.judge(database, known, policy, room, now)))
        return found, now

    def database(self, database: Database) -> Document:
        """All evidence of one database, its last drills."""
        verdict = self.verdict([database]).verdicts[0]
        drills = self.ledger.history(database.path, DRILLS_SHOWN_MAX)
        return database_document(verdict) | {"drills": [drill_document(drill) for _, drill in drills]}

    def evidence(self, database: Database, facts: Callable[[Drill], Document]) -> Document:
        """What this daemon has proved by its own drills, whole, for the sidecar beside the app; `facts`: a drill as it is kept."""
        known = self.ledger.snapshot().get(database.path)
        drills: list[Document] = []
        left = OFFER_BYTES_MAX
        for drill in offered([each for _, each in self.ledger.history(database.path, OFFERED_OF)], known):
            fact = facts(drill)
            left -= len(json.dumps(fact))
            if left < 0 and drills:  # ten thousand tables in each
                break
            drills.append(fact)
        return {
            "evidence_version": FORMAT,
            "version": self.version,
            "name": database.name,
            "checked_at": rfc3339(self.clock.now()),
            "replica": {"type": database.replica.type, "label": database.replica.label},
            "drills": drills,
        }

    def drill(self, drill_id: str) -> Document | None:
        """A drill by id: queued, running, or what it found."""
        ticket = self.desk.find(drill_id)
        found = self.ledger.drill(drill_id)
        if found is not None:
            name, drill = found
            return {"id": drill_id, "db": name, "state": drill.outcome.value, "drill": drill_document(drill)}
        if ticket is None:
            return None
        database = self.keeper.fleet.databases.get(ticket.path)
        return {"id": drill_id, "db": database.name if database else None, "state": ticket.state, "drill": None}


def _in_order(fleet: Fleet, databases: Sequence[Database] | None) -> list[Database]:
    """These databases by name, without those that have left the fleet since they were named."""
    wanted = fleet.databases.values() if databases is None else databases
    return sorted((each for each in wanted if each.path in fleet.policies), key=lambda each: each.name)
