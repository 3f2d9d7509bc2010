"""What backup, restore and rollback say of a file that they have made: words for people, fields for machines."""

from __future__ import annotations

from sidecar.adapters.placing import Spot
from sidecar.core.model import CheckKind, Content
from sidecar.core.people import bytes_for_people, seconds_for_people
from sidecar.core.verdict import Document


def about_file(size_bytes: int, took_s: float) -> str:
    """Size and time."""
    return f"{bytes_for_people(size_bytes)} in {seconds_for_people(took_s)}"


def about_content(content: Content, check: CheckKind) -> str:
    """Rows, schema version, check."""
    uncounted = min(content.tables.values(), default=0) < 0
    rows = "rows not countable" if uncounted else _many(sum(content.tables.values()), "row")
    version = content.schema_version
    schema = f"schema version {version.value} ({version.source})" if version is not None else "schema version not known"
    pragma = "quick_check" if check is CheckKind.QUICK else "integrity_check"
    return f"{rows} in {_many(len(content.tables), 'table')}, {schema}, {pragma} ok"


def content_document(content: Content) -> Document:
    """The fields of a JSON answer that tell what a file holds."""
    version = content.schema_version
    return {
        "tables": dict(content.tables),
        "schema_version": {"source": version.source, "value": version.value} if version is not None else None,
        "user_version": content.user_version,
        "sqlite_version": content.sqlite_version,
    }


def notes_on(spot: Spot) -> list[str]:
    """What a person should know of the place where a file was put."""
    notes = [f"{each} lay there without its database and was removed" for each in spot.stale]
    if spot.replaces and spot.unseen:
        notes.append(
            "some processes may not be looked into by this user: an idle one of theirs, without WAL, was not seen"
        )
    return notes


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
