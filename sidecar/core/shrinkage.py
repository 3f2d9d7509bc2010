"""Shrinkage: how much of itself a database has lost between two readings of its content."""

from __future__ import annotations

from sidecar.core.model import Content


def shrinkage(before: Content | None, after: Content) -> float:
    """The largest share (0-1) of pages, tables or rows that `after` has lost; rows count only where both were counted."""
    if before is None:
        return 0.0
    pairs = [  # bytes and not pages: a VACUUM may change the page size
        (before.page_count * before.page_size, after.page_count * after.page_size),
        (len(before.tables), len(after.tables)),
    ]
    if min(before.tables.values(), default=0) >= 0 and min(after.tables.values(), default=0) >= 0:
        pairs.append((sum(before.tables.values()), sum(after.tables.values())))
    return max((1 - now / then for then, now in pairs if then > 0), default=0.0)
