"""The check of production for real: in pieces, in one go but not for long, and never `damaged` on the word of our own copy alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from threading import Event

import apsw
import pytest

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.live_descriptors import LiveDescriptors
from sidecar.adapters.live_files import LiveFiles
from sidecar.adapters.page_file import PageFile, page_file
from sidecar.adapters.scratch import Scratch
from sidecar.adapters.sqlite_copy import CopySqlite
from sidecar.adapters.sqlite_live import LiveSqlite
from sidecar.core.errors import SidecarError, Stopped, Unreadable
from sidecar.core.model import Content, DatabaseCheck
from sidecar.core.policy import Policy
from sidecar.core.ports import Progress
from sidecar.pieces import Pace
from sidecar.production import Examiner
from tests.copying import Copies, complaints, keep_tally
from tests.parity_app import Process
from tests.verbs.test_piecewise import SPREAD, TINY, copies

PAGE = 100  # of the table's tree, a leaf
JUNK = b"\xee" * 512


@dataclass
class Whole:
    """SQLite's own copies, counted; one may fail."""

    real: LiveSqlite = field(default_factory=lambda: LiveSqlite(LiveDescriptors()))
    fails: Exception | None = None
    made: int = 0

    def content(self, path: str, *, schema_version: str, now: datetime) -> Content:
        return self.real.content(path, schema_version=schema_version, now=now)

    def copy(
        self, path: str, target: Path, *, timeout_s: float, stop: Event, progress: Progress, hold_s: float | None = None
    ) -> int:
        self.made += 1
        if self.fails is not None:
            raise self.fails
        return self.real.copy(path, target, timeout_s=timeout_s, stop=stop, progress=progress, hold_s=hold_s)


@dataclass
class Stage:
    app: Process
    folder: Path
    whole: Whole = field(default_factory=Whole)

    def __post_init__(self) -> None:
        self.copies: Copies = copies(self.app)
        self.scratch = self.folder / "scratch"
        self.seen: list[bytes] = []

    def check(self, timeout_s: float | None = None) -> DatabaseCheck:
        clock = SystemClock()
        examiner = Examiner(
            self.whole, CopySqlite(), Scratch(self.scratch, None), clock, apsw.sqlite_lib_version(), self.copies.copier
        )  # fmt: skip
        policy = Policy() if timeout_s is None else replace(Policy(), drill_timeout=Policy().drill_timeout * timeout_s)
        live = LiveFiles(LiveDescriptors().read, clock).read(self.copies.database)
        found = examiner.run(
            self.copies.database, policy, live, stop=Event(), progress=lambda *_: None, on_sound_copy=self.sound
        )  # fmt: skip
        assert list(self.scratch.glob("room-*")) == []
        return found

    def sound(self, copy: Path) -> None:
        assert complaints(copy) == []
        assert copy.stat().st_mode & 0o777 == 0o600
        assert [each.name for each in copy.parent.iterdir()] == [copy.name]
        self.seen.append(copy.read_bytes())


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Process(tmp_path / "data" / "app.db") as app:
        keep_tally(app)
        app.write(30_000)
        yield Stage(app, tmp_path)


def test_production_is_checked_in_pieces_and_the_copy_is_whole(stage: Stage) -> None:
    found = stage.check()
    assert (found.sound, found.reason, found.message) == (True, None, "")
    assert found.size_bytes == len(stage.seen[0]) == stage.app.sql("pragma page_count")[0][0] * 4096
    assert stage.copies.witness.snapshots > 3
    assert stage.whole.made == 0


def test_beside_an_app_that_writes(stage: Stage) -> None:
    stage.app.go("small", pause=0.002)
    stage.copies.copier = replace(stage.copies.copier, pace=replace(TINY, piece_s=0.02))
    assert [stage.check().sound for _ in range(3)] == [True] * 3
    stage.app.rest()
    assert stage.whole.made == 0


# Neither way


def new_wal(stage: Stage) -> None:
    """Everything changed, and the file of the WAL was cut off after it, so that nothing tells."""
    stage.app.sql(SPREAD, "pragma wal_checkpoint(truncate)", SPREAD)


def test_what_would_bind_production_for_long_is_not_done_and_said(stage: Stage) -> None:
    stage.copies.copier = replace(stage.copies.copier, pace=Pace(piece_s=0, rest_s=0.001, settle_s=20.0))
    stage.copies.witness.between = lambda _: new_wal(stage)
    found = stage.check()
    assert (found.sound, found.reason) == (None, "check_old")
    assert found.message == (
        f"a copy would keep a read transaction open on {stage.app.path} for too long: "
        "whole, the copy's read transaction took longer than the 0 s it had; "
        "in pieces, it cannot be told what changed while it was copied: its WAL was begun anew, and neither the WAL nor Litestream's local files say"
    )
    assert found.hint == (
        "look whether Litestream runs, and whether its folder beside the database is there; "
        "at a quiet hour `litestream-sidecar backup app OUT` copies and checks it in one go"
    )
    assert stage.seen == []
    stage.copies.witness.between = lambda _: None
    assert stage.check().sound is True, "once nothing writes, pieces need no lists"


def test_small_enough_it_is_copied_whole_where_pieces_do_not_say(stage: Stage) -> None:
    stage.copies.copier = replace(
        stage.copies.copier, pace=Pace(piece_s=0, rest_s=0.001, settle_s=20.0), hold_s=60.0
    )  # fmt: skip
    stage.copies.witness.between = lambda _: new_wal(stage)
    assert stage.check().sound is True


# Damage, and what only looks like it


def test_damage_is_said_once_sqlites_own_copy_has_it_too(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "sidecar.production"):
        stage.app.sql("pragma wal_checkpoint(truncate)")
        with stage.app.path.open("r+b") as file:
            os.pwrite(file.fileno(), JUNK, (PAGE - 1) * 4096)
        found = stage.check()
    assert (found.sound, found.reason) == (False, "db_corrupt")
    assert found.message.startswith("quick_check: ")
    assert found.hint.startswith("do not migrate")
    assert stage.whole.made == 1
    assert [each.message.partition(" (")[0] for each in caplog.records] == ["app: a copy in pieces was found damaged"]
    assert stage.seen == []


@dataclass
class Spoiling:
    """A bug of ours: of one page something else is written than was read."""

    real: PageFile
    page_size: int

    def put(self, first: int, data: memoryview, reading: int) -> None:
        wrong = bytearray(data)
        if first <= PAGE < first + len(data) // self.page_size:
            at = (PAGE - first) * self.page_size
            wrong[at : at + len(JUNK)] = JUNK
        self.real.put(first, memoryview(wrong), reading)

    def finish(self, page_count: int) -> None:
        self.real.finish(page_count)


@contextmanager
def spoiled(path: Path, page_size: int) -> Iterator[Spoiling]:
    with page_file(path, page_size) as file:
        yield Spoiling(file, page_size)


def spoil(stage: Stage) -> None:
    stage.copies.copier = replace(stage.copies.copier, page_file=spoiled)


def test_a_slip_of_ours_never_calls_production_damaged(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    spoil(stage)
    with caplog.at_level(logging.WARNING, "sidecar.production"):
        found = stage.check()
    assert (found.sound, found.reason, found.message) == (True, None, "")
    assert stage.whole.made == 1
    assert len(stage.seen) == 1, "and what is kept is SQLite's own copy, which is sound"
    assert caplog.records[-1].message == (
        "app: production is sound: a copy by SQLite itself passed. Please report this"
    )


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unreadable("it cannot be opened", "start the app"), "unreadable"),
        (Stopped("told to stop"), "check_old"),
        (SidecarError("the copy cannot be written", "check the disk"), "unreadable"),
        (OSError(28, "No space left on device"), "check_old"),
        (ZeroDivisionError("unforeseen"), "check_old"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_without_a_second_opinion_nothing_is_known(stage: Stage, error: Exception, reason: str) -> None:
    spoil(stage)
    stage.whole.fails = error
    found = stage.check()
    assert (found.sound, found.reason) == (None, reason)
    assert found.message.startswith("a copy in pieces was found damaged (quick_check: ")
    assert "and a second copy that was to confirm it could not be checked: " in found.message
    assert stage.seen == []


def test_the_time_of_a_check_is_bounded_as_a_whole(stage: Stage) -> None:
    found = stage.check(timeout_s=0.0)
    assert (found.sound, found.reason) == (None, "check_old")
    assert "longer than" in found.message
