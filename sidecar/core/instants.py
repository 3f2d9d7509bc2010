"""Instants: whether a date can be believed. A clock may have been set back since it was written, or be another machine's."""

from __future__ import annotations

from datetime import datetime, timedelta

CLOCK_SLACK = timedelta(minutes=1)  # facts this far ahead of the clock are new; beyond it the clock was set back

# A file or folder written this recently may be written again without any of its stamps changing: the kernel's clock for files ticks every
# 4 ms, that of FAT and some network file systems every 2 s.
SETTLED = timedelta(seconds=3)


def from_the_future(at: datetime, now: datetime) -> bool:
    """Whether a fact is dated so far ahead that its age means nothing: it would stay new until the clock gets there."""
    return at - now > CLOCK_SLACK
