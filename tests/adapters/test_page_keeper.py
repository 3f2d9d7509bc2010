"""Pages that differ: whom they belong to, by SQLite's own account, and both versions kept for their owner's eyes only."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from threading import Event

import pytest

from sidecar.adapters.sqlite_page_keeper import FOLDERS_MAX, KEPT_BYTES_MAX, OWNERS_MAX, PageKeeper
from sidecar.core.errors import Stopped

NEVER = Event()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A database with two tables, an index, and pages that are free."""
    path = tmp_path / "copy.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("create table users (id integer primary key, name text)")
        database.execute("create index by_name on users (name)")
        database.execute("create table gone (v text)")
        database.execute("begin")
        for table, column in (("users", "name"), ("gone", "v")):
            database.executemany(f"insert into {table} ({column}) values (?)", [(f"{n:050}",) for n in range(500)])
        database.execute("delete from gone")
        database.execute("commit")
    return path


def pages_of(copy: Path, name: str) -> list[int]:
    """By the SQLite shell, the one that .ci/test installs: Python's own may be built without dbstat."""
    asked = ["sqlite3", str(copy), f"select pageno from dbstat where name = '{name}'"]
    return [int(line) for line in subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()]


def test_pages_are_named_by_table_and_index(copy: Path, tmp_path: Path) -> None:
    keeper = PageKeeper(tmp_path / "pages")
    owners = keeper.owners(
        copy, [*pages_of(copy, "users")[-2:], pages_of(copy, "by_name")[-1]], timeout_s=10, stop=NEVER
    )
    assert owners == ("by_name", "users")
    assert keeper.owners(copy, [1], timeout_s=10, stop=NEVER) == ("sqlite_schema",)
    assert keeper.owners(copy, pages_of(copy, "gone"), timeout_s=10, stop=NEVER) == ("gone",)
    assert not copy.with_name("copy.db-shm").exists(), "looking leaves nothing beside it"


def test_free_pages_and_pages_past_the_end_belong_to_nobody(copy: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(copy)) as database:
        free, count = (database.execute(f"pragma {name}").fetchone()[0] for name in ("freelist_count", "page_count"))
    assert free > 3
    owned = {page for name in ("users", "by_name", "gone", "sqlite_schema") for page in pages_of(copy, name)}
    nobodys = [page for page in range(2, count + 10) if page not in owned]
    assert PageKeeper(tmp_path).owners(copy, nobodys, timeout_s=10, stop=NEVER) == ()


def test_only_so_many_are_named(tmp_path: Path) -> None:
    path = tmp_path / "copy.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for number in range(OWNERS_MAX + 5):
            database.execute(f"create table t{number} (v)")
    assert len(PageKeeper(tmp_path).owners(path, range(1, 100), timeout_s=10, stop=NEVER)) == OWNERS_MAX


def test_a_copy_that_cannot_be_walked_names_nobody(copy: Path, tmp_path: Path) -> None:
    keeper, root = PageKeeper(tmp_path), pages_of(copy, "users")[0]
    with copy.open("r+b") as file:
        os.pwrite(file.fileno(), b"\xee" * 4096, (root - 1) * 4096)
    assert "by_name" not in keeper.owners(copy, [root], timeout_s=10, stop=NEVER)
    copy.write_bytes(b"x" * 9000)
    assert keeper.owners(copy, [1], timeout_s=10, stop=NEVER) == ()
    assert keeper.owners(tmp_path / "none", [1], timeout_s=10, stop=NEVER) == ()


def test_whoever_stops_it_is_heard_and_a_deadline_is_kept(copy: Path, tmp_path: Path) -> None:
    stop = Event()
    stop.set()
    with closing(sqlite3.connect(copy, isolation_level=None)) as database:
        database.execute("begin")
        database.executemany("insert into users (name) values (?)", [(f"{n:050}",) for n in range(20_000)])
        database.execute("commit")
    with pytest.raises(Stopped):
        PageKeeper(tmp_path).owners(copy, [99_999], timeout_s=10, stop=stop)
    assert PageKeeper(tmp_path).owners(copy, [99_999], timeout_s=0.000001, stop=NEVER) == ()


def test_both_versions_are_kept_for_their_owners_eyes_only(copy: Path, tmp_path: Path) -> None:
    keeper = PageKeeper(tmp_path / "state" / "pages")
    old = os.umask(0)
    try:
        kept = keeper.keep("d1", copy, {3: b"p" * 4096, 2: b"q" * 4096})
    finally:
        os.umask(old)
    assert kept == str(tmp_path / "state" / "pages" / "d1")
    folder = Path(kept)
    data = copy.read_bytes()
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == {
        "page-2.production": b"q" * 4096, "page-2.restored": data[4096:8192],
        "page-3.production": b"p" * 4096, "page-3.restored": data[8192:12288],
    }  # fmt: skip
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {each.stat().st_mode & 0o777 for each in folder.iterdir()} == {0o600}


def test_the_parents_of_what_is_kept_are_no_wider(copy: Path, tmp_path: Path) -> None:
    kept = PageKeeper(tmp_path / "pages").keep("d1", copy, {2: b"q" * 4096})
    assert kept is not None
    assert Path(kept).stat().st_mode & 0o777 == 0o700


def test_no_more_than_a_megabyte_is_kept(copy: Path, tmp_path: Path) -> None:
    kept = PageKeeper(tmp_path / "pages").keep("d1", copy, {page: bytes(4096) for page in range(1, 1000)})
    assert kept is not None
    assert len(list(Path(kept).iterdir())) == KEPT_BYTES_MAX // 4096


def test_only_the_newest_are_kept(copy: Path, tmp_path: Path) -> None:
    keeper = PageKeeper(tmp_path / "pages")
    for number in range(FOLDERS_MAX + 3):
        kept = keeper.keep(f"d{number}", copy, {1: bytes(4096)})
        assert kept is not None
        os.utime(kept, (1_000_000 + number, 1_000_000 + number))
    names = {each.name for each in (tmp_path / "pages").iterdir()}
    assert names == {f"d{number}" for number in range(3, FOLDERS_MAX + 3)}


@pytest.mark.parametrize("drill_id", ["../away", "", "a/b", ".."])
def test_a_name_that_leads_elsewhere_keeps_nothing(copy: Path, tmp_path: Path, drill_id: str) -> None:
    assert PageKeeper(tmp_path / "pages").keep(drill_id, copy, {1: bytes(4096)}) is None
    assert not (tmp_path / "pages").exists()


def test_what_cannot_be_kept_is_no_obstacle(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert PageKeeper(tmp_path / "file" / "pages").keep("d1", copy, {1: bytes(4096)}) is None
    assert PageKeeper(tmp_path / "pages").keep("d1", copy, {}) is None


def test_whether_a_copy_holds_just_that(copy: Path, tmp_path: Path) -> None:
    keeper, data = PageKeeper(tmp_path), copy.read_bytes()
    assert keeper.is_in(copy, 2, data[4096:8192])
    assert not keeper.is_in(copy, 2, b"x" + data[4097:8192])
    assert not keeper.is_in(copy, 10_000, data[:4096])
