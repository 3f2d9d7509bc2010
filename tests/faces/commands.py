"""The commands as a user meets them: as processes, over two databases that the real Litestream has replicated."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.litestreams import ROOT, App, Litestream, binary, environment, until

COMMAND = [sys.executable, "-m", "sidecar"]
OURS = "policy: {{max-lag: 1h, look-every: 5s}}\nlitestream: {{binary: {binary}, command-timeout: 10s}}\n{more}"
NOBODY = 65534
_STARTED: list[subprocess.Popen[str]] = []


@dataclass(frozen=True)
class Ran:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output, which must be one JSON document and nothing else."""
        return json.loads(self.out)

    def refused(self, code: int, *says: str) -> None:
        """It ended with this code, one `error:` line with all of this, and a `try:` line; nothing on stdout."""
        assert self.code == code, self
        assert self.out == "", self
        lines = self.err.splitlines()
        assert lines[0].startswith("error: "), self
        assert lines[-1].startswith("try: "), self
        assert [line for line in lines if not line.startswith(("error: ", "try: "))] == [], self
        for each in says:
            assert each in self.err, self


def clean(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without anything that speaks to us or to Litestream."""
    kept = {
        key: value for key, value in environment().items() if not key.startswith(("LITESTREAM", "NO_COLOR", "COLUMNS"))
    }
    return kept | {"TERM": "xterm-256color"} | dict(more or {})


def run(
    *arguments: object, env: Mapping[str, str] | None = None, within: float = 30, command: Sequence[str] = COMMAND
) -> Ran:
    """Run a command to its end. No command may ever show a traceback."""
    done = subprocess.run(
        [*command, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=within,
        cwd=ROOT, env=clean(env), check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr + done.stdout, done
    return Ran(done.returncode, done.stdout, done.stderr)


def run_as_nobody(*arguments: object) -> Ran:
    """The same in a process that gives up root after it has loaded what lies in directories of root's."""
    program = (
        "import os, sys, encodings.idna\n"
        "import sidecar.commands.history, sidecar.commands.verify, sidecar.commands.doctor, sidecar.cli\n"
        "import rich.console, rich.table, rich.text, rich.box\n"
        f"if os.geteuid() == 0: os.setgroups([]); os.setresgid({NOBODY}, {NOBODY}, {NOBODY}); os.setresuid({NOBODY}, {NOBODY}, {NOBODY})\n"
        "sys.exit(sidecar.cli.entry(sys.argv[1:]))\n"
    )
    return run(*arguments, command=[sys.executable, "-B", "-c", program])


def start(*arguments: object, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a command in a process group of its own; standard output and error are pipes. See `end_what_is_left`."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=ROOT, env=clean(env), start_new_session=True,
    )  # fmt: skip
    _STARTED.append(process)
    return process


def end_what_is_left() -> None:
    """End the commands that a failing test left running, in a way that takes their children along."""
    while _STARTED:
        process = _STARTED.pop()
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def interrupt(process: subprocess.Popen[str], how: signal.Signals = signal.SIGINT, *, within: float = 15) -> Ran:
    """Send a signal and wait for the end."""
    process.send_signal(how)
    out, err = process.communicate(timeout=within)
    assert "Traceback" not in err, err
    return Ran(process.returncode, out, err)


def in_terminal(*arguments: object, columns: int = 80, env: Mapping[str, str] | None = None, within: float = 30) -> Ran:
    """Run a command on a pseudo-terminal; `out` is everything that a person would get to see, colours and all."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=follower, stderr=follower, cwd=ROOT,
        env=clean({"COLUMNS": str(columns), **(env or {})}), start_new_session=True,
    )  # fmt: skip
    os.close(follower)
    seen, end = b"", time.monotonic() + within
    try:
        while time.monotonic() < end:
            if not select.select([leader], [], [], 0.5)[0]:
                continue
            try:
                chunk = os.read(leader, 65536)
            except OSError:  # Linux says EIO once the last process has closed its side
                break
            if not chunk:
                break
            seen += chunk
    finally:
        os.close(leader)
        if process.poll() is None and time.monotonic() >= end:
            process.kill()
        process.wait(timeout=within)
    return Ran(process.returncode, seen.decode().replace("\r\n", "\n"), "")


@dataclass
class Scene:
    """A folder with two replicated databases, `app` and `users`; whether Litestream runs is the test's business."""

    folder: Path
    replicas: dict[str, str] = field(default_factory=dict)  # name to a YAML flow mapping; default: a folder

    def __post_init__(self) -> None:
        self.write_litestream_yml()
        self.write_sidecar_yml()

    @property
    def litestream_yml(self) -> Path:
        return self.folder / "litestream.yml"

    @property
    def sidecar_yml(self) -> Path:
        return self.folder / "sidecar.yml"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def open_to_others(self) -> None:
        """Other users can reach the folder, as they cannot reach pytest's own."""
        for above in (self.folder, *self.folder.parents):
            if above == Path(tempfile.gettempdir()):
                return
            above.chmod(0o755)

    def database(self, name: str = "app") -> Path:
        return self.folder / "data" / f"{name}.db"

    def replica(self, name: str = "app") -> Path:
        return self.folder / "replica" / name

    def write_litestream_yml(
        self, *, top: str = "", names: Sequence[str] = ("app", "users"), control: bool = True
    ) -> None:
        lines = [f"socket: {{enabled: true, path: {self.folder}/l.sock}}" if control else "", top, "dbs:"]
        for name in names:
            block = self.replicas.get(name, f"{{type: file, path: {self.replica(name)}, sync-interval: 200ms}}")
            lines += [f"  - path: {self.database(name)}", f"    replica: {block}"]
        self.litestream_yml.write_text("\n".join(lines) + "\n")

    def write_sidecar_yml(self, more: str = "", *, executable: str | None = None) -> None:
        self.sidecar_yml.write_text(OURS.format(binary=executable or binary(), more=more))

    @property
    def options(self) -> list[str]:
        return [
            "--litestream-config",
            str(self.litestream_yml),
            "--config",
            str(self.sidecar_yml),
            "--state-dir",
            str(self.state),
        ]

    def run(self, command: str, *arguments: object, env: Mapping[str, str] | None = None) -> Ran:
        return run(command, *self.options, *arguments, env=env)

    def litestream(self) -> Litestream:
        """Start it; the caller ends it."""
        return Litestream(self.litestream_yml).start()

    def scratch_is_empty(self) -> bool:
        rooms = self.state / "scratch"
        return not rooms.exists() or not any(rooms.iterdir())


def replicated(folder: Path) -> Scene:
    """Two databases, replicated by the real Litestream, which has stopped; their app has not closed them."""
    apps = {name: App(folder / "data" / f"{name}.db") for name in ("app", "users")}
    for app in apps.values():
        app.write(200)
    apps["users"].execute("pragma user_version = 7")
    scene = Scene(folder)
    litestream = scene.litestream()
    until(lambda: all(any(scene.replica(name).rglob("*.ltx")) for name in apps), say="both are replicated")
    until((folder / "l.sock").exists)
    litestream.stop()
    for app in apps.values():
        app.close()
    return scene


def copy_of(scene: Scene, folder: Path) -> Scene:
    """The same databases, local Litestream files and replicas in another folder, with their times."""
    for part in ("data", "replica"):
        shutil.copytree(scene.folder / part, folder / part)
    return Scene(folder)
