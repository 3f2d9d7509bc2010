"""Drills that are not begun because they would be in vain: too little time, memory or room, each of them made so; and how it gets out of that."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.litestream_v5 import LitestreamV5
from sidecar.adapters.memory import FreeMemory
from sidecar.adapters.process import run
from sidecar.adapters.scratch import Scratch
from sidecar.adapters.sqlite_copy import CopySqlite
from sidecar.core.case import Case, room_for
from sidecar.core.case import Scratch as Room
from sidecar.core.checks import CHECKS
from sidecar.core.evidence import Evidence
from sidecar.core.finding import Reason, Status
from sidecar.core.forecast import TRY_EVERY, drill_like_last
from sidecar.core.model import Database, Drill, Outcome
from sidecar.core.policy import Assertion, Policy
from sidecar.core.ports import Plan, Progress
from sidecar.drill import Driller
from sidecar.drill_attempt import Order
from tests.core.evidences import NOW, database, live
from tests.fakes import FakeClock
from tests.litestreams import binary, environment
from tests.replica_stage import at_rest
from tests.verb_fakes import FakeIntegrity, FakeLive, FakeReplica, FakeScratch, slow, unseen

MB = 1_000_000
CHILD_MB = 60
NEVER = Event()
OUT_OF_REACH = live(file_id=None, captures=())


class WeighedReplica(FakeReplica):
    """Restores by a real child, which takes some memory."""

    def restore(  # type: ignore[override] # the port says both; the fake never tells
        self, database: Database, plan: Plan, target: Path, *, timeout_s: float, stop: Event, progress: Progress
    ) -> int | None:
        super().restore(database, plan, target, timeout_s=timeout_s, stop=stop, progress=progress)
        held = f"held = bytearray({CHILD_MB * MB}); import time; time.sleep(0.2)"
        return run([sys.executable, "-S", "-c", held], timeout_s=60, stop=stop, weigh=True).memory_bytes


@dataclass
class Stage:
    """A database over stand-ins, and what its drills add to the evidence."""

    clock: FakeClock = field(default_factory=lambda: FakeClock(NOW))
    replica: FakeReplica = field(default_factory=FakeReplica)
    scratch: FakeScratch = field(default_factory=FakeScratch)
    known: Evidence = field(default_factory=lambda: Evidence(first_seen_at=NOW))
    memory: FreeMemory = field(default_factory=FreeMemory)

    def drill(self, minutes: float = 30, *, asked: bool = False) -> Drill:
        driller = Driller(
            self.replica, FakeLive(self.clock, [OUT_OF_REACH]), FakeIntegrity(), self.scratch, self.clock,
            known=lambda _: self.known, free_memory=self.memory.bytes,
        )  # fmt: skip
        order = Order(database(), Policy(drill_timeout=timedelta(minutes=minutes)), asked=asked)
        drill = driller.run(order, stop=NEVER, progress=unseen)
        self.known = self.known.after_drill(drill)
        self.clock.go(timedelta(hours=1))
        return drill

    def restore_takes(self, minutes: float) -> None:
        self.replica.restores.append(slow(self.clock, minutes * 60))


@pytest.fixture
def stage() -> Stage:
    return Stage()


# Time


def test_a_drill_timeout_shorter_than_what_was_measured_ends_the_drill_before_it_restores(stage: Stage) -> None:
    stage.restore_takes(20)
    assert stage.drill(30).outcome is Outcome.PASSED
    refused = stage.drill(10)
    assert (refused.outcome, refused.reason) == (Outcome.INCONCLUSIVE, Reason.TIMEOUT)
    assert refused.message == "the drill would take about 20 min by what the last ones took (drill-timeout 10 min)"
    assert "raise policy.drill-timeout" in refused.hint
    assert (refused.restore_seconds, len(stage.replica.restored), len(stage.scratch.asked)) == (None, 1, 1)
    assert refused.position is not None, "it was planned"
    assert refused.plan_digest is not None


def test_one_that_is_asked_for_is_begun_regardless(stage: Stage) -> None:
    stage.restore_takes(20)
    stage.drill(30)
    stage.restore_takes(20)
    asked = stage.drill(10, asked=True)
    assert (asked.outcome, asked.reason, asked.restore_seconds) == (Outcome.INCONCLUSIVE, Reason.TIMEOUT, 1200)
    stage.restore_takes(1)
    assert stage.drill(10, asked=True).outcome is Outcome.PASSED


def test_a_database_that_became_fast_again_is_found_to_be_so_by_itself(stage: Stage) -> None:
    stage.restore_takes(20)
    stage.drill(30)
    outcomes = [stage.drill(10).outcome for _ in range(TRY_EVERY)]  # restores take no time at all from here
    assert outcomes == [Outcome.INCONCLUSIVE] * (TRY_EVERY - 1) + [Outcome.PASSED]
    assert stage.drill(10).outcome is Outcome.PASSED, "and what it took then is what counts"


def test_one_that_stays_too_slow_is_tried_again_and_again_in_earnest(stage: Stage) -> None:
    stage.restore_takes(20)
    stage.drill(30)
    for _ in range(3):
        assert [stage.drill(10).restore_seconds for _ in range(TRY_EVERY - 1)] == [None] * (TRY_EVERY - 1)
        stage.restore_takes(20)
        assert stage.drill(10).restore_seconds == 1200


def test_a_database_never_drilled_is_begun_however_often_it_was_cut_off(stage: Stage) -> None:
    for _ in range(2 * TRY_EVERY):
        stage.restore_takes(40)
        assert stage.drill(30).restore_seconds == 2400


# Memory


def test_less_memory_than_the_last_restore_took_postpones_the_drill(tmp_path: Path) -> None:
    stage = Stage(replica=WeighedReplica())
    first = stage.drill()
    assert first.outcome is Outcome.PASSED
    assert first.memory_bytes is not None
    assert CHILD_MB * MB < first.memory_bytes < 2 * CHILD_MB * MB
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (group / "memory.max").write_text(f"{128 * MB}\n")
    (group / "memory.current").write_text(f"{88 * MB}\n")
    stage.memory = FreeMemory(tmp_path)
    postponed = stage.drill()
    assert (postponed.outcome, postponed.reason) == (Outcome.INCONCLUSIVE, Reason.RESTORE_FAILED)
    assert "of memory by what the last one took, 40 MB are free" in postponed.message
    assert "more memory" in postponed.hint
    assert len(stage.replica.restored) == 1, "no child was started"
    (group / "memory.current").write_text(f"{8 * MB}\n")
    assert stage.drill().outcome is Outcome.PASSED, "as soon as there is enough"


# The real Litestream, a real disk's room, a real clock


@dataclass
class RealStage:
    """A replicated database whose drill takes a second and more, since an assertion on the copy does."""

    folder: Path
    database: Database
    known: Evidence

    def drill(self, *, timeout_s: float = 60, room: int | None = None, asked: bool = False) -> Drill:
        clock = SystemClock()
        policy = Policy(drill_timeout=timedelta(seconds=timeout_s), assertions=(SLOW,))
        driller = Driller(
            LitestreamV5(binary(), "0.5.17", environment()), FakeLive(FakeClock(NOW), [OUT_OF_REACH]), CopySqlite(),
            Scratch(self.folder / "scratch", room), clock, known=lambda _: self.known,
        )  # fmt: skip
        drill = driller.run(Order(self.database, policy, asked=asked), stop=NEVER, progress=unseen)
        self.known = self.known.after_drill(drill)
        return drill


SLOW = Assertion(
    name="slow", min=1,
    sql="with recursive n(i) as (select 1 union all select i + 1 from n where i < 4000000) select count(*) from n",
)  # fmt: skip


@pytest.fixture
def real(tmp_path: Path) -> RealStage:
    return RealStage(tmp_path, at_rest(tmp_path), Evidence(first_seen_at=SystemClock().now()))


def test_the_real_drill_is_not_begun_in_vain_and_is_when_asked_for(real: RealStage) -> None:
    first = real.drill()
    assert first.outcome is Outcome.PASSED, first.message
    assert first.memory_bytes is not None
    all_of_it = drill_like_last(real.known)
    assert all_of_it is not None
    refused = real.drill(timeout_s=all_of_it / 2)
    assert (refused.outcome, refused.reason) == (Outcome.INCONCLUSIVE, Reason.TIMEOUT)
    assert "by what the last ones took" in refused.message
    assert refused.restore_seconds is None
    asked = real.drill(timeout_s=all_of_it / 2, asked=True)
    assert asked.reason == Reason.TIMEOUT
    assert asked.restore_seconds is not None, "it was begun"


def test_too_small_a_scratch_is_said_by_the_check_and_by_the_drill_with_one_number(real: RealStage) -> None:
    real.drill()
    assert real.known.last_passed is not None
    assert real.known.last_passed.size_bytes is not None
    need, room = room_for(real.known.last_passed.size_bytes), 10 * MB
    drill = real.drill(room=room)
    finding = CHECKS["scratch"](Case(real.known, Policy(), Room(NOW, room), NOW))
    assert finding is not None
    assert (drill.outcome, drill.reason, finding.status) == (Outcome.INCONCLUSIVE, Reason.SCRATCH_FULL, Status.WARN)
    assert finding.limit == need
    assert f"needs {need / 1e6:.0f} MB" in finding.message
    assert f"{need / 1e6:.1f} MB are needed" in drill.message, drill.message
