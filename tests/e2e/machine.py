"""What a machine does to those who run on it: disks that fill, memory, descriptors and clocks that run out. Needs root."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.stage import Sidecar
from tests.litestreams import ROOT, binary, environment, until

MEMORY_BYTES = 6 * 1024 * 1024  # Litestream's restore wants twice as much
OPENING_A_CHILD = 8  # descriptors: six for its pipes, two for the moment in which it starts


@contextlib.contextmanager
def tmpfs(at: Path, size: str) -> Iterator[Path]:
    """A small disk."""
    at.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(at)], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


@contextlib.contextmanager
def filled(disk: Path) -> Iterator[None]:
    """No byte is free on this disk while the block lasts."""
    ballast = [disk / "ballast-0", disk / "ballast-1"]
    for file, size in zip(ballast, (1 << 20, 1 << 12), strict=True):
        with contextlib.suppress(OSError), file.open("wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * size)
    try:
        yield
    finally:
        for file in ballast:
            file.unlink()


class Ext4:
    """A disk with a file system that can lose its disk: `abort` is what the kernel does then."""

    def __init__(self, image: Path, at: Path) -> None:
        self._image, self.at = image, at
        at.mkdir(parents=True)
        with image.open("wb") as file:
            file.truncate(32_000_000)
        subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)

    def mount(self) -> None:
        """Once nothing holds what was aborted: another test's mount namespace may keep it a while, and then it would come back as it was."""

        def writable() -> bool:
            subprocess.run(["mount", "-o", "loop", str(self._image), str(self.at)], check=True)
            if not os.statvfs(self.at).f_flag & os.ST_RDONLY:
                return True
            self.unmount()
            return False

        until(writable, every=0.5, say="a disk that can be written to")

    def abort(self) -> None:
        subprocess.run(["mount", "-o", "remount,abort", str(self.at)], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.at)], check=True)


class Gate:
    """Litestream behind a script: what stands in `before` is run by the shell that is to become a restore."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.executable, self._before, self._go = folder / "litestream", folder / "before-restore", folder / "go"
        self.executable.write_text(
            f'#!/bin/sh\ncase "$*" in *-dry-run*) ;; restore*) [ ! -f {self._before} ] || . {self._before} ;; esac\n'
            f'exec {binary()} "$@"\n'
        )
        self.executable.chmod(0o755)

    @contextlib.contextmanager
    def before(self, script: str) -> Iterator[None]:
        self._before.write_text(f"{script}\n")
        try:
            yield
        finally:
            self._before.unlink()

    @contextlib.contextmanager
    def shut(self, sidecar: Sidecar, rooms: Path) -> Iterator[str]:
        """A drill that has a room and waits to restore; where it can be followed. It goes on when the block ends."""
        with self.before(f"while [ ! -e {self._go} ]; do sleep 0.02; done"):
            sidecar.until_no_drill()
            location = str(sidecar.post_drill().headers["location"])
            until(lambda: list(rooms.glob("room-*")), say="the drill has a room")
            until(lambda: list(waiting(self._go.parent)), say="its restore is about to begin")
            try:
                yield location
            finally:
                self._go.touch()
                until(lambda: not list(waiting(self._go.parent)), say="the restore begins")
                self._go.unlink()


def waiting(folder: Path) -> Iterator[int]:
    """Shells that are to become a restore."""
    for pid, argv in commands():
        if (
            argv[:1] == ["/bin/sh"]
            and str(folder / "litestream") in argv
            and "-dry-run" not in argv
            and "restore" in argv
        ):
            yield pid


def commands() -> Iterator[tuple[int, list[str]]]:
    """Every process and its command line."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield int(entry.name), (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")


@contextlib.contextmanager
def little_memory() -> Iterator[str]:
    """A line of shell after which the kernel kills whoever runs it and then takes more than a few megabytes."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers")
    if (old := Path("/sys/fs/cgroup/memory")).is_dir():
        parent, limit = old, "memory.limit_in_bytes"
    elif unified.exists() and "memory" in unified.read_text():
        parent, limit = unified.parent, "memory.max"
    else:  # where there are no groups to limit, what the kernel sends
        yield "kill -9 $$"
        return
    group = parent / f"sidecar-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / limit).write_text(str(MEMORY_BYTES))
        yield f"echo $$ > {group}/cgroup.procs"
    finally:
        until(lambda: not (group / "cgroup.procs").read_text(), say="nobody is left in the group")
        group.rmdir()


def descriptors(pid: int) -> set[int]:
    """Numbers of the open files of a process that is at rest: the smallest of some readings."""
    readings = []
    for _ in range(20):
        readings.append({int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()})
        time.sleep(0.02)
    return min(readings, key=len)


@contextlib.contextmanager
def few_descriptors(pid: int, left: int) -> Iterator[None]:
    """A running process may open so many files more, while the block lasts."""
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used, top = descriptors(pid), 0
    while left:
        left -= top not in used
        top += 1
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (top, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def cpu_s(pid: int) -> float:
    """Seconds of processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class WallClock:
    """The wall clock of one process, which a test may set while it runs; the monotonic one is left alone."""

    def __init__(self, file: Path) -> None:
        self._file = file
        libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        assert libraries, "apt install faketime"
        self.env = {
            "LD_PRELOAD": str(libraries[0]), "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
        }  # fmt: skip
        self.set(0)

    def set(self, seconds: int) -> None:
        """So far ahead of (behind) the machine's."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.rename(self._file)


def command(sidecar: Sidecar, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the sidecar's in the foreground, beside the daemon."""
    argv = [sys.executable, "-m", "sidecar", *arguments, *sidecar.options]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=ROOT, env=environment(), check=False)
