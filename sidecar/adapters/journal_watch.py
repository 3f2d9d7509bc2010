"""Whether a rollback journal ever stood beside a database: in WAL mode SQLite makes none, so whoever made one had left it.

A journal may come and go within less than whoever looks from time to time can see. The kernel tells of every file; where it
cannot (limits, network file systems), looking has to do.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from pathlib import Path
from typing import Self
from uuid import uuid4

from watchdog.events import FileCreatedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

TOLD_WITHIN_S = 1.0  # the kernel tells within milliseconds


class JournalWatch(FileSystemEventHandler):
    """Watches one folder from `with` to its end; afterwards `seen` says it.

    Args:
        file: the main file of a database; SQLite's journal is `NAME-journal` (SQLite, "Temporary Files Used By SQLite", 2.1).
    """

    def __init__(self, file: Path) -> None:
        self._journal, self._mark = Path(f"{file}-journal"), file.with_name(f".{uuid4().hex}")
        self._told = threading.Event()
        self._observer: BaseObserver | None = None
        self.seen = False

    def __enter__(self) -> Self:
        """Never raises: without events there is nothing to see."""
        logging.getLogger("watchdog").setLevel(logging.CRITICAL)
        observer = Observer()
        with contextlib.suppress(OSError):
            observer.schedule(self, str(self._journal.parent), event_filter=[FileCreatedEvent])
            observer.start()
            self._observer = observer
        return self

    def __exit__(self, *_: object) -> None:
        if self._observer is None:
            return
        # What was made before this file is told before it.
        with contextlib.suppress(OSError):
            self._mark.touch(mode=0o600)
            self._told.wait(TOLD_WITHIN_S)
            self._mark.unlink()
        self._observer.stop()
        self._observer.join()

    def dispatch(self, event: FileSystemEvent) -> None:
        """In the observer's thread."""
        self.seen = self.seen or event.src_path == str(self._journal)
        if event.src_path == str(self._mark):
            self._told.set()
