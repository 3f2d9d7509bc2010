"""One attempt at a drill, stage by stage: plan, restore or bring forward, check, compare. It raises what it finds."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

from sidecar.core.case import room_for
from sidecar.core.errors import LitestreamError, Overdue, SidecarError, Stopped
from sidecar.core.evidence import Evidence
from sidecar.core.finding import Reason
from sidecar.core.forecast import COMPRESSION_MAX, Wanted, forecast, why_not
from sidecar.core.listing import digest
from sidecar.core.litestream_errors import MISSING, NEW_SNAPSHOT_HINT
from sidecar.core.model import CheckKind, Content, Database, Drill, Outcome, Position
from sidecar.core.parity import ParityResult, inconclusive
from sidecar.core.policy import Policy
from sidecar.core.ports import Clock, Integrity, LiveReader, Plan, Progress, ReplicaReader, Restorer, ScratchSpace
from sidecar.drill_outcomes import Found
from sidecar.forwarding import Forwarder
from sidecar.parity import Comparer, Comparison
from sidecar.pieces import Around

# Without suffix: Litestream's `dir:` takes every `*.db` that it finds for a database to replicate, in hidden folders too.
COPY = "restored"
# What production was read as of is in the replica a second later, by Litestream's default; where max-lag allows more, it is waited for.
AIM_S_MAX = 120.0
AIM_PAUSES_S = (0.2, 0.3, 0.5, 1.0, 2.0, 5.0)  # ten LISTs each time


FINGERPRINTS_SHARE = 100  # of a database: 18 bytes a page, and as much again where pages are small


@dataclass(frozen=True, slots=True)
class Order:
    """What to drill and how."""

    database: Database
    policy: Policy
    check: CheckKind = CheckKind.QUICK
    id: str = ""
    keep: Path | None = None  # move the checked copy here instead of removing it
    keep_name: str | None = None  # default: the database's name and the drill's id
    position: Position | None = None  # restore to exactly this one instead of the newest
    parity: bool = False  # compare what comes back with production, page by page
    accepts_shrink: bool = False  # what comes back is the new measure, however much is gone
    asked: bool = True  # somebody waits for it: begun whatever the forecast says of time and memory
    by_change: bool = False  # a kept copy may be brought forward instead, where there is one


@dataclass(frozen=True, slots=True)
class Equipment:
    """What a drill is made with."""

    replica: ReplicaReader
    live: LiveReader  # tells the expected size and page count, where the live database is in reach
    integrity: Integrity
    scratch: ScratchSpace
    clock: Clock
    comparer: Comparer | None = None
    known: Callable[[Database], Evidence | None] = lambda _: None  # what its drills took so far
    free_memory: Callable[[], int | None] = lambda: None  # bytes that a child may take
    forwarder: Forwarder | None = None  # where copies are kept and brought forward


class Attempt:
    """One drill under way; `drill` grows as stages end, so that a failure keeps what was measured before it."""

    def __init__(
        self, house: Equipment, order: Order, blank: Drill, deadline: float, stop: Event, progress: Progress
    ) -> None:
        self.house, self.order, self.drill = house, order, blank
        forwarder = house.forwarder if blank.by_change else None
        self.replica: Restorer = forwarder if forwarder is not None else house.replica
        self.deadline, self.stop, self.progress = deadline, stop, progress
        self.spent: dict[str, float] = {}

    def left_s(self) -> float:
        """Seconds until drill-timeout. Raises Overdue."""
        left = self.deadline - self.house.clock.monotonic()
        if left <= 0:
            raise Overdue(
                f"the drill took longer than policy.drill-timeout ({self.order.policy.drill_timeout})",
                "raise policy.drill-timeout, or look at why the store or the disk is slow",
            )
        return left

    @contextlib.contextmanager
    def timed(self, stage: str, *, on_top: bool = False) -> Iterator[None]:
        """Measure a stage, also one that fails; `on_top` of what it took before."""
        began = self.house.clock.monotonic()
        try:
            yield
        finally:
            spent = self.house.clock.monotonic() - began + (self.spent.get(stage, 0.0) if on_top else 0.0)
            self.spent[stage] = round(spent, 4)

    def plan(self, at: Position | None = None) -> Plan:
        """Of the newest position; of exactly this one, or of the one that was ordered."""
        replica, database, at = self.replica, self.order.database, at or self.order.position
        self.progress("plan", 0, None)
        with self.timed("plan"):  # of the last try: what a plan takes
            if at is not None:
                plan = replica.plan_at(database, at, timeout_s=self.left_s(), stop=self.stop)
            else:
                plan = replica.plan(database, timeout_s=self.left_s(), stop=self.stop)
        self.drill = replace(self.drill, position=plan.position, plan_digest=digest(plan.files))
        self.live = self.house.live.read(database)  # after the plan: Litestream still has that file here
        return plan

    def run(self) -> None:
        """All of it. Raises Found, SidecarError, OSError; `drill` tells how far it came."""
        plan = self.plan()
        with self.house.scratch.room(self.need_bytes(plan)) as room, self.comparison(room) as comparison:
            plan = self.aimed(plan, comparison)
            copy = room / COPY
            try:
                self.restore(plan, copy)
            except LitestreamError as error:
                if error.reason != Reason.RACED:
                    raise
                plan = self.plan()  # retention took files of the plan away meanwhile: once more, with a new one
                copy = room / "again" / COPY
                copy.parent.mkdir(mode=0o700)
                self.restore(plan, copy)
            self.drill = replace(self.drill, size_bytes=copy.stat().st_size)
            self.check(copy, plan)
            self.compare(copy, plan, comparison)
            if self.order.keep is not None:
                name = self.order.keep_name or f"{self.order.database.name}-{self.drill.id}.db"
                keep_copy(copy, self.order.keep / name)
            elif self.house.forwarder is not None and self.is_to_be_kept():
                self.house.forwarder.keep(self.order.database, plan.position, copy)
        did = "brought a kept copy forward to" if self.drill.by_change else "restored"
        self.drill = replace(self.drill, outcome=Outcome.PASSED, message=f"{did} {plan.position} and found it sound")

    def is_to_be_kept(self) -> bool:
        """Whether the next drill is to bring this copy forward."""
        least = self.order.policy.drill_by_change_from
        return least is not None and self.order.position is None and (self.drill.size_bytes or 0) >= least

    def need_bytes(self, plan: Plan) -> int:
        """Scratch bytes that it wants. Raises Overdue or SidecarError where nobody asked for it and it would be in vain."""
        house, order = self.house, self.order
        if self.drill.by_change:
            return room_for(plan.size_bytes * (1 + COMPRESSION_MAX) + self.live.size_bytes // FINGERPRINTS_SHARE)
        known = house.known(order.database) or Evidence(first_seen_at=self.drill.started_at)
        wanted = Wanted(order.check, order.parity and house.comparer is not None and self.live.file_id is not None)
        ahead, limit_s = forecast(known, self.live, wanted, plan.size_bytes), order.policy.drill_timeout.total_seconds()
        if not order.asked:
            refused = why_not(ahead, known, order.check, limit_s=limit_s, memory_free_bytes=house.free_memory())
            if refused is not None:
                raise refused
        assert ahead.scratch_bytes is not None, "it has been planned"
        return ahead.scratch_bytes

    @contextlib.contextmanager
    def comparison(self, room: Path) -> Iterator[Comparison | None]:
        """Production, read before the restore; None where nothing is to be compared."""
        comparer = self.house.comparer
        if comparer is None or not self.order.parity or self.live.file_id is None:
            yield None
            return
        self.drill = replace(self.drill, live_digest=self.live.digest)
        around = Around(self.house.clock, self.left_s, self.stop, self.progress)
        with contextlib.ExitStack() as opened:
            with self.timed("parity"):
                begun = opened.enter_context(comparer.begun(self.order.database, room, around))
            self.progress = begun.told  # the restore may take longer than Litestream keeps what it lists
            yield begun

    def aimed(self, plan: Plan, comparison: Comparison | None) -> Plan:
        """What production was read as of, as soon as the replica has it; else the newest that it has by now."""
        if comparison is None or self.order.position is not None or plan.position == comparison.target:
            return plan
        target, clock = comparison.target, self.house.clock
        if target is None or target.txid is None:  # 0.3 restores a WAL index to its end, wherever that is by then
            return self.plan()
        ends_s = clock.monotonic() + min(self.order.policy.max_lag.total_seconds(), AIM_S_MAX)
        for pause_s in itertools.chain(AIM_PAUSES_S, itertools.repeat(AIM_PAUSES_S[-1])):
            try:
                return self.plan(target)
            except LitestreamError as error:
                if error.reason not in MISSING or clock.monotonic() > ends_s:
                    break
            if self.stop.wait(pause_s):
                raise Stopped("told to stop")
        return self.plan()

    def compare(self, copy: Path, plan: Plan, comparison: Comparison | None) -> None:
        """Hold the copy against production as it was read. Raises Found where a page is not what production held."""
        content = self.drill.content
        if comparison is None or content is None:
            if self.order.parity:
                why = inconclusive(
                    "production is not in reach", "drill where production's file is, or set `policy.parity: false`"
                )
                self.drill = replace(self.drill, parity=why)
            return
        self.progress("parity", 0, None)
        with self.timed("parity", on_top=True):
            newest = self.order.position is None
            parity = comparison.conclude(copy, plan.position, content.page_size, self.drill.id, newest=newest)
        self.drill = replace(self.drill, parity=parity)
        if parity.result is ParityResult.DIFFERENT:
            raise Found(Reason.PAGES_DIFFER, parity.message, parity.hint)

    def restore(self, plan: Plan, copy: Path) -> None:
        """Restore it, or bring it forward."""
        with self.timed("restore"):  # of the last try: what a restore takes
            memory = self.replica.restore(
                self.order.database, plan, copy, timeout_s=self.left_s(), stop=self.stop, progress=self.progress
            )
        self.drill = replace(self.drill, memory_bytes=memory)

    def check(self, copy: Path, plan: Plan) -> None:
        """Ask SQLite, and the assertions. Raises Found."""
        integrity, policy = self.house.integrity, self.order.policy
        with self.timed("check"):
            complaints = integrity.check(
                copy, self.order.check, timeout_s=self.left_s(), stop=self.stop, progress=self.progress
            )
            if complaints:
                pragma = "quick_check" if self.order.check is CheckKind.QUICK else "integrity_check"
                raise Found(
                    Reason.DB_CORRUPT, f"{pragma} of the restored copy: {'; '.join(complaints[:3])}",
                    "check production too (`PRAGMA integrity_check`): Litestream copies damage faithfully",
                )  # fmt: skip
            content = integrity.content(
                copy,
                schema_version=policy.schema_version,
                now=self.house.clock.now(),
                timeout_s=self.left_s(),
                stop=self.stop,
            )
            self.drill = replace(self.drill, content=content)
            self.hold_against_plan(content, plan)
            for assertion in policy.assertions:
                broken = integrity.assertion(copy, assertion, timeout_s=self.left_s(), stop=self.stop)
                if broken is not None:
                    raise Found(
                        Reason.ASSERTION_FAILED,
                        broken,
                        "compare with production; the backup may be of another database",
                    )

    def hold_against_plan(self, content: Content, plan: Plan) -> None:
        """The copy has as many pages as Litestream's own file of that position says, where that file is in reach."""
        if content.page_count == 0:
            raise Found(
                Reason.DB_CORRUPT,
                "the restored copy is empty",
                "keep the replica as it is and look at Litestream's log",
            )
        said = next((each.page_count for each in self.live.captures if each.position == plan.position), None)
        if said and content.page_count != said:
            raise Found(
                Reason.DB_CORRUPT, f"the restored copy has {content.page_count} pages, production had {said} at {plan.position}",
                NEW_SNAPSHOT_HINT,
            )  # fmt: skip


def keep_copy(copy: Path, target: Path) -> None:
    """Move a checked copy to where it is kept, for its owner's eyes only. Raises SidecarError."""
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        copy.chmod(0o600)  # it is production's content
        shutil.move(copy, target)
    except OSError as error:
        raise SidecarError(
            f"the copy could not be kept as {target}: {error.strerror or error}", "choose another --keep"
        ) from error
