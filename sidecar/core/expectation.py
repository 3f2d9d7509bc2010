"""What a deploy is meant to do to a database, and whether it may have done what it did. Pure: values in, findings out.

The findings bear the names and reasons of the checks (CONTRACT 4): `identity`, `database` (foreign keys), `schema`, `litestream`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from sidecar.core.census import Census, ForeignKeys
from sidecar.core.comparison import schema_changes, table_changes
from sidecar.core.finding import Finding, Reason, Status
from sidecar.core.model import SchemaVersion
from sidecar.core.restarts import PAGE_SIZE_HINT

NAMED_MAX = 5  # tables or violations that a sentence names
LACKING = ("no such collation sequence", "no such module", "no such function")  # of this SQLite, not of the database
DIRTY = "(dirty)"  # how golang-migrate's half-done migration reads (schema_version.py)


class Expect(StrEnum):
    """What a deploy is meant to do to the schema version."""

    CHANGED = "changed"
    SAME = "same"  # neither version nor schema
    ANY = "any"
    MOVES_WITH_SCHEMA = "moves-with-schema"  # the default: where the schema changed, so did the version


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What the person who deploys says about the change. `max_shrink` is the policy's share (0-1)."""

    expect: Expect = Expect.MOVES_WITH_SCHEMA
    version: str | None = None
    allow_shrink: frozenset[str] = frozenset()
    max_shrink: float = 0.5


def judge_change(before: Census, after: Census, expectation: Expectation) -> tuple[Finding, ...]:
    """Whether the deploy may have done this: the database's identity, its foreign keys, its schema, and what Litestream needs."""
    found = (identity(before, after, expectation), foreign_keys(before, after), schema(before, after, expectation))
    return (*found, *litestreams_tables(before, after))


def litestreams_tables(before: Census, after: Census) -> Iterator[Finding]:
    """Are Litestream's own tables gone, as a tool that drops what it does not know makes them (`prisma db push` does)?

    Measured with 0.5.17: it carries that very transaction away, and fails for good at its next checkpoint.
    """
    gone = sorted(set(before.litestream_tables) - set(after.litestream_tables))
    if gone:
        yield Finding(
            "litestream", Status.FAIL, f"Litestream's own tables are gone: {', '.join(gone)}; it stops replicating at its next checkpoint",
            Reason.NOT_MANAGED, "restart Litestream, which makes them again; have the migration leave `_litestream_*` alone",
        )  # fmt: skip


def identity(before: Census, after: Census, expectation: Expectation) -> Finding:
    """Is it still the same database, and has it kept its rows?"""
    name, old, new = "identity", before.content, after.content
    if None not in {before.inode, after.inode} and before.inode != after.inode:
        return Finding(
            name, Status.FAIL, "another file stands at the database's path than when the gate passed", Reason.FILE_REPLACED,
            "find out who replaced it; if it was meant, restart Litestream and gate again",
        )  # fmt: skip
    if old.tables and not new.tables:
        return Finding(
            name, Status.FAIL, "production holds no table any more", Reason.EMPTY,
            "roll back: `litestream-sidecar rollback --receipt FILE` prints how",
        )  # fmt: skip
    why = _another(before, after)
    if why is not None:
        return Finding(
            name, Status.FAIL, f"it is not the database that the gate saw: {why}", Reason.IDENTITY_CHANGED,
            "check that the receipt is of this deploy and the path in litestream.yml is right",
        )  # fmt: skip
    lost = _lost(before, after, expectation)
    if lost:
        worst = max(share for _, share, _ in lost)
        said = "; ".join(sentence for _, _, sentence in lost[:NAMED_MAX])
        more = f" (and {len(lost) - NAMED_MAX} more tables)" if len(lost) > NAMED_MAX else ""
        return Finding(
            name, Status.FAIL, f"rows are gone: {said}{more}", Reason.SHRUNK,
            "roll back, or, where it was meant, say so: " + " ".join(f"--allow-shrink {each}" for each, _, _ in lost[:NAMED_MAX]),
            observed=worst, limit=expectation.max_shrink, unit="ratio",
        )  # fmt: skip
    if old.page_size != new.page_size:
        return Finding(
            name, Status.WARN, f"its page size changed from {old.page_size} to {new.page_size}", Reason.IDENTITY_CHANGED,
            PAGE_SIZE_HINT,
        )  # fmt: skip
    return Finding(name, Status.PASS, "it is the same database, and no table has shrunk")


def _another(before: Census, after: Census) -> str | None:
    old, new = before.content, after.content
    if old.application_id != new.application_id:
        return f"application_id {new.application_id} instead of {old.application_id}"
    if old.tables and not set(old.tables) & set(new.tables):
        return f"they have no table in common (it holds {', '.join(sorted(new.tables)[:3])})"
    return None


def _lost(before: Census, after: Census, expectation: Expectation) -> list[tuple[str, float, str]]:
    """(table, share lost, sentence) of every table that lost more than it may, the worst first."""
    came = {each.name: each.after for each in table_changes(before, after) if each.before is None and each.after}
    found = []
    for each in table_changes(before, after):
        if each.before is None or each.before <= 0 or each.name in expectation.allow_shrink:
            continue
        left = max(each.after or 0, 0) if each.after != -1 else each.before
        share = (each.before - left) / each.before  # 1 - 70 / 100 is 0.30000000000000004
        if share <= 0 or share <= expectation.max_shrink:
            continue
        if each.after is None:
            twin = next((name for name, rows in came.items() if rows == each.before), None)
            renamed = f" (table {twin} is new with as many: if it was renamed, allow it)" if twin else ""
            sentence = f"table {each.name} is gone with its {each.before} rows{renamed}"
        else:
            sentence = f"table {each.name} has {each.after} rows of {each.before}"
        found.append((each.name, share, sentence))
    return sorted(found, key=lambda each: (-each[1], each[0]))


def foreign_keys(before: Census, after: Census) -> Finding:
    """Are there violations that were not there before? Old ones are not the migration's fault."""
    name, new = "database", after.foreign_keys
    unrunnable = _errors(new) - _errors(before.foreign_keys)
    if lacking := sorted(each for each in unrunnable if each.startswith(LACKING)):
        return Finding(
            name, Status.UNKNOWN, f"foreign_key_check cannot be run here: {lacking[0]}", Reason.ASSERTION_FAILED,
            "the app brings this itself, and our SQLite lacks it: run `PRAGMA foreign_key_check` with the app",
        )  # fmt: skip
    if unrunnable:
        return Finding(
            name, Status.FAIL, f"foreign_key_check cannot run: {'; '.join(sorted(unrunnable))}", Reason.ASSERTION_FAILED,
            "a foreign key names columns of its parent that are no key: correct the migration, or roll back",
        )  # fmt: skip
    fresh, moved = _new_violations(before, after)
    if fresh:
        said = "; ".join(fresh[:NAMED_MAX]) + (f" and {len(fresh) - NAMED_MAX} more" if len(fresh) > NAMED_MAX else "")
        return Finding(
            name, Status.FAIL, f"foreign keys are violated that were not before: {said}", Reason.ASSERTION_FAILED,
            "`PRAGMA foreign_key_check` lists the rows: mend them, or roll back",
            observed=float(new.count), limit=float(before.foreign_keys.count), unit="violations",
        )  # fmt: skip
    if moved:
        return Finding(
            name, Status.WARN, f"as many foreign keys are violated as before, but not in the same rows: {'; '.join(moved[:NAMED_MAX])}",
            Reason.ASSERTION_FAILED, "the table was built anew, which may have numbered its rows anew: look at them",
            observed=float(new.count), limit=float(before.foreign_keys.count), unit="violations",
        )  # fmt: skip
    old = f" ({new.count} old ones are still there)" if new.count else ""
    return Finding(name, Status.PASS, f"no foreign key is violated that was not before{old}")


def _errors(keys: ForeignKeys) -> set[str]:
    return set(keys.error.split("; ")) if keys.error is not None else set()


def _new_violations(before: Census, after: Census) -> tuple[list[str], list[str]]:
    """Sentences about violations that are new, and about those that may only bear another rowid now."""
    old, new = before.foreign_keys, after.foreign_keys
    rebuilt = {
        each.name for each in schema_changes(before, after) if each.kind == "table" and each.before and each.after
    }
    fresh, moved = [], []
    for group, count in sorted(new.groups.items()):
        known = old.groups.get(group, 0)
        others = _other_rows(old, new, group)
        if count > known:
            fresh.append(f"{group} in {count - known} rows")
        elif others and group.partition(" -> ")[0] in rebuilt:
            moved.append(f"{group} in {others} rows")
        elif others:
            fresh.append(f"{group} in {others} rows")
    return fresh, moved


def _other_rows(old: ForeignKeys, new: ForeignKeys, group: str) -> int:
    """How many rows of this group were not violating before; 0 where there were too many rows to keep."""
    if old.rows is None or new.rows is None:
        return 0
    child, _, parent = group.partition(" -> ")
    known = set(old.rows)
    return sum(each not in known for each in new.rows if _is_of(each, child, parent))


def _is_of(row: str, child: str, parent: str) -> bool:
    """Whether a row `child rowid parent fkid` is of this group; names may hold spaces."""
    if not row.startswith(f"{child} "):
        return False
    rowid, _, rest = row.removeprefix(f"{child} ").partition(" ")
    return bool(rowid) and rest.rpartition(" ")[0] == parent


def schema(before: Census, after: Census, expectation: Expectation) -> Finding:
    """Did the schema version move as expected, and the schema with it?"""
    name, old, new = "schema", before.content.schema_version, after.content.schema_version
    if new is None:
        return Finding(
            name, Status.UNKNOWN, f"production's schema version cannot be told: {after.content.error}",
            Reason.VERSION_UNKNOWN, "check policy.schema-version",
        )  # fmt: skip
    if new.value.endswith(DIRTY):
        return Finding(
            name, Status.FAIL, f"the migration tool says that its migration is half done: {new.value}",
            Reason.VERSION_DIFFERS, "look at the migration's output; roll back, or finish it by hand",
        )  # fmt: skip
    changes = schema_changes(before, after)
    wrong = _version_is_wrong(old, new, expectation, changed=bool(changes))
    if wrong is not None:
        status, message, hint = wrong
        reason = Reason.VERSION_UNKNOWN if status is Status.UNKNOWN else Reason.VERSION_DIFFERS
        return Finding(name, status, message, reason, hint)
    moved = f"is still {new.value}" if new == old else f"went from {old.value if old else 'unknown'} to {new.value}"
    objects = (
        f"{len(changes)} object{'s' if len(changes) != 1 else ''} of the schema changed"
        if changes
        else "the schema did not"
    )
    return Finding(name, Status.PASS, f"the version {moved} ({new.source}); {objects}")


def _version_is_wrong(
    old: SchemaVersion | None, new: SchemaVersion, expectation: Expectation, *, changed: bool
) -> tuple[Status, str, str] | None:
    """Status, sentence and hint where the version is not as expected."""
    then = old.value if old is not None else "unknown"
    if expectation.version is not None and new.value != expectation.version:
        return (Status.FAIL, f"the schema version is {new.value}, expected {expectation.version} (it was {then})",
                "look at the migration's output; roll back, or migrate to the version that the deploy needs")  # fmt: skip
    if expectation.expect is Expect.CHANGED and old is None:
        return (
            Status.UNKNOWN,
            "the schema version was not known before, so nobody can tell that it moved",
            "say --expect-version",
        )
    if expectation.expect is Expect.CHANGED and new == old:
        return (Status.FAIL, f"the schema version is still {new.value}: it did not move",
                "did the migration run, and on this database? Look at its output")  # fmt: skip
    if expectation.expect is Expect.SAME and (new != old or changed):
        what = f"the schema version went from {then} to {new.value}" if new != old else "the schema changed"
        return (
            Status.FAIL,
            f"{what}, and nothing was to change",
            "find out what migrated; roll back if it was not meant",
        )
    forgotten = (
        expectation.expect is Expect.MOVES_WITH_SCHEMA and expectation.version is None and changed and new == old
    )
    if forgotten:
        return (Status.FAIL, f"the schema changed and its version is still {new.value} ({new.source})",
                "let the migration record its version; where the app keeps none, say --expect any")  # fmt: skip
    return None
