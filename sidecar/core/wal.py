"""The WAL, its index and Litestream 0.3's shadow of it: where production's last commit ends, from a few bytes.

Source: SQLite, "WAL-mode File Format", sections 1 and 2.1.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from sidecar.core.live_state import WalIndex

INDEX_BYTES = 96  # two copies of the 48-byte header
WAL_HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
# Of `-shm` what stands before the page numbers of the frames: the header twice, then what checkpoints say of themselves.
CHECKPOINT_AT = 96
CHECKPOINT_BYTES = 40
BLOCK_BYTES = 32_768  # page numbers of 4096 frames, and a hash table of them; the first block begins with the above
BLOCK_FRAMES = 4096
FIRST_BLOCK_FRAMES = BLOCK_FRAMES - (CHECKPOINT_AT + CHECKPOINT_BYTES) // 4
_COPY_BYTES = INDEX_BYTES // 2
_VERSION = 3007000
# Native byte order: version, unused, change counter, initialised, checksums big-endian, page size, mxFrame, pages, checksum of the
# last frame, the salts (copied from the WAL as they stand there), checksum of the 40 bytes before it.
_INDEX = struct.Struct("=IIIBBHIIII8sII")
_CHECKPOINT = struct.Struct("=I20s8sII")
_WORDS = struct.Struct("=10I")
_MAGICS = (0x377F0682, 0x377F0683)
_SHADOW_NAME = re.compile(r"([0-9a-f]{8})\.wal")
_MASK = 0xFFFFFFFF
_PAGE_SIZES = frozenset(1 << power for power in range(9, 17))


@dataclass(frozen=True, slots=True)
class WalHeader:
    """The first 32 bytes of a WAL, or of a shadow WAL file, which begins with a copy of them."""

    page_size: int
    checkpoints: int  # how often this WAL has been begun anew
    salts: bytes


def parse_index(data: bytes) -> WalIndex | None:
    """The WAL index's header in the first 96 bytes of `-shm`.

    None when it says nothing: too short, not initialised, or caught while a writer was replacing it (the two copies differ or
    the checksum is wrong). A second read tells these apart.
    """
    first, second = data[:_COPY_BYTES], data[_COPY_BYTES:INDEX_BYTES]
    if len(data) < INDEX_BYTES or first != second:
        return None
    version, _, _, initialised, _, size, frames, _, _, _, salts, *sums = _INDEX.unpack(first)
    page_size = (size & 0xFE00) + ((size & 1) << 16)  # 65536 does not fit into 16 bits and is stored as 1
    if version != _VERSION or initialised != 1 or page_size not in _PAGE_SIZES or tuple(sums) != _checksum(first):
        return None
    return WalIndex(salts, frames, page_size)


def is_empty_index(data: bytes) -> bool:
    """Whether the WAL index says that there is nothing in the WAL: all that was committed stands in the database file."""
    first, second = data[:_COPY_BYTES], data[_COPY_BYTES:INDEX_BYTES]
    if len(data) < INDEX_BYTES or first != second:
        return False
    version, _, _, initialised, _, size, frames, _, _, _, _, *sums = _INDEX.unpack(first)
    return version == _VERSION and initialised == 1 and not size and not frames and tuple(sums) == _checksum(first)


def _checksum(header: bytes) -> tuple[int, int]:
    """SQLite's checksum over the first 40 bytes, words in native order."""
    one = two = 0
    words = _WORDS.unpack_from(header)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        one = (one + even + two) & _MASK
        two = (two + odd + one) & _MASK
    return one, two


def backfilled(checkpoint: bytes) -> int:
    """The last frame that a checkpoint has copied, or may just be copying, into the database file.

    `checkpoint` are the 40 bytes at `CHECKPOINT_AT`: nBackfill, five read marks, eight lock bytes, nBackfillAttempted.
    """
    done, *_, attempted, _ = _CHECKPOINT.unpack(checkpoint)
    return max(int(done), int(attempted))


def settled(checkpoint: bytes) -> int:
    """The last frame that SQLite reads from the database file from now on: a checkpoint has copied it there, and synced. Of the same 40 bytes.

    A checkpoint leaves out what has a later frame, so it has to be asked before a reader knows that its own last frame is the newest.
    Source: wal.c, `walTryBeginRead`: what a reader looks for in the WAL begins at nBackfill + 1; `walCheckpoint`, `walIteratorNext`.
    """
    done, *_ = _CHECKPOINT.unpack(checkpoint)
    return int(done)


def frame_spans(max_frame: int) -> Iterator[tuple[int, int]]:
    """Where in `-shm` the page numbers of frames 1 to `max_frame` stand: (offset, bytes), in order, 4 bytes each, native."""
    offset, room, left = CHECKPOINT_AT + CHECKPOINT_BYTES, FIRST_BLOCK_FRAMES, max_frame
    block = 0
    while left > 0:
        count = min(left, room)
        yield offset, count * 4
        left -= count
        block += 1
        offset, room = block * BLOCK_BYTES, BLOCK_FRAMES


def frame_offset(frame: int, page_size: int) -> int:
    """Where in the WAL the page of a frame stands; its 24-byte header stands before it."""
    return WAL_HEADER_BYTES + (frame - 1) * (FRAME_HEADER_BYTES + page_size) + FRAME_HEADER_BYTES


def parse_wal_header(data: bytes) -> WalHeader | None:
    """The header of a WAL; None where the bytes are too few or are no WAL."""
    if len(data) < WAL_HEADER_BYTES:
        return None
    magic, _, page_size, checkpoints, salts = struct.unpack_from(">IIII8s", data)
    if magic not in _MAGICS or page_size not in _PAGE_SIZES:
        return None
    return WalHeader(page_size, checkpoints, salts)


def frame_page(frame_header: bytes, salts: bytes) -> int | None:
    """The page of a frame, where it is one of the WAL with these salts; frames of an earlier one stand behind its last."""
    whole = len(frame_header) == FRAME_HEADER_BYTES
    return int.from_bytes(frame_header[:4], "big") if whole and frame_header[8:16] == salts else None


def is_commit(frame_header: bytes) -> bool:
    """Whether a frame ends a transaction: then it says how many pages the database has after it."""
    return any(frame_header[4:8])


def parse_shadow_name(name: str) -> int | None:
    """The index of a shadow WAL file of Litestream 0.3 (`<8hex>.wal`); None for foreign files."""
    found = _SHADOW_NAME.fullmatch(name)
    return int(found[1], 16) if found else None
