"""Scratch rooms: private, bounded, and empty after, also when their owner was killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.adapters.scratch import Scratch
from sidecar.core.errors import EnvironmentProblem, ScratchFull
from tests.litestreams import until
from tests.starved import descriptors_left

HOLDER = """
import signal, subprocess, sys
from pathlib import Path
from sidecar.adapters.scratch import Scratch
with Scratch(Path(sys.argv[1]), None).room(0) as room:
    (room / "half-restored.db").write_bytes(b"x" * 1000)
    child = subprocess.Popen(["sleep", "300"], cwd=room, start_new_session=True)
    print(child.pid, flush=True)
    signal.pause()
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_room_is_private_and_gone_after(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "scratch", None)
    with scratch.room(1000) as room:
        assert room.stat().st_mode & 0o777 == 0o700
        assert room.parent.stat().st_mode & 0o777 == 0o700
        (room / "sub").mkdir()
        (room / "sub" / "f").write_text("x")
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_room_is_gone_after_an_error(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "scratch", None)

    def fail() -> None:
        with scratch.room(0) as room:
            (room / "f").write_text("x")
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_too_little_room_is_refused_with_figures_and_a_hint(tmp_path: Path) -> None:
    with (
        pytest.raises(ScratchFull, match=r"1\.0 MB free, 2\.0 MB are needed") as caught,
        Scratch(tmp_path / "scratch", 1_000_000).room(2_000_000),
    ):
        pass
    assert "scratch-max" in caught.value.hint


def test_what_a_running_drill_was_promised_is_not_promised_twice(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "scratch", 3_000_000)
    with scratch.room(2_000_000) as room:
        assert scratch.free_bytes() == 3_000_000
        with pytest.raises(ScratchFull), scratch.room(2_000_000):
            pass
        (room / "f").write_bytes(b"x" * 1_000_000)
        assert 1_990_000 < scratch.free_bytes() < 2_001_000
        with scratch.room(900_000):
            pass
    with scratch.room(2_000_000):
        pass


def test_a_small_disk(small_disk: Path) -> None:
    scratch = Scratch(small_disk / "scratch", 10**12)
    assert 1_500_000 < scratch.free_bytes() <= 2 * 1024 * 1024
    with scratch.room(1_000_000) as room:
        with pytest.raises(OSError, match="No space left"):
            (room / "f").write_bytes(b"x" * 4_000_000)
        assert scratch.free_bytes() == 0
        with pytest.raises(ScratchFull), scratch.room(1):
            pass
    assert scratch.free_bytes() > 1_500_000


def test_kill_9_leaves_a_room_and_a_child_and_sweep_removes_both(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "scratch", None)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "scratch")], stdout=subprocess.PIPE, cwd=Path.cwd()
    )
    assert holder.stdout is not None
    with holder, holder.stdout:
        child = int(holder.stdout.readline())
        with scratch.room(0) as mine:
            assert scratch.sweep() == 0  # its owner lives, and so do we
            assert alive(child)
            os.kill(holder.pid, signal.SIGKILL)
            holder.wait()
            assert alive(child)
            assert scratch.sweep() == 1
            until(lambda: not alive(child), within=5)
            assert [mine] == list((tmp_path / "scratch").iterdir())


def test_a_room_that_cannot_be_removed_now_is_removed_with_the_next(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "scratch", None)
    with contextlib.ExitStack() as starved:
        with scratch.room(0) as room:
            (room / "restored").write_bytes(b"x" * 1000)
            starved.enter_context(descriptors_left(0))
        assert (room / "restored").exists(), "removing takes descriptors; else this test shows nothing"
    with scratch.room(0) as other:
        assert list((tmp_path / "scratch").iterdir()) == [other]


def test_a_room_that_cannot_be_locked_is_not_left_behind(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "scratch", None)
    for left in range(3):
        with descriptors_left(left), contextlib.suppress(OSError), scratch.room(0):
            assert left == 2
        with scratch.room(0) as room:
            assert list((tmp_path / "scratch").iterdir()) == [room]


def test_sweep_touches_nothing_but_rooms(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path / "scratch", None)
    kept = tmp_path / "scratch" / "kept"
    kept.mkdir()
    (tmp_path / "scratch" / "room-file").write_text("not a directory")
    (tmp_path / "scratch" / "room-link").symlink_to(kept)
    (tmp_path / "scratch" / "room-stale").mkdir()
    assert scratch.sweep() == 1
    assert {"kept", "room-file", "room-link"} == {each.name for each in (tmp_path / "scratch").iterdir()}


def test_a_sweep_beside_rooms_being_made_takes_none_of_them(tmp_path: Path) -> None:
    maker, sweeper = Scratch(tmp_path / "scratch", None), Scratch(tmp_path / "scratch", None)
    done = threading.Event()
    swept: list[int] = []

    def sweep() -> None:
        while not done.is_set():
            swept.append(sweeper.sweep())

    thread = threading.Thread(target=sweep)
    thread.start()
    try:
        for _ in range(200):
            with maker.room(0) as room:
                (room / "f").write_text("still here")
                assert (room / "f").read_text() == "still here"
    finally:
        done.set()
        thread.join()
    assert sum(swept) == 0


def test_foreign_open_or_linked_directories_are_refused(tmp_path: Path) -> None:
    foreign, opened, link = tmp_path / "foreign", tmp_path / "opened", tmp_path / "link"
    foreign.mkdir()
    os.chown(foreign, 4711, 4711)
    opened.mkdir()
    opened.chmod(0o777)
    link.symlink_to(opened)
    (tmp_path / "file").write_text("")
    for path, said in ((foreign, "uid 4711"), (opened, "others may write"), (link, "symbolic link")):
        with pytest.raises(EnvironmentProblem, match=said):
            Scratch(path, None)
    with pytest.raises(EnvironmentProblem, match="cannot be made"):
        Scratch(tmp_path / "file" / "below", None)
