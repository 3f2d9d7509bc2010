"""Litestream 0.3.13, as many still run it: generations, snapshots and WAL segments, and the daemon's answer to each fault."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stage import Stage, pause, stage
from tests.litestreams import Writer, binary_of, free_port, rclone_s3, until

V3 = binary_of("0.3.13")
SEGMENT = re.compile(r"([0-9a-f]{8})_([0-9a-f]{8})\.wal\.lz4")
# 0.3 does everything by its own timers: one checkpoint a second in place of one a minute, so that its WAL index moves on.
BRISK = "    monitor-interval: 100ms\n    checkpoint-interval: 1s\n    min-checkpoint-page-count: 50\n"


@contextlib.contextmanager
def playing(folder: Path, *, addr: bool = True, replica: str | None = None) -> Iterator[Stage]:
    """An app with some rows, 0.3 that copies it, a daemon that says ready."""
    settings = f"addr: 127.0.0.1:{free_port()}\n" if addr else ""
    with stage(folder, executable=V3, settings=settings, db_settings=BRISK, replica=replica) as acting:
        acting.app.write(50)
        acting.litestream.start()
        acting.sidecar.start()
        acting.sidecar.until_ready()
        yield acting


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Stage]:
    with playing(tmp_path) as acting:
        yield acting


def generation(acting: Stage) -> Path:
    """The replica's folder of the generation that Litestream writes now."""
    name = (acting.app.path.parent / ".app.db-litestream" / "generation").read_text().strip()
    return acting.replica / "generations" / name


def segments(folder: Path) -> list[tuple[int, int, Path]]:
    """(index, offset, file) of a generation's WAL segments, in order."""
    found = []
    for file in (folder / "wal").glob("*.wal.lz4"):
        named = SEGMENT.fullmatch(file.name)
        if named is not None:
            found.append((int(named[1], 16), int(named[2], 16), file))
    return sorted(found)


def newest(folder: Path) -> tuple[int, int]:
    return max(((index, offset) for index, offset, _ in segments(folder)), default=(-1, 0))


def write_and_replicate(acting: Stage, times: int = 1) -> None:
    """So many commits, each in the replica before the next."""
    for _ in range(times):
        folder = generation(acting)
        before = newest(folder)
        acting.app.write(5)
        until(lambda folder=folder, before=before: newest(folder) > before)  # type: ignore[misc] # bound now


def cut(file: Path, size: int) -> None:
    """Shorten a file; its time stays, since 0.3 takes the generation with the newest file for the current one."""
    before = file.stat()
    os.truncate(file, size)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def until_at_rest(acting: Stage) -> None:
    """Wait until Litestream's own last commit, the one of its checkpoint, is in the replica too."""
    seen: list[tuple[int, int]] = []

    def still() -> bool:
        seen.append(newest(generation(acting)))
        return len(seen) > 15 and len(set(seen[-15:])) == 1

    until(still, every=0.1, say="nothing more comes to the replica")


def begin_another_generation(acting: Stage) -> Path:
    """As after a restart with a WAL that somebody else wrote and emptied: 0.3 cannot go on and begins anew."""
    old = generation(acting)
    acting.litestream.stop()
    acting.app.close()
    with contextlib.closing(sqlite3.connect(acting.app.path, isolation_level=None)) as other:
        other.execute("insert into t (v) values ('outside')")
        other.execute("pragma wal_checkpoint(truncate)")
    acting.app.open()
    acting.litestream.start()

    def begun() -> bool:
        with contextlib.suppress(FileNotFoundError):  # it clears the old one's name first
            return generation(acting) != old and any((generation(acting) / "snapshots").glob("*"))
        return False

    until(begun, say="a new generation's snapshot")
    return old


def test_idle_and_busy_it_stays_ready(running: Stage) -> None:
    assert running.sidecar.check("litestream")["status"] == "pass"
    with Writer(running.app):
        for _ in range(12):
            pause(0.3)
            assert running.sidecar.check("lag")["status"] == "pass"
    until(lambda: running.sidecar.ready(max_lag="2s").status_code == 200, say="what was just written is in the replica")
    for _ in range(12):
        pause(0.5)
        assert running.sidecar.ready().status_code == 200
    position = running.sidecar.until_ready()["databases"][0]["position"]
    assert position["live"] == position["replica"]
    assert re.fullmatch(r"[0-9a-f]{16}/[0-9a-f]{8}:[0-9]+", position["live"])


def test_killed_while_the_app_writes(running: Stage) -> None:
    running.litestream.kill()
    with Writer(running.app):
        assert running.sidecar.until_check("lag", "fail", "lagging")["observed"] > 4
        running.sidecar.until_check("litestream", "fail", "litestream_down")
    running.litestream.start()
    running.sidecar.until_ready()


def test_stopped_while_the_app_is_idle(running: Stage) -> None:
    until_at_rest(running)
    running.litestream.stop()
    running.sidecar.until_check("litestream", "fail", "litestream_down")
    for _ in range(12):
        pause(0.5)
        assert running.sidecar.check("lag")["status"] == "pass"


def test_without_metrics_it_cannot_be_asked(tmp_path: Path) -> None:
    with playing(tmp_path, addr=False) as acting:
        warned = acting.sidecar.check("litestream")
        assert (warned["status"], warned["reason"]) == ("warn", "no_socket")
        acting.litestream.kill()
        acting.app.write()
        acting.sidecar.until_check("lag", "fail", "lagging")


def test_the_replica_is_deleted_while_all_is_idle(running: Stage) -> None:
    until_at_rest(running)
    shutil.rmtree(running.replica)
    gone = running.sidecar.until_check("replica", "fail", "no_backup")
    assert "although it held one before" in gone["message"]
    assert running.sidecar.check("litestream")["status"] == "pass"
    running.app.write()  # 0.3 then goes on where it was: with segments that lead from nowhere
    running.sidecar.until_check("snapshot", "fail", "no_snapshot")
    running.sidecar.until_check("chain", "fail", "chain_gap")


def test_another_generation_begins_and_dead_ones_are_ignored(running: Stage) -> None:
    old = begin_another_generation(running)
    document = running.sidecar.until_ready()
    until(lambda: running.sidecar.check("chain")["message"].find(generation(running).name) > 0)
    (snapshot,) = (old / "snapshots").glob("*.snapshot.lz4")
    cut(snapshot, 100)
    for _, _, file in segments(old)[1:]:
        file.unlink()
    drill = running.sidecar.drill()
    assert (drill["outcome"], drill["position"].split("/")[0]) == ("passed", generation(running).name)
    document = running.sidecar.until_ready()
    assert document["databases"][0]["position"]["replica"].startswith(generation(running).name)


def test_segments_are_missing_in_the_middle(running: Stage) -> None:
    folder = generation(running)
    start = newest(folder)[0]
    while newest(folder)[0] < start + 3:
        write_and_replicate(running)
    running.sidecar.until_ready()
    first = next(file for index, offset, file in segments(folder) if index == start + 1 and offset == 0)
    kept = first.read_bytes()
    first.unlink()
    gap = running.sidecar.until_check("chain", "fail", "chain_gap")
    assert gap["hint"]
    first.write_bytes(kept)
    running.sidecar.until_check("chain", "pass")
    for index, _, file in segments(folder):
        if index == start + 1:
            file.unlink()
    gap = running.sidecar.until_check("chain", "fail", "chain_gap")
    assert f"{start + 1:08x}" in gap["message"]


def test_the_newest_segment_is_lost(running: Stage) -> None:
    write_and_replicate(running)
    until_at_rest(running)
    until(lambda: running.sidecar.ready(max_lag="2s").status_code == 200)
    segments(generation(running))[-1][2].unlink()
    running.sidecar.until_check("lag", "fail", "lagging")
    assert running.sidecar.drill()["outcome"] == "passed", "a restore says nothing about a lost end"


def test_all_segments_are_lost(running: Stage) -> None:
    until_at_rest(running)
    until(lambda: running.sidecar.ready(max_lag="2s").status_code == 200)
    shutil.rmtree(generation(running) / "wal")
    running.sidecar.until_check("lag", "fail", "lagging")


def test_the_snapshot_is_cut_short(running: Stage) -> None:
    (snapshot,) = (generation(running) / "snapshots").glob("*.snapshot.lz4")
    cut(snapshot, snapshot.stat().st_size - 200)
    drill = running.sidecar.drill()
    assert (drill["outcome"], drill["reason"]) == ("failed", "file_corrupt")
    failed = running.sidecar.until_check("drill", "fail", "file_corrupt")
    assert "new, empty path" in failed["hint"]
    running.move_replica()
    assert running.sidecar.until_ready()["databases"][0]["replica"]["label"].endswith("-anew")


def test_two_replicas_the_first_counts(tmp_path: Path) -> None:
    two = (
        f"{{name: one, path: {tmp_path / 'replica'}, sync-interval: 200ms}}, {{name: two, path: {tmp_path / 'second'}}}"
    )
    with playing(tmp_path, replica=two) as acting:
        assert acting.sidecar.until_ready()["databases"][0]["replica"]["label"] == f"file://{acting.replica}"
        shutil.rmtree(tmp_path / "second")
        pause(3)
        assert acting.sidecar.ready().status_code == 200
        shutil.rmtree(acting.replica)
        acting.sidecar.until_check("replica", "fail", "no_backup")


def test_on_an_object_store(tmp_path: Path) -> None:
    with rclone_s3(tmp_path / "s3") as store, playing(tmp_path / "stage", replica=store.replica()) as acting:
        for _ in range(10):
            pause(0.5)
            assert acting.sidecar.check("lag")["status"] == "pass"
        acting.sidecar.until_ready()
        store.stop()
        with Writer(acting.app, pause=0.2):
            acting.sidecar.until_check("replica", "fail", "unreachable")
            acting.sidecar.until_check("lag", "fail")
        store.start()
        acting.sidecar.until_ready(within=60)


def test_wrong_credentials_although_the_command_exits_0(tmp_path: Path) -> None:
    secret = "WRONGSECRETWRONG"
    with (
        rclone_s3(tmp_path / "s3") as store,
        stage(tmp_path / "stage", executable=V3, replica=store.replica(secret=secret)) as acting,
    ):
        acting.app.write()
        acting.litestream.start()
        acting.sidecar.start()
        acting.sidecar.until_check("replica", "fail", "auth")
        assert secret not in acting.sidecar.log + acting.sidecar.ready().text
