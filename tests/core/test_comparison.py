"""What a deploy did to a database, and whether it may have: every branch of identity, foreign keys and schema."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from sidecar.core.census import VIOLATIONS_KEPT_MAX, Census, SchemaObject
from sidecar.core.comparison import (
    SchemaChange,
    TableChange,
    comparison_document,
    schema_changes,
    table_changes,
)
from sidecar.core.expectation import Expect, Expectation, judge_change
from sidecar.core.finding import Reason, Status
from sidecar.core.model import SchemaVersion
from tests.core.receipts import BY_V, ORDERS, USERS, Violation, census

PASS, WARN, FAIL, UNKNOWN = Status.PASS, Status.WARN, Status.FAIL, Status.UNKNOWN
V42, V43 = SchemaVersion("django_migrations", "0042_auto"), SchemaVersion("django_migrations", "0043_more")
WIDER = replace(USERS, sql="create table users (id integer primary key, v text, w text)")
MOVED: dict[str, Any] = {"schema": (WIDER, ORDERS, BY_V), "schema_version": V43}  # what a good migration does
WRONG: Violation = ("orders", 7, "users", 0)
OTHER: Violation = ("orders", 8, "users", 0)
ORDERS_ANEW = replace(ORDERS, sql="create table orders (id, uid references users(id), note)")
MISMATCH = ('foreign key mismatch - "orders" referencing "users"',)


@dataclass(frozen=True, kw_only=True)
class Change:
    """What was, what is, what was expected; and the one finding that it is about."""

    is_about: str
    status: Status
    says: str
    reason: Reason | None = None
    then: Census = field(default_factory=census)
    now: Census = field(default_factory=census)
    expects: Expectation = field(default_factory=Expectation)
    figures: tuple[float | None, float | None, str | None] = (None, None, None)
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.is_about}-{self.status}-{self.says[:50]}"


def tables(**rows: int) -> dict[str, Any]:
    return {"tables": rows}


def allowing(*names: str) -> Expectation:
    return Expectation(allow_shrink=frozenset(names))


many = [("orders", each, "users", 0) for each in range(VIOLATIONS_KEPT_MAX + 1)]

CHANGES = [
    Change(is_about="identity", status=PASS, says="same database, and no table has shrunk"),
    Change(
        is_about="identity", status=FAIL, reason=Reason.FILE_REPLACED, says="another file stands at the database's path",
        now=census(inode=2002), hint="gate again",
    ),
    Change(is_about="identity", status=PASS, says="same", then=census(inode=None), now=census(inode=2002)),
    Change(is_about="identity", status=PASS, says="same", then=census(inode=1001), now=census(inode=None)),
    Change(
        is_about="identity", status=FAIL, reason=Reason.EMPTY, says="production holds no table any more",
        now=census(**tables()), hint="rollback --receipt",
    ),
    Change(is_about="identity", status=PASS, says="same", then=census(**tables()), now=census(**tables())),
    Change(is_about="identity", status=PASS, says="same", then=census(**tables())),
    Change(
        is_about="identity", status=FAIL, reason=Reason.IDENTITY_CHANGED, says="application_id 8 instead of 7",
        now=census(application_id=8), hint="the receipt is of this deploy",
    ),
    Change(
        is_about="identity", status=FAIL, reason=Reason.IDENTITY_CHANGED,
        says="no table in common (it holds a, b, c)", now=census(**tables(d=1, c=1, b=1, a=1)),
    ),
    Change(
        is_about="identity", status=FAIL, reason=Reason.SHRUNK, says="rows are gone: table users has 49 rows of 100",
        now=census(**tables(users=49, orders=50)), figures=(0.51, 0.5, "ratio"), hint="--allow-shrink users",
    ),
    Change(is_about="identity", status=PASS, says="same", now=census(**tables(users=50, orders=50))),
    Change(
        is_about="identity", status=FAIL, reason=Reason.SHRUNK, says="table users has 99 rows of 100",
        now=census(**tables(users=99, orders=50)), expects=Expectation(max_shrink=0.0), figures=(0.01, 0.0, "ratio"),
    ),
    Change(
        is_about="identity", status=PASS, says="same", now=census(**tables(users=0, orders=50)),
        expects=allowing("users"),
    ),
    Change(
        is_about="identity", status=FAIL, reason=Reason.SHRUNK, says="table orders has 0 rows of 50",
        now=census(**tables(users=0, orders=0)), expects=allowing("users"), figures=(1.0, 0.5, "ratio"),
    ),
    Change(
        is_about="identity", status=FAIL, reason=Reason.SHRUNK, says="table orders is gone with its 50 rows",
        now=census(**tables(users=100)), figures=(1.0, 0.5, "ratio"),
    ),
    Change(
        is_about="identity", status=FAIL, reason=Reason.SHRUNK,
        says="table orders is gone with its 50 rows (table bookings is new with as many: if it was renamed, allow it)",
        now=census(**tables(users=100, bookings=50)), figures=(1.0, 0.5, "ratio"), hint="--allow-shrink orders",
    ),
    Change(
        is_about="identity", status=FAIL, reason=Reason.SHRUNK,
        says="table orders is gone with its 50 rows; table users has 10 rows of 100",
        now=census(**tables(users=10, bookings=51)), figures=(1.0, 0.5, "ratio"),
    ),
    Change(
        is_about="identity", status=FAIL, reason=Reason.SHRUNK, says="table a4 has 0 rows of 9 (and 2 more tables)",
        then=census(tables={f"a{each}": 9 for each in range(7)}),
        now=census(tables={f"a{each}": 0 for each in range(7)}), figures=(1.0, 0.5, "ratio"),
        hint="--allow-shrink a0 --allow-shrink a1 --allow-shrink a2 --allow-shrink a3 --allow-shrink a4",
    ),
    Change(is_about="identity", status=PASS, says="same", now=census(**tables(users=-1, orders=50))),
    Change(
        is_about="identity", status=PASS, says="same", then=census(**tables(users=-1, orders=0)),
        now=census(**tables(users=0, orders=0)),
    ),
    Change(
        is_about="identity", status=WARN, reason=Reason.IDENTITY_CHANGED, says="page size changed from 4096 to 8192",
        now=census(page_size=8192), hint="new, empty path",
    ),
    Change(
        is_about="identity", status=FAIL, reason=Reason.SHRUNK, says="table users", figures=(1.0, 0.5, "ratio"),
        now=census(page_size=8192, **tables(users=0, orders=50)),
    ),
    Change(  # 1 - 70 / 100 is more than 0.3 to a computer
        is_about="identity", status=PASS, says="same", now=census(**tables(users=70, orders=35)),
        expects=Expectation(max_shrink=0.3),
    ),
    # foreign keys
    Change(is_about="database", status=PASS, says="no foreign key is violated that was not before"),
    Change(
        is_about="database", status=PASS, says="(1 old ones are still there)", then=census(WRONG), now=census(WRONG),
    ),
    Change(is_about="database", status=PASS, says="not before", then=census(WRONG, OTHER), now=census()),
    Change(
        is_about="database", status=FAIL, reason=Reason.ASSERTION_FAILED,
        says="violated that were not before: orders -> users in 1 rows", now=census(WRONG),
        figures=(1, 0, "violations"), hint="foreign_key_check",
    ),
    Change(
        is_about="database", status=FAIL, reason=Reason.ASSERTION_FAILED, says="orders -> users in 1 rows",
        then=census(WRONG), now=census(WRONG, OTHER), figures=(2, 1, "violations"),
    ),
    Change(  # one mended, another made: as many, but not the same
        is_about="database", status=FAIL, reason=Reason.ASSERTION_FAILED, says="orders -> users in 1 rows",
        then=census(WRONG), now=census(OTHER), figures=(1, 1, "violations"),
    ),
    Change(
        is_about="database", status=WARN, reason=Reason.ASSERTION_FAILED,
        says="as many foreign keys are violated as before, but not in the same rows: orders -> users in 1 rows",
        then=census(WRONG), now=census(OTHER, schema=(USERS, ORDERS_ANEW, BY_V)), figures=(1, 1, "violations"),
    ),
    Change(  # the table's schema changed in a version too: a new violation stays one
        is_about="database", status=FAIL, reason=Reason.ASSERTION_FAILED, says="orders -> users in 1 rows",
        then=census(WRONG), now=census(WRONG, OTHER, schema=(USERS, ORDERS_ANEW, BY_V)),
        figures=(2, 1, "violations"),
    ),
    Change(  # only counts are known of so many
        is_about="database", status=PASS, says="(1001 old ones", then=census(*many),
        now=census(*[(c, (r or 0) + 1, p, k) for c, r, p, k in many]),
    ),
    Change(
        is_about="database", status=FAIL, reason=Reason.ASSERTION_FAILED, says="orders -> users in 1 rows",
        then=census(*many), now=census(*many, ("orders", 9999, "users", 0)), figures=(1002, 1001, "violations"),
    ),
    Change(
        is_about="database", status=FAIL, reason=Reason.ASSERTION_FAILED, says="in 1 rows and 2 more",
        now=census(*[(f"t{each}", 1, "users", 0) for each in range(7)]), figures=(7, 0, "violations"),
    ),
    Change(  # a child of two parents
        is_about="database", status=FAIL, reason=Reason.ASSERTION_FAILED,
        says="violated that were not before: orders -> users in 1 rows", figures=(2, 2, "violations"),
        then=census(WRONG, ("orders", 1, "items", 1)), now=census(OTHER, ("orders", 1, "items", 1)),
    ),
    Change(  # names with spaces: rows of another table whose name begins alike are not taken for this one's
        is_about="database", status=FAIL, reason=Reason.ASSERTION_FAILED, says="log entry -> users in 1 rows",
        then=census(("log entry", 1, "users", 0), ("log", 5, "users", 0)),
        now=census(("log entry", 2, "users", 0), ("log", 5, "users", 0)), figures=(2, 2, "violations"),
    ),
    Change(
        is_about="database", status=FAIL, reason=Reason.ASSERTION_FAILED, says="foreign_key_check cannot run: foreign key",
        now=census(errors=MISMATCH), hint="no key",
    ),
    Change(
        is_about="database", status=UNKNOWN, says="cannot be run here: no such collation sequence: de", reason=Reason.ASSERTION_FAILED,
        now=census(errors=("no such collation sequence: de",)), hint="with the app",
    ),
    Change(
        is_about="database", status=PASS, says="not before", then=census(errors=MISMATCH), now=census(errors=MISMATCH),
    ),
    Change(  # one of two was mended
        is_about="database", status=PASS, says="not before", then=census(errors=(*MISMATCH, "b")),
        now=census(errors=MISMATCH),
    ),
    Change(
        is_about="database", status=FAIL, reason=Reason.ASSERTION_FAILED, says="cannot run: b",
        then=census(errors=MISMATCH), now=census(errors=(*MISMATCH, "b")), hint="no key",
    ),
    # schema
    Change(is_about="schema", status=PASS, says="the version is still 0042_auto (django_migrations); the schema did not"),
    Change(
        is_about="schema", status=PASS, now=census(**MOVED),
        says="the version went from 0042_auto to 0043_more (django_migrations); 1 object of the schema changed",
    ),
    Change(is_about="schema", status=PASS, says="the schema did not", now=census(schema_version=V43)),
    Change(
        is_about="schema", status=PASS, says="2 objects of the schema changed",
        now=census(schema=(WIDER, ORDERS), schema_version=V43),
    ),
    Change(
        is_about="schema", status=FAIL, reason=Reason.VERSION_DIFFERS, now=census(schema=(WIDER, ORDERS, BY_V)),
        says="the schema changed and its version is still 0042_auto (django_migrations)", hint="--expect any",
    ),
    Change(
        is_about="schema", status=PASS, says="is still 0042_auto (django_migrations); 1 object",
        now=census(schema=(WIDER, ORDERS, BY_V)), expects=Expectation(expect=Expect.ANY),
    ),
    Change(
        is_about="schema", status=PASS, says="is still 0042_auto", now=census(schema=(WIDER, ORDERS, BY_V)),
        expects=Expectation(version="0042_auto"),
    ),
    Change(is_about="schema", status=PASS, says="to 0043", now=census(**MOVED), expects=Expectation(version="0043_more")),
    Change(
        is_about="schema", status=FAIL, reason=Reason.VERSION_DIFFERS, expects=Expectation(version="0043_more"),
        says="the schema version is 0042_auto, expected 0043_more (it was 0042_auto)", hint="migration's output",
    ),
    Change(
        is_about="schema", status=FAIL, reason=Reason.VERSION_DIFFERS, then=census(schema_version=None),
        says="is 0042_auto, expected 0043_more (it was unknown)", expects=Expectation(version="0043_more"),
    ),
    Change(
        is_about="schema", status=FAIL, reason=Reason.VERSION_DIFFERS, expects=Expectation(expect=Expect.CHANGED),
        says="the schema version is still 0042_auto: it did not move", hint="did the migration run",
    ),
    Change(
        is_about="schema", status=PASS, says="to 0043_more", now=census(**MOVED),
        expects=Expectation(expect=Expect.CHANGED),
    ),
    Change(
        is_about="schema", status=UNKNOWN, reason=Reason.VERSION_UNKNOWN, then=census(schema_version=None),
        says="was not known before, so nobody can tell that it moved", expects=Expectation(expect=Expect.CHANGED),
        hint="--expect-version",
    ),
    Change(is_about="schema", status=PASS, says="is still", expects=Expectation(expect=Expect.SAME)),
    Change(
        is_about="schema", status=FAIL, reason=Reason.VERSION_DIFFERS, now=census(**MOVED),
        says="the schema version went from 0042_auto to 0043_more, and nothing was to change",
        expects=Expectation(expect=Expect.SAME), hint="what migrated",
    ),
    Change(
        is_about="schema", status=FAIL, reason=Reason.VERSION_DIFFERS, now=census(schema=(WIDER, ORDERS, BY_V)),
        says="the schema changed, and nothing was to change", expects=Expectation(expect=Expect.SAME),
    ),
    Change(
        is_about="schema", status=FAIL, reason=Reason.VERSION_DIFFERS, now=census(schema_version=SchemaVersion("m", "7 (dirty)")),
        says="its migration is half done: 7 (dirty)", expects=Expectation(expect=Expect.ANY), hint="roll back",
    ),
    Change(
        is_about="schema", status=UNKNOWN, reason=Reason.VERSION_UNKNOWN, now=census(schema_version=None, error="two tables"),
        says="production's schema version cannot be told: two tables", hint="policy.schema-version",
        expects=Expectation(expect=Expect.ANY),
    ),
    Change(
        is_about="schema", status=PASS, says="went from unknown to 0042_auto", then=census(schema_version=None),
        now=census(schema=(WIDER, ORDERS, BY_V)),
    ),
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_change_is_judged(change: Change) -> None:
    findings = {each.name: each for each in judge_change(change.then, change.now, change.expects)}
    assert list(findings) == ["identity", "database", "schema"]
    found = findings[change.is_about]
    assert (found.status, found.reason) == (change.status, change.reason), found
    assert change.says in found.message
    assert change.hint in found.hint
    assert (found.reason is None) == (found.status is PASS)
    assert found.hint or found.status is PASS, "what is wrong needs a hint"
    assert not found.retryable, "waiting brings no row back"
    observed, limit, unit = change.figures
    assert (found.observed, found.limit, found.unit) == (
        pytest.approx(observed) if observed is not None else None, limit, unit,
    )  # fmt: skip


def test_what_is_gone_came_or_changed_in_the_schema_is_listed() -> None:
    trigger = SchemaObject("trigger", "t1", "users", "create trigger t1")
    before, after = census(schema=(USERS, ORDERS, BY_V)), census(schema=(WIDER, BY_V, trigger))
    assert schema_changes(before, after) == (
        SchemaChange("table", "orders", ORDERS.sql, None),
        SchemaChange("table", "users", USERS.sql, WIDER.sql),
        SchemaChange("trigger", "t1", None, "create trigger t1"),
    )
    assert schema_changes(before, before) == ()


def test_a_view_that_becomes_a_table_of_the_same_name_is_two_changes() -> None:
    view, table = SchemaObject("view", "v", "v", "create view v"), SchemaObject("table", "v", "v", "create table v")
    changes = schema_changes(census(schema=(view,)), census(schema=(table,)))
    assert [(each.kind, each.before is None) for each in changes] == [("table", True), ("view", False)]


def test_tables_with_as_many_rows_are_not_listed() -> None:
    before, after = census(tables={"a": 1, "b": 2, "c": -1, "d": 3}), census(tables={"a": 1, "b": 5, "c": 4, "e": 0})
    assert table_changes(before, after) == (
        TableChange("b", 2, 5), TableChange("c", -1, 4), TableChange("d", 3, None), TableChange("e", None, 0),
    )  # fmt: skip


def test_the_document_says_what_changed_and_nothing_else() -> None:
    before = census(WRONG, tables={"users": 100})
    after = census(tables={"users": 99}, schema=(WIDER, ORDERS, BY_V), schema_version=None)
    assert comparison_document(before, after) == {
        "schema_version": {"before": {"source": "django_migrations", "value": "0042_auto"}, "after": None},
        "schema": [{"type": "table", "name": "users", "before": USERS.sql, "after": WIDER.sql}],
        "tables": [{"name": "users", "before": 100, "after": 99}],
        "foreign_key_violations": {"before": 1, "after": 0},
    }
    assert comparison_document(before, before)["tables"] == comparison_document(before, before)["schema"] == []
