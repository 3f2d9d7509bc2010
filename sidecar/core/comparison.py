"""What changed between two censuses of one database: the schema, the rows of each table, the version. Pure: values in, values out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sidecar.core.census import Census, SchemaObject
from sidecar.core.model import SchemaVersion
from sidecar.core.verdict import Document


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """One object of the schema that came, went or changed; SQL normalised, None where it is not there."""

    kind: str
    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class TableChange:
    """Rows of one table; None where the table is not there, -1 where they cannot be counted."""

    name: str
    before: int | None
    after: int | None


def schema_changes(before: Census, after: Census) -> tuple[SchemaChange, ...]:
    """Every object of the schema that differs, by kind and name."""
    old, new = _by_name(before.schema), _by_name(after.schema)
    return tuple(
        SchemaChange(*key, old.get(key), new.get(key))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    )


def _by_name(schema: Iterable[SchemaObject]) -> dict[tuple[str, str], str]:
    return {(each.kind, each.name): each.sql for each in schema}


def table_changes(before: Census, after: Census) -> tuple[TableChange, ...]:
    """Every table whose rows are more or fewer, or that came or went."""
    old, new = before.content.tables, after.content.tables
    return tuple(
        TableChange(name, old.get(name), new.get(name))
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    )


def comparison_document(before: Census, after: Census) -> Document:
    """What changed, as JSON."""
    then, now = before.content.schema_version, after.content.schema_version
    return {
        "schema_version": {"before": _version_document(then), "after": _version_document(now)},
        "schema": [
            {"type": each.kind, "name": each.name, "before": each.before, "after": each.after}
            for each in schema_changes(before, after)
        ],
        "tables": [
            {"name": each.name, "before": each.before, "after": each.after} for each in table_changes(before, after)
        ],
        "foreign_key_violations": {"before": before.foreign_keys.count, "after": after.foreign_keys.count},
    }


def _version_document(version: SchemaVersion | None) -> Document | None:
    return {"source": version.source, "value": version.value} if version is not None else None
