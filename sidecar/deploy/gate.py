"""The gate: may we deploy? Waits while waiting can help, stops at once when it cannot, and writes down what it decided.

It asks a road for proofs (its own, or a daemon's) and knows nothing of how they come about.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from threading import Event

from sidecar.core.decision import Decision, Kind, Word
from sidecar.core.errors import Stopped
from sidecar.core.ports import Clock, Progress, Road
from sidecar.core.proof import Demand, Proof
from sidecar.core.receipt import Override, Receipt

AGAIN_S = 2.0  # between two tries: Litestream syncs once a second

log = logging.getLogger("sidecar.deploy.gate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the gate is asked. `max_age` None: fresh proof."""

    names: Sequence[str]
    receipt_id: str
    timeout: timedelta
    max_age: timedelta | None = None
    override: str | None = None  # a person's reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the gate decided, and the proofs that it decided by, in the order of the names."""

    word: Word
    reason: str
    proofs: tuple[Proof, ...]

    @property
    def passed(self) -> bool:
        """Whether the deploy may go on."""
        return self.word in {Word.PASSED, Word.OVERRIDDEN}


@dataclass(frozen=True, slots=True)
class Patience:
    """Proves databases again and again until all are proved, waiting cannot help, or the time is up."""

    road: Road
    clock: Clock
    stop: Event
    progress: Progress

    def proved(self, demands: Sequence[Demand], timeout: timedelta) -> tuple[Proof, ...]:
        """The newest proof for each demand, in their order. Raises `Stopped`."""
        ends_s = self.clock.monotonic() + timeout.total_seconds()
        proofs: dict[str, Proof] = {}
        waiting = list(demands)
        while True:
            for demand in waiting:
                left = timedelta(seconds=max(ends_s - self.clock.monotonic(), 1.0))
                since = proofs[demand.name].since if demand.name in proofs else demand.since
                asked = replace(demand, timeout=left, since=since)
                proof = proofs[demand.name] = self.road.prove(asked, stop=self.stop, progress=self.progress)
                if not (proof.ready or proof.retryable or demand.anyway):
                    return self._in_order(demands, proofs)  # one that cannot become ready decides for all
            waiting = [each for each in waiting if not proofs[each.name].ready and not each.anyway]
            if not waiting or self.clock.monotonic() + AGAIN_S >= ends_s:
                return self._in_order(demands, proofs)
            log.info("waiting: %s", "; ".join(proofs[each.name].reason for each in waiting))
            if self.stop.wait(AGAIN_S):
                raise Stopped("told to stop while waiting")

    @staticmethod
    def _in_order(demands: Sequence[Demand], proofs: dict[str, Proof]) -> tuple[Proof, ...]:
        return tuple(proofs[each.name] for each in demands if each.name in proofs)


def ask(question: Question, patience: Patience) -> Answer:
    """Put the question to the road. Nothing is recorded yet. Raises `Stopped`."""
    demands = [
        Demand(
            name=name, receipt_id=question.receipt_id, max_age=question.max_age, keep=True,
            anyway=question.override is not None,
        )
        for name in question.names
    ]  # fmt: skip
    proofs = patience.proved(demands, question.timeout)
    bad = [each for each in proofs if not each.ready]
    if not bad and len(proofs) == len(demands):
        count = len(proofs)
        reason = f"{count} database{'s' if count > 1 else ''} proved: restored, sound, and the way back is kept"
        return Answer(word=Word.PASSED, reason=reason, proofs=proofs)
    worst = next((each for each in bad if each.conclusive), bad[0])
    more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
    word = Word.REFUSED if any(each.conclusive for each in bad) else Word.UNKNOWN
    if question.override is not None:
        word = Word.OVERRIDDEN
    return Answer(word=word, reason=f"{worst.reason}{more}", proofs=proofs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """What a receipt is made of beside the proofs."""

    id: str
    sidecar: str  # version
    command: str  # how to go back
    valid_for: timedelta
    override: str | None = None
    names: Sequence[str] = field(default=())


def receipt_for(answer: Answer, issue: Issue, now: datetime) -> Receipt:
    """The receipt of a gate that passed."""
    entries = tuple(
        replace(each.entry, rollback=replace(each.entry.rollback, command=issue.command)) for each in answer.proofs
    )
    override = Override(reason=issue.override or "", refused=answer.reason) if answer.word is Word.OVERRIDDEN else None
    return Receipt(
        id=issue.id, issued_at=now, expires_at=now + issue.valid_for, sidecar=issue.sidecar,
        litestream=answer.proofs[0].litestream if answer.proofs else "", databases=entries, override=override,
    )  # fmt: skip


def decision_of(answer: Answer, question: Question, now: datetime) -> Decision:
    """The gate's decision as it is recorded."""
    return Decision(
        kind=Kind.GATE, word=answer.word, at=now, databases=tuple(question.names), reason=answer.reason,
        receipt_id=question.receipt_id, override=question.override or "" if answer.word is Word.OVERRIDDEN else "",
    )  # fmt: skip
