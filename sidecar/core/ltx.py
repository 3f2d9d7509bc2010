"""LTX files: what the first 100 bytes of a level-0 file say of the commits it carries.

Litestream 0.5 writes one such file per sync into its local folder. Its header tells which stretch of which WAL the file has
captured, which is how a TXID is tied to a commit of production without asking anybody.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sidecar.core.model import Capture, Position

HEADER_BYTES = 100
_MAGIC = b"LTX1"
# Big-endian: magic, flags, page size, commit (pages), min and max TXID, time (ms), pre-apply checksum, WAL offset, WAL size,
# the WAL's two salts as it stores them. What follows (node id, reserve) says nothing of the WAL.
_HEADER = struct.Struct(">4sIIIQQqQqq8s")
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


def parse_name(name: str) -> tuple[int, int] | None:
    """First and last TXID of a file name (`<min>-<max>.ltx`, 16 hex digits each); None for temporary and foreign files."""
    found = _NAME.fullmatch(name)
    return (int(found[1], 16), int(found[2], 16)) if found else None
