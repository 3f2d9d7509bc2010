"""Watches folders and says one thing: something changed, look again.

Every folder fires once. Its first event wakes the loop and takes the watch off, so that a database which commits a thousand times a
second costs what one commit costs; `rearm` puts it back before the loop looks. Events are a courtesy: where the kernel gives
no watch (limits, network file systems), the loop's timer finds the change.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

FOLDERS_MAX = 16  # watchdog keeps a thread for each
# Not opened and not closed: the sidecar's own reading must not wake it.
_EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent, FileModifiedEvent, FileMovedEvent, FileDeletedEvent, DirCreatedEvent, DirMovedEvent, DirDeletedEvent,
]  # fmt: skip


class _OneShot(FileSystemEventHandler):
    """One folder's watch: wakes at its first event and takes itself off. `dispatch` runs in the observer's thread."""

    def __init__(
        self, observer: BaseObserver, wake: Callable[[], None], watch: ObservedWatch, inode: tuple[int, int]
    ) -> None:
        self._observer, self._wake = observer, wake
        self.watch, self.inode = watch, inode
        self.fired = False

    def dispatch(self, event: FileSystemEvent) -> None:  # noqa: ARG002 - which event it was is for the loop to find out
        if not self.fired:
            self.fired = True
            self.take_off()
            self._wake()

    def take_off(self) -> None:
        with suppress(KeyError):  # the other thread was first
            self._observer.unschedule(self.watch)


class Watcher:
    """Sets the wake event when a watched folder changes. All methods belong to one thread, the loop's.

    Args:
        wake: called from another thread, at most once for every time that a folder is armed; must not block.
        folders_max: how many are watched at most: trees first, then folders in the order in which they were given.
    """

    def __init__(self, wake: Callable[[], None], *, folders_max: int = FOLDERS_MAX) -> None:
        self._wake, self._max = wake, folders_max
        self._wanted: dict[Path, bool] = {}  # folder -> with all that is below it
        self._armed: dict[Path, _OneShot] = {}
        self._missed: set[Path] = set()  # wanted, and could not be watched at the last attempt
        self._observer: BaseObserver | None = None
        self.error: str | None = None
        """Why there are no events at all; None when there are."""

    @property
    def fired(self) -> bool:
        """Whether something has changed in a folder since it was armed."""
        return any(each.fired for each in self._armed.values())

    def start(self) -> None:
        """Begin to watch. Never raises: without events the timer has to do."""
        if self._observer is not None:
            return
        # It calls it an error when a watch is taken off while an event is on its way, which is how this module works.
        logging.getLogger("watchdog").setLevel(logging.CRITICAL)
        try:
            observer = Observer()
            observer.start()
        except OSError as error:  # the limit of inotify instances, which belongs to the user and not to us
            self.error = f"files cannot be watched: {(error.strerror or str(error)).lower()}"
            return
        self._observer, self.error = observer, None
        self.rearm()

    def stop(self) -> None:
        """Take all watches off and end the threads. `start` may follow."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
        self._observer = None
        self._armed, self._missed = {}, set()

    def watch(self, folders: Iterable[Path], trees: Iterable[Path] = ()) -> None:
        """Watch exactly these from now on: folders alone, and `trees` with everything below. What stays, stays as it is.

        Folders that do not exist yet are watched as soon as `rearm` finds them. Symbolic links are resolved here, once.
        """
        wanted: dict[Path, bool] = {}
        for folder, deep in itertools.chain(((each, True) for each in trees), ((each, False) for each in folders)):
            if len(wanted) == self._max:
                break
            wanted.setdefault(Path(os.path.realpath(folder)), deep)
        self._wanted = wanted
        for folder in list(self._armed):
            if self._wanted.get(folder) is not self._armed[folder].watch.is_recursive:
                self._armed.pop(folder).take_off()
        self._missed &= self._wanted.keys()
        self.rearm()

    def rearm(self) -> None:
        """Watch again what has fired, and what has come into being. To be called before looking, not after."""
        if self._observer is None:
            return
        for folder, deep in self._wanted.items():
            armed, inode = self._armed.get(folder), _inode(folder)
            if armed is not None and armed.inode == inode and not armed.fired:
                continue
            if armed is not None:
                self._armed.pop(folder).take_off()
            if inode is not None and self._arm(self._observer, folder, inode, deep=deep):
                came_back = folder in self._missed or (armed is not None and armed.inode != inode)
                self._missed.discard(folder)
                if came_back:
                    self._wake()
            else:
                self._missed.add(folder)

    def _arm(self, observer: BaseObserver, folder: Path, inode: tuple[int, int], *, deep: bool) -> bool:
        # Made before it is scheduled, since an event may come before `schedule` returns; watches are equal by what they watch.
        watch = ObservedWatch(str(folder), recursive=deep, event_filter=_EVENTS)
        shot = _OneShot(observer, self._wake, watch, inode)
        try:
            observer.schedule(shot, str(folder), recursive=deep, event_filter=_EVENTS)
        except OSError:  # gone meanwhile, or the limit of watches is reached
            return False
        self._armed[folder] = shot
        return True


def _inode(folder: Path) -> tuple[int, int] | None:
    """Which folder stands at a path; None where there is none that may be watched."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if os.access(folder, os.R_OK) else None
