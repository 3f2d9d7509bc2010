"""Brings a restored copy forward by LTX files: writes their pages in place, so that it costs what changed and not what exists.

A file is read once, its pages are written as they come, and its checksum is held against them at its end: so a copy that met a damaged
file has pages of it, and is worth nothing. The marker beside it, which goes first and comes back last, is what says so.
Memory is one page and one block, whatever the file's size. What comes out is byte for byte what `litestream restore` of the same TXID
gives (held against the real one in the tests), which is why page 1 is written as it stands.

Litestream 0.5 writes no checksum of the database into its files: two files of different databases whose TXIDs happen to follow each
other cannot be told apart here, and no more by its own restore. Comparing with production tells them apart.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lz4 import block

from sidecar.core.errors import SidecarError
from sidecar.core.ltx import HEADER_BYTES, TRAILER_BYTES, LtxHeader, parse_header, parse_name

MARKER_SUFFIX = (
    "-at"  # beside the copy: what it stands at, as 16 hex digits; there only while it stands at a whole TXID
)
PAGE_SIZE_MIN, PAGE_SIZE_MAX = 512, 65_536  # SQLite's, "Database File Format", 1.3.2
LOCK_BYTE_AT = 1 << 30  # the page that holds this byte is never written (same, 1.3.1)
_PAGE = struct.Struct(">IHI")  # page number, flags, bytes of the block that follows
_SIZE_FOLLOWS = 1
_PAGES_END = bytes(6)
_CHUNK_BYTES = 65_536
_BLOCK_SLACK_BYTES = 1024  # LZ4 makes of n bytes at most n + n / 255 + 16
_FLAG = 1 << 63  # LTX sets this bit in every checksum, so that none is zero
_ONES = (1 << 64) - 1
_REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


class Unsound(SidecarError):
    """An LTX file that is not what it says, or does not follow what the copy stands at: throw the copy away."""


def crc64(data: bytes, before: int = 0) -> int:
    """CRC-64/ISO as Go's `hash/crc64` has it; `before` is that of what came before.

    The remainder of a polynomial over GF(2), folded with integers as long as the data. The divisor is x^64 + x^4 + x^3 + x + 1, and
    squaring it doubles each exponent: so x^(64 n) may be replaced by x^(4 n) + x^(3 n) + x^n + 1 for every n that is a power of two,
    which halves the data at each step, at the speed of long integers instead of a look-up for each byte.
    """
    register = int.from_bytes((before ^ _ONES).to_bytes(8, "little").translate(_REVERSED))
    value = (int.from_bytes(data.translate(_REVERSED)) << 64) ^ (register << 8 * len(data))
    unit = 1 << max((len(data) * 8 + 63) // 64, 1).bit_length()
    while unit:
        bits = 64 * unit
        while (high := value >> bits) != 0:
            value = (value & ((1 << bits) - 1)) ^ high ^ (high << unit) ^ (high << 3 * unit) ^ (high << 4 * unit)
        unit >>= 1
    return int.from_bytes(value.to_bytes(8).translate(_REVERSED), "little") ^ _ONES


@dataclass(frozen=True, slots=True)
class Applied:
    """What an application took: TXID that the copy stands at now, files, pages and bytes written."""

    txid: int
    files: int
    pages: int
    size_bytes: int


def mark(copy: Path, txid: int) -> None:
    """Say durably that the copy stands at `txid`, after its content is on the disk. Raises OSError."""
    _sync(copy)
    marker, new = _marker(copy), _marker(copy).with_name(f"{copy.name}{MARKER_SUFFIX}.new")
    with new.open("w", encoding="ascii") as file:
        file.write(f"{txid:016x}\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(marker)
    _sync(copy.parent)


def stands_at(copy: Path) -> int | None:
    """The TXID that the copy stands at; None: it was left half-way, or was never marked, and is worth nothing. Raises OSError."""
    try:
        said = _marker(copy).read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        return None
    digits = said.removesuffix("\n")
    if len(digits) != 16 or set(digits) - set("0123456789abcdef"):
        return None
    return int(digits, 16)


def forward(copy: Path, files: Sequence[Path]) -> Applied:
    """Bring the copy forward by these files, in their order; those that it has already are left out.

    The marker goes before the first byte is written and comes back when all are on the disk. After any error, and after a kill at any
    moment, `stands_at` is None or what the untouched copy stood at.

    Raises:
        Unsound: a file is damaged, cut short, of another page size, or leaves a gap. Throw the copy away all the same.
        OSError: the disk's own.
    """
    txid = stands_at(copy)
    if txid is None:
        raise Unsound(f"{copy.name} does not say what it stands at", "restore it anew")
    pages = written = used = 0
    with copy.open("r+b", buffering=0) as opened:
        page_size = _page_size(opened)
        _unmark(copy)
        for path in files:
            with path.open("rb") as file:
                header = _header(file, path)
                if header.last_txid <= txid:
                    continue
                _follows(header, path, txid, page_size)
                for number, data in _pages(file, path, header):
                    os.pwrite(opened.fileno(), data, (number - 1) * page_size)
                    pages, written = pages + 1, written + len(data)
            os.ftruncate(opened.fileno(), header.page_count * page_size)
            txid, used = header.last_txid, used + 1
    mark(copy, txid)
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
    crc = crc64(_exactly(file, HEADER_BYTES, path))
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
        crc, last = crc64(head + data, crc), number
        yield number, data
    _close(file, path, crc64(_PAGES_END, crc))


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
        crc, rest = crc64(part, crc), rest - len(part)
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


def _marker(copy: Path) -> Path:
    return copy.with_name(copy.name + MARKER_SUFFIX)


def _unmark(copy: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        _marker(copy).unlink()
    _sync(copy.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
