"""A stage: an app, the real Litestream and the real daemon as a process, in one folder, with seconds for hours."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.litestreams import ROOT, App, Litestream, binary, environment, free_port, until

POLICY = """\
policy:
  look-every: 1s
  max-lag: 4s
  drill-every: 1h
  drill-max-age: 2h
  database-check-every: 1h
{more}
litestream: {{binary: {binary}, command-timeout: 3s}}
{rest}
"""


ASK = httpx.Client(verify=False, limits=httpx.Limits(max_keepalive_connections=0))


def pause(seconds: float) -> None:
    """Let real time pass: these tests are about time."""
    threading.Event().wait(seconds)


TOLERANCE_S = 12.0  # max-lag + one look + command-timeout, and a busy machine


@dataclass
class Sidecar:
    """`python -m sidecar run` as a process."""

    litestream_yml: Path
    sidecar_yml: Path
    state_dir: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    env: dict[str, str] = field(default_factory=environment)
    program: tuple[str, ...] = (sys.executable, "-m", "sidecar")  # what ends in the daemon, with the same pid

    def start(self) -> None:
        with (self.state_dir.parent / "sidecar.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.program, "run", *self.options, "--listen", f"127.0.0.1:{self.port}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env=self.env, start_new_session=True,
            )  # fmt: skip
        until(self.alive, within=15, say="/livez answers")

    @property
    def options(self) -> list[str]:
        return ["--litestream-config", str(self.litestream_yml), "--config", str(self.sidecar_yml),
                "--state-dir", str(self.state_dir), "--log-level", "debug"]  # fmt: skip

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.state_dir.parent / "sidecar.log").read_text(errors="replace")

    def alive(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the daemon ended: {self.log}"
        with contextlib.suppress(httpx.TransportError):
            return ASK.get(f"{self.url}/livez", timeout=2).status_code == 200
        return False

    def ready(self, **parameters: Any) -> httpx.Response:
        return ASK.get(f"{self.url}/ready", params=parameters, timeout=5)

    def check(self, name: str, db: str = "app") -> dict[str, Any]:
        """One check of one database."""
        for each in self.ready().json()["databases"]:
            if each["name"] == db:
                return next(check for check in each["checks"] if check["name"] == name)
        raise AssertionError(f"no database {db}")

    def until_ready(self, *, within: float = 25) -> dict[str, Any]:
        end = time.monotonic() + within
        while (answer := self.ready()).status_code != 200:
            assert time.monotonic() < end, (
                f"not ready within {within:g} s: {answer.json()['reason']}; {self.log[-1500:]}"
            )
            pause(0.1)
        document: dict[str, Any] = answer.json()
        return document

    def until_check(
        self, name: str, status: str, reason: str | None = None, *, within: float = TOLERANCE_S, db: str = "app"
    ) -> dict[str, Any]:
        """Wait for a check to show this status and reason; /ready must answer within two seconds all the while.

        A busy machine may keep us or it waiting once or twice; a /ready that waits for something is late every time.
        """
        end, late = time.monotonic() + within, 0
        while True:
            asked = time.monotonic()
            found = self.check(name, db)
            late += time.monotonic() - asked > 2.0
            assert late < 3, "/ready took longer than two seconds, three times"
            if found["status"] == status and (reason is None or found["reason"] == reason):
                return found
            assert time.monotonic() < end, (
                f"{name} is not {status}/{reason} within {within:g} s: {found}; {self.log[-1500:]}"
            )
            pause(0.1)

    def post_drill(self, db: str = "app") -> httpx.Response:
        """Ask for a drill; 202, and where it can be followed."""
        answer = ASK.post(f"{self.url}/drills", json={"db": db}, timeout=5)
        assert answer.status_code == 202, answer.text
        return answer

    def drill(self, db: str = "app", *, within: float = 20) -> dict[str, Any]:
        """Ask for a drill that begins from now on, and wait for its end; what it found."""
        self.until_no_drill(db)
        return self.ended(self.post_drill(db).headers["location"], within=within)

    def ended(self, location: str, *, within: float = 20) -> dict[str, Any]:
        """Follow a drill to its end; what it found."""
        said: dict[str, Any] = until(
            lambda: (got := ASK.get(f"{self.url}{location}", timeout=5).json())["drill"] and got,
            within=within, say="the drill ends",
        )  # fmt: skip
        drill: dict[str, Any] = said["drill"]
        assert said["state"] == drill["outcome"]
        return drill

    def until_no_drill(self, db: str = "app", *, within: float = 20) -> None:
        """Wait until no drill runs: one that did would be handed out in place of a new one."""
        until(lambda: self.metric("drills_running") == 0, within=within, say=f"no drill of {db} runs")

    def metric(self, name: str, **labels: str) -> float | None:
        """One sample of /metrics; None where the series is absent."""
        text = ASK.get(f"{self.url}/metrics", timeout=5).text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == f"litestream_sidecar_{name}" and labels.items() <= sample.labels.items():
                    return float(sample.value)
        return None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def stop(self, how: signal.Signals = signal.SIGTERM, *, within: float = 15) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            os.kill(self.process.pid, how)
        code = self.process.wait(timeout=within)
        self.process = None
        return code


@dataclass
class Stage:
    """The folder and who acts in it."""

    folder: Path
    app: App
    litestream: Litestream
    sidecar: Sidecar
    bucket: Path | None = None  # of an object store: its folder on the store's disk

    @property
    def replica(self) -> Path:
        """Where the replica's files lie: its own folder, or the bucket's on the store's disk."""
        return self.bucket or self.folder / "replica"

    def synced(self) -> None:
        """Have Litestream (0.5) capture and upload everything committed so far."""
        body = {"path": str(self.app.path), "wait": True, "timeout": 10}
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.folder / "l.sock"))) as client:
            until(lambda: client.post("http://litestream/sync", json=body, timeout=12).status_code == 200, say="synced")

    def move_replica(self) -> None:
        """What the hints about damaged backups ask for: a new, empty path, and Litestream started again."""
        old = f"path: {'app' if self.bucket else self.replica}"
        self.litestream.stop()
        yml = self.litestream.config
        yml.write_text(yml.read_text().replace(f"{old},", f"{old}-anew,"))
        self.litestream.start()

    def level(self, level: int) -> list[Path]:
        """The replica's files of one level, oldest first (file replica, 0.5)."""
        return sorted((self.replica / "ltx" / str(level)).glob("*.ltx"))


def tune(acting: Stage, *, more: str = "", rest: str = "", **settings: str) -> None:
    """Write sidecar.yml anew; `max_lag="9s"` and the like replace lines of the policy."""
    lines = POLICY.format(binary=acting.litestream.executable, more=more, rest=rest).splitlines()
    for name, value in settings.items():
        key = f"  {name.replace('_', '-')}: "
        lines = [each for each in lines if not each.startswith(key)]
        lines.insert(lines.index("policy:") + 1, key + value)
    acting.sidecar.sidecar_yml.write_text("\n".join(lines) + "\n")


def write_and_replicate(app: App, replica: Path, times: int) -> None:
    """So many commits, each in the replica before the next."""
    for _ in range(times):
        before = newest_txid(replica)
        app.write()
        until(lambda before=before: newest_txid(replica) > before)  # type: ignore[misc] # bound now


def newest_txid(folder: Path) -> int:
    """The newest TXID in a replica's folder, whatever its level."""
    return max((last_txid(file) for file in folder.rglob("*.ltx")), default=0)


def last_txid(file: Path) -> int:
    return int(file.stem.split("-")[1], 16)


def lose_past(folder: Path, txid: int) -> None:
    """Delete every file of a replica that reaches past a TXID, on every level: the newest commits are gone."""
    for file in folder.rglob("*.ltx"):
        if last_txid(file) > txid:
            file.unlink()


@contextlib.contextmanager
def stage(
    folder: Path, *, replica: str | None = None, bucket: Path | None = None, executable: str | None = None, socket: bool = True,
    more: str = "", rest: str = "", settings: str = "", db_settings: str = "",
) -> Iterator[Stage]:  # fmt: skip
    """Lay out the folder: nothing runs yet. `replica` is a YAML flow mapping; `settings` are top-level lines."""
    folder.mkdir(parents=True, exist_ok=True)
    app = App(folder / "data" / "app.db")
    replica = replica or f"{{type: file, path: {folder / 'replica'}, sync-interval: 200ms}}"
    v3 = executable is not None and "0.3" in executable
    control = f"socket: {{enabled: true, path: {folder / 'l.sock'}}}\n" if socket and not v3 else ""
    block = f"replicas: [{replica}]" if v3 else f"replica: {replica}"
    yml = folder / "litestream.yml"
    yml.write_text(f"{control}{settings}\ndbs:\n  - path: {app.path}\n    {block}\n{db_settings}")
    ours = folder / "sidecar.yml"
    ours.write_text(POLICY.format(binary=executable or binary(), more=more, rest=rest))
    acting = Stage(
        folder, app, Litestream(yml, executable=executable or binary()), Sidecar(yml, ours, folder / "state"), bucket
    )
    try:
        yield acting
    finally:
        if acting.sidecar.process is not None:
            acting.sidecar.stop(signal.SIGKILL)
        acting.litestream.kill()
        app.close()
