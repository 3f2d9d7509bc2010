"""A listing reduced: chains, gaps and overlaps, by tables and by properties. Real replicas: tests/adapters."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.listing import chain, reduce
from sidecar.core.model import Position, ReplicaFile

T0 = datetime(2026, 1, 1, tzinfo=UTC)
GENERATION = "5cd8f7d600cfdc59"


def ltx(level: int, first: int, last: int, at_s: int = 0) -> ReplicaFile:
    return ReplicaFile(level, Position.of_txid(first), Position.of_txid(last), 100, T0 + timedelta(seconds=at_s))


def wal(index: int, offset: int, at_s: int = 0, level: int = 0) -> ReplicaFile:
    position = Position(GENERATION, index, offset)
    return ReplicaFile(level, position, position, 100, T0 + timedelta(seconds=at_s))


def snapshot(index: int, at_s: int = 0) -> ReplicaFile:
    return wal(index, 0, at_s, level=9)


@pytest.mark.parametrize(
    ("files", "reachable", "gap"),
    [
        ([ltx(9, 1, 1)], 1, None),
        ([ltx(0, 1, 1), ltx(0, 2, 2)], 2, None),  # no snapshot yet, but all from the beginning
        ([ltx(9, 1, 5), ltx(1, 3, 8), ltx(0, 9, 9)], 9, None),  # a file may start inside what is known
        ([ltx(9, 1, 5), ltx(0, 7, 7)], 5, "leads up to 0000000000000005, but its next file starts at 0000000000000007"),
        ([ltx(9, 1, 5), ltx(0, 6, 6), ltx(0, 8, 8), ltx(1, 6, 7)], 8, None),  # another level fills the gap
        ([ltx(9, 1, 5), ltx(9, 1, 9), ltx(0, 6, 6)], 9, None),  # what the newest snapshot holds need not be whole
        ([ltx(0, 3, 3), ltx(0, 4, 4)], None, "no snapshot, and the oldest file starts at 0000000000000003"),
        ([ltx(1, 1, 4), ltx(2, 1, 2), ltx(0, 3, 3)], 4, None),
    ],
    ids=["snapshot", "level-0", "inside", "gap", "filled", "newest-snapshot", "no-base", "levels"],
)
def test_how_far_a_restore_of_0_5_gets(files: list[ReplicaFile], reachable: int | None, gap: str | None) -> None:
    found = reduce(tuple(files), T0)
    assert found.reachable == (None if reachable is None else Position.of_txid(reachable))
    assert (found.gap is None) == (gap is None)
    assert gap is None or gap in str(found.gap)
    assert (found.gap is None) == (found.reachable == found.position)


@pytest.mark.parametrize(
    ("files", "reachable", "gap"),
    [
        ([snapshot(0)], (0, 0), None),
        ([snapshot(0), wal(0, 0), wal(0, 4152)], (0, 4152), None),
        ([snapshot(2), wal(1, 0), wal(2, 0), wal(3, 0), wal(3, 800)], (3, 800), None),
        ([snapshot(0), wal(0, 0), wal(2, 0)], (0, 0), "WAL index 00000001 of generation"),
        ([snapshot(1), wal(2, 0)], (1, 0), "WAL index 00000001"),
        (
            [snapshot(0), wal(0, 0), wal(1, 4152)],
            (0, 0),
            "index 00000001 of generation 5cd8f7d600cfdc59 lacks its first",
        ),
        ([snapshot(1), wal(0, 4152), wal(1, 0)], None, "index 00000000 of generation 5cd8f7d600cfdc59 lacks its first"),
        ([wal(0, 0)], None, "no snapshot"),
        ([snapshot(3), wal(1, 0)], (3, 0), None),
    ],
    ids=[
        "only",
        "segments",
        "old-index",
        "index-gone",
        "own-index-gone",
        "headless",
        "old-headless",
        "no-base",
        "after",
    ],
)
def test_how_far_a_restore_of_0_3_gets(files: list[ReplicaFile], reachable: object, gap: str | None) -> None:
    found = reduce(tuple(files), T0)
    assert (None if found.reachable is None else (found.reachable.index, found.reachable.offset)) == reachable
    assert (found.gap is None) == (gap is None)
    assert gap is None or gap in str(found.gap)
    assert found.position.generation == GENERATION


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ([ltx(1, 1, 3), ltx(1, 4, 6), ltx(2, 1, 6), ltx(9, 1, 3), ltx(9, 1, 6)], None),
        ([ltx(1, 1, 3), ltx(1, 3, 6)], "two level-1 files overlap: 0000000000000001-0000000000000003 and"),
        ([ltx(0, 1, 1), ltx(2, 1, 9), ltx(2, 4, 5)], "two level-2 files overlap"),
    ],
    ids=["levels-share", "partly", "inside"],
)
def test_files_of_one_level_that_share_transactions(files: list[ReplicaFile], told: str | None) -> None:
    overlap = reduce(tuple(files), T0).overlap
    assert (overlap is None) == (told is None)
    assert told is None or told in str(overlap)


def test_times_counts_and_sizes() -> None:
    files = (
        ltx(9, 1, 2, 20),
        ltx(9, 1, 5, 90),
        ltx(0, 6, 6, 110),
        ltx(0, 7, 7, 120),
        ltx(1, 6, 7, 150),
        ltx(1, 3, 5, 70),
    )
    found = reduce(files, T0)
    assert (found.snapshot, found.snapshot_at) == (Position.of_txid(5), T0 + timedelta(seconds=90))
    assert found.beyond_base_at == T0 + timedelta(seconds=110)
    assert found.oldest_restorable_at == T0 + timedelta(seconds=20)
    assert (found.at, found.last_at) == (T0 + timedelta(seconds=150), T0 + timedelta(seconds=120))
    assert (dict(found.files), found.size_bytes) == ({0: 2, 1: 2, 9: 2}, 600)


def test_nothing_past_the_base_when_idle() -> None:
    assert reduce((ltx(9, 1, 5, 1), ltx(0, 5, 5), ltx(1, 1, 5, 9)), T0).beyond_base_at is None
    assert reduce((snapshot(2, 50), wal(2, 0, 10), wal(2, 800, 40)), T0).beyond_base_at is None
    assert reduce((snapshot(2, 50), wal(2, 0, 10), wal(2, 800, 60)), T0).beyond_base_at == T0 + timedelta(seconds=60)


def test_without_a_snapshot_the_base_is_what_starts_at_the_beginning() -> None:
    found = reduce((ltx(0, 1, 1, 5), ltx(1, 1, 3, 7), ltx(0, 4, 4, 9)), T0)
    assert (found.snapshot, found.beyond_base_at) == (Position.of_txid(3), T0 + timedelta(seconds=9))
    assert reduce((ltx(0, 3, 3),), T0).snapshot is None


def test_an_empty_listing_has_no_newest_position() -> None:
    with pytest.raises(ValueError, match="empty"):
        reduce((), T0)


ltx_files = st.builds(
    lambda level, first, length, at: ltx(level, 1 if level == 9 else first, (1 if level == 9 else first) + length, at),
    st.sampled_from([0, 0, 0, 1, 2, 3, 9]), st.integers(1, 12), st.integers(0, 4), st.integers(0, 1000),
)  # fmt: skip
wal_files = st.builds(
    lambda is_snapshot, index, offset, at: snapshot(index, at) if is_snapshot else wal(index, offset * 4152, at),
    st.booleans(), st.integers(0, 5), st.integers(0, 2), st.integers(0, 1000),
)  # fmt: skip
replicas = st.lists(ltx_files, min_size=1, max_size=14) | st.lists(wal_files, min_size=1, max_size=14)


def reach(files: list[ReplicaFile]) -> tuple[int, int]:
    position = chain(tuple(files)).reachable if files else None
    return (-1, -1) if position is None else (position.index, position.offset)


@settings(deadline=None)  # a busy machine is no counterexample
@given(replicas, st.data())
def test_losing_a_file_never_lets_a_restore_get_further(files: list[ReplicaFile], data: st.DataObject) -> None:
    lost = data.draw(st.integers(0, len(files) - 1))
    kept = files[:lost] + files[lost + 1 :]
    if files[0].first.generation:
        # 0.3 refuses a generation with half an old index: losing the rest of that index, or its snapshot, can help.
        if kept:
            found = reduce(tuple(kept), T0)
            assert found.reachable is None or found.position.covers(found.reachable)
        return
    assert reach(kept) <= reach(files)


@settings(deadline=None)  # a busy machine is no counterexample
@given(replicas, st.randoms(use_true_random=False))
def test_the_order_of_the_listing_does_not_matter(files: list[ReplicaFile], random: object) -> None:
    shuffled = sorted(files, key=lambda _: random.random())  # type: ignore[attr-defined] # hypothesis's Random
    one, other = reduce(tuple(files), T0), reduce(tuple(shuffled), T0)
    assert (one.position, one.reachable, one.gap, one.at) == (other.position, other.reachable, other.gap, other.at)


@settings(deadline=None)  # a busy machine is no counterexample
@given(replicas)
def test_reachable_never_lies_past_the_newest_and_a_gap_is_said_exactly_where_it_falls_short(
    files: list[ReplicaFile],
) -> None:
    found = reduce(tuple(files), T0)
    if found.gap is None:
        assert found.reachable == found.position
    else:
        assert found.reachable is None or found.position.covers(found.reachable)
    assert sum(found.files.values()) == len(files)


@settings(deadline=None)  # a busy machine is no counterexample
@given(st.lists(ltx_files, min_size=1, max_size=14))
def test_the_sweep_equals_trying_every_step(files: list[ReplicaFile]) -> None:
    """The plain reading of Litestream's planner: while any file extends what is reached, take the furthest."""
    reached = max((each.last.index for each in files if each.level == 9), default=0)
    while True:
        further = [each.last.index for each in files if each.level != 9 and each.first.index <= reached + 1]
        if max(further, default=0) <= reached:
            break
        reached = max(further)
    assert reach(files) == ((reached, 0) if reached else (-1, -1))


def test_a_later_snapshot_closes_a_gap() -> None:
    broken = (ltx(9, 1, 2), ltx(0, 4, 4))
    assert chain(broken).gap is not None
    assert chain((*broken, replace(ltx(9, 1, 4), size_bytes=1))).gap is None
