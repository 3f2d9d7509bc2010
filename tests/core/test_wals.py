"""What lists say of one WAL, and which WALs stand between two snapshots."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.changes import Change, Changes
from sidecar.core.live_state import WalIndex
from sidecar.core.model import Position
from sidecar.core.wals import BETWEEN_MAX, Listed, listed, wals_between

SIZE = 1000
STEP = SIZE + 24


def salts(number: int, rest: bytes = b"rest") -> bytes:
    return number.to_bytes(4, "big") + rest


def change(number: int, first: int, last: int, pages: Sequence[int] | None, size: int = SIZE) -> Change:
    """Frames `first` to `last` of a WAL."""
    at = number * 1000
    return Change(
        Position.of_txid(at + first - 1), Position.of_txid(at + last), salts(number), 32 + (first - 1) * STEP, 32 + last * STEP,
        size, 99, array("I", pages) if pages is not None else None,
    )  # fmt: skip


CHANGES = Changes((change(7, 1, 3, [1, 2]), change(7, 4, 4, [9]), change(7, 5, 9, [3]), change(8, 1, 2, [4])))


@pytest.mark.parametrize(
    ("after", "frame", "pages"),
    [
        (0, 9, {1, 2, 9, 3}),
        (2, 9, {1, 2, 9, 3}),
        (3, 9, {9, 3}),
        (4, 9, {3}),
        (8, 9, {3}),
        (9, 9, set()),
        (12, 12, set()),
    ],
)
def test_what_is_listed_past_a_frame_may_be_a_little_more(after: int, frame: int, pages: set[int]) -> None:
    assert listed(CHANGES, salts(7), after, SIZE) == Listed(frame, frozenset(pages))


def test_a_list_that_is_missing_or_names_no_pages_ends_what_is_known() -> None:
    gap = Changes((change(7, 1, 3, [1]), change(7, 5, 9, [3])))
    assert listed(gap, salts(7), 0, SIZE) == Listed(3, frozenset({1}))
    assert listed(gap, salts(7), 4, SIZE) == Listed(9, frozenset({3}))
    whole = Changes((change(7, 1, 3, [1]), change(7, 4, 6, None), change(7, 7, 9, [3])))
    assert listed(whole, salts(7), 0, SIZE) == Listed(3, frozenset({1}))
    assert listed(whole, salts(7), 6, SIZE) == Listed(9, frozenset({3}))
    assert listed(Changes(), salts(7), 5, SIZE) == Listed(5, frozenset())


def test_lists_of_another_wal_and_of_another_page_size_are_none() -> None:
    assert listed(CHANGES, salts(7, b"else"), 0, SIZE) == Listed(0, frozenset())
    assert listed(Changes((change(7, 1, 3, [1], size=512),)), salts(7), 0, SIZE) == Listed(0, frozenset())


@given(st.permutations(CHANGES.all))
def test_their_order_does_not_matter(each: list[Change]) -> None:
    assert listed(Changes(tuple(each)), salts(7), 0, SIZE) == Listed(9, frozenset({1, 2, 3, 9}))


def index(number: int, frame: int, rest: bytes = b"rest") -> WalIndex:
    return WalIndex(salts(number, rest), frame, SIZE)


def test_the_wals_between_two_snapshots_are_named_by_counting_up() -> None:
    assert wals_between(index(7, 5), index(8, 3, b"new!"), Changes()) == [(salts(7), 5)]
    assert wals_between(index(6, 5), index(8, 3), CHANGES) == [(salts(6), 5), (salts(7), 0)]
    assert wals_between(index(6, 5), index(9, 3), CHANGES) == [(salts(6), 5), (salts(7), 0), (salts(8), 0)]
    assert wals_between(index(0xFFFFFFFF, 5), index(0, 1), Changes()) == [(salts(0xFFFFFFFF), 5)], (
        "it begins at 0 again"
    )


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (index(5, 1), index(8, 1)),  # of 6 nothing is known
        (index(8, 1), index(7, 1)),  # backwards
        (index(7, 1), index(7, 1, b"else")),
        (index(1, 1), index(1 + BETWEEN_MAX + 1, 1)),
        (WalIndex(b"", 0, SIZE), index(8, 1)),
        (index(7, 1), WalIndex(b"", 0, SIZE)),
    ],
)
def test_where_one_of_them_cannot_be_named_nothing_is_known(before: WalIndex, now: WalIndex) -> None:
    assert wals_between(before, now, CHANGES) is None
