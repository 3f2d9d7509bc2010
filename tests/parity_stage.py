"""Comparisons for real: an app, the real Litestream and the real driller in one folder, and what a test may put in between."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Event

from sidecar.adapters import litestream_yml
from sidecar.adapters.clock import SystemClock
from sidecar.adapters.fingerprints import fingerprints
from sidecar.adapters.litestream_v3 import LitestreamV3
from sidecar.adapters.litestream_v5 import LitestreamV5
from sidecar.adapters.live_descriptors import LiveDescriptors
from sidecar.adapters.live_files import LiveFiles
from sidecar.adapters.local_changes import LocalChanges
from sidecar.adapters.scratch import Scratch
from sidecar.adapters.sqlite_copy import CopySqlite
from sidecar.adapters.sqlite_live import LiveSqlite
from sidecar.adapters.sqlite_page_keeper import PageKeeper
from sidecar.adapters.sqlite_pages import LivePages
from sidecar.core.model import Database, Drill, Position, ReplicaFile
from sidecar.core.parity import Parity
from sidecar.core.policy import Policy
from sidecar.core.ports import Plan, Progress, ReplicaReader
from sidecar.drill import Driller
from sidecar.drill_attempt import Order
from sidecar.parity import Comparer
from sidecar.pieces import Pace
from tests.litestreams import Litestream, binary, binary_of, environment, until
from tests.parity_app import Process

ROOM = 20 * 1024**3
V5, V3 = "0.5.17", "0.3.13"
# Everything that happens once an hour or once a day, within a drill.
BUSY_YML = "snapshot: {interval: 3s, retention: 10s}\nlevels: [{interval: 1s}, {interval: 3s}]\nl0-retention-check-interval: 2s\n"
BUSY_DB = "    checkpoint-interval: 2s\n    min-checkpoint-page-count: 50\n"
V3_SYNCS_S = 1.2  # one to the shadow and one to the replica, several times over
BRISK_DB = "    monitor-interval: 200ms\n"

Happening = Callable[[Path], object]

MAX_LAG = timedelta(seconds=5)  # so long a drill waits for the replica to have what production was read as of


def nothing(copy: Path) -> None:
    """The copy stays as it was restored."""
    del copy


@dataclass
class Meddler:
    """A reader of the replica that does something to every copy just after the real one has restored it."""

    real: ReplicaReader
    after_restore: Happening = nothing
    restored: list[Position] = field(default_factory=list)
    version: str = ""

    def __post_init__(self) -> None:
        self.version = self.real.version

    def list_files(self, database: Database, *, timeout_s: float, stop: Event) -> tuple[ReplicaFile, ...]:
        return self.real.list_files(database, timeout_s=timeout_s, stop=stop)

    def plan(self, database: Database, *, timeout_s: float, stop: Event) -> Plan:
        return self.real.plan(database, timeout_s=timeout_s, stop=stop)

    def plan_at(self, database: Database, position: Position, *, timeout_s: float, stop: Event) -> Plan:
        return self.real.plan_at(database, position, timeout_s=timeout_s, stop=stop)

    def restore(
        self, database: Database, plan: Plan, target: Path, *, timeout_s: float, stop: Event, progress: Progress
    ) -> None:
        self.real.restore(database, plan, target, timeout_s=timeout_s, stop=stop, progress=progress)
        self.restored.append(plan.position)
        self.after_restore(target)


@dataclass
class Scene:
    """One database, replicated. `folder` holds everything."""

    folder: Path
    app: Process
    litestream: Litestream
    version: str
    replica: Path
    meddler: Meddler
    driller: Driller

    @property
    def database(self) -> Database:
        read = litestream_yml.read(
            self.litestream.config, environment(), generation="0.3" if self.version == V3 else "0.5"
        )
        return read.databases[0]

    @property
    def kept(self) -> Path:
        return self.folder / "pages"

    def drill(self, name: str = "drill") -> Drill:
        order = Order(self.database, Policy(max_lag=MAX_LAG), id=name, parity=True)
        return self.driller.run(order, stop=threading.Event(), progress=lambda *_: None)

    def parity(self, name: str = "drill") -> Parity:
        found = self.drill(name)
        assert found.parity is not None, f"{found.reason}: {found.message}"
        return found.parity

    def level0(self, where: Path | None = None) -> list[Path]:
        """Level-0 files, oldest first: of the local folder, or of a replica."""
        root = where or Path(self.database.meta_path)
        return sorted((root / "ltx" / "0").glob("*.ltx"))

    def synced(self) -> None:
        """Wait until the replica has what was committed so far, and a snapshot below it."""
        if self.version == V3:
            snapshots = self.replica / "generations"
            until(lambda: list(snapshots.glob("*/snapshots/*")), say="the first snapshot")
            threading.Event().wait(V3_SYNCS_S)
            return
        quiet = _Quiet(self)
        until(quiet, within=30, every=0.1, say="Litestream has caught up")


@dataclass
class _Quiet:
    """True once nothing has been captured for a while, and all of it is in the replica."""

    scene: Scene
    last: tuple[str, ...] = ()
    times: int = 0

    def __call__(self) -> bool:
        here = tuple(each.name for each in self.scene.level0())
        there = {each.name for each in self.scene.level0(self.scene.replica)}
        done = (
            bool(here) and here == self.last and here[-1] in there and any((self.scene.replica / "ltx").glob("9/*.ltx"))
        )
        self.times = self.times + 1 if done else 0
        self.last = here
        return self.times > 7


def driller(
    folder: Path, version: str, after_restore: Happening = nothing, pace: Pace | None = None
) -> tuple[Driller, Meddler]:
    """The real thing, as the assembly puts it together, around a reader that may meddle."""
    clock, descriptors = SystemClock(), LiveDescriptors()
    kind, path = (LitestreamV3, binary_of(V3)) if version == V3 else (LitestreamV5, binary())
    meddler = Meddler(kind(path, version, environment()), after_restore)
    live = LiveFiles(descriptors.read, clock)
    comparer = Comparer(
        LivePages(LiveSqlite(descriptors)), LocalChanges, fingerprints, PageKeeper(folder / "pages"), pace or Pace()
    )
    made = Driller(meddler, live, CopySqlite(), Scratch(folder / "scratch", ROOM), clock, comparer)
    return made, meddler


@contextlib.contextmanager
def playing(
    folder: Path,
    *,
    version: str = V5,
    page_size: int = 4096,
    auto_vacuum: str = "none",
    rows: int = 500,
    busy: bool = False,
    brisk: bool = True,
    after_restore: Happening = nothing,
    pace: Pace | None = None,
) -> Iterator[Scene]:
    """A scene whose app holds its connection; Litestream has caught up when the block begins."""
    path = folder / "data" / "app.db"
    app = Process(path, page_size, auto_vacuum).__enter__()
    app.write(rows)
    config, replica = folder / "litestream.yml", folder / "replica"
    config.write_text(_yml(path, replica, version, busy=busy, brisk=brisk))
    litestream = Litestream(config, executable=binary_of(V3) if version == V3 else binary()).start()
    try:
        made, meddler = driller(folder, version, after_restore, pace)
        scene = Scene(folder, app, litestream, version, replica, meddler, made)
        scene.synced()
        yield scene
    finally:
        litestream.kill()
        app.close()


def _yml(path: Path, replica: Path, version: str, *, busy: bool, brisk: bool) -> str:
    settings = (BUSY_DB if busy else "") + (BRISK_DB if brisk else "")
    sync = ", sync-interval: 200ms" if brisk else ""
    if version == V3:
        often = ", snapshot-interval: 3s, retention: 20s, retention-check-interval: 5s" if busy else ""
        return f"dbs:\n  - path: {path}\n{settings}    replicas: [{{type: file, path: {replica}{often}{sync}}}]\n"
    replicated = f"dbs:\n  - path: {path}\n{settings}    replica: {{type: file, path: {replica}{sync}}}\n"
    return f"{BUSY_YML if busy else ''}{replicated}"
