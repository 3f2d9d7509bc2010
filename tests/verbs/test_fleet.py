"""The fleet keeper: a changed file is taken over whole, a broken one keeps the old fleet and is said once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from sidecar.core.errors import ConfigError, Mistake
from sidecar.core.policy import Policy
from sidecar.fleet import REREAD_EVERY, RESCAN_EVERY, Fleet, FleetKeeper
from tests.core.evidences import NOW, database
from tests.fakes import FakeClock


@dataclass
class Folder:
    """A file with a name a line, read as a fleet; `broken` in it is a mistake. A folder of databases may stand beside."""

    root: Path
    loads: int = 0

    @property
    def file(self) -> Path:
        return self.root / "litestream.yml"

    @property
    def dir(self) -> Path:
        return self.root / "dir"

    def write(self, *names: str) -> None:
        fresh = self.root / "fresh"
        fresh.write_text("\n".join(names))
        fresh.replace(self.file)  # as editors do

    def load(self) -> Fleet:
        self.loads += 1
        if not self.file.exists():
            raise ConfigError("litestream.yml", (Mistake("", None, "not found"),))
        found = self.file.read_text().split()
        if "broken" in found:
            raise ConfigError("litestream.yml", (Mistake("dbs", found.index("broken") + 1, "is broken"),))
        watched = sorted(each.stem for each in self.dir.glob("*.db"))
        databases = {each.path: each for each in map(database, [*found, *watched])}
        return Fleet(
            databases, dict.fromkeys(databases, Policy()), 60.0, None, None, (self.file,), self.dir.exists(), (self.dir,)
        )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    made.write("app")
    return made


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
def keeper(folder: Folder, clock: FakeClock) -> FleetKeeper:
    return FleetKeeper(folder.load, clock)


def names(keeper: FleetKeeper) -> list[str]:
    return sorted(each.name for each in keeper.fleet.databases.values())


def test_a_file_that_did_not_change_is_not_read_again(folder: Folder, keeper: FleetKeeper) -> None:
    assert not keeper.poll()
    assert not keeper.poll()
    assert folder.loads == 1


def test_a_changed_file_is_taken_over_whole(folder: Folder, keeper: FleetKeeper, clock: FakeClock) -> None:
    clock.go(timedelta(minutes=3))
    folder.write("app", "shop")
    assert keeper.poll()
    assert names(keeper) == ["app", "shop"]
    assert keeper.reloaded_at == NOW + timedelta(minutes=3)
    assert keeper.fleet.named("shop") == database("shop")
    assert keeper.fleet.named("nobody") is None
    assert not keeper.poll()


def test_a_request_reads_it_again_also_unchanged(folder: Folder, keeper: FleetKeeper) -> None:
    assert keeper.poll(force=True)
    assert folder.loads == 2


def test_a_broken_file_keeps_the_old_fleet_and_is_said_once(folder: Folder, keeper: FleetKeeper) -> None:
    before = keeper.fleet
    folder.write("app", "broken")
    assert keeper.poll()
    assert keeper.fleet is before
    assert not keeper.reload_successful
    assert keeper.reloaded_at == NOW
    assert str(keeper.error) == "litestream.yml: dbs: is broken (line 2)"
    assert not keeper.poll()


def test_another_mistake_is_said_again_and_the_same_one_is_not(folder: Folder, keeper: FleetKeeper) -> None:
    folder.write("app", "broken")
    assert keeper.poll()
    folder.write("broken")
    assert keeper.poll()
    folder.write("broken", "app")
    assert not keeper.poll(), "the same sentence as before"


def test_a_mended_file_is_taken_over(folder: Folder, keeper: FleetKeeper) -> None:
    folder.write("broken")
    keeper.poll()
    folder.write("app", "shop")
    assert keeper.poll()
    assert (keeper.reload_successful, keeper.error) == (True, None)
    assert names(keeper) == ["app", "shop"]


def test_a_file_that_is_away_keeps_the_old_fleet(folder: Folder, keeper: FleetKeeper) -> None:
    folder.file.unlink()
    assert keeper.poll()
    assert names(keeper) == ["app"]
    assert not keeper.reload_successful
    folder.write("app")
    assert keeper.poll()
    assert keeper.reload_successful


def test_a_configmap_that_is_swapped_is_a_change(folder: Folder, clock: FakeClock) -> None:
    """Kubernetes turns the link `..data`; the file's own name and link stay."""
    for version, names_in_it in (("one", "app"), ("two", "app shop")):
        (folder.root / version).mkdir()
        (folder.root / version / "litestream.yml").write_text(names_in_it)
    data = folder.root / "..data"
    data.symlink_to("one")
    folder.file.unlink()
    folder.file.symlink_to("..data/litestream.yml")
    keeper = FleetKeeper(folder.load, clock)
    turned = folder.root / "turned"
    turned.symlink_to("two")
    turned.replace(data)
    assert keeper.poll()
    assert names(keeper) == ["app", "shop"]


def test_at_the_start_a_broken_file_is_refused(folder: Folder, clock: FakeClock) -> None:
    folder.write("broken")
    with pytest.raises(ConfigError, match="dbs: is broken"):
        FleetKeeper(folder.load, clock)


def test_a_database_that_appears_in_a_watched_folder_follows_without_a_change_of_the_file(
    folder: Folder, clock: FakeClock
) -> None:
    folder.dir.mkdir()
    keeper = FleetKeeper(folder.load, clock)
    (folder.dir / "tenant.db").touch()
    assert not keeper.poll(), "not before the time"
    clock.go(RESCAN_EVERY)
    assert keeper.poll()
    assert names(keeper) == ["app", "tenant"]
    clock.go(RESCAN_EVERY)
    assert not keeper.poll(), "nothing new"
    assert keeper.reloaded_at == NOW, "the files were not edited"
    (folder.dir / "tenant.db").unlink()
    clock.go(RESCAN_EVERY)
    assert keeper.poll()
    assert names(keeper) == ["app"]


def test_readers_see_one_whole_fleet(folder: Folder, keeper: FleetKeeper) -> None:
    held = keeper.fleet
    folder.write("shop")
    keeper.poll()
    assert sorted(held.databases) == sorted(held.policies) == ["/data/app.db"]
    assert sorted(keeper.fleet.databases) == sorted(keeper.fleet.policies) == ["/data/shop.db"]


@dataclass
class Watched:
    """A keeper of a fleet with a watched folder, whose file was written an hour ago; counts what is read for it."""

    folder: Folder
    clock: FakeClock
    rescans: int = 0

    def __post_init__(self) -> None:
        self.folder.dir.mkdir()
        self.edited(timedelta(hours=-1))
        self.keeper = FleetKeeper(self.folder.load, self.clock, rescan=self.rescan)
        self.folder.loads = 0

    def rescan(self) -> Fleet:
        self.rescans += 1
        return self.keeper.fleet

    def edited(self, later: timedelta) -> None:
        at = (self.clock.now() + later).timestamp()
        os.utime(self.folder.file, (at, at))

    def read(self, after: timedelta = RESCAN_EVERY, *, force: bool = False) -> tuple[int, int]:
        """What a poll after some time reads: files, folders alone."""
        self.folder.loads = self.rescans = 0
        self.clock.go(after)
        self.keeper.poll(force=force)
        return self.folder.loads, self.rescans


@pytest.fixture
def watched(folder: Folder, clock: FakeClock) -> Watched:
    return Watched(folder, clock)


def test_while_the_files_stay_as_they_are_only_the_folders_are_looked_into(watched: Watched) -> None:
    assert [watched.read() for _ in range(5)] == [(0, 1)] * 5
    assert watched.read(REREAD_EVERY) == (1, 0), "once a minute all is read"
    assert watched.read() == (0, 1)
    assert watched.read(force=True) == (1, 0)


def test_a_file_that_was_just_written_is_read_until_another_edit_would_show(watched: Watched) -> None:
    watched.edited(timedelta(0))
    assert watched.read(timedelta(seconds=1)) == (1, 0)
    before = watched.folder.file.stat()
    watched.folder.file.write_text("abc")  # as long as "app", in the same tick
    os.utime(watched.folder.file, ns=(before.st_mtime_ns, before.st_mtime_ns))
    assert watched.read() == (1, 0)
    assert names(watched.keeper) == ["abc"]
    assert watched.read() == (0, 1)


def test_a_broken_file_is_read_again_with_each_rescan(watched: Watched) -> None:
    watched.folder.write("broken")
    watched.edited(timedelta(hours=-1))
    assert watched.read() == (1, 0)
    assert watched.read() == (1, 0)
    watched.folder.write("app")
    watched.edited(timedelta(hours=-1))
    assert watched.read() == (1, 0)
    assert watched.keeper.reload_successful
    assert watched.read() == (0, 1)
