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
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Protocol

import apsw

from sidecar.core import wal
from sidecar.core.errors import Unreadable
from sidecar.core.live_state import FileId, WalIndex

# A commit between two looks at the index: at 1,500 commits a second one try in ten fails, at 18,000 there were 131 in a row.
TRIES = 2000
REST_EVERY = 16  # tries in step with a writer fail one after another; a rest breaks the step
REST_S = 0.001
CHUNK_BYTES = 1 << 20
HEADERS = 256  # of frames, read at once
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

    def read_each(self, path: Path | str, size: int, offsets: Sequence[int]) -> list[bytes]:
        """Many places of one file. Raises OSError."""
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
                within = _within(frames, range(at, at + many))
                for page, frame in zip(within, self._frames([frames[page] for page in within]), strict=True):
                    place = (page - at) * size
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
            found = self._read(batch, frames)
            written = self._backfilled() if any(page in later for page in batch) else 0
            if not self.intact():
                return  # the WAL is being begun anew over what was just read
            for page in batch:
                data = found[page]
                over = page not in frames and later.get(page, written + 1) <= written
                yield page, None if len(data) < size or over else data

    def written(self, after: int, upto: int) -> frozenset[int]:
        """Pages with a frame past `after` and up to `upto`."""
        return frozenset(self._numbers[after:upto])

    def past(self, salts: bytes, frame: int) -> frozenset[int] | None:
        """Pages with a frame past this one in the WAL that had these salts before this snapshot's, committed or not.

        A WAL is begun anew at the front of the same file, frame by frame (wal.c, `walRestartHdr`, `walWriteOneFrame`): as long as that frame
        still stands there, what followed it does too. None where it does not, or no frame is given to begin at. Raises OSError.
        """
        pages: list[int | None] = []
        while frame > 0 and None not in pages:
            first = frame + len(pages)
            pages += [wal.frame_page(each, salts) for each in self._headers(range(first, first + HEADERS))]
        # Asked once more: what was read after it had not been written over by then, either.
        if not pages or pages[0] is None or wal.frame_page(self._headers([frame])[0], salts) is None:
            return None
        return frozenset(page for page in pages[1 : pages.index(None)] if page is not None)

    def _read(self, pages: Sequence[int], frames: Mapping[int, int]) -> dict[int, bytes]:
        """Some pages, each from its frame where it has one, else from the database file."""
        framed = [page for page in pages if page in frames]
        stored = [page for page in pages if page not in frames]
        size = self.index.page_size
        found = self._reader.live.read_each(self._reader.path, size, [(page - 1) * size for page in stored])
        return dict(zip([*framed, *stored], [*self._frames([frames[page] for page in framed]), *found], strict=True))

    def _frames(self, numbers: Sequence[int]) -> list[bytes]:
        size = self.index.page_size
        offsets = [wal.frame_offset(number, size) for number in numbers]
        return self._reader.live.read_each(f"{self._reader.path}-wal", size, offsets) if offsets else []

    def _headers(self, numbers: Sequence[int]) -> list[bytes]:
        size = self.index.page_size
        offsets = [wal.frame_offset(number, size) - wal.FRAME_HEADER_BYTES for number in numbers]
        return self._reader.live.read_each(f"{self._reader.path}-wal", wal.FRAME_HEADER_BYTES, offsets)

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
