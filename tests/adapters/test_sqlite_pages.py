"""Pages of a live database, held byte by byte against SQLite's own backup of the same read transaction. The app is a process of its own."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest

from sidecar.adapters.fingerprints import fingerprints
from sidecar.adapters.live_descriptors import LiveDescriptors
from sidecar.adapters.sqlite_live import LiveSqlite
from sidecar.adapters.sqlite_pages import WINDOW_PAGES, LivePages, PageReader
from sidecar.core.errors import Unreadable
from sidecar.core.wal import FRAME_HEADER_BYTES
from tests.litestreams import until
from tests.page_reading import backup, read, same
from tests.parity_app import Process

EVERYTHING = ("small", "churn", "checkpoints")


@contextmanager
def reading(app: Process) -> Iterator[PageReader]:
    with LivePages(LiveSqlite(LiveDescriptors())).opened(str(app.path)) as reader:
        yield reader


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Process]:
    with Process(tmp_path / "app.db") as made:
        made.write(200)
        yield made


@pytest.mark.parametrize(
    ("page_size", "auto_vacuum"),
    [(512, "full"), (1024, "incremental"), (4096, "none"), (65536, "full")],
)
def test_a_snapshot_is_what_sqlite_copies_while_everything_happens(
    tmp_path: Path, page_size: int, auto_vacuum: str
) -> None:
    with Process(tmp_path / "app.db", page_size, auto_vacuum) as app:
        app.write(1000)
        app.go(*EVERYTHING, pause=0.001)
        exact, sizes, wals = 0, set(), set()

        def once(reader: PageReader) -> bool:
            nonlocal exact
            with reader.snapshot() as snapshot:
                ours, intact = read(snapshot), snapshot.intact()
                if intact:
                    assert same(ours, backup(reader, page_size))
                    exact += 1
                sizes.add(len(ours))
                wals.add(snapshot.index.salts)
            return exact >= 8 and len(sizes) > 1 and len(wals) > 1

        with reading(app) as reader:
            until(lambda: once(reader), within=30, every=0.01, say="8 snapshots, of two WALs and two sizes")
        assert app.rest() > 1


def test_what_is_only_in_the_wal_and_what_is_only_in_the_file(app: Process) -> None:
    app.sql("pragma wal_checkpoint(truncate)")
    size = app.path.stat().st_size
    app.write(1000)
    assert app.path.stat().st_size == size, "what the app added stands in the WAL only"
    with reading(app) as reader, reader.snapshot() as snapshot:
        assert snapshot.page_count * 4096 > size
        ours = read(snapshot)
        assert same(ours, backup(reader, 4096))
        assert snapshot.page_count > len(snapshot.written(0, snapshot.index.max_frame)), (
            "and something in the file only"
        )


def test_a_part_is_that_part(app: Process) -> None:
    app.write(5000)
    with reading(app) as reader, reader.snapshot() as snapshot:
        ours = read(snapshot)
        for first, count in ((1, 1), (3, 10), (len(ours), 1), (1, 0)):
            found = b"".join(bytes(data) for _, data in snapshot.pages(first, count))
            assert found == b"".join(ours[first - 1 :][:count])


def test_windows_of_the_wal_join(tmp_path: Path) -> None:
    """More pages than are kept in mind at once, all of them in the WAL."""
    with Process(tmp_path / "app.db", 512) as app:
        app.sql("pragma synchronous=off")
        app.sql(f"insert into t (v) values (zeroblob({(WINDOW_PAGES + 100) * 508}))")
        app.sql("insert into t (v) values ('the last')")
        with reading(app) as reader, reader.snapshot() as snapshot:
            assert snapshot.page_count > WINDOW_PAGES + 50
            assert same(read(snapshot), backup(reader, 512))


def test_an_empty_wal_and_no_index_yet(app: Process) -> None:
    app.close()
    assert not app.path.with_name("app.db-shm").exists()
    with reading(app) as reader:
        for _ in range(2):
            with reader.snapshot() as snapshot:
                assert (snapshot.index.salts, snapshot.index.max_frame) == (b"", 0)
                assert same(read(snapshot), backup(reader, 4096))
                assert snapshot.intact()
        app.start()
        with reader.snapshot() as snapshot:
            app.write(1)
            assert not snapshot.intact(), "a WAL was begun"
            assert same(read(snapshot), backup(reader, 4096)), "which this transaction does not see"
        with reader.snapshot() as snapshot:
            assert snapshot.index.max_frame > 0
            assert same(read(snapshot), backup(reader, 4096))
            assert snapshot.intact()


def test_a_wal_that_a_killed_app_left_without_its_index(app: Process) -> None:
    app.kill()
    app.path.with_name("app.db-shm").unlink()
    with reading(app) as reader, reader.snapshot() as snapshot:
        assert snapshot.index.max_frame > 0, "SQLite has made it anew"
        assert same(read(snapshot), backup(reader, 4096))


def test_a_wal_that_is_begun_anew_in_the_middle_is_seen(app: Process) -> None:
    """Where all of the WAL has been brought to the file, a reader needs no frame of it, and a writer begins it anew."""
    app.sql("pragma wal_checkpoint(passive)")
    with reading(app) as reader:
        with reader.snapshot() as snapshot:
            pages = snapshot.pages(1, snapshot.page_count)
            next(pages)
            assert snapshot.intact()
            app.write(100, "y" * 1000)
            assert not snapshot.intact()
        with reader.snapshot() as snapshot:
            assert same(read(snapshot), backup(reader, 4096))
            assert snapshot.intact()


def test_a_wal_whose_frames_are_needed_is_not_begun_anew(app: Process) -> None:
    with reading(app) as reader, reader.snapshot() as snapshot:
        theirs = backup(reader, 4096)
        for _ in range(3):
            app.write(100, "y" * 1000)
            busy, log, copied = app.sql("pragma busy_timeout=50", "pragma wal_checkpoint(truncate)")[0]
            assert busy == 1
            assert copied < log
        assert snapshot.intact()
        assert same(read(snapshot), theirs)


def scribble(path: Path, what: bytes, instead: bytes) -> None:
    """Another content in the database file, past SQLite; in another process, since closing the file here would end SQLite's locks."""
    done = (
        "import os, sys; path, what, instead = map(os.fsencode, sys.argv[1:]); file = open(path, 'r+b')\n"
        "os.pwrite(file.fileno(), instead, file.read().index(what))"
    )
    subprocess.run([sys.executable, "-c", done, path, what, instead], check=True)


def checkpointed_so_far(app: Process, then: str) -> None:
    """Bring what stands in the WAL to the file, but not `then`: so that the WAL goes on, and is not begun anew."""
    with reading(app) as holding, holding.snapshot():
        app.sql(then, "pragma wal_checkpoint(passive)")


def test_what_a_checkpoint_brought_to_the_file_is_read_there_as_sqlite_does(app: Process) -> None:
    """Its frame is in the WAL still, and sound; nobody reads it any more, and a disk that lost the write to the file has lost it."""
    app.sql("update t set v = 'needle' where id = 100")
    with reading(app) as reader:
        frame, _ = state(reader)
        checkpointed_so_far(app, "update t set v = 'hairpin' where id = 199")
        scribble(app.path, b"needle", b"Needle")
        with reader.snapshot() as snapshot:
            assert b"needle" in reader.live.read(f"{app.path}-wal", 1 << 24, 0)
            ours = read(snapshot)
            assert (b"Needle" in b"".join(ours), b"hairpin" in b"".join(ours)) == (True, True)
            assert same(ours, backup(reader, 4096))
            then = b"".join(data or b"" for _, data in snapshot.older(range(1, snapshot.page_count + 1), frame))
            assert (b"Needle" in then, b"hairpin" in then) == (True, False)


@pytest.mark.parametrize("once_more", [False, True])
def test_an_older_version_that_a_checkpoint_left_out_or_wrote_over_is_read_in_the_wal(
    app: Process, *, once_more: bool
) -> None:
    """A checkpoint copies the newest frame of each page only; where it may not copy that one yet, the file is older still."""
    app.sql("update t set v = 'needle' where id = 100")
    with reading(app) as reader:
        frame, then = state(reader)
        checkpointed_so_far(app, "update t set v = 'newer' where id = 100")
        if once_more:
            app.sql("pragma wal_checkpoint(passive)")
        with reader.snapshot() as snapshot:
            found = dict(snapshot.older(range(1, len(then) + 1), frame))
            assert snapshot.intact()
            assert same(read(snapshot), backup(reader, 4096))
        assert [page for page, data in found.items() if data is not None and data != then[page - 1]] == []
        assert b"needle" in b"".join(data or b"" for data in found.values())


def state(reader: PageReader) -> tuple[int, list[bytes]]:
    """The frame that a state ends with, and the state."""
    with reader.snapshot() as snapshot:
        return snapshot.index.max_frame, read(snapshot)


def test_an_older_state_is_read_exactly(app: Process) -> None:
    app.sql("pragma wal_checkpoint(truncate)")
    with reading(app) as reader:
        app.write(50, "a" * 500)
        states = [state(reader)]
        for text in "bcd":
            app.sql(f"update t set v = '{text}' where id % 40 = 1")
            app.write(20, text * 500)
            states.append(state(reader))
        with reader.snapshot() as snapshot:
            for frame, then in states:
                found = dict(snapshot.older(range(1, len(then) + 1), frame))
                assert [found[page] for page in sorted(found)] == then
            assert dict(snapshot.older([], 1)) == {}
            beyond = snapshot.page_count + 5
            assert dict(snapshot.older([beyond], snapshot.index.max_frame)) == {beyond: None}


def test_what_a_checkpoint_has_written_over_is_not_guessed(app: Process) -> None:
    app.sql("pragma wal_checkpoint(truncate)")
    with reading(app) as reader:
        app.write(50, "a" * 500)
        frame, then = state(reader)
        app.sql("update t set v = 'b' where id < 5", "update t set v = 'b' where id = 150")
        app.sql("pragma wal_checkpoint(passive)")
        with reader.snapshot() as snapshot:
            found = dict(snapshot.older(range(1, len(then) + 1), frame))
            over = {page for page, data in found.items() if data is None}
            assert snapshot.intact()
            assert over
            assert over < snapshot.written(frame, snapshot.index.max_frame) | {1}
            assert all(data == then[page - 1] for page, data in found.items() if data is not None)
            assert len(over) < len(then) / 2


def test_an_older_state_under_a_writer_and_checkpoints_is_exact_or_untold(tmp_path: Path) -> None:
    told = untold = 0
    with Process(tmp_path / "app.db", 1024) as app, reading(app) as reader:
        app.write(2000)
        app.go("small", "checkpoints", pause=0.001)

        def once() -> bool:
            nonlocal told, untold
            with reader.snapshot() as first:
                then, salts, frame, intact = read(first), first.index.salts, first.index.max_frame, first.intact()
            if not intact:
                return False
            app.sql("update t set v = v || 'z' where id % 7 = 1")
            with reader.snapshot() as second:
                found = dict(second.older(range(1, len(then) + 1), frame)) if second.index.salts == salts else {}
                changed = second.written(frame, second.index.max_frame)
                now = read(second)
                if not found or not second.intact():
                    return False
            for page, data in found.items():
                assert data is None or data == then[page - 1], page
                assert page in changed or now[page - 1 : page] == then[page - 1 : page], f"{page} changed unlisted"
            untold += sum(data is None for data in found.values())
            told += sum(data is not None for data in found.values())
            return told > 2000 and untold > 0

        until(once, within=20, every=0, say="some pages told, some overwritten by checkpoints")


def test_the_snapshot_holds_still_only_where_the_index_does(app: Process) -> None:
    app.go("small")
    with reading(app) as reader:
        for _ in range(100):
            with reader.snapshot() as snapshot:
                before, count = snapshot.index, reader.connection.execute("select count(*) from t").get
                assert reader.connection.execute("select count(*) from t").get == count
                assert snapshot.index == before


def test_a_database_with_a_rollback_journal_is_refused(tmp_path: Path) -> None:
    with Process(tmp_path / "app.db", journal="delete") as app:
        app.write()
        with pytest.raises(Unreadable, match="not in WAL mode"), reading(app):
            pass


def test_another_file_at_the_path_is_seen(app: Process) -> None:
    with reading(app) as reader:
        before = reader.file_id()
        app.path.rename(app.path.with_name("old"))
        with pytest.raises(FileNotFoundError):
            reader.file_id()
        app.path.write_bytes(b"")
        assert reader.file_id() != before


def test_a_database_above_a_gigabyte_is_read_around_the_lock_page(tmp_path: Path) -> None:
    """Page 16385 of 65536 bytes is never written; whatever stands there is the same."""
    path, lock = tmp_path / "app.db", 16385
    with closing(sqlite3.connect(path, isolation_level=None)) as first:
        first.execute("pragma page_size=65536")
        first.execute("pragma journal_mode=off")
        first.execute("pragma synchronous=off")
        first.execute("create table t (id integer primary key, v text)")
        first.execute("create table big (v)")
        for _ in range(2):
            first.execute("insert into big values (zeroblob(540000000))")
    with Process(path, 65536) as app:
        app.write(3000)
        with reading(app) as reader, reader.snapshot() as snapshot, fingerprints(tmp_path, 65536) as prints:
            assert snapshot.page_count > lock + 10
            assert reader.connection.pragma("quick_check", "big") == "ok"
            for at, data in snapshot.pages(1, snapshot.page_count):
                prints.put(at, data, 1)
            app.sql("pragma busy_timeout=50", "pragma wal_checkpoint(passive)")
            copy = tmp_path / "copy"
            copied(path, copy, lambda at: b"\xff" * 65536 if at == lock else None)
            with closing(apsw.Connection(f"file:{copy}?immutable=1", apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)):
                assert list(prints.differing(copy)) == []
            assert prints.page_count == snapshot.page_count
    copy.unlink()
    path.unlink()


def copied(path: Path, copy: Path, other: Callable[[int], bytes | None]) -> None:
    """A copy as a hole-punching restore makes it, with some pages of our own; read in another process, which keeps SQLite's locks."""
    subprocess.run(["cp", "--sparse=always", str(path), str(copy)], check=True)
    with copy.open("r+b") as file:
        for page in range(16380, 16390):
            data = other(page)
            if data is not None:
                file.seek((page - 1) * 65536)
                file.write(data)


def test_the_end_of_the_wal_before_is_read_as_long_as_it_stands(app: Process) -> None:
    """The new one is written over it from its front."""
    app.sql("pragma wal_checkpoint(truncate)")
    with reading(app) as reader:
        for number in range(30):
            app.sql(f"update t set v = 'changed' where id = {1 + number * 6}")
        with reader.snapshot() as old:
            last, salts = old.index.max_frame, old.index.salts
            after = {frame: old.written(frame, last) for frame in range(last + 1)}
        app.sql("pragma wal_checkpoint(restart)", "update t set v = 'again' where id < 100")
        with reader.snapshot() as now:
            over = now.index.max_frame
            assert 0 < over < last - 5
            found = {frame: now.past(salts, frame) for frame in range(last + 2)}
            assert {frame: found[frame] for frame in range(over + 1, last + 1)} == {
                frame: after[frame] for frame in range(over + 1, last + 1)
            }
            assert {found[frame] for frame in [*range(over + 1), last + 1]} == {None}, "written over, or never there"
            assert now.past(b"another!", last) is None
        app.sql("pragma wal_checkpoint(truncate)", "update t set v = 'once more' where id < 100")
        with reader.snapshot() as cut:
            assert cut.past(salts, last) is None


@dataclass(frozen=True, slots=True)
class WritingMeanwhile:
    """Production, whose app goes on writing just after the first look at the WAL's frames."""

    live: LiveSqlite
    go_on: Callable[[], object]

    def opened(self, path: str) -> AbstractContextManager[apsw.Connection]:
        return self.live.opened(path)

    def read(self, path: Path | str, size: int, offset: int) -> bytes:
        return self.live.read(path, size, offset)

    def read_each(self, path: Path | str, size: int, offsets: Sequence[int]) -> list[bytes]:
        first = self.live.read_each(path, size, offsets[:1])
        if str(path).endswith("-wal") and size == FRAME_HEADER_BYTES:
            self.go_on()
        return first + self.live.read_each(path, size, offsets[1:])


def test_what_is_written_over_while_it_is_read_is_not_taken_for_the_end(app: Process) -> None:
    app.sql("pragma wal_checkpoint(truncate)")
    for number in range(30):
        app.sql(f"update t set v = 'changed' where id = {1 + number * 6}")
    live = WritingMeanwhile(LiveSqlite(LiveDescriptors()), lambda: app.sql("update t set v = 'all of them'"))
    with LivePages(live).opened(str(app.path)) as reader:
        with reader.snapshot() as old:
            salts, frame = old.index.salts, old.index.max_frame // 2
        app.sql("pragma wal_checkpoint(restart)", "update t set v = 'again' where id = 1")
        with reader.snapshot() as now:
            assert now.index.salts != salts
            assert now.index.max_frame < frame
            assert now.past(salts, 3) is None
