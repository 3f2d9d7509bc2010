"""Reads pages of production into a sink, in read transactions of a second at most: no checkpoint waits for long, and no app.

What was read is not of one state then. Which of it is, is for its users to tell: `parity_reading` and `piecewise`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event

from sidecar.core.errors import SidecarError, Stopped
from sidecar.core.ports import Clock, Progress
from sidecar.core.ports_pages import PageSink, Snapshot

PIECES_AGAIN_MAX = 50  # pieces that mean nothing, because the WAL was begun anew under them
AGAIN_MIN = 256  # pages read in some milliseconds however late it is, so that every round brings something


class NotInPieces(SidecarError):
    """Why nothing can be said of production by reading it in pieces; never a statement about it, nor about the backup."""


class BegunAnew(NotInPieces):
    """No piece means anything."""

    def __init__(self) -> None:
        super().__init__("its WAL is begun anew all the time", "find out what checkpoints without a pause")


class Replaced(NotInPieces):
    """What was read is of two files."""

    def __init__(self) -> None:
        super().__init__("another file came to the database's path meanwhile", "see the check `identity`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long things may take, in seconds."""

    piece_s: float = 1.0  # one read transaction on production; its WAL cannot be begun anew meanwhile
    rest_s: float = 0.1  # between two: whoever waits to checkpoint looks again within that (main.c, `sqliteDefaultBusyCallback`), and comes first
    settle_s: float = 6.0  # coming to one state, once all has been read: Litestream captures once a second
    lists_s: float = 5.0  # a reading is judged once Litestream has captured past it


@dataclass(frozen=True, slots=True)
class Around:
    """What a reading needs of the world, and when it has to end."""

    clock: Clock
    left_s: Callable[[], float]
    stop: Event
    progress: Progress

    def pause(self, seconds: float) -> None:
        """Raises Stopped."""
        if self.stop.wait(seconds):
            raise Stopped("told to stop")


@dataclass(frozen=True, slots=True)
class Pieces:
    """Reads into one sink. For one thread. `stage` is what is told of its progress (`ports.Progress`)."""

    sink: PageSink
    around: Around
    pace: Pace
    stage: str

    def ends_s(self) -> float:
        """When a read transaction that begins now has to end, by the clock's seconds."""
        return self.around.clock.monotonic() + self.pace.piece_s

    def same_page_size(self, snapshot: Snapshot) -> None:
        """Raises NotInPieces where it is another by now."""
        if snapshot.index.page_size != self.sink.page_size:
            raise NotInPieces("its page size changed meanwhile", "nothing: it is tried again by itself")

    def read_on(self, snapshot: Snapshot, first: int, reading: int, ends_s: float) -> int:
        """The pages from `first` on, a megabyte at least; the page after the last one read. Raises Stopped, OSError, Unreadable."""
        size, around = self.sink.page_size, self.around
        following = first
        for at, data in snapshot.pages(first, max(snapshot.page_count - first + 1, 0)):
            self.sink.put(at, data, reading)
            following = at + len(data) // size
            around.progress(self.stage, following - 1, snapshot.page_count)
            around.pause(0)
            if around.clock.monotonic() > ends_s:
                break
        return following

    def read_again(self, snapshot: Snapshot, pages: set[int], frame: int, reading: int, ends_s: float) -> set[int]:
        """Some pages as of a frame of the snapshot's WAL; those that were not read. Raises OSError, Unreadable.

        Of its own state a snapshot lacks only what the database file is too short for, and SQLite reads as zeros.
        """
        left, clock = set(pages), self.around.clock
        for done, (page, data) in enumerate(snapshot.older(pages, frame), 1):
            if data is not None:
                self.sink.put(page, memoryview(data), reading)
                left.remove(page)
            elif frame == snapshot.index.max_frame:
                self.sink.put(page, next(snapshot.pages(page, 1))[1], reading)
                left.remove(page)
            if done >= AGAIN_MIN and clock.monotonic() > ends_s:
                break
        return left
