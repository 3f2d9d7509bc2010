"""A real daemon that keeps a restored copy and brings it forward: what it proves, what it leaves to a restore, and what a restore judges."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.stage import Stage, last_txid, newest_txid, pause, stage, tune, write_and_replicate
from tests.e2e.test_standing_proof import until_it_stands
from tests.faces.commands import run
from tests.litestreams import S3, rclone_s3, until

AT_REST = "levels: [{interval: 1h}]\nl0-retention: 1h"  # Litestream itself leaves the files as they are
EVERY = {"parity": "true", "drill_every": "2s", "drill_max_age": "20s", "drill_by_change_from": "4kB"}


@contextlib.contextmanager
def drilled_by_change(folder: Path, s3: S3 | None = None, **settings: str) -> Iterator[Stage]:
    """Everything runs; the first drill, and the audit, have restored the whole, and one by change has passed since."""
    replica, bucket = (s3.replica(), folder / "s3" / "bkt" / "app") if s3 is not None else (None, None)
    with stage(folder / "stage", replica=replica, bucket=bucket, settings=AT_REST) as acting:
        tune(acting, **(EVERY | settings))
        acting.app.write(500)
        acting.litestream.start()
        acting.sidecar.start()
        acting.sidecar.until_ready()
        until(lambda: len(kept(acting)) == 1, say="a copy is kept")
        until_by_change(acting)
        yield acting


def kept(acting: Stage) -> list[Path]:
    return list((acting.sidecar.state_dir / "scratch" / "kept").glob("*"))


def last(acting: Stage) -> dict[str, Any]:
    drill = acting.sidecar.ready().json()["databases"][0]["last_drill"]
    assert isinstance(drill, dict)
    return drill


def until_by_change(acting: Stage) -> dict[str, Any]:
    """Write until a drill by change has brought it home; that drill."""
    before = position(acting)
    acting.app.write()

    def made() -> dict[str, Any] | None:
        drill = last(acting)
        home = drill["position"] is not None and before < drill["position"] == position(acting)
        if home and not drill["by_change"]:  # a restore, which was due, has brought it
            acting.app.write()
        return drill if home and drill["by_change"] else None

    found = until(made, every=0.3, say="a drill by change of the newest position")
    assert found is not None
    return found


def position(acting: Stage) -> str:
    return str(acting.sidecar.ready().json()["databases"][0]["position"]["replica"])


def test_what_is_new_is_applied_checked_and_compared(tmp_path: Path) -> None:
    with drilled_by_change(tmp_path) as acting:
        sidecar = acting.sidecar
        restored = sidecar.metric("restored_timestamp_seconds", db="app")
        for drill in (until_by_change(acting) for _ in range(3)):
            assert (drill["outcome"], drill["check"], drill["restore_seconds"]) == ("passed", "quick", None)
            assert drill["apply_seconds"] is not None
            assert drill["parity"]["result"] == "equal"
            assert drill["parity"]["proven"] == drill["parity"]["pages"]
            assert "brought a kept copy forward to" in drill["message"]
            assert len(kept(acting)) == 1
        said = sidecar.check("drill")["message"]
        assert "restored and checked" in said
        assert "brought forward and checked" in said
        assert sidecar.metric("restored_timestamp_seconds", db="app") == restored, "the restore is as old as it was"
        assert (sidecar.metric("proof_timestamp_seconds", db="app") or 0) > (restored or 0)
        assert sidecar.metric("rto_seconds", db="app") is not None, "measured by the last restore"
        until(
            lambda: last(acting)["rows"] == acting.app.execute("select count(*) from t")[0][0], say="all rows are there"
        )
        assert "a kept copy was brought forward, nothing restored" in run("history", *sidecar.options).out
        assert "bring forward" in httpx.get(sidecar.url, headers={"Accept": "text/html"}).text
        # Whoever asks for a restore gets one, and so does the audit.
        asked = sidecar.ready(max_age="1s").json()["databases"][0]["checks"]
        assert [each["reason"] for each in asked if each["name"] == "drill"] == ["drill_old"]
        assert sidecar.drill()["by_change"] is False
        until_by_change(acting)
        tune(acting, audit_every="1s", **EVERY)
        until(
            lambda: last(acting)["check"] == "full" and not last(acting)["by_change"], say="an audit restores the whole"
        )
        # Kept for nobody, it goes.
        tune(acting, drill_every="2s", drill_max_age="20s")
        until(lambda: not kept(acting), say="the copy is removed")
        assert "restored" in last(acting)["message"]


def test_the_copy_outlives_the_daemon_and_whatever_ends_a_drill(tmp_path: Path) -> None:
    with drilled_by_change(tmp_path) as acting:
        before = kept(acting)[0].name
        acting.sidecar.stop(signal.SIGKILL)
        acting.sidecar.start()
        acting.sidecar.until_ready()
        until_by_change(acting)
        assert kept(acting)[0].name > before
        passed = acting.sidecar.metric("drills_total", db="app", outcome="passed")
        for _ in range(8):  # in the middle of what it does, sooner or later
            acting.app.write()
            pause(0.6)
            acting.sidecar.stop(signal.SIGKILL)
            acting.sidecar.start()
        acting.sidecar.until_ready()
        until_by_change(acting)
        assert passed is not None
        assert acting.sidecar.metric("drills_total", db="app", outcome="failed") in {None, 0}


def test_a_copy_that_is_not_what_it_was_raises_no_alarm(tmp_path: Path) -> None:
    """A byte of it changed; SQLite finds it sound. The comparison does not, and so the whole is restored, which is good."""
    with drilled_by_change(tmp_path) as acting:
        until_it_stands(acting)  # so that nothing is drilled meanwhile
        (copy,) = kept(acting)
        offset = copy.read_bytes().index(b"x" * 100)
        with copy.open("r+b") as file:
            file.seek(offset)
            file.write(b"X")
        before = last(acting)["id"]
        acting.app.write()
        drill = until(lambda: (found := last(acting))["id"] != before and found, say="the newest is proved")
        assert "a kept copy was not brought forward" in acting.sidecar.log
        assert "1 of" in acting.sidecar.log, "it says why"
        assert (drill["outcome"], drill["by_change"]) == ("passed", False)
        until_by_change(acting)
        assert acting.sidecar.metric("drills_total", db="app", outcome="failed") in {None, 0}


def test_damage_in_what_is_new_is_found_and_only_a_restore_clears_it(tmp_path: Path) -> None:
    with drilled_by_change(tmp_path, drill_every="6s") as acting:
        acting.app.write(200)
        before = acting.level(0)
        until(lambda: acting.level(0) != before, say="it is in the replica")
        newest = acting.level(0)[-1]
        whole = newest.read_bytes()
        broken = bytearray(whole)
        broken[len(broken) // 2] ^= 0x10
        newest.write_bytes(bytes(broken))
        found = acting.sidecar.until_check("drill", "fail", "file_corrupt")
        assert found["hint"]
        assert not last(acting)["by_change"], "a restore has said it"
        newest.write_bytes(whole)
        acting.sidecar.until_ready()
        assert not last(acting)["by_change"], "and a restore has cleared it"


def test_a_replica_begun_anew_is_restored(tmp_path: Path) -> None:
    with drilled_by_change(tmp_path) as acting:
        (old,) = kept(acting)
        acting.move_replica()
        acting.app.write()
        until(
            lambda: kept(acting) and kept(acting)[0].name[:16] != old.name[:16], within=40, say="another copy is kept"
        )
        acting.sidecar.until_ready(within=40)
        assert len(kept(acting)) == 1, "that of the old replica is gone"
        until_by_change(acting)


def test_a_replica_begun_anew_at_the_same_path_is_restored_though_nothing_is_compared(tmp_path: Path) -> None:
    """Its TXIDs have overtaken the copy before the next drill: each file fits, and is of another history."""
    with drilled_by_change(tmp_path, parity="false") as acting:
        acting.sidecar.stop()
        stood = last_txid(kept(acting)[0])
        acting.litestream.stop()
        shutil.rmtree(acting.replica)
        shutil.rmtree(acting.app.path.with_name(".app.db-litestream"))
        acting.app.execute("delete from t where id % 2 = 0")
        acting.litestream.start()
        while newest_txid(acting.replica) <= stood + 2:
            write_and_replicate(acting.app, acting.replica, 1)
        acting.sidecar.start()
        until(lambda: "the replica was begun anew since the copy was restored" in acting.sidecar.log, say="it is seen")
        acting.sidecar.until_ready()
        until(
            lambda: last(acting)["rows"] == acting.app.execute("select count(*) from t")[0][0],
            say="it is what there is",
        )
        until_by_change(acting)


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3]:
    with rclone_s3(tmp_path / "s3") as server:
        yield server


def test_from_a_bucket(tmp_path: Path, s3: S3) -> None:
    with drilled_by_change(tmp_path, s3) as acting:
        drill = until_by_change(acting)
        assert drill["parity"]["result"] == "equal"
        assert "AWS" not in acting.sidecar.log
        assert [each.name for each in (acting.sidecar.state_dir / "scratch").iterdir()] == ["kept"]
