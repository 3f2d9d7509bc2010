"""LTX files: what the first 100 bytes of a level-0 file say of the commits it carries.

Litestream 0.5 writes one such file per sync into its local folder. Its header tells which stretch of which WAL the file has
captured, which is how a TXID is tied to a commit of production without asking anybody.
"""

from __future__ import annotations

import re
import struct
from array import array
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sidecar.core.live_state import Capture
from sidecar.core.model import Position

HEADER_BYTES = 100
_MAGIC = b"LTX1"
# Big-endian: magic, flags, page size, commit (pages), min and max TXID, time (ms), pre-apply checksum, WAL offset, WAL size,
# the WAL's two salts as it stores them. What follows (node id, reserve) says nothing of the WAL.
_HEADER = struct.Struct(">4sIIIQQqQqq8s")
TRAILER_BYTES = 16
INDEX_SIZE_BYTES = 8
TAIL_BYTES = INDEX_SIZE_BYTES + TRAILER_BYTES  # the page index's length, and two checksums
FULL_FROM = 64  # pages in a row from page 1 on; a file that begins so is taken to hold the whole database
_ENTRY_BYTES_MIN = 3
_SHIFT_MAX = 63  # of a varint of Go's, which has ten bytes at most
_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.ltx")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class LtxHeader:
    """The header of one LTX file. Sizes and offsets in bytes; `at` is the writer's clock just after it had read the WAL.

    Source: LTX format version 1 as Litestream 0.5.17 writes it, held against real files in the tests.
    """

    page_size: int
    page_count: int
    first_txid: int
    last_txid: int
    at: datetime
    wal_offset: int
    wal_size: int
    salts: bytes

    @property
    def wal_end(self) -> int:
        """The WAL offset up to which commits are captured."""
        return self.wal_offset + self.wal_size

    @property
    def capture(self) -> Capture:
        """The same, as evidence."""
        return Capture(Position.of_txid(self.last_txid), self.at, self.salts, self.wal_end, self.page_count)


def parse_header(data: bytes) -> LtxHeader:
    """The header in the first 100 bytes of an LTX file. Raises ValueError with a plain sentence where there is none."""
    if len(data) < HEADER_BYTES:
        raise ValueError(f"an LTX file begins with {HEADER_BYTES} bytes of header, here are {len(data)}")
    magic, _, page_size, pages, first, last, milliseconds, _, offset, size, salts = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise ValueError(f"an LTX file begins with {_MAGIC.decode()}, this one does not")
    try:
        at = _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError as error:
        raise ValueError("the LTX header's time is out of range") from error
    return LtxHeader(page_size, pages, first, last, at, offset, size, salts)


def index_size(tail: bytes) -> int:
    """Bytes of the page index, from a file's last `TAIL_BYTES`; it stands just before them. Raises ValueError."""
    if len(tail) < TAIL_BYTES:
        raise ValueError("an LTX file ends with the size of its page index and a trailer, this one is too short")
    return int(struct.unpack_from(">Q", tail)[0])


def parse_pages(index: bytes, page_count: int) -> array[int] | None:
    """The numbers of the pages that a file holds, from its page index; None: the whole database, or near enough.

    The index is varint triples (page number, offset, size), closed by a zero. Raises ValueError.
    """
    pages = array("I")
    whole_fits = len(index) >= page_count * _ENTRY_BYTES_MIN
    at = 0
    try:
        while True:
            number, at = _varint(index, at)
            if not number:
                return pages if len(pages) < page_count else None
            pages.append(number)
            _, at = _varint(index, at)
            _, at = _varint(index, at)
            if len(pages) == FULL_FROM and number == FULL_FROM and whole_fits:
                return None
    except (IndexError, OverflowError) as error:
        raise ValueError("the LTX file's page index is cut short") from error


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if shift > _SHIFT_MAX:
            raise OverflowError
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the top bit says that more follows
            return value, at
        shift += 7


def parse_name(name: str) -> tuple[int, int] | None:
    """First and last TXID of a file name (`<min>-<max>.ltx`, 16 hex digits each); None for temporary and foreign files."""
    found = _NAME.fullmatch(name)
    return (int(found[1], 16), int(found[2], 16)) if found else None
