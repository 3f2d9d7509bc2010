"""Evidence to judge: a healthy database in Litestream 0.5, made at one instant; tests replace what they want to be wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from sidecar.core.case import Case, Scratch
from sidecar.core.checks import CHECKS
from sidecar.core.evidence import Evidence
from sidecar.core.finding import Finding, Reason, Status
from sidecar.core.live_state import Capture, FileId, LiveState, WalIndex
from sidecar.core.model import (
    CheckKind,
    Claim,
    ClaimSource,
    Content,
    Database,
    DatabaseCheck,
    Drill,
    Listing,
    LookResult,
    Outcome,
    Position,
    Replica,
    SchemaVersion,
    Sighting,
)
from sidecar.core.parity import Parity, ParityResult
from sidecar.core.policy import Policy
from sidecar.core.turns import SPREAD_SHARE, spread

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
SALTS = b"\x01\x02\x03\x04\x05\x06\x07\x08"
PAGE = 4096
TXID = 42
ROOM = Scratch(NOW, 10**12)


def ago(**length: float) -> datetime:
    """That long before NOW: `ago(minutes=5)`."""
    return NOW - timedelta(**length)


def database(name: str = "app", path: str | None = None) -> Database:
    path = path or f"/data/{name}.db"
    return Database(name, path, f"/data/.{name}.db-litestream", replica())


def replica(label: str = "s3://bucket/app", **facts: Any) -> Replica:
    return replace(Replica("s3", label, config="access-key-id: SECRET"), **facts)


def capture(txid: int = TXID, at: datetime = NOW, frames: int = 3) -> Capture:
    """Litestream's local file of that TXID; the WAL held `frames` frames then."""
    return Capture(Position.of_txid(txid), at, SALTS, WalIndex(SALTS, frames, PAGE).end, 10)


def live(now: datetime = NOW, txid: int = TXID, frames: int = 3, **facts: Any) -> LiveState:
    """Production with `frames` frames in its WAL, all of them in Litestream's newest local file."""
    made = LiveState(
        read_at=now,
        file_id=FileId(8, 1001),
        size_bytes=10 * PAGE,
        wal_bytes=WalIndex(SALTS, frames, PAGE).end,
        modified_at=now - timedelta(hours=1),
        wal_index=WalIndex(SALTS, frames, PAGE),
        captures=(capture(txid, now - timedelta(hours=1), frames),),
    )
    return replace(made, **facts)


def claim(now: datetime = NOW, **facts: Any) -> Claim:
    made = Claim(now, ClaimSource.SOCKET, True, True, "0.5.17", 4711, now - timedelta(days=3), now, TXID)
    return replace(made, **facts)


def listing(now: datetime = NOW, txid: int = TXID, **facts: Any) -> Listing:
    """An unbroken chain from an hours-old snapshot to that TXID."""
    made = Listing(
        read_at=now,
        position=Position.of_txid(txid),
        at=now - timedelta(hours=1),
        reachable=Position.of_txid(txid),
        gap=None,
        overlap=None,
        snapshot=Position.of_txid(1),
        snapshot_at=now - timedelta(hours=5),
        beyond_base_at=now - timedelta(hours=4),
        oldest_restorable_at=now - timedelta(days=1),
        files={9: 1, 0: 3},
        size_bytes=9 * PAGE,
    )
    return replace(made, **facts)


def seen(now: datetime = NOW, shown: Listing | None = None) -> Sighting:
    """A look that showed a listing."""
    return Sighting(now, LookResult.OK, "", "", shown or listing(now), now)


def looked(result: LookResult, now: datetime = NOW, message: str = "the store said no") -> Sighting:
    """A look that showed nothing."""
    return Sighting(now, result, message, "", None, now)


def content(now: datetime = NOW, **facts: Any) -> Content:
    made = Content(
        read_at=now,
        application_id=7,
        user_version=3,
        page_size=PAGE,
        page_count=10,
        schema_digest="d1",
        schema_version=SchemaVersion("django_migrations", "0042_auto"),
        tables={"users": 100, "orders": 50},
        sqlite_version="3.51.0",
    )
    return replace(made, **facts)


def uncounted(now: datetime = NOW, **facts: Any) -> Content:
    """Production's own content: its rows are not counted."""
    return content(now, **({"tables": {"users": -1, "orders": -1}} | facts))


def drill(now: datetime = NOW, outcome: Outcome = Outcome.PASSED, reason: str | None = None, **facts: Any) -> Drill:
    made = Drill(
        id="d0",
        outcome=outcome,
        reason=reason,
        message="restored 000000000000002a and found it sound" if reason is None else f"it was {reason}",
        hint="",
        position=Position.of_txid(TXID),
        started_at=now - timedelta(seconds=2),
        finished_at=now,
        restore_seconds=1.2,
        check_seconds=0.4,
        size_bytes=10 * PAGE,
        content=content(now) if outcome is Outcome.PASSED else None,
        litestream_version="0.5.17",
        parity=parity() if outcome is Outcome.PASSED else None,
    )
    return replace(made, **facts)


def parity(result: ParityResult = ParityResult.EQUAL, **facts: Any) -> Parity:
    """A comparison of a copy of 1,000 pages."""
    made = Parity(result, pages=1000, proven=1000, message="1000 of 1000 pages are what production held")
    return replace(made, **facts)


def audit(now: datetime = NOW, **facts: Any) -> Drill:
    return drill(now, **({"check": CheckKind.FULL} | facts))


def database_check(now: datetime = NOW, **facts: Any) -> DatabaseCheck:
    return replace(DatabaseCheck(now, sound=True, reason=None, seconds=0.2, size_bytes=10 * PAGE), **facts)


def could_not_check(reason: str, now: datetime = NOW) -> DatabaseCheck:
    return database_check(now, sound=None, reason=reason, message=f"it was {reason}", hint="do something about it")


def healthy(now: datetime = NOW) -> Evidence:
    """All that is known of a database that is ready at `now`, grown in the order in which the daemon learns it."""
    evidence = Evidence(first_seen_at=now - timedelta(days=9)).of_replica(replica())
    evidence = evidence.after_sighting(live(now), seen(now)).after_live(live(now)).after_claim(claim(now))
    evidence = evidence.after_content(uncounted(now), None)
    return evidence.after_drill(audit(now)).after_database_check(database_check(now))


def rests(length: timedelta, what: str | datetime = "d0") -> timedelta:
    """How long work rests that went well, the drill `d0` or what was done at an instant: a little less than its interval."""
    rest = spread(length, what if isinstance(what, str) else what.isoformat())
    assert length * (1 - SPREAD_SHARE) <= rest <= length
    return rest


def unknown(now: datetime = NOW) -> Evidence:
    """A database that was seen this very moment."""
    return Evidence(first_seen_at=now)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a check's table: what is known, and what the check is to make of it."""

    check: str
    evidence: Evidence
    status: Status
    reason: Reason | None = None
    retryable: bool = False
    says: str = ""
    policy: Policy = field(default_factory=Policy)
    now: datetime = NOW
    room: Scratch | None = ROOM

    def __str__(self) -> str:
        return f"{self.check}-{self.reason or 'ok'}-{self.says[:40]}"

    def holds(self) -> None:
        """Judge, and compare with the line."""
        found = finding(self.check, self.evidence, self.policy, self.now, self.room)
        assert (found.status, found.reason) == (self.status, self.reason), found
        assert self.says in found.message
        assert found.retryable is self.retryable, found
        if self.status is Status.PASS:
            return
        assert found.hint or found.retryable, "what waiting does not cure needs a hint"
        assert found.hint or self.status is not Status.FAIL, "a proved fault needs a hint"


def finding(
    check: str, evidence: Evidence, policy: Policy | None = None, now: datetime = NOW, room: Scratch | None = ROOM
) -> Finding:
    """What one check makes of this evidence."""
    found = CHECKS[check](Case(evidence, policy or Policy(), room, now))
    assert found is not None
    assert found.name == check
    return found


# Histories for hypothesis: what a daemon may have lived through until NOW, one event after the other.

Event = Callable[[Evidence, datetime], Evidence]

_lives = st.builds(
    lambda txid, frames, error, captured, inode: lambda at: live(
        at, txid, frames, error=error, file_id=FileId(8, inode) if inode else None,
        captures=(capture(captured, at - timedelta(minutes=3), frames),) if captured else (),
    ),
    st.integers(40, 44), st.integers(0, 3), st.sampled_from([None, None, "permission denied"]),
    st.sampled_from([0, 40, 41, 42, 43, 44]), st.sampled_from([1001, 1001, 1001, 2002, 0]),
)  # fmt: skip
_listings = st.builds(
    lambda txid, gap, overlap, snapshot_h, beyond_h: lambda at: listing(
        at, txid, gap=gap, overlap=overlap, snapshot_at=at - timedelta(hours=snapshot_h),
        beyond_base_at=at - timedelta(hours=beyond_h) if beyond_h else None,
        reachable=Position.of_txid(40 if gap else txid),
    ),
    st.integers(40, 44), st.sampled_from([None, None, "a gap"]), st.sampled_from([None, None, "an overlap"]),
    st.integers(1, 60), st.integers(0, 40),
)  # fmt: skip
_claims = st.builds(
    lambda source, up, managed, sync_error: lambda at: claim(
        at, source=source, up=up, managed=managed, sync_error=sync_error
    ),
    st.sampled_from(ClaimSource), st.booleans(), st.booleans(), st.sampled_from([None, None, "disk I/O error"]),
)  # fmt: skip
_contents = st.builds(
    lambda app, pages, digest, tables, version: lambda at: content(
        at, application_id=app, page_count=pages, schema_digest=digest, tables=dict(tables), schema_version=version
    ),
    st.sampled_from([7, 7, 8]), st.integers(1, 20), st.sampled_from(["d1", "d1", "d2"]),
    st.dictionaries(st.sampled_from(["users", "orders", "songs"]), st.integers(0, 100), max_size=3),
    st.sampled_from([None, SchemaVersion("t", "1"), SchemaVersion("t", "2")]),
)  # fmt: skip
_reasons: dict[Outcome, list[str | None]] = {
    Outcome.PASSED: [None],
    Outcome.FAILED: ["file_corrupt", "db_corrupt", "assertion_failed"],
    Outcome.INCONCLUSIVE: ["timeout", "raced", "scratch_full", "restore_failed"],
    Outcome.ABORTED: ["aborted"],
}
_drills = st.sampled_from(Outcome).flatmap(
    lambda outcome: st.builds(
        lambda reason, check, found: lambda at: drill(at, outcome, reason, check=check, content=found(at)),
        st.sampled_from(_reasons[outcome]), st.sampled_from(CheckKind), _contents,
    )
)  # fmt: skip
_database_checks = st.sampled_from(
    [(True, None), (False, "db_corrupt"), (None, "unreadable"), (None, "check_old")]
).map(lambda found: lambda at: database_check(at, sound=found[0], reason=found[1]))

events: st.SearchStrategy[Event] = st.one_of(
    _lives.map(lambda made: lambda evidence, at: evidence.after_live(made(at))),
    _claims.map(lambda made: lambda evidence, at: evidence.after_claim(made(at))),
    _drills.map(lambda made: lambda evidence, at: evidence.after_drill(made(at))),
    _database_checks.map(lambda made: lambda evidence, at: evidence.after_database_check(made(at))),
    _contents.map(lambda made: lambda evidence, at: evidence.after_content(made(at), None)),
    st.just(lambda evidence, _: evidence.after_content(None, "not the app's user")),
    st.builds(
        lambda before, shown: lambda evidence, at: evidence.after_sighting(before(at), seen(at, shown(at))),
        _lives, _listings,
    ),
    st.builds(
        lambda before, result: lambda evidence, at: evidence.after_sighting(before(at), looked(result, at)),
        _lives, st.sampled_from([each for each in LookResult if each is not LookResult.OK]),
    ),
)  # fmt: skip


@st.composite
def histories(draw: st.DrawFn, base: Evidence | None = None) -> Evidence:
    """Evidence after some events, the last of them no later than NOW; now and then it begins with a healthy database."""
    steps = draw(st.lists(st.tuples(st.sampled_from([1, 30, 300, 7200, 86400]), events), max_size=8))
    length = sum(step for step, _ in steps)
    at = NOW - timedelta(seconds=length)
    evidence = base or (healthy(at) if draw(st.booleans()) else unknown(at))
    for step, event in steps:
        at += timedelta(seconds=step)
        evidence = event(evidence, at)
    return evidence
