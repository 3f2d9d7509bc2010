"""A replica's listing reduced to what checks need, following Litestream's own planning of a restore.

0.5 (`CalcRestorePlan` in Litestream's `replica.go`): start from the newest level-9 file, or from nothing; then again and again
take the file, of any level, that starts no later than the next transaction and reaches furthest. Whatever starts beyond
what was reached is a gap, and Litestream then refuses. Two files of one level may overlap: Litestream restores such a
replica without a word, the later file's pages winning, so the overlap is told apart.

0.3 (`Restore` in 0.3.13's `replica.go`): the newest snapshot of the generation, then every WAL index from its own on, each
beginning with a segment at offset 0. A listing cannot show a segment missing inside an index, or at the end of the last:
it gives offsets and compressed sizes only, and 0.3 itself does not notice either.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sidecar.core.model import Listing, Position, ReplicaFile

SNAPSHOT_LEVEL = 9


@dataclass(frozen=True, slots=True)
class Chain:
    """What a restore would start from and how far it could get. `gap` and `overlap` are sentences."""

    base: ReplicaFile | None
    reachable: Position | None
    gap: str | None
    overlap: str | None
    files: tuple[ReplicaFile, ...] = ()  # what the restore would read, in order; () where there is a gap


def reduce(files: tuple[ReplicaFile, ...], read_at: datetime) -> Listing:
    """The listing of one replica (0.3: of one generation) in bounded size.

    Args:
        files: every file listed, in any order; not empty.
        read_at: the instant just before the listing began.

    Raises:
        ValueError: `files` is empty: that is "no backup", which has no newest position.
    """
    if not files:
        raise ValueError("an empty listing has no newest position")
    way = chain(files)
    newest = max((each.last for each in files), key=_order)
    ends = [each for each in files if each.last == newest]
    bases = [each for each in files if _is_base(each)]
    return Listing(
        read_at=read_at,
        position=newest,
        at=max(each.at for each in ends),
        reachable=way.reachable,
        gap=way.gap,
        overlap=way.overlap,
        snapshot=way.base.last if way.base else None,
        snapshot_at=way.base.at if way.base else None,
        beyond_base_at=min((each.at for each in _beyond(files, way.base)), default=None),
        oldest_restorable_at=min((each.at for each in bases), default=None),
        files=dict(sorted(Counter(each.level for each in files).items())),
        size_bytes=sum(each.size_bytes for each in files),
        last_at=min(ends, key=lambda each: (each.level, each.at)).at,
        plan_digest=digest(way.files) if way.files else None,
    )


def digest(files: Iterable[ReplicaFile]) -> str:
    """16 hex digits that differ wherever a file came, went, or has another size or time.

    Times count in whole seconds, as Litestream lists them. Content is not seen: what changes it in place also changes the time.
    """
    lines = (f"{each.level} {each.first} {each.last} {each.size_bytes} {int(each.at.timestamp())}" for each in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def chain(files: tuple[ReplicaFile, ...]) -> Chain:
    """How far a restore of the newest position would get."""
    if any(each.first.generation for each in files):
        return _wal_chain(files)
    return _ltx_chain(files)


def _order(position: Position) -> tuple[int, int]:
    return position.index, position.offset


def _is_base(file: ReplicaFile) -> bool:
    """Whether a restore can start from this file: a snapshot, or what reaches back to the first transaction."""
    return file.level == SNAPSHOT_LEVEL or (not file.first.generation and file.first.index == 1)


def _beyond(files: Iterable[ReplicaFile], base: ReplicaFile | None) -> list[ReplicaFile]:
    """The files that carry changes past the base.

    0.3 writes a snapshot into a WAL index that is already being filled: of that index, what is newer counts.
    """
    if base is None:
        return []
    if base.first.generation:
        return [
            each
            for each in files
            if each.level != SNAPSHOT_LEVEL
            and (each.last.index > base.last.index or (each.last.index == base.last.index and each.at > base.at))
        ]
    return [each for each in files if each.last.index > base.last.index]


def _ltx_chain(files: tuple[ReplicaFile, ...]) -> Chain:
    rest = sorted((each for each in files if each.level != SNAPSHOT_LEVEL), key=lambda each: each.first.index)
    # Litestream takes the last by name, which begins with the first transaction.
    snapshots = (each for each in files if each.level == SNAPSHOT_LEVEL)
    snapshot = max(snapshots, key=lambda each: (each.first.index, each.last.index), default=None)
    taken = [snapshot] if snapshot else []
    reached = snapshot.last.index if snapshot else 0
    best = beyond = None
    for each in rest:
        if each.first.index > reached + 1 and best is not None:
            taken.append(best)
            reached, best = best.last.index, None
        if each.first.index > reached + 1:  # later files start no earlier
            beyond = each
            break
        if each.last.index > reached and (best is None or _better(each) > _better(best)):
            best = each
    if best is not None:
        taken.append(best)
        reached = best.last.index
    base = snapshot or max((each for each in rest if _is_base(each)), key=lambda each: each.last.index, default=None)
    return Chain(
        base=base,
        reachable=Position.of_txid(reached) if reached else None,
        gap=_ltx_gap(reached, beyond) if beyond else None,
        overlap=_overlap(rest),
        files=() if beyond else tuple(taken),
    )


def _better(file: ReplicaFile) -> tuple[int, int, int, float]:
    """Which of several files Litestream takes next: the one that reaches furthest, begins earliest, is compacted most, is oldest."""
    return file.last.index, -file.first.index, file.level, -file.at.timestamp()


def _ltx_gap(reached: int, beyond: ReplicaFile) -> str:
    if not reached:
        return f"there is no snapshot, and the oldest file starts at {beyond.first} instead of {Position.of_txid(1)}"
    return f"the backup leads up to {Position.of_txid(reached)}, but its next file starts at {beyond.first}"


def _overlap(ordered: Iterable[ReplicaFile]) -> str | None:
    """Two files of one level that share transactions; `ordered` by their first transaction."""
    before: dict[int, ReplicaFile] = {}
    for each in ordered:
        other = before.get(each.level)
        if other is not None and each.first.index <= other.last.index:
            return f"two level-{each.level} files overlap: {other.first}-{other.last} and {each.first}-{each.last}"
        before[each.level] = each
    return None


def _wal_chain(files: tuple[ReplicaFile, ...]) -> Chain:
    snapshots = [each for each in files if each.level == SNAPSHOT_LEVEL]
    offsets: dict[int, dict[int, Position]] = defaultdict(dict)
    for each in files:
        if each.level != SNAPSHOT_LEVEL:
            offsets[each.first.index][each.first.offset] = each.last
    generation = files[0].first.generation
    headless = min((index for index, found in offsets.items() if 0 not in found), default=None)
    snapshot = max(snapshots, key=lambda each: (each.last.index, each.at), default=None)
    if snapshot is None:
        return Chain(None, None, f"generation {generation} holds WAL segments but no snapshot", None)
    start = snapshot.last.index
    if headless is not None and headless <= start:  # 0.3 reads the whole generation's list, and refuses
        return Chain(snapshot, None, _headless(generation, headless), None)
    segments = (each for each in files if each.level != SNAPSHOT_LEVEL and each.first.index >= start)
    read = (snapshot, *sorted(segments, key=lambda each: _order(each.first)))
    newest = max((index for index in offsets if index >= start), default=None)
    if newest is None:
        return Chain(snapshot, snapshot.last, None, None, read)
    reachable = snapshot.last
    for index in range(start, newest + 1):
        if index not in offsets:
            return Chain(snapshot, reachable, f"WAL index {index:08x} of generation {generation} is missing", None)
        if index == headless:
            return Chain(snapshot, reachable, _headless(generation, index), None)
        reachable = max(offsets[index].values(), key=_order)
    return Chain(snapshot, reachable, None, None, read)


def _headless(generation: str, index: int) -> str:
    return f"WAL index {index:08x} of generation {generation} lacks its first segment"
