"""A proof: what one database's road to the gate brought back, as a value and as the document a daemon sends it in.

One road, two doors: the gate walks it in its own process, or asks a daemon to walk it (`POST /proofs`). Both bring back this.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sidecar.core.errors import ReceiptError
from sidecar.core.fields import Fields
from sidecar.core.receipt import Entry, entry_document, entry_of, id_of
from sidecar.core.units import duration, spell
from sidecar.core.verdict import Document

TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What is to be proved of one database.

    `max_age` None: a drill must pass that brings back everything committed up to `since` (None: up to now). Else a passed
    drill of at most that age is enough. `backup` and `production` say which halves of the road are walked: the gate wants
    both, what comes after a deploy wants production first and the backup until it has caught up.
    """

    name: str
    timeout: timedelta = TIMEOUT  # a drill that takes longer is ended
    receipt_id: str = ""  # artifacts are kept under it
    max_age: timedelta | None = None
    since: datetime | None = None
    backup: bool = True
    production: bool = True
    keep: bool = False  # keep a verified copy as the receipt's rollback artifact
    anyway: bool = False  # go on past what blocks, to record as much as can be known (an override)
    accept_shrink: bool = False  # what was lost was meant: the drilled copy becomes the new measure


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was found. `entry` holds a census whenever production could be copied and read, ready or not."""

    name: str
    ready: bool
    retryable: bool  # waiting alone can make it ready
    conclusive: bool  # not ready is proved (exit 1), as opposed to not found out (exit 3)
    reason: str  # one sentence
    hint: str
    since: datetime  # everything committed up to here was asked about
    database: Document  # the entry of `databases` in /ready
    litestream: str  # version
    max_shrink: float  # the policy's, for the comparison after the deploy
    entry: Entry


def demand_document(demand: Demand) -> Document:
    """The body of `POST /proofs`."""
    return {
        "db": demand.name,
        "timeout": spell(demand.timeout),
        "receipt": demand.receipt_id or None,
        "max_age": spell(demand.max_age) if demand.max_age is not None else None,
        "since": demand.since.isoformat() if demand.since is not None else None,
        "backup": demand.backup,
        "production": demand.production,
        "keep": demand.keep,
        "anyway": demand.anyway,
        "accept_shrink": demand.accept_shrink,
    }


def demand_of(document: Document, source: str) -> Demand:
    """Read the body of `POST /proofs`; all but `db` may be absent. Raises ReceiptError, ValueError (a sentence about a duration)."""
    fields = Fields(document, source)
    receipt = fields.text_or_none("receipt")
    keep = fields.flag_or("keep", default=False)
    if keep and not receipt:
        raise ReceiptError(
            f"{source}: receipt is missing: an artifact is kept under it", "name a receipt, or keep nothing"
        )
    max_age, timeout = fields.text_or_none("max_age"), fields.text_or_none("timeout")
    return Demand(
        name=fields.text("db"), receipt_id=id_of(receipt, source) if receipt else "",
        timeout=duration(timeout) if timeout is not None else TIMEOUT,
        max_age=duration(max_age) if max_age is not None else None,
        since=fields.time("since") if document.get("since") is not None else None,
        backup=fields.flag_or("backup", default=True), production=fields.flag_or("production", default=True),
        keep=keep, anyway=fields.flag_or("anyway", default=False),
        accept_shrink=fields.flag_or("accept_shrink", default=False),
    )  # fmt: skip


def proof_document(proof: Proof) -> Document:
    """The JSON of a proof."""
    return {
        "name": proof.name,
        "ready": proof.ready,
        "retryable": proof.retryable,
        "conclusive": proof.conclusive,
        "reason": proof.reason,
        "hint": proof.hint,
        "since": proof.since.isoformat(),
        "database": proof.database,
        "litestream": proof.litestream,
        "max_shrink": proof.max_shrink,
        "entry": entry_document(proof.entry),
    }


def proof_of(document: Document, source: str) -> Proof:
    """Read what a daemon sent. Raises ReceiptError where it is no proof."""
    fields = Fields(document, source)
    return Proof(
        name=fields.text("name"), ready=fields.flag("ready"), retryable=fields.flag("retryable"),
        conclusive=fields.flag("conclusive"), reason=fields.text("reason"), hint=fields.text("hint"),
        since=fields.time("since"), database=fields.document_at("database") or {}, litestream=fields.text("litestream"),
        max_shrink=fields.real("max_shrink"), entry=entry_of(fields.part("entry")),
    )  # fmt: skip
