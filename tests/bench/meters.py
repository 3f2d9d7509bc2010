"""What a daemon costs, read from outside: processor time of its own and of its children, memory, commands, opened replica folders."""

from __future__ import annotations

import ctypes
import os
import shlex
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")
IN_OPEN, IN_ISDIR, IN_Q_OVERFLOW = 0x20, 0x4000_0000, 0x4000
EVENT = struct.Struct("iIII")


@dataclass(frozen=True)
class Calls:
    """A program in front of Litestream's that notes each call and becomes the real one; a shell costs it a millisecond."""

    program: Path
    log: Path

    @classmethod
    def before(cls, executable: str, folder: Path) -> Calls:
        made = cls(folder / "litestream", folder / "calls.log")
        made.log.touch()
        made.program.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$*" >> {shlex.quote(str(made.log))}\nexec {shlex.quote(executable)} "$@"\n'
        )
        made.program.chmod(0o755)
        return made

    @property
    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    @property
    def kinds(self) -> Counter[str]:
        """How many of each kind so far."""
        return Counter(kind_of(each) for each in self.lines)

    @property
    def restored(self) -> set[str]:
        """Databases that were restored at least once."""
        return {each.rsplit(" ", 1)[1] for each in self.lines if kind_of(each) == "restore"}


def kind_of(line: str) -> str:
    verb = line.split(" ", 1)[0]
    return "plan" if verb == "restore" and "-dry-run" in line else verb


def cpu_s(pid: int) -> tuple[float, float]:
    """Seconds of processor time: its own, and of the children that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    own, children = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
    return own / TICKS, children / TICKS


def machine_s() -> tuple[float, float]:
    """Seconds of processor time that anybody used, and that the host took away."""
    fields = [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4] - fields[7]) / TICKS, fields[7] / TICKS


def memory_kb(pid: int, name: str) -> int:
    """`Rss`, `Pss` and the like, of all that is mapped."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise AssertionError(f"no {name}")


def folder_bytes(folder: Path) -> int:
    """What it takes on the disk."""
    return sum(each.stat().st_blocks * 512 for each in folder.rglob("*") if each.is_file())


@dataclass
class Opened:
    """Counts how often folders are opened, which is how a listing of a replica on a disk begins, and files in them, by whomever."""

    folders: Iterable[Path]
    listings: int = 0
    reads: int = 0
    lost: bool = False  # the kernel had more events than it keeps
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)

    def __post_init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        assert self._descriptor >= 0, os.strerror(ctypes.get_errno())
        for each in self.folders:
            if libc.inotify_add_watch(self._descriptor, os.fsencode(each), IN_OPEN) < 0:
                self.lost = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            try:
                data = os.read(self._descriptor, 4 << 20)
            except BlockingIOError:
                continue
            at = 0
            while at < len(data):
                _, mask, _, length = EVENT.unpack_from(data, at)
                at += EVENT.size + length
                self.lost = self.lost or bool(mask & IN_Q_OVERFLOW)
                self.listings += bool(mask & IN_ISDIR) and not length
                self.reads += not mask & IN_ISDIR

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        os.close(self._descriptor)


@dataclass(frozen=True)
class Meters:
    """Whose costs are measured together."""

    daemon: int
    litestream: int
    others: tuple[int, ...]  # that belong to the measurement: the writer
    calls: Calls
    levels: Callable[[], list[Path]]

    def _spent(self) -> tuple[float, ...]:
        known = [cpu_s(self.litestream), cpu_s(os.getpid()), *map(cpu_s, self.others)]
        return (time.monotonic(), *cpu_s(self.daemon), *machine_s(), known[0][0], sum(each[0] for each in known))

    def window(self, wait: Callable[[], object]) -> dict[str, Any]:
        """What was spent while `wait` waited, as shares of a core and numbers a minute."""
        opened = Opened(self.levels())
        calls, before = self.calls.kinds, self._spent()
        wait()
        after, made = self._spent(), self.calls.kinds - calls
        opened.close()
        seconds, own, children, busy, stolen, litestream, known = (b - a for a, b in zip(before, after, strict=True))
        minutes = seconds / 60
        return {
            "seconds": round(seconds, 1),
            "daemon_share": round(own / seconds, 4),
            "children_share": round(children / seconds, 4),
            "litestream_share": round(litestream / seconds, 4),
            "strangers_share": round(max(busy - own - children - known, 0) / seconds, 3),
            "stolen_share": round(stolen / seconds, 3),
            "commands_per_minute": {kind: round(count / minutes, 1) for kind, count in sorted(made.items())},
            "listings_per_minute": None if opened.lost else round(opened.listings / minutes, 1),
            "reads_per_minute": None if opened.lost else round(opened.reads / minutes, 1),
        }  # fmt: skip
