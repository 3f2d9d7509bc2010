"""One walk of the road to a proof: ask Litestream to sync, look, restore, copy and check production.

What it learns goes into the same evidence that `/ready` is judged by, at once; what stands in the way is part of the proof.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event

from sidecar.core.case import Scratch
from sidecar.core.census import Census
from sidecar.core.errors import EnvironmentProblem, LitestreamError, ScratchFull, SidecarError, Stopped
from sidecar.core.evidence import Evidence
from sidecar.core.finding import Finding, Reason, Status
from sidecar.core.model import CheckKind, Database, Drill, Outcome, Position
from sidecar.core.parity import ParityResult
from sidecar.core.ports import Progress
from sidecar.core.proof import Demand, Proof
from sidecar.core.receipt import Entry, Rollback
from sidecar.core.verdict import drill_document, finding_document
from sidecar.core.walked import Walked, findings_of, proof_of_walk
from sidecar.deploy.works import Works
from sidecar.drill_attempt import Order, keep_copy
from sidecar.fleet import Fleet

SYNC_S = 30.0  # Litestream syncs within a second or does not for long
# Not `.db`: a Litestream that watches a folder with `pattern: "*.db"` above the shelf would replicate the artifacts too.
ARTIFACT = "{name}-{of}.artifact"
OPEN_S, OPEN_POLL_S = (
    2.0,
    0.05,
)  # an app's transactions take milliseconds; a migration's may take this long, and then it still runs
# What must hold before a restore is worth its time.
BEFORE_A_DRILL = frozenset({"litestream", "replica", "lag", "snapshot", "chain"})
# A store that cannot be reached or holds nothing need not be asked for a restore, also by one who goes on anyway.
NOT_TO_BE_READ = frozenset({Reason.UNREACHABLE, Reason.AUTH, Reason.TIMEOUT, Reason.NO_BACKUP})


class Walk:
    """One walk for one database. Raises `Stopped`."""

    def __init__(
        self, road: Works, fleet: Fleet, database: Database, demand: Demand, stop: Event, progress: Progress
    ) -> None:
        self.road, self.fleet, self.database, self.demand = road, fleet, database, demand
        self.stop, self.progress = stop, progress
        self.since = demand.since or road.clock.now()
        self.ends_s = road.clock.monotonic() + demand.timeout.total_seconds()
        self.policy = replace(fleet.policies[database.path], drill_timeout=self._drill_timeout())
        self.drill: Drill | None = None
        self.required: Position | None = None  # what the drill must bring back
        self.census: Census | None = None
        self.artifact: tuple[Path, str, Position | None, datetime] | None = None
        self.extra: list[Finding] = []

    def run(self) -> Proof:
        """Walk it once; what stands in the way is part of the proof."""
        demand = self.demand
        if not self.database.in_reach:
            raise EnvironmentProblem(
                f"production of {self.database.name} is not in reach of this daemon (`policy.production: false`), so no deploy can be proved here",
                "ask the sidecar beside the app",
            )
        self._ask()
        if demand.backup:
            self._sync()
            self._look()
            blocked = [each for each in self._findings() if each.status.blocks and each.name in BEFORE_A_DRILL]
            replaced = self._known.replaced_at is not None
            if not demand.anyway and (blocked or replaced):
                return self._proof()
            if not any(each.reason in NOT_TO_BE_READ for each in blocked):
                self._prove_backup()
            if not demand.anyway and any(
                each.status.blocks and each.name in {"drill", "parity", "scratch"} for each in self._findings()
            ):
                return self._proof()
        if demand.production:
            self._examine()
        return self._proof()

    @property
    def _known(self) -> Evidence:
        found = self.road.ledger.snapshot().get(self.database.path)
        return found if found is not None else Evidence(first_seen_at=self.since)

    def _record(self, change: Callable[[Evidence], Evidence]) -> None:
        self.road.ledger.record(self.database.path, change)

    def _left(self) -> timedelta:
        return timedelta(seconds=max(self.ends_s - self.road.clock.monotonic(), 0.001))

    def _drill_timeout(self) -> timedelta:
        return min(self.fleet.policies[self.database.path].drill_timeout, self._left())

    def _ask(self) -> None:
        """What Litestream says of itself."""
        said = self.road.claims(self.fleet).read((self.database,)).get(self.database.path)
        if said is not None:
            self._record(lambda known: known.of_replica(self.database.replica).after_claim(said))

    def _sync(self) -> None:
        """Have Litestream bring everything to the replica; where it cannot be asked, looking again does it."""
        syncer = self.road.syncer(self.fleet)
        claim = self._known.claim
        if self.demand.max_age is not None or syncer is None or claim is None or not claim.up or not claim.managed:
            return
        self.progress("sync", 0, None)
        try:
            syncer.sync(self.database, timeout_s=min(SYNC_S, self._left().total_seconds()), stop=self.stop)
        except LitestreamError as error:
            status = Status.UNKNOWN if error.reason in NOT_TO_BE_READ else Status.FAIL
            self.extra.append(Finding("lag", status, error.message, Reason.STALLED, error.hint, retryable=True))

    def _look(self) -> None:
        self.progress("listing", 0, None)
        timeout_s = min(self.fleet.command_timeout_s, self._left().total_seconds())
        looked = self.road.looker.look(self.database, self._known, self.policy, timeout_s, self.stop)
        self._record(looked.applied)
        if looked.sighting.listing is not None:
            self.required = looked.sighting.listing.position

    def _prove_backup(self) -> None:
        """Drill, unless a proof that is young enough stands."""
        wanted, proof = self.demand.max_age, self._known.restored
        if self.policy.compares and (
            proof is None or proof.parity is None or proof.parity.result is not ParityResult.EQUAL
        ):
            proof = None  # it was not compared: this one will be
        if wanted is not None and proof is not None and self.road.clock.now() - proof.finished_at <= wanted:
            return
        live = self._known.live
        keep: Path | None = None
        if self.demand.keep:
            try:
                self.road.shelf.require(
                    self.demand.receipt_id, live.size_bytes + live.wal_bytes if live is not None else 0
                )
                keep = self.road.shelf.folder(self.demand.receipt_id)
            except (ScratchFull, EnvironmentProblem) as error:
                self.extra.append(Finding("scratch", Status.UNKNOWN, error.message, Reason.SCRATCH_LOW, error.hint))
                if not self.demand.anyway:
                    return
        policy = replace(self.policy, drill_timeout=self._drill_timeout())
        drill_id = self.road.ledger.begin_drill(self.database)
        name = ARTIFACT.format(name=self.database.name, of=drill_id)
        order = Order(self.database, policy, CheckKind.QUICK, drill_id, keep, keep_name=name, parity=policy.compares)
        drill = self.drill = self.road.driller.run(order, stop=self.stop, progress=self.progress)
        shrink = 1.0 if self.demand.accept_shrink else self.policy.max_shrink
        self.road.ledger.add_drill(self.database, drill, max_shrink=shrink)
        if drill.outcome is Outcome.ABORTED:
            raise Stopped("told to stop")
        if keep is not None and drill.outcome is Outcome.PASSED:
            at = self._known.covered_at or drill.started_at
            self._settle(keep / name, drill.position, at)

    def _settle(self, copy: Path, position: Position | None, at: datetime) -> None:
        try:
            self.artifact = copy, self.road.shelf.settle(copy), position, at
        except EnvironmentProblem as error:
            self.extra.append(Finding("scratch", Status.UNKNOWN, error.message, Reason.SCRATCH_LOW, error.hint))

    def _examine(self) -> None:
        """Copy production, check the copy, take its census; where no drilled copy is kept, keep this one."""
        self._wait_for_writer()
        if self._stands_for_production():
            return
        began = self.road.clock.now()  # what is committed after this instant is not said to have been read
        live = self.road.looker.live.read(self.database)
        self._record(lambda known: known.after_live(live))
        check = self.road.examiner.run(
            self.database, replace(self.policy, drill_timeout=self._left()), live, stop=self.stop, progress=self.progress,
            on_sound_copy=lambda copy: self._take_stock(copy, began, live.file_id.inode if live.file_id is not None else None),
        )  # fmt: skip
        if self.stop.is_set():
            raise Stopped("told to stop")
        self._record(lambda known: known.after_database_check(check))
        if check.sound is None:  # an older check that passed does not stand for one that found nothing out
            reason = Reason(check.reason or Reason.CHECK_OLD)
            self.extra.append(
                Finding(
                    "database", Status.UNKNOWN, f"production could not be checked: {check.message}", reason, check.hint,
                    retryable=reason is not Reason.UNREADABLE,
                )
            )  # fmt: skip

    def _stands_for_production(self) -> bool:
        """Where the drilled copy is what production held, page by page, it is taken stock of, and production is not copied."""
        parity, live = self.drill.parity if self.drill is not None else None, self._known.live
        if self.artifact is None or parity is None or not parity.strong or live is None or live.file_id is None:
            return False
        try:
            self.census = self._census(self.artifact[0], self.since, live.file_id.inode)
        except SidecarError as error:
            self._not_counted(error)
        return True

    def _wait_for_writer(self) -> None:
        """A write transaction that stays open, as one does that a command left behind: what it will bring is not known."""
        path, read, clock = self.database.path, self.road.looker.live.read, self.road.clock
        writer, index = self.road.writers.holder(path), read(self.database).wal_index
        ends_s = clock.monotonic() + OPEN_S
        while writer is not None and clock.monotonic() < ends_s:
            if self.stop.wait(OPEN_POLL_S):
                raise Stopped("told to stop")
            if self.road.writers.holder(path) != writer or read(self.database).wal_index != index:
                return
        if writer is not None:
            who = f"process {writer}" if writer else "a process that cannot be seen from here"
            self.extra.append(
                Finding(
                    "database", Status.UNKNOWN,
                    f"{who} has had a write transaction open for more than {OPEN_S:.0f} s; what it will change is not known",
                    Reason.CHECK_OLD, f"let it end, or end it; who it is: `fuser -v {path}`", retryable=True,
                )
            )  # fmt: skip

    def _take_stock(self, copy: Path, began: datetime, inode: int | None) -> None:
        """The census of a sound copy of production; and the copy itself, where it is the rollback artifact."""
        try:
            census = self.census = self._census(copy, began, inode)
            content = replace(census.content, tables=dict.fromkeys(census.content.tables, -1))  # as a look reads it
            self._record(lambda known: known.after_content(content, None))
        except SidecarError as error:
            self._not_counted(error)
            return
        if self.demand.keep and self.artifact is None:
            self._keep_production(copy, census.content.read_at)

    def _census(self, copy: Path, at: datetime, inode: int | None) -> Census:
        return self.road.integrity.census(
            copy, schema_version=self.policy.schema_version, now=at, inode=inode,
            timeout_s=self._left().total_seconds(), stop=self.stop,
        )  # fmt: skip

    def _not_counted(self, error: SidecarError) -> None:
        self.extra.append(Finding("schema", Status.UNKNOWN, error.message, Reason.VERSION_UNKNOWN, error.hint))

    def _keep_production(self, copy: Path, at: datetime) -> None:
        try:
            self.road.shelf.require(self.demand.receipt_id, copy.stat().st_size)
            name = ARTIFACT.format(name=self.database.name, of="production")
            kept = self.road.shelf.folder(self.demand.receipt_id) / name
            keep_copy(copy, kept)
        except SidecarError as error:
            self.extra.append(Finding("scratch", Status.UNKNOWN, error.message, Reason.SCRATCH_LOW, error.hint))
        else:
            self._settle(kept, None, at)

    def _walked(self) -> Walked:
        """All that the findings are made from."""
        return Walked(
            demand=self.demand, since=self.since, database=self.database, evidence=self._known, policy=self.policy,
            room=Scratch(self.road.clock.now(), self.road.scratch.free_bytes()), now=self.road.clock.now(),
            drill=self.drill, required=self.required, extra=tuple(self.extra),
        )  # fmt: skip

    def _findings(self) -> tuple[Finding, ...]:
        return findings_of(self._walked())

    def _proof(self) -> Proof:
        walked = self._walked()
        return proof_of_walk(walked, self._entry(findings_of(walked)), self.road.driller.replica.version)

    def _entry(self, findings: tuple[Finding, ...]) -> Entry:
        drill = self.drill or (self._known.restored if self.demand.backup else None)
        path, digest, position, at = self.artifact or (None, None, None, self.since)
        return Entry(
            name=self.database.name, path=self.database.path, census=self.census,
            drill=drill_document(drill) if drill is not None else None,
            rollback=Rollback(
                position=str(position) if position is not None else self._last_proved(), created_at=at,
                artifact=str(path) if path is not None else None, artifact_sha256=digest,
                size_bytes=path.stat().st_size if path is not None else None, command="",
            ),
            checks=tuple(finding_document(each) for each in findings),
        )  # fmt: skip

    def _last_proved(self) -> str | None:
        """Where no artifact can be kept: the newest position that a drill brought back. It may not be restorable for long."""
        proved = self._known.last_passed
        return (
            str(proved.position)
            if self.artifact is None and proved is not None and proved.position is not None
            else None
        )
