"""What comparing page by page needs of the world, as Protocols. Adapters satisfy them by shape and import nothing from here."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event
from typing import Protocol

from sidecar.core.changes import Changes
from sidecar.core.live_state import FileId, WalIndex
from sidecar.core.model import Position


class Snapshot(Protocol):
    """One state of production; valid within its block."""

    index: WalIndex
    page_count: int

    def intact(self) -> bool:
        """Whether what was read so far was of this state: the WAL was not begun anew."""
        ...

    def pages(self, first: int, count: int) -> Iterator[tuple[int, memoryview]]:
        """(first page, bytes) in chunks. Raises OSError."""
        ...

    def older(self, wanted: Collection[int], frame: int) -> Iterator[tuple[int, bytes | None]]:
        """Some pages as of an older frame of the same WAL; None where that cannot be told any more. Raises OSError."""
        ...

    def written(self, after: int, upto: int) -> frozenset[int]:
        """Pages with a frame past `after` and up to `upto`."""
        ...

    def past(self, salts: bytes, frame: int) -> frozenset[int] | None:
        """Pages with a frame past this one in the WAL that had these salts before; None where the file does not tell any more."""
        ...


class PageReader(Protocol):
    """Reads one live database page by page."""

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """A read transaction, as short as its block. Raises Unreadable."""
        ...

    def file_id(self) -> FileId:
        """Which file stands at the path now. Raises OSError."""
        ...


class LivePages(Protocol):
    """The live database page by page, read-only, for short."""

    def opened(self, path: str) -> AbstractContextManager[PageReader]:
        """Nothing is locked between snapshots. Raises Unreadable."""
        ...


class LocalChanges(Protocol):
    """What Litestream's local files list as changed, gathered again and again; for one thread. Never raises."""

    def gather(self, since: Position | None = None) -> Changes:
        """Everything gathered so far and what is new; `since`: how far back to begin."""
        ...


class PageSink(Protocol):
    """Where pages go that are read in pieces. Raises OSError."""

    page_size: int

    def put(self, first: int, data: memoryview, reading: int) -> None:
        """The pages from `first` on, as a reading found them."""
        ...


class PageFile(PageSink, Protocol):
    """The pages themselves, in a file of their own."""

    def finish(self, page_count: int) -> None:
        """The file is a database of so many pages."""
        ...


class Fingerprints(PageSink, Protocol):
    """What was read of each page, in a scratch file. Raises OSError."""

    page_count: int

    def all_readings(self, first: int = 1) -> Iterator[tuple[int, array[int]]]:
        """(page, the numbers of the readings of it and those after it), in chunks."""
        ...

    def differing(self, copy: Path) -> Iterator[tuple[int, int]]:
        """(page, reading) of the copy's pages that were not read the same."""
        ...


class PageKeeper(Protocol):
    """Looks into pages that differ, and keeps the first of them."""

    def is_in(self, copy: Path, page: int, data: bytes) -> bool:
        """Whether the copy holds just that. Raises OSError."""
        ...

    def keep(self, drill_id: str, copy: Path, pages: Mapping[int, bytes]) -> str | None:
        """Both versions of the first pages; the folder, None where it cannot be written."""
        ...

    def owners(self, copy: Path, pages: Collection[int], *, timeout_s: float, stop: Event) -> tuple[str, ...]:
        """The tables and indexes that pages of the copy belong to, as far as they can be told."""
        ...
