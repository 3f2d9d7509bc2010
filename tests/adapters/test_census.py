"""The census of a real file: schema, rows and foreign-key violations, with nothing that hides anything."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import apsw
import pytest

from sidecar.adapters.sqlite_copy import CopySqlite
from sidecar.core.census import VIOLATIONS_KEPT_MAX, Census, SchemaObject
from sidecar.core.errors import Overdue, SidecarError, Stopped, UnsoundCopy
from sidecar.core.model import SchemaVersion
from tests.litestreams import App, Litestream, until

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
SHOP = (
    "create table users (id integer primary key, name text)",
    "create table orders (id integer primary key, uid references users(id))",
    "insert into users values (1, 'a'), (2, 'b')",
    "insert into orders values (10, 1), (11, 2)",
)


def make(path: Path, *statements: str) -> Path:
    connection = apsw.Connection(str(path))
    connection.pragma("foreign_keys", False)
    for each in statements:
        connection.execute(each)
    connection.close()
    return path


def take(path: Path, *, timeout_s: float = 60.0, stop: Event | None = None, inode: int | None = 7) -> Census:
    return CopySqlite().census(
        path, schema_version="auto", now=NOW, inode=inode, timeout_s=timeout_s, stop=stop or Event()
    )


def test_a_sound_shop_is_counted(tmp_path: Path) -> None:
    path = make(
        tmp_path / "app.db", *SHOP, "create index by_uid on orders (uid)", "create view v as select 1",
        "create trigger t after insert on users begin select 1; end", "pragma user_version = 42",
    )  # fmt: skip
    found = take(path)
    assert found.content.tables == {"orders": 2, "users": 2}
    assert found.content.schema_version == SchemaVersion("user_version", "42")
    assert (found.inode, found.content.read_at) == (7, NOW)
    assert [(each.kind, each.name, each.table) for each in found.schema] == [
        ("index", "by_uid", "orders"), ("table", "orders", "orders"), ("table", "users", "users"),
        ("trigger", "t", "users"), ("view", "v", "v"),
    ]  # fmt: skip
    keys = found.foreign_keys
    assert (keys.count, keys.groups, keys.rows, keys.error) == (0, {}, (), None)
    assert [each.name for each in tmp_path.iterdir()] == ["app.db"], "nothing is left beside it"


def test_two_censuses_of_the_same_file_are_equal_and_white_space_is_no_change(tmp_path: Path) -> None:
    one = make(tmp_path / "one.db", *SHOP)
    two = make(tmp_path / "two.db", SHOP[0].replace(" (", "\n  (  "), *SHOP[1:])
    assert take(one) == take(one)
    assert take(one).schema == take(two).schema


def test_violations_are_found_by_row_and_group(tmp_path: Path) -> None:
    path = make(tmp_path / "app.db", *SHOP, "insert into orders values (12, 99), (13, 98), (14, null)")
    keys = take(path).foreign_keys
    assert keys.rows == ("orders 12 users 0", "orders 13 users 0")
    assert (keys.count, keys.groups) == (2, {"orders -> users": 2})
    assert keys.digest != take(make(tmp_path / "other.db", *SHOP)).foreign_keys.digest


def test_a_table_without_rowids_has_violations_without_a_rowid(tmp_path: Path) -> None:
    path = make(
        tmp_path / "app.db", SHOP[0],
        'create table "log entry" (at text primary key, uid references users(id)) without rowid',
        "insert into \"log entry\" values ('x', 1), ('y', 2)",
    )  # fmt: skip
    keys = take(path).foreign_keys
    assert keys.rows == ("log entry - users 0", "log entry - users 0")
    assert keys.groups == {"log entry -> users": 2}


def test_a_parent_that_is_gone_violates_too(tmp_path: Path) -> None:
    path = make(tmp_path / "app.db", *SHOP, "drop table users")
    assert take(path).foreign_keys.groups == {"orders -> users": 2}


def test_a_parent_whose_columns_are_no_key_does_not_hide_other_violations(tmp_path: Path) -> None:
    path = make(
        tmp_path / "app.db", *SHOP, "create table a_first (n references users(name))", "insert into a_first values ('a')",
        "create table z_last (n references users(name))", "insert into orders values (12, 99)",
    )  # fmt: skip
    keys = take(path).foreign_keys
    assert keys.rows == ("orders 12 users 0",)
    assert keys.error is not None
    assert 'foreign key mismatch - "a_first" referencing "users"' in keys.error
    assert "z_last" in keys.error
    assert keys.digest != take(make(tmp_path / "b.db", *SHOP, "insert into orders values (12, 99)")).foreign_keys.digest


def test_names_that_need_quotes_are_quoted(tmp_path: Path) -> None:
    path = make(
        tmp_path / "app.db", SHOP[0], "create table \"it's\"\"so; drop\" (uid references users(id))",
        "insert into \"it's\"\"so; drop\" values (9)",
    )  # fmt: skip
    assert take(path).foreign_keys.groups == {"it's\"so; drop -> users": 1}


def test_beyond_a_thousand_only_counts_and_the_digest_are_kept(tmp_path: Path) -> None:
    fill = (
        "with recursive n(i) as (select 100 union all select i + 1 from n where i < ?) "
        "insert into orders select i, i from n"
    )
    at_most, one_more = (
        make(tmp_path / f"{extra}.db", *SHOP, fill.replace("?", str(99 + VIOLATIONS_KEPT_MAX + extra)))
        for extra in (0, 1)
    )
    keys = take(at_most).foreign_keys
    assert keys.rows is not None
    assert (keys.count, len(keys.rows)) == (1000, 1000)
    more = take(one_more).foreign_keys
    assert (more.count, more.rows, more.groups) == (1001, None, {"orders -> users": 1001})
    swapped = make(tmp_path / "s.db", *SHOP, fill.replace("?", "1100"), "update orders set id = 5000 where id = 1100")
    assert take(swapped).foreign_keys.digest != more.digest, "as many, but not the same"


def test_litestreams_own_tables_are_not_the_apps(
    app: App, litestream: Callable[..., Litestream], tmp_path: Path
) -> None:
    config = tmp_path / "litestream.yml"
    config.write_text(f"dbs: [{{path: {app.path}, replica: {{path: {tmp_path}/replica, sync-interval: 100ms}}}}]\n")
    started = litestream(config).start()
    app.write(3)
    until(lambda: app.execute("select name from sqlite_schema where name = '_litestream_seq'"))
    started.stop()
    app.execute("pragma wal_checkpoint(truncate)")
    app.close()
    found = take(app.path)
    assert (list(found.content.tables), [each.name for each in found.schema]) == (["t"], ["t"])


def test_sqlites_own_tables_and_indexes_are_left_out(tmp_path: Path) -> None:
    path = make(
        tmp_path / "app.db", "create table u (id integer primary key autoincrement, v text unique)",
        "insert into u (v) values ('a')", "analyze",
    )  # fmt: skip
    assert take(path).schema == (
        SchemaObject("table", "u", "u", take(path).schema[0].sql),
    )  # fmt: skip
    assert take(path).content.tables == {"u": 1}


def test_a_damaged_file_raises_and_is_no_census(tmp_path: Path) -> None:
    path = make(tmp_path / "app.db", *SHOP, "insert into orders select id + 100, 1 from orders")
    sound = path.read_bytes()
    for page in (1, 2):
        path.write_bytes(sound[: 4096 * page] + b"\xff" * 4096 + sound[4096 * (page + 1) :])
        with pytest.raises(UnsoundCopy):
            take(path)
    path.write_bytes(b"x" * 8192)
    with pytest.raises(UnsoundCopy, match="not a database"):
        take(path)
    with pytest.raises(SidecarError):
        take(tmp_path / "gone.db")


def test_what_this_sqlite_lacks_is_said_and_is_no_damage(tmp_path: Path) -> None:
    path = make(
        tmp_path / "app.db", "create table a (x)", "pragma writable_schema = on",
        "insert into sqlite_schema values ('table', 'v', 'v', 0, 'create virtual table v using vec9(x)')",
    )  # fmt: skip
    assert take(path).content.tables == {"a": 0}
    connection = apsw.Connection(str(tmp_path / "b.db"))
    connection.create_collation("nowhere", lambda one, other: (one > other) - (one < other))
    for each in (
        "create table p (y text collate nowhere primary key)", "create table c (y references p(y))",
        "insert into p values ('a')", "insert into c values ('b')", *SHOP, "insert into orders values (12, 99)",
    ):  # fmt: skip
        connection.execute(each)
    connection.close()
    found = take(tmp_path / "b.db")
    assert found.content.tables == {"c": 1, "orders": 3, "p": 1, "users": 2}
    assert (found.foreign_keys.error, found.foreign_keys.rows) == (
        "no such collation sequence: nowhere", ("orders 12 users 0",),
    )  # fmt: skip


def test_it_keeps_to_its_time_and_stops_when_told(tmp_path: Path) -> None:
    path = make(
        tmp_path / "app.db", *SHOP,
        "with recursive n(i) as (select 100 union all select i + 1 from n where i < 300000)"
        " insert into orders select i, i from n",
    )  # fmt: skip
    with pytest.raises(Overdue):
        take(path, timeout_s=0.001)
    stopped = Event()
    stopped.set()
    with pytest.raises(Stopped):
        take(path, stop=stopped)
