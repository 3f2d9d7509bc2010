"""A copy of a database that is written page by page: a new file for its owner's eyes, gone again where it was not finished."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class PageFile:
    """Satisfies `ports_pages.PageFile`. Used by one thread."""

    def __init__(self, descriptor: int, page_size: int) -> None:
        self._descriptor, self.page_size = descriptor, page_size

    def put(self, first: int, data: memoryview, reading: int) -> None:
        """The pages from `first` on; which reading found them is not kept. Raises OSError."""
        del reading
        at = (first - 1) * self.page_size
        while data:  # on a disk that is filling up the kernel takes a part of it, and refuses the next
            written = os.pwrite(self._descriptor, data, at)
            data, at = data[written:], at + written

    def finish(self, page_count: int) -> None:
        """Cut off, or filled up with zeros, to so many pages. Raises OSError."""
        os.ftruncate(self._descriptor, page_count * self.page_size)


@contextmanager
def page_file(path: Path, page_size: int) -> Iterator[PageFile]:
    """A new file, removed where the block ends by an error. Raises OSError, FileExistsError among them."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        yield PageFile(descriptor, page_size)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
