"""A look at a replica whose listing began before the look: it never shows more than one that begins now would show."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core import ahead
from sidecar.core.evidence import Evidence
from sidecar.core.listed import Listed
from sidecar.core.live_state import LiveState, WalIndex
from sidecar.core.model import Database, LookResult, Position, ReplicaFile
from sidecar.core.policy import Policy
from sidecar.look import Looker
from tests.core.evidences import NOW, SALTS, capture, database, live
from tests.fakes import FakeClock
from tests.verb_fakes import FakeLive, FakeProduction

PAGE = 4096


@dataclass
class Answer:
    """A lister that answers with these files, dated as it is told; writes down what production was said to hold."""

    listed_as: Listed
    holds: list[Position | None] = field(default_factory=list)

    def listed(self, database: Database, *, holds: Position | None, timeout_s: float, stop: Event) -> Listed:
        del database, timeout_s, stop
        self.holds.append(holds)
        return self.listed_as


def files(*txids: int, at: datetime = NOW - timedelta(hours=1)) -> tuple[ReplicaFile, ...]:
    base = ReplicaFile(9, Position.of_txid(1), Position.of_txid(1), 100, at - timedelta(hours=1))
    return (base, *(ReplicaFile(0, Position.of_txid(each), Position.of_txid(each), 100, at) for each in txids))


def look(answer: Answer, *states: LiveState, known: Evidence | None = None) -> Evidence:
    before = known or Evidence(first_seen_at=NOW - timedelta(hours=9))
    looker = Looker(FakeLive(FakeClock(), list(states)), answer, FakeProduction(), FakeClock())
    return looker.look(database(), before, Policy(), 60.0, Event()).applied(before)


def test_the_look_is_dated_by_the_listings_own_beginning() -> None:
    began = NOW - timedelta(seconds=12)
    seen = look(Answer(Listed(began, files(2, 3))), live(txid=3)).sighting
    assert seen is not None
    assert seen.listing is not None
    assert (seen.result, seen.read_at, seen.listing.read_at, seen.finished_at) == (LookResult.OK, began, began, NOW)


@pytest.mark.parametrize(
    ("state", "holds"),
    [
        (live(txid=7), Position.of_txid(7)),
        (live(txid=7, wal_index=WalIndex(SALTS, 9, PAGE)), None),  # committed, and not captured yet
        (live(txid=7, wal_index=WalIndex(b"newsalts", 1, PAGE)), None),
        (live(txid=7, wal_index=None), None),
        (live(txid=7, captures=()), None),
    ],
)
def test_an_older_listing_will_do_only_where_litestream_is_seen_to_have_captured_everything(
    state: LiveState, holds: Position | None
) -> None:
    answer = Answer(Listed(NOW, files(2)))
    look(answer, state)
    assert answer.holds == [holds]


def test_the_doctors_listing_begins_now() -> None:
    answer = Answer(Listed(NOW, files(2)))
    Looker(FakeLive(FakeClock()), answer, FakeProduction(), FakeClock()).sight(database(), 9, Event())
    assert answer.holds == [None]


@given(
    age_s=st.integers(0, 15),
    captured=st.lists(st.integers(2, 12), min_size=1, max_size=4, unique=True),
    shown=st.integers(1, 12),
    frames=st.integers(1, 5),
    committed=st.integers(1, 5),
)
def test_a_listing_that_began_earlier_never_makes_lag_look_better(
    age_s: int, captured: list[int], shown: int, frames: int, committed: int
) -> None:
    """Held against a listing that begins now and shows the same or more, as it must: files only come."""
    captures = tuple(
        capture(each, NOW - timedelta(seconds=20 * (20 - each)), frames) for each in sorted(captured)[::-1]
    )
    state = live(captures=captures, wal_index=WalIndex(SALTS, committed, PAGE))
    older = tuple(files(*range(2, shown + 1)))
    newer = tuple(files(*range(2, max(shown, *captured) + 1)))
    shared = Answer(Listed(NOW - timedelta(seconds=age_s), older))
    with_shared, with_own = look(shared, state), look(Answer(Listed(NOW, newer)), state)
    if shared.holds[0] is None:
        return  # then no older listing is taken
    for later in (timedelta(0), timedelta(seconds=30), timedelta(minutes=5)):
        mine, theirs = with_shared.lag(NOW + later), with_own.lag(NOW + later)
        assert theirs is not None
        assert mine is None or mine >= theirs


def test_production_that_was_set_back_is_seen_as_well() -> None:
    """The replica holds 9, production after the listing only 7: that is told whenever the listing began."""
    answer = Answer(Listed(NOW - timedelta(seconds=12), files(*range(2, 10))))
    grown = look(answer, live(txid=7))
    told = ahead.positions(grown.live, grown.sighting, grown.listing)
    assert told == (Position.of_txid(9), Position.of_txid(7))
    assert ahead.is_ahead(*told)


def test_what_production_got_after_an_older_listing_is_not_taken_for_ahead_or_covered() -> None:
    answer = Answer(Listed(NOW - timedelta(seconds=12), files(*range(2, 8))))
    grown = look(answer, live(txid=9))
    told = ahead.positions(grown.live, grown.sighting, grown.listing)
    assert told is not None
    assert not ahead.is_ahead(*told)
    assert grown.covered_live is None
