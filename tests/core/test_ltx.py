"""LTX headers and file names, byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.live_state import Capture
from sidecar.core.ltx import (
    FULL_FROM,
    HEADER_BYTES,
    TAIL_BYTES,
    index_size,
    parse_header,
    parse_name,
    parse_pages,
)
from sidecar.core.model import Position

SALTS = bytes.fromhex("e7fec44d7beb9ece")


def header(*, magic: bytes = b"LTX1", milliseconds: int = 1_795_440_536_846) -> bytes:
    """A header as Litestream 0.5.17 writes it: flags say "no checksum"."""
    told = struct.pack(">4sIIIQQqQqq8s", magic, 2, 4096, 35, 6, 6, milliseconds, 0, 4152, 8240, SALTS)
    return told.ljust(HEADER_BYTES, b"\0")


def test_every_field_stands_where_litestream_puts_it() -> None:
    found = parse_header(header() + b"pages follow")
    assert (found.page_size, found.page_count, found.first_txid, found.last_txid) == (4096, 35, 6, 6)
    assert (found.wal_offset, found.wal_size, found.wal_end, found.salts) == (4152, 8240, 12392, SALTS)
    assert found.at == datetime(2026, 11, 23, 13, 28, 56, 846000, tzinfo=UTC)


def test_a_header_is_a_capture_of_its_last_txid() -> None:
    at = datetime(2026, 11, 23, 13, 28, 56, 846000, tzinfo=UTC)
    assert parse_header(header()).capture == Capture(Position.of_txid(6), at, SALTS, 12392, 35)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "here are 0"),
        (header()[:99], "here are 99"),
        (header(magic=b"LTX2"), "begins with LTX1, this one does not"),
        (bytes(HEADER_BYTES), "begins with LTX1, this one does not"),
        (header(milliseconds=2**62), "time is out of range"),
    ],
)
def test_what_is_no_header_is_refused_with_a_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_header(data)


@pytest.mark.parametrize(
    ("name", "txids"),
    [
        ("0000000000000001-000000000000002a.ltx", (1, 42)),
        ("0000000000000001-000000000000002a.ltx.tmp", None),
        ("0000000000000001-000000000000002A.ltx", None),
        ("1-2a.ltx", None),
        ("0000000000000001.ltx", None),
    ],
)
def test_names(name: str, txids: tuple[int, int] | None) -> None:
    assert parse_name(name) == txids


def varint(value: int) -> bytes:
    """As Go's `binary.AppendUvarint` writes it."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def page_index(pages: Iterable[int]) -> bytes:
    """The index of a file with these pages, 300 bytes each."""
    entries = [varint(page) + varint(100 + 300 * place) + varint(300) for place, page in enumerate(pages)]
    return b"".join([*entries, varint(0)])


@pytest.mark.parametrize(
    ("pages", "page_count", "found"),
    [
        ([], 10, []),
        ([7], 10, [7]),
        ([1, 5, 10], 10, [1, 5, 10]),
        ([2, 4_000_000_000], 4_000_000_000, [2, 4_000_000_000]),
        (range(1, 11), 10, None),
        (range(1, 10), 10, [*range(1, 10)]),
        (range(1, FULL_FROM), 1000, [*range(1, FULL_FROM)]),
        (range(1, FULL_FROM + 1), 1000, [*range(1, FULL_FROM + 1)]),
        (range(1, 1001), 1001, None),
        (range(2, 200), 1000, [*range(2, 200)]),
    ],
)
def test_the_pages_of_a_file(pages: Iterable[int], page_count: int, found: list[int] | None) -> None:
    parsed = parse_pages(page_index(pages), page_count)
    assert (None if parsed is None else list(parsed)) == found


@given(st.sets(st.integers(1, 1 << 20)), st.integers(1, 1 << 20))
def test_a_page_that_a_file_holds_is_listed_or_everything_is(pages: set[int], page_count: int) -> None:
    parsed = parse_pages(page_index(sorted(pages)), page_count)
    assert parsed is None or set(parsed) == pages


@given(st.lists(st.integers(1, 1 << 32 - 1), min_size=1, max_size=20), st.data())
def test_an_index_that_is_cut_short_is_refused(pages: list[int], data: st.DataObject) -> None:
    whole = page_index(pages)
    with pytest.raises(ValueError, match="cut short"):
        parse_pages(whole[: data.draw(st.integers(0, len(whole) - 1))], 1 << 32)


@given(st.binary(max_size=200), st.integers(0, 100))
def test_an_index_of_anything_is_pages_or_a_sentence(index: bytes, page_count: int) -> None:
    try:
        parse_pages(index, page_count)
    except ValueError as error:
        assert "page index" in str(error)  # noqa: PT017 - either answer is right


def test_the_size_of_the_index_stands_before_the_trailer() -> None:
    assert index_size(struct.pack(">QQQ", 1234, 0, 1)) == 1234
    assert index_size(struct.pack(">QQQ", 1234, 0, 1) + b"more") == 1234
    with pytest.raises(ValueError, match="too short"):
        index_size(bytes(TAIL_BYTES - 1))
