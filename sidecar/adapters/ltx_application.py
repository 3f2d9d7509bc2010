"""Brings a restored copy forward by LTX files: writes their pages in place, so that it costs what changed and not what exists.

A file is read once, its pages are written as they come, and its checksum is held against them at its end: so a copy that met a damaged
file has pages of it, and is worth nothing. Memory is one page and one block, whatever the file's size. What comes out is byte for
byte what `litestream restore` of the same TXID gives (held against the real one in the tests), which is why page 1 is written as it stands.

Litestream 0.5 writes no checksum of the database into its files: two files of different databases whose TXIDs happen to follow each
other cannot be told apart here, and no more by its own restore. Comparing with production tells them apart.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fastcrc import crc64
from lz4 import block

from sidecar.core.errors import SidecarError
from sidecar.core.ltx import HEADER_BYTES, TRAILER_BYTES, LtxHeader, parse_header, parse_name

PAGE_SIZE_MIN, PAGE_SIZE_MAX = 512, 65_536  # SQLite's, "Database File Format", 1.3.2
LOCK_BYTE_AT = 1 << 30  # the page that holds this byte is never written (same, 1.3.1)
_PAGE = struct.Struct(">IHI")  # page number, flags, bytes of the block that follows
_SIZE_FOLLOWS = 1
_PAGES_END = bytes(6)
PAGES_AT_ONCE = 256
_CHUNK_BYTES = 65_536
_BLOCK_SLACK_BYTES = 1024  # LZ4 makes of n bytes at most n + n / 255 + 16
_FLAG = 1 << 63  # LTX sets this bit in every checksum, so that none is zero


class Unsound(SidecarError):
    """An LTX file that is not what it says, or does not follow what the copy stands at: throw the copy away."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What an application took: TXID that the copy stands at now, files, pages and bytes written."""

    txid: int
    files: int
    pages: int
    size_bytes: int


def forward(copy: Path, files: Sequence[Path], stands_at: int, between: Callable[[], None] = lambda: None) -> Applied:
    """Bring the copy forward from the TXID that it stands at by these files, in their order; those that it has already are left out.

    `between` is called every few hundred pages; what it raises ends the work.

    Raises:
        Unsound: a file is damaged, cut short, of another page size, or leaves a gap. Throw the copy away.
        OSError: the disk's own. Throw it away all the same.
    """
    txid, pages, written, used = stands_at, 0, 0, 0
    with copy.open("r+b", buffering=0) as opened:
        page_size = _page_size(opened)
        for path in files:
            with path.open("rb") as file:
                header = _header(file, path)
                if header.last_txid <= txid:
                    continue
                _follows(header, path, txid, page_size)
                for number, data in _pages(file, path, header):
                    os.pwrite(opened.fileno(), data, (number - 1) * page_size)
                    pages, written = pages + 1, written + len(data)
                    if pages % PAGES_AT_ONCE == 0:
                        between()
            os.ftruncate(opened.fileno(), header.page_count * page_size)
            txid, used = header.last_txid, used + 1
    return Applied(txid, used, pages, written)


def _follows(header: LtxHeader, path: Path, txid: int, page_size: int) -> None:
    if header.page_size != page_size:
        raise Unsound(f"{path.name} has pages of {header.page_size} bytes, the copy of {page_size}", "restore it anew")
    if header.first_txid > txid + 1:
        raise Unsound(
            f"{path.name} begins after TXID {txid:016x}, which the copy stands at: a file is missing", "restore it anew"
        )


def _header(file: BinaryIO, path: Path) -> LtxHeader:
    try:
        header = parse_header(file.read(HEADER_BYTES))
    except ValueError as error:
        raise _unsound(path, str(error)) from error
    size = header.page_size
    if not PAGE_SIZE_MIN <= size <= PAGE_SIZE_MAX or size & (size - 1):
        raise _unsound(path, f"pages of {size} bytes")
    if parse_name(path.name) not in {None, (header.first_txid, header.last_txid)}:
        raise _unsound(path, "its header names other TXIDs than its name")
    if not 0 < header.first_txid <= header.last_txid or not header.page_count:
        raise _unsound(path, "TXIDs or a size that no file has")
    return header


def _pages(file: BinaryIO, path: Path, header: LtxHeader) -> Iterator[tuple[int, bytes]]:
    """Page numbers and pages, in order; to its end only where everything fits. Raises Unsound, OSError."""
    file.seek(0)
    size, last = header.page_size, 0
    crc = crc64.go_iso(_exactly(file, HEADER_BYTES, path))
    lock_page = LOCK_BYTE_AT // size + 1
    while True:
        head = _exactly(file, len(_PAGES_END), path)
        if head == _PAGES_END:
            break
        head += _exactly(file, _PAGE.size - len(head), path)
        number, flags, length = _PAGE.unpack(head)
        if flags != _SIZE_FOLLOWS or not 0 < length <= size + size // 255 + _BLOCK_SLACK_BYTES:
            raise _unsound(path, f"page {number} is written in a way that is not known here")
        if not last < number <= header.page_count or number == lock_page:
            raise _unsound(path, f"page {number} does not belong there")
        data = _unpacked(_exactly(file, length, path), size, path, number)
        crc, last = crc64.go_iso(head + data, crc), number
        yield number, data
    _close(file, path, crc64.go_iso(_PAGES_END, crc))


def _unpacked(packed: bytes, size: int, path: Path, number: int) -> bytes:
    try:
        data: bytes = block.decompress(packed, uncompressed_size=size)
    except (block.LZ4BlockError, ValueError, MemoryError) as error:
        raise _unsound(path, f"page {number} cannot be unpacked") from error
    if len(data) != size:
        raise _unsound(path, f"page {number} has {len(data)} bytes instead of {size}")
    return data


def _close(file: BinaryIO, path: Path, crc: int) -> None:
    """Read what follows the pages, and hold the checksum against the one at the file's very end. Raises Unsound."""
    rest = os.fstat(file.fileno()).st_size - file.tell() - TRAILER_BYTES // 2
    if rest < TRAILER_BYTES // 2:
        raise _unsound(path, "it is cut short")
    while rest:
        part = _exactly(file, min(rest, _CHUNK_BYTES), path)
        crc, rest = crc64.go_iso(part, crc), rest - len(part)
    if int.from_bytes(_exactly(file, TRAILER_BYTES // 2, path)) != crc | _FLAG:
        raise _unsound(path, "its checksum does not fit its content")


def _exactly(file: BinaryIO, count: int, path: Path) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise _unsound(path, "it is cut short")
    return data


def _unsound(path: Path, why: str) -> Unsound:
    return Unsound(
        f"{path.name} is not a sound LTX file: {why}", "the next full drill tells whether the replica can be restored"
    )


def _page_size(opened: BinaryIO) -> int:
    """From the database's header; 1 stands for 65,536 ("Database File Format", 1.3.2)."""
    said = int.from_bytes(os.pread(opened.fileno(), 2, 16))
    return PAGE_SIZE_MAX if said == 1 else said
