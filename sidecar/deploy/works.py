"""What a walk of the road to a proof works with: adapters and verbs, and the ledger it writes what it learns to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from sidecar.core.evidence import Evidence
from sidecar.core.model import Database, Drill
from sidecar.core.ports import Claims, Clock, Integrity, ScratchSpace, Shelf, Syncer, Writers
from sidecar.drill import Driller
from sidecar.fleet import Fleet
from sidecar.look import Looker
from sidecar.production import Examiner


class ProofLedger(Protocol):
    """What a walk reads and writes of the ledger."""

    def snapshot(self) -> Mapping[str, Evidence]: ...  # noqa: D102 - see the adapter
    def record(self, path: str, change: Callable[[Evidence], Evidence]) -> Evidence: ...  # noqa: D102 - see the adapter
    def begin_drill(self, database: Database) -> str:
        """A drill begins; its id."""
        ...

    def add_drill(self, database: Database, drill: Drill, *, max_shrink: float) -> Evidence: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Works:
    """What a walk works with; safe to share between threads."""

    claims: Callable[[Fleet], Claims]
    syncer: Callable[[Fleet], Syncer | None]
    looker: Looker
    driller: Driller
    examiner: Examiner
    integrity: Integrity
    scratch: ScratchSpace
    ledger: ProofLedger
    shelf: Shelf
    writers: Writers
    clock: Clock
