"""What changed from one WAL to the next, as far as that is proven: it decides which pages of a copy are those of one moment.

Litestream's lists are not believed to be whole. 0.5.17, restarted beside an app that had begun the WAL anew meanwhile, captures the new WAL and
leaves out the rest of the old one, without a gap in its numbers (measured, `restarts.py`). So a list counts for the frames that it names, one
after the other; that a WAL had no more of them, and that no other one came in between, has to be seen in the WAL itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sidecar.core.changes import Changes
from sidecar.core.live_state import WalIndex
from sidecar.core.wal import FRAME_HEADER_BYTES, WAL_HEADER_BYTES

SALT_BYTES = 4
BETWEEN_MAX = 64  # WALs between two snapshots that are a second apart
_MODULUS = 1 << 8 * SALT_BYTES


@dataclass(frozen=True, slots=True)
class Listed:
    """Pages of the frames of one WAL that follow each other up to `frame`."""

    frame: int
    pages: frozenset[int]


def listed(changes: Changes, salts: bytes, after: int, page_size: int) -> Listed:
    """What lists say of a WAL past a frame, up to where one is missing or names no pages."""
    step = FRAME_HEADER_BYTES + page_size
    end, pages = WAL_HEADER_BYTES + after * step, set[int]()
    own = (each for each in changes.all if each.salts == salts and each.page_size == page_size)
    for each in sorted(own, key=lambda change: change.wal_end):
        if each.wal_end <= end:
            continue
        if each.wal_start > end or each.pages is None:
            break
        pages.update(each.pages)
        end = each.wal_end
    return Listed((end - WAL_HEADER_BYTES) // step, frozenset(pages))


def wals_between(before: WalIndex, now: WalIndex, changes: Changes) -> Sequence[tuple[bytes, int]] | None:
    """(salts, frame): of each WAL from `before`'s to the one ahead of `now`'s, past which frame it has to be known what it held.

    None where one of them cannot be named. The first salt is counted up by one whenever a WAL is begun anew (SQLite, "WAL-mode File Format", 4);
    an index without salts is of no WAL, and the first one after it begins with salts at random.
    """
    if not before.salts or not now.salts:
        return None
    first, count = _number(before.salts), (_number(now.salts) - _number(before.salts)) % _MODULUS
    if not 0 < count <= BETWEEN_MAX:
        return None
    named = {_number(each.salts): each.salts for each in changes.all}
    found = [(before.salts, before.max_frame)]
    for number in range(first + 1, first + count):
        salts = named.get(number % _MODULUS)
        if salts is None:
            return None
        found.append((salts, 0))
    return found


def _number(salts: bytes) -> int:
    return int.from_bytes(salts[:SALT_BYTES], "big")
