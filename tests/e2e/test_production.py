"""What people do to production and its neighbours: rename it, set it back, switch WAL mode off, lose Litestream's folder, share its replica."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stage import Stage, newest_txid, pause, stage, tune, write_and_replicate
from tests.litestreams import App, Litestream, rows_in_replica, until


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Stage]:
    """An app with some rows, Litestream, and a daemon that drills and checks every few seconds."""
    with stage(tmp_path) as acting:
        tune(acting, drill_every="4s", drill_max_age="5m", database_check_every="4s")
        acting.app.write(50)
        acting.litestream.start()
        acting.sidecar.start()
        acting.sidecar.until_ready()
        yield acting


def meta(acting: Stage) -> Path:
    return acting.app.path.with_name(".app.db-litestream")


def test_two_writers_on_one_path_are_told_from_a_replica_that_is_ahead_once(running: Stage, tmp_path: Path) -> None:
    """Drills go on passing as long as ours writes last: what a restore brings is whole until it is not."""
    other = App(tmp_path / "other" / "app.db")
    other.write(400)
    yml = tmp_path / "second.yml"
    yml.write_text(
        f"dbs: [{{path: {other.path}, replica: {{type: file, path: {running.replica}, sync-interval: 200ms}}}}]\n"
    )
    second = Litestream(yml).start()
    try:

        def told(writer: App) -> str:
            """Of the lag, while one of them writes and the other rests; in step they would never overtake each other."""
            writer.write()
            lag = running.sidecar.check("lag")
            return f"{lag['reason']}: {lag['message']}"

        named = "another Litestream writes to the same path"
        until(lambda: "replica_ahead" in told(other), within=40, every=0.4, say="the other overtakes ours")
        until(
            lambda: "replica_ahead" not in (said := told(running.app)) or named in said,  # once named it stays so
            within=40, every=0.4, say="ours overtakes the other",
        )  # fmt: skip
        until(lambda: named in told(other), within=40, every=0.4, say="another writer is seen")
        said = running.sidecar.check("lag")
        assert (said["status"], said["reason"], said["retryable"]) == ("fail", "replica_ahead", False)
        assert "a path of its own" in said["hint"]
        for _ in range(8):
            pause(0.4)
            assert running.sidecar.ready().status_code == 503, "also while production is at the replica's position"
    finally:
        second.stop()
        other.close()
    running.move_replica()
    running.app.write()
    running.sidecar.until_ready(within=40)
    rows = running.app.execute("select count(*) from t")
    assert [(rows_in_replica(running.litestream.config, running.app.path),)] == rows


def test_production_comes_from_an_older_copy_of_its_disk(running: Stage, tmp_path: Path) -> None:
    running.litestream.stop()
    running.app.close()
    older = tmp_path / "older"
    shutil.copytree(running.app.path.parent, older, copy_function=shutil.copy2)
    running.litestream.start()
    running.app.open()
    write_and_replicate(running.app, running.replica, 3)
    running.litestream.stop()
    running.app.close()
    shutil.rmtree(running.app.path.parent)
    older.rename(running.app.path.parent)
    running.app.open()
    assert running.sidecar.until_check("lag", "fail", "replica_ahead")["hint"]
    running.sidecar.until_check("identity", "fail", "file_replaced")
    running.litestream.start()  # it goes on behind the replica's newest transaction, and what was set back stays lost
    running.app.write()
    running.sidecar.until_ready(within=40)


def test_litestreams_folder_is_removed_under_it(running: Stage) -> None:
    shutil.rmtree(meta(running))
    pause(2)
    assert running.sidecar.check("lag")["status"] == "pass", "nothing was committed since"
    running.app.write()
    stalled = running.sidecar.until_check("lag", "fail", "stalled")
    assert "cannot verify wal state" in stalled["message"]
    assert "restart Litestream" in stalled["hint"]
    running.litestream.stop()
    running.litestream.start()
    running.sidecar.until_ready(within=40)


def test_it_is_renamed_and_called_as_before_again(running: Stage) -> None:
    running.app.close()
    files = [each for each in running.app.path.parent.iterdir() if each.is_file()]
    for each in files:
        each.rename(each.with_name(f"moved-{each.name}"))
    missing = running.sidecar.until_check("database", "fail", "unreadable")
    assert "no database file" in missing["message"]
    for each in files:
        each.with_name(f"moved-{each.name}").rename(each)
    running.app.open()
    running.app.write()
    running.sidecar.until_ready(within=40)


def test_wal_mode_cannot_be_switched_off_beside_litestream_and_is_switched_on_again_after_it(running: Stage) -> None:
    running.app.close()
    with contextlib.closing(sqlite3.connect(running.app.path, isolation_level=None, timeout=0.5)) as app:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            app.execute("pragma journal_mode = delete")
        running.litestream.stop()
        assert (
            until(lambda: _without_wal(app), within=20, every=0.3, say="the sidecar's own reading is over") == "delete"
        )
        before = newest_txid(running.replica)
        app.execute("insert into t (v) values ('in no WAL')")
        running.sidecar.until_check("lag", "fail", "lagging")
    running.litestream.start()
    running.app.open()
    running.sidecar.until_ready(within=40)
    assert newest_txid(running.replica) > before


def _without_wal(app: sqlite3.Connection) -> str | None:
    try:
        return str(app.execute("pragma journal_mode = delete").fetchone()[0])
    except sqlite3.OperationalError:  # whoever reads at this moment holds it up, us included
        return None


def commits(acting: Stage, times: int) -> None:
    for _ in range(times):
        acting.app.write(text="x" * 200)


def test_a_restart_of_litestream_is_followed_by_a_comparison_and_what_it_lost_is_found(tmp_path: Path) -> None:
    """The next drill in turn is hours away; until one has compared, nobody is told that all is well."""
    with stage(tmp_path) as acting:
        tune(acting, drill_every="6h", drill_max_age="26h", parity_every="7d")
        sidecar = acting.sidecar
        commits(acting, 100)
        acting.litestream.start()
        sidecar.start()
        sidecar.until_ready()

        acting.litestream.stop()
        acting.litestream.start()
        said = sidecar.until_check("parity", "unknown", "not_compared")
        assert "Litestream was started again" in said["message"]
        assert sidecar.ready().status_code == 503
        sidecar.until_ready(within=40)

        acting.synced()
        acting.litestream.stop()
        commits(acting, 100)
        acting.app.execute("pragma wal_checkpoint(passive)")
        commits(acting, 20)
        acting.litestream.start()
        commits(acting, 20)
        said = sidecar.until_check("parity", "fail", "pages_differ", within=40)
        assert (said["retryable"], sidecar.check("drill")["reason"]) == (False, "pages_differ")
        restored = rows_in_replica(acting.litestream.config, acting.app.path)
        assert restored < 240 == acting.app.execute("select count(*) from t")[0][0], (
            "Litestream restores it, without a word"
        )
        acting.move_replica()
        sidecar.until_ready(within=60)
