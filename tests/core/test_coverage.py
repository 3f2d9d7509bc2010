"""Tables: which local facts prove that Litestream has captured every commit, and up to which instant otherwise.

Two errors matter. An idle, healthy database must come out covered, and a commit that is not captured must never.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sidecar.core.coverage import Coverage, coverage
from sidecar.core.evidence import Evidence
from sidecar.core.live_state import Capture, FileId, LiveState, WalIndex
from sidecar.core.model import Claim, ClaimSource, Listing, LookResult, Position, Sighting

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
PAGE = 4096
OLD, NOW, LATER = (bytes([salt] * 8) for salt in (1, 2, 3))


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def end(frames: int) -> int:
    return 32 + frames * (24 + PAGE)


def index(frames: int, salts: bytes = NOW) -> WalIndex:
    return WalIndex(salts, frames, PAGE)


def capture(
    txid: int, frames: int | None, salts: bytes = NOW, *, made: float = 0, position: Position | None = None
) -> Capture:
    end_of = None if frames is None else end(frames)
    return Capture(position or Position.of_txid(txid), at(made), salts, end_of, 10)


def live(
    wal_index: WalIndex | None, *captures: Capture, read: float = 1, modified: float = 0, inode: int = 1
) -> LiveState:
    return LiveState(at(read), FileId(1, inode), 10 * PAGE, 0, at(modified), wal_index, captures)


@pytest.mark.parametrize(
    ("what", "state", "expected"),
    [
        ("captured to the byte", live(index(7), capture(1, 7)), Coverage.COVERED),
        ("captured beyond what was read", live(index(7), capture(1, 9)), Coverage.COVERED),
        ("one commit too few", live(index(8), capture(1, 7)), Coverage.BEHIND),
        ("idle after Litestream's checkpoint: a new WAL of one frame", live(index(1), capture(6, 1), capture(5, 50, OLD)), Coverage.COVERED),
        ("the app began a new WAL, Litestream has not seen it", live(index(1), capture(5, 50, OLD)), Coverage.BEHIND),
        ("Litestream went on to the next WAL after production was read", live(index(8), capture(3, 1, LATER), capture(2, 8)), Coverage.COVERED),
        ("it went on, but not from our end", live(index(8), capture(3, 1, LATER), capture(2, 7)), Coverage.BEHIND),
        ("a full copy of an empty new WAL", live(index(0), capture(6, 0)), Coverage.COVERED),
        ("the WAL was truncated and Litestream has not seen it", live(index(0, LATER), capture(6, 9)), Coverage.UNKNOWN),
        ("all closed, no WAL, nothing written since", live(None, capture(6, 9, made=0), modified=-1), Coverage.UNKNOWN),
        ("all closed, the database was written since", live(None, capture(6, 9, made=0), modified=1), Coverage.UNKNOWN),
        ("another file with an old mtime stands there", live(None, capture(6, 9, made=0), modified=-86400), Coverage.UNKNOWN),
        ("Litestream has captured nothing", live(index(7)), Coverage.UNKNOWN),
        ("a capture that does not say how far", live(index(7), capture(6, None)), Coverage.BEHIND),
        ("nothing at all", live(None), Coverage.UNKNOWN),
    ],
)  # fmt: skip
def test_coverage(what: str, state: LiveState, expected: Coverage) -> None:
    assert coverage(state) is expected, what


@pytest.mark.parametrize("mtime", [-86400.0, -1.0, -0.001, 0.0, 0.001, 1.0, 86400.0])
@pytest.mark.parametrize(
    "state", [live(index(7), capture(1, 7)), live(index(8), capture(1, 7)), live(None, capture(1, 7))]
)
def test_no_mtime_changes_the_answer(state: LiveState, mtime: float) -> None:
    assert coverage(replace(state, modified_at=at(mtime))) is coverage(state)


def listing(position: Position, *, read: float = 2, newest: float = 0, first: float | None = None) -> Listing:
    return Listing(
        read_at=at(read), position=position, at=at(newest), reachable=position, gap=None, overlap=None,
        snapshot=None, snapshot_at=None, beyond_base_at=None, oldest_restorable_at=None, files={}, size_bytes=0,
        last_at=None if first is None else at(first),
    )  # fmt: skip


def looked(state: LiveState, seen: Listing) -> Evidence:
    sighting = Sighting(seen.read_at, LookResult.OK, listing=seen)
    return Evidence(first_seen_at=NOON).after_sighting(state, sighting)


BEHIND = (capture(9, 9, made=9), capture(8, 8, made=8), capture(4, 4, made=4))
V3 = tuple(capture(0, n, made=n, position=Position("a" * 16, 0, end(n))) for n in (9, 8, 4))


@pytest.mark.parametrize(
    ("what", "captures", "seen", "covered_at"),
    [
        ("the replica has the newest local file", BEHIND, listing(Position.of_txid(9), newest=60), 9.0),
        ("it is ahead of what was read", BEHIND, listing(Position.of_txid(10), newest=60), 9.0),
        ("it has a local file", BEHIND, listing(Position.of_txid(8), newest=60), 8.0),
        ("between two local files the older one counts", BEHIND, listing(Position.of_txid(7), newest=60), 4.0),
        ("older than all local files: the replica's clock", BEHIND, listing(Position.of_txid(3), newest=2), 2.0),
        ("uploaded late: it still lacks what is local", BEHIND, listing(Position.of_txid(3), newest=60), 4.0),
        ("compacted late: the first file at this position", BEHIND, listing(Position.of_txid(3), newest=3, first=1), 1.0),
        ("no local file is known", (), listing(Position.of_txid(3), newest=60, first=50), 10.0),
        ("0.3: in the middle of the WAL", V3, listing(Position("a" * 16, 0, end(7)), newest=60), 4.0),
        ("0.3: another generation's WAL dates nothing", V3, listing(Position("b" * 16, 3, end(7)), newest=60), 4.0),
    ],
)  # fmt: skip
def test_what_a_listing_proves_while_production_is_ahead(
    what: str, captures: tuple[Capture, ...], seen: Listing, covered_at: float
) -> None:
    evidence = looked(live(index(12), *captures, read=10), seen)
    assert evidence.covered_at == at(covered_at), what
    assert evidence.covered_live is None


def test_a_clock_that_runs_ahead_proves_nothing_beyond_the_reading() -> None:
    evidence = looked(live(index(12), capture(9, 9, made=3600), read=10), listing(Position.of_txid(9), newest=3600))
    assert evidence.covered_at is None


def test_a_clock_that_was_set_back_makes_no_dead_litestream_current() -> None:
    """Its files go on past the instant that it is now once more: as each of them becomes past, none makes the replica current."""
    files = capture(9, 9, made=1800), capture(8, 8, made=600), capture(7, 7, made=0)
    for now in (10, 610, 1000):
        evidence = looked(live(index(12), *files, read=now), listing(Position.of_txid(9), newest=1800))
        assert evidence.covered_at is None
    evidence = looked(live(index(12), *files, read=1900), listing(Position.of_txid(9), newest=1800))
    assert evidence.covered_at == at(1800)


@pytest.mark.parametrize(
    ("what", "after", "replaced"),
    [
        ("the old WAL is applied to the new file and nobody wrote", live(index(7), capture(1, 7, made=0), read=20, inode=2), True),
        ("no WAL", live(None, capture(1, 7, made=0), read=20, inode=2), True),
        ("the app writes, Litestream does not", live(index(1, LATER), capture(1, 7, made=0), read=20, inode=2), True),
        ("Litestream has captured the new file's WAL", live(index(1, LATER), capture(2, 1, LATER, made=15), read=20, inode=2), False),
    ],
)  # fmt: skip
def test_a_replaced_file_counts_as_replaced_until_it_is_captured(what: str, after: LiveState, replaced: bool) -> None:  # noqa: FBT001 - a column of the table
    nobody_to_ask = Evidence(first_seen_at=NOON).after_claim(Claim(NOON, ClaimSource.NONE))
    before = nobody_to_ask.after_live(live(index(7), capture(1, 7), read=5))
    seen = before.after_live(replace(after, read_at=at(10), captures=after.captures[-1:] if replaced else ()))
    assert seen.replaced_at == at(10)
    assert (seen.after_live(after).replaced_at is not None) is replaced, what
