"""What changed between two states: never less than what is listed, and nothing where a list is missing."""

from __future__ import annotations

from array import array
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.changes import Bounds, Change, Changes, may_have_changed
from sidecar.core.live_state import WalIndex
from sidecar.core.model import Position

SALTS, LATER = b"saltsold", b"saltsnew"
PAGE = 4096
FRAME = PAGE + 24


def at(txid: int) -> Position:
    return Position.of_txid(txid)


def change(
    after: int, upto: int, *pages: int, start: int = 0, end: int = 0, count: int | None = 100, salts: bytes = SALTS
) -> Change:
    """Frames `start` to `end` of a WAL, as TXIDs past `after` and up to `upto`."""
    listed = array("I", pages)
    return Change(at(after), at(upto), salts, 32 + start * FRAME, 32 + end * FRAME, PAGE, count, listed)


def shadow(generation: str, index: int, start: int, end: int, *pages: int, closed: bool = False) -> Change:
    upto = Position(generation, index + 1, 32) if closed else Position(generation, index, 32 + end * FRAME)
    after = Position(generation, index, 32 + start * FRAME)
    return Change(after, upto, SALTS, 32 + start * FRAME, 32 + end * FRAME, PAGE, None, array("I", pages))


def index(frame: int, salts: bytes = SALTS) -> WalIndex:
    return WalIndex(salts, frame, PAGE)


LOG = Changes(
    (
        change(0, 1, 1, 2, 3, end=3),
        change(1, 2, 2, 5, start=3, end=5),
        change(2, 4, 7, start=5, end=6),
        change(4, 5, 1, 9, end=2, salts=LATER),
    )
)


@pytest.mark.parametrize(
    ("state", "bounds"),
    [
        (index(3), Bounds.at(at(1))),
        (index(4), Bounds(at(1), at(2))),
        (index(5), Bounds.at(at(2))),
        (index(6), Bounds.at(at(4))),
        (index(1), Bounds(at(0), at(1))),
        (index(7), None),
        (index(0, LATER), Bounds(at(4), at(5))),
        (index(2, LATER), Bounds.at(at(5))),
        (index(3, LATER), None),
        (index(3, b"another "), None),
        (WalIndex(b"", 0, PAGE), None),
    ],
)
def test_where_a_state_stands(state: WalIndex, bounds: Bounds | None) -> None:
    assert LOG.bounds(state) == bounds


@pytest.mark.parametrize(
    ("one", "other", "upto"),
    [
        (Bounds.at(at(2)), Bounds.at(at(2)), []),
        (Bounds.at(at(1)), Bounds.at(at(2)), [2]),
        (Bounds.at(at(2)), Bounds.at(at(1)), [2]),
        (Bounds.at(at(1)), Bounds.at(at(5)), [2, 4, 5]),
        (Bounds(at(1), at(2)), Bounds.at(at(2)), [2]),
        (Bounds(at(1), at(2)), Bounds.at(at(1)), [2]),
        (Bounds(at(1), at(2)), Bounds(at(1), at(2)), [2]),
        (Bounds.at(at(3)), Bounds.at(at(4)), [4]),
        (Bounds.at(at(0)), Bounds.at(at(1)), [1]),
        (Bounds.at(at(5)), Bounds.at(at(6)), None),
        (Bounds.at(at(7)), Bounds.at(at(8)), None),
        (Bounds.at(at(7)), Bounds.at(at(7)), []),
    ],
)
def test_what_lies_between_two_states(one: Bounds, other: Bounds, upto: list[int] | None) -> None:
    found = LOG.between(one, other)
    assert (None if found is None else [each.upto.index for each in found]) == upto


def test_a_missing_file_is_no_empty_list() -> None:
    gap = Changes((LOG.all[0], *LOG.all[2:]))
    assert gap.between(Bounds.at(at(1)), Bounds.at(at(4))) is None
    assert gap.between(Bounds.at(at(2)), Bounds.at(at(4))) is not None
    assert Changes(LOG.all[1:]).between(Bounds.at(at(0)), Bounds.at(at(2))) is None, "its beginning is missing"
    assert Changes().between(Bounds.at(at(1)), Bounds.at(at(2))) is None


def test_states_of_two_generations_have_nothing_between_them_even_at_the_same_offset() -> None:
    log = Changes((shadow("a", 0, 0, 2, 1), shadow("b", 0, 0, 2, 1), shadow("b", 0, 2, 4, 3)))
    end = 32 + 2 * FRAME
    one, other = Position("a", 0, end), Position("b", 0, end)
    assert log.between(Bounds.at(one), Bounds.at(other)) is None, "nothing between them is not the same state"
    assert log.between(Bounds(one, one), Bounds(one, other)) is None
    inside = log.between(Bounds.at(other), Bounds.at(Position("b", 0, 32 + 4 * FRAME)))
    assert inside is not None
    assert [each.pages for each in inside] == [array("I", [3])], "another generation's files are no gap"


def test_a_shadow_file_that_ended_leads_to_the_next() -> None:
    log = Changes((shadow("a", 0, 0, 2, 1, closed=True), shadow("a", 1, 0, 3, 4)))
    assert log.bounds(index(2)) == Bounds.at(Position("a", 1, 32))
    found = log.between(Bounds.at(Position("a", 0, 32)), Bounds.at(Position("a", 1, 32 + 3 * FRAME)))
    assert found == log.all


def test_a_copy_of_05_stands_where_it_was_restored_to() -> None:
    assert LOG.stands_at(at(4)) == Bounds.at(at(4))
    assert Changes().stands_at(at(4)) == Bounds.at(at(4))


OPEN = (shadow("a", 0, 0, 2, 1, closed=True), shadow("a", 1, 0, 3, 4), shadow("a", 1, 3, 5, 6))
END = Position("a", 1, 32 + 5 * FRAME)


@pytest.mark.parametrize(
    ("position", "changes", "bounds"),
    [
        (Position("a", 1, 32), Changes(OPEN, END), Bounds(Position("a", 1, 32), END)),
        (Position("a", 1, 32 + FRAME), Changes(OPEN, END), Bounds(Position("a", 1, 32 + FRAME), END)),
        (Position("a", 0, 0), Changes(OPEN, END), Bounds(Position("a", 0, 32), Position("a", 1, 32))),
        (Position("a", 0, 0), Changes(OPEN), Bounds(Position("a", 0, 32), Position("a", 1, 32))),
        (Position("a", 1, 32), Changes(OPEN), None),
        (Position("a", 1, 32), Changes(OPEN[:2], END), None),
        (Position("a", 1, 32), Changes(OPEN, Position("a", 2, 32)), None),
        (Position("a", 1, 32), Changes((*OPEN, shadow("b", 0, 0, 1, 1)), Position("b", 0, 32 + FRAME)), None),
        (Position("a", 2, 0), Changes(OPEN, Position("a", 2, 32)), Bounds.at(Position("a", 2, 32))),
        (Position("a", 2, 32), Changes(OPEN, END), None),
        (Position("b", 0, 0), Changes(OPEN, END), None),
    ],
)
def test_a_copy_of_03_stands_within_its_index_where_its_end_is_known(
    position: Position, changes: Changes, bounds: Bounds | None
) -> None:
    assert changes.stands_at(position) == bounds


@pytest.mark.parametrize(
    ("changes", "pages", "excused"),
    [
        ((), {1, 2}, set()),
        ([change(1, 2, 2, 5)], {1, 2, 5}, {2, 5}),
        ([change(1, 2, 2), change(2, 3, 1)], {1, 2, 3}, {1, 2}),
        ([change(1, 2, 2, count=50)], {50, 51, 60}, {51, 60}),
        ([change(1, 2, 2, count=50), change(2, 3, 3, count=80)], {51, 81}, {51, 81}),
        ([change(1, 2, 2, count=None)], {51}, set()),
    ],
)
def test_only_what_is_listed_or_cut_off_is_excused(changes: list[Change], pages: set[int], excused: set[int]) -> None:
    assert may_have_changed(changes, pages) == excused


def test_a_file_that_holds_everything_excuses_everything() -> None:
    whole = Change(at(1), at(2), SALTS, 32, 32, PAGE, 100, None)
    assert may_have_changed([change(0, 1, 4), whole], {1, 99}) == {1, 99}


def test_the_last_frame_of_a_file() -> None:
    assert change(1, 2, start=3, end=5).limit_frame() == 5
    assert change(1, 2).limit_frame() == 0


def test_newest_is_the_last_that_was_captured() -> None:
    assert Changes().newest is None
    assert LOG.newest == LOG.all[-1]


@st.composite
def histories(draw: st.DrawFn) -> tuple[Change, ...]:
    """Whole histories of a few WALs: files of one or more TXIDs and frames, without a gap."""
    made: list[Change] = []
    txid = draw(st.integers(0, 5))
    frame, salts = 0, 0
    for _ in range(draw(st.integers(1, 8))):
        if draw(st.booleans()) and made:
            frame, salts = 0, salts + 1
        upto, end = txid + draw(st.integers(1, 3)), frame + draw(st.integers(1, 4))
        pages = draw(st.sets(st.integers(1, 20), min_size=1, max_size=6))
        listed = array("I", sorted(pages)) if draw(st.integers(0, 9)) else None
        made.append(
            Change(
                at(txid), at(upto), bytes([salts] * 8), 32 + frame * FRAME, 32 + end * FRAME, PAGE,
                draw(st.integers(1, 25)), listed,
            )
        )  # fmt: skip
        txid, frame = upto, end
    return tuple(made)


@given(histories(), st.data())
def test_between_never_misses_a_listed_change(history: tuple[Change, ...], data: st.DataObject) -> None:
    ends = [history[0].after.index, *(each.upto.index for each in history)]
    one, other = (data.draw(st.sampled_from(ends)) for _ in range(2))
    found = Changes(history).between(Bounds.at(at(one)), Bounds.at(at(other)))
    assert found is not None
    first, last = sorted((one, other))
    assert list(found) == [each for each in history if first < each.upto.index <= last]


@given(histories(), st.data())
def test_a_history_with_a_gap_says_nothing_across_it(history: tuple[Change, ...], data: st.DataObject) -> None:
    lost = data.draw(st.integers(0, len(history) - 1))
    left = Changes(history[:lost] + history[lost + 1 :])
    before, after = history[lost].after, history[lost].upto
    assert left.between(Bounds.at(before), Bounds.at(after)) is None
    assert left.between(Bounds.at(history[0].after), Bounds.at(history[-1].upto)) is None
    assert left.between(Bounds(before, after), Bounds.at(after)) is None


@given(histories(), st.data())
def test_a_state_stands_within_its_bounds(history: tuple[Change, ...], data: st.DataObject) -> None:
    file = data.draw(st.sampled_from(history))
    first, last = (file.wal_start - 32) // FRAME, (file.wal_end - 32) // FRAME
    frame = data.draw(st.integers(first + 1, last))
    bounds = Changes(history).bounds(WalIndex(file.salts, frame, PAGE))
    assert bounds is not None
    assert (bounds.lo, bounds.hi) == ((file.upto,) * 2 if frame == last else (file.after, file.upto))


@given(histories(), st.data())
def test_wider_bounds_never_excuse_less(history: tuple[Change, ...], data: st.DataObject) -> None:
    log, pages = Changes(history), set(range(1, 30))
    ends = [history[0].after, *(each.upto for each in history)]
    narrow = Bounds.at(data.draw(st.sampled_from(ends)))
    copy = Bounds.at(data.draw(st.sampled_from(ends)))
    lo = data.draw(st.sampled_from([each for each in ends if each.index <= narrow.lo.index]))
    hi = data.draw(st.sampled_from([each for each in ends if each.index >= narrow.hi.index]))
    exact, wide = log.between(narrow, copy), log.between(Bounds(lo, hi), copy)
    assert exact is not None
    assert wide is not None
    assert may_have_changed(exact, pages) <= may_have_changed(wide, pages)


@given(st.lists(st.integers(1, 50), max_size=30), st.sets(st.integers(1, 50)))
def test_nobody_is_excused_by_an_empty_list(listed: list[int], pages: set[int]) -> None:
    assert may_have_changed([], pages) == set()
    files = [change(n, n + 1, page, count=None) for n, page in enumerate(listed)]
    assert all(after.after == before.upto for before, after in pairwise(files))
    assert may_have_changed(files, pages) == pages & set(listed)
