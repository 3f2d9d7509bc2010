"""A drill by change: what it reads, what it leaves behind, and that a restore judges whatever goes wrong on the way."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest

from sidecar.core.errors import LitestreamError, Overdue, SidecarError, Stopped
from sidecar.core.forward import KeptCopy
from sidecar.core.listed import Listed
from sidecar.core.listing import chain, digest
from sidecar.core.model import Database, Drill, Outcome, Position, ReplicaFile
from sidecar.core.policy import Policy
from sidecar.drill import Driller
from sidecar.drill_attempt import Order
from sidecar.forwarding import Forwarder
from tests.core.evidences import NOW, database, live
from tests.fakes import FakeClock
from tests.verb_fakes import FakeIntegrity, FakeLive, FakeReplica, FakeScratch, unseen

at = Position.of_txid
KEPT, NEWEST = at(40), at(42)
POLICY = Policy(drill_by_change_from=1)
NOT_IN_REACH = live(file_id=None, captures=())


def file(level: int, first: int, last: int) -> ReplicaFile:
    return ReplicaFile(level, at(first), at(last), 1000, NOW)


FILES = (file(9, 1, 30), file(2, 31, 40), file(0, 41, 41), file(0, 42, 42))
NEWS = FILES[2:]


@dataclass
class Home:
    """Copies, files and a clock, held by hand."""

    folder: Path
    files: tuple[ReplicaFile, ...] = FILES
    stands: Position | None = KEPT
    understood: bool = True
    fetching: Exception | None = None
    applying: Exception | None = None
    putting: Exception | None = None
    between: Callable[[], None] = lambda: None
    clock: FakeClock = field(default_factory=lambda: FakeClock(NOW))
    fetched: list[ReplicaFile] = field(default_factory=list)
    applied: list[tuple[Position, int]] = field(default_factory=list)
    kept: list[Position] = field(default_factory=list)

    def listed(self, _: Database, *, holds: Position | None, timeout_s: float, stop: Event) -> Listed:
        del timeout_s, stop
        assert holds is None, "a listing that begins now"
        return Listed(NOW, self.files)

    def understands(self, _: Database) -> bool:
        return self.understood

    def fetch(
        self, _: Database, files: Sequence[ReplicaFile], folder: Path, *, timeout_s: float, stop: Event
    ) -> list[Path]:
        del timeout_s, stop
        if self.fetching is not None:
            raise self.fetching
        self.fetched += files
        paths = [folder / f"{each.last.index}" for each in files]
        for each in paths:
            each.touch()
        return paths

    def known(self, _: Database) -> KeptCopy | None:
        return KeptCopy(self.stands, NOW) if self.stands is not None else None

    def take(self, _: Database, target: Path) -> Position:
        assert self.stands is not None
        assert not target.exists()
        target.write_bytes(b"x" * 40960)
        taken, self.stands = self.stands, None
        return taken

    def put(self, _: Database, position: Position, copy: Path) -> None:
        if self.putting is not None:
            raise self.putting
        copy.unlink()
        self.kept.append(position)
        self.stands = position

    def apply(self, copy: Path, files: Sequence[Path], stands_at: Position, between: Callable[[], None]) -> None:
        assert copy.exists()
        self.between()
        between()
        if self.applying is not None:
            raise self.applying
        self.applied.append((stands_at, len(files)))


@dataclass
class Stage:
    home: Home
    replica: FakeReplica = field(default_factory=FakeReplica)
    integrity: FakeIntegrity = field(default_factory=FakeIntegrity)
    scratch: FakeScratch = field(default_factory=FakeScratch)
    stop: Event = field(default_factory=Event)

    def drill(self, *, by_change: bool = True, policy: Policy = POLICY, **how: object) -> Drill:
        home = self.home
        forwarder = Forwarder(home, home, home, home.apply, home.clock)
        driller = Driller(
            self.replica, FakeLive(home.clock, [NOT_IN_REACH]), self.integrity, self.scratch, home.clock,
            forwarder=forwarder,
        )  # fmt: skip
        order = Order(database(), policy, id="d1", asked=not by_change, by_change=by_change)
        drill = driller.run(replace(order, **how), stop=self.stop, progress=unseen)  # type: ignore[arg-type] # Order's own
        assert self.scratch.empty, "whatever happened, nothing is left in the room"
        return drill


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(Home(tmp_path))


def test_what_is_new_is_read_and_nothing_else(stage: Stage) -> None:
    drill = stage.drill()
    assert (drill.outcome, drill.by_change, drill.position) == (Outcome.PASSED, True, NEWEST)
    assert (drill.restore_seconds, drill.apply_seconds, drill.memory_bytes) == (None, 0.0, None)
    assert tuple(stage.home.fetched) == NEWS
    assert stage.home.applied == [(KEPT, 2)]
    assert stage.replica.restored == []
    assert stage.home.kept == [NEWEST], "for the next one"
    assert len(stage.integrity.kinds) == 1
    assert drill.plan_digest == digest(chain(FILES).files), "so that it need not be made again while nothing is new"


def test_nothing_new_is_checked_all_the_same(stage: Stage) -> None:
    stage.home.stands = NEWEST
    drill = stage.drill()
    assert (drill.by_change, stage.home.applied, len(stage.integrity.kinds)) == (True, [(NEWEST, 0)], 1)


def set_stop(stage: Stage) -> None:
    stage.home.between = stage.stop.set


GOES_WRONG: dict[str, Callable[[Stage], None]] = {
    "a file cannot be fetched": lambda stage: setattr(stage.home, "fetching", SidecarError("no")),
    "a file is damaged": lambda stage: setattr(stage.home, "applying", SidecarError("not a sound LTX file")),
    "the disk refuses": lambda stage: setattr(stage.home, "applying", OSError(errno.EIO, "Input/output error")),
    "something unforeseen": lambda stage: setattr(stage.home, "applying", KeyError("unforeseen")),
    "the copy is not sound": lambda stage: stage.integrity.checks.append(SidecarError("malformed")),
    "no file leads on": lambda stage: setattr(stage.home, "files", (FILES[0], FILES[3])),
    "a restore would find a gap": lambda stage: setattr(stage.home, "files", (FILES[0], *NEWS)),
    "the replica was begun anew": lambda stage: setattr(stage.home, "files", (file(9, 1, 3),)),
    "the replica was begun anew, and has overtaken the copy": lambda stage: setattr(
        stage.home, "files", (*FILES, replace(file(9, 1, 1), at=NOW + timedelta(minutes=1)))
    ),
    "there is no backup": lambda stage: setattr(stage.home, "files", ()),
    "it takes too long": lambda stage: setattr(stage.home, "fetching", Overdue("late", "")),
}


@pytest.mark.parametrize("what", GOES_WRONG)
def test_whatever_goes_wrong_the_whole_is_restored(stage: Stage, what: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    GOES_WRONG[what](stage)
    drill = stage.drill()
    assert (drill.outcome, drill.by_change, drill.id) == (Outcome.PASSED, False, "d1"), what
    assert len(stage.replica.restored) == 1
    assert drill.restore_seconds is not None
    assert "a kept copy was not brought forward, the whole is restored" in caplog.text


def test_damage_is_said_by_the_restore_alone(stage: Stage) -> None:
    stage.home.applying = SidecarError("not a sound LTX file")
    stage.replica.restores.append(LitestreamError("file_corrupt", "a file of the backup is damaged"))
    drill = stage.drill()
    assert (drill.outcome, drill.reason, drill.by_change) == (Outcome.FAILED, "file_corrupt", False)
    assert stage.home.kept == []


def test_whoever_is_told_to_stop_restores_nothing(stage: Stage) -> None:
    set_stop(stage)
    drill = stage.drill()
    assert (drill.outcome, stage.replica.restored) == (Outcome.ABORTED, [])
    fetching = Stage(Home(stage.home.folder, fetching=Stopped("told to stop")))
    assert fetching.drill().outcome is Outcome.ABORTED


def test_the_time_for_it_is_the_drills(stage: Stage) -> None:
    stage.home.between = lambda: stage.home.clock.go(POLICY.drill_timeout * 2)
    drill = stage.drill()
    assert (drill.outcome, drill.reason, drill.by_change) == (Outcome.INCONCLUSIVE, "timeout", False)


@pytest.mark.parametrize(
    "how",
    [{"stands": None}, {"understood": False}],
)
def test_where_there_is_nothing_to_bring_forward_the_whole_is_restored(stage: Stage, how: dict[str, object]) -> None:
    for name, value in how.items():
        setattr(stage.home, name, value)
    assert not stage.drill().by_change
    assert len(stage.replica.restored) == 1


def test_what_passed_is_kept_where_the_policy_says_so(stage: Stage) -> None:
    stage.home.stands = None
    assert stage.drill(by_change=False).outcome is Outcome.PASSED
    assert stage.home.kept == [NEWEST]
    for policy, how in (
        (Policy(), {}),
        (Policy(drill_by_change_from=40961), {}),  # it is smaller than that
        (POLICY, {"position": NEWEST}),  # somebody's own
        (POLICY, {"keep": stage.home.folder}),  # somebody takes it
    ):
        stage.home.kept.clear()
        assert stage.drill(by_change=False, policy=policy, **how).outcome is Outcome.PASSED
        assert stage.home.kept == []


def test_a_copy_that_cannot_be_kept_harms_nobody(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.home.putting = OSError(errno.ENOSPC, "No space left on device")
    assert stage.drill(by_change=False).outcome is Outcome.PASSED
    assert "could not be kept (No space left on device)" in caplog.text


def test_a_position_that_is_not_there_yet_is_waited_for_as_in_a_restore(stage: Stage) -> None:
    home = stage.home
    forwarder = Forwarder(home, home, home, home.apply, home.clock)
    with pytest.raises(LitestreamError) as caught:
        forwarder.plan_at(database(), at(43), timeout_s=5, stop=stage.stop)
    assert caught.value.reason == "file_missing"
    plan = forwarder.plan_at(database(), at(41), timeout_s=5, stop=stage.stop)
    assert (plan.news, plan.position, plan.size_bytes) == (NEWS[:1], at(41), 1000)
