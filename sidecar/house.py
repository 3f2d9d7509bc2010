"""What the daemon's loop works with, as one value: the adapters it is given, and the few calls it makes of each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sidecar.core.evidence import Evidence
from sidecar.core.model import Database
from sidecar.core.ports import Claims, Clock, LiveReader, ScratchSpace
from sidecar.core.schedule import Seats
from sidecar.deploy.proof_desk import ProofDesk
from sidecar.deploy.road import LocalRoad
from sidecar.desk import DrillDesk
from sidecar.drill import Driller
from sidecar.drill_log import DrillLog
from sidecar.fleet import Fleet
from sidecar.look import Looker
from sidecar.production import Examiner


class Ledger(Protocol):
    """What the loop writes."""

    error: str | None

    def snapshot(self) -> Mapping[str, Evidence]: ...  # noqa: D102 - see the adapter
    def refresh(self) -> None: ...  # noqa: D102 - see the adapter
    def record(self, path: str, change: Callable[[Evidence], Evidence]) -> Evidence: ...  # noqa: D102 - see the adapter
    def flush(self) -> None: ...  # noqa: D102 - see the adapter
    def forget(self, keep: Collection[str]) -> int: ...  # noqa: D102 - see the adapter


class Watching(Protocol):
    """What the loop wants of the file watcher."""

    def watch(self, fleet: Fleet) -> None: ...  # noqa: D102 - see the assembly
    def rearm(self) -> None: ...  # noqa: D102 - see the adapter

    @property
    def fired(self) -> bool: ...  # noqa: D102 - see the adapter


class LiveFiles(LiveReader, Protocol):
    """What the loop wants of the local files."""

    def changed(self, database: Database) -> bool: ...  # noqa: D102 - see the adapter


class Book(Protocol):
    """What the loop wants of the book of decisions."""

    def refresh(self) -> None: ...  # noqa: D102 - see the adapter


class Telemetry(Protocol):
    """What is counted."""

    def looked(self, name: str, result: str) -> None: ...  # noqa: D102 - see metrics.py
    def due(self, drills: int) -> None: ...  # noqa: D102 - see metrics.py
    def turned(self, at: datetime) -> None: ...  # noqa: D102 - see metrics.py


class Standing(Protocol):
    """Who hears that the loop is about to do something else: the service manager, where there is one."""

    def reloading(self) -> None: ...  # noqa: D102 - see standing.py
    def stopping(self) -> None: ...  # noqa: D102 - see standing.py


@dataclass(frozen=True, slots=True)
class House:
    """Everything the loop works with."""

    clock: Clock
    ledger: Ledger
    live: LiveFiles
    claims: Callable[[Fleet], Claims]
    looker: Looker
    driller: Driller
    examiner: Examiner
    scratch: ScratchSpace
    watching: Watching
    telemetry: Telemetry
    desk: DrillDesk
    drills: DrillLog
    proofs: ProofDesk
    road: LocalRoad
    book: Book
    seats: Seats
    nice: int
    turned: Callable[[], None]  # told after every turn: what is news
    standing: Standing
    # Paths on which nothing heavy begins unasked, for a moment after the start.
    awaited: Callable[[], Collection[str]] = tuple
