"""Which pages changed between two positions, as Litestream's local files list them: the only excuse a page has for differing.

A list is exact or it is said to be none: where a file is missing between two positions nothing is known, and where a file holds the
whole database (Litestream starts over when a WAL was reset before it was captured) any page may have changed.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from sidecar.core.model import Position, WalIndex


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
        return (self.wal_end - 32) // (24 + self.page_size)


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
    """Stretches of history, oldest first."""

    all: tuple[Change, ...] = ()

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

    def between(self, one: Bounds, other: Bounds) -> Sequence[Change] | None:
        """All that changed between two states, or a little more; None where a file is missing in between."""
        lo = min(one.lo, other.lo, key=_key)
        hi = max(one.hi, other.hi, key=_key)
        if lo == hi:
            return ()
        if lo.generation != hi.generation:
            return None
        found = [each for each in self.all if _key(each.upto) > _key(lo) and _key(each.after) < _key(hi)]
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
