"""The situations of a backup's life, each made for real with Litestream 0.5, and the daemon's answer to each."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stage import Stage, last_txid, lose_past, newest_txid, pause, stage, write_and_replicate
from tests.litestreams import S3, Writer, rclone_s3, until


@pytest.fixture
def store(tmp_path: Path) -> Iterator[S3]:
    with rclone_s3(tmp_path / "s3") as server:
        yield server


def begun(acting: Stage) -> Stage:
    acting.app.write(50)
    acting.litestream.start()
    acting.sidecar.start()
    acting.sidecar.until_ready()
    return acting


@pytest.fixture
def on_s3(tmp_path: Path, store: S3) -> Iterator[Stage]:
    bucket = store.folder / "bkt" / "app"
    # Litestream's checkpoint is a commit of its own: none may fall into a fault that an idle database is to sit out.
    rare = "    checkpoint-interval: 1h\n"
    with stage(tmp_path / "stage", replica=store.replica(), bucket=bucket, db_settings=rare) as acting:
        yield begun(acting)


@pytest.fixture(params=["file", "s3"])
def running(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """An app with some rows, replicated to a folder or to an object store, and a daemon that says ready."""
    if request.param == "s3":
        yield request.getfixturevalue("on_s3")
        return
    with stage(tmp_path) as acting:
        yield begun(acting)


def deleted(acting: Stage) -> dict[str, Any]:
    """Delete the replica until the daemon says so: what a compaction or a checkpoint still writes is deleted too."""

    def gone() -> bool:
        shutil.rmtree(acting.replica, ignore_errors=True)
        return bool(acting.sidecar.check("replica")["reason"] == "no_backup")

    until(gone, within=40, every=0.5, say="no_backup")
    return acting.sidecar.check("replica")


def test_an_idle_database_stays_ready_however_old_its_files_are(running: Stage) -> None:
    before = running.sidecar.check("lag")
    until(lambda: running.sidecar.ready(max_lag="2s").status_code == 200, say="idle is current, not stale")
    until(lambda: running.sidecar.check("lag")["observed"] < 8, within=10)
    document = running.sidecar.until_ready()
    assert before["status"] == "pass"
    assert document["databases"][0]["position"]["live"] == document["databases"][0]["position"]["replica"]


def test_a_writing_app_whose_litestream_keeps_up_stays_ready(running: Stage) -> None:
    with Writer(running.app) as writer:
        for _ in range(20):
            pause(0.3)
            assert running.sidecar.check("lag")["status"] == "pass"
            seen = writer.commits
            until(lambda seen=seen: writer.commits > seen)  # type: ignore[misc] # bound now
    running.sidecar.until_ready()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_litestream_ends_while_the_app_writes(running: Stage, how: str) -> None:
    getattr(running.litestream, how)()
    with Writer(running.app):
        assert running.sidecar.until_check("lag", "fail", "lagging")["observed"] > 4
        running.sidecar.until_check("litestream", "fail", "litestream_down")
    running.litestream.start()
    running.sidecar.until_ready()


def test_litestream_ends_while_the_app_is_idle(running: Stage) -> None:
    running.litestream.stop()
    running.sidecar.until_check("litestream", "fail", "litestream_down")
    for _ in range(12):
        pause(0.5)
        assert running.sidecar.check("lag")["status"] == "pass"


def test_the_replica_is_deleted_while_all_is_idle(running: Stage) -> None:
    gone = deleted(running)
    assert "although it held one before" in gone["message"]
    assert running.sidecar.check("litestream")["status"] == "pass"
    assert running.sidecar.ready().headers.get("retry-after") is None


def test_the_newest_files_are_lost_from_the_replica(running: Stage) -> None:
    write_and_replicate(running.app, running.replica, 4)
    running.sidecar.until_ready()
    lose_past(running.replica, newest_txid(running.replica) - 2)
    running.sidecar.until_check("lag", "fail", "lagging")


def test_a_file_is_missing_in_the_middle(running: Stage) -> None:
    before = newest_txid(running.replica)
    write_and_replicate(running.app, running.replica, 5)
    running.sidecar.until_ready()
    for file in running.replica.rglob("*.ltx"):  # on every level: a compaction may have copied it meanwhile
        if before + 2 <= last_txid(file) <= before + 3:
            file.unlink()
    assert "new, empty path" in running.sidecar.until_check("chain", "fail", "chain_gap")["hint"]
    running.move_replica()
    running.sidecar.until_ready()


def test_the_database_file_is_replaced_under_a_running_litestream(running: Stage, tmp_path: Path) -> None:
    running.app.close()
    other = sqlite3.connect(tmp_path / "new.db", isolation_level=None)
    other.execute("create table t (id integer primary key, v text)")
    other.close()
    path = running.app.path
    for tail in ("-wal", "-shm"):
        path.with_name(path.name + tail).unlink(missing_ok=True)
    (tmp_path / "new.db").rename(path)
    running.app.open()
    running.app.write()
    running.sidecar.until_check("identity", "fail", "file_replaced")
    for _ in range(8):  # Litestream joins the new file's WAL to the old file it has open: all seems covered, and is not
        running.app.write()
        pause(0.5)
        assert running.sidecar.check("identity")["reason"] == "file_replaced"
    running.litestream.stop()
    running.litestream.start()
    until(lambda: running.sidecar.check("identity")["reason"] != "file_replaced", within=20)


def test_the_replica_is_ahead_of_production(running: Stage) -> None:
    write_and_replicate(running.app, running.replica, 3)
    running.sidecar.until_ready()
    running.litestream.stop()
    local = sorted((running.app.path.parent / ".app.db-litestream" / "ltx" / "0").glob("*.ltx"))
    for file in local[-2:]:  # as after restoring production's folder from an older copy of the disk
        file.unlink()
    running.sidecar.until_check("lag", "fail", "replica_ahead")


def test_no_control_socket(tmp_path: Path) -> None:
    with stage(tmp_path, socket=False) as acting:
        acting.app.write(50)
        acting.litestream.start()
        acting.sidecar.start()
        acting.sidecar.until_ready()
        warned = acting.sidecar.check("litestream")
        assert (warned["status"], warned["reason"]) == ("warn", "no_socket")
        acting.litestream.kill()
        acting.app.write()
        acting.sidecar.until_check("lag", "fail", "lagging")


@pytest.mark.parametrize(("fault", "reason"), [("stop", "unreachable"), ("pause", "timeout")])
def test_the_store_is_gone_while_the_app_is_idle(on_s3: Stage, store: S3, fault: str, reason: str) -> None:
    until(lambda: on_s3.sidecar.check("lag")["observed"] == 0, within=15, say="everything is in the replica")
    getattr(store, fault)()
    on_s3.sidecar.until_check("replica", "fail", reason)
    assert on_s3.sidecar.check("lag")["status"] == "pass"
    store.start() if fault == "stop" else store.resume()
    on_s3.sidecar.until_check("replica", "pass", within=30)
    on_s3.sidecar.until_ready()


@pytest.mark.parametrize(("fault", "reason"), [("stop", "unreachable"), ("pause", "timeout")])
def test_the_store_is_gone_while_the_app_writes(on_s3: Stage, store: S3, fault: str, reason: str) -> None:
    getattr(store, fault)()
    with Writer(on_s3.app, pause=0.2):
        on_s3.sidecar.until_check("replica", "fail", reason)
        on_s3.sidecar.until_check("lag", "fail")
    store.start() if fault == "stop" else store.resume()
    on_s3.sidecar.until_ready(within=60)


def test_wrong_credentials(tmp_path: Path, store: S3) -> None:
    with stage(tmp_path / "stage", replica=store.replica(secret="WRONGSECRETWRONG")) as acting:
        acting.app.write()
        acting.litestream.start()
        acting.sidecar.start()
        acting.sidecar.until_check("replica", "fail", "auth")
        assert "WRONGSECRETWRONG" not in acting.sidecar.log + acting.sidecar.ready().text
