"""Coverage: whether Litestream's local files hold everything that production has committed, told from bytes and not from times."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum

from sidecar.core.live_state import LiveState

REST_MAX = 60  # more hours make no difference to anybody


class Coverage(Enum):
    """Whether Litestream's newest local file holds everything that production has committed."""

    COVERED = "covered"
    BEHIND = "behind"
    UNKNOWN = "unknown"


def coverage(live: LiveState) -> Coverage:
    """Hold production's committed end against what Litestream has captured.

    Exact or nothing: some local file of Litestream's carries the salts of the WAL that production writes now and reaches its
    committed end, or none does. Where there is no committed end (no WAL, an index begun anew), times do not decide: a file moved
    over the database keeps its old mtime, mtimes tick every 4 ms only, and closing a database writes to it without a commit.
    """
    index = live.wal_index
    if index is None or not live.captures:
        return Coverage.UNKNOWN
    same = [each.wal_end for each in live.captures if each.salts == index.salts and each.wal_end is not None]
    if any(index.end <= captured for captured in same):
        return Coverage.COVERED
    return Coverage.BEHIND if same or index.max_frame > 0 else Coverage.UNKNOWN


def hours_at_rest(live: LiveState) -> int:
    """For how many whole hours nobody has written to production's files; 1 at least, `REST_MAX` at most."""
    if live.modified_at is None:
        return 1
    return min(max((live.read_at - live.modified_at) // timedelta(hours=1), 1), REST_MAX)
