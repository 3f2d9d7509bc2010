"""A finding: one check's answer about one database, with its reason, its figures and a way out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum


class Status(StrEnum):
    """The four answers. Ready means that none of a database's checks is `unknown` or `fail`."""

    PASS = "pass"  # noqa: S105 - a status, not a password
    WARN = "warn"
    UNKNOWN = "unknown"
    FAIL = "fail"

    @property
    def blocks(self) -> bool:
        """Whether this answer keeps a database from being ready."""
        return self is Status.UNKNOWN or self is Status.FAIL


class Reason(StrEnum):
    """The closed list of reasons (CONTRACT 4); alerts and scripts match on these words."""

    LITESTREAM_DOWN = "litestream_down"
    NOT_MANAGED = "not_managed"
    NO_SOCKET = "no_socket"
    UNREACHABLE = "unreachable"
    AUTH = "auth"
    TIMEOUT = "timeout"
    NO_BACKUP = "no_backup"
    LAGGING = "lagging"
    STALLED = "stalled"
    REPLICA_AHEAD = "replica_ahead"
    NO_SNAPSHOT = "no_snapshot"
    SNAPSHOT_OLD = "snapshot_old"
    CHAIN_GAP = "chain_gap"
    CHAIN_OVERLAP = "chain_overlap"
    NEVER_DRILLED = "never_drilled"
    DRILL_OLD = "drill_old"
    RESTORE_FAILED = "restore_failed"
    FILE_CORRUPT = "file_corrupt"
    FILE_MISSING = "file_missing"
    DB_CORRUPT = "db_corrupt"
    ASSERTION_FAILED = "assertion_failed"
    SCRATCH_FULL = "scratch_full"
    ABORTED = "aborted"
    RACED = "raced"
    PAGES_DIFFER = "pages_differ"
    NOT_COMPARED = "not_compared"
    EMPTY = "empty"
    SHRUNK = "shrunk"
    IDENTITY_CHANGED = "identity_changed"
    FILE_REPLACED = "file_replaced"
    CHECK_OLD = "check_old"
    UNREADABLE = "unreadable"
    VERSION_UNKNOWN = "version_unknown"
    VERSION_DIFFERS = "version_differs"
    SCRATCH_LOW = "scratch_low"


@dataclass(frozen=True, slots=True)
class Holding:
    """What time alone makes of a finding: the same answer up to and with `until`, while nothing else changes.

    Where `since` is given, `observed` is the age of that instant, and `says` how the message reads at an age in seconds.
    """

    until: datetime
    since: datetime | None = None
    says: Callable[[float], str] | None = None


TIMELESS = Holding(datetime.max.replace(tzinfo=UTC))  # time alone never turns it


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `reason` is None exactly when it passed; `observed` and `limit` are in `unit`.

    A finding that says nothing of how long it holds is made again whenever somebody asks; none that blocks may say so.
    """

    name: str
    status: Status
    message: str
    reason: Reason | None = None
    hint: str = ""
    retryable: bool = False  # waiting alone can turn this answer
    observed: float | None = None
    limit: float | None = None
    unit: str | None = None
    holds: Holding | None = field(default=None, compare=False, repr=False)


# A check that fails for one of these could not find out; every other failure is proved.
NOT_FOUND_OUT = frozenset(
    {
        Reason.UNREACHABLE,
        Reason.AUTH,
        Reason.TIMEOUT,
        Reason.DRILL_OLD,
        Reason.CHECK_OLD,
        Reason.SCRATCH_FULL,
        Reason.ABORTED,
        Reason.RACED,
    }
)


def is_proved(finding: Finding) -> bool:
    """Whether it says no, as opposed to not knowing: the difference between exit codes 1 and 3."""
    return finding.status is Status.FAIL and finding.reason not in NOT_FOUND_OUT
