"""Schema versions: where each migration tool records one, which tables are the user's, and one digest over a whole schema.

Layouts are those the tools create on SQLite, read in their sources and documentation. A migration that failed or was rolled
back is not the version. Where a tool's table is there and holds nothing applied, the version is the word `none`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sidecar.core.model import SchemaVersion

NOTHING_APPLIED = "none"
HEADS_MAX = 100  # rows that one tool may call its version; Alembic has as many as there are open branches
LITESTREAM_TABLES = frozenset({"_litestream_seq", "_litestream_lock"})

# Tables of virtual-table modules that hold their index, not the user's rows: their row counts follow merges, not data.
_BOOKKEEPING = {
    "fts3": ("segments", "segdir", "docsize", "stat"),
    "fts4": ("segments", "segdir", "docsize", "stat"),
    "fts5": ("data", "idx", "docsize", "config"),
    "rtree": ("node", "parent"),
    "rtree_i32": ("node", "parent"),
    "geopoly": ("node", "parent"),
}
_TOKEN = re.compile(
    r"""--[^\n]*|/\*.*?(?:\*/|\Z)|'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|\w+|\s+|.""", re.DOTALL
)
_VIRTUAL = ("create", "virtual", "table")


@dataclass(frozen=True, slots=True)
class MigrationTable:
    """One tool's table: known by its name and columns, read by `sql`, which returns rows of one value (several are heads)."""

    tool: str
    table: str
    columns: frozenset[str]
    sql: str


def _table(tool: str, table: str, columns: str, sql: str) -> MigrationTable:
    return MigrationTable(tool, table, frozenset(columns.split()), sql)


MIGRATION_TABLES: tuple[MigrationTable, ...] = (
    _table("Django", "django_migrations", "id app name", "select name from django_migrations order by id desc limit 1"),
    _table("Alembic", "alembic_version", "version_num", "select version_num from alembic_version"),
    _table(
        "Flyway", "flyway_schema_history", "installed_rank version type success",
        # An undone migration keeps its row; the undo is a later row of the same version.
        "select version from flyway_schema_history done where success and version is not null"
        " and type not like 'UNDO%' and type <> 'DELETE' and not exists (select 1 from flyway_schema_history undo"
        " where undo.version = done.version and undo.success and undo.installed_rank > done.installed_rank"
        " and (undo.type like 'UNDO%' or undo.type = 'DELETE')) order by installed_rank desc limit 1",
    ),
    # One name, three tools: the layout with the most columns stands first.
    _table(
        "golang-migrate", "schema_migrations", "version dirty",
        "select version || iif(dirty, ' (dirty)', '') from schema_migrations limit 1",
    ),
    _table("Ecto", "schema_migrations", "version inserted_at",
           "select version from schema_migrations order by version desc limit 1"),
    _table("Rails", "schema_migrations", "version",  # text; dbmate's table is the same
           "select version from schema_migrations order by cast(version as integer) desc, version desc limit 1"),
    _table(
        "Prisma", "_prisma_migrations", "migration_name finished_at rolled_back_at",
        # Its times are integers or text, depending on who wrote them; rows are never moved, so rowid tells the order.
        "select migration_name from _prisma_migrations"
        " where finished_at is not null and rolled_back_at is null order by rowid desc limit 1",
    ),
    _table("Laravel", "migrations", "migration batch",
           "select migration from migrations order by batch desc, migration desc limit 1"),
    _table("sqlx", "_sqlx_migrations", "version success",
           "select version from _sqlx_migrations where success order by version desc limit 1"),
    _table("Knex", "knex_migrations", "id name batch", "select name from knex_migrations order by id desc limit 1"),
    # `id SERIAL` is no rowid alias on SQLite and stays null; created_at is the migration's own `when`, not the time it ran.
    _table("Drizzle", "__drizzle_migrations", "hash created_at name",
           "select coalesce(name, created_at) from __drizzle_migrations order by created_at desc, rowid desc limit 1"),
    _table("Drizzle", "__drizzle_migrations", "hash created_at",
           "select created_at from __drizzle_migrations order by created_at desc, rowid desc limit 1"),
    _table(
        "goose", "goose_db_version", "id version_id is_applied",
        # Old releases record a `down` as a later row that is not applied, new ones delete the row.
        "select version_id from goose_db_version newest where is_applied and id ="
        " (select max(id) from goose_db_version same where same.version_id = newest.version_id)"
        " order by id desc limit 1",
    ),
    _table("yoyo", "_yoyo_migration", "migration_hash migration_id applied_at_utc",  # a rolled-back migration's row is deleted
           "select migration_id from _yoyo_migration order by applied_at_utc desc, rowid desc limit 1"),
    _table(
        "Atlas", "atlas_schema_revisions", "version type applied total error",
        # A leading dot marks Atlas's own row; type & 4 is `migrate set`, which declares a broken one resolved.
        "select version from atlas_schema_revisions where version not like '.%'"
        " and (type & 4 or (coalesce(error, '') = '' and applied = total)) order by version desc limit 1",
    ),
)  # fmt: skip
MIGRATION_TABLE_NAMES = frozenset(each.table for each in MIGRATION_TABLES)


def recognise(columns: Mapping[str, Iterable[str]]) -> tuple[MigrationTable, ...]:
    """The migration tables among these (table name to column names; case does not matter), in the order of the list above.

    Of several layouts under one name the first that fits is meant; a table with other columns is nobody's.
    """
    there = {name.lower(): {each.lower() for each in names} for name, names in columns.items()}
    found: dict[str, MigrationTable] = {}
    for layout in MIGRATION_TABLES:
        if layout.table in there and layout.columns <= there[layout.table]:
            found.setdefault(layout.table, layout)
    return tuple(found.values())


def conclude(readings: Sequence[tuple[str, Sequence[str]]], user_version: int) -> SchemaVersion:
    """The version from what each migration table (`source`, rows) said; `user_version` where there is no such table.

    Several rows of one table are heads, sorted and joined with a comma. Where two tools have applied something (an app that
    went from one to the other), both are said, joined with `+`: leaving one out could hide a migration.
    """
    if not readings:
        return SchemaVersion("user_version", str(user_version))
    applied = [each for each in readings if each[1]] or readings[:1]
    source = "+".join(name for name, _ in applied)
    return SchemaVersion(source, "+".join(",".join(sorted(rows)) or NOTHING_APPLIED for _, rows in applied))


@dataclass(frozen=True, slots=True)
class SchemaRow:
    """A row of `sqlite_schema`. `root` is 0 for what has no pages of its own: views, triggers, virtual tables."""

    type: str
    name: str
    table: str
    root: int
    sql: str | None


def is_users(table: str) -> bool:
    """Whether a table of that name is the user's, not SQLite's or Litestream's."""
    return not table.lower().startswith("sqlite_") and table.lower() not in LITESTREAM_TABLES


def user_tables(rows: Iterable[SchemaRow]) -> tuple[str, ...]:
    """The tables that hold the user's rows, sorted.

    Virtual tables have none of their own: theirs lie in ordinary tables, of which the index's are left out where the module
    is one of SQLite's, and all are kept where it is not.
    """
    rows = tuple(rows)
    index = {name for row in rows for name in _index_tables(row)}
    tables = (row.name for row in rows if row.type == "table" and row.root and is_users(row.name))
    return tuple(sorted(name for name in tables if name.lower() not in index))


def _index_tables(row: SchemaRow) -> Iterable[str]:
    words = tuple(_tokens(row.sql or "")) if row.type == "table" and not row.root else ()
    if tuple(each.lower() for each in words[:3]) != _VIRTUAL or len(words) < 6:  # noqa: PLR2004 - name, USING, module follow
        return ()
    module = words[5].strip("\"'`[]").lower()
    return tuple(f"{row.name}_{part}".lower() for part in _BOOKKEEPING.get(module, ()))


def _tokens(sql: str) -> Iterable[str]:
    """The words and signs of a statement, without comments and white space."""
    for match in _TOKEN.finditer(sql):
        token = match.group()
        if not token.isspace() and not token.startswith(("--", "/*")):
            yield token


def normalised(sql: str) -> str:
    """A statement with comments gone and white space made even; what stands in quotes is kept to the letter."""
    return " ".join(_tokens(sql))


def digest(rows: Iterable[SchemaRow]) -> str:
    """sha256, in hex, over the user's schema: independent of the order, layout and comments of its statements."""
    lines = sorted(
        "\0".join((row.type, row.name, row.table, normalised(row.sql or "")))
        for row in rows
        if is_users(row.table) and is_users(row.name)
    )
    return hashlib.sha256("\n".join(lines).encode(errors="surrogatepass")).hexdigest()
