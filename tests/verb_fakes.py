"""Stand-ins for the ports of the verbs: each does what a test tells it to, and writes down what it was asked."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event

from sidecar.core.census import Census
from sidecar.core.live_state import LiveState
from sidecar.core.model import CheckKind, Content, Database, Position, ReplicaFile
from sidecar.core.policy import Assertion
from sidecar.core.ports import Plan, Progress
from tests.core.evidences import NOW, content, live
from tests.core.receipts import census
from tests.fakes import FakeClock

Step = Exception | Callable[[], None] | None  # what happens: an error, something else, or nothing but the good case


def happen(steps: list[Step]) -> None:
    """Take the next step; after the last one all goes well."""
    step = steps.pop(0) if steps else None
    if isinstance(step, Exception):
        raise step
    if step is not None:
        step()


def unseen(stage: str, done: int, total: int | None) -> None:
    """Nobody watches."""


def slow(clock: FakeClock, seconds: float) -> Callable[[], None]:
    """A step that takes this long."""
    return lambda: clock.go(timedelta(seconds=seconds))


@dataclass(frozen=True)
class FakePlan:
    """A restore decided upon."""

    position: Position
    size_bytes: int = 1000
    files: tuple[ReplicaFile, ...] = ()


@dataclass
class FakeReplica:
    """A replica whose newest position is 42, and one further with every plan."""

    plans: list[Step] = field(default_factory=list)
    restores: list[Step] = field(default_factory=list)
    listings: list[Step] = field(default_factory=list)
    files: tuple[ReplicaFile, ...] = (ReplicaFile(9, Position.of_txid(1), Position.of_txid(42), 5000, NOW),)
    version: str = "0.5.17"
    restored: list[Position] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)
    planned: int = 0

    def list_files(self, database: Database, *, timeout_s: float, stop: Event) -> tuple[ReplicaFile, ...]:  # noqa: ARG002 - the port's
        self.timeouts.append(timeout_s)
        happen(self.listings)
        return self.files

    def plan(self, database: Database, *, timeout_s: float, stop: Event) -> Plan:  # noqa: ARG002 - the port's
        self.timeouts.append(timeout_s)
        happen(self.plans)
        self.planned += 1
        return FakePlan(Position.of_txid(41 + self.planned))

    def plan_at(self, database: Database, position: Position, *, timeout_s: float, stop: Event) -> Plan:  # noqa: ARG002 - the port's
        self.timeouts.append(timeout_s)
        happen(self.plans)
        return FakePlan(position)

    def restore(
        self,
        database: Database,  # noqa: ARG002 - the port's
        plan: Plan,
        target: Path,
        *,
        timeout_s: float,
        stop: Event,  # noqa: ARG002 - the port's
        progress: Progress,
    ) -> None:
        assert not target.exists(), "a restore goes to a path where nothing stands"
        self.timeouts.append(timeout_s)
        progress("restore", 0, plan.size_bytes)
        happen(self.restores)
        target.write_bytes(b"x" * 40960)
        self.restored.append(plan.position)


@dataclass
class FakeIntegrity:
    """SQLite, to which every copy is sound and has ten pages."""

    checks: list[Step] = field(default_factory=list)
    contents: list[Step] = field(default_factory=list)
    censuses: list[Step] = field(default_factory=list)
    complaints: Sequence[str] = ()
    found: Content = field(default_factory=content)
    broken: dict[str, str] = field(default_factory=dict)  # assertion -> sentence
    kinds: list[CheckKind] = field(default_factory=list)

    def check(
        self,
        file: Path,
        kind: CheckKind,
        *,
        timeout_s: float,  # noqa: ARG002 - the port's
        stop: Event,  # noqa: ARG002 - the port's
        progress: Progress,  # noqa: ARG002 - the port's
    ) -> tuple[str, ...]:
        assert file.exists()
        self.kinds.append(kind)
        happen(self.checks)
        return tuple(self.complaints)

    def content(
        self,
        file: Path,
        *,
        schema_version: str,  # noqa: ARG002 - the port's
        now: datetime,  # noqa: ARG002 - the port's
        timeout_s: float,  # noqa: ARG002 - the port's
        stop: Event,  # noqa: ARG002 - the port's
    ) -> Content:
        assert file.exists()
        happen(self.contents)
        return self.found

    def census(
        self,
        file: Path,
        *,
        schema_version: str,  # noqa: ARG002 - the port's
        now: datetime,
        inode: int | None,
        timeout_s: float,  # noqa: ARG002 - the port's
        stop: Event,  # noqa: ARG002 - the port's
    ) -> Census:
        assert file.exists()
        happen(self.censuses)
        return census(now=now, inode=inode)

    def assertion(self, file: Path, assertion: Assertion, *, timeout_s: float, stop: Event) -> str | None:  # noqa: ARG002 - the port's
        assert file.exists()
        return self.broken.get(assertion.name)


@dataclass
class FakeScratch:
    """Real rooms in a temporary folder; remembers how much was asked for, and which rooms there were."""

    enters: list[Step] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    rooms: list[Path] = field(default_factory=list)

    @contextlib.contextmanager
    def room(self, need_bytes: int) -> Iterator[Path]:
        self.asked.append(need_bytes)
        happen(self.enters)
        with tempfile.TemporaryDirectory() as folder:
            self.rooms.append(Path(folder))
            yield Path(folder)

    def free_bytes(self) -> int:
        return 10**12

    @property
    def empty(self) -> bool:
        """Whether nothing is left of any room."""
        return not any(room.exists() for room in self.rooms)


@dataclass
class FakeProduction:
    """The live database through SQLite: ten pages, sound."""

    copies: list[Step] = field(default_factory=list)
    contents: list[Step] = field(default_factory=list)
    read: int = 0

    def content(self, path: str, *, schema_version: str, now: datetime) -> Content:  # noqa: ARG002 - the port's
        self.read += 1
        happen(self.contents)
        return content(now, tables={"users": -1, "orders": -1})

    def copy(
        self,
        path: str,  # noqa: ARG002 - the port's
        target: Path,
        *,
        timeout_s: float,  # noqa: ARG002 - the port's
        stop: Event,  # noqa: ARG002 - the port's
        progress: Progress,  # noqa: ARG002 - the port's
        hold_s: float | None = None,  # noqa: ARG002 - the port's
    ) -> int:
        happen(self.copies)
        return target.write_bytes(b"x" * 40960)


@dataclass
class FakeLive:
    """What the local files say, one state after the other; the last one stays."""

    clock: FakeClock
    states: list[LiveState] = field(default_factory=list)

    def read(self, database: Database) -> LiveState:  # noqa: ARG002 - the port's
        if not self.states:
            return live(self.clock.now(), modified_at=NOW - timedelta(hours=1))
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]
