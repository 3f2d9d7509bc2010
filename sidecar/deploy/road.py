"""The road to a proof, in this process. The gate, what comes after a deploy, and the daemon on behalf of both walk this one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Event

from sidecar.core.decision import Decision, Kind, Word
from sidecar.core.errors import SidecarError
from sidecar.core.ports import DeployBook, Progress
from sidecar.core.proof import Demand, Proof
from sidecar.deploy.walk import Walk
from sidecar.deploy.works import Works
from sidecar.fleet import Fleet


class NoSuchDatabase(SidecarError):
    """A name that no database has: a usage error."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class LocalRoad:
    """Satisfies `ports.Road`; safe to share between threads."""

    fleet: Callable[[], Fleet]
    works: Works
    book: DeployBook

    def databases(self) -> Mapping[str, str]:
        """Name to path of all databases."""
        return {each.name: each.path for each in self.fleet().databases.values()}

    def prove(self, demand: Demand, *, stop: Event, progress: Progress) -> Proof:
        """Walk the road once. Raises `Stopped`, `NoSuchDatabase`; everything else that goes wrong is part of the proof."""
        fleet = self.fleet()
        database = fleet.named(demand.name)
        if database is None:
            known = ", ".join(sorted(self.databases())[:10])
            raise NoSuchDatabase(f"there is no database {demand.name}", f"one of: {known}" if known else "check `dbs:`")
        return Walk(self.works, fleet, database, demand, stop, progress).run()

    def take(self, receipt_id: str) -> None:
        """As `DeployBook.take`."""
        self.book.take(receipt_id)

    def decided(self, decision: Decision) -> None:
        """Record it. A gate that did not pass gives its artifacts up; a postcheck that passed proves its deploy good."""
        gave_up = decision.kind is Kind.GATE and decision.word in {Word.REFUSED, Word.UNKNOWN}
        if decision.receipt_id and gave_up:
            self.works.shelf.discard(decision.receipt_id)
        self.book.write(decision)
        if decision.kind is Kind.POSTCHECK and decision.word is Word.PASSED:
            self.works.shelf.proved(decision.receipt_id)
