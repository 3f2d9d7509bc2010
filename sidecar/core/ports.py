"""What the verbs need of the world, as Protocols. Adapters satisfy them by shape and import nothing from here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Protocol

from sidecar.core.census import Census
from sidecar.core.decision import Decision
from sidecar.core.live_state import LiveState
from sidecar.core.model import CheckKind, Claim, Content, Database, Position, ReplicaFile
from sidecar.core.policy import Assertion
from sidecar.core.proof import Demand, Proof
from sidecar.core.rehearsal import Ran, RowChange, Watched
from sidecar.core.restarts import Shape


class Clock(Protocol):
    """Wall time for evidence (aware UTC), monotonic seconds for deadlines."""

    def now(self) -> datetime:
        """Aware UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go backwards."""
        ...


class Progress(Protocol):
    """Told how far long work has come; `total` is None while it is unknown."""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Stage is `plan`, `restore`, `check`, `parity`, `copy` or `hash`; `done` and `total` share a unit (bytes, pages)."""
        ...


class Claims(Protocol):
    """Asks the Litestream process about all databases at once; never raises, never takes longer than seconds."""

    def read(self, databases: tuple[Database, ...]) -> dict[str, Claim]:
        """Path to claim, one for every database asked for."""
        ...


class LiveReader(Protocol):
    """Reads what the local files say of a database; never raises (a failure is `LiveState.error`)."""

    def read(self, database: Database) -> LiveState:
        """One reading, dated by the reader's clock at its start."""
        ...


class Restorer(Protocol):
    """What brings a copy of the backup to scratch. Errors are `SidecarError`."""

    def plan(self, database: Database, *, timeout_s: float, stop: Event) -> Plan:
        """What a restore of the newest position would read."""
        ...

    def plan_at(self, database: Database, position: Position, *, timeout_s: float, stop: Event) -> Plan:
        """What a restore of exactly this position would read; `no_backup` or `file_missing` where there is no way to it."""
        ...

    def restore(
        self, database: Database, plan: Plan, target: Path, *, timeout_s: float, stop: Event, progress: Progress
    ) -> int | None:
        """Restore exactly the plan's position to `target`, which does not exist yet; bytes of memory that it took, where that is known."""
        ...


class ReplicaReader(Restorer, Protocol):
    """Litestream's commands, one implementation per generation of Litestream. Errors are `LitestreamError`."""

    version: str

    def list_files(self, database: Database, *, timeout_s: float, stop: Event) -> tuple[ReplicaFile, ...]:
        """All files of the replica that a restore could use (0.3: of the current generation). () = no backup."""
        ...


class Plan(Protocol):
    """A restore decided upon: its position, and how many bytes will be read."""

    @property
    def position(self) -> Position:
        """What the restore will bring back."""
        ...

    @property
    def size_bytes(self) -> int:
        """Bytes of backup files that the restore reads."""
        ...

    @property
    def files(self) -> tuple[ReplicaFile, ...]:
        """The backup files that the restore reads, in order."""
        ...


class Integrity(Protocol):
    """SQLite's own opinion of a file that nobody writes, opened immutable."""

    def check(
        self, file: Path, kind: CheckKind, *, timeout_s: float, stop: Event, progress: Progress
    ) -> tuple[str, ...]:
        """quick_check or integrity_check; the complaints, () when sound. Damage that raises is a complaint too."""
        ...

    def content(self, file: Path, *, schema_version: str, now: datetime, timeout_s: float, stop: Event) -> Content:
        """What the file holds, rows counted."""
        ...

    def census(
        self, file: Path, *, schema_version: str, now: datetime, inode: int | None, timeout_s: float, stop: Event
    ) -> Census:
        """Everything that is held against a later state: rows, schema, foreign-key violations."""
        ...

    def assertion(self, file: Path, assertion: Assertion, *, timeout_s: float, stop: Event) -> str | None:
        """None when the assertion holds, else one sentence."""
        ...


class Production(Protocol):
    """The live database through SQLite, read-only, for short. Raises `Unreadable` rather than harm it."""

    def content(self, path: str, *, schema_version: str, now: datetime) -> Content:
        """Schema facts of production; rows are not counted (-1)."""
        ...

    def copy(
        self,
        path: str,
        target: Path,
        *,
        timeout_s: float,
        stop: Event,
        progress: Progress,
        hold_s: float | None = None,
    ) -> int:
        """A consistent copy by the Online Backup API within one read transaction; bytes copied.

        `hold_s`: how long that may last. Raises `Overdue` past it or past `timeout_s`.
        """
        ...


class ScratchSpace(Protocol):
    """Private, bounded room for one restore at a time; always empty after."""

    def room(self, need_bytes: int) -> AbstractContextManager[Path]:
        """A fresh 0700 directory, removed with all that is in it. Raises `ScratchFull`."""
        ...

    def free_bytes(self) -> int:
        """Free room, as far as `scratch-max` allows to use it."""
        ...


class Syncer(Protocol):
    """Asks Litestream to bring everything committed so far to the replica, and waits for it."""

    def sync(self, database: Database, *, timeout_s: float, stop: Event) -> None:
        """Returns when Litestream says that it is there. Raises `LitestreamError` with what Litestream said."""
        ...


class Writers(Protocol):
    """Who is writing to production right now; asks and takes nothing."""

    def holder(self, path: str) -> int | None:
        """The process that holds the write lock, 0 where it cannot be named; None where nobody does, or it cannot be told."""
        ...


class Shelf(Protocol):
    """Where rollback artifacts are kept: one folder for each receipt."""

    def require(self, receipt_id: str, need_bytes: int) -> None:
        """Make room for one more artifact of this receipt. Raises `ScratchFull` where there is none to be had."""
        ...

    def folder(self, receipt_id: str) -> Path:
        """The receipt's folder, made if need be; a kept copy is to be moved into it."""
        ...

    def settle(self, copy: Path) -> str:
        """Have a copy that was put there survive a power cut, read-only; its sha256 in hex."""
        ...

    def discard(self, receipt_id: str) -> None:
        """Remove what was kept for a receipt that was never issued."""
        ...

    def proved(self, receipt_id: str) -> None:
        """The deploy of this receipt was proved good: what was kept before it may go when room is needed."""
        ...


class DeployBook(Protocol):
    """What was decided, and which receipts were used; several processes share it. Raises `EnvironmentProblem`."""

    def take(self, receipt_id: str) -> None:
        """Use this receipt from now on, until `decided` says how it ended. Raises `ReceiptError` where it was used."""
        ...

    def write(self, decision: Decision) -> None:
        """Add a decision; one of a postcheck also says what becomes of its receipt: used up, or free for another try."""
        ...


class Road(Protocol):
    """Proves databases for the gate and for what follows it: in this process, or by asking a daemon."""

    def databases(self) -> Mapping[str, str]:
        """Name to path of all databases."""
        ...

    def prove(self, demand: Demand, *, stop: Event, progress: Progress) -> Proof:
        """Walk the road once. What stands in the way is part of the proof. Raises `Stopped`."""
        ...

    def take(self, receipt_id: str) -> None:
        """As `DeployBook.take`."""
        ...

    def decided(self, decision: Decision) -> None:
        """Record it; a gate that did not pass gives its artifacts up, a postcheck that passed proves its receipt's deploy."""
        ...


class RehearsalCopies(Protocol):
    """The copy that a command is rehearsed on, before and after it. Nobody else has it open."""

    def shape(self, file: Path) -> Shape | None:
        """What its header says; None where it is no database, or is gone."""
        ...

    def duplicate(self, file: Path, target: Path, *, stop: Event) -> None:
        """A second, untouched copy. Raises `Stopped`, OSError."""
        ...

    def settle(self, file: Path) -> str | None:
        """Bring what was left in a WAL or journal into the file; None, or what SQLite said against it."""
        ...

    def pages_changed(self, before: Path, after: Path, page_size: int, *, stop: Event) -> int:
        """How many pages differ. Raises `Stopped`, OSError."""
        ...

    def rows(
        self, before: Path, after: Path, tables: Sequence[str], *, timeout_s: float, stop: Event
    ) -> tuple[RowChange, ...]:
        """Rows that came, went or changed, by table. Raises `Stopped`, `UnsoundCopy`."""
        ...


class Stage(Protocol):
    """Runs a command while its copy and its processes are watched."""

    def play(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        copy: Path,
        production: Path,
        *,
        timeout_s: float,
        stop: Event,
    ) -> tuple[Ran, Watched]:
        """How it ended, and what was seen; nothing of it runs on. Raises `Stopped`, `EnvironmentProblem`, or when it touches production."""
        ...

    def guards(self) -> bool:
        """Whether this system shows what a process has open."""
        ...
