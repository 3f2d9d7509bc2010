"""A deploy as a user meets it: an app that runs, Litestream beside it, a migration, and the commands around it."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faces.commands import Ran, Scene, copy_of
from tests.litestreams import App, Litestream, until

ROWS = 60
GOOD = "alter table users add column email text; pragma user_version = 4"
FORGETS = "alter table users add column email text"
LOSES = "delete from notes where id > 5; pragma user_version = 4"
BREAKS = "pragma foreign_keys = off; delete from users where id = 7; pragma user_version = 4"
FAILS = "alter table users add column email text; insert into nowhere values (1)"


def fill(app: App) -> None:
    """Three tables, foreign keys between two of them, and version 3."""
    app.connection.executescript(
        "create table users (id integer primary key, name text);"
        "create table orders (id integer primary key, user_id integer not null references users (id), what text);"
        "create table notes (id integer primary key, what text);"
        "pragma user_version = 3;"
    )
    app.connection.execute("begin")
    for number in range(1, ROWS + 1):
        app.connection.execute("insert into users values (?, 'somebody')", (number,))
        app.connection.execute("insert into orders values (?, ?, 'something')", (number, number))
        app.connection.execute("insert into notes values (?, 'something')", (number,))
    app.connection.execute("commit")


@dataclass
class Deploy:
    """One database `app` with all that stands around it."""

    scene: Scene
    app: App
    litestream: Litestream

    @property
    def database(self) -> Path:
        return self.scene.database()

    @property
    def rollback_folder(self) -> Path:
        return self.scene.state / "rollback"

    @property
    def kept(self) -> list[Path]:
        """Rollback artifacts, oldest first."""
        return sorted(self.rollback_folder.rglob("*.artifact")) if self.rollback_folder.exists() else []

    @property
    def receipts(self) -> list[Path]:
        """Receipts in their default place, oldest first."""
        return sorted((self.scene.state / "receipts").glob("*.json"))

    def gate(self, *arguments: object, env: Mapping[str, str] | None = None) -> Ran:
        return self.scene.run("gate", "app", *arguments, env=env)

    def migrate(self, sql: str, *options: object) -> Ran:
        """`gate … -- python -c …` with a migration in SQL."""
        return self.gate(*options, "--", *migration(self.database, sql))

    def gated(self, *options: object) -> Path:
        """Pass the gate; the receipt."""
        ran = self.gate(*options, "--json")
        assert ran.code == 0, ran
        return Path(ran.document["receipt"])

    def postcheck(self, receipt: Path, *options: object) -> Ran:
        return self.scene.run("postcheck", "--receipt", receipt, *options)

    def decisions(self) -> list[dict[str, Any]]:
        """The history of deploys, newest first."""
        found: list[dict[str, Any]] = self.scene.run("history", "--deploys", "--json").document
        return found

    def files(self) -> list[Path]:
        """Backup files in the replica."""
        return sorted(self.scene.replica().rglob("*.ltx"))

    def _rests(self) -> bool:
        """Whether no file came for a while."""
        before = self.files()
        threading.Event().wait(1.5)
        return self.files() == before

    def break_backup(self) -> None:
        """A bit in every backup file, once Litestream has written its first of each kind: later it would write whole ones."""
        kinds = [self.scene.replica() / "ltx" / level for level in ("0", "1", "9")]
        until(lambda: all(any(each.glob("*.ltx")) for each in kinds), within=60, say="there are files of every kind")
        until(self._rests, within=60, say="Litestream has written what it begins with")
        for each in self.files():
            content = bytearray(each.read_bytes())
            content[len(content) // 2] ^= 0x10
            each.write_bytes(bytes(content))


def migration(database: Path, sql: str) -> Sequence[str]:
    """A migration as an app would run it: a program that opens the database and writes to it."""
    program = f"import sqlite3; c = sqlite3.connect({str(database)!r}, isolation_level=None); c.executescript({sql!r})"
    return [sys.executable, "-c", program]


def rows(database: Path, table: str = "users") -> int:
    """Rows of a table in a file that nobody has open."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro&immutable=1", uri=True)) as connection:
        (count,) = connection.execute(f"select count(*) from {table}").fetchone()
        return int(count)


def check(document: dict[str, Any], name: str, db: int = 0) -> dict[str, Any]:
    """One check of a document in the shape of /ready."""
    found: dict[str, Any] = next(each for each in document["databases"][db]["checks"] if each["name"] == name)
    return found


def read(receipt: Path) -> dict[str, Any]:
    """A receipt's document."""
    document: dict[str, Any] = json.loads(receipt.read_text())
    return document


def deployable(folder: Path) -> Scene:
    """The database, replicated once by the real Litestream, which has stopped."""
    app = App(folder / "data" / "app.db")
    fill(app)
    scene = Scene(folder)
    scene.write_litestream_yml(names=("app",))
    litestream = scene.litestream()
    until(lambda: any(scene.replica().rglob("*.ltx")), say="it is replicated")
    litestream.stop()
    app.close()
    return scene


@contextlib.contextmanager
def deploying(made: Scene, folder: Path) -> Iterator[Deploy]:
    """The same in a folder of its own, with the app and Litestream running."""
    scene = copy_of(made, folder)
    scene.write_litestream_yml(names=("app",))
    app = App(scene.database())
    litestream = scene.litestream()
    try:
        until((folder / "l.sock").exists, say="Litestream's control socket is there")
        yield Deploy(scene, app, litestream)
    finally:
        litestream.kill()
        app.close()
