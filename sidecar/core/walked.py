"""What a walk of the road brought back, and what the checks make of it. Pure: values in, findings and a proof out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from sidecar.core.case import Scratch
from sidecar.core.checks import Judged
from sidecar.core.checks_content import of_this_drill
from sidecar.core.checks_parity import demanded
from sidecar.core.evidence import Evidence
from sidecar.core.finding import Finding, Reason, Status, is_proved
from sidecar.core.model import Database, Drill, Position
from sidecar.core.policy import Policy
from sidecar.core.proof import Demand, Proof
from sidecar.core.receipt import Entry
from sidecar.core.verdict import Verdict, database_document, verdict_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """How far a walk has come. `required`: what the replica showed before the drill, so the drill must bring it back."""

    demand: Demand
    since: datetime
    database: Database
    evidence: Evidence
    policy: Policy
    room: Scratch
    now: datetime
    drill: Drill | None
    required: Position | None
    extra: tuple[Finding, ...]  # what went wrong on the way

    @property
    def covered(self) -> bool:
        """Whether everything committed up to `since` is known to be in the replica."""
        return self.evidence.covered_at is not None and self.evidence.covered_at >= self.since

    @property
    def verdict(self) -> Verdict:
        """What `/ready` would say, with the tighter age that was asked for."""
        policy = self.policy.tightened(max_age=self.demand.max_age)
        return verdict_of(self.database, self.evidence, policy, self.room, self.now)


def findings_of(walked: Walked) -> tuple[Finding, ...]:
    """The checks of `/ready`, and what only whoever asks for proof now is told. Of two answers the blocking one stands."""
    found = {each.name: each for each in walked.verdict.judged.findings}
    if walked.drill is not None and "drill" in found:
        found["drill"] = of_this_drill(found["drill"], walked.drill, walked.evidence)
    if "parity" in found:
        found["parity"] = demanded(found["parity"], walked.drill)
    if not walked.demand.backup:
        found = {name: each for name, each in found.items() if name == "database"}
    for each in (*walked.extra, *_not_covered(walked), *_drilled_too_little(walked)):
        if each.name not in found or not found[each.name].status.blocks:
            found[each.name] = each
    return tuple(found.values())


def _not_covered(walked: Walked) -> Iterator[Finding]:
    if walked.demand.backup and walked.demand.max_age is None and not walked.covered:
        yield Finding(
            "lag", Status.UNKNOWN, f"commits up to {walked.since:%H:%M:%S} UTC have not all been seen in the replica yet",
            Reason.LAGGING, "wait for Litestream's next sync; look at its log if it does not come", retryable=True,
        )  # fmt: skip


def _drilled_too_little(walked: Walked) -> Iterator[Finding]:
    drill, required = walked.drill, walked.required
    if (
        drill is not None
        and drill.position is not None
        and required is not None
        and not drill.position.covers(required)
    ):
        yield Finding(
            "drill", Status.UNKNOWN, f"the drill restored {drill.position}, the replica had shown {required} before",
            Reason.RACED, "try again; if it stays so, two Litestreams may write to one replica", retryable=True,
        )  # fmt: skip


def proof_of_walk(walked: Walked, entry: Entry, litestream: str) -> Proof:
    """The proof that a walk amounts to."""
    verdict = replace(walked.verdict, judged=Judged(findings_of(walked)))
    blocking, name = verdict.judged.blocking, walked.database.name
    return Proof(
        name=name, ready=verdict.ready, retryable=verdict.retryable, conclusive=any(map(is_proved, blocking)),
        reason=f"{name}: {blocking[0].message}" if blocking else f"{name} can be restored",
        hint=blocking[0].hint if blocking else "", since=walked.since, database=database_document(verdict),
        litestream=litestream, max_shrink=walked.policy.max_shrink, entry=entry,
    )  # fmt: skip
