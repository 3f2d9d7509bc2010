"""kill -9 at any instant of a drill: nothing is left behind, nothing is forgotten, and nobody is told what is not so."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import sqlite3
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.machine import command
from tests.e2e.stage import Sidecar, Stage, lose_past, newest_txid, pause, stage, tune
from tests.litestreams import until

KILLS = 10
HITS_MIN = 3  # deaths in the middle of a drill: some drills are over sooner than the one that was timed
ROWS, ROW_BYTES = 40_000, 400  # some 17 MB, so that a drill takes its time in every stage
LIFE = "SIDECAR_TEST_LIFE"  # in the environment of a daemon, and so of all that it starts


@dataclass
class Lives:
    """A daemon that dies and is started again, and what must be so after each death."""

    acting: Stage
    folder: Path
    number: int = 0
    asked: list[str] = field(default_factory=list)  # ids of drills

    @property
    def sidecar(self) -> Sidecar:
        return self.acting.sidecar

    @property
    def rooms(self) -> set[str]:
        scratch = self.sidecar.state_dir / "scratch"
        return {each.name for each in scratch.iterdir()} if scratch.exists() else set()

    def begin(self) -> None:
        self.number += 1
        self.sidecar.env[LIFE] = f"{self.folder}-{self.number}"
        self.sidecar.start()

    def die(self) -> None:
        """And be started again, with nothing left of the life before."""
        self.sidecar.stop(signal.SIGKILL)
        self.look_at_evidence()
        left = self.rooms
        self.begin()
        assert not left & self.rooms, "what a killed drill had restored is gone once somebody can ask"
        until(lambda: not descendants(f"{self.folder}-{self.number - 1}"), say="no child of the life before lives on")

    def look_at_evidence(self) -> None:
        """A copy, so that the daemon itself finds what the dead one left, journal and all."""
        copy = self.folder / f"evidence-{self.number}"
        copy.mkdir()
        for file in self.sidecar.state_dir.glob("evidence.db*"):
            shutil.copy(file, copy)
        with contextlib.closing(sqlite3.connect(copy / "evidence.db")) as evidence:
            assert evidence.execute("pragma integrity_check").fetchall() == [("ok",)]

    def ask(self) -> str:
        location = str(self.sidecar.post_drill().headers["location"])
        self.asked.append(location.rpartition("/")[2])
        return location

    def ask_and_see_begin(self) -> str:
        location = self.ask()
        until(
            lambda: httpx.get(f"{self.sidecar.url}{location}", timeout=5).json()["state"] != "queued",
            every=0.005, say="the drill begins",
        )  # fmt: skip
        return location

    def history(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(command(self.sidecar, "history", "--json").stdout)
        return found


def descendants(life: str) -> list[int]:
    """Processes that a daemon of this life started, and that still run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{LIFE}={life}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def filled(acting: Stage) -> None:
    numbers = f"with recursive n(i) as (select 1 union all select i + 1 from n where i < {ROWS})"
    acting.app.execute(f"{numbers} insert into t (v) select hex(randomblob({ROW_BYTES // 2})) from n")
    acting.app.execute("create index t_v on t (substr(v, 1, 8))")
    acting.litestream.start()


def test_killed_at_ten_instants_of_a_drill(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    dice, instants, told = random.Random(seed), [], f"seed {seed}"
    with stage(tmp_path / "stage") as acting:
        tune(acting, max_lag="2m")
        lives = Lives(acting, tmp_path)
        sidecar = acting.sidecar
        filled(acting)
        lives.begin()
        sidecar.until_ready(within=40)
        took_s = usual_s(lives)
        for number in range(KILLS):
            instants.append(took_s * (number + dice.random()) / KILLS)
            told = f"seed {seed}, killed after {instants} of {took_s:.2f} s"
            location = lives.ask_and_see_begin() if number else lives.ask()  # the first is to die while it is queued
            pause(instants[-1])
            lives.die()
            for _ in range(10):
                answer = sidecar.ready()
                assert answer.status_code == 200, (told, answer.json()["reason"])
                pause(0.03)
            state = httpx.get(f"{sidecar.url}{location}", timeout=5)
            assert state.status_code == 404 or state.json()["state"] in {"aborted", "passed"}, (
                told,
                state.text,
            )  # 404: it never began
        ends = [each["outcome"] for each in lives.history() if each["id"] in lives.asked]
        assert set(ends) <= {"aborted", "passed"}, told
        assert ends.count("aborted") >= HITS_MIN, (told, ends)
        counted_once(lives, told)
        lost_while_dead(lives)


def usual_s(lives: Lives) -> float:
    """How long a drill takes where nothing holds it up, so that the instants lie within most of those to come."""
    took_s = []
    for _ in range(3):
        lives.sidecar.until_no_drill()
        location, began = lives.ask_and_see_begin(), time.monotonic()
        assert lives.sidecar.ended(location)["outcome"] == "passed"
        took_s.append(time.monotonic() - began)
    return min(took_s)


def counted_once(lives: Lives, told: str) -> None:
    """Every drill stands in history once, and this life counts its own and no others."""
    sidecar = lives.sidecar
    assert sidecar.drill()["outcome"] == "passed", told
    sidecar.until_no_drill()
    drills = lives.history()
    ids = [each["id"] for each in drills]
    assert len(ids) == len(set(ids)), (told, ids)
    ours = [
        each
        for each in drills
        if each["outcome"] == "passed" and f"drill {each['id']} passed" in sidecar.log.rpartition("answers at")[2]
    ]
    assert sidecar.metric("drills_total", db="app", outcome="passed") == len(ours), told
    assert sidecar.metric("drills_total", db="app", outcome="failed") == 0, told


def lost_while_dead(lives: Lives) -> None:
    """What happens to the backup while nobody looks is seen by whoever looks next, whatever was proved before."""
    acting, sidecar = lives.acting, lives.sidecar
    for _ in range(2):
        acting.app.write()
        acting.synced()
    sidecar.until_ready()
    lives.ask()
    sidecar.stop(signal.SIGKILL)
    tune(acting)
    lose_past(acting.replica, newest_txid(acting.replica) - 1)
    pause(4)  # max-lag: what the replica lacks is older than that now
    lives.begin()
    sidecar.until_check("lag", "fail", "lagging")
    for _ in range(10):
        pause(0.1)
        assert sidecar.ready().status_code == 503, "old proof hides no loss"
    acting.move_replica()
    sidecar.until_ready(within=40)
