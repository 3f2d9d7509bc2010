"""Pages of the live database as one snapshot shows them: under SQLite's own read lock, without a copy and without SQLite's cache.

A read transaction says which frames of the WAL count. A page is its last frame among these, else it stands in the database file; there too
where a checkpoint has brought it to the file already, since that is where SQLite reads it from then on, damaged or not. While the
transaction is open no checkpoint writes past its snapshot, and a WAL whose frames it needs is not begun anew; where it needs none the WAL may
be, which the salts tell at the end. Sources: SQLite, "WAL-mode File Format", 2.2 and 2.3; wal.c, `walTryBeginRead`, `walFindFrame`,
`walCheckpoint`.

An older state of the same WAL can be read too, as long as no checkpoint has written a later version of the page into the file.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Protocol

import apsw

from sidecar.core import wal
from sidecar.core.errors import Unreadable
from sidecar.core.model import FileId, WalIndex

# A commit between two looks at the index: at 1,500 commits a second one try in ten fails, at 18,000 there were 131 in a row.
TRIES = 2000
REST_EVERY = 16  # tries in step with a writer fail one after another; a rest breaks the step
REST_S = 0.001
CHUNK_BYTES = 1 << 20
CUT = "check the disk, and the database with the app itself: a file of it was cut off while it was in use"
WINDOW_PAGES = 65_536  # of the WAL's frames those of so many pages are kept in memory at once


class Opened(Protocol):
    """A connection that leaves production as it is, and reading beside it by hand: `LiveSqlite`."""

    def opened(self, path: str) -> AbstractContextManager[apsw.Connection]:
        """Raises Unreadable."""
        ...

    def read(self, path: Path | str, size: int, offset: int) -> bytes:
        """Raises OSError."""
        ...


@dataclass(frozen=True, slots=True)
class LivePages:
    """Satisfies `ports.LivePages`."""

    live: Opened

    @contextmanager
    def opened(self, path: str) -> Iterator[PageReader]:
        """A reader; nothing is locked between its snapshots. Raises Unreadable."""
        with self.live.opened(path) as connection:
            if connection.pragma("journal_mode") != "wal":
                raise Unreadable(f"{path} is not in WAL mode", "Litestream needs it: `PRAGMA journal_mode=wal`")
            yield PageReader(self.live, path, connection)


@dataclass(frozen=True, slots=True)
class PageReader:
    """Reads snapshots of one database."""

    live: Opened
    path: str
    connection: apsw.Connection

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """A read transaction, and which frames it sees. Raises Unreadable where writers never leave a moment to see that."""
        execute = self.connection.execute
        rest = Event()
        for number in range(1, TRIES + 1):
            if number % REST_EVERY == 0:
                rest.wait(REST_S)
            before = self._index()
            execute("begin")
            try:
                pages = int(self.connection.pragma("page_count"))  # the first read: from here on it is one snapshot
                # Asked before it is known that no later frame was there: of a page that has one, a checkpoint leaves the earlier ones out.
                settled = wal.settled(self.checkpoint()) if before is not None and before.max_frame else 0
                if before is not None and before == self._index():
                    yield Snapshot(self, before, pages, settled)
                    return
            finally:
                execute("rollback")
        raise Unreadable(f"{self.path}: its WAL index does not hold still", "find out what writes without a pause")

    def file_id(self) -> FileId:
        """Which file stands at the path now. Raises OSError."""
        status = Path(self.path).stat()
        return FileId(status.st_dev, status.st_ino)

    def checkpoint(self) -> bytes:
        """What checkpoints say of themselves."""
        return self.live.read(f"{self.path}-shm", wal.CHECKPOINT_BYTES, wal.CHECKPOINT_AT)

    def _index(self) -> WalIndex | None:
        """What stands in the WAL now, without salts where that is nothing; None where a writer was just saying so."""
        data = self.live.read(f"{self.path}-shm", wal.INDEX_BYTES, 0)
        if wal.is_empty_index(data):
            return WalIndex(b"", 0, int(self.connection.pragma("page_size")))
        return wal.parse_index(data)


class Snapshot:
    """One state of production. `page_count` is its size; frames up to `settled` are in the database file, where they are the last of their page."""

    def __init__(self, reader: PageReader, index: WalIndex, page_count: int, settled: int) -> None:
        self._reader, self.index, self.page_count, self._settled = reader, index, page_count, settled
        self._numbers = self._frame_pages()

    def intact(self) -> bool:
        """Whether the WAL is still the one that was read; else what was read meanwhile means nothing."""
        now = self._reader._index()  # noqa: SLF001 - two halves of one thing
        return now is not None and now.salts == self.index.salts

    def pages(self, first: int, count: int) -> Iterator[tuple[int, memoryview]]:
        """(first page, their bytes) in chunks of a megabyte, as of this snapshot. Raises OSError."""
        size, path, read = self.index.page_size, self._reader.path, self._reader.live.read
        step = max(CHUNK_BYTES // size, 1)
        for start in range(first, first + count, WINDOW_PAGES):
            end = min(start + WINDOW_PAGES, first + count)
            newer = enumerate(self._numbers[self._settled :], self._settled + 1)
            frames = {page: at for at, page in newer if start <= page < end}
            for at in range(start, end, step):
                many = min(step, end - at)
                data = bytearray(read(path, many * size, (at - 1) * size))
                data.extend(bytes(many * size - len(data)))  # pages that no checkpoint has brought to the file yet
                for page in _within(frames, range(at, at + many)):
                    place, frame = (page - at) * size, self._frame(frames[page])
                    if len(frame) < size and self.intact():  # else it was begun anew, which whoever asked will see
                        raise Unreadable(f"{path}-wal ends before the commits that its index counts", CUT)
                    data[place : place + size] = frame.ljust(size, b"\0")
                yield at, memoryview(data)

    def older(self, wanted: Collection[int], frame: int) -> Iterator[tuple[int, bytes | None]]:
        """Some pages as of an older frame of this WAL, the last of a transaction; None where that cannot be told any more.

        A page without a frame so old stands in the database file, unless a checkpoint has written a later version over it. It ends early
        where the WAL is begun anew meanwhile: SQLite says so in the index before it writes a frame (wal.c, `walRestartHdr`). Raises OSError.
        """
        size, numbers, pages = self.index.page_size, self._numbers, frozenset(wanted)
        frames = {page: at for at, page in enumerate(numbers[:frame], 1) if page in pages}
        later: dict[int, int] = {}
        for at, page in enumerate(numbers[frame:], frame + 1):
            if page in pages:
                later.setdefault(page, at)
        frames = {page: at for page, at in frames.items() if at > self._settled or page in later}
        step = max(CHUNK_BYTES // size, 1)
        ordered = sorted(pages)
        for start in range(0, len(ordered), step):
            batch = ordered[start : start + step]
            found = [self._stored(page) if page not in frames else self._frame(frames[page]) for page in batch]
            written = self._backfilled() if any(page in later for page in batch) else 0
            if not self.intact():
                return  # the WAL is being begun anew over what was just read
            for page, data in zip(batch, found, strict=True):
                over = page not in frames and later.get(page, written + 1) <= written
                yield page, None if len(data) < size or over else data

    def written(self, after: int, upto: int) -> frozenset[int]:
        """Pages with a frame past `after` and up to `upto`."""
        return frozenset(self._numbers[after:upto])

    def _frame(self, number: int) -> bytes:
        size = self.index.page_size
        return self._reader.live.read(f"{self._reader.path}-wal", size, wal.frame_offset(number, size))

    def _stored(self, page: int) -> bytes:
        size = self.index.page_size
        return self._reader.live.read(self._reader.path, size, (page - 1) * size)

    def _backfilled(self) -> int:
        """How far checkpoints may have written into the database file."""
        return wal.backfilled(self._reader.checkpoint())

    def _frame_pages(self) -> array[int]:
        """The page number of every frame, in order; 4 bytes a frame."""
        name, read, numbers = f"{self._reader.path}-shm", self._reader.live.read, array("I")
        for offset, size in wal.frame_spans(self.index.max_frame):
            data = read(name, size, offset)
            if len(data) < size:
                raise Unreadable(f"{name} ends before the frames that it counts", CUT)
            numbers.frombytes(data)
        return numbers


def _within(pages: dict[int, int], inside: range) -> list[int]:
    """The keys in a range, whichever of the two is shorter being walked."""
    if len(pages) < len(inside):
        return [page for page in pages if page in inside]
    return [page for page in inside if page in pages]
