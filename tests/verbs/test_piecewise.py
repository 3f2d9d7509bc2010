"""Copies in pieces, for real: each is one state that production had, byte for byte; where that cannot be told, it is said and not made."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event

import pytest

from sidecar.adapters.page_file import page_file
from sidecar.core.errors import Overdue, Stopped, Unreadable
from sidecar.core.live_state import FileId
from sidecar.core.model import Database, Replica
from sidecar.core.ports_pages import PageFile, PageReader, Snapshot
from sidecar.pieces import AGAIN_MIN, Pace
from sidecar.piecewise import NotCopied
from tests.copying import Copies, Witness, keep_tally
from tests.litestreams import until
from tests.parity_app import Process
from tests.parity_stage import V3, V5, Scene, playing
from tests.verbs.test_parity_reading import TornPages, TornSnapshot

# A megabyte each: a database of some of them takes as many pieces as one of some gigabytes does by default.
TINY = Pace(piece_s=0.0, rest_s=0.002, settle_s=30.0)
IN_A_ROW = 8
SPREAD = "update t set v = substr(hex(randomblob(60)), 1, length(v)) where id % 7 = 0"  # some of most pages


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Process]:
    """Beside no Litestream at all: nothing says what changed from one WAL to the next."""
    with Process(tmp_path / "data" / "app.db") as made:
        keep_tally(made)
        made.write(30_000)
        yield made


def copies(app: Process, pace: Pace = TINY, hold_s: float = 0.0) -> Copies:
    """A copy in one go is given up at once, so what is made is made in pieces."""
    database = Database("app", str(app.path), str(app.path.with_name(".app.db-litestream")), Replica("file", "r"))
    return Copies(database, app.path.parent.parent, pace, hold_s)


def made_in_pieces(copies: Copies) -> int:
    """One copy; how many read transactions it took."""
    made = copies.one()
    assert made.in_pieces
    assert (copies.exact, copies.wrong) == (True, [])
    assert made.size_bytes == copies.target.stat().st_size
    return made.snapshots


# Exact


@pytest.mark.parametrize("version", [V5, V3])
@pytest.mark.parametrize(
    ("page_size", "auto_vacuum", "work", "pause", "piece_s"),
    [
        (4096, "none", ("steady",), 0.001, 0.0),
        (1024, "incremental", ("small", "churn"), 0.002, 0.1),
        (4096, "full", ("small", "churn", "vacuum"), 0.005, 0.0),
        (8192, "none", ("small", "checkpoints"), 0.002, 0.0),
        (512, "incremental", ("autocheckpoints", "churn", "checkpoints"), 0.005, 0.2),
    ],
)
def test_a_copy_in_many_pieces_is_one_state_of_production(
    tmp_path: Path, version: str, page_size: int, auto_vacuum: str, work: tuple[str, ...], pause: float, piece_s: float
) -> None:
    """With Litestream's checkpoints every second or two, and the app's own."""
    with playing(
        tmp_path, version=version, page_size=page_size, auto_vacuum=auto_vacuum, rows=60_000, busy=True
    ) as scene:
        keep_tally(scene.app)
        scene.app.go(*work, pause=pause)
        copying = Copies(scene.database, tmp_path, replace(TINY, piece_s=piece_s), hold_s=60.0)
        transactions, given_up = list[int](), 0
        while len(transactions) + given_up < IN_A_ROW or scene.app.commits <= IN_A_ROW:  # a busy machine commits slowly
            made = copying.one()
            assert copying.wrong == []
            if made.in_pieces:
                assert copying.exact
                transactions.append(made.snapshots)
            else:
                given_up += 1
        scene.app.rest()
    assert given_up <= 1, "each of them settles well within its time"
    assert max(transactions) > (2 if not piece_s else 0)


def test_it_is_exact_whatever_happens_between_two_pieces(tmp_path: Path) -> None:
    """Every page changes, the database shrinks and grows again, and each WAL is begun anew; only lists tell."""
    with playing(tmp_path, auto_vacuum="incremental", rows=20_000, busy=True) as scene:
        keep_tally(scene.app)
        steps = [
            (SPREAD,),
            ("delete from t where id > 5000", "pragma incremental_vacuum"),
            ("insert into t (v) select hex(randomblob(200)) from t", SPREAD),
            ("vacuum",),
            ("update t set v = 'short' where id % 3 = 0",),
        ]
        copying = Copies(scene.database, tmp_path, TINY, hold_s=0.0)

        def happens(number: int) -> None:
            if 1 < number <= len(steps) + 1:
                scene.app.sql(*steps[number - 2])
                new_wal(scene)

        copying.witness.between = happens
        assert made_in_pieces(copying) > len(steps)


def test_nothing_but_the_wal_is_needed_while_it_is_not_begun_anew(app: Process) -> None:
    copying = copies(app)
    copying.witness.between = lambda number: app.sql(SPREAD) if number < 8 else None
    assert made_in_pieces(copying) > 7


def test_a_database_that_nobody_writes_is_copied_however_short_a_transaction_may_be(app: Process) -> None:
    copying = copies(app, TINY)
    assert made_in_pieces(copying) >= 4
    app.close()
    assert made_in_pieces(copying) >= 4, "there is nothing in the WAL, and no index"
    app.start()


def test_what_was_read_before_a_wal_was_begun_is_read_again_where_nothing_tells(app: Process) -> None:
    """An index without salts says nothing of what came after it."""
    app.close()
    app.start()
    app.sql("select count(*) from t")
    copying = copies(app)
    copying.witness.between = lambda number: app.sql(SPREAD) if number == 3 else None
    assert made_in_pieces(copying) > 3


@pytest.mark.parametrize("steps", [("pragma wal_checkpoint(restart)", SPREAD), ("pragma wal_checkpoint(truncate)",)])
def test_without_lists_all_is_read_again_after_a_new_wal(app: Process, steps: tuple[str, ...]) -> None:
    copying = copies(app)
    copying.witness.between = lambda number: app.sql(SPREAD, *steps) if number == 3 else None
    assert made_in_pieces(copying) > 4


def test_a_database_that_shrank_and_one_that_grew(app: Process) -> None:
    app.sql("pragma auto_vacuum=full", "vacuum")
    copying = copies(app, TINY)
    before = app.sql("pragma page_count")[0][0]
    copying.witness.between = lambda number: app.sql("delete from t where id > 100") if number == 3 else None
    made_in_pieces(copying)
    assert copying.target.stat().st_size < before * 4096 // 2
    copying.witness.between = lambda number: app.write(20_000) if number == 1 else None
    made_in_pieces(copying)
    assert copying.target.stat().st_size > before * 4096 // 2


@pytest.mark.parametrize("torn", [(2,), (2, 4), (7,), (7, 8), (2, 3, 5, 8, 9, 11)], ids=str)
def test_what_was_read_of_another_wal_is_not_kept(app: Process, torn: tuple[int, ...]) -> None:
    """Frames of another WAL, of a larger database, in the first pass and in the rounds after it."""
    copying = copies(app, TINY)
    copying.witness.between = lambda number: app.sql(SPREAD) if number < 9 else None
    tear(copying, *torn)
    assert made_in_pieces(copying) > len(torn)


def test_the_file_is_its_owners_and_stands_alone(app: Process) -> None:
    copying = copies(app)
    made_in_pieces(copying)
    assert copying.target.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in copying.folder.iterdir() if each.is_file()] == ["copy"]
    assert copying.target.read_bytes()[18:20] == b"\x02\x02", "its header says WAL, as production's does"


# Not in pieces


@dataclass
class OddReader:
    """A reader that says something else from some call on."""

    real: PageReader
    odd: Callable[[Snapshot, int], Snapshot]
    file_ids: list[FileId] = field(default_factory=list)
    count: int = 0

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        self.count += 1
        with self.real.snapshot() as real:
            yield self.odd(real, self.count)

    def file_id(self) -> FileId:
        return self.file_ids.pop(0) if self.file_ids else self.real.file_id()


@dataclass
class OddPages:
    real: Witness
    odd: Callable[[Snapshot, int], Snapshot] = lambda snapshot, _: snapshot
    file_ids: tuple[FileId, ...] = ()

    @contextmanager
    def opened(self, path: str) -> Iterator[OddReader]:
        with self.real.opened(path) as reader:
            yield OddReader(reader, self.odd, list(self.file_ids))


def tear(copying: Copies, *torn: int) -> None:
    copying.copier = replace(copying.copier, pages=TornPages(copying.witness, set(torn)))


def another_page_size(snapshot: Snapshot, number: int) -> Snapshot:
    if number == 3:
        snapshot.index = replace(snapshot.index, page_size=8192)
    return snapshot


class Forgetful(TornSnapshot):
    """Torn, and it cannot tell what changed before it."""

    def past(self, salts: bytes, frame: int) -> frozenset[int] | None:
        del salts, frame
        return None


def test_what_was_read_anew_of_another_wal_is_not_kept_either(app: Process) -> None:
    """All is begun again in a snapshot that means nothing; the next one can tell what changed since the one before."""
    copying = copies(app)
    copying.copier = replace(
        copying.copier,
        pages=OddPages(copying.witness, lambda snapshot, number: Forgetful(snapshot) if number == 4 else snapshot),
    )
    steps = ("pragma wal_checkpoint(restart)", "update t set v = 'one' where id = 9000")
    copying.witness.between = lambda number: app.sql(*steps) if number == 3 else None
    assert made_in_pieces(copying) > 4


def not_copied(copying: Copies) -> NotCopied:
    with pytest.raises(NotCopied) as caught:
        copying.one()
    assert not copying.target.exists()
    assert "whole, the copy's read transaction took longer than the 0 s it had" in caught.value.message
    assert "`litestream-sidecar backup app OUT`" in caught.value.hint
    return caught.value


def test_a_wal_begun_anew_all_the_time_without_lists(app: Process) -> None:
    copying = copies(app, Pace(piece_s=0, rest_s=0.001, settle_s=20.0))
    copying.witness.between = lambda _: app.sql(SPREAD, "pragma wal_checkpoint(truncate)", SPREAD)
    error = not_copied(copying)
    assert "in pieces, it cannot be told what changed while it was copied: its WAL was begun anew" in error.message
    assert error.hint.startswith("look whether Litestream runs")


def test_an_app_that_changes_more_than_can_be_read_again(app: Process) -> None:
    assert app.sql("pragma page_count")[0][0] > 2 * AGAIN_MIN
    copying = copies(app, Pace(piece_s=0, rest_s=0.001, settle_s=1.0))
    copying.witness.between = lambda _: app.sql(SPREAD)
    assert "in pieces, it changes faster than what changed can be read again" in not_copied(copying).message


def test_a_reading_that_never_means_anything(app: Process) -> None:
    copying = copies(app)
    tear(copying, *range(2, 200))
    assert "its WAL is begun anew all the time" in not_copied(copying).message


def test_another_file_at_the_path(app: Process) -> None:
    copying = copies(app)
    copying.copier = replace(copying.copier, pages=OddPages(copying.witness, file_ids=(FileId(1, 1), FileId(1, 2))))
    assert "another file came to the database's path meanwhile" in not_copied(copying).message


def test_another_page_size(app: Process) -> None:
    copying = copies(app, TINY)
    copying.copier = replace(copying.copier, pages=OddPages(copying.witness, another_page_size))
    assert "its page size changed meanwhile" in not_copied(copying).message


@contextmanager
def full(path: Path, page_size: int) -> Iterator[PageFile]:
    """A disk that is full once the first pages are there."""
    with page_file(path, page_size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield


def test_a_copy_that_cannot_be_written_is_made_whole_or_not_at_all(app: Process) -> None:
    copying = copies(app)
    copying.copier = replace(copying.copier, page_file=full)
    assert "in pieces, No space left on device" in not_copied(copying).message
    copying.copier = replace(copying.copier, hold_s=60)
    made = copying.one()
    assert not made.in_pieces
    assert copying.wrong == []


def test_a_rollback_journal_knows_no_read_transaction_that_lasts(tmp_path: Path) -> None:
    """It is copied in steps, between which its writers go on; so the bound does not count."""
    with Process(tmp_path / "data" / "app.db", journal="delete") as app:
        keep_tally(app)
        app.write(20_000)
        copying = copies(app)
        made = copying.one()
        assert not made.in_pieces
        assert copying.wrong == []


def test_production_that_cannot_be_read_is_unreadable_and_not_slow(app: Process) -> None:
    copying = copies(app)
    app.close()
    app.path.rename(app.path.with_name("elsewhere"))
    with pytest.raises(Unreadable, match="there is no database file"):
        copying.one()
    app.path.with_name("elsewhere").rename(app.path)
    app.start()


def test_it_ends_when_it_is_told_to_and_when_its_time_is_up(app: Process) -> None:
    copying, stop = copies(app, TINY), Event()
    copying.witness.between = lambda number: stop.set() if number == 3 else None
    with pytest.raises(Stopped):
        copying.one(stop)
    assert not copying.target.exists()
    times = iter([60.0, 60.0])

    def left_s() -> float:
        left = next(times, None)
        if left is None:
            raise Overdue("no time left", "")
        return left

    with pytest.raises(Overdue, match="no time left"):
        copying.one(left_s=left_s)
    assert not copying.target.exists()


def test_litestream_down_and_its_folder_gone(tmp_path: Path) -> None:
    """The WAL alone tells, until the app checkpoints."""
    with playing(tmp_path, rows=20_000) as scene:
        keep_tally(scene.app)
        scene.litestream.stop()
        shutil.rmtree(scene.database.meta_path)
        copying = Copies(scene.database, tmp_path, TINY, hold_s=0.0)
        copying.witness.between = lambda number: scene.app.sql(SPREAD) if number < 8 else None
        assert made_in_pieces(copying) > 7


def test_lists_that_were_lost_meanwhile(tmp_path: Path) -> None:
    """Files that Litestream's retention took before they were read: what they list is unknown, and read again."""
    with playing(tmp_path, rows=20_000, busy=True) as scene:
        keep_tally(scene.app)

        def lose(number: int) -> None:
            if number == 3:
                new_wal(scene)
                for each in scene.level0():
                    each.unlink()

        copying = Copies(scene.database, tmp_path, TINY, hold_s=0.0)
        copying.witness.between = lose
        assert made_in_pieces(copying) > 4


def new_wal(scene: Scene) -> None:
    """Write until Litestream has begun it anew: it keeps everybody else from doing so."""
    wal = scene.app.path.with_name("app.db-wal")

    def salts() -> bytes:
        scene.app.sql(SPREAD)
        return wal.read_bytes()[16:24]  # no locks are held on this file, so none are lost by closing it

    before = salts()
    until(lambda: salts() != before, every=0.1, say="a new WAL")


@pytest.mark.parametrize("times", [20, 400])
def test_a_litestream_that_was_restarted_meanwhile_lists_less_than_changed(tmp_path: Path, times: int) -> None:
    """0.5.17, restarted beside an app that checkpoints, leaves pages out without a word: its lists alone prove nothing."""
    with playing(tmp_path, rows=20_000) as scene:
        keep_tally(scene.app)

        def commits(number: int, first: int) -> None:
            for each in range(number):
                scene.app.sql(f"update t set v = '{number}-{each}' where id = {first + each}")

        def restarted(number: int) -> None:
            if number == 3:
                commits(100, 1)
                scene.synced()
                scene.litestream.stop()
                commits(100, 1000)
                scene.app.sql("pragma wal_checkpoint(passive)")
                commits(times, 19_000)
                scene.litestream.start()
                commits(1, 19_000)
                scene.synced()

        copying = Copies(scene.database, tmp_path, TINY, hold_s=0.0)
        copying.witness.between = restarted
        made_in_pieces(copying)
