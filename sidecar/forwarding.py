"""Drills by change: bring a kept copy forward by what is new in the replica, instead of restoring what was restored before.

Stands in for Litestream's commands in a drill, so that all its checks are the same. It finds nothing out that a restore would not
judge better: whatever goes wrong on the way, the whole is restored in the same drill, and that alone says what is wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Protocol

from sidecar.core.errors import LitestreamError, Overdue, SidecarError, Stopped
from sidecar.core.finding import Reason
from sidecar.core.forward import KeptCopy, begun_anew, way_on
from sidecar.core.listing import chain
from sidecar.core.model import Database, Position, ReplicaFile
from sidecar.core.ports import Clock, Plan, Progress
from sidecar.look import Lister

log = logging.getLogger("sidecar.drill")


class KeptCopies(Protocol):
    """Restored copies that are kept for the next drill; they may go at any time."""

    def known(self, database: Database) -> KeptCopy | None:
        """What is kept of this database."""
        ...

    def take(self, database: Database, target: Path) -> Position:
        """Move it to `target`, and say where it stands. Raises OSError."""
        ...

    def put(self, database: Database, position: Position, copy: Path) -> None:
        """Keep this copy instead of the one before. Raises OSError."""
        ...


class Fetcher(Protocol):
    """Fetches single backup files."""

    def understands(self, database: Database) -> bool:
        """Whether files of this database's replica can be fetched."""
        ...

    def fetch(
        self, database: Database, files: Sequence[ReplicaFile], folder: Path, *, timeout_s: float, stop: Event
    ) -> list[Path]:
        """Copies of these files in `folder`, in their order. Raises SidecarError."""
        ...


Apply = Callable[[Path, Sequence[Path], Position, Callable[[], None]], None]
"""Bring a copy forward by these files from where it stands; the last argument is called now and then, and may raise."""


class NotForward(SidecarError):
    """The kept copy cannot be brought forward."""


@dataclass(frozen=True, slots=True)
class ForwardPlan:
    """Satisfies `ports.Plan`. `files`: what a restore would read; `news`: what is read, bytes of it in `size_bytes`."""

    position: Position
    files: tuple[ReplicaFile, ...]
    stands_at: Position
    news: tuple[ReplicaFile, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of backup files that are read."""
        return sum(each.size_bytes for each in self.news)


@dataclass(frozen=True, slots=True)
class Forwarder:
    """Satisfies `ports.Restorer`; safe to share between threads."""

    lister: Lister
    fetcher: Fetcher
    kept: KeptCopies
    apply: Apply
    clock: Clock

    def may(self, database: Database) -> bool:
        """Whether there is a copy that might be brought forward."""
        return self.kept.known(database) is not None and self.fetcher.understands(database)

    def plan(self, database: Database, *, timeout_s: float, stop: Event) -> ForwardPlan:
        """What brings the copy to the newest position. Raises SidecarError."""
        return self._planned(database, None, timeout_s, stop)

    def plan_at(self, database: Database, position: Position, *, timeout_s: float, stop: Event) -> ForwardPlan:
        """The same to exactly this position; `file_missing` where there is no way to it yet."""
        return self._planned(database, position, timeout_s, stop)

    def restore(
        self, database: Database, plan: Plan, target: Path, *, timeout_s: float, stop: Event, progress: Progress
    ) -> int | None:
        """Move the copy to `target` and bring it to the plan's position. Raises SidecarError, OSError."""
        assert isinstance(plan, ForwardPlan), "it is one of ours"
        ends_s = self.clock.monotonic() + timeout_s
        progress("restore", 0, None)
        news = target.with_name("news")
        news.mkdir(mode=0o700)
        files = self.fetcher.fetch(database, plan.news, news, timeout_s=timeout_s, stop=stop)

        def between() -> None:
            if stop.is_set():
                raise Stopped("told to stop")
            if self.clock.monotonic() > ends_s:
                raise Overdue("the kept copy was not brought forward in time", "raise policy.drill-timeout")

        if self.kept.take(database, target) != plan.stands_at:
            raise NotForward("another drill has exchanged the kept copy meanwhile")
        self.apply(target, files, plan.stands_at, between)
        for each in files:
            each.unlink()
        return None

    def keep(self, database: Database, position: Position, copy: Path) -> None:
        """Keep a copy that has passed, where its replica can be read this way at all; a copy that cannot be kept harms nobody."""
        if not self.fetcher.understands(database):
            return
        try:
            self.kept.put(database, position, copy)
        except OSError as error:
            log.warning(
                "%s: the restored copy could not be kept (%s): the next drill restores the whole",
                database.name,
                error.strerror,
            )

    def _planned(self, database: Database, upto: Position | None, timeout_s: float, stop: Event) -> ForwardPlan:
        files = self.lister.listed(database, holds=None, timeout_s=timeout_s, stop=stop).files
        copy = self.kept.known(database)
        if not files or copy is None:
            raise NotForward("there is no copy, or no backup")
        if begun_anew(files, copy):
            raise NotForward("the replica was begun anew since the copy was restored")
        stands_at = copy.position
        position = upto or max((each.last for each in files), key=lambda each: each.index)
        news = way_on(files, stands_at, position)
        if news is None and upto is not None and position.index > stands_at.index:
            raise LitestreamError(Reason.FILE_MISSING, f"no file leads to {position} yet")
        if news is None:
            raise NotForward(f"no files lead from {stands_at} to {position}")
        whole = chain(tuple(each for each in files if each.last.index <= position.index))
        if whole.gap is not None or whole.reachable != position:
            raise NotForward("a restore would find a gap")
        return ForwardPlan(position, whole.files, stands_at, news)
