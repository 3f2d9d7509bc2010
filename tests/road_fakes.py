"""Stand-ins for roads to a proof: what the gate asks, what a daemon's routes ask, and what a walk works with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from threading import Event

from sidecar.core.decision import Decision
from sidecar.core.evidence import Evidence
from sidecar.core.model import Claim, Database, Drill
from sidecar.core.ports import Progress
from sidecar.core.proof import Demand, Proof
from sidecar.deploy.proof_desk import ProofDesk, ProofTicket
from tests.core.receipts import proof
from tests.fakes import FakeClock, MemoryLedger
from tests.verb_fakes import Step, happen


@dataclass
class FakeRoad:
    """Brings back the proofs that it was given for a name, one after the other; after the last one it is ready."""

    proofs: dict[str, list[Proof]] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)  # what happens meanwhile
    asked: list[Demand] = field(default_factory=list)
    paths: dict[str, str] = field(default_factory=lambda: {"app": "/data/app.db"})

    def databases(self) -> Mapping[str, str]:
        return self.paths

    def prove(self, demand: Demand, *, stop: Event, progress: Progress) -> Proof:  # noqa: ARG002 - the port's
        self.asked.append(demand)
        happen(self.steps)
        waiting = self.proofs.get(demand.name)
        return waiting.pop(0) if waiting else proof(demand.name)

    def take(self, receipt_id: str) -> None:
        raise NotImplementedError(receipt_id)

    def decided(self, decision: Decision) -> None:
        raise NotImplementedError(decision)


class SteppingEvent(Event):
    """A stop event whose waits take no time of ours, and all of the clock's; set after so many of them."""

    def __init__(self, clock: FakeClock, set_after: int | None = None) -> None:
        super().__init__()
        self.clock, self.set_after = clock, set_after
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        self.clock.go(timedelta(seconds=timeout))
        if self.set_after is not None and len(self.waits) >= self.set_after:
            self.set()
        return self.is_set()


@dataclass
class FakeProofs:
    """The desk and the book behind the routes of deploy commands. Satisfies `web_deploys.Proofs`."""

    made: int = 0
    taken: list[str] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)  # what happens when the book is asked

    def __post_init__(self) -> None:
        self.desk = ProofDesk(self._new_id)

    def _new_id(self) -> str:
        self.made += 1
        return f"proof-{self.made}"

    def request(self, demand: Demand) -> ProofTicket:
        return self.desk.request(demand)

    def find(self, proof_id: str) -> ProofTicket | None:
        return self.desk.find(proof_id)

    def take(self, receipt_id: str) -> None:
        happen(self.steps)
        self.taken.append(receipt_id)

    def decided(self, decision: Decision) -> None:
        happen(self.steps)
        self.decisions.append(decision)


@dataclass
class FakeClaims:
    """What Litestream says of itself, to be asked by path."""

    clock: FakeClock
    said: Claim | None = None

    def read(self, databases: tuple[Database, ...]) -> dict[str, Claim]:
        said = replace(self.said, read_at=self.clock.now()) if self.said is not None else None
        return {each.path: said for each in databases if said is not None}


@dataclass
class FakeSyncer:
    """Litestream, which syncs at once unless told otherwise."""

    steps: list[Step] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)

    def sync(self, database: Database, *, timeout_s: float, stop: Event) -> None:  # noqa: ARG002 - the port's
        self.timeouts.append(timeout_s)
        happen(self.steps)


@dataclass
class FakeWriters:
    """Who holds the write lock, one answer after the other; the last one stays."""

    holders: list[int | None] = field(default_factory=lambda: [None])

    def holder(self, path: str) -> int | None:  # noqa: ARG002 - the port's
        return self.holders.pop(0) if len(self.holders) > 1 else self.holders[0]


@dataclass
class WalkLedger(MemoryLedger):
    """Evidence in memory as a walk writes it."""

    shrinks: list[float] = field(default_factory=list)

    def begin_drill(self, database: Database) -> str:  # noqa: ARG002 - the port's
        return f"d{len(self.drills) + 1}"

    def add_drill(self, database: Database, drill: Drill, *, max_shrink: float) -> Evidence:
        self.shrinks.append(max_shrink)
        self.drills.insert(0, (database.path, database.name, drill))
        return self.record(database.path, lambda known: known.after_drill(drill, max_shrink=max_shrink))
