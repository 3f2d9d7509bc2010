"""The stage of a rehearsal: the command in the foreground, its processes and its copy watched, nothing of it left at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event

from sidecar.adapters.foreground import run_foreground
from sidecar.adapters.journal_watch import JournalWatch
from sidecar.adapters.live_descriptors import LiveDescriptors
from sidecar.adapters.occupants import Occupants
from sidecar.adapters.rehearsal_guard import Guard
from sidecar.adapters.rehearsal_watch import CopyWatch
from sidecar.adapters.sqlite_copy import CopySqlite
from sidecar.adapters.sqlite_rehearsal import RehearsalCopy
from sidecar.assembly_tools import Tools
from sidecar.core.errors import Overdue
from sidecar.core.ports import Clock
from sidecar.core.rehearsal import Ran, Watched
from sidecar.deploy.rehearsal import COPY_VARIABLE, Rehearser

FREE_BYTES_MIN = 1_000_000  # of the disk: below it, what fails fails for want of room
ROOM_EVERY = 20  # looks of the guard between two questions for free room


def rehearser(kit: Tools, *, quiet_stdout: bool) -> Rehearser:
    """Build it from the tools that every command has."""
    stage = ForegroundStage(kit.clock, quiet_stdout=quiet_stdout)
    return Rehearser(RehearsalCopy(), CopySqlite(), kit.live, kit.scratch, kit.clock, stage)


class ForegroundStage:
    """Satisfies `ports.Stage`. With `quiet_stdout` what the command prints goes to stderr."""

    def __init__(self, clock: Clock, *, quiet_stdout: bool) -> None:
        self._clock, self._quiet_stdout = clock, quiet_stdout

    def guards(self) -> bool:
        """Whether this system shows what a process has open."""
        return Guard.sees

    def play(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        copy: Path,
        production: Path,
        *,
        timeout_s: float,
        stop: Event,
    ) -> tuple[Ran, Watched]:
        """See `ports.Stage.play`."""
        guard = Guard(production, f"{COPY_VARIABLE}={env[COPY_VARIABLE]}", copy.parent)
        left: dict[int, str] = {}
        holder: list[int] = []
        room = _Room(copy.parent)

        def look() -> None:
            guard.look()
            room.look()

        def ended() -> None:
            guard.look()
            left.update(guard.left())
            holder.extend(each for each in (watch.holder(),) if each is not None)

        began, code = self._clock.monotonic(), None
        with JournalWatch(copy) as journal, CopyWatch(copy) as watch:
            opened = _Opened(copy)
            with _nothing_left(guard), contextlib.suppress(Overdue):
                code = run_foreground(
                    argv, env=env, timeout_s=timeout_s, stop=stop, quiet_stdout=self._quiet_stdout, kill_leftovers=True,
                    on_start=guard.started, poll=look, on_exit=ended,
                )  # fmt: skip
            seconds, touched = self._clock.monotonic() - began, opened.since()
        ran = Ran(
            argv=tuple(argv), seconds=round(seconds, 3), exit_code=code, signal=_signal(code),
            left_running=tuple(f"{name} (pid {pid})" for pid, name in left.items()),
            lock_holder=next((f"{left.get(pid, 'a process')} (pid {pid})" for pid in holder), None),
            opened_copy=guard.opened_copy or touched or bool(watch.watched().commits),
            scratch_full=room.was_full, production_writers=_writers(guard, production),
        )  # fmt: skip
        return ran, replace(watch.watched(), journal_made=journal.seen)


@contextlib.contextmanager
def _nothing_left(guard: Guard) -> Iterator[None]:
    try:
        yield
    finally:
        guard.end_what_is_left()


def _writers(guard: Guard, production: Path) -> tuple[str, ...]:
    """Who else may have written to production; of another container only the locks show."""
    unseen = Occupants(LiveDescriptors().lockers).of(production).locked
    return (*guard.other_writers(), *(["a process in another container"] if unseen else []))


class _Opened:
    """Whether anybody opened the copy: SQLite makes a file beside it, or reading moves its time of access."""

    def __init__(self, copy: Path) -> None:
        self._copy = copy
        os.utime(copy, ns=(0, copy.stat().st_mtime_ns))
        self._folder = copy.parent.stat().st_mtime_ns

    def since(self) -> bool:
        """Whether anybody did."""
        with contextlib.suppress(OSError):
            return self._copy.stat().st_atime_ns != 0 or self._copy.parent.stat().st_mtime_ns != self._folder
        return True


class _Room:
    """Whether the disk ran full."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._looks, self.was_full = folder, 0, False

    def look(self) -> None:
        """Ask now and then."""
        self._looks += 1
        if self._looks % ROOM_EVERY == 0:
            self.was_full = self.was_full or shutil.disk_usage(self._folder).free < FREE_BYTES_MIN


def _signal(code: int | None) -> str | None:
    if code is None or code >= 0:
        return None
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
