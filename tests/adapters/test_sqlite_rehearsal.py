"""What a command did to the copy, told row by row and page by page, and how the copy is brought to rest."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest

from sidecar.adapters.sqlite_rehearsal import RehearsalCopy
from sidecar.core.errors import Stopped, UnsoundCopy
from sidecar.core.rehearsal import RowChange

COPIES = RehearsalCopy()
SCHEMA = """
create table t (id integer primary key, v text, n int);
create table plain (v text);
create table keyed (code text primary key collate nocase, v text) without rowid;
create table named (code text primary key, v text);
insert into t (v, n) select 'v' || value, value from generate_series(1, 100);
insert into plain select 'p' || value from generate_series(1, 10);
insert into keyed select 'k' || value, 'x' from generate_series(1, 10);
insert into named select 'n' || value, 'x' from generate_series(1, 10);
"""


def sql(file: Path, script: str) -> None:
    subprocess.run(["sqlite3", "-bail", file, script], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    before, after = tmp_path / "before.db", tmp_path / "after.db"
    sql(before, SCHEMA)
    shutil.copy(before, after)
    return before, after


def rows(pair: tuple[Path, Path], table: str, *, timeout_s: float = 10) -> RowChange:
    (found,) = COPIES.rows(*pair, [table], timeout_s=timeout_s, stop=Event())
    return found


REBUILT = """
create table t2 (id integer primary key, v text, n int, w);
insert into t2 select *, 1 from t where id > 10;
drop table t;
alter table t2 rename to t;
"""
# Rowids are numbered anew, the keys are as before.
TURNED_ROUND = """
create table n2 (code text primary key, v text);
insert into n2 select * from named order by code desc;
drop table named;
alter table n2 rename to named;
"""
# The column's own collation calls `x` and `X` the same.
LOUDER = """
drop table keyed;
create table keyed (code text primary key collate nocase, v text collate nocase) without rowid;
insert into keyed select 'k' || value, 'X' from generate_series(1, 10);
"""


@pytest.mark.parametrize(
    ("script", "table", "inserted", "deleted", "updated"),
    [
        ("select 1", "t", 0, 0, 0),
        ("update t set v = 'new' where id <= 7", "t", 0, 0, 7),
        ("insert into t (v) values (1), (2); delete from t where id = 5; update t set n = null where id in (1, 2)", "t", 2, 1, 2),
        ("alter table t add column w default 3; update t set w = 4", "t", 0, 0, 0),  # a new column changes no old value
        ("alter table t add column w; alter table t drop column n", "t", 0, 0, 0),
        (REBUILT + "update t set v = 'x' where id = 50", "t", 0, 10, 1),
        ("update plain set v = 'q' where rowid = 3; delete from plain where rowid = 4", "plain", 0, 1, 1),
        ("update keyed set v = 'y' where code = 'k1'; insert into keyed values ('new', 1)", "keyed", 1, 0, 1),
        (TURNED_ROUND, "named", 0, 0, 0),
        (LOUDER, "keyed", 0, 0, 10),
    ],
)  # fmt: skip
def test_rows_that_came_went_and_changed(
    pair: tuple[Path, Path], script: str, table: str, inserted: int, deleted: int, updated: int
) -> None:
    sql(pair[1], script)
    assert rows(pair, table) == RowChange(name=table, inserted=inserted, deleted=deleted, updated=updated)


def test_a_table_without_a_key_in_common_is_not_compared(pair: tuple[Path, Path]) -> None:
    sql(pair[1], "drop table keyed; create table keyed (v text, code int, primary key (v)) without rowid")
    found = rows(pair, "keyed")
    assert (found.inserted, found.updated) == (None, None)
    assert "rowid" in found.why


def test_what_there_is_no_time_for_is_said(pair: tuple[Path, Path]) -> None:
    sql(pair[1], "update t set v = 1")
    found = COPIES.rows(*pair, ["t", "plain"], timeout_s=1e-6, stop=Event())
    assert [each.why for each in found] == ["there was no time left to compare its rows"] * 2
    stop = Event()
    stop.set()
    with pytest.raises(Stopped):
        COPIES.rows(*pair, ["t"], timeout_s=10, stop=stop)


def test_damage_is_no_answer(pair: tuple[Path, Path]) -> None:
    content = bytearray(pair[1].read_bytes())
    content[4096 : 2 * 4096] = b"\xff" * 4096
    pair[1].write_bytes(content)
    with pytest.raises(UnsoundCopy):
        rows(pair, "t")


def test_pages_are_told_apart(pair: tuple[Path, Path]) -> None:
    before, after = pair
    assert COPIES.pages_changed(before, after, 4096, stop=Event()) == 0
    with after.open("r+b") as opened:
        opened.seek(2 * 4096 + 5)
        opened.write(b"!")
        opened.seek(0, os.SEEK_END)
        opened.write(bytes(4096))
    assert COPIES.pages_changed(before, after, 4096, stop=Event()) == 2


def test_the_shape_is_read_from_the_header(pair: tuple[Path, Path], tmp_path: Path) -> None:
    one = COPIES.shape(pair[0])
    assert one is not None
    assert (one.page_size, one.wal, one.auto_vacuum, one.size_bytes) == (4096, False, "none", pair[0].stat().st_size)
    sql(pair[0], "pragma page_size=8192; pragma auto_vacuum=incremental; vacuum; pragma journal_mode=wal")
    other = COPIES.shape(pair[0])
    assert other is not None
    assert (other.page_size, other.wal, other.auto_vacuum) == (8192, True, "incremental")
    assert COPIES.shape(tmp_path / "gone.db") is None
    (tmp_path / "junk.db").write_bytes(b"junk" * 100)
    assert COPIES.shape(tmp_path / "junk.db") is None


KILLED = """
import os, sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute('pragma cache_size=5'); c.execute(sys.argv[2])
c.execute('update t set n = 1')
c.execute('begin'); c.execute("update t set v = hex(randomblob(4000))")
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_what_a_killed_command_left_is_brought_to_rest(pair: tuple[Path, Path], mode: str) -> None:
    """Committed work is kept, half a transaction is rolled back, and nothing stands beside the file."""
    after = pair[1]
    done = subprocess.run([sys.executable, "-c", KILLED, after, f"pragma journal_mode={mode}"], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(after.parent.glob("after.db-*"))) > 0
    assert COPIES.settle(after) is None
    assert list(after.parent.glob("after.db-*")) == []
    connection = sqlite3.connect(f"file:{after}?immutable=1", uri=True)
    assert connection.execute("select count(*), sum(n), max(length(v)) from t").fetchone() == (100, 100, 4)
    connection.close()


def test_what_cannot_be_brought_to_rest_is_said(tmp_path: Path) -> None:
    junk = tmp_path / "junk.db"
    junk.write_bytes(b"junk" * 1000)
    assert COPIES.settle(junk) == "file is not a database"
