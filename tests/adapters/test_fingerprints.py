"""Fingerprints in a scratch file: which pages of a copy were read otherwise, by which reading, and nothing left behind."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.adapters.fingerprints import (
    CHUNK_PAGES,
    LOCK_BYTE_AT,
    READ_PAGES,
    READINGS_MAX,
    Fingerprints,
    fingerprints,
)


@pytest.fixture
def prints(tmp_path: Path) -> Iterator[Fingerprints]:
    with fingerprints(tmp_path, 512) as made:
        yield made


def pages(*letters: str, size: int = 512) -> bytes:
    return b"".join(each.encode() * size for each in letters)


def differing(prints: Fingerprints, folder: Path, data: bytes) -> list[tuple[int, int]]:
    copy = folder / "copy"
    copy.write_bytes(data)
    return list(prints.differing(copy))


def test_a_page_that_was_read_otherwise_is_named_with_its_reading(prints: Fingerprints, tmp_path: Path) -> None:
    prints.put(1, memoryview(pages("a", "b", "c")), 1)
    prints.put(4, memoryview(pages("d")), 2)
    assert differing(prints, tmp_path, pages("a", "b", "c", "d")) == []
    assert differing(prints, tmp_path, pages("a", "x", "c", "y")) == [(2, 1), (4, 2)]
    prints.put(2, memoryview(pages("x")), 3)
    assert differing(prints, tmp_path, pages("a", "x", "c", "d")) == []
    assert differing(prints, tmp_path, pages("a", "b", "c", "d")) == [(2, 3)], "the newest reading counts"


def test_one_bit_is_enough(prints: Fingerprints, tmp_path: Path) -> None:
    data = bytearray(random.Random(1).randbytes(512 * 9))
    prints.put(1, memoryview(bytes(data)), 1)
    data[512 * 4 + 77] ^= 1
    assert differing(prints, tmp_path, bytes(data)) == [(5, 1)]


def test_pages_that_nobody_read_differ_by_reading_zero(prints: Fingerprints, tmp_path: Path) -> None:
    prints.put(3, memoryview(pages("c")), 1)
    assert differing(prints, tmp_path, pages("a", "b", "c", "\0")) == [(1, 0), (2, 0), (4, 0)]
    assert [list(numbers) for _, numbers in prints.all_readings()] == [[0, 0, 1]]
    assert [(first, list(numbers)) for first, numbers in prints.all_readings(3)] == [(3, [1])]
    assert list(prints.all_readings(4)) == []


def test_all_of_the_copy_is_looked_at_in_whole_pages(prints: Fingerprints, tmp_path: Path) -> None:
    many = CHUNK_PAGES * 2 + 10
    prints.put(1, memoryview(bytes(512 * many)), 7)
    data = bytearray(512 * many)
    wrong = [1, CHUNK_PAGES, CHUNK_PAGES + 1, CHUNK_PAGES * 2, many]
    for page in wrong:
        data[page * 512 - 1] = 1
    assert differing(prints, tmp_path, bytes(data)) == [(page, 7) for page in wrong]
    assert differing(prints, tmp_path, bytes(512 * 3 + 100)) == [], "half a page is none"
    assert differing(prints, tmp_path, b"") == []


def test_readings_come_in_chunks(prints: Fingerprints) -> None:
    prints.put(READ_PAGES + 5, memoryview(pages("a")), READINGS_MAX)
    assert [(first, len(numbers)) for first, numbers in prints.all_readings()] == [(1, READ_PAGES), (READ_PAGES + 1, 5)]
    assert prints.page_count == READ_PAGES + 5
    with pytest.raises(OverflowError):
        prints.put(1, memoryview(pages("a")), READINGS_MAX + 1)


@pytest.mark.parametrize("page_size", [4096, 65536])
def test_the_lock_page_is_the_same_whatever_stands_there(tmp_path: Path, page_size: int) -> None:
    """On files with holes: the pages around it were read, and differ with it."""
    lock = LOCK_BYTE_AT // page_size + 1
    around = range(lock - 2, lock + 3)
    copy = tmp_path / "copy"
    with copy.open("wb") as file:
        for page in around:
            os.pwrite(file.fileno(), b"x" * page_size, (page - 1) * page_size)
    step = (1 << 22) // page_size
    nothing = memoryview(bytes(1 << 22))
    with fingerprints(tmp_path, page_size) as prints:
        for first in range(1, lock + 3, step):
            prints.put(first, nothing[: min(step, lock + 3 - first) * page_size], 1)
        assert list(prints.differing(copy)) == [(page, 1) for page in around if page != lock]


def test_nothing_is_left_behind_and_nothing_can_be_opened(tmp_path: Path) -> None:
    with fingerprints(tmp_path, 4096) as prints:
        assert list(tmp_path.iterdir()) == []
        prints.put(1, memoryview(bytes(4096)), 1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        prints.put(1, memoryview(bytes(4096)), 1)
    with pytest.raises(FileNotFoundError), fingerprints(tmp_path / "nowhere", 4096):
        pass


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.text("ab", min_size=1, max_size=5)), max_size=12),
    st.text("ab", max_size=35),
)
def test_exactly_what_differs_is_named(tmp_path: Path, puts: list[tuple[int, str]], held: str) -> None:
    known: dict[int, tuple[str, int]] = {}
    with fingerprints(tmp_path, 512) as prints:
        for number, (first, letters) in enumerate(puts, 1):
            prints.put(first, memoryview(pages(*letters)), number)
            known.update({first + place: (letter, number) for place, letter in enumerate(letters)})
        expected = [
            (page, known[page][1] if page in known else 0)
            for page, letter in enumerate(held, 1)
            if page not in known or known[page][0] != letter
        ]
        assert differing(prints, tmp_path, pages(*held)) == expected
        told = {first + place: each for first, numbers in prints.all_readings() for place, each in enumerate(numbers)}
        assert {page: number for page, number in told.items() if number} == {p: n for p, (_, n) in known.items()}
