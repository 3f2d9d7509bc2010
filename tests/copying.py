"""Copies in pieces, each held against SQLite's own copy of the very snapshot that it says it is of, and against sums that the app keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import apsw

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.live_descriptors import LiveDescriptors
from sidecar.adapters.local_changes import LocalChanges
from sidecar.adapters.page_file import page_file
from sidecar.adapters.sqlite_live import LiveSqlite
from sidecar.adapters.sqlite_pages import LivePages, PageReader
from sidecar.core.live_state import FileId
from sidecar.core.model import Database
from sidecar.core.ports_pages import Snapshot
from sidecar.pieces import Around, Pace
from sidecar.piecewise import Copied, Copier
from tests.page_reading import backup, same, split
from tests.parity_app import Process

# What the app keeps in the transactions that change `t`: a copy of two moments at once does not add up.
TALLY = (
    "create table tally (n integer, s integer)",
    "insert into tally select count(*), coalesce(sum(id * 31 + length(v)), 0) from t",
    "create trigger added after insert on t begin update tally set n = n + 1, s = s + new.id * 31 + length(new.v); end",
    "create trigger gone after delete on t begin update tally set n = n - 1, s = s - old.id * 31 - length(old.v); end",
    "create trigger other after update on t begin update tally set s = s + length(new.v) - length(old.v); end",
)
ADDS_UP = "select (select count(*) from t) = n and (select coalesce(sum(id * 31 + length(v)), 0) from t) = s from tally"


def keep_tally(app: Process) -> None:
    app.sql(*TALLY)


@dataclass
class WitnessedReader:
    real: PageReader
    witness: Witness

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        with self.real.snapshot() as real:
            yield real
            if self.witness.snapshots:
                self.witness.last = backup(self.real, real.index.page_size)
        self.witness.snapshots += 1
        self.witness.between(self.witness.snapshots)

    def file_id(self) -> FileId:
        return self.real.file_id()


@dataclass
class Witness:
    """Production page by page. Of each snapshot `last` is what SQLite copies within its read transaction.

    `between` happens after each snapshot; it is told how many there have been. The first one tells the page size.
    """

    real: LivePages
    last: list[bytes] = field(default_factory=list)
    snapshots: int = 0  # of this copy
    between: Callable[[int], object] = lambda _: None

    @contextmanager
    def opened(self, path: str) -> Iterator[WitnessedReader]:
        self.snapshots = 0
        with self.real.opened(path) as reader:
            yield WitnessedReader(reader, self)


def around(stop: Event | None = None, left_s: Callable[[], float] = lambda: 60.0) -> Around:
    return Around(SystemClock(), left_s, stop or Event(), lambda *_: None)


@dataclass
class Copies:
    """Makes copies of a database, one after the other."""

    database: Database
    folder: Path
    pace: Pace = field(default_factory=lambda: Pace(settle_s=30.0))
    hold_s: float = 1.5

    def __post_init__(self) -> None:
        live = LiveSqlite(LiveDescriptors())
        self.witness = Witness(LivePages(live))
        self.copier = Copier(self.witness, LocalChanges, page_file, live, self.pace, self.hold_s)
        self.target = self.folder / "copy"

    def one(self, stop: Event | None = None, left_s: Callable[[], float] = lambda: 60.0) -> Copied:
        self.target.unlink(missing_ok=True)
        return self.copier.copy(self.database, self.target, around(stop, left_s))

    @property
    def exact(self) -> bool:
        """Whether the last one is byte for byte what SQLite copied."""
        size = len(self.witness.last[0])
        return same(split(self.target.read_bytes(), size), self.witness.last)

    @property
    def wrong(self) -> list[object]:
        """What is wrong with it, as SQLite and the app's own sums say."""
        return complaints(self.target)


def complaints(file: Path) -> list[object]:
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    with closing(apsw.Connection(f"file:{file}?immutable=1", flags=flags)) as opened:
        found = [each for (each,) in opened.execute("pragma integrity_check") if each != "ok"]
        if not opened.execute(ADDS_UP).get:
            found.append(f"the sums differ: {opened.execute('select * from tally').get}")
        return found
