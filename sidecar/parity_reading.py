"""Reads production in pieces for a comparison, and settles on a position to restore.

What was read is either exact, as of the position that Litestream has just captured, or it is known in which read transaction it was read, and
Litestream's own lists say which pages may have changed in between.
"""

from __future__ import annotations

from sidecar.core.changes import Bounds, Change, Changes
from sidecar.core.live_state import WalIndex
from sidecar.core.model import Position
from sidecar.core.ports_pages import Fingerprints, LocalChanges, PageReader, Snapshot
from sidecar.pieces import PIECES_AGAIN_MAX, Around, BegunAnew, Pace, Pieces, Replaced

CAPTURE_POLL_S = 0.05
AGAIN_MAX = 200_000  # pages read a second time: 10 MB of numbers, and some seconds
GOOD = 0.001  # share of pages that may be left for excuses; another pass would bring little


class PageReading:
    """Production, read into fingerprints. For one thread.

    `target` is the position as of which it was read, where there is one; `read_at` says where in history each reading stands.
    """

    def __init__(self, prints: Fingerprints, changes: LocalChanges, around: Around, pace: Pace) -> None:
        self._prints, self._log, self._around, self._pace = prints, changes, around, pace
        self._pieces = Pieces(prints, around, pace, "parity")
        self._readings: dict[int, WalIndex | Position | None] = {}  # None: the WAL was begun anew, so it means nothing
        self.target: Position | None = None

    def read(self, reader: PageReader) -> None:
        """All of it, and once more what changed around one position. Raises NotInPieces, Unreadable, Stopped, Overdue, OSError."""
        before, clock = reader.file_id(), self._around.clock
        self._log.gather()
        self._read_all(reader)
        ends_s = clock.monotonic() + self._pace.settle_s
        while True:
            left, seen = self._settle(reader)
            if (left is not None and left <= self._prints.page_count * GOOD) or clock.monotonic() > ends_s:
                break
            self._await_capture(seen, ends_s)
        if reader.file_id() != before:
            raise Replaced

    def read_at(self, changes: Changes) -> dict[int, Bounds | None]:
        """Where each reading stands, None where Litestream has not captured so far, or its file is gone. 0: pages that nobody read."""
        found = {number: _bounds(what, changes) for number, what in self._readings.items()}
        known = [found[number] for number, what in self._readings.items() if what is not None]
        # A page that was not read at all did not exist at one of the readings.
        found[0] = _spanning(known)
        return found

    def means(self, number: int) -> bool:
        """Whether pages were read by this reading, and are what it says; of another WAL's frames not even how many there are is known."""
        return self._readings.get(number) is not None

    def _read_all(self, reader: PageReader) -> None:
        first, again = 1, 0
        while True:
            with reader.snapshot() as snapshot:
                self._pieces.same_page_size(snapshot)
                following = self._pieces.read_on(snapshot, first, self._note(snapshot.index), self._pieces.ends_s())
                intact, page_count = snapshot.intact(), snapshot.page_count
            if not intact:
                self._void(len(self._readings) - 1)
            self._log.gather()
            if intact:
                first = following
            else:
                again += 1
            if first > page_count:
                return
            if again > PIECES_AGAIN_MAX:
                raise BegunAnew
            self._around.left_s()
            self._around.pause(self._pace.rest_s)

    def _note(self, what: WalIndex | Position) -> int:
        number = len(self._readings) + 1
        self._readings[number] = what
        return number

    def _void(self, noted: int) -> None:
        """What was noted since may be frames of another WAL; the numbers stand in the fingerprints, so they are kept."""
        self._readings.update(dict.fromkeys(range(noted + 1, len(self._readings) + 1)))

    def _settle(self, reader: PageReader) -> tuple[int | None, Position | None]:
        """Choose the newest position that Litestream has captured, and read as of it what changed around it.

        How many pages are left that are not known as of it (None: it cannot be read any more), and the position.
        """
        with reader.snapshot() as snapshot:
            ends_s = self._pieces.ends_s()
            changes = self._log.gather()
            newest = changes.newest
            if newest is None:
                return None, None
            if not snapshot.index.salts:  # nothing was committed since the app opened it: Litestream has all there is
                self.target = newest.upto
                return 0, newest.upto
            same_wal = newest.salts == snapshot.index.salts and newest.page_size == self._prints.page_size
            if not same_wal or newest.limit_frame() > snapshot.index.max_frame:
                return None, newest.upto
            noted = len(self._readings)
            left = self._read_again(snapshot, newest, self._changed_around(snapshot, newest, changes), ends_s)
            if not snapshot.intact():
                self._void(noted)
                return None, newest.upto
        self.target = newest.upto
        return left, newest.upto

    def _read_again(self, snapshot: Snapshot, newest: Change, pages: set[int], ends_s: float) -> int:
        """Some pages as of the newest position; how many could not be read so."""
        if len(pages) > AGAIN_MAX:
            return len(pages)
        reading = self._note(newest.upto)
        return len(self._pieces.read_again(snapshot, pages, newest.limit_frame(), reading, ends_s))

    def _changed_around(self, snapshot: Snapshot, newest: Change, changes: Changes) -> set[int]:
        """Pages that may not be, at the newest position, as they were read."""
        count = newest.page_count or snapshot.page_count
        found = set(range(self._prints.page_count + 1, count + 1))
        limit, at = newest.limit_frame(), Bounds.at(newest.upto)
        for number, what in self._readings.items():
            if isinstance(what, WalIndex) and what.salts == newest.salts:
                found |= snapshot.written(min(what.max_frame, limit), max(what.max_frame, limit))
                continue
            bounds = _bounds(what, changes)
            between = changes.between(bounds, at) if bounds is not None else None
            if between is None or any(each.pages is None for each in between):
                found |= self._pages_of(number)
            else:
                for each in between:
                    found.update(each.pages or ())
            if len(found) > AGAIN_MAX:
                break
        return {page for page in found if page <= count}

    def _pages_of(self, number: int) -> set[int]:
        """The pages whose newest reading this is, as far as they are few enough to be read again."""
        found: set[int] = set()
        for first, readings in self._prints.all_readings():
            found.update(first + place for place, each in enumerate(readings) if each == number)
            if len(found) > AGAIN_MAX:
                break
        return found

    def _await_capture(self, seen: Position | None, ends_s: float) -> None:
        while self._around.clock.monotonic() < ends_s:
            self._around.pause(CAPTURE_POLL_S)
            newest = self._log.gather().newest
            if newest is not None and newest.upto != seen:
                return


def _bounds(what: WalIndex | Position | None, changes: Changes) -> Bounds | None:
    return Bounds.at(what) if isinstance(what, Position) else changes.bounds(what) if what is not None else None


def _spanning(all_bounds: list[Bounds | None]) -> Bounds | None:
    """From the earliest to the latest; None where one of them is not known, or they are of two generations."""
    known = [each for each in all_bounds if each is not None]
    if not known or len(known) < len(all_bounds) or len({each.lo.generation for each in known}) > 1:
        return None
    return Bounds(
        min((each.lo for each in known), key=lambda at: (at.index, at.offset)),
        max((each.hi for each in known), key=lambda at: (at.index, at.offset)),
    )
