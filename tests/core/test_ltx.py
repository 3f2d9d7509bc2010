"""LTX headers and file names, byte by byte."""

from __future__ import annotations

import struct
from datetime import UTC, datetime

import pytest

from sidecar.core.ltx import HEADER_BYTES, parse_header, parse_name
from sidecar.core.model import Capture, Position

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
