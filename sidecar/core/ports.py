"""What the verbs need of the world, as Protocols. Adapters satisfy them by shape and import nothing from here."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Protocol

from sidecar.core.model import CheckKind, Claim, Content, Database, LiveState, Position, ReplicaFile
from sidecar.core.policy import Assertion


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
        """Stage is `plan`, `restore`, `check` or `copy`; `done` and `total` share a unit (bytes, pages)."""
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


class ReplicaReader(Protocol):
    """Litestream's commands, one implementation per generation of Litestream. Errors are `LitestreamError`."""

    version: str

    def list_files(self, database: Database, *, timeout_s: float, stop: Event) -> tuple[ReplicaFile, ...]:
        """All files of the replica that a restore could use (0.3: of the current generation). () = no backup."""
        ...

    def plan(self, database: Database, *, timeout_s: float, stop: Event) -> Plan:
        """What a restore of the newest position would read."""
        ...

    def restore(
        self, database: Database, plan: Plan, target: Path, *, timeout_s: float, stop: Event, progress: Progress
    ) -> None:
        """Restore exactly the plan's position to `target`, which does not exist yet."""
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

    def assertion(self, file: Path, assertion: Assertion, *, timeout_s: float, stop: Event) -> str | None:
        """None when the assertion holds, else one sentence."""
        ...


class Production(Protocol):
    """The live database through SQLite, read-only, for short. Raises `Unreadable` rather than harm it."""

    def content(self, path: str, *, schema_version: str, now: datetime) -> Content:
        """Schema facts of production; rows are not counted (-1)."""
        ...

    def copy(self, path: str, target: Path, *, timeout_s: float, stop: Event, progress: Progress) -> int:
        """A consistent copy by the Online Backup API within one read transaction; bytes copied."""
        ...


class ScratchSpace(Protocol):
    """Private, bounded room for one restore at a time; always empty after."""

    def room(self, need_bytes: int) -> AbstractContextManager[Path]:
        """A fresh 0700 directory, removed with all that is in it. Raises `ScratchFull`."""
        ...

    def free_bytes(self) -> int:
        """Free room, as far as `scratch-max` allows to use it."""
        ...
