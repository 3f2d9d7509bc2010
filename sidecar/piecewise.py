"""Copies production, and keeps no read transaction open for long while doing so: in pieces, all of them as of one snapshot in the end.

Each snapshot says which of the pages that were read before it may have changed since; these are read again, until a snapshot leaves nothing to
do. What changed is taken from SQLite's own WAL, and from Litestream's lists only as far as the WAL bears them out (`core/wals.py`). Where it
cannot be told, production is copied whole by SQLite's Backup API, within one read transaction that is given up before it lasts long.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from sidecar.core.errors import Overdue, SidecarError, Unreadable
from sidecar.core.live_state import WalIndex
from sidecar.core.model import Database
from sidecar.core.ports import Production
from sidecar.core.ports_pages import LivePages, LocalChanges, PageFile, PageReader, Snapshot
from sidecar.core.wals import listed, wals_between
from sidecar.pieces import PIECES_AGAIN_MAX, Around, BegunAnew, NotInPieces, Pace, Pieces, Replaced

# The limit is 2 s: the last step's 4 MB may wait for a slow disk on top of this.
HOLD_S = 1.5
FIRST_AGAIN = (
    100_000  # pages that have changed: with so many of them reading on waits, 5 MB of numbers and half a second
)
UNTOLD_MAX = 3  # times that all has to be read once more
READING = 1  # a file of pages does not keep by which reading they came

log = logging.getLogger("sidecar.production")


class NotCopied(SidecarError):
    """Neither way was open within the read transactions that production is to bear; never a statement about it."""


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy of production: `snapshots` counts the read transactions that it took."""

    size_bytes: int
    in_pieces: bool
    snapshots: int = 1


@dataclass(frozen=True, slots=True)
class Copier:
    """What copying needs of the world; safe to share between threads."""

    pages: LivePages
    changes: Callable[[Database], LocalChanges]
    page_file: Callable[[Path, int], AbstractContextManager[PageFile]]
    whole: Production
    # An app that writes as fast as it can is met within seconds, or not at all.
    pace: Pace = field(default_factory=lambda: Pace(settle_s=30.0))
    hold_s: float = HOLD_S

    def copy(self, database: Database, target: Path, around: Around) -> Copied:
        """Production as of one instant, at `target` (new, mode 0600, nothing beside it); `target` is gone after every error.

        Raises:
            NotCopied: in pieces it cannot be told what changed meanwhile, and whole it takes longer than `hold_s`.
            Unreadable: as `ports.Production.copy` says.
            ScratchFull: no room for the copy.
            Overdue, Stopped: as their names say.
        """
        try:
            return self._in_pieces(database, target, around)
        except (NotInPieces, Unreadable, OSError) as error:
            why = error if isinstance(error, SidecarError) else NotInPieces(f"{error.strerror or error}", "")
        log.info("%s: not copied in pieces: %s", database.name, why.message)
        try:
            size = self.whole.copy(
                database.path, target, timeout_s=around.left_s(), stop=around.stop, progress=around.progress, hold_s=self.hold_s
            )  # fmt: skip
        except Overdue as error:
            around.left_s()  # where no time is left at all, that is what is said
            raise NotCopied(
                f"a copy would keep a read transaction open on {database.path} for too long: whole, {error.message}; in pieces, {why.message}",
                f"{why.hint or 'see the log'}; at a quiet hour `litestream-sidecar backup {database.name} OUT` copies and checks it in one go",
            ) from None
        return Copied(size, in_pieces=False)

    def _in_pieces(self, database: Database, target: Path, around: Around) -> Copied:
        with self.pages.opened(database.path) as reader:
            with reader.snapshot() as first:
                page_size = first.index.page_size
            with self.page_file(target, page_size) as file:
                copying = _Copying(file, self.changes(database), around, self.pace)
                pages = copying.run(reader)
                file.finish(pages)
        return Copied(pages * page_size, in_pieces=True, snapshots=copying.snapshots)


class _Copying:
    """One copy in pieces, under way: the pages before `_next` stand in the file as of `_as_of`, but for those in `_stale`."""

    def __init__(self, file: PageFile, changes: LocalChanges, around: Around, pace: Pace) -> None:
        self._log, self._around, self._pace = changes, around, pace
        self._pieces = Pieces(file, around, pace, "copy")
        self._as_of: WalIndex | None = None
        self._next = 1
        self._stale: set[int] = set()
        self._torn = self._untold = self.snapshots = 0

    def run(self, reader: PageReader) -> int:
        """Pages until the file is exactly one state of production; how many it has.

        Raises NotInPieces, Unreadable, Stopped, Overdue, OSError.
        """
        before, clock = reader.file_id(), self._around.clock
        self._log.gather()
        ends_s = clock.monotonic() + self._pace.settle_s
        while True:
            known = self._next
            with reader.snapshot() as snapshot:
                done = self._brought_to(snapshot)
                page_count = snapshot.page_count
            if done:
                break
            if self._next > known:
                ends_s = clock.monotonic() + self._pace.settle_s
            elif clock.monotonic() > ends_s:
                raise NotInPieces(
                    "it changes faster than what changed can be read again", "nothing: it is tried again by itself"
                )
            self._around.left_s()
            self._around.pause(self._pace.rest_s)
        if reader.file_id() != before:
            raise Replaced
        return page_count

    def _brought_to(self, snapshot: Snapshot) -> bool:
        """Bring the file on within one read transaction; whether it is production as of it now, all of it."""
        pieces, count, index = self._pieces, snapshot.page_count, snapshot.index
        pieces.same_page_size(snapshot)
        self.snapshots += 1
        ends_s = pieces.ends_s()
        changed = self._changed(snapshot)
        first = min(self._next, count + 1) if changed is not None else 1
        stale = {page for page in self._stale | (changed or set()) if page < first}
        following = pieces.read_on(snapshot, first, READING, ends_s) if len(stale) < FIRST_AGAIN else first
        left = stale
        if stale and (following > count or len(stale) >= FIRST_AGAIN):
            left = pieces.read_again(snapshot, stale, index.max_frame, READING, ends_s)
        if not snapshot.intact():  # whatever was read now may be of another WAL, and stands in the file
            self._torn += 1
            if self._torn > PIECES_AGAIN_MAX:
                raise BegunAnew
            self._next = min(self._next, first)
            self._stale = {page for page in self._stale | (stale - left) if page < self._next}
            return False
        self._as_of, self._next, self._stale = index, following, left
        return following > count and not left

    def _changed(self, snapshot: Snapshot) -> set[int] | None:
        """Pages that may be others at the snapshot than at `_as_of`; None where that cannot be told. Raises NotInPieces where it never can."""
        if self._next == 1 or self._as_of is None:
            return set()
        found = self._since(self._as_of, snapshot)
        if found is None:
            self._untold += 1
            if self._untold > UNTOLD_MAX:
                raise NotInPieces(
                    "it cannot be told what changed while it was copied: its WAL was begun anew, and neither the WAL nor Litestream's local files say",
                    "look whether Litestream runs, and whether its folder beside the database is there",
                )
        return found

    def _since(self, before: WalIndex, snapshot: Snapshot) -> set[int] | None:
        """The same, for any two.

        Two states whose WAL holds nothing have no salts, and are one: whoever commits begins a WAL, and it has salts.
        """
        now = snapshot.index
        if before.salts == now.salts:
            return set(snapshot.written(before.max_frame, now.max_frame))
        changes = self._log.gather()
        wals = wals_between(before, now, changes)
        if wals is None:
            return None
        found = set(snapshot.written(0, now.max_frame))
        for salts, frame in wals:
            known = listed(changes, salts, frame, now.page_size)
            past = snapshot.past(salts, known.frame)
            if past is None:
                return None
            found |= known.pages | past
        return found
