"""After the deploy: is production intact, did it change as expected, and does the backup cover it again? One answer.

Production comes first, held against the receipt: where it is not as it should be, nobody waits for a backup of that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sidecar.core.comparison import comparison_document
from sidecar.core.decision import Decision, Kind, Word
from sidecar.core.errors import ReceiptError
from sidecar.core.expectation import Expectation, judge_change
from sidecar.core.finding import Finding, Reason, Status, is_proved
from sidecar.core.proof import Demand, Proof
from sidecar.core.receipt import Entry, Receipt
from sidecar.core.verdict import Document, finding_document
from sidecar.deploy.gate import Patience

ASKED_OF_PRODUCTION = frozenset({"identity", "database", "schema"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One database after the deploy: what was found, and what changed (None where it could not be read)."""

    entry: Entry  # of the receipt
    proof: Proof
    findings: tuple[Finding, ...]
    change: Document | None

    @property
    def blocking(self) -> tuple[Finding, ...]:
        """What keeps the deploy from being called good, proved faults first."""
        return tuple(sorted((f for f in self.findings if f.status.blocks), key=lambda f: not is_proved(f)))

    @property
    def document(self) -> Document:
        """An entry of `databases` in the shape of /ready, with what changed beside it."""
        checks = [finding_document(each) for each in self.findings]
        return {**self.proof.database, "ready": not self.blocking, "checks": checks, "change": self.change}


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a postcheck decided."""

    word: Word
    reason: str
    checked: tuple[Checked, ...]


def refuse_unfit(receipt: Receipt, source: str, databases: Mapping[str, str], now: datetime) -> None:
    """Raise ReceiptError where this receipt cannot stand for these databases now."""
    if now >= receipt.expires_at:
        raise ReceiptError(
            f"the receipt {source} expired at {receipt.expires_at:%Y-%m-%d %H:%M:%S} UTC",
            "gate again right before the deploy, or make receipts last longer with --valid-for",
        )
    for each in receipt.databases:
        path = databases.get(each.name)
        if path is None:
            known = ", ".join(sorted(databases)[:10]) or "none"
            raise ReceiptError(
                f"the receipt {source} is about a database {each.name}, which is not known here (known: {known})",
                "give the litestream.yml, or the --url, that the gate was given",
            )
        if path != each.path:
            raise ReceiptError(
                f"the receipt {source} is of another database: {each.name} is {each.path} there and {path} here",
                "find the receipt of this deploy, or gate again",
            )


def check_change(
    receipt: Receipt, expectation: Expectation, patience: Patience, timeout: timedelta
) -> tuple[Checked, ...]:
    """Production as it is now against the receipt; the backup is not asked about. Raises `Stopped`."""
    demands = [Demand(name=each.name, backup=False) for each in receipt.databases]
    proofs = {each.name: each for each in patience.proved(demands, timeout)}
    return tuple(_changed(each, proofs[each.name], expectation) for each in receipt.databases if each.name in proofs)


def _changed(entry: Entry, proof: Proof, expectation: Expectation) -> Checked:
    """The findings about production: soundness and foreign keys share a name, the blocking one stands."""
    (sound, *_), after = _findings_of(proof, "database"), proof.entry.census
    if after is None or entry.census is None:
        return Checked(entry=entry, proof=proof, findings=(sound, _nothing_to_compare(entry, sound)), change=None)
    found = judge_change(entry.census, after, replace(expectation, max_shrink=proof.max_shrink))
    findings = tuple(sound if each.name == "database" and sound.status.blocks else each for each in found)
    return Checked(entry=entry, proof=proof, findings=findings, change=comparison_document(entry.census, after))


def _findings_of(proof: Proof, name: str) -> list[Finding]:
    return [_finding(each) for each in proof.entry.checks if each["name"] == name] or [
        Finding(name, Status.UNKNOWN, "production was not checked", Reason.CHECK_OLD, proof.hint)
    ]


def _finding(document: Document) -> Finding:
    """A check of /ready's JSON as the finding that it was."""
    reason = document["reason"]
    return Finding(
        document["name"], Status(document["status"]), document["message"], Reason(reason) if reason is not None else None,
        document["hint"] or "", document["retryable"], document["observed"], document["limit"], document["unit"],
    )  # fmt: skip


def _nothing_to_compare(entry: Entry, sound: Finding) -> Finding:
    if entry.census is None:
        return Finding(
            "schema", Status.UNKNOWN, "the receipt does not say how production was before the deploy (the gate was overridden)",
            Reason.VERSION_UNKNOWN, "look at production yourself; `litestream-sidecar verify` proves the backup",
        )  # fmt: skip
    return Finding("schema", Status.UNKNOWN, f"production cannot be held against the receipt: {sound.message}",
                   Reason.VERSION_UNKNOWN, sound.hint)  # fmt: skip


def cover_again(
    checked: Sequence[Checked], expectation: Expectation, patience: Patience, timeout: timedelta
) -> tuple[Checked, ...]:
    """Wait until the backup holds what was just checked, and a drill of it passes. Raises `Stopped`."""
    accept = bool(expectation.allow_shrink)
    demands = [Demand(name=each.entry.name, production=False, accept_shrink=accept) for each in checked]
    proofs = {each.name: each for each in patience.proved(demands, timeout)}
    return tuple(_covered(each, proofs[each.entry.name]) for each in checked if each.entry.name in proofs)


def _covered(checked: Checked, proof: Proof) -> Checked:
    """Of production, what was held against the receipt stands; of all else, what the proof says."""
    said = {each.name: each for each in checked.findings}
    findings = [_finding(each) for each in proof.entry.checks]
    both = tuple(said.get(each.name, each) if not each.status.blocks else each for each in findings)
    return replace(checked, proof=proof, findings=both)


def decide(checked: Sequence[Checked], wanted: int) -> Held:
    """Fold what was found into one answer."""
    blocked = [(each, finding) for each in checked for finding in each.blocking]
    if not blocked and checked and len(checked) == wanted:
        return Held(
            word=Word.PASSED, reason="deployed, intact, and covered by the backup again", checked=tuple(checked)
        )
    if not blocked:
        return Held(word=Word.UNKNOWN, reason="not every database of the receipt was checked", checked=tuple(checked))
    proved = [pair for pair in blocked if is_proved(pair[1])]
    each, finding = (proved or blocked)[0]
    others = len(blocked) - 1
    more = f" (and {others} more)" if others else ""
    return Held(
        word=Word.REFUSED if proved else Word.UNKNOWN, reason=f"{each.entry.name}: {finding.message}{more}",
        checked=tuple(checked),
    )  # fmt: skip


def decision_of(held: Held, receipt: Receipt, now: datetime) -> Decision:
    """The postcheck's decision as it is recorded."""
    return Decision(
        kind=Kind.POSTCHECK, word=held.word, at=now, databases=tuple(each.name for each in receipt.databases),
        reason=held.reason, receipt_id=receipt.id,
    )  # fmt: skip
