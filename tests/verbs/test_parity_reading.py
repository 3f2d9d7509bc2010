"""Readings that mean nothing: a WAL begun anew under a reader brings frames of another WAL, and must never call a backup damaged."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from sidecar.core.live_state import FileId, WalIndex
from sidecar.core.parity import ParityResult
from sidecar.core.ports_pages import LivePages, PageReader, Snapshot
from sidecar.pieces import Pace
from tests.parity_stage import V3, V5, Scene, playing

MORE = 40  # pages that the database had once, and has no more


@dataclass
class TornSnapshot:
    """A snapshot whose WAL was begun anew: other content, of a larger database, and it says that it is not intact."""

    real: Snapshot
    index: WalIndex = field(init=False)
    page_count: int = field(init=False)

    def __post_init__(self) -> None:
        self.index, self.page_count = self.real.index, self.real.page_count + MORE

    def intact(self) -> bool:
        return False

    def pages(self, first: int, count: int) -> Iterator[tuple[int, memoryview]]:
        for page in range(first, first + count):
            yield page, memoryview(b"\xee" * self.index.page_size)

    def older(self, wanted: Collection[int], frame: int) -> Iterator[tuple[int, bytes | None]]:
        del frame
        for page in wanted:
            yield page, b"\xee" * self.index.page_size

    def written(self, after: int, upto: int) -> frozenset[int]:
        return self.real.written(after, upto) | frozenset(range(1, self.real.page_count + 1))

    def past(self, salts: bytes, frame: int) -> frozenset[int] | None:
        return self.real.past(salts, frame)


@dataclass
class TornReader:
    real: PageReader
    torn: set[int]
    count: int = 0

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        self.count += 1
        with self.real.snapshot() as real:
            yield TornSnapshot(real) if self.count in self.torn else real

    def file_id(self) -> FileId:
        return self.real.file_id()


@dataclass
class TornPages:
    """Production, some of whose snapshots (by number, of the first reader) turn out to be torn."""

    real: LivePages
    torn: set[int]
    times: int = 0

    @contextmanager
    def opened(self, path: str) -> Iterator[PageReader]:
        self.times += 1
        with self.real.opened(path) as reader:
            yield TornReader(reader, self.torn) if self.times == 1 else reader


def tear(scene: Scene, *torn: int) -> None:
    """Snapshot 1 tells the page size, the next ones read, the one after them settles on a position."""
    comparer = scene.driller.comparer
    assert comparer is not None
    scene.driller = replace(scene.driller, comparer=replace(comparer, pages=TornPages(comparer.pages, set(torn))))


@pytest.mark.parametrize("version", [V5, V3])
@pytest.mark.parametrize("torn", [(2, 3), (2, 4, 6)], ids=str)
def test_a_torn_reading_is_read_again_and_never_believed(tmp_path: Path, version: str, torn: tuple[int, ...]) -> None:
    with playing(tmp_path, version=version, rows=3000) as scene:
        scene.app.go("steady", pause=0.01)
        threading.Event().wait(0.3)
        tear(scene, *torn)
        found = scene.parity()
        scene.app.rest()
    # Of 0.3 what was torn last may be left unread, and is not judged then.
    assert found.result in (
        {ParityResult.EQUAL, ParityResult.INCONCLUSIVE} if version == V3 else {ParityResult.EQUAL}
    ), found


def test_a_torn_reading_of_an_idle_database(tmp_path: Path) -> None:
    with playing(tmp_path, rows=3000) as scene:
        tear(scene, 2, 4)
        found = scene.parity()
    assert found.result is ParityResult.EQUAL, found


def test_a_wal_that_never_holds_still_is_no_damage(tmp_path: Path) -> None:
    with playing(tmp_path) as scene:
        tear(scene, *range(2, 200))
        found = scene.parity()
    assert found.result is ParityResult.INCONCLUSIVE
    assert "its WAL is begun anew all the time" in found.message


@dataclass
class CountingPages:
    """Production, and how many snapshots of it were taken."""

    real: LivePages
    readers: list[TornReader] = field(default_factory=list)

    @contextmanager
    def opened(self, path: str) -> Iterator[PageReader]:
        with self.real.opened(path) as reader:
            self.readers.append(TornReader(reader, set()))
            yield self.readers[-1]


@pytest.mark.parametrize("version", [V5, V3])
def test_a_reading_in_many_transactions_is_as_good_as_one(tmp_path: Path, version: str) -> None:
    """As of a database of many gigabytes: every chunk in a read transaction of its own, while the app writes."""
    with playing(tmp_path, version=version, rows=60_000, pace=Pace(piece_s=0, rest_s=0.001)) as scene:
        comparer = scene.driller.comparer
        assert comparer is not None
        counting = CountingPages(comparer.pages)
        scene.driller = replace(scene.driller, comparer=replace(comparer, pages=counting))
        scene.app.go("steady", pause=0.01)
        threading.Event().wait(0.3)
        busy = scene.parity("busy")
        scene.app.rest()
        scene.synced()
        last = scene.parity()
    assert min(reader.count for reader in counting.readers) > 5, "the database is larger than some chunks"
    assert busy.result is not ParityResult.DIFFERENT, busy
    assert last.result is ParityResult.EQUAL, last
    if version == V5:
        assert busy.result is ParityResult.EQUAL, busy
