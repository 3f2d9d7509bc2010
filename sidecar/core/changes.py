"""Which pages changed between two positions, as Litestream's local files list them: the only excuse a page has for differing.

A list is exact or it is said to be none: where a file is missing between two positions nothing is known, and where a file holds the
whole database (Litestream starts over when a WAL was reset before it was captured) any page may have changed.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from sidecar.core.live_state import WalIndex
from sidecar.core.model import Position
from sidecar.core.wal import FRAME_HEADER_BYTES, WAL_HEADER_BYTES


@dataclass(frozen=True, slots=True)
class Change:
    """One stretch of history: from the state at `after` to the state at `upto`.

    `wal_start` and `wal_end` are byte offsets in the WAL with these salts; `page_count` is the database's size at `upto` (None:
    not said), `pages` the numbers of the pages written meanwhile (None: any of them).
    """

    after: Position
    upto: Position
    salts: bytes
    wal_start: int
    wal_end: int
    page_size: int
    page_count: int | None
    pages: array[int] | None

    def limit_frame(self) -> int:
        """The last frame of its WAL that the state at `upto` contains (SQLite, "WAL-mode File Format", 1)."""
        return (self.wal_end - WAL_HEADER_BYTES) // (FRAME_HEADER_BYTES + self.page_size)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where in history a state stands: not before `lo`, not after `hi`."""

    lo: Position
    hi: Position

    @classmethod
    def at(cls, position: Position) -> Bounds:
        """Exactly there."""
        return cls(position, position)


@dataclass(frozen=True, slots=True)
class Changes:
    """Stretches of history, oldest first.

    `growing`: how far the file that 0.3 still appends to had been read just now; None where there is none, or it could not be read.
    """

    all: tuple[Change, ...] = ()
    growing: Position | None = None

    @property
    def newest(self) -> Change | None:
        """The last stretch that Litestream has captured."""
        return self.all[-1] if self.all else None

    def bounds(self, index: WalIndex) -> Bounds | None:
        """Where the state stands that a WAL index names; None while no file covers it."""
        for change in self.all:
            if change.salts == index.salts and change.wal_start <= index.end <= change.wal_end:
                at_end = index.end == change.wal_end
                return Bounds.at(change.upto) if at_end else Bounds(change.after, change.upto)
        return None

    def stands_at(self, position: Position) -> Bounds | None:
        """Where the copy stands that was restored to a position. 0.3 names where its last segment begins, and restores the index to its end.

        None where that end is not known: the index's file went, or another generation began, before it was read to its end.
        """
        if not position.generation:
            return Bounds.at(position)
        begin = replace(position, offset=max(position.offset, WAL_HEADER_BYTES))
        index = (position.generation, position.index)
        same = [each for each in self.all if (each.upto.generation, each.after.index) == index]
        end = same[-1].upto if same else begin
        return Bounds(begin, end) if end.index > position.index or end == self.growing else None

    def between(self, one: Bounds, other: Bounds) -> Sequence[Change] | None:
        """All that changed between two states, or a little more; None where a file is missing in between."""
        generations = {each.generation for bounds in (one, other) for each in (bounds.lo, bounds.hi)}
        if len(generations) > 1:
            return None
        lo = min(one.lo, other.lo, key=_key)
        hi = max(one.hi, other.hi, key=_key)
        if lo == hi:
            return ()
        found = [
            each
            for each in self.all
            if each.upto.generation in generations and _key(each.upto) > _key(lo) and _key(each.after) < _key(hi)
        ]
        whole = (
            found
            and _key(found[0].after) <= _key(lo)
            and _key(found[-1].upto) >= _key(hi)
            and all(after.after == before.upto for before, after in pairwise(found))
        )
        return tuple(found) if whole else None


def may_have_changed(changes: Sequence[Change], pages: set[int]) -> set[int]:
    """Those of the pages that these changes list, or cut off the end of the database."""
    found: set[int] = set()
    for change in changes:
        if change.pages is None:
            return set(pages)
        found.update(pages.intersection(change.pages))
        if change.page_count is not None:
            found.update(page for page in pages if page > change.page_count)
    return found


def _key(position: Position) -> tuple[int, int]:
    return position.index, position.offset
