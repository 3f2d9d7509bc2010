"""Which tables are whose, how migration tables are told apart, and when two schemas are the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.model import SchemaVersion
from sidecar.core.schema_version import (
    MIGRATION_TABLES,
    SchemaRow,
    conclude,
    digest,
    is_users,
    normalised,
    recognise,
    user_tables,
)


def table(name: str, sql: str | None = None, root: int = 2) -> SchemaRow:
    return SchemaRow("table", name, name, root, sql or f"CREATE TABLE {name} (a)")


@pytest.mark.parametrize(
    ("columns", "tool"),
    [
        ({"version"}, "Rails"),
        ({"version", "inserted_at"}, "Ecto"),
        ({"version", "dirty"}, "golang-migrate"),
        ({"id", "name"}, None),
    ],
)
def test_one_name_three_tools(columns: set[str], tool: str | None) -> None:
    found = recognise({"schema_migrations": columns})
    assert [each.tool for each in found] == ([tool] if tool else [])


def test_a_table_called_migrations_is_laravels_only_with_laravels_columns() -> None:
    assert recognise({"migrations": {"id", "timestamp", "name"}}) == ()
    assert [each.tool for each in recognise({"Migrations": {"ID", "Migration", "Batch"}})] == ["Laravel"]


def test_yoyos_own_other_tables_say_no_version() -> None:
    tables = {
        "_yoyo_migration": {"migration_hash", "migration_id", "applied_at_utc"},
        "_yoyo_version": {"version", "installed_at_utc"},
        "_yoyo_log": {"id", "migration_hash", "migration_id", "operation"},
        "yoyo_lock": {"locked", "ctime", "pid"},
    }
    assert [each.table for each in recognise(tables)] == ["_yoyo_migration"]


def test_every_layout_can_be_recognised() -> None:
    for layout in MIGRATION_TABLES:
        assert layout in recognise({layout.table: layout.columns})


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        ([], ("user_version", "7")),
        ([("django_migrations", ["0042_auto"])], ("django_migrations", "0042_auto")),
        ([("alembic_version", ["b", "a"])], ("alembic_version", "a,b")),
        ([("django_migrations", [])], ("django_migrations", "none")),
        ([("_yoyo_migration", ["0002.b"])], ("_yoyo_migration", "0002.b")),
        ([("knex_migrations", []), ("_prisma_migrations", ["2_x"])], ("_prisma_migrations", "2_x")),
        ([("knex_migrations", ["1.js"]), ("_prisma_migrations", ["2_x"])], ("knex_migrations+_prisma_migrations", "1.js+2_x")),
    ],
)  # fmt: skip
def test_what_the_tables_say_becomes_one_version(
    readings: list[tuple[str, list[str]]], expected: tuple[str, str]
) -> None:
    assert conclude(readings, 7) == SchemaVersion(*expected)


def test_litestreams_and_sqlites_tables_are_not_the_users() -> None:
    assert not is_users("_litestream_seq")
    assert not is_users("_litestream_lock")
    assert not is_users("sqlite_sequence")
    assert is_users("_litestream")
    assert is_users("users")


def test_of_a_search_index_only_the_rows_count() -> None:
    parts = ("data", "idx", "content", "docsize", "config")
    rows = [
        table("notes"),
        SchemaRow("table", "search", "search", 0, "CREATE VIRTUAL TABLE search /* x */ USING fts5(body)"),
        *(table(f"search_{each}") for each in parts),
        table("search_history"),
        SchemaRow("view", "v", "v", 0, "CREATE VIEW v AS SELECT 1"),
        SchemaRow("index", "notes_a", "notes", 9, "CREATE INDEX notes_a ON notes(a)"),
        table("_litestream_seq"),
        table("sqlite_sequence"),
    ]
    assert user_tables(rows) == ("notes", "search_content", "search_history")


def test_of_an_unknown_module_every_table_counts() -> None:
    rows = [
        SchemaRow("table", "v", "v", 0, 'CREATE VIRTUAL TABLE v USING "vec0"(e)'),
        table("v_chunks"),
        table("v_info"),
    ]
    assert user_tables(rows) == ("v_chunks", "v_info")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("CREATE TABLE t(a,b)", "CREATE TABLE t (\n  a, -- first\n  b /* second */\n)", True),
        ("CREATE TABLE t(a default 'x  y')", "CREATE TABLE t(a default 'x y')", False),
        ("CREATE TABLE t(a default '--')", "CREATE TABLE t(a default '')", False),
        ('CREATE TABLE "a b"(x)', 'CREATE TABLE "a  b"(x)', False),
        ("CREATE TABLE t(a)", "CREATE TABLE t(a, b)", False),
        ("CREATE TABLE t(ab)", "CREATE TABLE t(a b)", False),
        ("CREATE TABLE t(a default 'it''s')", "CREATE TABLE t(a default 'it' 's')", False),
    ],
)
def test_layout_and_comments_make_no_difference_and_all_else_does(one: str, other: str, same: bool) -> None:  # noqa: FBT001 - a table of cases
    assert (digest([table("t", one)]) == digest([table("t", other)])) is same


def test_the_digest_knows_names_and_not_the_order_nor_litestreams_tables() -> None:
    one, two = table("a"), table("b", root=3)
    assert (
        digest([one, two]) == digest([two, one]) == digest([one, two, table("_litestream_seq"), table("sqlite_stat1")])
    )
    assert digest([one]) != digest([one, two])


@given(st.text())
def test_normalising_is_idempotent_and_takes_any_text(sql: str) -> None:
    assert normalised(normalised(sql)) == normalised(sql)
    assert len(digest([table("t", sql)])) == 64
