"""Drills with real processes: every kind of damage, what kept a drill from finding out, and what a dying daemon leaves behind."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.stage import Sidecar, Stage, newest_txid, pause, stage, tune
from tests.litestreams import ROOT, S3, App, Litestream, environment, rclone_s3, until

LARGE_BYTES = 48_000_000  # more than the sockets between the store and a restore hold


@contextlib.contextmanager
def playing(folder: Path, *, rows: int = 50, replica: str | None = None, **settings: str) -> Iterator[Stage]:
    """An app with some rows, Litestream 0.5, a daemon that says ready. `settings` replace lines of the policy."""
    with stage(folder, replica=replica) as acting:
        tune(acting, **settings)
        acting.app.write(rows)
        acting.litestream.start()
        acting.sidecar.start()
        acting.sidecar.until_ready()
        yield acting


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Stage]:
    with playing(tmp_path) as acting:
        yield acting


def scratch_rooms(sidecar: Sidecar) -> list[Path]:
    folder = sidecar.state_dir / "scratch"
    return sorted(folder.iterdir()) if folder.exists() else []


def restores(sidecar: Sidecar) -> list[int]:
    """Processes that work inside the scratch directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str((entry / "cwd").readlink()).startswith(str(sidecar.state_dir / "scratch")):
                found.append(int(entry.name))
    return found


# What damage looks like


def test_damaged_files_of_the_replica(running: Stage) -> None:
    snapshot = until(lambda: running.level(9), say="the first snapshot")[0]
    sound = snapshot.read_bytes()
    middle = len(sound) // 2
    damages = {
        "one bit": sound[:middle] + bytes([sound[middle] ^ 1]) + sound[middle + 1 :],
        "cut short": sound[:middle],
        "empty": b"",
    }
    for what, damaged in damages.items():
        snapshot.write_bytes(damaged)
        drill = running.sidecar.drill()
        assert (drill["outcome"], drill["reason"]) == ("failed", "file_corrupt"), (what, drill)
        failed = running.sidecar.check("drill")
        assert (failed["status"], failed["reason"], failed["retryable"]) == ("fail", "file_corrupt", False)
        assert "new, empty path" in failed["hint"]
    running.move_replica()
    healed = running.sidecar.until_ready()["databases"][0]
    assert healed["replica"]["label"].endswith("-anew")
    assert healed["last_drill"]["outcome"] == "passed", "what was proved of the old path counts for nothing"


def test_production_is_damaged_and_so_is_its_copy(tmp_path: Path) -> None:
    with playing(tmp_path, rows=2000, database_check_every="2s") as acting:
        before = newest_txid(acting.replica)
        acting.litestream.stop()
        acting.app.close()
        with contextlib.closing(sqlite3.connect(acting.app.path)) as closing:
            closing.execute("pragma wal_checkpoint(truncate)")
        with acting.app.path.open("r+b") as file:
            file.seek(20 * 4096)
            file.write(bytes(4096))
        acting.litestream.start()
        acting.app.open()
        acting.app.execute("update t set v = 'last' where id = 2000")
        damaged = acting.sidecar.until_check("database", "fail", "db_corrupt")
        assert damaged["hint"]
        until(lambda: newest_txid(acting.replica) > before)
        until(lambda: acting.sidecar.drill()["reason"] == "db_corrupt")
        assert acting.sidecar.until_check("drill", "fail", "db_corrupt")["retryable"] is False


def test_an_index_that_lacks_rows(running: Stage) -> None:
    damage_index(running.app, "insert into t (v) values ('of no index')")
    running.synced()
    drill = running.sidecar.drill()
    assert (drill["outcome"], drill["reason"]) == ("failed", "db_corrupt")
    assert "t_v" in drill["message"]


def test_an_index_that_only_integrity_check_sees_through(running: Stage) -> None:
    assert running.sidecar.drill()["check"] == "full", "after the first, quick proof comes the audit"
    damage_index(running.app, "update t set v = 'of no index' where id = 5")
    running.synced()
    quick = running.sidecar.drill()
    assert (quick["check"], quick["outcome"]) == ("quick", "passed"), "this is why there are audits"
    tune(running, audit_every="1s")
    pause(2)
    audit = running.sidecar.drill()
    assert (audit["check"], audit["outcome"], audit["reason"]) == ("full", "failed", "db_corrupt")
    tune(running)
    pause(2)
    again = running.sidecar.drill()
    assert (again["check"], again["outcome"]) == ("full", "failed"), "only integrity_check can clear what it found"
    running.app.execute("reindex")
    running.synced()
    assert running.sidecar.drill()["outcome"] == "passed"
    running.sidecar.until_ready()


def damage_index(app: App, sql: str) -> None:
    """Run SQL behind the back of an index."""
    app.execute("create index t_v on t (v)")
    ((kind, name, table, root, text),) = app.execute("select * from sqlite_schema where name = 't_v'")
    app.execute("pragma writable_schema=on")
    app.execute("delete from sqlite_schema where name = 't_v'")
    app.close()
    app.open()
    app.execute(sql)
    app.execute("pragma writable_schema=on")
    app.connection.execute("insert into sqlite_schema values (?, ?, ?, ?, ?)", (kind, name, table, root, text))
    app.close()
    app.open()


def test_an_assertion_that_does_not_hold(tmp_path: Path) -> None:
    assertions = "  assertions: [{name: has-rows, sql: 'select count(*) from t', min: 40}]"
    with playing(tmp_path, more=assertions) as acting:
        acting.app.execute("delete from t where id > 30")
        acting.synced()
        drill = acting.sidecar.drill()
        assert (drill["outcome"], drill["reason"]) == ("failed", "assertion_failed")
        assert "has-rows: observed 30, must be at least 40" in drill["message"]
        acting.app.write(20)
        acting.synced()
        assert acting.sidecar.drill()["outcome"] == "passed"
        acting.sidecar.until_ready()


def test_another_apps_backup_at_the_replicas_path(running: Stage, tmp_path: Path) -> None:
    other = App(tmp_path / "other" / "other.db")
    other.execute("create table invoices (id integer primary key)")
    other.execute("drop table t")
    config = tmp_path / "other" / "litestream.yml"
    config.write_text(f"dbs: [{{path: {other.path}, replica: {{type: file, path: {tmp_path / 'theirs'}}}}}]")
    litestream = Litestream(config).start()
    until(lambda: list((tmp_path / "theirs" / "ltx" / "9").glob("*")))
    litestream.stop()
    other.close()
    running.litestream.stop()
    shutil.rmtree(running.replica)
    (tmp_path / "theirs").rename(running.replica)
    running.sidecar.drill()
    changed = running.sidecar.until_check("identity", "fail", "identity_changed")
    assert "invoices" in changed["message"]


# Is it still the same database, and at the same schema?


def test_migrated_then_shrunk_then_emptied(running: Stage) -> None:
    first = running.sidecar.until_ready()["databases"][0]["last_drill"]["id"]
    running.litestream.stop()  # or the next drill brings the new schema before anybody has asked
    running.app.execute("pragma user_version=7")
    running.app.execute("alter table t add column added text")
    differs = running.sidecar.until_check("schema", "fail", "version_differs")
    assert differs["retryable"]
    running.litestream.start()
    migrated = running.sidecar.until_ready(within=30)["databases"][0]
    assert migrated["last_drill"]["id"] != first, "a new drill has come by itself"
    assert migrated["schema_version"] == {"source": "user_version", "value": "7"}
    running.app.execute("delete from t where id > 10")
    running.synced()
    assert running.sidecar.drill()["outcome"] == "passed"
    assert running.sidecar.until_check("identity", "fail", "shrunk")["observed"] > 0.5
    running.app.execute("drop table t")
    running.sidecar.until_check("identity", "fail", "empty")


# What keeps a drill from finding out


@pytest.fixture
def store(tmp_path: Path) -> Iterator[S3]:
    with rclone_s3(tmp_path / "s3") as server:
        yield server


@contextlib.contextmanager
def large_on_s3(folder: Path, store: S3, **settings: str) -> Iterator[Stage]:
    """A database that takes a moment to restore, in an object store that a test can stop in the middle."""
    with stage(folder, replica=store.replica()) as acting:
        tune(acting, **settings)
        acting.app.connection.execute("insert into t (v) values (randomblob(?))", (LARGE_BYTES,))
        acting.litestream.start()
        acting.sidecar.start()
        acting.sidecar.until_ready(within=40)
        acting.sidecar.until_no_drill()
        yield acting


def hang_in_a_restore(acting: Stage, store: S3) -> str:
    """Ask for a drill and pause the store while its bytes flow; where the drill can be followed."""
    location = str(acting.sidecar.post_drill().headers["location"])
    scratch = acting.sidecar.state_dir / "scratch"
    until(lambda: any(file.stat().st_size for file in scratch.glob("*/*.tmp")), every=0.002, say="bytes arrive")
    store.pause()
    assert restores(acting.sidecar)
    return location


def test_a_store_that_falls_silent_in_the_middle_of_a_restore(tmp_path: Path, store: S3) -> None:
    with large_on_s3(tmp_path / "stage", store, drill_timeout="10s") as acting:
        sidecar = acting.sidecar
        location = hang_in_a_restore(acting, store)
        state = httpx.get(f"{sidecar.url}{location}", timeout=5).json()
        assert (state["db"], state["state"]) == ("app", "running")
        assert sidecar.post_drill().headers["location"] == location, "one drill of a database at a time"
        assert sidecar.metric("drills_running") == 1
        waits = []
        while httpx.get(f"{sidecar.url}{location}", timeout=5).json()["state"] == "running":
            waits.append(sidecar.ready().elapsed.total_seconds())
            pause(0.1)
        assert max(waits) < 0.5
        assert sorted(waits)[len(waits) // 2] < 0.05
        drill = sidecar.ended(location)
        assert (drill["outcome"], drill["reason"]) == ("inconclusive", "timeout")
        assert sidecar.check("drill")["status"] == "pass", "the proof before it still holds"
        until(lambda: not scratch_rooms(sidecar) and not restores(sidecar), say="scratch is empty")
        store.resume()
        assert sidecar.drill(within=30)["outcome"] == "passed"
        sidecar.until_ready(within=40)


def test_told_to_stop_in_the_middle_of_a_restore_and_started_again(tmp_path: Path, store: S3) -> None:
    with large_on_s3(tmp_path / "stage", store) as acting:
        sidecar = acting.sidecar
        proof = sidecar.until_ready()["databases"][0]["last_drill"]["id"]
        hang_in_a_restore(acting, store)
        children = restores(sidecar)
        assert sidecar.stop(within=10) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in children)
        assert not scratch_rooms(sidecar)
        store.resume()
        sidecar.start()
        sidecar.until_ready(within=10)
        drills = httpx.get(f"{sidecar.url}/databases/app", timeout=5).json()["drills"]
        assert [each["outcome"] for each in drills if each["id"] == proof] == ["passed"]
        assert drills[0]["outcome"] in {"aborted", "passed"}
        assert "aborted" in {each["outcome"] for each in drills[:2]}


def test_killed_in_the_middle_of_a_restore(tmp_path: Path, store: S3) -> None:
    with large_on_s3(tmp_path / "stage", store) as acting:
        sidecar = acting.sidecar
        location = hang_in_a_restore(acting, store)
        orphans = restores(sidecar)
        sidecar.stop(signal.SIGKILL)
        assert scratch_rooms(sidecar)
        assert restores(sidecar) == orphans, "a restore outlives a killed daemon"
        sidecar.start()  # while the store hangs: what is known from before must neither redden nor whiten
        until(lambda: not restores(sidecar), say="the orphan is gone")
        assert sidecar.check("drill")["status"] == "pass"
        sidecar.until_check("replica", "fail", "timeout")
        assert sidecar.ready().status_code == 503
        lost = sidecar.ended(location)
        assert (lost["outcome"], lost["reason"]) == ("aborted", "aborted")
        store.resume()
        sidecar.until_ready(within=40)
        sidecar.until_no_drill()
        assert not scratch_rooms(sidecar)


def test_too_little_scratch(tmp_path: Path) -> None:
    with playing(tmp_path) as acting:
        tiny = tmp_path / "tiny"
        tiny.mkdir(mode=0o700)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", str(tiny)], check=False)
        acting.sidecar.stop()
        # Where this machine does not let us mount, the sidecar's own limit stands for the small disk.
        rest = "resources: {scratch-max: 2MB}" if mounted.returncode else f"scratch-dir: {tiny}"
        tune(acting, rest=rest)
        acting.sidecar.start()
        try:
            drill = acting.sidecar.drill()
            assert (drill["outcome"], drill["reason"]) == ("inconclusive", "scratch_full")
            low = acting.sidecar.until_check("scratch", "warn", "scratch_low")
            assert low["observed"] < low["limit"]
            assert acting.sidecar.check("drill")["status"] == "pass"
            assert not [each for each in tiny.iterdir() if each.name.startswith("room-")]
        finally:
            acting.sidecar.stop()
            if not mounted.returncode:
                subprocess.run(["umount", str(tiny)], check=True)


# The daemon's memory


def test_evidence_outlives_a_restart_and_damage_to_it_is_said(running: Stage) -> None:
    sidecar = running.sidecar
    sidecar.until_no_drill()
    before = sidecar.until_ready()["databases"][0]["last_drill"]
    second = subprocess.run(
        [sys.executable, "-m", "sidecar", "run", *sidecar.options, "--listen", "127.0.0.1:0"],
        capture_output=True, text=True, timeout=20, cwd=ROOT, env=environment(), check=False,
    )  # fmt: skip
    assert second.returncode == 2
    assert second.stderr.startswith(f"error: another daemon (pid {sidecar.pid}) already uses the state directory")
    assert len(second.stderr.splitlines()) == 2, "a sentence, and what to do"
    assert sidecar.stop() == 0
    sidecar.start()
    again = sidecar.until_ready(within=5)["databases"][0]["last_drill"]
    assert again == before, "proof is not thrown away with the process"
    sidecar.stop(signal.SIGKILL)
    sidecar.start()
    assert sidecar.until_ready(within=5)["databases"][0]["last_drill"] == before
    sidecar.stop()
    evidence = sidecar.state_dir / "evidence.db"
    evidence.write_bytes(b"not a database" * 1000)
    sidecar.start()
    fresh = sidecar.until_ready()["databases"][0]["last_drill"]
    assert fresh["id"] != before["id"], "without evidence there is proof only after a new drill"
    assert "moved" in sidecar.log
    assert list(sidecar.state_dir.glob("evidence.db.*"))
