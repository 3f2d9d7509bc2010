"""What stands behind a page that differs: an excuse that is listed, nothing known, or nothing at all."""

from __future__ import annotations

from array import array
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.changes import Bounds, Change, Changes
from sidecar.core.model import Position
from sidecar.core.parity import Parity, ParityResult
from sidecar.core.parity_judging import SHOWN_MAX, Judged, conclude, judge

EQUAL, DIFFERENT, INCONCLUSIVE = ParityResult.EQUAL, ParityResult.DIFFERENT, ParityResult.INCONCLUSIVE


def at(txid: int) -> Position:
    return Position.of_txid(txid)


def file(txid: int, *pages: int, count: int = 100) -> Change:
    return Change(at(txid - 1), at(txid), b"saltsalt", 32, 32, 4096, count, array("I", pages))


LOG = Changes((file(2, 5, 6), file(3, 7), file(4, 8, count=90)))
READ: Mapping[int, Bounds | None] = {0: Bounds(at(1), at(4)), 1: Bounds.at(at(1)), 2: Bounds.at(at(3)), 3: None}


@pytest.mark.parametrize(
    ("differing", "copy", "unexplained", "unknown"),
    [
        ({}, 1, (), 0),
        ({1: {5, 6}}, 2, (), 0),
        ({1: {5, 6}}, 1, (5, 6), 0),
        ({1: {5, 7}}, 2, (7,), 0),
        ({1: {5, 7, 8, 9}}, 4, (9,), 0),
        ({2: {7, 8}}, 3, (7, 8), 0),
        ({2: {7, 8}}, 4, (7,), 0),
        ({2: {7, 8}}, 2, (8,), 0),
        ({1: {5}, 2: {5}}, 2, (5,), 0),
        ({1: {91}}, 4, (), 0),
        ({1: {91}}, 3, (91,), 0),
        ({3: {1, 2}}, 1, (), 2),
        ({4: {1, 2}}, 1, (), 2),
        ({1: {5}}, 5, (), 1),
        ({1: {5}, 3: {6}}, 1, (5,), 1),
        ({0: {5, 8, 9}}, 1, (9,), 0),
    ],
)
def test_a_page_is_excused_unexplained_or_unknown(
    differing: dict[int, set[int]], copy: int, unexplained: tuple[int, ...], unknown: int
) -> None:
    assert judge(differing, READ, LOG, Bounds.at(at(copy))) == Judged(unexplained, unknown)


def test_where_the_copy_stands_must_be_known() -> None:
    assert judge({1: {5, 9}, 2: {1}}, READ, LOG, None) == Judged((), 3)


@given(st.sets(st.integers(1, 200), max_size=40), st.sets(st.integers(1, 200), max_size=40), st.integers(1, 4))
def test_every_page_has_one_of_three_fates(differing: set[int], unjudged: set[int], copy: int) -> None:
    judged = judge({1: differing, 3: unjudged}, READ, LOG, Bounds.at(at(copy)))
    excused = {page for each in LOG.all[: copy - 1] for page in each.pages or ()}
    cut = set(range(91, 201)) if copy == 4 else set(range(101, 201)) if copy > 1 else set()
    assert set(judged.unexplained) == differing - excused - cut
    assert list(judged.unexplained) == sorted(judged.unexplained)
    assert judged.unknown == len(unjudged)


@pytest.mark.parametrize(
    ("pages", "differing", "judged", "result", "proven", "excused", "says"),
    [
        (100, 0, Judged((), 0), EQUAL, 100, 0, "100 of 100 pages are what production held"),
        (100, 3, Judged((), 0), EQUAL, 97, 3, "97 of 100 pages are what production held; 3 changed meanwhile"),
        (100, 20, Judged((), 0), EQUAL, 80, 20, "20 changed meanwhile, a weak proof"),
        (100, 50, Judged((), 0), EQUAL, 50, 50, "a weak proof"),
        (100, 51, Judged((), 0), INCONCLUSIVE, 49, 51, "only 49 of 100 pages could be compared"),
        (100, 3, Judged((), 1), INCONCLUSIVE, 97, 2, "1 pages differ, and what changed meanwhile is not known"),
        (100, 3, Judged((4,), 0), DIFFERENT, 97, 2, "1 of 100 pages are not what production held"),
        (100, 100, Judged(tuple(range(1, 101)), 0), DIFFERENT, 0, 0, "100 of 100 pages"),
        (100, 3, Judged((4,), 2), DIFFERENT, 97, 0, "1 of 100 pages are not what production held"),
        (100, 0, Judged((101,), 0), DIFFERENT, 100, 0, "1 of 100 pages are not what production held"),
        (100, 1, Judged((4, 101), 0), DIFFERENT, 99, 0, "2 of 100 pages"),
        (0, 0, Judged((), 0), EQUAL, 0, 0, "0 of 0"),
    ],
)
def test_what_a_comparison_says(
    pages: int, differing: int, judged: Judged, result: ParityResult, proven: int, excused: int, says: str
) -> None:
    found = conclude(pages, differing, judged)
    assert (found.result, found.pages, found.proven, found.excused) == (result, pages, proven, excused)
    assert says in found.message
    assert bool(found.hint) is (result is not EQUAL)


def test_many_pages_are_counted_and_some_are_named() -> None:
    found = conclude(1000, 500, Judged(tuple(range(1, 501)), 0))
    assert (found.differing, found.different) == (500, tuple(range(1, SHOWN_MAX + 1)))


@given(st.integers(0, 300), st.integers(0, 300), st.sets(st.integers(1, 320), max_size=20), st.integers(0, 20))
def test_an_unexplained_page_is_never_hidden(pages: int, more: int, unexplained: set[int], unknown: int) -> None:
    differing = min(pages, sum(page <= pages for page in unexplained) + more)
    found: Parity = conclude(pages, differing, Judged(tuple(sorted(unexplained)), unknown))
    assert (found.result is DIFFERENT) is bool(unexplained)
    assert found.result is not EQUAL or not unknown
    assert found.proven + differing == pages
    assert 0 <= found.excused <= differing
    assert not found.strong or found.result is EQUAL
