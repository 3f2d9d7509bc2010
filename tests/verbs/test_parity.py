"""Drills that compare with production, for real: what must be found is found, and what works is never called damaged."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from sidecar.core.model import Drill, Outcome, Position
from sidecar.core.parity import Parity, ParityResult
from sidecar.core.policy import Policy
from sidecar.drill_attempt import Order
from tests.litestreams import rows_in_replica, until
from tests.ltx_writer import decode, rewrite
from tests.parity_stage import V3, V5, Scene, playing

EQUAL, DIFFERENT, INCONCLUSIVE = ParityResult.EQUAL, ParityResult.DIFFERENT, ParityResult.INCONCLUSIVE
MARK = b"needle-in-a-row"
PAGE_SIZES = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]
IN_A_ROW = 10


def compared(drill: Drill) -> Parity:
    assert drill.parity is not None, f"{drill.outcome} {drill.reason}: {drill.message}"
    return drill.parity


def flip(copy: Path) -> int:
    """Another byte within a row: nothing but the row's own content tells. The page it is on."""
    data = copy.read_bytes()
    at = data.index(MARK)
    with copy.open("r+b") as file:
        os.pwrite(file.fileno(), b"N", at)
    return at // int.from_bytes(data[16:18]) + 1


# Seen red


@pytest.mark.parametrize("version", [V5, V3])
def test_a_byte_flipped_in_a_row_of_the_copy(tmp_path: Path, version: str) -> None:
    flipped: list[int] = []
    with playing(tmp_path, version=version, after_restore=lambda copy: flipped.append(flip(copy))) as scene:
        scene.app.sql("create table secrets (v text)", f"insert into secrets values ('{MARK.decode()}')")
        scene.synced()
        scene.app.write()  # of 0.3 the last segment's end is not known, and its pages are excused
        scene.synced()
        drill = scene.drill("d-1")
        parity = compared(drill)
        assert (drill.outcome, drill.reason) == (Outcome.FAILED, "pages_differ")
        assert drill.check_seconds is not None
        assert drill.content is not None, "quick_check was content with it"
        page = flipped[-1]
        assert (parity.result, parity.different, parity.differing, parity.owners) == (
            DIFFERENT,
            (page,),
            1,
            ("secrets",),
        )
        assert parity.message.endswith(f": {page} (secrets)")
        folder = scene.kept / "d-1"
        assert parity.kept == str(folder)
        ours, theirs = ((folder / f"page-{page}.{which}").read_bytes() for which in ("production", "restored"))
        assert MARK in ours
        assert [at for at, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b] == [ours.index(MARK)]
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {each.stat().st_mode & 0o777 for each in folder.iterdir()} == {0o600}
        assert list((tmp_path / "scratch").glob("room-*")) == []
        scene.meddler.after_restore = lambda _: None
        assert compared(scene.drill()).result is EQUAL


def test_a_byte_flipped_while_the_app_writes_at_full_speed(tmp_path: Path) -> None:
    with playing(tmp_path, after_restore=flip) as scene:
        scene.app.sql("create table secrets (v text)", f"insert into secrets values ('{MARK.decode()}')")
        scene.app.write(3000)
        scene.synced()
        scene.app.go("small")
        threading.Event().wait(1)
        parity = compared(scene.drill())
        scene.app.rest()
    assert (parity.result, parity.owners) == (DIFFERENT, ("secrets",))


def test_what_the_encoder_writes_litestream_restores(tmp_path: Path) -> None:
    """Read and written again, file by file: the restored copy is the same, byte for byte."""
    with playing(tmp_path) as scene:
        copies: list[bytes] = []
        scene.meddler.after_restore = lambda copy: copies.append(copy.read_bytes())
        scene.app.write(40)
        scene.synced()
        scene.drill()
        scene.litestream.stop()
        files = sorted((scene.replica / "ltx").rglob("*.ltx"))
        for each in files:
            rewrite(each, decode(each.read_bytes()))
        assert scene.drill().outcome is Outcome.PASSED
    assert len(files) >= 3
    assert copies[0] == copies[1]


def test_a_page_lost_from_a_level_0_file_whose_checksum_fits(tmp_path: Path) -> None:
    """As a bug of Litestream's would lose it: every file sound, every restore fine, a row as it was before."""
    with playing(tmp_path) as scene:
        scene.app.sql("create table secrets (v text)", f"insert into secrets values ('{'before-' + MARK.decode()}')")
        scene.synced()
        scene.app.sql(f"update secrets set v = '{'after--' + MARK.decode()}'")
        scene.synced()
        lost = 0
        for path in scene.level0(scene.replica):
            file = decode(path.read_bytes())
            for page, data in file.pages.items():
                if b"after--" + MARK in data and page != 1:
                    lost = page
                    rewrite(path, file.without(page))
        assert lost
        shutil.rmtree(scene.replica / "ltx" / "1", ignore_errors=True)  # compacted before the page was lost
        drill = scene.drill()
        parity = compared(drill)
    assert (drill.outcome, drill.reason) == (Outcome.FAILED, "pages_differ")
    assert (parity.different, parity.owners) == ((lost,), ("secrets",))


def test_another_database_of_the_same_schema_at_the_path(tmp_path: Path) -> None:
    """Two apps whose configurations name one path: what comes back is sound, and it is not ours."""
    with playing(tmp_path / "theirs", rows=500) as theirs, playing(tmp_path / "ours", rows=500) as ours:
        for scene, letter in ((ours, "o"), (theirs, "t")):
            for _ in range(2):
                scene.app.write(200, letter * 90)
                scene.synced()
        ours.litestream.stop()
        theirs.litestream.stop()
        newest = ours.level0()[-1].name
        assert theirs.level0()[-1].name == newest, "at the same TXID, so that nothing else tells them apart"
        shutil.rmtree(ours.replica)
        shutil.copytree(theirs.replica, ours.replica)
        drill = ours.drill()
        parity = compared(drill)
    assert (drill.outcome, drill.reason, parity.result) == (Outcome.FAILED, "pages_differ", DIFFERENT)
    assert "t" in parity.owners


def test_pages_of_yesterday_under_todays_position(tmp_path: Path) -> None:
    """An older backup taken for the newest: sound, the same schema, as many rows."""
    with playing(tmp_path) as scene:
        scene.app.sql("update t set v = 'today' || substr(v, 6)")
        scene.synced()
        scene.litestream.stop()
        old = decode(scene.level0(scene.replica)[0].read_bytes())
        newest = scene.level0(scene.replica)[-1]
        file = decode(newest.read_bytes())
        pages = {page: old.pages.get(page, data) for page, data in file.pages.items()}
        shutil.rmtree(scene.replica / "ltx" / "1", ignore_errors=True)
        rewrite(newest, replace(file, pages=pages))
        drill = scene.drill()
        parity = compared(drill)
    assert (drill.outcome, drill.reason, parity.result) == (Outcome.FAILED, "pages_differ", DIFFERENT)
    assert parity.owners == ("t",)


def stale_wal(folder: Path, copy: Path) -> Callable[[Path], None]:
    """What `restore -integrity-check` does where an older restore left its WAL: SQLite replays it into the new copy, and removes it."""

    def replay(restored: Path) -> None:
        target = folder / "target.db"
        shutil.copy(restored, target)
        shutil.copy(copy, f"{target}-wal")
        with closing(sqlite3.connect(target)) as opened:
            opened.execute("pragma wal_checkpoint(truncate)")
            assert opened.execute("pragma integrity_check").fetchone() == ("ok",)
        shutil.copy(target, restored)
        target.unlink()

    return replay


def test_a_stale_wal_replayed_into_the_copy(tmp_path: Path) -> None:
    """Case h2 of the facts: restore and integrity_check say ok, and rows are yesterday's."""
    with playing(tmp_path) as scene:
        left = tmp_path / "yesterdays-wal"

        def leave(copy: Path) -> None:
            opened = tmp_path / "opened.db"
            shutil.copy(copy, opened)
            with closing(sqlite3.connect(opened, isolation_level=None)) as yesterday:
                yesterday.execute("pragma journal_mode=wal")
                yesterday.execute("update t set v = 'yesterday' || substr(v, 10) where id < 20")
                shutil.copy(f"{opened}-wal", left)

        scene.meddler.after_restore = leave
        scene.drill()
        scene.app.sql("update t set v = 'today----' || substr(v, 10) where id < 20")
        scene.synced()
        scene.meddler.after_restore = stale_wal(tmp_path, left)
        drill = scene.drill()
        parity = compared(drill)
    assert (drill.outcome, drill.reason, parity.result) == (Outcome.FAILED, "pages_differ", DIFFERENT)
    assert "t" in parity.owners


def test_the_newest_level_0_file_of_the_replica_lost(tmp_path: Path) -> None:
    """What comes back is sound, and older than what Litestream says it has replicated; it is not said to be production."""
    with playing(tmp_path) as scene:
        for letter in "ab":
            scene.app.write(300, letter * 90)
            scene.synced()
        scene.litestream.stop()
        newest = scene.level0(scene.replica)[-1]
        newest.unlink()
        for level in range(1, 9):
            shutil.rmtree(scene.replica / "ltx" / str(level), ignore_errors=True)
        drill = scene.drill()
        parity = compared(drill)
        assert drill.position is not None
        newest_here = int(scene.level0()[-1].name[:16], 16)
        assert drill.position.index < newest_here
    assert parity.result is INCONCLUSIVE
    assert f"Litestream had captured {newest_here:016x}, and the replica led to {drill.position} only" in parity.message
    assert not parity.strong
    assert 0 < parity.excused < parity.pages


def replaced_by(scene: Scene, rows: int) -> None:
    """Another database of the same schema comes to the path, with all its files, under a Litestream that goes on."""
    scene.app.close()
    other = scene.folder / "other.db"
    with closing(sqlite3.connect(other, isolation_level=None)) as database:
        database.execute("pragma journal_mode=wal")
        database.execute("create table t (id integer primary key, v text)")
        database.execute("begin")
        database.executemany("insert into t (v) values (?)", [("another",)] * rows)
        database.execute("commit")
    for tail in ("-wal", "-shm"):
        scene.app.path.with_name(f"app.db{tail}").unlink(missing_ok=True)
    other.replace(scene.app.path)
    scene.app.start()
    scene.app.sql("pragma wal_autocheckpoint=0", "insert into t (v) values ('the app goes on')")


@pytest.mark.parametrize(("rows", "result"), [(700, None), (5000, INCONCLUSIVE)])
def test_a_database_replaced_under_litestream(tmp_path: Path, rows: int, result: ParityResult | None) -> None:
    """Litestream mixes the two where it still can, which is damage, or replicates nothing more: what comes back is not production."""
    with playing(tmp_path) as scene:
        replaced_by(scene, rows)
        drill = scene.drill()
    assert drill.outcome is Outcome.FAILED or compared(drill).result is not EQUAL, drill
    assert result is None or (compared(drill).result is result and "pages differ" in compared(drill).message)


# Not found out, and why


def test_production_that_is_not_in_reach(tmp_path: Path) -> None:
    with playing(tmp_path) as scene:
        scene.app.close()
        scene.litestream.stop()
        scene.app.path.unlink()
        drill = scene.drill()
        assert drill.outcome is Outcome.PASSED, "a backup is no worse for that"
        assert compared(drill).result is INCONCLUSIVE
        assert "production is not in reach" in compared(drill).message


def test_production_that_is_no_database_any_more(tmp_path: Path) -> None:
    with playing(tmp_path) as scene:
        scene.app.close()
        scene.litestream.stop()
        scene.app.path.write_bytes(b"no database at all" * 1000)
        parity = compared(scene.drill())
        assert parity.result is INCONCLUSIVE
        assert "is not a SQLite database" in parity.message


@pytest.mark.parametrize(("version", "gone"), [(V5, "folder"), (V3, "files")])
def test_without_litestreams_local_folder(tmp_path: Path, version: str, gone: str) -> None:
    """Nothing tells what changed meanwhile: an app that went on is no damage."""
    with playing(tmp_path, version=version) as scene:
        scene.litestream.stop()
        meta = Path(scene.database.meta_path)
        if gone == "folder":
            shutil.rmtree(meta)
        else:
            for each in [*meta.rglob("*.ltx"), *meta.rglob("*.wal")]:
                each.unlink()
        scene.app.write(300, "later")
        parity = compared(scene.drill())
        assert parity.result is INCONCLUSIVE
        assert "a file of Litestream's local folder is missing" in parity.message
        assert parity.hint


def test_another_page_size_is_no_mismatch_of_pages(tmp_path: Path) -> None:
    with playing(tmp_path) as scene:
        scene.litestream.stop()
        scene.app.close()
        with closing(sqlite3.connect(scene.app.path, isolation_level=None)) as database:
            for statement in ("journal_mode=delete", "page_size=8192"):
                database.execute(f"pragma {statement}")
            database.execute("vacuum")
            database.execute("pragma journal_mode=wal")
        parity = compared(scene.drill())
        assert parity.result is INCONCLUSIVE
        assert "pages of 8192 bytes, the copy of 4096" in parity.message


def test_a_litestream_that_stopped_while_the_app_goes_on(tmp_path: Path) -> None:
    with playing(tmp_path) as scene:
        scene.litestream.kill()
        scene.app.write(800, "nobody replicates this")
        parity = compared(scene.drill())
        assert parity.result is INCONCLUSIVE
        assert "was not written in time" in parity.message


def test_an_exact_position_of_the_past_is_compared_with_what_is_known_to_have_changed(tmp_path: Path) -> None:
    with playing(tmp_path) as scene:
        scene.app.write(300)
        scene.synced()
        then = int(scene.level0()[-1].name[:16], 16)
        scene.app.write(3)
        scene.synced()
        order = Order(scene.database, Policy(), position=Position.of_txid(then), parity=True)
        drill = scene.driller.run(order, stop=threading.Event(), progress=lambda *_: None)
        parity = compared(drill)
        assert drill.position == Position.of_txid(then)
        assert parity.result is EQUAL
        assert 0 < parity.excused < parity.pages


# Seen green


@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_ten_times_green_beside_a_writer_at_full_speed(tmp_path: Path, page_size: int) -> None:
    """With compactions, snapshots and Litestream's checkpoints every few seconds."""
    with playing(tmp_path, page_size=page_size, rows=3000, busy=True) as scene:
        scene.app.go("steady")
        found = [compared(scene.drill(f"d{number}")) for number in range(IN_A_ROW)]
        commits = scene.app.rest()
    assert [each.result for each in found] == [EQUAL] * IN_A_ROW, [each.message for each in found]
    assert commits > 1000


@pytest.mark.parametrize("page_size", [1024, 65536])
def test_litestream_03_is_green_or_says_why_not(tmp_path: Path, page_size: int) -> None:
    """0.3 restores a WAL index to its end: a writer at full speed may leave little of a small database to be proven."""
    with playing(tmp_path, version=V3, page_size=page_size, rows=10_000, busy=True) as scene:
        scene.app.go("steady", pause=0.01)
        found = [compared(scene.drill(f"d{number}")) for number in range(IN_A_ROW)]
        scene.app.rest()
    never_different(found)
    assert sum(each.result is EQUAL for each in found) >= IN_A_ROW // 2, [each.message for each in found]


def never_different(found: list[Parity]) -> None:
    assert [each for each in found if each.result is DIFFERENT] == []


@pytest.mark.parametrize(
    ("page_size", "auto_vacuum", "work"),
    [
        (4096, "incremental", ("small", "churn", "checkpoints")),
        (1024, "none", ("autocheckpoints", "checkpoints")),
        (8192, "full", ("small", "churn", "vacuum")),
    ],
)
def test_an_app_that_grows_shrinks_and_checkpoints_by_itself_is_never_called_damaged(
    tmp_path: Path, page_size: int, auto_vacuum: str, work: tuple[str, ...]
) -> None:
    with playing(tmp_path, page_size=page_size, auto_vacuum=auto_vacuum, rows=3000, busy=True) as scene:
        scene.app.go(*work)
        found = [compared(scene.drill(f"d{number}")) for number in range(5)]
        scene.app.rest()
        never_different(found)
        scene.synced()
        last = compared(scene.drill())
    assert last.result is EQUAL, last


def test_a_comparison_stops_when_it_is_told_to(tmp_path: Path) -> None:
    with playing(tmp_path, rows=20_000) as scene:
        stop = threading.Event()
        order = Order(scene.database, Policy(), parity=True)

        def watch(stage: str, done: int, total: int | None) -> None:
            del done, total
            if stage == "parity":
                stop.set()

        drill = scene.driller.run(order, stop=stop, progress=watch)
        assert drill.outcome is Outcome.ABORTED
        assert list((tmp_path / "scratch").glob("room-*")) == []


def test_an_idle_database_is_proven_whole(tmp_path: Path) -> None:
    with playing(tmp_path) as scene:
        parity = compared(scene.drill())
        assert (parity.result, parity.excused, parity.ratio) == (EQUAL, 0, 1.0)
        scene.app.close()
        scene.app.start()
        again = compared(scene.drill())
        assert again.result is EQUAL
        scene.litestream.stop()
        scene.app.close()
        closed = compared(scene.drill())
        assert closed.result in {EQUAL, INCONCLUSIVE}


def commits(scene: Scene, times: int) -> None:
    for _ in range(times):
        scene.app.write(text="x" * 200)


def test_what_litestream_loses_where_the_app_checkpoints_while_it_is_stopped_is_found(tmp_path: Path) -> None:
    """Of Litestream 0.5.17: a restore succeeds, and integrity_check finds it sound, though rows are missing (`core/restarts.py`)."""
    with playing(tmp_path, rows=10) as scene:
        commits(scene, 100)
        scene.litestream.stop()
        commits(scene, 100)
        scene.app.sql("pragma wal_checkpoint(passive)")
        commits(scene, 20)
        scene.litestream.start()
        commits(scene, 1)
        scene.synced()
        drill = scene.drill()
        held = scene.app.sql("select count(*) from t")[0][0]
        restored = rows_in_replica(scene.litestream.config, Path(scene.database.path))
        assert restored < held == 231
        assert drill.reason == "pages_differ", drill
        assert "give Litestream a new, empty path for this replica and restart it" in drill.hint
        scene.litestream.stop()
        config = scene.litestream.config
        config.write_text(config.read_text().replace(str(scene.replica), f"{scene.replica}-2"))
        scene.litestream.start()
        until(lambda: rows_in_replica(config, Path(scene.database.path)) == held, every=0.2, say="the hint mends it")
        assert compared(scene.drill()).result is EQUAL


def test_a_litestream_that_is_started_again_in_between(tmp_path: Path) -> None:
    with playing(tmp_path) as scene:
        scene.app.go("guided", pause=0.005)
        found = []
        for number in range(3):
            scene.litestream.kill()
            threading.Event().wait(0.5)
            scene.litestream.start()
            found.append(compared(scene.drill(f"d{number}")))
        scene.app.rest()
        never_different(found)
        until(lambda: compared(scene.drill()).result is EQUAL, within=20, say="green again")
