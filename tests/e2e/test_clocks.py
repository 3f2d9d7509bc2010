"""Time does what it should not: the wall clock jumps by an hour, the daemon sleeps. Old evidence must look old, and new be gathered."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.machine import Gate, WallClock
from tests.e2e.stage import Sidecar, Stage, pause, stage, tune
from tests.litestreams import Writer

HOUR = 3600


def begin(acting: Stage) -> None:
    acting.app.write(50)
    acting.litestream.start()
    acting.sidecar.start()
    acting.sidecar.until_ready()


def test_the_wall_clock_jumps(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    with stage(tmp_path, executable=str(gate.executable)) as acting:
        tune(acting, drill_every="20m", drill_max_age="40m", database_check_every="15m")
        sidecar, clock = acting.sidecar, WallClock(tmp_path / "clock")
        sidecar.env |= clock.env
        begin(acting)
        for seconds, status, said in (
            (HOUR, "fail", "the backup was last restored 1h ago"),
            (0, "unknown", "which was set back"),
        ):
            sidecar.until_no_drill()
            before, looks = sidecar.until_ready()["databases"][0]["last_drill"], looked(sidecar)
            with gate.before("sleep 1"):  # the next drill does not end before somebody has asked
                clock.set(seconds)
                unsure = sidecar.until_check("drill", status, "drill_old")
                assert said in unsure["message"]
                assert sidecar.ready().status_code == 503, "what was, or will be, known an hour away is not known now"
                assert sidecar.alive()
            again = sidecar.until_ready()["databases"][0]["last_drill"]
            assert again["id"] != before["id"], "proved anew, by itself"
            assert looked(sidecar) > looks
            assert sidecar.alive()
        drills = sidecar.metric("drills_total", outcome="passed")
        pause(3)
        assert sidecar.metric("drills_total", outcome="passed") == drills, "proved once, and not again and again"


def looked(sidecar: Sidecar) -> float:
    return sidecar.metric("looks_total", result="ok") or 0


def test_a_clock_set_back_hides_no_dead_litestream(tmp_path: Path) -> None:
    """Its files are dated an hour ahead then; were they taken for new, all would be current for an hour."""
    with stage(tmp_path) as acting:
        sidecar, clock = acting.sidecar, WallClock(tmp_path / "clock")
        sidecar.env |= clock.env
        begin(acting)
        acting.litestream.kill()
        clock.set(-HOUR)
        with Writer(acting.app):
            pause(6)  # longer than max-lag: what is written first may be seen as new until then, and rightly so
            for _ in range(20):
                pause(0.2)
                lag = sidecar.check("lag")
                assert (lag["status"], lag["reason"]) in {("unknown", "lagging"), ("fail", "lagging")}
                assert sidecar.alive()
        clock.set(0)
        acting.litestream.start()
        sidecar.until_ready()


@pytest.mark.parametrize("who", ["daemon", "daemon and Litestream"])
def test_suspended_and_woken(tmp_path: Path, who: str) -> None:
    with stage(tmp_path) as acting:
        tune(acting, drill_every="3s", drill_max_age="6s")
        sidecar = acting.sidecar
        begin(acting)
        assert acting.litestream.process is not None
        sleepers = [sidecar.pid] if who == "daemon" else [sidecar.pid, acting.litestream.process.pid]
        answer = slept(
            acting, sleepers, 8 if who == "daemon" else 17
        )  # an idle database's files may have been read 15 s ago
        assert answer["ready"] is False, "the first answer after waking is of the instant in which it is given"
        found = {each["name"]: each for each in answer["databases"][0]["checks"]}
        assert (found["drill"]["status"], found["drill"]["reason"]) == ("fail", "drill_old")
        assert found["drill"]["observed"] > 6
        assert who == "daemon" or found["lag"]["status"] != "pass"
        sidecar.until_ready()
        assert sidecar.alive()


def slept(acting: Stage, sleepers: list[int], seconds: float) -> dict[str, Any]:
    """Commit, and let these processes sleep; what the daemon answers to somebody who asked meanwhile."""
    for pid in sleepers:
        os.kill(pid, signal.SIGSTOP)
    acting.app.write()
    with ThreadPoolExecutor(1) as caller:
        first = caller.submit(httpx.get, f"{acting.sidecar.url}/ready", timeout=60)
        pause(seconds)
        for pid in sleepers:
            os.kill(pid, signal.SIGCONT)
        answer: dict[str, Any] = first.result().json()
    return answer
