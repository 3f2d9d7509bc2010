"""Litestream 0.3's commands: generations of snapshots and WAL segments, answers as text tables, errors above them.

Facts behind the calls: the listing commands exit 0 when they fail, with a log line above an empty table; `generations` wants
the live database and lists everything once more, so the current generation is told from the files' own times; `restore
-index` brings the whole index, so a copy may hold a little more than the plan's position, never less.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

from sidecar.adapters.litestream_command import Ask, Runner, clear, raced_or, tidy
from sidecar.core.errors import LitestreamError
from sidecar.core.listing import SNAPSHOT_LEVEL, chain
from sidecar.core.litestream_errors import MISSING, NEW_SNAPSHOT_HINT, UnknownFailure, explain
from sidecar.core.model import Database, Position, ReplicaFile
from sidecar.core.ports import Plan, Progress
from sidecar.core.wal import WAL_HEADER_BYTES

WAL_LEVEL = 0
REPLAN_S = 60.0  # asking why a restore missed a file may take this long, whatever is left of the deadline
SNAPSHOT_COLUMNS = ("replica", "generation", "index", "size", "created")
WAL_COLUMNS = ("replica", "generation", "index", "offset", "size", "created")


@dataclass(frozen=True, slots=True)
class PlanV3:
    """A restore decided upon: the newest snapshot and every WAL segment from its index on."""

    position: Position
    size_bytes: int
    files: tuple[ReplicaFile, ...]


class LitestreamV3:
    """Reads replicas through the `litestream` command. Safe to share between threads.

    Args:
        binary: absolute path.
        version: what `detect` said.
        env: the environment Litestream is to see: credentials may stand in it.
        nice: niceness of the children, 0-19.
    """

    def __init__(self, binary: str, version: str, env: Mapping[str, str], nice: int = 0) -> None:
        self.version = version
        self._runner = Runner(binary, env, nice)

    def list_files(self, database: Database, *, timeout_s: float, stop: Event) -> tuple[ReplicaFile, ...]:
        """The files of the current generation, the one with the newest file; () when there is none."""
        end = time.monotonic() + timeout_s
        files = self._list_once(database, end, stop)
        if files and not _settled(files):
            files = self._list_once(database, end, stop)
        return files

    def plan(self, database: Database, *, timeout_s: float, stop: Event) -> PlanV3:
        """What a restore of the newest position would read.

        Raises:
            LitestreamError: `no_backup`, `file_missing` (a gap), or what keeps the replica from being listed.
        """
        return _plan(self.list_files(database, timeout_s=timeout_s, stop=stop))

    def plan_at(self, database: Database, position: Position, *, timeout_s: float, stop: Event) -> PlanV3:
        """What a restore that ends at exactly this position would read; 0.3 can only restore whole WAL indexes.

        Raises:
            LitestreamError: `no_backup`, `file_missing` where it cannot be restored, any more or at all; else as `plan`.
        """
        listed = self._list_all(database, time.monotonic() + timeout_s, stop)
        ours = (each for each in listed if each.first.generation == position.generation)
        plan = _plan(tuple(each for each in ours if each.first.index <= position.index))
        if plan.position != position:
            raise LitestreamError(
                "file_missing",
                f"the replica leads to {plan.position}, not to {position}",
                "Litestream 0.3 restores a WAL index as a whole, and this one goes on past the position, or ends before it",
            )
        return plan

    def restore(
        self, database: Database, plan: Plan, target: Path, *, timeout_s: float, stop: Event, progress: Progress
    ) -> int | None:
        """Restore the plan's generation up to the plan's WAL index to `target`; nothing else is left beside it.

        Returns bytes of memory that it took at its peak, where that is known.

        Raises:
            LitestreamError: `file_corrupt`, `file_missing`, `raced` (plan again), `scratch_full`, `timeout`, …
        """
        if not isinstance(plan, PlanV3):
            raise TypeError(f"not a plan of Litestream 0.3: {type(plan).__name__}")
        end = time.monotonic() + timeout_s
        try:
            try:
                memory = self._restore_once(database, plan, target, end, stop, progress)
            except LitestreamError as error:
                if not _ambiguous(error, database.replica.type):
                    raise
                tidy(target)
                memory = self._restore_once(database, plan, target, end, stop, progress, "-parallelism", "1")
        except LitestreamError as error:
            if error.reason not in MISSING:
                raise
            raise raced_or(
                error, plan.files, lambda: self.plan(database, timeout_s=REPLAN_S, stop=stop).files
            ) from error
        finally:
            tidy(target)
        progress("restore", _size(target), _size(target))
        return memory

    def _restore_once(
        self, database: Database, plan: PlanV3, target: Path, end: float, stop: Event, progress: Progress, *more: str
    ) -> int | None:
        clear(target)
        partial = target.with_name(f"{target.name}.tmp")
        flags = (
            "-generation",
            plan.position.generation,
            "-index",
            f"{plan.position.index:08x}",
            "-o",
            str(target),
            *more,
        )
        ask = Ask(
            database,
            "restore",
            flags,
            _left_s(end),
            stop,
            cwd=target.parent,
            poll=lambda: progress("restore", _size(partial), None),
            busy=lambda: _size(partial) > 0,
        )
        memory = self._runner.weighed(ask)
        if _size(target) == 0:
            raise UnknownFailure(f"Litestream says it restored {plan.position}, and wrote nothing")
        return memory

    def _list_once(self, database: Database, end: float, stop: Event) -> tuple[ReplicaFile, ...]:
        return _current(self._list_all(database, end, stop))

    def _list_all(self, database: Database, end: float, stop: Event) -> list[ReplicaFile]:
        """The files of every generation."""
        # Snapshots first: what retention takes away in between is older than the snapshots that were seen.
        snapshots = self._runner.run(Ask(database, "snapshots", (), _left_s(end), stop))
        segments = self._runner.run(Ask(database, "wal", (), _left_s(end), stop))
        found = [_snapshot(row) for row in _rows(snapshots, SNAPSHOT_COLUMNS)]
        return found + [_segment(row) for row in _rows(segments, WAL_COLUMNS)]


def _plan(files: tuple[ReplicaFile, ...]) -> PlanV3:
    """What a restore of the newest of these files would read. Raises LitestreamError."""
    if not files:
        raise explain("no matching backups found")
    way = chain(files)
    if way.base is None or way.reachable is None or way.gap is not None:
        raise LitestreamError(
            "file_missing",
            f"files are missing from the backup: {way.gap}",
            f"find out who deleted them; {NEW_SNAPSHOT_HINT}",
        )
    return PlanV3(way.reachable, sum(each.size_bytes for each in way.files), way.files)


def _ambiguous(error: LitestreamError, replica_type: str) -> bool:
    """Whether 0.3's words do not tell what happened, so that once more, one file at a time, is the way to find out.

    Of several downloads at once the one that is cancelled may be reported in place of the one that failed; and over a
    network a cut connection reads like a short file. A damaged file is damaged twice.
    """
    masked = isinstance(error, UnknownFailure) and "context canceled" in error.message
    return masked or (error.reason == "file_corrupt" and replica_type != "file")


def _left_s(end: float) -> float:
    return max(end - time.monotonic(), 0.0)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _rows(table: str, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a text table; words above its head are Litestream's complaint, whatever the exit code."""
    lines = table.splitlines()
    head = next((number for number, line in enumerate(lines) if tuple(line.split()) == columns), None)
    if head is None or head > 0:
        raise explain("\n".join(lines[:head]))
    return [dict(zip(columns, line.split(), strict=False)) for line in lines[1:] if line.strip()]


def _snapshot(row: Mapping[str, str]) -> ReplicaFile:
    return _file(SNAPSHOT_LEVEL, row, offset="0")


def _segment(row: Mapping[str, str]) -> ReplicaFile:
    return _file(WAL_LEVEL, row, offset=row.get("offset", ""))


def _file(level: int, row: Mapping[str, str], *, offset: str) -> ReplicaFile:
    try:
        first = Position(row["generation"], int(row["index"]), int(offset))
        # The first frame of a WAL stands behind its header, so a snapshot, which holds none of its index's frames, stands before
        # the first segment.
        last = replace(first, offset=max(first.offset, WAL_HEADER_BYTES)) if level == WAL_LEVEL else first
        at = datetime.fromisoformat(row["created"]).astimezone(UTC)
        return ReplicaFile(level, first, last, int(row["size"]), at)
    except (KeyError, ValueError, OverflowError) as error:
        raise UnknownFailure(
            "Litestream's table is not what 0.3 prints",
            "compare the version of Litestream with those that the README names",
        ) from error


def _current(files: list[ReplicaFile]) -> tuple[ReplicaFile, ...]:
    """The files of the generation with the newest file; within one second, of the generation that began later."""
    times: dict[str, list[datetime]] = {}
    for each in files:
        times.setdefault(each.first.generation, []).append(each.at)
    newest = max(times, key=lambda name: (max(times[name]), min(times[name])), default=None)
    return tuple(each for each in files if each.first.generation == newest)


def _settled(files: tuple[ReplicaFile, ...]) -> bool:
    """Whether this is not the moment between two of Litestream's steps: a generation begun, old segments half removed."""
    snapshots = [each.last.index for each in files if each.level == SNAPSHOT_LEVEL]
    if not snapshots:
        return False
    old = [each.first for each in files if each.level == WAL_LEVEL and each.first.index < max(snapshots)]
    return {each.index for each in old} == {each.index for each in old if each.offset == 0}
