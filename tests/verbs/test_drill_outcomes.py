"""What happens during a drill, a check of production or a look, and what it is taken to mean."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from sidecar.adapters.replica_listing import LookLister
from sidecar.core.case import room_for
from sidecar.core.errors import LitestreamError, Overdue, ScratchFull, SidecarError, Stopped, Unreadable
from sidecar.core.evidence import Evidence
from sidecar.core.finding import Reason
from sidecar.core.forecast import COMPRESSION_MAX
from sidecar.core.live_state import FileId, LiveState
from sidecar.core.model import CheckKind, Drill, LookResult, Outcome, Position
from sidecar.core.policy import Assertion, Policy
from sidecar.drill import Driller
from sidecar.drill_attempt import Order
from sidecar.look import Looked, Looker
from sidecar.production import Examiner
from tests.core.evidences import NOW, capture, content, database, healthy, live
from tests.fakes import FakeClock
from tests.verb_fakes import FakeIntegrity, FakeLive, FakeProduction, FakeReplica, FakeScratch, Step, slow, unseen

FAILED, INCONCLUSIVE, ABORTED, PASSED = Outcome.FAILED, Outcome.INCONCLUSIVE, Outcome.ABORTED, Outcome.PASSED
NOT_IN_REACH = live(file_id=None, captures=())
ASKED = Assertion(name="has-users", sql="select count(*) from users", min=1)


@dataclass
class Stage:
    """A driller, an examiner and a looker over stand-ins."""

    clock: FakeClock = field(default_factory=lambda: FakeClock(NOW))
    replica: FakeReplica = field(default_factory=FakeReplica)
    integrity: FakeIntegrity = field(default_factory=FakeIntegrity)
    scratch: FakeScratch = field(default_factory=FakeScratch)
    production: FakeProduction = field(default_factory=FakeProduction)
    stop: Event = field(default_factory=Event)

    def drill(self, policy: Policy | None = None, *, live: LiveState | None = None, **how: Any) -> Drill:
        order = replace(Order(database(), policy or Policy(), id="d1"), **how)
        files = FakeLive(self.clock, [live] if live is not None else [NOT_IN_REACH])
        driller = Driller(self.replica, files, self.integrity, self.scratch, self.clock)
        return driller.run(order, stop=self.stop, progress=unseen)

    def look(self, known: Evidence | None = None, states: FakeLive | None = None) -> Looked:
        looker = Looker(
            states or FakeLive(self.clock), LookLister(self.replica, self.clock, {}), self.production, self.clock
        )
        return looker.look(database(), known, Policy(), 60.0, self.stop)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def refused(reason: str) -> LitestreamError:
    return LitestreamError(reason, f"litestream said {reason}", "do something")


# Errors of Litestream's, while planning and while restoring: (its reason, outcome, the drill's reason)
MEANT = [
    ("file_corrupt", FAILED, Reason.FILE_CORRUPT),
    ("file_missing", FAILED, Reason.FILE_MISSING),
    ("no_backup", FAILED, Reason.FILE_MISSING),
    ("timeout", INCONCLUSIVE, Reason.TIMEOUT),
    ("scratch_full", INCONCLUSIVE, Reason.SCRATCH_FULL),
    ("unreachable", INCONCLUSIVE, Reason.RESTORE_FAILED),
    ("auth", INCONCLUSIVE, Reason.RESTORE_FAILED),
    ("restore_failed", INCONCLUSIVE, Reason.RESTORE_FAILED),
    ("a word nobody knows", INCONCLUSIVE, Reason.RESTORE_FAILED),
]


@pytest.mark.parametrize("where", ["plans", "restores"])
@pytest.mark.parametrize(("reason", "outcome", "meant"), MEANT, ids=[reason for reason, *_ in MEANT])
def test_what_litestream_says_is_damage_or_only_an_obstacle(
    stage: Stage, where: str, reason: str, outcome: Outcome, meant: Reason
) -> None:
    getattr(stage.replica, where).append(refused(reason))
    drill = stage.drill()
    assert (drill.outcome, drill.reason) == (outcome, meant)
    assert (drill.message, drill.hint) == (f"litestream said {reason}", "do something")
    assert stage.scratch.empty


@dataclass(frozen=True)
class Happening:
    """One thing that happens, and what it is to mean."""

    name: str
    arrange: Callable[[Stage], object]
    outcome: Outcome
    reason: Reason | None
    says: str
    policy: Policy = field(default_factory=Policy)


def _put(steps: Callable[[Stage], list[Step]], *what: Step) -> Callable[[Stage], object]:
    return lambda stage: steps(stage).extend(what)


def _raced_then_missing(stage: Stage) -> None:
    stage.replica.restores.append(refused("raced"))
    stage.replica.plans += [None, refused("file_missing")]


HALF_AN_HOUR = 1801.0
HAPPENINGS = [
    Happening("all goes well", lambda _: None, PASSED, None, "restored 000000000000002a and found it sound"),
    Happening(
        "quick_check complains", lambda stage: setattr(stage.integrity, "complaints", ["row 3 missing", "b", "c", "d"]),
        FAILED, Reason.DB_CORRUPT, "quick_check of the restored copy: row 3 missing; b; c",
    ),
    Happening(
        "an assertion is broken", lambda stage: stage.integrity.broken.update({"has-users": "has-users: 0 is below 1"}),
        FAILED, Reason.ASSERTION_FAILED, "has-users: 0 is below 1", Policy(assertions=(ASKED,)),
    ),
    Happening(
        "an assertion holds", lambda _: None, PASSED, None, "found it sound", Policy(assertions=(ASKED,)),
    ),
    Happening(
        "the page count differs", lambda stage: setattr(stage.integrity, "found", content(page_count=9)),
        FAILED, Reason.DB_CORRUPT, "has 9 pages, production had 10 at 000000000000002a",
    ),
    Happening(
        "told to stop in the restore", _put(lambda stage: stage.replica.restores, Stopped("told to stop")),
        ABORTED, Reason.ABORTED, "told to stop",
    ),
    Happening(
        "told to stop in the check", _put(lambda stage: stage.integrity.checks, Stopped("told to stop")),
        ABORTED, Reason.ABORTED, "told to stop",
    ),
    Happening(
        "the restore passes its deadline", _put(lambda stage: stage.replica.restores, Overdue("too slow", "wait longer")),
        INCONCLUSIVE, Reason.TIMEOUT, "too slow",
    ),
    Happening(
        "the plan used the time up", lambda stage: stage.replica.plans.append(slow(stage.clock, HALF_AN_HOUR)),
        INCONCLUSIVE, Reason.TIMEOUT, "longer than policy.drill-timeout",
    ),
    Happening(
        "the restore used the time up", lambda stage: stage.replica.restores.append(slow(stage.clock, HALF_AN_HOUR)),
        INCONCLUSIVE, Reason.TIMEOUT, "longer than policy.drill-timeout",
    ),
    Happening(
        "the check used the time up", lambda stage: stage.integrity.checks.append(slow(stage.clock, HALF_AN_HOUR)),
        INCONCLUSIVE, Reason.TIMEOUT, "longer than policy.drill-timeout",
    ),
    Happening(
        "too little room", _put(lambda stage: stage.scratch.enters, ScratchFull("10 MB free, 20 MB needed", "free some")),
        INCONCLUSIVE, Reason.SCRATCH_FULL, "10 MB free",
    ),
    Happening(
        "the disk fills up", _put(lambda stage: stage.replica.restores, OSError(errno.ENOSPC, "No space left on device")),
        INCONCLUSIVE, Reason.SCRATCH_FULL, "No space left on device",
    ),
    Happening(
        "the scratch directory is gone", _put(lambda stage: stage.scratch.enters, OSError(errno.ENOENT, "No such file")),
        INCONCLUSIVE, Reason.RESTORE_FAILED, "No such file",
    ),
    Happening(
        "a module of SQLite's is missing", _put(lambda stage: stage.integrity.contents, SidecarError("no such module: vec")),
        INCONCLUSIVE, Reason.RESTORE_FAILED, "no such module: vec",
    ),
    Happening(
        "raced once", _put(lambda stage: stage.replica.restores, refused("raced")),
        PASSED, None, "restored 000000000000002b and found it sound",
    ),
    Happening(
        "raced twice", _put(lambda stage: stage.replica.restores, refused("raced"), refused("raced")),
        INCONCLUSIVE, Reason.RACED, "litestream said raced",
    ),
    Happening(
        "raced, then the second plan finds damage",
        _raced_then_missing,
        FAILED, Reason.FILE_MISSING, "litestream said file_missing",
    ),
]  # fmt: skip


@pytest.mark.parametrize("happening", HAPPENINGS, ids=lambda each: each.name)
def test_what_happens_becomes_an_outcome(stage: Stage, happening: Happening) -> None:
    happening.arrange(stage)
    drill = stage.drill(happening.policy, live=live(captures=(capture(42),)))
    assert (drill.outcome, drill.reason) == (happening.outcome, happening.reason)
    assert happening.says in drill.message
    assert (drill.reason is None) == (drill.outcome is PASSED)
    assert stage.scratch.empty, "whatever happened, nothing is left in scratch"


def test_every_reason_of_the_check_is_the_outcome_of_something() -> None:
    said = {each.reason for each in HAPPENINGS} | {meant for *_, meant in MEANT}
    by_time = {Reason.NEVER_DRILLED, Reason.DRILL_OLD}
    wanted = {
        Reason.NEVER_DRILLED, Reason.DRILL_OLD, Reason.RESTORE_FAILED, Reason.FILE_CORRUPT, Reason.FILE_MISSING,
        Reason.DB_CORRUPT, Reason.ASSERTION_FAILED, Reason.SCRATCH_FULL, Reason.TIMEOUT, Reason.ABORTED, Reason.RACED,
    }  # fmt: skip
    assert wanted - by_time == said - {None}


def test_a_passed_drill_says_what_it_measured(stage: Stage) -> None:
    stage.replica.restores.append(slow(stage.clock, 2))
    stage.integrity.checks.append(slow(stage.clock, 0.5))
    drill = stage.drill(check=CheckKind.FULL)
    assert drill.id == "d1"
    assert (drill.plan_seconds, drill.restore_seconds, drill.check_seconds) == (0.0, 2.0, 0.5)
    assert drill.finished_at - drill.started_at == drill.took == timedelta(seconds=2.5)
    assert (drill.position, drill.size_bytes, drill.check) == (Position.of_txid(42), 40960, CheckKind.FULL)
    assert (drill.content, drill.litestream_version) == (content(), "0.5.17")
    assert stage.integrity.kinds == [CheckKind.FULL]


def test_a_clock_that_is_set_during_a_drill_does_not_make_it_longer(stage: Stage) -> None:
    def set_on() -> None:
        stage.clock.at += timedelta(hours=1)

    stage.replica.restores.append(set_on)
    stage.integrity.checks.append(slow(stage.clock, 0.5))
    drill = stage.drill()
    assert (drill.outcome, drill.took) == (PASSED, timedelta(seconds=0.5))


def test_a_failed_drill_keeps_what_it_measured_before(stage: Stage) -> None:
    stage.replica.restores.append(slow(stage.clock, 2))
    stage.integrity.complaints = ["malformed"]
    drill = stage.drill()
    assert (drill.restore_seconds, drill.size_bytes, drill.position) == (2.0, 40960, Position.of_txid(42))
    assert drill.content is None


def test_exactly_the_planned_position_is_restored_and_a_race_plans_anew(stage: Stage) -> None:
    stage.replica.restores.append(refused("raced"))
    drill = stage.drill()
    assert stage.replica.planned == 2
    assert stage.replica.restored == [drill.position]


def test_all_stages_share_one_deadline(stage: Stage) -> None:
    stage.replica.plans.append(slow(stage.clock, 600))
    stage.drill(Policy(drill_timeout=timedelta(minutes=30)))
    assert stage.replica.timeouts == [1800.0, 1200.0]


def test_the_room_is_for_the_live_size_where_it_is_known_and_else_for_what_files_may_unpack_to(stage: Stage) -> None:
    there = live()
    stage.drill(live=there)
    stage.drill()
    stage.drill(live=live(file_id=None))
    unpacked = room_for(1000 * COMPRESSION_MAX)
    assert stage.scratch.asked == [room_for(there.size_bytes + there.wal_bytes), unpacked, unpacked]


def test_the_page_count_of_another_position_is_not_held_against_the_copy(stage: Stage) -> None:
    stage.integrity.found = content(page_count=9)
    assert stage.drill(live=live(captures=(capture(41), capture(43)))).outcome is PASSED


def test_keep_moves_the_checked_copy_and_only_that(stage: Stage, tmp_path: Path) -> None:
    drill = stage.drill(keep=tmp_path / "kept")
    assert drill.outcome is PASSED
    assert [file.name for file in (tmp_path / "kept").iterdir()] == ["app-d1.db"]
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "kept", tmp_path / "kept" / "app-d1.db")]
    assert modes == [0o700, 0o600], "it is production's content"
    assert stage.scratch.empty


def test_a_copy_that_did_not_pass_is_not_kept(stage: Stage, tmp_path: Path) -> None:
    stage.integrity.complaints = ["malformed"]
    stage.drill(keep=tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


# Production's own content

EXAMINED: list[tuple[str, Callable[[Stage], object], bool | None, Reason | None, str]] = [
    ("sound", lambda _: None, True, None, ""),
    (
        "damaged", lambda stage: setattr(stage.integrity, "complaints", ["row 3 missing"]), False, Reason.DB_CORRUPT,
        "quick_check: row 3 missing",
    ),
    (
        "another user's", _put(lambda stage: stage.production.copies, Unreadable("not the app's user", "run as it")), None,
        Reason.UNREADABLE, "not the app's user",
    ),
    (
        "too little room", _put(lambda stage: stage.scratch.enters, ScratchFull("10 MB free")), None, Reason.CHECK_OLD,
        "10 MB free",
    ),
    ("too slow", _put(lambda stage: stage.integrity.checks, Overdue("too slow")), None, Reason.CHECK_OLD, "too slow"),
    ("stopped", _put(lambda stage: stage.production.copies, Stopped("told to stop")), None, Reason.CHECK_OLD, "told to"),
    (
        "disk full", _put(lambda stage: stage.production.copies, OSError(errno.ENOSPC, "No space left on device")), None,
        Reason.CHECK_OLD, "No space left on device",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arrange", "sound", "reason", "says"), EXAMINED, ids=[name for name, *_ in EXAMINED])
def test_a_check_of_production_says_sound_damaged_or_not_found_out(
    stage: Stage, name: str, arrange: Callable[[Stage], object], sound: object, reason: Reason | None, says: str
) -> None:
    arrange(stage)
    examiner = Examiner(stage.production, stage.integrity, stage.scratch, stage.clock, "3.51.0")
    check = examiner.run(database(), Policy(), live(), stop=stage.stop, progress=unseen)
    assert (check.sound, check.reason) == (sound, reason), name
    assert says in check.message
    assert check.sqlite_version == "3.51.0"
    assert stage.scratch.empty


def test_a_check_of_production_is_a_quick_one_and_says_how_long_it_took(stage: Stage) -> None:
    stage.production.copies.append(slow(stage.clock, 3))
    examiner = Examiner(stage.production, stage.integrity, stage.scratch, stage.clock, "3.51.0")
    check = examiner.run(database(), Policy(), live(), stop=stage.stop, progress=unseen)
    assert stage.integrity.kinds == [CheckKind.QUICK]
    assert (check.seconds, check.size_bytes, check.at) == (3.0, 40960, NOW + timedelta(seconds=3))


# A look


@pytest.mark.parametrize(
    ("reason", "result"),
    [
        ("unreachable", LookResult.UNREACHABLE),
        ("auth", LookResult.AUTH),
        ("timeout", LookResult.TIMEOUT),
        ("no_backup", LookResult.NO_BACKUP),
        ("restore_failed", LookResult.UNREACHABLE),
        ("a word nobody knows", LookResult.UNREACHABLE),
    ],
)
def test_a_look_says_how_the_listing_ended(stage: Stage, reason: str, result: LookResult) -> None:
    stage.replica.listings.append(refused(reason))
    sighting = stage.look().sighting
    assert (sighting.result, sighting.message, sighting.hint) == (result, f"litestream said {reason}", "do something")
    assert sighting.listing is None


def test_a_look_that_takes_too_long_is_a_timeout_and_one_that_shows_no_file_is_no_backup(stage: Stage) -> None:
    stage.replica.listings.append(Overdue("no answer within 60 s"))
    assert stage.look().sighting.result is LookResult.TIMEOUT
    stage.replica.files = ()
    assert stage.look().sighting.result is LookResult.NO_BACKUP


def test_a_look_that_is_stopped_says_nothing(stage: Stage) -> None:
    stage.replica.listings.append(Stopped("told to stop"))
    with pytest.raises(Stopped):
        stage.look()


def test_a_look_reads_the_files_before_and_after_the_listing_and_dates_each(stage: Stage) -> None:
    stage.replica.listings.append(slow(stage.clock, 20))
    looked = stage.look()
    assert looked.before.read_at == looked.sighting.read_at == NOW
    assert looked.sighting.finished_at == looked.after.read_at == NOW + timedelta(seconds=20)
    grown = looked.applied(Evidence(first_seen_at=NOW))
    assert grown.live == looked.after
    assert grown.covered_at == NOW + timedelta(seconds=20), "idle all the while"
    assert grown.content is not None


def test_productions_schema_is_read_only_when_it_may_have_changed(stage: Stage) -> None:
    known = healthy()
    assert not stage.look(known).read_content
    assert stage.production.read == 0
    written = FakeLive(stage.clock, [live(modified_at=NOW + timedelta(seconds=1))])
    assert stage.look(known, written).read_content
    assert stage.look(None).read_content
    assert stage.look(known.after_content(None, "busy")).read_content
    other = FakeLive(stage.clock, [live(file_id=FileId(8, 2002))])
    assert stage.look(known, other).read_content


def test_a_production_that_cannot_be_read_does_not_keep_the_replica_from_being_listed(stage: Stage) -> None:
    stage.production.contents.append(Unreadable("not the app's user", "run as it"))
    looked = stage.look()
    assert (looked.content, looked.content_error) == (None, "not the app's user (run as it)")
    assert looked.sighting.result is LookResult.OK


def test_without_a_file_there_is_no_schema_to_read(stage: Stage) -> None:
    gone = live(file_id=None, modified_at=None, captures=(), wal_index=None)
    assert not stage.look(None, FakeLive(stage.clock, [gone])).read_content
