"""Whoever drills in the daemon says so here, at begin and end: the desk, the ledger, the metrics and those who are to be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sidecar.core.evidence import Evidence
from sidecar.core.model import Database, Drill
from sidecar.desk import DrillDesk


class DrillLedger(Protocol):
    """Where drills are kept."""

    def begin_drill(self, database: Database, drill_id: str) -> None: ...  # noqa: D102 - see the adapter
    def add_drill(self, database: Database, drill: Drill, *, max_shrink: float) -> Evidence: ...  # noqa: D102
    def record(self, path: str, change: Callable[[Evidence], Evidence]) -> Evidence: ...  # noqa: D102


class Counted(Protocol):
    """Where drills are counted."""

    def drilled(self, name: str, drill: Drill) -> None: ...  # noqa: D102 - see metrics.py
    def stood(self, name: str) -> None: ...  # noqa: D102 - see metrics.py


class Told(Protocol):
    """Who tells others."""

    def drill_began(self, name: str, drill_id: str) -> None: ...  # noqa: D102 - see news.py
    def drill_ended(self, name: str, drill: Drill) -> None: ...  # noqa: D102 - see news.py
    def proof_stands(self, name: str, drill: Drill) -> None: ...  # noqa: D102 - see news.py


@dataclass(frozen=True, slots=True)
class DrillLog:
    """Safe to share between threads, as all that it calls is."""

    ledger: DrillLedger
    desk: DrillDesk
    counted: Counted
    told: Told

    def begin(self, database: Database) -> str:
        """A drill of this database begins; its id, the asked-for one where somebody asked."""
        drill_id = self.desk.begin(database.path)
        self.ledger.begin_drill(database, drill_id)
        self.told.drill_began(database.name, drill_id)
        return drill_id

    def end(self, database: Database, drill: Drill, *, max_shrink: float) -> Evidence:
        """It has ended; the evidence with it."""
        self.desk.finish(database.path, drill.outcome.value)
        grown = self.ledger.add_drill(database, drill, max_shrink=max_shrink)
        self.counted.drilled(database.name, drill)
        self.told.drill_ended(database.name, drill)
        return grown

    def taken(self, database: Database, drill: Drill, *, max_shrink: float, news: bool) -> Evidence:
        """A drill made elsewhere is taken over; the evidence with it. `news`: it is the newest one.

        It is counted where it ended, and not here too: whoever adds up the counters of all daemons would count it twice.
        """
        grown = self.ledger.add_drill(database, drill, max_shrink=max_shrink)
        if news:
            self.told.drill_ended(database.name, drill)
        return grown

    def stands(self, database: Database) -> None:
        """No drill is made: it would restore what the last one did."""
        grown = self.ledger.record(database.path, Evidence.after_standing)
        self.counted.stood(database.name)
        if grown.last_drill is not None:
            self.told.proof_stands(database.name, grown.last_drill)
