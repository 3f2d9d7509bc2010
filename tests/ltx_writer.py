"""Reads LTX files and writes them again, so that a test can lose a page where no checksum tells.

The format as superfly/ltx writes it for Litestream 0.5: header; per page its number, flags, size and LZ4 block; six zero bytes; the
page index; a trailer with a CRC-64/ISO over everything with the pages uncompressed.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from lz4 import block

from sidecar.core.ltx import HEADER_BYTES, LtxHeader, parse_header

_PAGE = struct.Struct(">IHI")  # page number, flags (1: its size follows), size
_SIZE_FOLLOWS = 1
_END = bytes(6)
_FLAG = 1 << 63  # a checksum is never zero
_TABLE: list[int] = []


def crc64(data: bytes, before: int = 0) -> int:
    """CRC-64/ISO as Go's `hash/crc64` has it. Eight lines, where a library would bring an extension module for one test."""
    if not _TABLE:
        for value in range(256):
            crc = value
            for _ in range(8):
                crc = (crc >> 1) ^ (0xD800000000000000 if crc & 1 else 0)
            _TABLE.append(crc)
    table, crc = _TABLE, before ^ 0xFFFFFFFFFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True)
class LtxFile:
    """One file: its header as it stands, the pages in order, the checksum of the database after it (0: not said)."""

    header: bytes
    pages: dict[int, bytes]
    post_apply: int = 0

    @property
    def told(self) -> LtxHeader:
        return parse_header(self.header)

    def without(self, page: int) -> LtxFile:
        """The same file, had Litestream lost this page."""
        return replace(self, pages={number: data for number, data in self.pages.items() if number != page})


def decode(data: bytes) -> LtxFile:
    """A file in memory; its checksum is held against its content."""
    size, at, pages = parse_header(data).page_size, HEADER_BYTES, dict[int, bytes]()
    summed = [data[:HEADER_BYTES]]
    while data[at : at + len(_END)] != _END:
        number, flags, length = _PAGE.unpack_from(data, at)
        assert flags == _SIZE_FOLLOWS, f"page {number} is written in another way: flags {flags}"
        summed.append(data[at : at + _PAGE.size])
        at += _PAGE.size
        pages[number] = block.decompress(data[at : at + length], uncompressed_size=size)
        summed.append(pages[number])
        at += length
    found = LtxFile(data[:HEADER_BYTES], pages, int.from_bytes(data[-16:-8]))
    assert _crc([*summed, data[at:-8]]) == int.from_bytes(data[-8:]), (
        "the checksum does not fit: the format is another one than it was"
    )
    return found


def encode(file: LtxFile) -> bytes:
    """The file that Litestream would have written of these pages, its checksum right."""
    blocks, index, summed, at = list[bytes](), list[bytes](), [file.header], HEADER_BYTES
    for number, data in file.pages.items():
        packed = block.compress(data, store_size=False)
        head = _PAGE.pack(number, _SIZE_FOLLOWS, len(packed))
        blocks += [head, packed]
        summed += [head, data]
        index += [_varint(number), _varint(at), _varint(len(head) + len(packed))]
        at += len(head) + len(packed)
    entries = b"".join([*index, _varint(0)])
    tail = _END + entries + struct.pack(">QQ", len(entries), file.post_apply)
    return b"".join([file.header, *blocks, tail, struct.pack(">Q", _crc([*summed, tail]))])


def rewrite(path: Path, file: LtxFile) -> None:
    """Put it in the place of another, as it is dated: a file replica takes a file's time for its content's."""
    status = path.stat()
    path.write_bytes(encode(file))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _crc(parts: Iterable[bytes]) -> int:
    crc = 0
    for each in parts:
        crc = crc64(each, crc)
    return crc | _FLAG


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
