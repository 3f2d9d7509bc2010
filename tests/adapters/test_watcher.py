"""The watcher on real folders: what wakes, what does not, and what is left behind when folders come and go."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sidecar.adapters.watcher import Watcher
from tests.litestreams import App, Writer, until


@dataclass
class Woken:
    """Counts the wakes."""

    count: int = 0
    watcher: Watcher = field(init=False)

    def __call__(self) -> None:
        self.count += 1

    def quiet(self) -> None:
        """Let events that are still on their way arrive, then begin to count anew."""
        for _ in range(20):
            self.count = 0
            self.watcher.rearm()
            threading.Event().wait(0.1)
            if not self.count:
                return
        raise AssertionError("the folders do not come to rest")

    def wakes(self, within: float = 1.0) -> None:
        until(lambda: self.count, within=within, every=0.005, say="woken")


@pytest.fixture
def woken() -> Iterator[Woken]:
    made = Woken()
    made.watcher = Watcher(made, folders_max=4)
    made.watcher.start()
    yield made
    made.watcher.stop()


@pytest.mark.parametrize("change", ["create", "append", "rename", "delete", "mkdir"])
def test_a_change_wakes(woken: Woken, tmp_path: Path, change: str) -> None:
    file = tmp_path / "litestream.yml"
    file.write_text("dbs: []")
    woken.watcher.watch([tmp_path])
    woken.quiet()
    changes: dict[str, Callable[[], object]] = {
        "create": lambda: (tmp_path / "new").write_text("x"),
        "append": lambda: file.write_text("dbs: [] # changed"),
        "rename": lambda: file.rename(tmp_path / "other.yml"),
        "delete": file.unlink,
        "mkdir": (tmp_path / "folder").mkdir,
    }
    changes[change]()
    woken.wakes()


def test_a_configmap_swap_wakes(woken: Woken, tmp_path: Path) -> None:
    for day in ("..monday", "..tuesday"):
        (tmp_path / day).mkdir()
        (tmp_path / day / "litestream.yml").write_text(day)
    (tmp_path / "..data").symlink_to("..monday")
    (tmp_path / "litestream.yml").symlink_to("..data/litestream.yml")
    woken.watcher.watch([tmp_path])
    (tmp_path / "..data_tmp").symlink_to("..tuesday")
    woken.quiet()
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    woken.wakes()
    assert (tmp_path / "litestream.yml").read_text() == "..tuesday"


def test_a_folder_given_by_a_symbolic_link_is_watched(woken: Woken, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    woken.watcher.watch([tmp_path / "link"])
    woken.quiet()
    (tmp_path / "real" / "app.db").write_text("x")
    woken.wakes()


READER = """
import sqlite3, sys
reader = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
assert reader.execute("select count(*) from t").fetchone() == (1,)
reader.close()
for tail in ("", "-wal", "-shm"):
    with open(sys.argv[1] + tail, "rb") as file:
        file.read(100)
"""


def test_a_commit_wakes_and_reading_does_not(woken: Woken, app: App) -> None:
    app.write()
    woken.watcher.watch([app.path.parent])
    woken.quiet()
    # In a process of its own: SQLite keeps descriptors open while another connection of its process holds locks.
    subprocess.run([sys.executable, "-c", READER, str(app.path)], check=True)
    threading.Event().wait(0.1)
    assert woken.count == 0
    app.write()
    woken.wakes()


def test_a_busy_folder_wakes_once_until_it_is_armed_again(woken: Woken, app: App) -> None:
    woken.watcher.watch([app.path.parent])
    armed = threading.active_count() + 1  # the writer's
    with Writer(app, pause=0) as writer:
        for _ in range(3):
            woken.wakes()
            seen = writer.commits
            until(lambda seen=seen: writer.commits > seen + 100, every=0.001)  # type: ignore[misc] # bound now
            assert woken.count == 1
            assert threading.active_count() == armed - 1, "the kernel was meant to be told to send no more"
            woken.count = 0  # it has fired, so nothing is under way
            woken.watcher.rearm()


def test_a_folder_that_comes_later_wakes_and_is_watched(woken: Woken, tmp_path: Path) -> None:
    folder = tmp_path / "meta" / "ltx" / "0"
    woken.watcher.watch([folder])
    folder.mkdir(parents=True)
    woken.watcher.rearm()
    assert woken.count == 1, "it may have been filled before it was watched"
    woken.quiet()
    (folder / "1.ltx").write_text("x")
    woken.wakes()


@pytest.mark.parametrize("anew", [False, True])
def test_a_folder_that_is_removed_and_made_again_is_watched_again(woken: Woken, tmp_path: Path, *, anew: bool) -> None:
    folder = tmp_path / "meta"
    folder.mkdir()
    woken.watcher.watch([folder])
    woken.quiet()
    shutil.rmtree(folder)
    woken.wakes()
    woken.quiet()
    folder.mkdir()
    if anew:
        woken.watcher.watch([folder])
    woken.quiet()
    (folder / "1.ltx").write_text("x")
    woken.wakes()


def test_a_folder_that_is_moved_away_and_replaced_is_watched_at_its_path(woken: Woken, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    woken.watcher.watch([folder])
    woken.quiet()
    folder.rename(tmp_path / "old")
    folder.mkdir()
    woken.watcher.rearm()
    assert woken.count == 1
    woken.quiet()
    (tmp_path / "old" / "a").write_text("x")
    threading.Event().wait(0.1)
    assert woken.count == 0
    (folder / "a").write_text("x")
    woken.wakes()


def test_a_tree_is_watched_with_all_that_is_below(woken: Woken, tmp_path: Path) -> None:
    (tmp_path / "tenants" / "a").mkdir(parents=True)
    woken.watcher.watch([], [tmp_path / "tenants"])
    woken.quiet()
    (tmp_path / "tenants" / "b").mkdir()
    woken.wakes()
    woken.quiet()
    (tmp_path / "tenants" / "b" / "app.db").write_text("x")
    woken.wakes()


def test_folders_that_are_no_longer_wanted_are_quiet_and_leave_no_thread(woken: Woken, tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(6)]
    for each in folders:
        each.mkdir()
    woken.watcher.watch(folders[:1])
    before = threading.active_count()
    for each in folders * 2:
        woken.watcher.watch([each])
        (each / "a").write_text("x")
        until(lambda: woken.count)
        woken.quiet()
    woken.watcher.watch([folders[0]])
    assert threading.active_count() == before
    woken.quiet()
    (folders[1] / "b").write_text("x")
    threading.Event().wait(0.1)
    assert woken.count == 0


def test_no_more_folders_are_watched_than_allowed(woken: Woken, tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(50)]
    for each in folders:
        each.mkdir()
    before = threading.active_count()
    woken.watcher.watch(folders)
    assert threading.active_count() - before == 4
    woken.quiet()
    (folders[0] / "a").write_text("x")
    woken.wakes()


def test_a_stopped_watcher_leaves_nothing_and_can_start_again(tmp_path: Path) -> None:
    woken, threads = Woken(), threading.active_count()
    woken.watcher = Watcher(woken)
    woken.watcher.watch([tmp_path])
    for _ in range(2):
        woken.watcher.start()
        woken.watcher.start()
        woken.quiet()
        (tmp_path / "a").write_text("x")
        woken.wakes()
        woken.watcher.stop()
        woken.watcher.stop()
        assert threading.active_count() == threads


def test_that_a_folder_has_fired_is_remembered_until_it_is_armed_again(woken: Woken, tmp_path: Path) -> None:
    woken.watcher.watch([tmp_path])
    woken.quiet()
    assert not woken.watcher.fired
    (tmp_path / "a").write_text("x")
    woken.wakes()
    assert woken.watcher.fired
    woken.watcher.rearm()
    assert not woken.watcher.fired
