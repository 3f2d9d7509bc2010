"""The WAL and its index, read from bytes that the real SQLite wrote."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.core.wal import INDEX_BYTES, parse_index, parse_shadow_name, parse_wal_header


class Wal:
    """A WAL database whose files are read through descriptors that stay open, so that SQLite keeps its locks."""

    def __init__(self, path: Path, page_size: int) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute(f"pragma page_size={page_size}")
        self.connection.execute("pragma journal_mode=wal")
        self.connection.execute("pragma wal_autocheckpoint=0")
        self.connection.execute("create table t (v text)")
        self._files = [os.open(f"{path}{tail}", os.O_RDONLY) for tail in ("-shm", "-wal")]

    @property
    def index(self) -> bytes:
        return os.pread(self._files[0], INDEX_BYTES, 0)

    @property
    def log(self) -> bytes:
        return os.pread(self._files[1], 1 << 24, 0)

    def close(self) -> None:
        self.connection.close()
        for each in self._files:
            os.close(each)


@contextlib.contextmanager
def wal(path: Path, page_size: int = 4096) -> Iterator[Wal]:
    made = Wal(path, page_size)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_the_index_names_the_end_of_the_last_commit(tmp_path: Path, page_size: int) -> None:
    with wal(tmp_path / "a.db", page_size) as live:
        for _ in range(3):
            live.connection.execute("insert into t values (?)", ["x" * 100])
            index = parse_index(live.index)
            assert index is not None
            assert (index.page_size, index.end, index.salts) == (page_size, len(live.log), live.log[16:24])


def test_frames_that_are_not_committed_do_not_count(tmp_path: Path) -> None:
    with wal(tmp_path / "a.db") as live:
        before = parse_index(live.index)
        live.connection.execute("pragma cache_size=5")
        live.connection.execute("begin")
        live.connection.executemany("insert into t values (?)", [["x" * 3000]] * 50)
        assert before is not None
        assert len(live.log) > before.end, "the transaction was meant to be too big for the cache"
        assert parse_index(live.index) == before
        live.connection.execute("rollback")


def test_a_wal_that_was_begun_anew_holds_no_frame_and_the_next_salt(tmp_path: Path) -> None:
    with wal(tmp_path / "a.db") as live:
        before = parse_index(live.index)
        live.connection.execute("pragma wal_checkpoint(TRUNCATE)")
        after = parse_index(live.index)
        assert before is not None
        assert after is not None
        assert (after.max_frame, after.end, live.log) == (0, 32, b"")
        assert int.from_bytes(after.salts[:4]) == int.from_bytes(before.salts[:4]) + 1


def test_an_index_caught_in_the_middle_says_nothing(tmp_path: Path) -> None:
    with wal(tmp_path / "a.db") as live:
        old = live.index
        live.connection.execute("insert into t values ('x')")
        new = live.index
    assert parse_index(new) is not None
    torn = new[:20] + old[20:48]
    assert parse_index(new[:48] + old[48:]) is None, "the copies differ"
    assert parse_index(torn * 2) is None, "the checksum does not fit, though both copies agree"
    assert parse_index(new[:95]) is None
    assert parse_index(b"") is None
    assert parse_index(bytes(INDEX_BYTES)) is None, "as SQLite makes it, before anybody reads or writes"


def test_the_header_of_a_wal(tmp_path: Path) -> None:
    with wal(tmp_path / "a.db", 1024) as live:
        header = parse_wal_header(live.log)
        index = parse_index(live.index)
    assert header is not None
    assert index is not None
    assert (header.page_size, header.checkpoints, header.salts) == (1024, 0, index.salts)


@pytest.mark.parametrize(
    "data", [b"", bytes(32), b"\x37\x7f\x06\x82" + bytes(20), struct.pack(">IIII16x", 0x377F0682, 3007000, 1000, 0)]
)
def test_what_is_no_wal(data: bytes) -> None:
    assert parse_wal_header(data) is None


@pytest.mark.parametrize(
    ("name", "index"), [("0000002a.wal", 42), ("0000002a.wal.tmp", None), ("2a.wal", None), ("generation", None)]
)
def test_shadow_names(name: str, index: int | None) -> None:
    assert parse_shadow_name(name) == index
