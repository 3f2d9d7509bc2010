"""The gate's receipt (CONTRACT 6): where production stood when the gate said yes, what was proved, and the way back.

A receipt is a value and a document; the document's `digest` is over all the rest of it, so that an altered receipt is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sidecar.core.census import Census, ForeignKeys, SchemaObject
from sidecar.core.errors import ReceiptError
from sidecar.core.fields import Fields
from sidecar.core.model import Content, SchemaVersion
from sidecar.core.verdict import Document, rfc3339

RECEIPT_VERSION = 1
RECEIPT_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6,32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """The way back: a kept copy that exists, since Litestream stops being able to restore a TXID once compaction merged it."""

    position: str | None  # what the artifact was restored to; None where it is a copy of production
    created_at: datetime
    artifact: str | None  # absolute path of the kept, verified copy; None where none could be made (override)
    artifact_sha256: str | None
    size_bytes: int | None
    command: str  # what to type to go back


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A rollback artifact that lies on the shelf."""

    name: str  # the database's
    receipt_id: str
    artifact: str  # its path
    size_bytes: int
    proved: bool  # the deploy behind it was proved good
    receipt: str | None = None  # the receipt's own file, where it lies in its default place


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One database of a receipt. `census` is production's, before the deploy; None where it could not be taken (override)."""

    name: str
    path: str
    census: Census | None
    drill: Document | None  # as in /ready
    rollback: Rollback
    checks: tuple[Document, ...]  # as in /ready


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """The gate was passed against what it found."""

    reason: str  # the person's
    refused: str  # what the gate would have said


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What the gate found, signed."""

    id: str
    issued_at: datetime
    expires_at: datetime
    sidecar: str  # versions
    litestream: str
    databases: tuple[Entry, ...]
    override: Override | None = None

    def named(self, name: str) -> Entry | None:
        """The entry of that database."""
        return next((each for each in self.databases if each.name == name), None)


# To a document


def receipt_document(receipt: Receipt, key: bytes | None) -> Document:
    """The JSON document, with its digest: HMAC-SHA256 where there is a key."""
    document: Document = {
        "receipt_version": RECEIPT_VERSION,
        "id": receipt.id,
        "issued_at": rfc3339(receipt.issued_at),
        "expires_at": rfc3339(receipt.expires_at),
        "sidecar": receipt.sidecar,
        "litestream": receipt.litestream,
        "override": {"reason": receipt.override.reason, "refused": receipt.override.refused} if receipt.override else None,
        "databases": [entry_document(each) for each in receipt.databases],
    }  # fmt: skip
    return document | {"digest": digest_of(document, key)}


def entry_document(entry: Entry) -> Document:
    """One of `databases`."""
    rollback = entry.rollback
    return {
        "name": entry.name,
        "path": entry.path,
        **(census_document(entry.census) if entry.census is not None else {"identity": None}),
        "drill": entry.drill,
        "rollback": {
            "position": rollback.position,
            "created_at": rfc3339(rollback.created_at),
            "artifact": rollback.artifact,
            "artifact_sha256": rollback.artifact_sha256,
            "size_bytes": rollback.size_bytes,
            "command": rollback.command,
        },
        "checks": list(entry.checks),
    }


def census_document(census: Census) -> Document:
    """A census as it stands in an entry."""
    content, keys = census.content, census.foreign_keys
    version = content.schema_version
    return {
        "read_at": rfc3339(content.read_at),
        "identity": {
            "application_id": content.application_id,
            "page_size": content.page_size,
            "schema_digest": content.schema_digest,
            "inode": census.inode,
        },
        "page_count": content.page_count,
        "schema_version": {"source": version.source, "value": version.value} if version is not None else None,
        "schema_version_error": content.error,
        "user_version": content.user_version,
        "foreign_key_violations": {
            "count": keys.count,
            "digest": keys.digest,
            "groups": dict(keys.groups),
            "rows": list(keys.rows) if keys.rows is not None else None,
            "error": keys.error,
        },
        "tables": dict(content.tables),
        "schema": [
            {"type": each.kind, "name": each.name, "table": each.table, "sql": each.sql} for each in census.schema
        ],
        "sqlite_version": content.sqlite_version,
        "litestream_tables": list(census.litestream_tables),
    }


def digest_of(document: Mapping[str, Any], key: bytes | None) -> str:
    """`sha256:…`, or `hmac-sha256:…` with a key, over the canonical JSON of everything but `digest`."""
    rest = {name: value for name, value in document.items() if name != "digest"}
    body = json.dumps(rest, sort_keys=True, separators=(",", ":")).encode("ascii")
    if key is not None:
        return f"hmac-sha256:{hmac.new(key, body, hashlib.sha256).hexdigest()}"
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


# From a document


def id_of(text: str, source: str) -> str:
    """A receipt's id, which becomes the name of a folder. Raises ReceiptError where it is none."""
    if not RECEIPT_ID.fullmatch(text):
        raise ReceiptError(
            f"{source}: {text!a:.60} is no receipt's id", "gate again, or name the receipt as `gate` did"
        )
    return text


def receipt_of(text: str, source: str, key: bytes | None) -> Receipt:
    """Read a receipt from its JSON; `source` names it in errors. Says nothing about its age or use.

    Raises:
        ReceiptError: it is no receipt of ours, was altered, or is signed with another key or none.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ReceiptError(
            f"{source} is no receipt: it is not JSON", "name the file that `gate` said it wrote"
        ) from None
    if not isinstance(document, dict) or "receipt_version" not in document:
        raise ReceiptError(f"{source} is no receipt", "name the file that `gate` said it wrote")
    if document["receipt_version"] is True or document["receipt_version"] != RECEIPT_VERSION:
        raise ReceiptError(
            f"{source} is a receipt of version {document['receipt_version']!r:.20}, this sidecar reads {RECEIPT_VERSION}",
            "use the sidecar that wrote it, or gate again",
        )
    _verify(document, source, key)
    fields = Fields(document, source)
    override = fields.maybe("override")
    return Receipt(
        id=id_of(fields.text("id"), source), issued_at=fields.time("issued_at"), expires_at=fields.time("expires_at"),
        sidecar=fields.text("sidecar"), litestream=fields.text("litestream"),
        databases=tuple(entry_of(each) for each in fields.each("databases")),
        override=Override(reason=override.text("reason"), refused=override.text("refused")) if override else None,
    )  # fmt: skip


def _verify(document: Mapping[str, Any], source: str, key: bytes | None) -> None:
    said = document.get("digest")
    signed = isinstance(said, str) and said.startswith("hmac-sha256:")
    if signed and key is None:
        raise ReceiptError(f"{source} is signed, and there is no key to check it with", "give the gate's --key-file")
    if not signed and key is not None:
        raise ReceiptError(f"{source} is not signed, and a key file is given", "gate with the same --key-file")
    if not isinstance(said, str) or not hmac.compare_digest(
        said.encode(errors="replace"), digest_of(document, key).encode()
    ):
        why = "it was altered, or signed with another key" if signed else "it was altered after the gate wrote it"
        raise ReceiptError(f"{source} cannot be trusted: {why}", "gate again, or find the receipt that the gate wrote")


def entry_of(fields: Fields) -> Entry:
    """One of `databases`. Raises ReceiptError."""
    rollback = fields.part("rollback")
    return Entry(
        name=fields.text("name"), path=fields.text("path"), census=census_of(fields),
        drill=fields.document_at("drill"), checks=tuple(fields.documents("checks")),
        rollback=Rollback(
            position=rollback.text_or_none("position"), created_at=rollback.time("created_at"),
            artifact=rollback.text_or_none("artifact"), artifact_sha256=rollback.text_or_none("artifact_sha256"),
            size_bytes=rollback.number_or_none("size_bytes"), command=rollback.text("command"),
        ),
    )  # fmt: skip


def census_of(fields: Fields) -> Census | None:
    """The census in an entry, None where none could be taken. Raises ReceiptError."""
    identity = fields.maybe("identity")
    if identity is None:
        return None
    version, keys = fields.maybe("schema_version"), fields.part("foreign_key_violations")
    content = Content(
        read_at=fields.time("read_at"), application_id=identity.number("application_id"),
        user_version=fields.number("user_version"), page_size=identity.number("page_size"),
        page_count=fields.number("page_count"), schema_digest=identity.text("schema_digest"),
        schema_version=SchemaVersion(version.text("source"), version.text("value")) if version else None,
        tables=fields.numbers("tables"), sqlite_version=fields.text("sqlite_version"),
        error=fields.text_or_none("schema_version_error"),
    )  # fmt: skip
    rows = keys.texts_or_none("rows")
    foreign_keys = ForeignKeys(
        keys.number("count"), keys.text("digest"), keys.numbers("groups"), rows, keys.text_or_none("error")
    )
    schema = tuple(
        SchemaObject(each.text("type"), each.text("name"), each.text("table"), each.text("sql"))
        for each in fields.each("schema")
    )
    theirs = fields.texts("litestream_tables")
    return Census(content, foreign_keys, schema, identity.number_or_none("inode"), theirs)
