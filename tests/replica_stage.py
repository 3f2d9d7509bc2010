"""Replicas that a real Litestream made while it compacted, took snapshots and let old files go; and a store's wire, with a counter on it."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Self

from sidecar.adapters import litestream_yml
from sidecar.adapters.clock import SystemClock
from sidecar.adapters.litestream_v5 import LitestreamV5
from sidecar.adapters.replica_listing import LookLister
from sidecar.core.model import Database, ReplicaFile
from sidecar.core.ports import Clock
from tests.litestreams import SCRIPTS, App, Litestream, binary, environment, until
from tests.stores import S3

NEVER = Event()
LISTS = re.compile(rb"GET /bkt/?\?[^ ]*list-type=2")
# Compaction, snapshots and retention by the second; Litestream's own defaults are minutes and hours.
QUICK = "levels: [{interval: 1s}, {interval: 3s}]\nsnapshot: {interval: 2s, retention: 5s}\nl0-retention: 2s\nl0-retention-check-interval: 1s\n"


def command(path: str = "") -> LitestreamV5:
    return LitestreamV5(path or binary(), "0.5.17", environment())


def lister(clock: Clock | None = None, *, executable: str = "", **env: str) -> LookLister:
    return LookLister(command(executable), clock or SystemClock(), environment(**env))


def databases(home: Path, replica: str, *, entry: str = "", top: str = "", **env: str) -> tuple[Database, ...]:
    """What a litestream.yml in `home` names: by default `data/app.db` alone."""
    config = home / "litestream.yml"
    config.write_text(f"{top}dbs:\n  - {entry or f'path: {home}/data/app.db'}\n    replica: {replica}\n")
    return litestream_yml.read(config, environment(**env)).databases


def at_rest(home: Path) -> Database:
    """A database of twenty rows with a snapshot in a folder; nobody writes, and Litestream has ended."""
    (found,) = databases(home, f"{{type: file, path: {home}/replica}}")
    app = App(Path(found.path))
    app.write(20)
    running = Litestream(home / "litestream.yml").start()
    try:
        until(lambda: list((home / "replica" / "ltx" / "9").glob("*.ltx")), say="a snapshot")
    finally:
        running.stop()
        app.close()
    return found


def of_command(database: Database) -> tuple[ReplicaFile, ...]:
    """What Litestream's own command says, in the order of levels and positions."""
    files = command().list_files(database, timeout_s=30, stop=NEVER)
    return tuple(sorted(files, key=lambda each: (each.level, each.first.index, each.last.index)))


@contextlib.contextmanager
def fleet(home: Path, replica: str, count: int) -> Iterator[tuple[tuple[Database, ...], dict[str, App], Litestream]]:
    """So many databases in one folder, which one Litestream replicates by `dir:`; each has a snapshot, nobody writes."""
    (home / "data").mkdir(parents=True)
    apps = {}
    for number in range(count):
        app = App(home / "data" / f"db{number:03d}.db")
        app.write()
        apps[str(app.path)] = app
    found = databases(home, replica, entry=f"dir: {home}/data\n    pattern: '*.db'", top=QUICK)
    running = Litestream(home / "litestream.yml").start()
    try:
        yield found, apps, running
    finally:
        running.stop()
        for app in apps.values():
            app.close()


@dataclass
class Moto(S3):
    """moto's S3 server: another implementation, and one that keeps objects in memory."""

    @property
    def argv(self) -> list[str]:
        return [str(SCRIPTS / "moto_server"), "-H", "127.0.0.1", "-p", str(self.port)]

    def make_bucket(self) -> None:
        import boto3  # noqa: PLC0415 - half a second

        boto3.client(
            "s3", endpoint_url=f"http://{self.at}", aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key=self.password,
            region_name="us-east-1",
        ).create_bucket(Bucket="bkt")  # fmt: skip


@dataclass
class Wire:
    """Passes bytes on to a server, and counts the listings asked for; signatures stand, since the host in them is the wire's."""

    to: int
    lists: int = 0
    asked: list[bytes] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._door.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._door.close()
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._door.accept()
                far = socket.create_connection(("127.0.0.1", self.to))
                self._open += [near, far]
                threading.Thread(target=self._pass, args=(near, far, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(far, near, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, count: bool) -> None:  # noqa: FBT001
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if count:
                    found = LISTS.findall(data)
                    self.lists += len(found)
                    self.asked += found
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def has_snapshots(found: tuple[Database, ...]) -> bool:
    """Whether every database has one in its replica."""
    return all(any(each.level == 9 for each in of_command(database)) for database in found)


def settled(found: tuple[Database, ...]) -> None:
    until(lambda: has_snapshots(found), within=60, every=0.5, say="every replica has a snapshot")
