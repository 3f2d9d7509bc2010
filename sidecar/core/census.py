"""A census: what one database file held at one instant, counted: schema, version, rows, foreign-key violations.

Taken of a copy that nobody writes, before a deploy and after it; what changed in between is `comparison.py`'s to say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sidecar.core.model import Content

VIOLATIONS_KEPT_MAX = 1000  # beyond it only counts and the digest are kept


@dataclass(frozen=True, slots=True)
class SchemaObject:
    """One row of `sqlite_schema` that a person wrote: a table, index, view or trigger, its SQL normalised."""

    kind: str
    name: str
    table: str
    sql: str


@dataclass(frozen=True, slots=True)
class ForeignKeys:
    """What `PRAGMA foreign_key_check` says (SQLite, "PRAGMA foreign_key_check").

    `groups` counts violations by `child -> parent`; `rows` are `child rowid parent fkid`, or None where there are more than
    `VIOLATIONS_KEPT_MAX`. `error`: it could not be run (a mismatch: the parent's columns are no key).
    """

    count: int
    digest: str
    groups: Mapping[str, int] = field(default_factory=dict)
    rows: tuple[str, ...] | None = ()
    error: str | None = None

    @classmethod
    def of(cls, violations: Iterable[tuple[str, int | None, str, int]], errors: Sequence[str] = ()) -> ForeignKeys:
        """From the rows of the pragma: child table, rowid (None in WITHOUT ROWID tables), parent table, number of the key.

        The rows come in the order of tables and rowids, which the digest relies on. `errors` may grow while they are read.
        """
        kept, groups, count = list[str](), dict[str, int](), 0
        digest = hashlib.sha256()
        for child, rowid, parent, key in violations:
            row = f"{child} {'-' if rowid is None else rowid} {parent} {key}"
            digest.update(f"{row}\n".encode("utf-8", "surrogatepass"))
            groups[f"{child} -> {parent}"] = groups.get(f"{child} -> {parent}", 0) + 1
            count += 1
            if count <= VIOLATIONS_KEPT_MAX:
                kept.append(row)
        error = "; ".join(errors) or None
        digest.update((error or "").encode("utf-8", "surrogatepass"))
        rows = tuple(kept) if count <= VIOLATIONS_KEPT_MAX else None
        return cls(count, digest.hexdigest(), groups, rows, error)


@dataclass(frozen=True, slots=True)
class Census:
    """All of it. `content.tables` has rows counted (-1: not countable); `inode` is production's file, not the copy's."""

    content: Content
    foreign_keys: ForeignKeys
    schema: tuple[SchemaObject, ...]
    inode: int | None = None
    litestream_tables: tuple[str, ...] = ()  # its own, which no schema here counts
