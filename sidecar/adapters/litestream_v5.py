"""Litestream 0.5's commands (0.5.12 and newer): LTX files on ten levels, positions are TXIDs, answers in JSON.

Facts behind the calls: an empty replica is exit 0 and `[]`; `restore -json` computes the TXID it prints apart from the
restore, so the plan is made first and its TXID asked for; without `-o` a restore would write to production.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

from sidecar.adapters.litestream_command import Ask, Runner, clear, raced_or, tidy
from sidecar.core.errors import LitestreamError
from sidecar.core.litestream_errors import MISSING, UnknownFailure
from sidecar.core.model import Database, Position, ReplicaFile
from sidecar.core.ports import Plan, Progress

T = TypeVar("T")

DRY_RUN = ("-dry-run", "-json", "-o", "/nonexistent/never-written")
MERGED_HINT = "compaction merges positions away within minutes: use a kept copy, or restore the newest position"
REPLAN_S = 60.0  # asking why a restore missed a file may take this long, whatever is left of the deadline


@dataclass(frozen=True, slots=True)
class PlanV5:
    """A restore decided upon: the files Litestream said it would read, in order."""

    position: Position
    size_bytes: int
    files: tuple[ReplicaFile, ...]


class LitestreamV5:
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
        """Every LTX file of the replica; () when there is none, and then nobody knows whether there ever was."""
        ask = Ask(database, "ltx", ("-level", "all", "-json"), timeout_s, stop)
        return _read(self._runner.run(ask), lambda said: tuple(_file(each) for each in said))

    def plan(self, database: Database, *, timeout_s: float, stop: Event) -> PlanV5:
        """What a restore of the newest position would read.

        Raises:
            LitestreamError: `no_backup`, `file_missing` (a gap), or what keeps the replica from being listed.
        """
        ask = Ask(database, "restore", DRY_RUN, timeout_s, stop)
        began = time.monotonic()
        try:
            return _read(self._runner.run(ask), _plan)
        except LitestreamError as error:
            if error.reason != "file_missing":
                raise
        # Litestream lists snapshots first and level 0 last: retention working in between looks like a gap, once.
        again = replace(ask, timeout_s=max(timeout_s - (time.monotonic() - began), 0.0))
        return _read(self._runner.run(again), _plan)

    def plan_at(self, database: Database, position: Position, *, timeout_s: float, stop: Event) -> PlanV5:
        """What a restore of exactly this TXID would read.

        Raises:
            LitestreamError: `no_backup`, `file_missing` where it cannot be restored, any more or at all; else as `plan`.
        """
        if position.txid is None:
            raise LitestreamError(
                "no_backup", f"{position} is a position of Litestream 0.3", "use the Litestream of then"
            )
        ask = Ask(database, "restore", ("-txid", str(position), *DRY_RUN), timeout_s, stop)
        try:
            plan = _read(self._runner.run(ask), _plan)
        except LitestreamError as error:
            if error.reason in MISSING:
                raise LitestreamError(
                    error.reason, f"{position} cannot be restored: {error.message}", MERGED_HINT
                ) from error
            raise
        if plan.position != position:  # Litestream would restore less, or more, without a word
            raise LitestreamError(
                "file_missing", f"the replica leads to {plan.position}, not to {position}", MERGED_HINT
            )
        return plan

    def restore(
        self, database: Database, plan: Plan, target: Path, *, timeout_s: float, stop: Event, progress: Progress
    ) -> int | None:
        """Restore exactly the plan's TXID to `target`; nothing else is left beside it. Bytes of memory that it took, where that is known.

        Raises:
            LitestreamError: `file_corrupt`, `file_missing`, `raced` (plan again), `scratch_full`, `timeout`, …
        """
        if not isinstance(plan, PlanV5):
            raise TypeError(f"not a plan of Litestream 0.5: {type(plan).__name__}")
        clear(target)
        partial = target.with_name(f"{target.name}.tmp")
        flags = ("-txid", str(plan.position), "-o", str(target), "-json")
        ask = Ask(
            database,
            "restore",
            flags,
            timeout_s,
            stop,
            cwd=target.parent,
            poll=lambda: progress("restore", _size(partial), None),
            busy=lambda: _size(partial) > 0,
        )
        try:
            memory = self._runner.weighed(ask)
            if _size(target) == 0:
                raise UnknownFailure(f"Litestream says it restored {plan.position}, and wrote nothing")
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


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _read(stdout: str, parse: Callable[[Any], T]) -> T:
    """The JSON in what a command printed; log lines may stand before it."""
    lines = stdout.splitlines(keepends=True)
    start = next((number for number, line in enumerate(lines) if line.startswith(("{", "["))), len(lines))
    try:
        return parse(json.loads("".join(lines[start:])))
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
        raise UnknownFailure(
            f"Litestream's answer is not what 0.5 answers ({type(error).__name__})",
            "compare the version of Litestream with those that the README names",
        ) from error


def _file(said: Mapping[str, Any]) -> ReplicaFile:
    return ReplicaFile(
        level=int(said["level"]),
        first=_position(said["min_txid"]),
        last=_position(said["max_txid"]),
        size_bytes=int(said["size"]),
        at=datetime.fromisoformat(said["timestamp"]).astimezone(UTC),
    )


def _plan(said: Mapping[str, Any]) -> PlanV5:
    files = tuple(_file(each) for each in said["files"])
    return PlanV5(_position(said["max_txid"]), sum(each.size_bytes for each in files), files)


def _position(txid: str) -> Position:
    return Position.of_txid(int(txid, 16))
