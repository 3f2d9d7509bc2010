"""Fingerprints of pages in a scratch file: 16 bytes a page, and the number of the reading that made each.

128 bits of XXH3: two different pages have the same one by chance once in 10^38. It is not meant against somebody who forges pages, who
could as well forge the checksums of SQLite's and Litestream's files.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import xxhash

DIGEST_BYTES = 16
READING_BYTES = 2
READ_PAGES = 65_536
CHUNK_PAGES = 256
CHUNK_BYTES_MAX = 4 << 20
# The page that holds this byte is SQLite's for locks and is never written ("Database File Format", 1.3.1).
LOCK_BYTE_AT = 1 << 30
READINGS_MAX = 0xFFFF


class Fingerprints:
    """What was read of each page. Used by one thread."""

    def __init__(self, descriptor: int, readings: int, page_size: int) -> None:
        self._digests, self._readings, self.page_size = descriptor, readings, page_size
        self.page_count = 0
        self.lock_page = LOCK_BYTE_AT // page_size + 1

    def put(self, first: int, data: memoryview, reading: int) -> None:
        """The pages from `first` on, as `reading` (1 to `READINGS_MAX`) found them. Raises OSError, OverflowError."""
        count = len(data) // self.page_size
        os.pwrite(self._readings, array("H", [reading]) * count, (first - 1) * READING_BYTES)
        os.pwrite(self._digests, self._digest(data), (first - 1) * DIGEST_BYTES)
        self.page_count = max(self.page_count, first + count - 1)

    def all_readings(self, first: int = 1) -> Iterator[tuple[int, array[int]]]:
        """(page, the numbers of the readings of it and those after it; 0 where there was none), in chunks, from page `first` on."""
        while first <= self.page_count:
            found = self._readings_of(first, min(READ_PAGES, self.page_count - first + 1))
            yield first, found
            first += len(found)

    def _readings_of(self, first: int, count: int) -> array[int]:
        found = array("H")
        found.frombytes(os.pread(self._readings, count * READING_BYTES, (first - 1) * READING_BYTES))
        found.extend([0] * (count - len(found)))
        return found

    def differing(self, copy: Path) -> Iterator[tuple[int, int]]:
        """(page, reading) of the copy's pages that were not read the same; all its pages are looked at. Raises OSError.

        The lock page is the same, whatever stands there.
        """
        many = max(min(CHUNK_PAGES, CHUNK_BYTES_MAX // self.page_size), 1)
        descriptor = os.open(copy, os.O_RDONLY | os.O_CLOEXEC)
        try:
            first = 1
            while data := os.pread(descriptor, many * self.page_size, (first - 1) * self.page_size):
                count = len(data) // self.page_size
                now = self._digest(memoryview(data))
                then = os.pread(self._digests, count * DIGEST_BYTES, (first - 1) * DIGEST_BYTES)
                if now != then:
                    yield from self._which(first, now, then)
                first += many
        finally:
            os.close(descriptor)

    def _which(self, first: int, now: bytes, then: bytes) -> Iterator[tuple[int, int]]:
        count = len(now) // DIGEST_BYTES
        readings = self._readings_of(first, count)
        for number in range(count):
            span = slice(number * DIGEST_BYTES, (number + 1) * DIGEST_BYTES)
            if now[span] != then[span] and first + number != self.lock_page:
                yield first + number, readings[number]

    def _digest(self, data: memoryview) -> bytes:
        size, digest = self.page_size, xxhash.xxh3_128_digest
        return b"".join([digest(data[at : at + size]) for at in range(0, len(data) - size + 1, size)])


@contextmanager
def fingerprints(folder: Path, page_size: int) -> Iterator[Fingerprints]:
    """Two files in `folder`, gone afterwards. Raises OSError."""
    descriptors: list[int] = []
    try:
        digests, readings = (_unnamed(folder / name, descriptors) for name in ("digests", "readings"))
        yield Fingerprints(digests, readings, page_size)
    finally:
        for each in descriptors:
            os.close(each)


def _unnamed(path: Path, descriptors: list[int]) -> int:
    """A file that is gone as soon as it is closed, however that comes."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    descriptors.append(descriptor)
    path.unlink()
    return descriptor
