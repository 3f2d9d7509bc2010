"""The WAL and its index, read from bytes that the real SQLite wrote."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.wal import (
    BLOCK_BYTES,
    BLOCK_FRAMES,
    CHECKPOINT_AT,
    CHECKPOINT_BYTES,
    INDEX_BYTES,
    backfilled,
    frame_offset,
    frame_spans,
    is_commit,
    is_empty_index,
    parse_index,
    parse_shadow_name,
    parse_wal_header,
    settled,
)


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
    def shm(self) -> bytes:
        return os.pread(self._files[0], 1 << 24, 0)

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


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_frames_are_found_and_named_as_the_wal_has_them(tmp_path: Path, page_size: int) -> None:
    """Past the first block of page numbers, which is shorter than the others."""
    rows = 4200 if page_size == 512 else 50
    with wal(tmp_path / "a.db", page_size) as live:
        live.connection.execute("pragma synchronous=off")
        for number in range(rows):
            live.connection.execute("insert into t values (?)", [f"{number}" * (page_size // 10)])
        index, shm, log = parse_index(live.index), live.shm, live.log
    assert index is not None
    spans = list(frame_spans(index.max_frame))
    assert len(spans) > 2 or page_size > 512
    numbers = struct.unpack(f"={index.max_frame}I", b"".join(shm[at : at + size] for at, size in spans))
    for frame, page in enumerate(numbers, 1):
        stands_at = frame_offset(frame, page_size)
        header = log[stands_at - 24 : stands_at]
        assert (int.from_bytes(header[:4]), header[8:16]) == (page, index.salts), frame
    assert frame_offset(index.max_frame + 1, page_size) - 24 == index.end == len(log)
    assert is_commit(log[index.end - 24 - page_size :][:24])


@given(st.integers(0, 40_000))
def test_spans_hold_every_frame_once_and_no_hash_table(frames: int) -> None:
    spans = list(frame_spans(frames))
    assert sum(size for _, size in spans) == frames * 4
    for block, (offset, size) in enumerate(spans):
        assert offset // BLOCK_BYTES == block
        assert offset + size <= block * BLOCK_BYTES + BLOCK_FRAMES * 4, "after the page numbers comes the hash table"
    assert not spans or spans[0][0] == CHECKPOINT_AT + CHECKPOINT_BYTES


def test_how_far_checkpoints_have_written(tmp_path: Path) -> None:
    with wal(tmp_path / "a.db") as live, contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as reader:

        def written() -> int:
            return backfilled(live.shm[CHECKPOINT_AT:][:CHECKPOINT_BYTES])

        assert written() == 0
        reader.execute("begin")
        reader.execute("select * from t").fetchall()
        seen = parse_index(live.index)
        live.connection.execute("insert into t values ('x')")
        live.connection.execute("pragma wal_checkpoint(PASSIVE)")
        assert seen is not None
        assert written() == seen.max_frame, "a checkpoint writes no further than its oldest reader reads"
        reader.execute("rollback")
        live.connection.execute("pragma wal_checkpoint(PASSIVE)")
        now = parse_index(live.index)
        assert now is not None
        assert written() == now.max_frame > seen.max_frame
        live.connection.execute("insert into t values ('y')")
        assert written() == 0, "begun anew"


def test_a_checkpoint_that_is_just_copying_counts_as_far_as_it_may_come() -> None:
    assert backfilled(struct.pack("=I20s8sII", 7, b"", b"", 12, 0)) == 12
    assert backfilled(struct.pack("=I20s8sII", 12, b"", b"", 7, 0)) == 12
    assert settled(struct.pack("=I20s8sII", 7, b"", b"", 12, 0)) == 7, "the rest may be half written"


def test_an_index_of_an_empty_wal(tmp_path: Path) -> None:
    """As a database has it that was closed and opened again: everything stands in the database file."""
    with wal(tmp_path / "a.db") as live:
        assert not is_empty_index(live.index), "there is something in it"
        live.connection.execute("pragma wal_checkpoint(TRUNCATE)")
        assert not is_empty_index(live.index), "begun anew, and it says with which salts"
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as again:
        again.execute("select * from t").fetchall()
        shm = os.open(tmp_path / "a.db-shm", os.O_RDONLY)
        try:
            data = os.pread(shm, INDEX_BYTES, 0)
            assert is_empty_index(data)
            assert parse_index(data) is None
            assert not is_empty_index(data[:95])
            assert not is_empty_index(data[:47] + b"x" + data[48:])
            assert not is_empty_index((data[:20] + b"x" + data[21:48]) * 2), "the checksum does not fit"
            assert not is_empty_index(bytes(INDEX_BYTES))
            again.execute("insert into t values ('x')")
            again.commit()
            assert not is_empty_index(os.pread(shm, INDEX_BYTES, 0))
        finally:
            again.close()
            os.close(shm)
