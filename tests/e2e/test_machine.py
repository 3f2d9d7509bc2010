"""The machine fails: disks, memory, descriptors, mounts, users. Each fault made for real, under a running daemon.

None of them may be taken for a damaged backup, none may make a stale one look fresh, and when it is gone all is well again by itself.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.e2e.machine import (
    OPENING_A_CHILD,
    Ext4,
    Gate,
    command,
    cpu_s,
    few_descriptors,
    filled,
    little_memory,
    tmpfs,
)
from tests.e2e.stage import Sidecar, Stage, pause, stage, tune
from tests.litestreams import binary, until

DATABASE_BYTES = 12_000_000
STRANGER = 2002


@dataclass
class Machine:
    """A stage whose scratch and state lie on small disks of their own, and whose restores a test may stop at the door."""

    acting: Stage
    gate: Gate
    scratch: Path

    @property
    def sidecar(self) -> Sidecar:
        return self.acting.sidecar

    @property
    def rooms(self) -> list[Path]:
        return list(self.scratch.glob("room-*"))

    def well_again(self) -> None:
        """Green, a drill passes, and nothing of the ones before is left."""
        assert self.sidecar.drill()["outcome"] == "passed"
        self.sidecar.until_ready()
        until(lambda: not self.rooms, say="scratch is empty")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("machine")
    gate = Gate(folder)
    with (
        tmpfs(folder / "scratch", "64m") as scratch,
        tmpfs(folder / "state", "8m"),
        stage(folder, executable=str(gate.executable), rest=f"scratch-dir: {scratch}") as acting,
    ):
        acting.app.connection.execute("insert into t (v) values (randomblob(?))", (DATABASE_BYTES,))
        acting.litestream.start()
        acting.sidecar.start()
        yield Machine(acting, gate, scratch)
        assert acting.sidecar.stop() == 0


@pytest.fixture
def well(machine: Machine) -> Machine:
    machine.sidecar.until_ready()
    machine.sidecar.until_no_drill()
    return machine


# Room


def test_scratch_fills_in_the_middle_of_a_restore(well: Machine) -> None:
    with ExitStack() as fault:
        with well.gate.shut(well.sidecar, well.scratch) as location:
            fault.enter_context(filled(well.scratch))  # when its room had been found to be sufficient
        drill = well.sidecar.ended(location)
        assert (drill["outcome"], drill["reason"]) == ("inconclusive", "scratch_full")
        assert "no space left on device" in drill["message"]
        assert "move scratch-dir" in drill["hint"]
        assert well.sidecar.check("drill")["status"] == "pass", "the proof before it still stands"
        assert not well.rooms
        low = well.sidecar.until_check("scratch", "warn", "scratch_low")
        assert low["observed"] < DATABASE_BYTES
        told = command(well.sidecar, "verify", "app")
        assert told.returncode == 3
        assert "scratch_full" in told.stdout
    well.well_again()


def test_the_state_directory_is_full(well: Machine) -> None:
    sidecar = well.sidecar
    with filled(sidecar.state_dir):
        drill = sidecar.drill()
        assert drill["outcome"] == "passed"
        until(lambda: "there is no room left in the state directory" in sidecar.log, say="the log says so")
        until(lambda: sidecar.metric("evidence_write_successful") == 0, say="the metric says so")
        told = command(sidecar, "doctor")
        assert told.returncode == 2
        assert "there is no room in the state directory" in told.stdout
        for _ in range(10):
            known = sidecar.until_ready()["databases"][0]["last_drill"]
            assert known["id"] == drill["id"], "evidence is kept in memory"
            pause(0.2)
    until(lambda: drill["id"] in command(sidecar, "history", "--json").stdout, say="it is on disk")
    until(lambda: sidecar.metric("evidence_write_successful") == 1, say="the metric says so")
    well.well_again()


def test_the_state_directory_turns_read_only(tmp_path: Path) -> None:
    """As a file system does whose disk fails: nothing can be written until it has been repaired, without the daemon."""
    with stage(tmp_path) as acting:
        tune(acting, rest=f"scratch-dir: {tmp_path / 'scratch'}")
        sidecar, disk = acting.sidecar, Ext4(tmp_path / "disk.img", acting.sidecar.state_dir)
        disk.mount()
        try:
            acting.app.write(50)
            acting.litestream.start()
            sidecar.start()
            sidecar.until_ready()
            kept = sidecar.drill()
            disk.abort()
            lost = sidecar.drill()
            assert lost["outcome"] == "passed"
            until(lambda: "evidence cannot be written" in sidecar.log, say="the log says so")
            assert "evidence is kept in memory until it can be written" in sidecar.log
            assert sidecar.until_ready()["databases"][0]["last_drill"]["id"] == lost["id"]
            assert sidecar.stop() == 0
        finally:
            if sidecar.process is not None:
                sidecar.stop(signal.SIGKILL)
            disk.unmount()
        disk.mount()
        try:
            sidecar.start()
            known = sidecar.until_ready()["databases"][0]["last_drill"]
            assert known["id"] == kept["id"], "what was on disk before is whole"
            fresh = sidecar.drill()
            assert fresh["id"] in command(sidecar, "history", "--json").stdout
            assert sidecar.stop() == 0
        finally:
            if sidecar.process is not None:
                sidecar.stop(signal.SIGKILL)
            disk.unmount()


# Memory


@pytest.mark.parametrize("how", ["killed by the kernel", "gives up by itself"])
def test_a_restore_without_memory(well: Machine, how: str) -> None:
    with little_memory() as limited:
        script, said = (
            (limited, "ended by signal 9")
            if how == "killed by the kernel"
            else ("ulimit -v 500000", "ran out of memory")
        )
        with well.gate.before(script):
            drill = well.sidecar.drill()
            assert (drill["outcome"], drill["reason"]) == ("inconclusive", "restore_failed"), drill
            assert said in drill["message"]
            assert "memory" in drill["hint"]
            assert well.sidecar.check("drill")["status"] == "pass"
            told = command(well.sidecar, "verify", "app")
            assert told.returncode == 3, told.stdout
            assert said in told.stdout
    well.well_again()


# Descriptors


def test_few_descriptors_are_left(well: Machine) -> None:
    sidecar = well.sidecar
    newest = well.acting.level(0)[-1]
    stray = newest.with_name(f"{9:016x}-{9:016x}.ltx")
    with few_descriptors(sidecar.pid, OPENING_A_CHILD // 2):
        drill = sidecar.drill()
        assert (drill["outcome"], drill["reason"]) == ("inconclusive", "restore_failed")
        assert "Too many open files" in drill["message"]
        assert "ulimit -n" in drill["hint"]
        pause(3)
        assert sidecar.check("replica")["status"] == "pass", "its folder is read without a process"
        stray.symlink_to("/dev/null")  # which Litestream has to be asked about
        unseen = sidecar.until_check("replica", "fail", "unreachable")
        assert "Too many open files" in unseen["message"]
        assert "ulimit -n" in unseen["hint"]
        assert not sidecar.ready().json()["ready"]
    stray.unlink()
    well.well_again()


def test_no_descriptor_is_left(well: Machine) -> None:
    """In the middle of a restore, so that even its room cannot be removed."""
    sidecar = well.sidecar
    with ExitStack() as fault:
        with well.gate.shut(sidecar, well.scratch) as location:
            fault.enter_context(few_descriptors(sidecar.pid, 0))
            logged = len(sidecar.log)
        began_s = cpu_s(sidecar.pid)
        with ThreadPoolExecutor(8) as callers:
            answers = list(callers.map(lambda _: asked(sidecar), range(8)))
        pause(1)
        assert set(answers) == {None}, "nothing can be accepted, so nobody is told that all is well"
        assert cpu_s(sidecar.pid) - began_s < 1.5, "of three seconds"
        assert len(sidecar.log) - logged < 20_000, "what cannot be done is not said 256 times a second"
        assert "Too many open files" in sidecar.log[logged:]
    until(sidecar.alive, say="/livez answers")
    drill = sidecar.ended(location)
    assert (drill["outcome"], drill["reason"]) == ("inconclusive", "restore_failed")
    assert "Too many open files" in drill["message"]
    assert "ulimit -n" in drill["hint"]
    well.well_again()


def asked(sidecar: Sidecar) -> int | None:
    try:
        return httpx.get(f"{sidecar.url}/ready", timeout=2).status_code
    except httpx.TransportError:
        return None


# Mounts and users


def test_the_databases_folder_on_a_read_only_mount(tmp_path: Path) -> None:
    with stage(tmp_path) as acting:
        tune(acting, database_check_every="2s")
        app, sidecar, data = acting.app, acting.sidecar, acting.app.path.parent
        script = f'mount --bind {data} {data} && mount -o remount,bind,ro {data} && exec "$@"'
        sidecar.program = ("unshare", "--mount", "sh", "-c", script, "sh", *sidecar.program)
        app.write(50)
        acting.litestream.start()
        until(lambda: acting.level(9), say="the first snapshot")
        acting.litestream.stop()
        app.close()
        sidecar.start()  # nobody has the database open, and here it cannot be opened then
        closed = sidecar.until_check("database", "unknown", "unreadable")
        assert "cannot be opened" in closed["message"]
        assert "start the app" in closed["hint"]
        assert sidecar.drill()["outcome"] == "passed", "the backup is sound all the same"
        assert sidecar.check("parity")["reason"] == "not_compared"
        app.open()
        app.write()
        acting.litestream.start()
        sidecar.until_ready()
        acting.litestream.stop()
        app.close()
        old = sidecar.until_check("database", "fail", "check_old")
        assert "cannot be opened" in old["message"]
        assert "db_corrupt" not in sidecar.ready().text
        app.open()
        acting.litestream.start()
        sidecar.until_ready()


# Modules are imported before the uid changes, since the interpreter may lie where only root can read.
AS_STRANGER = f"""
import os, sys, encodings.idna, uvicorn.lifespan.off, uvicorn.loops.asyncio, uvicorn.protocols.http.h11_impl
import sidecar.commands.run
from sidecar.cli import entry
os.setgroups([]); os.setgid({STRANGER}); os.setuid({STRANGER})
sys.exit(entry(sys.argv[1:]))
"""


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that other users can reach, as pytest's own cannot."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_another_user_than_the_app(public: Path) -> None:
    shutil.copy(binary(), public / "litestream")
    with stage(public, executable=str(public / "litestream"), socket=False) as acting:
        tune(acting, database_check_every="2s")
        sidecar, file, folder = acting.sidecar, acting.app.path, acting.app.path.parent
        sidecar.program = (sys.executable, "-c", AS_STRANGER)
        sidecar.state_dir.mkdir(mode=0o700)
        os.chown(sidecar.state_dir, STRANGER, STRANGER)
        acting.app.write(50)
        acting.litestream.start()
        sidecar.start()
        sidecar.until_ready()
        for at, mode, status, reason, said, advice in (
            (file, 0o600, "fail", "check_old", "cannot be read: Permission denied", f"this is uid {STRANGER}"),
            (folder, 0o777, "fail", "check_old", "could leave files that lock the app out", "run the sidecar as uid 0"),
            (folder, 0o700, "unknown", "unreadable", "permission denied", "run the sidecar as the app's user"),
        ):
            allowed = at.stat().st_mode
            at.chmod(mode)
            found = sidecar.until_check("database", status, reason)
            assert said in found["message"]
            assert advice in found["hint"]
            assert "db_corrupt" not in sidecar.ready().text
            at.chmod(allowed)
            sidecar.until_ready()
