"""The pulse on real files: a few are read as ever; of many a commit costs the reading of one, and nothing is missed for long."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from sidecar.adapters.live_files import LiveFiles
from sidecar.core.instants import SETTLED
from sidecar.core.model import Database, Replica
from sidecar.core.policy import Policy
from sidecar.fleet import Fleet
from sidecar.pulse import ALL_S, FEW, WOKEN_S, Pulse
from tests.fakes import FakeClock, MemoryLedger

MANY = FEW + 10
SOON = timedelta(seconds=WOKEN_S[0])


@dataclass
class Books(MemoryLedger):
    """In memory only."""

    error: str | None = None

    def refresh(self) -> None: ...

    def flush(self) -> None: ...

    def forget(self, keep: Collection[str]) -> int:  # noqa: ARG002 - a port's
        return 0


@dataclass
class Eyes:
    """A watcher that fires when it is told to."""

    fired: bool = False

    def watch(self, fleet: Fleet) -> None: ...

    def rearm(self) -> None:
        self.fired = False


@dataclass
class Many:
    """Databases of an hour ago with a WAL and an empty folder of Litestream's, and the pulse that reads them."""

    folder: Path
    count: int
    clock: FakeClock = field(default_factory=FakeClock)
    ledger: Books = field(default_factory=Books)
    eyes: Eyes = field(default_factory=Eyes)
    read: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number in range(self.count):
            self.level0(number).mkdir(parents=True)
            for suffix in ("", "-wal", "-shm"):
                self.file(number, suffix).write_bytes(bytes(200))
            for each in (self.level0(number), self.file(number), self.file(number, "-wal")):
                self.touch(each, timedelta(hours=-1))
        databases = {str(self.file(number)): self.database(number) for number in range(self.count)}
        policies = dict.fromkeys(databases, Policy())
        self.fleet = Fleet(databases, policies, 60.0, None, None, (), rescan=False, folders=())
        self.pulse = Pulse(self.clock, LiveFiles(self.reading, self.clock), self.ledger, self.eyes)
        assert self.pulse.turn(self.fleet, woken=False), "the first turn reads"
        self.forget()

    def reading(self, path: Path, size: int, offset: int) -> bytes:
        self.read.append(path.name.removesuffix(".db-shm"))
        return path.read_bytes()[offset : offset + size]

    def forget(self) -> None:
        self.read.clear()

    def database(self, number: int) -> Database:
        path = self.file(number)
        return Database(f"t{number}", str(path), f"{path.parent}/.{path.name}-litestream", Replica("file", "replica"))

    def file(self, number: int, suffix: str = "") -> Path:
        return self.folder / f"t{number}.db{suffix}"

    def level0(self, number: int) -> Path:
        return self.folder / f".t{number}.db-litestream" / "ltx" / "0"

    def touch(self, path: Path, later: timedelta = timedelta(0)) -> None:
        at = (self.clock.now() + later).timestamp()
        os.utime(path, (at, at))

    def commit(self, number: int) -> None:
        with self.file(number, "-wal").open("ab") as wal:
            wal.write(b"a commit")
        self.touch(self.file(number, "-wal"))
        self.eyes.fired = True

    def turn(self, later: timedelta = SOON, *, woken: bool = False) -> list[str]:
        """A turn after some time: the names of what was read."""
        self.forget()
        self.clock.go(later)
        self.pulse.turn(self.fleet, woken=woken)
        return list(self.read)

    @property
    def everything(self) -> list[str]:
        return [f"t{number}" for number in range(self.count)]

    def at_rest(self) -> None:
        """All was read, long after anything was written."""
        assert self.turn(timedelta(seconds=ALL_S[1])) == self.everything


def test_a_commit_to_one_of_many_is_read_at_once_and_nothing_else(tmp_path: Path) -> None:
    many = Many(tmp_path, MANY)
    many.commit(7)
    assert many.turn() == ["t7"]
    live = many.ledger.evidence[str(many.file(7))].live
    assert live is not None
    assert (live.read_at, live.wal_bytes) == (many.clock.now(), 208)


def test_a_few_are_all_read_as_ever(tmp_path: Path) -> None:
    few = Many(tmp_path, FEW)
    few.commit(7)
    assert few.turn() == few.everything
    assert few.turn(woken=True) == few.everything
    assert few.turn() == [], "nothing has woken us"
    assert few.turn(timedelta(seconds=ALL_S[0])) == few.everything


def test_without_events_all_are_read_by_the_timer_and_all_readings_are_recorded(tmp_path: Path) -> None:
    many = Many(tmp_path, MANY)
    assert many.turn(timedelta(seconds=ALL_S[0] - 0.1)) == []
    assert many.turn(timedelta(seconds=0.1)) == many.everything
    read_at = {each.live.read_at for each in many.ledger.evidence.values() if each.live is not None}
    assert read_at == {many.clock.now()}, "what is unchanged is known to be so up to now"


def test_woken_turns_do_not_put_off_the_timer(tmp_path: Path) -> None:
    many = Many(tmp_path, MANY)
    read = [many.turn(woken=True) for _ in range(int(ALL_S[0]))]
    assert read == [[]] * (len(read) - 1) + [many.everything]


def test_an_event_just_after_a_reading_waits_for_its_turn_and_is_not_forgotten(tmp_path: Path) -> None:
    many = Many(tmp_path, MANY)
    many.commit(7)
    many.turn()
    many.commit(8)
    assert many.turn(SOON / 2) == []
    assert many.turn(SOON / 2) == ["t7", "t8"]


def test_a_commit_within_the_tick_of_the_last_one_changes_no_stamp_and_is_read(tmp_path: Path) -> None:
    many = Many(tmp_path, MANY)
    many.commit(7)
    many.turn()
    wal = many.file(7, "-wal")
    before = wal.stat()
    wal.write_bytes(b"x" * before.st_size)
    os.utime(wal, ns=(before.st_mtime_ns, before.st_mtime_ns))
    assert many.turn(woken=True) == ["t7"]
    many.turn(SETTLED, woken=True)
    many.at_rest()
    assert many.turn(woken=True) == [], "by now another commit would show"


def _replaced(many: Many) -> None:
    other = many.folder / "other"
    other.write_bytes(bytes(200))
    many.touch(other, timedelta(hours=-1))
    other.replace(many.file(7))


CHANGES: dict[str, Callable[[Many], object]] = {
    "the database is written": lambda many: many.touch(many.file(7)),
    "the database is replaced by an older file": _replaced,
    "the database is gone": lambda many: many.file(7).unlink(),
    "the WAL is gone": lambda many: many.file(7, "-wal").unlink(),
    "the WAL is cut": lambda many: os.truncate(many.file(7, "-wal"), 0),
    "Litestream captures": lambda many: (many.level0(7) / "1.ltx").touch(),
    "Litestream's folder is gone": lambda many: many.level0(7).rmdir(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_is_read(tmp_path: Path, change: str) -> None:
    many = Many(tmp_path, MANY)
    many.at_rest()
    CHANGES[change](many)
    assert many.turn(woken=True) == ([] if "database is gone" in change else ["t7"])
    live = many.ledger.evidence[str(many.file(7))].live
    assert live is not None
    assert live.read_at == many.clock.now()


def test_what_could_not_be_read_is_read_again(tmp_path: Path) -> None:
    many = Many(tmp_path, MANY)
    many.file(7, "-shm").unlink()
    many.file(7, "-shm").mkdir()
    many.at_rest()
    assert many.turn(woken=True) == ["t7"]


class Slow(LiveFiles):
    """Takes a millisecond for each look."""

    def __init__(self, many: Many) -> None:
        super().__init__(many.reading, many.clock)
        self._many = many

    def changed(self, database: Database) -> bool:
        self._many.clock.go(timedelta(milliseconds=1))
        return super().changed(database)


def test_where_reading_takes_long_it_is_done_less_often_and_within_the_limit(tmp_path: Path) -> None:
    many = Many(tmp_path, MANY)
    many.pulse = Pulse(many.clock, Slow(many), many.ledger, many.eyes)
    many.at_rest()
    many.commit(7)
    assert many.turn() == ["t7"]
    many.commit(7)
    assert many.turn(2 * SOON) == []
    assert many.turn(timedelta(seconds=WOKEN_S[1])) == many.everything, "by the timer"
    many.pulse.hurry()
    assert many.turn(timedelta(0)) == many.everything, "another fleet"
