"""Descriptors that run out in this very process."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator

LIMIT = 256


@contextlib.contextmanager
def descriptors_left(left: int) -> Iterator[None]:
    """Only so many files can be opened while the block lasts."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(left):
            os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for each in taken:
            os.close(each)
