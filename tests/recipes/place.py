"""A place to deploy to: a project, its database in WAL mode with an app that has it open, the real Litestream, in one folder."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.faces.commands import Ran
from tests.litestreams import Litestream, binary, until
from tests.recipes.tools import environment

SIDECAR_YML = "policy: {{max-lag: 1h, look-every: 2s}}\nlitestream: {{binary: {binary}, command-timeout: 10s}}\n"
# A process of its own: this one may then read the database's files without dropping the app's locks.
APP = """
import json, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
connection.execute("pragma journal_mode = wal")
connection.execute("select count(*) from sqlite_schema").fetchall()
for line in sys.stdin:
    said = list(connection.iterdump()) if line == "dump\\n" else connection.execute(line).fetchall()
    print(json.dumps(said), flush=True)
"""


@dataclass
class App:
    """An app that has its database open, and does what it is told."""

    path: Path
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", APP, str(self.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.execute("pragma journal_mode")

    def execute(self, sql: str) -> list[Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(sql + "\n")
        self.process.stdin.flush()
        said: list[Any] = json.loads(self.process.stdout.readline())
        return said

    def dump(self) -> list[str]:
        """Every statement that makes this database, but those of Litestream's own tables."""
        return [line for line in self.execute("dump") if "_litestream_" not in line]

    def stop(self) -> None:
        """End of input: a clean close, as on SIGTERM."""
        if self.process.poll() is None:
            self.process.communicate(timeout=10)


@dataclass
class Place:
    """The folder and what runs in it."""

    folder: Path
    app: App | None = None
    _litestream: Litestream | None = None

    def __post_init__(self) -> None:
        for each in (self.project, self.database.parent, self.state):
            each.mkdir(parents=True, exist_ok=True)
        self.litestream_yml.write_text(
            f"socket: {{enabled: true, path: {self.folder}/l.sock}}\n"
            f"dbs:\n  - path: {self.database}\n"
            f"    replica: {{type: file, path: {self.replica}, sync-interval: 200ms}}\n"
        )
        self.sidecar_yml.write_text(SIDECAR_YML.format(binary=binary()))

    @property
    def project(self) -> Path:
        return self.folder / "project"

    @property
    def database(self) -> Path:
        return self.folder / "data" / "app.db"

    @property
    def replica(self) -> Path:
        return self.folder / "replica"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def litestream_yml(self) -> Path:
        return self.folder / "litestream.yml"

    @property
    def sidecar_yml(self) -> Path:
        return self.folder / "sidecar.yml"

    @property
    def options(self) -> list[str]:
        return ["--litestream-config", str(self.litestream_yml), "--config", str(self.sidecar_yml),
                "--state-dir", str(self.state)]  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        """The same options as a recipe gives them."""
        return environment(
            LITESTREAM_SIDECAR_LITESTREAM_CONFIG=str(self.litestream_yml),
            LITESTREAM_SIDECAR_CONFIG=str(self.sidecar_yml),
            LITESTREAM_SIDECAR_STATE_DIR=str(self.state),
        )

    def start(self) -> None:
        """The app opens its database, Litestream replicates it."""
        self.app = App(self.database)
        self.replicate()

    def replicate(self) -> None:
        """Start Litestream, and wait until everything is carried away and in a snapshot: an idle database then makes no new one."""
        socket = self.folder / "l.sock"
        socket.unlink(missing_ok=True)
        self._litestream = Litestream(self.litestream_yml).start()
        until(socket.exists, say="Litestream listens")
        body = {"path": str(self.database), "wait": True, "timeout": 10}
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket))) as client:
            until(lambda: client.post("http://litestream/sync", json=body, timeout=12).status_code == 200, say="synced")
        until(lambda: any((self.replica / "ltx" / "9").glob("*.ltx")), say="there is a snapshot")

    def stop(self) -> None:
        """The app first, so that Litestream carries its last commits away."""
        if self.app is not None:
            self.app.stop()
        self.app = None
        self.stop_litestream()

    @property
    def litestream_log(self) -> str:
        return self.litestream_yml.with_suffix(".log").read_text(errors="replace")

    def stop_litestream(self) -> None:
        if self._litestream is not None:
            self._litestream.stop()
        self._litestream = None

    def fingerprint(self) -> dict[str, str]:
        """Production and its backup, to the byte; not `-shm`, which every reader marks."""
        files = [self.database, self.database.with_name("app.db-wal"), *self.replica.rglob("*.ltx")]
        return {str(each): sha256(each) for each in files if each.exists()}

    def run(
        self, *arguments: object, env: Mapping[str, str] | None = None, cwd: Path | None = None, within: float = 90
    ) -> Ran:
        """A command in the project's folder."""
        done = subprocess.run(
            [*map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=within,
            cwd=cwd or self.project, env=environment(**(env or {})), check=False,
        )  # fmt: skip
        return Ran(done.returncode, done.stdout, done.stderr)

    def sidecar(self, command: str, *arguments: object, env: Mapping[str, str] | None = None) -> Ran:
        """One of our commands, with this place's options, in the project's folder."""
        return self.run("litestream-sidecar", command, *self.options, *arguments, env=env)

    def receipt(self) -> tuple[Path, dict[str, Any]]:
        """The one receipt that was written."""
        (path,) = (self.state / "receipts").glob("*.json")
        return path, json.loads(path.read_text())

    def version(self) -> int:
        """`PRAGMA user_version` of production, as the app reads it."""
        assert self.app is not None
        ((version,),) = self.app.execute("pragma user_version")
        return int(version)

    def break_backup(self) -> None:
        """A bit flipped in the middle of every file of the replica."""
        found = sorted(self.replica.rglob("*.ltx"))
        assert found
        for each in found:
            content = bytearray(each.read_bytes())
            content[len(content) // 2] ^= 0x10
            each.write_bytes(bytes(content))


def copy_of(place: Place, folder: Path) -> Place:
    """The same project, database, local Litestream files and replica in another folder."""
    for part in ("data", "replica", "project"):
        shutil.copytree(place.folder / part, folder / part, symlinks=True)
    return Place(folder)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
