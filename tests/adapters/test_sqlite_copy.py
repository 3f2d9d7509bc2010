"""SQLite's opinion of a copy: real damage of every kind, real limits, and real migration tables."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Timer
from typing import Any

import apsw
import apsw.fts5
import pytest

from sidecar.adapters.sqlite_content import UnusableSql
from sidecar.adapters.sqlite_copy import CopySqlite, MissingModule
from sidecar.core.errors import Overdue, SidecarError, Stopped, UnsoundCopy
from sidecar.core.model import CheckKind, Content, SchemaVersion
from sidecar.core.policy import Assertion
from tests.litestreams import App, Litestream, binary, binary_of, environment, until

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
PAGE = 4096
FOREVER = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"


def quiet(stage: str, done: int, total: int | None) -> None:
    """Nobody looks."""


def make(path: Path, *statements: str, rows: int = 0) -> Path:
    """A database in WAL mode, as Litestream restores it; `t` with an index and `rows` rows of about 110 bytes."""
    connection = apsw.Connection(str(path))
    connection.pragma("journal_mode", "wal")
    connection.execute("create table t (id integer primary key, k text, v text)")
    connection.execute("create index t_k on t (k)")
    connection.execute(
        "with recursive n(i) as (select 1 union all select i + 1 from n where i <= ?)"
        " insert into t (k, v) select printf('%08d', i), hex(randomblob(50)) from n where i <= ?",
        (rows, rows),
    )
    for each in statements:
        connection.execute(each)
    connection.close()
    assert sorted(each.name for each in path.parent.iterdir()) == [path.name]
    return path


def check(
    path: Path, kind: CheckKind = CheckKind.QUICK, timeout_s: float = 60.0, stop: Event | None = None
) -> tuple[str, ...]:
    return CopySqlite().check(path, kind, timeout_s=timeout_s, stop=stop or Event(), progress=quiet)


def content(path: Path, schema_version: str = "auto") -> Content:
    return CopySqlite().content(path, schema_version=schema_version, now=NOW, timeout_s=60.0, stop=Event())


def hold(path: Path, sql: str, *, timeout_s: float = 60.0, **limits: Any) -> str | None:
    assertion = Assertion(name="a1", sql=sql, **limits)
    return CopySqlite().assertion(path, assertion, timeout_s=timeout_s, stop=Event())


def scribble(path: Path, page: int, what: bytes = bytes(PAGE), at: int = 0) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE + at)
        file.write(what)


@pytest.mark.parametrize("kind", CheckKind)
def test_a_sound_file_has_no_complaints_and_nothing_is_left_beside_it(tmp_path: Path, kind: CheckKind) -> None:
    path = make(tmp_path / "odd name?#%41.db", rows=3000)
    before = hashlib.sha256(path.read_bytes()).digest()
    assert check(path, kind) == ()
    assert content(path).tables == {"t": 3000}
    assert hold(path, "select count(*) from t", min=3000) is None
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert hashlib.sha256(path.read_bytes()).digest() == before


@pytest.mark.parametrize("version", ["0.5.17", "0.3.13"])
def test_what_litestream_restores_has_the_size_its_header_counts(
    app: App, litestream: Callable[..., Litestream], tmp_path: Path, version: str
) -> None:
    executable = binary() if version == "0.5.17" else binary_of(version)
    config, target = tmp_path / "litestream.yml", tmp_path / "copy" / "restored.db"
    target.parent.mkdir()
    config.write_text(f"dbs: [{{path: {app.path}, replicas: [{{path: {tmp_path}/replica, sync-interval: 100ms}}]}}]\n")
    started = litestream(config, executable=executable).start()
    app.write(5000)
    app.execute("delete from t where id > 100")
    app.execute("vacuum")  # the header counts fewer pages than the file holds until the next checkpoint
    app.write(1)

    def restored() -> bool:
        target.unlink(missing_ok=True)
        command = [executable, "restore", "-config", str(config), "-o", str(target), str(app.path)]
        subprocess.run(command, check=False, capture_output=True, env=environment())
        return target.exists() and content(target).tables == {"t": 101}

    until(restored, every=0.2)
    started.stop()
    assert check(target, CheckKind.FULL) == ()
    assert content(target).page_count < 20


def test_zeroed_page(tmp_path: Path) -> None:
    path = make(tmp_path / "a.db", rows=3000)
    scribble(path, 20)
    assert any("page 20" in each for each in check(path))
    assert any("page 20" in each for each in check(path, CheckKind.FULL))


def test_many_complaints_are_cut(tmp_path: Path) -> None:
    path = make(tmp_path / "a.db", rows=9000)
    for page in range(20, 120):
        scribble(path, page)
    assert 0 < len(check(path)) <= 20


def test_damaged_schema_page_is_a_complaint_and_not_a_crash(tmp_path: Path) -> None:
    path = make(tmp_path / "a.db", rows=100)
    scribble(path, 1, b"\xff" * 300, at=100)
    assert check(path) == ("database disk image is malformed",)
    with pytest.raises(UnsoundCopy, match="malformed"):
        content(path)


@pytest.fixture
def without_index_row(tmp_path: Path) -> Path:
    """Row 1500 is in the table and not in the index: the table's copy of an index page is put back over a later one."""
    path = make(tmp_path / "a.db", rows=50)
    connection = apsw.Connection(str(path))
    root = connection.execute("select rootpage from sqlite_schema where name = 't_k'").get
    connection.close()
    before = path.read_bytes()[(root - 1) * PAGE : root * PAGE]
    connection = apsw.Connection(str(path))
    connection.execute("insert into t (k, v) values ('00000099', 'lost')")
    connection.close()
    scribble(path, root, before)
    return path


def test_index_that_misses_a_row_is_found_by_both_checks_of_our_sqlite(without_index_row: Path) -> None:
    assert check(without_index_row) == ("wrong # of entries in index t_k",)
    assert "row 51 missing from index t_k" in check(without_index_row, CheckKind.FULL)


def test_index_with_a_wrong_key_is_found_by_the_full_check_only(tmp_path: Path) -> None:
    path = make(tmp_path / "a.db", rows=50)
    raw = path.read_bytes()
    first = raw.index(b"00000007")
    second = raw.index(b"00000007", first + 1)
    root = apsw.Connection(str(path)).execute("select rootpage from sqlite_schema where name = 't_k'").get
    at = next(each for each in (first, second) if each // PAGE == root - 1)
    scribble(path, root, b"00000006", at=at % PAGE)
    assert check(path) == ()
    assert any("row 7 missing from index t_k" in each for each in check(path, CheckKind.FULL))


@pytest.mark.parametrize("kept", [1, 5 * PAGE, 5 * PAGE + 100, -1, -PAGE])
def test_truncated_file(tmp_path: Path, kept: int) -> None:
    path = make(tmp_path / "a.db", rows=500)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(kept if kept > 0 else size + kept)
    (said,) = check(path)
    assert said == "file is not a database" if kept == 1 else f"{size} bytes" in said


def test_file_with_more_pages_than_its_header_counts(tmp_path: Path) -> None:
    path = make(tmp_path / "a.db", rows=500)
    with path.open("ab") as file:
        file.write(bytes(PAGE))
    (said,) = check(path)
    assert said.startswith(f"the file has {path.stat().st_size} bytes, its header counts ")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "the file is empty"),
        (bytes(8 * PAGE), "file is not a database"),
        (b"not a database, " * 1000, "file is not a database"),
        (b"SQLite format 3\0" + bytes(4080), "its header names a page size of 0 bytes"),
    ],
)
def test_what_is_no_database(tmp_path: Path, raw: bytes, said: str) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(raw)
    assert check(path) == (said,)


def test_a_missing_file_is_no_complaint(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        check(tmp_path / "a.db")
    with pytest.raises(SidecarError, match="unable to open"):
        content(tmp_path / "a.db")


def with_collation(connection: apsw.Connection) -> None:
    connection.create_collation("mine", lambda one, other: (one > other) - (one < other))
    connection.execute("create table k (a text collate mine)")
    connection.execute("create index k_a on k (a)")
    connection.execute("insert into k values ('b'), ('a')")


def with_tokenizer(connection: apsw.Connection) -> None:
    connection.register_fts5_tokenizer("mine", lambda _db, _args: lambda _text, _why, _locale: [("a",)])
    connection.execute("create virtual table f using fts5(x, tokenize='mine')")
    connection.execute("insert into f values ('hello')")


def with_function(connection: apsw.Connection) -> None:
    connection.create_scalar_function("twice", lambda *values: values[0], deterministic=True)
    connection.execute("create table g (a)")
    connection.execute("create index g_a on g (twice(a))")
    connection.execute("insert into g values (3)")


def with_newer_syntax(connection: apsw.Connection) -> None:
    connection.execute("create table g (a)")
    connection.pragma("writable_schema", True)
    connection.execute("update sqlite_schema set sql = 'CREATE TABLE g (a) marvellous' where name = 'g'")


def with_newer_format(connection: apsw.Connection) -> None:
    connection.execute("create table g (a)")
    path = Path(connection.filename)
    connection.close()
    scribble(path, 1, b"\x09", at=47)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (with_collation, "no such collation sequence: mine"),
        (with_tokenizer, "SQL logic error"),
        (with_function, "unknown function: twice"),
        (with_newer_syntax, "unknown table option: marvellous"),
        (with_newer_format, "unsupported file format"),
    ],
)
def test_what_our_sqlite_lacks_is_no_complaint(
    tmp_path: Path, made: Callable[[apsw.Connection], None], said: str
) -> None:
    path = tmp_path / "a.db"
    connection = apsw.Connection(str(path))
    made(connection)
    connection.close()
    with pytest.raises(MissingModule, match=said) as caught:
        check(path, CheckKind.FULL)
    assert apsw.sqlite_lib_version() in caught.value.message
    assert caught.value.hint


def test_damage_found_before_what_is_missing_stays_damage(tmp_path: Path) -> None:
    path = make(tmp_path / "a.db", rows=3000)
    connection = apsw.Connection(str(path))
    with_tokenizer(connection)
    connection.close()
    with pytest.raises(MissingModule):
        check(path)
    scribble(path, 20)
    assert any("page 20" in each for each in check(path))


def test_missing_module_hides_neither_damage_nor_rows(tmp_path: Path) -> None:
    class Module:
        def Create(self, *_: object) -> tuple[str, Module]:  # noqa: N802 - apsw's name
            return "create table x (a)", self

        Connect = Create

        def Disconnect(self) -> None:  # noqa: N802 - same
            pass

    path = make(tmp_path / "a.db", "create table alembic_version (version_num)", rows=3000)
    connection = apsw.Connection(str(path))
    connection.create_module("strange", Module())  # type: ignore[arg-type] # enough of one
    connection.execute("create virtual table v using strange(1)")
    connection.execute("create table v_rows (a)")
    with_collation(connection)
    connection.execute("drop index k_a")
    connection.close()
    assert check(path) == ()
    found = content(path)
    assert found.tables == {"alembic_version": 0, "k": 2, "t": 3000, "v_rows": 0}
    assert found.schema_version == SchemaVersion("alembic_version", "none")
    scribble(path, 20)
    assert any("page 20" in each for each in check(path))


def test_rows_are_counted_by_the_table_where_the_index_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    connection = apsw.Connection(str(path))
    with_collation(connection)
    connection.execute("create table w (a text collate mine primary key) without rowid")
    connection.close()
    assert content(path).tables == {"k": 2, "w": -1}


def test_content_is_what_the_file_says(tmp_path: Path) -> None:
    path = make(
        tmp_path / "a.db",
        "pragma application_id = 77",
        "pragma user_version = 5",
        "create table _litestream_seq (id integer primary key, seq integer)",
        "create table _litestream_lock (id integer)",
        "create virtual table search using fts5(body)",
        "insert into search values ('one'), ('two')",
        "create virtual table places using rtree(id, x0, x1)",
        'create table "od""d name" (a)',
        "create view seen as select 1",
        "analyze",
        rows=10,
    )
    found = content(path)
    assert found.tables == {"t": 10, "search_content": 2, 'od"d name': 0, "places_rowid": 0}
    assert (found.application_id, found.user_version, found.page_size) == (77, 5, PAGE)
    assert found.page_count == path.stat().st_size // PAGE
    assert found.read_at == NOW
    assert found.schema_version == SchemaVersion("user_version", "5")
    assert found.error is None
    assert found.sqlite_version == apsw.sqlite_lib_version()


def test_text_that_is_not_utf8_is_damage_in_the_schema_and_said_elsewhere(tmp_path: Path) -> None:
    path = make(tmp_path / "a.db", "create table q (w)", "insert into q values (cast(x'ff' as text))", rows=1)
    with pytest.raises(UnusableSql, match="not UTF-8"):
        hold(path, "select w from q", equals="x")
    assert content(path, "select w from q").error == "policy.schema-version returned text that is not UTF-8"
    raw = path.read_bytes()
    scribble(path, 1, b"\xff", at=raw.index(b"CREATE TABLE q") + 13)
    with pytest.raises(UnsoundCopy):
        content(path)


MIGRATIONS: dict[str, tuple[str, str]] = {
    "django_migrations": (
        """
        create table django_migrations (id integer primary key autoincrement, app varchar(255), name
        varchar(255), applied datetime);
        insert into django_migrations (app, name) values ('b', '0042_auto'), ('a', '0001_initial');
        """,
        "0001_initial",
    ),
    "alembic_version": (
        """
        create table alembic_version (version_num varchar(32) not null primary key);
        insert into alembic_version values ('ff01'), ('ae10');
        """,
        "ae10,ff01",
    ),
    "schema_migrations (Rails)": (
        """
        create table schema_migrations (version varchar not null primary key);
        insert into schema_migrations values ('20240102000000'), ('20250102000000'), ('999');
        """,
        "20250102000000",
    ),
    "schema_migrations (Ecto)": (
        """
        create table schema_migrations (version integer primary key, inserted_at text);
        insert into schema_migrations values (20250102000000, 'x'), (20240102000000, 'y');
        """,
        "20250102000000",
    ),
    "schema_migrations (golang-migrate)": (
        """
        create table schema_migrations (version uint64, dirty bool);
        insert into schema_migrations values (12, 0);
        """,
        "12",
    ),
    "schema_migrations (golang-migrate, dirty)": (
        """
        create table schema_migrations (version uint64, dirty bool);
        insert into schema_migrations values (13, true);
        """,
        "13 (dirty)",
    ),
    "flyway_schema_history": (
        """
        create table flyway_schema_history (installed_rank int not null primary key, version varchar(50),
        description varchar(200), type varchar(20), script varchar(1000), checksum int, installed_by
        varchar(100), installed_on text, execution_time int, success boolean not null);
        insert into flyway_schema_history (installed_rank, version, type, success) values (1, '1',
        'BASELINE', 1), (2, '1.1', 'SQL', 1), (3, '2', 'SQL', 1), (4, '2', 'UNDO_SQL', 1), (5, null, 'SQL',
        1), (6, '3', 'SQL', 0);
        """,
        "1.1",
    ),
    "_prisma_migrations": (
        """
        create table _prisma_migrations (id text primary key not null, checksum text not null, finished_at
        datetime, migration_name text not null, logs text, rolled_back_at datetime, started_at datetime not
        null default current_timestamp, applied_steps_count integer unsigned not null default 0);
        insert into _prisma_migrations (id, checksum, finished_at, migration_name, rolled_back_at) values
        ('z', '', 1, '20240101_init', null), ('a', '', 2, '20250101_users', null), ('b', '', 3,
        '20250201_undone', 4), ('c', '', null, '20250301_failed', null);
        """,
        "20250101_users",
    ),
    "migrations": (
        """
        create table migrations (id integer primary key autoincrement not null, migration varchar, batch
        integer);
        insert into migrations (migration, batch) values ('2024_b', 1), ('2025_a', 2), ('2024_c', 2);
        """,
        "2025_a",
    ),
    "_sqlx_migrations": (
        """
        create table _sqlx_migrations (version bigint primary key, description text not null, installed_on
        timestamp, success boolean not null, checksum blob, execution_time bigint);
        insert into _sqlx_migrations (version, description, success) values (1, '', true), (2, '', true),
        (3, '', false);
        """,
        "2",
    ),
    "knex_migrations": (
        """
        create table knex_migrations (id integer primary key autoincrement, name varchar(255), batch
        integer, migration_time datetime);
        insert into knex_migrations (name, batch) values ('20240101_a.js', 1), ('20230101_late.js', 2);
        """,
        "20230101_late.js",
    ),
    "__drizzle_migrations": (
        """
        create table __drizzle_migrations (id serial primary key, hash text not null, created_at numeric);
        insert into __drizzle_migrations (hash, created_at) values ('ab', 1700000000000), ('cd',
        1710000000000);
        """,
        "1710000000000",
    ),
    "__drizzle_migrations (named)": (
        """
        create table __drizzle_migrations (id integer primary key, hash text not null, created_at numeric,
        name text, applied_at text);
        insert into __drizzle_migrations (hash, created_at, name) values ('ab', 1700000000000, null), ('cd',
        1710000000000, '2025_x');
        """,
        "2025_x",
    ),
    "goose_db_version": (
        """
        create table goose_db_version (id integer primary key autoincrement, version_id integer not null,
        is_applied integer not null, tstamp timestamp default (datetime('now')));
        insert into goose_db_version (version_id, is_applied) values (0, 1), (1, 1), (2, 1), (3, 1), (3, 0);
        """,
        "2",
    ),
    "_yoyo_migration": (
        """
        create table _yoyo_migration (migration_hash varchar(64), migration_id varchar(255), applied_at_utc timestamp,
        primary key (migration_hash));
        insert into _yoyo_migration values ('aa', '0002.b', '2026-01-02T00:00:00.5'), ('bb', '0001.a',
        '2026-01-01T00:00:00.5');
        """,
        "0002.b",
    ),
    "atlas_schema_revisions": (
        """
        create table atlas_schema_revisions (version text not null primary key, description text not null,
        type integer not null default 2, applied integer not null default 0, total integer not null default
        0, executed_at datetime, execution_time integer, error text, error_stmt text, hash text,
        partial_hashes json, operator_version text);
        insert into atlas_schema_revisions (version, description, type, applied, total, error) values
        ('.atlas_cloud_identifier', '', 0, 0, 0, null), ('20240101', '', 2, 3, 3, null), ('20240102', '', 6,
        1, 3, 'broke'), ('20240103', '', 2, 1, 3, 'broke');
        """,
        "20240102",
    ),
}


@pytest.mark.parametrize("name", MIGRATIONS)
def test_schema_version_of_every_tool(tmp_path: Path, name: str) -> None:
    script, expected = MIGRATIONS[name]
    source = name.split(" ", maxsplit=1)[0]
    path = make(tmp_path / "a.db", script, "pragma user_version = 3")
    assert content(path).schema_version == SchemaVersion(source, expected)
    assert content(path, "user_version").schema_version == SchemaVersion("user_version", "3")
    connection = apsw.Connection(str(path))
    connection.execute(f"delete from {source}")
    connection.close()
    assert content(path).schema_version == SchemaVersion(source, "none")


@pytest.mark.parametrize(
    ("sql", "value", "error"),
    [
        ("select 'v' || max(id) from t", "v3", None),
        ("pragma user_version", "0", None),
        ("select max(id) from gone", None, "policy.schema-version: no such table: gone"),
        ("select", None, "policy.schema-version cannot be run: incomplete input"),
        ("select id from t", None, "policy.schema-version must return one row of one value that is not null"),
        ("select null", None, "policy.schema-version must return one row of one value that is not null"),
        ("delete from t", None, "policy.schema-version does more than read: delete from t"),
    ],
)
def test_schema_version_by_sql(tmp_path: Path, sql: str, value: str | None, error: str | None) -> None:
    found = content(make(tmp_path / "a.db", rows=3), sql)
    assert found.schema_version == (SchemaVersion("sql", value) if value else None)
    assert found.error == error


@pytest.mark.parametrize(
    ("sql", "limits", "said"),
    [
        ("select count(*) from t", {"min": 1}, None),
        ("select count(*) from t", {"max": 5}, None),
        ("select count(*) from t", {"equals": 5}, None),
        ("select count(*) from t", {"equals": "5"}, None),
        ("select 5.0", {"equals": 5}, None),
        ("select 'x'", {"equals": "x"}, None),
        ("values (7)", {"min": 7, "max": 7}, None),
        ("select count(*) from pragma_table_info('t')", {"equals": 3}, None),
        ("select count(*) from places where x0 > 1", {"equals": 1}, None),
        ("select count(*) from search where search match 'one'", {"equals": 1}, None),
        ("select count(*) from t", {"min": 6}, "assertion a1: observed 5, must be at least 6"),
        ("select count(*) from t", {"max": 4.5}, "assertion a1: observed 5, must be at most 4.5"),
        ("select 'a' || char(10) || 'b'", {"equals": "x"}, "assertion a1: observed a b, must be x"),
        ("select null", {"min": 0}, "assertion a1: observed NULL, which is no number to hold against its limits"),
        ("select x'beef'", {"equals": "x"}, "assertion a1: observed x'beef', must be x"),
        ("select id from t where id = 9", {"min": 0}, "assertion a1 returned no row where one is expected"),
        ("select id from t", {"min": 0}, "assertion a1 returned more than one row where one is expected"),
        ("select count(*) from users", {"min": 1}, "assertion a1: no such table: users"),
        ("select max(age) from t", {"min": 1}, "assertion a1: no such column: age"),
    ],
)
def test_assertions(tmp_path: Path, sql: str, limits: dict[str, Any], said: str | None) -> None:
    path = make(
        tmp_path / "a.db",
        "create virtual table places using rtree(id, x0, x1)",
        "insert into places values (1, 2, 3)",
        "create virtual table search using fts5(body)",
        "insert into search values ('one')",
        rows=5,
    )
    assert hold(path, sql, **limits) == said


@pytest.mark.parametrize(
    "sql",
    [
        "attach 'OTHER' as other",
        "select 1; attach 'OTHER' as other",
        "vacuum into 'OTHER'",
        "insert into t (k) values ('x')",
        "with x(a) as (select 1) delete from t",
        "create table x (a)",
        "create temp table x (a)",
        "drop table t",
        "begin immediate",
        "pragma query_only = off",
        "pragma user_version = 3",
        "pragma journal_mode = delete",
        "pragma temp_store_directory = '/'",
        "pragma wal_checkpoint",
        "pragma writable_schema = on",
        "select load_extension('OTHER')",
        "reindex",
        "analyze",
    ],
)
def test_sql_that_does_more_than_read_is_refused(tmp_path: Path, sql: str) -> None:
    path = make(tmp_path / "a.db", rows=5)
    before = path.read_bytes()
    with pytest.raises(UnusableSql, match="does more than read"):
        hold(path, sql.replace("OTHER", str(tmp_path / "other.db")), min=1)
    assert [each.name for each in tmp_path.iterdir()] == ["a.db"]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("selct 1", "syntax error"),
        ("select count(*), 1 from t", "more than one column"),
        ("select ?", "cannot be run"),
        ("select strange(1)", "no such function: strange"),
    ],
)
def test_sql_that_cannot_be_run_says_nothing_of_the_copy(tmp_path: Path, sql: str, said: str) -> None:
    with pytest.raises(UnusableSql, match=said):
        hold(make(tmp_path / "a.db"), sql, min=1)


def test_endless_assertion_is_stopped_by_its_deadline(tmp_path: Path) -> None:
    path = make(tmp_path / "a.db")
    began = time.monotonic()
    with pytest.raises(Overdue, match="assertion a1 took longer than"):
        hold(path, FOREVER, timeout_s=0.3, min=1)
    assert time.monotonic() - began < 2


def test_endless_schema_version_is_stopped_by_its_deadline(tmp_path: Path) -> None:
    with pytest.raises(Overdue):
        CopySqlite().content(make(tmp_path / "a.db"), schema_version=FOREVER, now=NOW, timeout_s=0.2, stop=Event())


def test_stop_ends_an_assertion(tmp_path: Path) -> None:
    path, stop = make(tmp_path / "a.db"), Event()
    timer = Timer(0.2, stop.set)
    timer.start()
    with pytest.raises(Stopped):
        CopySqlite().assertion(path, Assertion(name="a1", sql=FOREVER, min=1), timeout_s=60, stop=stop)
    timer.join()


def test_deadline_and_stop_end_a_check_and_progress_goes_up_to_the_end(tmp_path: Path) -> None:
    path = make(tmp_path / "a.db", rows=300_000)
    seen: list[tuple[int, int | None]] = []
    CopySqlite().check(
        path, CheckKind.QUICK, timeout_s=60, stop=Event(),
        progress=lambda stage, done, total: seen.append((done, total)) if stage == "check" else None,
    )  # fmt: skip
    assert len(seen) > 5
    assert seen == sorted(seen)
    assert seen[-1] == (2 * path.stat().st_size // PAGE,) * 2
    stop, calls = Event(), [0]

    def interrupt(stage: str, done: int, total: int | None) -> None:  # noqa: ARG001 - the port names them
        calls[0] += 1
        if calls[0] == 3:
            stop.set()

    with pytest.raises(Stopped):
        CopySqlite().check(path, CheckKind.QUICK, timeout_s=60, stop=stop, progress=interrupt)
    assert calls[0] == 3
    with pytest.raises(Overdue):
        check(path, timeout_s=0.005)
    with pytest.raises(Overdue):
        check(path, timeout_s=0)
    with pytest.raises(Stopped):
        check(path, stop=stop)
