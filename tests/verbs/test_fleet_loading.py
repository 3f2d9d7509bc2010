"""What the daemon reads of its two files and of the folders they name, how often, and which folders it has watched."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from sidecar.adapters.litestream_yml import SQLITE_HEADER
from sidecar.adapters.watcher import FOLDERS_MAX, Watcher
from sidecar.assembly import TREES_DATABASES_MAX, FolderWatch
from sidecar.assembly_tools import FleetLoader, load_fleet
from sidecar.fleet import Fleet
from sidecar.options import Options

CONFIG = """\
dbs:
  - {{dir: {folder}/data, pattern: '*.db', recursive: {recursive}, watch: true, replica: {{type: file, path: {folder}/replica}}}}
"""


def database(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as made:
        made.execute("create table t (id integer primary key)")


def loader(folder: Path, *, recursive: bool = False) -> FleetLoader:
    (folder / "etc").mkdir()
    config = folder / "etc" / "litestream.yml"
    config.write_text(CONFIG.format(folder=folder, recursive=str(recursive).lower()))
    database(folder / "data" / "one.db")
    return load_fleet(Options(litestream_config=config, config=None, state_dir=folder / "state"), "0.5")


def names(fleet: Fleet) -> list[str]:
    return sorted(each.name for each in fleet.databases.values())


@pytest.mark.parametrize("recursive", [False, True])
def test_databases_that_come_and_leave_are_found_and_else_the_fleet_stays_the_same_one(
    tmp_path: Path, *, recursive: bool
) -> None:
    load = loader(tmp_path, recursive=recursive)
    fleet = load()
    assert load.rescan() is fleet
    later = tmp_path / "data" / ("deeper" if recursive else "") / "two.db"
    later.parent.mkdir(exist_ok=True)
    later.touch()
    assert load.rescan() is fleet, "not a database yet"
    later.write_bytes(SQLITE_HEADER + bytes(84))
    assert names(load.rescan()) == ["one", "two"]
    assert load.rescan() is load.rescan()
    later.unlink()
    assert load.rescan() == fleet


def test_a_rescan_before_anything_was_read_reads(tmp_path: Path) -> None:
    assert names(loader(tmp_path).rescan()) == ["one"]


def test_a_folder_that_cannot_be_looked_into_any_more_is_said(tmp_path: Path) -> None:
    load = loader(tmp_path)
    load()
    (tmp_path / "data").rename(tmp_path / "away")
    fleet = load.rescan()
    assert names(fleet) == []
    assert any("cannot be read" in each for each in fleet.warnings)


class Noted(Watcher):
    """Notes which folders it is told to watch."""

    def __init__(self) -> None:
        super().__init__(lambda: None)
        self.folders: list[Path] = []
        self.trees: list[Path] = []

    def watch(self, folders: Iterable[Path], trees: Iterable[Path] = ()) -> None:
        self.folders, self.trees = list(folders), list(trees)


def watched(fleet: Fleet) -> Noted:
    noted = Noted()
    FolderWatch(noted).watch(fleet)
    return noted


def of(fleet: Fleet, count: int) -> Fleet:
    """The same fleet with so many databases."""
    (one,) = fleet.databases.values()
    more = (one, *(replace(one, path=f"{one.path}-{n}", meta_path=f"{one.path}-{n}.meta") for n in range(1, count)))
    return replace(fleet, databases={each.path: each for each in more}, policies={})


def test_a_folder_of_databases_is_watched_flat_with_litestreams_folders_while_there_are_few(tmp_path: Path) -> None:
    fleet, etc, data = loader(tmp_path)(), tmp_path / "etc", tmp_path / "data"
    few = watched(of(fleet, 3))
    assert (few.folders[:2], few.trees) == ([etc, data], [])
    assert [each.name for each in few.folders[2:]] == ["0"] * 3
    assert watched(of(fleet, FOLDERS_MAX)).folders == [etc, data], "all or none"
    assert watched(of(fleet, 1000)).folders == [etc, data]


def test_a_recursive_folder_is_watched_as_a_tree_while_there_are_few(tmp_path: Path) -> None:
    fleet = loader(tmp_path, recursive=True)()
    data = tmp_path / "data"
    assert watched(of(fleet, TREES_DATABASES_MAX)).trees == [data]
    many = watched(of(fleet, TREES_DATABASES_MAX + 1))
    assert (many.trees, many.folders) == ([], [tmp_path / "etc", data])
