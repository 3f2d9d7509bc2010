"""Answers: what evidence says at this instant, for whoever asks (HTTP, metrics, the terminal). Reads state, causes no work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from sidecar.core.case import Scratch
from sidecar.core.evidence import Evidence
from sidecar.core.model import Database, Drill
from sidecar.core.ports import Clock
from sidecar.core.verdict import Document, FleetVerdict, database_document, drill_document, fleet_document, verdict_of
from sidecar.desk import DrillDesk
from sidecar.fleet import FleetKeeper

DRILLS_SHOWN_MAX = 20


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

    def verdict(
        self,
        databases: Sequence[Database] | None = None,
        *,
        max_age: timedelta | None = None,
        max_lag: timedelta | None = None,
    ) -> FleetVerdict:
        """Judge these databases (None: all) now; the limits tighten every policy and never loosen one."""
        fleet, now = self.keeper.fleet, self.clock.now()
        evidence, room = self.ledger.snapshot(), self.scratch()
        wanted = sorted(fleet.databases.values() if databases is None else databases, key=lambda each: each.name)
        return FleetVerdict(
            tuple(
                verdict_of(
                    database,
                    evidence.get(database.path, Evidence(first_seen_at=now)),
                    fleet.policies[database.path].tightened(max_age=max_age, max_lag=max_lag),
                    room,
                    now,
                )
                for database in wanted
                if database.path in fleet.policies  # it may have left the fleet since it was named
            ),
            now,
        )

    def ready(self, fleet: FleetVerdict) -> Document:
        """The body of `/ready`."""
        return fleet_document(fleet, self.version)

    def database(self, database: Database) -> Document:
        """All evidence of one database, its last drills."""
        verdict = self.verdict([database]).verdicts[0]
        drills = self.ledger.history(database.path, DRILLS_SHOWN_MAX)
        return database_document(verdict) | {"drills": [drill_document(drill) for _, drill in drills]}

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
