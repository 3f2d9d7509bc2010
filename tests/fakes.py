"""Stand-ins that hold values and nothing else: a clock that is set by hand, a ledger in memory, a fleet and its evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from sidecar.answers import Answers
from sidecar.core.case import Scratch
from sidecar.core.evidence import Evidence
from sidecar.core.live_state import Capture, FileId, LiveState, WalIndex
from sidecar.core.model import (
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
from sidecar.desk import DrillDesk
from sidecar.fleet import Fleet, FleetKeeper

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
SALTS = b"saltsalt"


@dataclass
class FakeClock:
    """Stands still until it is told to go on."""

    at: datetime = NOW
    seconds: float = 1000.0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.seconds

    def go(self, by: timedelta) -> None:
        self.at += by
        self.seconds += by.total_seconds()


@dataclass
class MemoryLedger:
    """Evidence by path and drills, newest first."""

    evidence: dict[str, Evidence] = field(default_factory=dict)
    drills: list[tuple[str, str, Drill]] = field(default_factory=list)  # (path, name, drill)
    reads: int = 0

    def snapshot(self) -> Mapping[str, Evidence]:
        self.reads += 1
        return dict(self.evidence)

    def history(self, path: str | None, limit: int) -> Sequence[tuple[str, Drill]]:
        return [(name, drill) for where, name, drill in self.drills if path in {None, where}][:limit]

    def drill(self, drill_id: str) -> tuple[str, Drill] | None:
        return next(((name, each) for name, each in self.history(None, 10_000) if each.id == drill_id), None)

    def record(self, path: str, change: Callable[[Evidence], Evidence]) -> Evidence:
        self.evidence[path] = change(self.evidence.get(path, Evidence(first_seen_at=NOW)))
        return self.evidence[path]


def database(name: str = "app", path: str = "") -> Database:
    path = path or f"/data/{name}.db"
    return Database(name, path, f"{path}-litestream", Replica("s3", f"s3://bucket/{name}"))


def content(value: str = "7") -> Content:
    return Content(
        NOW, 0, 7, 4096, 1024, "digest", SchemaVersion("user_version", value), {"users": 3, "orders": 4}, "3.54.1"
    )


def drill(drill_id: str = "d1", at: datetime = NOW) -> Drill:
    """A drill that passed, ended just now."""
    return Drill(
        id=drill_id, outcome=Outcome.PASSED, reason=None, message="restored and sound", hint="",
        position=Position.of_txid(42), started_at=at - timedelta(seconds=3), finished_at=at, plan_seconds=0.05,
        restore_seconds=1.2, check_seconds=0.4, size_bytes=4194304, content=content(), litestream_version="0.5.17",
        parity=Parity(ParityResult.EQUAL, 1024, 1024, message="1024 of 1024 pages are what production held"), parity_seconds=0.3,
        memory_bytes=40_000_000,
    )  # fmt: skip


def healthy(at: datetime = NOW) -> Evidence:
    """Everything is known and well at this instant."""
    capture = Capture(Position.of_txid(42), at, SALTS, 32 + 4120, 1024)
    live = LiveState(at, FileId(1, 2), 4194304, 4152, at, WalIndex(SALTS, 1, 4096), (capture,))
    listing = Listing(
        read_at=at, position=Position.of_txid(42), at=at, reachable=Position.of_txid(42), gap=None, overlap=None,
        snapshot=Position.of_txid(1), snapshot_at=at - timedelta(hours=1), beyond_base_at=at - timedelta(minutes=50),
        oldest_restorable_at=at - timedelta(hours=1), files={0: 3, 1: 2, 9: 1}, size_bytes=2_000_000, last_at=at,
    )  # fmt: skip
    sound = DatabaseCheck(at, True, None, seconds=0.3, size_bytes=4194304, sqlite_version="3.54.1")
    known = Evidence(first_seen_at=at - timedelta(days=1))
    known = known.after_claim(Claim(at, ClaimSource.SOCKET, up=True, managed=True, version="0.5.17", txid=42))
    known = known.after_sighting(live, Sighting(at, LookResult.OK, listing=listing, finished_at=at))
    return known.after_content(content(), None).after_drill(drill(at=at)).after_database_check(sound)


@dataclass
class House:
    """A fleet, a ledger, a clock and a desk, and the answers over them."""

    clock: FakeClock = field(default_factory=FakeClock)
    ledger: MemoryLedger = field(default_factory=MemoryLedger)
    fleet: Fleet = field(default_factory=lambda: Fleet({}, {}, 60.0, None, None, (), rescan=False, folders=()))
    room: Scratch | None = field(default_factory=lambda: Scratch(NOW, 10**12))

    def __post_init__(self) -> None:
        self.made = 0
        self.keeper = FleetKeeper(lambda: self.fleet, self.clock)
        self.desk = DrillDesk(self._new_id)
        self.answers = Answers(self.keeper, self.ledger, self.clock, self.desk, lambda: self.room, "1.2.3")

    def _new_id(self) -> str:
        self.made += 1
        return f"drill-{self.made}"

    def add(
        self, name: str = "app", known: Evidence | None = None, policy: Policy | None = None, path: str = ""
    ) -> Database:
        """Put a database into the fleet, with what is known of it (None: nothing)."""
        made = database(name, path)
        policies = {**self.fleet.policies, made.path: policy or Policy()}
        self.set(replace(self.fleet, databases={**self.fleet.databases, made.path: made}, policies=policies))
        if known is not None:
            self.ledger.evidence[made.path] = known
            if known.last_drill is not None:
                self.ledger.drills.insert(0, (made.path, name, known.last_drill))
        return made

    def remove(self, name: str) -> None:
        self.set(replace(self.fleet, databases={p: d for p, d in self.fleet.databases.items() if d.name != name}))

    def set(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.keeper.poll(force=True)
