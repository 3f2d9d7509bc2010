"""The fleet: the databases and thresholds in force, taken over whole from the two configuration files or not at all.

A broken file keeps the old fleet; what is wrong with it is kept too, for the log, the metrics and `doctor`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock

from sidecar.core.budget import stretched
from sidecar.core.errors import SidecarError
from sidecar.core.instants import SETTLED
from sidecar.core.model import Database
from sidecar.core.policy import Policy
from sidecar.core.ports import Clock

RESCAN_EVERY = timedelta(seconds=5)  # Litestream itself picks a new file of a watched `dir` up within about 6 s
REREAD_EVERY = timedelta(minutes=1)  # with a rescan, though the files seem to be as they were


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is watched, and what Litestream's own configuration says about asking it."""

    databases: Mapping[str, Database]  # by path
    policies: Mapping[str, Policy]  # by path
    command_timeout_s: float
    socket_path: str | None
    metrics_url: str | None
    files: tuple[Path, ...]  # the configuration files it was read from
    rescan: bool  # a watched `dir` may bring databases without a change of any file
    folders: tuple[Path, ...]  # watched `dir`s
    warnings: tuple[str, ...] = ()  # what is probably not meant
    secrets: tuple[str, ...] = field(default=(), repr=False)  # literal values to mask in what is logged
    trees: tuple[Path, ...] = ()  # those of `folders` that are looked into with all that is below

    def named(self, name: str) -> Database | None:
        """The database of that name."""
        return next((each for each in self.databases.values() if each.name == name), None)

    def holds(self, database: Database) -> bool:
        """Whether it still holds this database and sends it to this replica: what is known must be of both."""
        now = self.databases.get(database.path)
        return now is not None and now.replica == database.replica


class FleetKeeper:
    """Holds the fleet in force and takes a changed one over. Thread-safe: readers see one whole fleet.

    Args:
        load: reads both files, and looks into the folders that they name.
        clock: tells how often.
        rescan: looks into the folders only, while the files are as `load` read them; None: there is nothing cheaper than `load`.
    """

    def __init__(self, load: Callable[[], Fleet], clock: Clock, *, rescan: Callable[[], Fleet] | None = None) -> None:
        self._load, self._rescan, self._clock, self._lock = load, rescan or load, clock, Lock()
        self._fleet = self._in_force = load()  # at start a broken file is refused, not survived
        self._stretch = 1
        self._signature = _signature(self._fleet.files)
        self._scanned_at = self._read_at = clock.monotonic()
        self._settled = self._settles()
        self.reload_successful = True
        self.reloaded_at: datetime = clock.now()
        self.error: SidecarError | None = None

    @property
    def fleet(self) -> Fleet:
        """The fleet in force."""
        with self._lock:
            return self._in_force

    @property
    def asked_for(self) -> Fleet:
        """The fleet as it is configured, whatever its looks are stretched to."""
        with self._lock:
            return self._fleet

    def stretch(self, by: int) -> None:
        """Look so many times less often than the policies say, from now on (`core/budget.py`)."""
        if by != self._stretch:
            with self._lock:
                self._stretch, self._in_force = by, _stretched(self._fleet, by)

    def poll(self, *, force: bool = False) -> bool:
        """Take over what changed on disk; True when the fleet or what is known of its files changed."""
        signature = _signature(self._fleet.files)
        edited = force or signature != self._signature
        rescan = self._fleet.rescan and self._clock.monotonic() - self._scanned_at >= RESCAN_EVERY.total_seconds()
        if not edited and not rescan:
            return False
        self._signature, self._scanned_at = signature, self._clock.monotonic()
        overdue = self._scanned_at - self._read_at >= REREAD_EVERY.total_seconds()
        whole = edited or overdue or not self._settled or self.error is not None
        if whole:
            self._read_at, self._settled = self._scanned_at, self._settles()
        try:
            fresh = self._load() if whole else self._rescan()
        except SidecarError as error:
            news = self.reload_successful or (edited and str(error) != str(self.error))
            self.reload_successful, self.error = False, error
            return news
        news = edited or not self.reload_successful or (fresh is not self._fleet and fresh != self._fleet)
        if edited:
            self.reloaded_at = self._clock.now()
        self.reload_successful, self.error = True, None
        with self._lock:
            if fresh is not self._fleet:
                self._fleet, self._in_force = fresh, _stretched(fresh, self._stretch)
        return news

    def _settles(self) -> bool:
        """Whether another edit of the files would show in their signature."""
        newest = max((sign[-1] for sign in self._signature), default=0)
        return self._clock.now().timestamp() - newest / 1e9 > SETTLED.total_seconds()


def _stretched(fleet: Fleet, by: int) -> Fleet:
    """The fleet with its looks so much farther apart; one policy for all databases that shared one."""
    if by == 1:
        return fleet
    policies = {id(each): stretched(each, by) for each in fleet.policies.values()}
    return replace(fleet, policies={path: policies[id(each)] for path, each in fleet.policies.items()})


def _signature(files: tuple[Path, ...]) -> tuple[tuple[int, ...], ...]:
    """Changes whenever a file is edited, swapped, or its ConfigMap link is turned."""
    signs: list[tuple[int, ...]] = []
    for file in files:
        try:
            stat = os.stat(file)  # noqa: PTH116 - follows links, one call a second
            signs.append((stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns))
        except OSError as error:
            signs.append((error.errno or 0,))
    return tuple(signs)
