"""Facts: what is known of a database, its replica and its drills. Values with times, and no opinion.

Three strengths of evidence: a claim (Litestream says it) < a sighting (the replica's listing shows it)
< a drill (we restored it). All times are aware UTC; all types are frozen, so they may cross threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from sidecar.core.parity import Parity


@dataclass(frozen=True, slots=True)
class Position:
    """A point in a database's history as Litestream names it.

    0.5: a TXID (`generation` empty, `index` the TXID, `offset` 0), shown as 16 hex digits.
    0.3: `generation/index:offset` (index 8 hex digits as in WAL file names, offset in decimal bytes).
    """

    generation: str
    index: int
    offset: int = 0

    @classmethod
    def of_txid(cls, txid: int) -> Position:
        """The position of a Litestream 0.5 TXID."""
        return cls("", txid)

    @property
    def txid(self) -> int | None:
        """The TXID, or None where this is a 0.3 position."""
        return None if self.generation else self.index

    def covers(self, other: Position) -> bool:
        """Whether everything up to `other` is contained in what leads to this position."""
        return self.generation == other.generation and (self.index, self.offset) >= (other.index, other.offset)

    def __str__(self) -> str:
        if not self.generation:
            return f"{self.index:016x}"
        return f"{self.generation}/{self.index:08x}:{self.offset}"


@dataclass(frozen=True, slots=True)
class Replica:
    """The one place Litestream copies a database to.

    `config`: a litestream.yml of this one database and replica, `$VAR` expanded. It may hold secrets and is never printed.
    """

    type: str  # file s3 gs abs sftp webdav nats oss
    label: str  # printable: no userinfo, no keys
    name: str = ""  # 0.3: replicas had names
    endpoint: tuple[str, int] | None = None  # host and port to tell "refused" from "silent", where config names one
    config: str = field(default="", repr=False, compare=True)

    @property
    def identity(self) -> str:
        """Equal for two exactly where what was seen of the one holds for the other."""
        return f"{self.type} {self.label} {self.name} {self.endpoint or ''}".rstrip()


@dataclass(frozen=True, slots=True)
class Database:
    """A SQLite file that litestream.yml names, by `path` or found under `dir` + `pattern`."""

    name: str  # unique in the fleet; the metrics label `db`
    path: str  # absolute
    meta_path: str  # Litestream's local folder for it
    replica: Replica
    in_reach: bool = True  # False: its file is nothing to us, only the replica is (`policy.production`)


class ClaimSource(StrEnum):
    """Whom we asked."""

    SOCKET = "socket"
    METRICS = "metrics"
    NONE = "none"  # neither is enabled in litestream.yml


@dataclass(frozen=True, slots=True)
class Claim:
    """What the Litestream process says of itself and of one database. Cheap, and can be wrong."""

    read_at: datetime
    source: ClaimSource
    up: bool = False
    managed: bool = False  # it knows this database
    version: str | None = None
    pid: int | None = None
    started_at: datetime | None = None
    last_sync_at: datetime | None = None
    txid: int | None = None
    sync_error: str | None = None  # what Litestream says keeps it from syncing
    error: str | None = None  # why we got no answer


@dataclass(frozen=True, slots=True)
class ReplicaFile:
    """One file in the replica's listing. 0.5: level 0-9, TXIDs. 0.3: level 9 = snapshot, 0 = WAL segment."""

    level: int
    first: Position
    last: Position
    size_bytes: int
    at: datetime


class LookResult(StrEnum):
    """How an attempt to list the replica ended; the values past `ok` are reasons of the check `replica`."""

    OK = "ok"
    NO_BACKUP = "no_backup"
    UNREACHABLE = "unreachable"
    AUTH = "auth"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Listing:
    """What the replica's listing showed: the newest restorable chain, reduced to what checks need (bounded size).

    `read_at` is the instant just before the listing began. `position` is the newest position listed, `reachable` the
    newest one that an unbroken chain from a base reaches; they differ when there is a gap. `beyond_base_at` is the
    time of the first file past the snapshot, None where nothing changed since.
    """

    read_at: datetime
    position: Position
    at: datetime  # the newest file's time by the replica's clock
    reachable: Position | None
    gap: str | None  # a sentence naming where the chain breaks
    overlap: str | None  # a sentence naming two files of one level that overlap
    snapshot: Position | None
    snapshot_at: datetime | None
    beyond_base_at: datetime | None
    oldest_restorable_at: datetime | None
    files: Mapping[int, int]  # level -> count
    size_bytes: int
    last_at: datetime | None = None  # time of the first file that ends at `position`, at the lowest level
    plan_digest: str | None = None  # of the files that a restore of `position` reads; None where no chain leads there


@dataclass(frozen=True, slots=True)
class Sighting:
    """One attempt to list the replica. `listing` is set exactly when `result` is OK."""

    read_at: datetime
    result: LookResult
    message: str = ""
    hint: str = ""
    listing: Listing | None = None
    finished_at: datetime | None = None  # the listing had ended by then
    rest: int = 1  # how many times look-every it may be until the next one, while production rests


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """The version a migration tool recorded. `source` is its table, `user_version`, or `sql`."""

    source: str
    value: str


@dataclass(frozen=True, slots=True)
class Content:
    """What a database file holds, by SQLite. `tables`: the user's tables to rows, -1 where they were not counted."""

    read_at: datetime
    application_id: int
    user_version: int
    page_size: int
    page_count: int
    schema_digest: str  # sha256 over the normalised schema
    schema_version: SchemaVersion | None
    tables: Mapping[str, int]
    sqlite_version: str
    error: str | None = None  # why schema_version is None


class Outcome(StrEnum):
    """What a drill found. Inconclusive and aborted neither refresh the proof nor claim damage."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    ABORTED = "aborted"


class CheckKind(StrEnum):
    """Which PRAGMA a drill ran: quick_check, or integrity_check (`full`)."""

    QUICK = "quick"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Drill:
    """One restore of the newest recovery point to scratch, checked and removed; or, by change, what has come since the last one."""

    id: str
    outcome: Outcome
    reason: str | None  # None exactly when passed
    message: str
    hint: str
    position: Position | None
    started_at: datetime
    finished_at: datetime
    check: CheckKind = CheckKind.QUICK
    plan_seconds: float | None = None
    restore_seconds: float | None = None
    check_seconds: float | None = None
    size_bytes: int | None = None
    content: Content | None = None
    litestream_version: str | None = None
    parity: Parity | None = None  # None: not asked for
    parity_seconds: float | None = None
    accepts_shrink: bool = False  # somebody said that what is gone was meant to go
    plan_digest: str | None = None  # of the backup files that were read (`listing.digest`)
    live_digest: str | None = None  # of production's files just before they were read for the comparison (`LiveState`)
    memory_bytes: int | None = None  # that Litestream took for the restore, at its peak
    verifier: str | None = None  # host:port of the daemon that made it and told us; None: made here
    took_seconds: float | None = None  # all of it, by a clock that nobody sets; None: by a sidecar of before
    by_change: bool = False  # a kept copy was brought forward by what was new, and nothing older was read
    apply_seconds: float | None = None  # to bring it forward; such a drill has no `restore_seconds`

    @property
    def took(self) -> timedelta:
        """How long it lasted, also where the wall clock was set meanwhile."""
        if self.took_seconds is not None:
            return timedelta(seconds=self.took_seconds)
        return max(self.finished_at - self.started_at, timedelta(0))


@dataclass(frozen=True, slots=True)
class DatabaseCheck:
    """quick_check of production's content, made on a copy. `sound` None: could not be found out (unreadable, …)."""

    at: datetime
    sound: bool | None
    reason: str | None  # None exactly when sound
    message: str = ""
    hint: str = ""
    seconds: float = 0.0
    size_bytes: int = 0
    sqlite_version: str = ""
