"""Many small databases in one folder, as an app with a database per tenant has them; and the writer that keeps some of them busy.

python -m tests.bench.tenants FOLDER COUNT     commits to every `BUSY_EACH`th database about once a second, until it is ended
"""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.litestreams import ROOT, Litestream, until

BUSY_EACH = 50
EACH_MAX = 4000  # databases of one Litestream
ROWS = 20
COMMIT_EVERY_S = 1.0
SNAPSHOT_S = 600.0  # until Litestream has a first snapshot of all of them


@dataclass(frozen=True)
class Tenants:
    """The folder: databases in `data`, their replicas in `replica`, Litestream's configuration with one `dir:` for all.

    More than `EACH_MAX` are too many for one Litestream, which keeps four files of each open: then there are several, each with a
    `dir:` of its own, and the daemon, whose litestream.yml names them all, has none that it could ask.
    """

    folder: Path
    count: int

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def replica(self) -> Path:
        return self.folder / "replica"

    @property
    def shards(self) -> int:
        return -(-self.count // EACH_MAX)

    def shard(self, number: int) -> str:
        """The folder below `data` and `replica` that a database lies in."""
        return f"s{number % self.shards}"

    def path(self, number: int) -> Path:
        return self.data / self.shard(number) / f"{name_of(number)}.db"

    @property
    def config(self) -> Path:
        """The daemon's, and where there is one Litestream its own."""
        return self.folder / "litestream.yml"

    def configs(self) -> list[Path]:
        """Of each Litestream."""
        return [self.config] if self.shards == 1 else [self.folder / f"s{each}.yml" for each in range(self.shards)]

    def level(self, number: int, level: int) -> Path:
        return self.replica / self.shard(number) / f"{name_of(number)}.db" / "ltx" / str(level)

    @property
    def levels(self) -> list[Path]:
        """Every folder of the replicas that holds backup files."""
        return list(self.replica.glob("*/*/ltx/*"))


def name_of(number: int) -> str:
    return f"t{number:05d}"


def made(folder: Path, count: int, *, watch: bool) -> Tenants:
    """Databases that differ in what they hold, and Litestream's configuration; nothing runs yet."""
    tenants = Tenants(folder, count)
    for number in range(tenants.shards):
        (tenants.data / tenants.shard(number)).mkdir(parents=True)
    for number in range(count):
        with contextlib.closing(sqlite3.connect(tenants.path(number), isolation_level=None)) as db:
            db.execute("pragma synchronous = off")
            db.execute("pragma journal_mode = wal")
            db.execute("begin")
            db.execute("create table t (id integer primary key, v text)")
            db.execute("create table about (tenant integer)")
            db.execute("insert into about values (?)", (number,))
            db.executemany("insert into t (v) values (hex(randomblob(?)))", [(50,)] * ROWS)
            db.execute("commit")
    entries = [
        f"  - dir: {tenants.data / tenants.shard(each)}\n    pattern: '*.db'\n    watch: {str(watch).lower()}\n"
        f"    replica: {{type: file, path: {tenants.replica / tenants.shard(each)}}}\n"
        for each in range(tenants.shards)
    ]
    socket = f"socket: {{enabled: true, path: {folder / 'l.sock'}}}\n" if tenants.shards == 1 else ""
    tenants.config.write_text(f"{socket}dbs:\n{''.join(entries)}")
    if tenants.shards > 1:
        for config, entry in zip(tenants.configs(), entries, strict=True):
            config.write_text(f"dbs:\n{entry}")
    return tenants


@contextlib.contextmanager
def replicated(tenants: Tenants) -> Iterator[list[Litestream]]:
    """Litestream at work on all of them, each with its first snapshot."""
    working = [Litestream(config).start() for config in tenants.configs()]
    try:
        until(
            lambda: sum(1 for _ in tenants.replica.glob("*/*/ltx/9/*.ltx")) >= tenants.count,
            within=SNAPSHOT_S, every=0.5, say="the first snapshots",
        )  # fmt: skip
        yield working
    finally:
        for each in working:
            each.kill()


@contextlib.contextmanager
def busy(tenants: Tenants) -> Iterator[subprocess.Popen[bytes]]:
    """The writer as a process."""
    writer = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.tenants", str(tenants.folder), str(tenants.count)], cwd=ROOT
    )
    try:
        yield writer
    finally:
        writer.send_signal(signal.SIGTERM)
        writer.wait(timeout=20)


def main() -> None:
    tenants = Tenants(Path(sys.argv[1]), int(sys.argv[2]))
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    databases = []
    for number in range(0, tenants.count, BUSY_EACH):
        db = sqlite3.connect(tenants.path(number), isolation_level=None, timeout=30)
        db.execute("pragma synchronous = normal")
        db.execute("pragma wal_autocheckpoint = 0")  # as Litestream advises: it checkpoints itself
        databases.append(db)
    pause, due = COMMIT_EVERY_S / len(databases), time.monotonic()
    while True:
        for db in databases:
            due += pause
            if ended.wait(max(due - time.monotonic(), 0)):
                return
            db.execute("update t set v = hex(randomblob(50)) where id = 1 + abs(random() % ?)", (ROWS,))


if __name__ == "__main__":
    main()
