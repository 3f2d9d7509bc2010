"""What a deploy command decided, as it stands in the history and in `gate_decisions_total`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sidecar.core.errors import ReceiptError
from sidecar.core.fields import Fields
from sidecar.core.receipt import id_of
from sidecar.core.verdict import Document, rfc3339


class Kind(StrEnum):
    """Which command decided."""

    GATE = "gate"
    POSTCHECK = "postcheck"
    ROLLBACK = "rollback"


class Word(StrEnum):
    """What was decided; the label `decision` of `gate_decisions_total`."""

    PASSED = "passed"
    REFUSED = "refused"  # proved: no
    UNKNOWN = "unknown"  # could not tell
    OVERRIDDEN = "overridden"  # passed against what was found


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One decision about one deploy. `receipt_id` is empty where no receipt was written."""

    kind: Kind
    word: Word
    at: datetime
    databases: tuple[str, ...]  # names
    reason: str  # one sentence
    receipt_id: str = ""
    override: str = ""  # the person's reason


def decision_document(decision: Decision) -> Document:
    """The JSON of a decision."""
    return {
        "kind": decision.kind.value,
        "decision": decision.word.value,
        "at": rfc3339(decision.at),
        "databases": list(decision.databases),
        "reason": decision.reason,
        "receipt": decision.receipt_id or None,
        "override": decision.override or None,
    }


def decision_of(document: Document, source: str) -> Decision:
    """Read a decision from its JSON. Raises ReceiptError."""
    fields = Fields(document, source)
    receipt = fields.text_or_none("receipt")
    try:
        kind, word = Kind(fields.text("kind")), Word(fields.text("decision"))
    except ValueError as error:
        raise ReceiptError(f"{source}: {error}", "send a decision of this version of the sidecar") from None
    return Decision(
        kind=kind, word=word, at=fields.time("at"), databases=fields.texts_or_none("databases") or (),
        reason=fields.text("reason"), receipt_id=id_of(receipt, source) if receipt else "",
        override=fields.text_or_none("override") or "",
    )  # fmt: skip


def sentence_of(decision: Decision) -> str:
    """One line for a log."""
    why = f", overridden: {decision.override}" if decision.override else ""
    receipt = f" (receipt {decision.receipt_id})" if decision.receipt_id else ""
    return f"{decision.kind} {decision.word} for {', '.join(decision.databases)}{why}: {decision.reason}{receipt}"
