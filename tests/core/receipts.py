"""Receipts, proofs and what they are made of, as a deploy of a healthy database leaves them; tests replace what is to be wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sidecar.core.census import Census, ForeignKeys, SchemaObject
from sidecar.core.decision import Decision, Kind, Word
from sidecar.core.finding import Finding, Reason, Status
from sidecar.core.policy import Policy
from sidecar.core.proof import Proof
from sidecar.core.receipt import Entry, Override, Receipt, Rollback
from sidecar.core.verdict import database_document, drill_document, finding_document, verdict_of
from tests.core.evidences import NOW, ROOM, content, database, drill, healthy

RECEIPT_ID = "20261123T030000Z-0123abcd"
KEY = b"0123456789abcdef-a-key"
DIGEST = "5" * 64

USERS = SchemaObject("table", "users", "users", "create table users (id integer primary key, v text)")
ORDERS = SchemaObject("table", "orders", "orders", "create table orders (id, uid references users(id))")
BY_V = SchemaObject("index", "users_v", "users", "create index users_v on users (v)")

Violation = tuple[str, int | None, str, int]


def keys(*violations: Violation, errors: tuple[str, ...] = ()) -> ForeignKeys:
    """As `PRAGMA foreign_key_check` found them; `("orders", 7, "users", 0)` is row 7 of orders."""
    return ForeignKeys.of(violations, errors)


def census(
    *violations: Violation,
    schema: tuple[SchemaObject, ...] = (USERS, ORDERS, BY_V),
    errors: tuple[str, ...] = (),
    inode: int | None = 1001,
    now: datetime = NOW,
    **facts: Any,
) -> Census:
    """Of users (100 rows) and orders (50)."""
    return Census(content(now, **facts), keys(*violations, errors=errors), schema, inode)


def entry(name: str = "app", **facts: Any) -> Entry:
    """With a census, a drill, a kept copy and one check."""
    made = Entry(
        name=name,
        path=f"/data/{name}.db",
        census=census(),
        drill=drill_document(drill()),
        rollback=Rollback(
            position="000000000000002a", created_at=NOW, artifact=f"/keep/{RECEIPT_ID}/{name}-d0.db",
            artifact_sha256=DIGEST, size_bytes=40960, command="litestream-sidecar rollback --receipt r.json",
        ),
        checks=(finding_document(Finding("database", Status.PASS, "production is sound")),),
    )  # fmt: skip
    return replace(made, **facts)


def receipt(*entries: Entry, **facts: Any) -> Receipt:
    """Issued NOW, for an hour."""
    made = Receipt(
        id=RECEIPT_ID, issued_at=NOW, expires_at=NOW + timedelta(hours=1), sidecar="1.2.3", litestream="0.5.17",
        databases=entries or (entry(),),
    )  # fmt: skip
    return replace(made, **facts)


def everything() -> Receipt:
    """A receipt in which every field of every kind holds something, and every one that may be null is null once."""
    full = census(("orders", 7, "users", 0), ("log entry", None, "users", 1), errors=("no such key",), error="busy")
    bare = replace(
        census(inode=None, schema_version=None, tables={}),
        foreign_keys=ForeignKeys(1001, "d", {"orders -> users": 1001}, None, None),
    )
    nothing = Rollback(
        position=None, created_at=NOW, artifact=None, artifact_sha256=None, size_bytes=None, command=""
    )  # fmt: skip
    return receipt(
        entry(census=full),
        entry("b", census=bare, drill=None, checks=()),
        entry("c", census=None, rollback=nothing),
        override=Override(reason="disk is dying", refused="app: no backup"),
    )


def proof(name: str = "app", *findings: Finding, **facts: Any) -> Proof:
    """Ready, unless a finding blocks or is said otherwise."""
    blocking = [each for each in findings if each.status.blocks]
    checks = findings or (Finding("database", Status.PASS, "production is sound"),)
    ready = facts.get("ready", not blocking)
    made = Proof(
        name=name, ready=ready, retryable=not ready and all(each.retryable for each in blocking), conclusive=False,
        reason=f"{name} can be restored" if ready else f"{name}: {blocking[0].message if blocking else 'no'}", hint="",
        since=NOW, database=database_document(verdict_of(database(name), healthy(), Policy(parity=False), ROOM, NOW)),
        litestream="0.5.17", max_shrink=0.5, entry=entry(name, checks=tuple(map(finding_document, checks))),
    )  # fmt: skip
    return replace(made, **facts)


def waits(name: str = "app", **facts: Any) -> Proof:
    """Not ready yet."""
    lagging = Finding("lag", Status.UNKNOWN, "not all is there yet", Reason.LAGGING, "wait", retryable=True)
    return proof(name, lagging, **facts)


def refuses(name: str = "app", **facts: Any) -> Proof:
    """Proved: no."""
    gap = Finding("chain", Status.FAIL, "there is a gap", Reason.CHAIN_GAP, "start over")
    return proof(name, gap, **{"conclusive": True, "hint": "start over", **facts})


def decision(word: Word = Word.PASSED, kind: Kind = Kind.GATE, **facts: Any) -> Decision:
    """Of app, NOW."""
    made = Decision(kind=kind, word=word, at=NOW, databases=("app",), reason="all is well", receipt_id=RECEIPT_ID)
    return replace(made, **facts)
