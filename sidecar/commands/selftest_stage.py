"""The selftest's stage: a folder with one small database a fault, the real Litestream beside them, and the daemon that is to find out."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sidecar.adapters import process
from sidecar.adapters.background import Companion, running
from sidecar.assembly import Running, assemble
from sidecar.commands import selftest_app
from sidecar.commands.place import environment, socket_in, turning
from sidecar.commands.selftest_faults import Fault
from sidecar.commands.selftest_patient import MORE, SCHEMA, Patient
from sidecar.core.errors import SidecarError
from sidecar.options import Options

NEIGHBOUR = "neighbour"  # another app's database, in which nothing is broken
ACT_S = 30.0  # for one act of an app, or one restore, of a database of 50 KB
COMMITS = 4  # a moment apart, so that the replica has files between the first and the newest
APART_S = 1.2  # Litestream captures once a second
HOLD_POLL_S = 0.05
APP = (sys.executable, "-P", selftest_app.__file__)  # -P: no module beside it stands in for one of Python's
# Everything that takes hours in production takes seconds here.
POLICY = {
    "look-every": "1s", "max-lag": "4s", "drill-every": "8s", "drill-max-age": "5m", "database-check-every": "8s",
}  # fmt: skip
ASSERTION = {"name": "needle", "sql": "select count(*) from notes where text = 'needle-in-a-row'", "min": 1}


class Litestream:
    """The real one, which can be ended and started again. Not started yet."""

    def __init__(self, binary: str, config: Path) -> None:
        self._argv, self._log = [binary, "replicate", "-config", str(config)], config.with_name("litestream.log")
        self._runs = contextlib.ExitStack()
        self._companion: Companion | None = None

    def start(self) -> None:
        """Until `stop`. Raises EnvironmentProblem."""
        self._companion = self._runs.enter_context(running(self._argv, self._log, environment()))

    def stop(self) -> None:
        """End it, if it runs."""
        self._companion = None
        self._runs.close()

    def last_words(self) -> str | None:
        """How it ended, where nobody has ended it."""
        return self._companion.last_words() if self._companion is not None else None


@dataclass(frozen=True, slots=True)
class Stage:
    """Who acts. `restore` asks Litestream itself, without us."""

    home: Path
    binary: str
    house: Running
    litestream: Litestream
    stop: threading.Event

    def patient(self, fault: Fault) -> Patient:
        """The database that a fault is made in."""
        database = _database(self.home, fault.name)
        aside = self.home / "aside" / fault.name
        aside.mkdir(parents=True, exist_ok=True)

        def act(*words: str) -> None:
            _act(database, self.stop, *words)

        return Patient(
            self.litestream, database, self.home / "replica" / fault.name, aside, self.home / "replica" / NEIGHBOUR,
            lambda statements: act("sql", statements), lambda: _held(database, aside, self.stop), lambda old, new: act("write", old, new),
        )  # fmt: skip

    def restore(self, fault: Fault) -> str:
        """What `litestream restore -integrity-check quick` says of the backup as it is now."""
        target = self.home / "aside" / fault.name / "restored.db"
        argv = [self.binary, "restore", "-config", str(self.home / "litestream.yml"), "-integrity-check", "quick",
                "-o", str(target), str(_database(self.home, fault.name))]  # fmt: skip
        ended = process.run(argv, timeout_s=ACT_S, stop=self.stop, env=environment())
        target.unlink(missing_ok=True)
        if ended.returncode == 0:
            return "restores, check passed"
        said = [line for line in ended.stderr.decode(errors="replace").splitlines() if line.strip()]
        return said[-1].removeprefix("Error: ") if said else f"exit code {ended.returncode}"


def _database(home: Path, name: str) -> Path:
    return home / "data" / f"{name}.db"


@contextlib.contextmanager
def _held(database: Path, aside: Path, stop: threading.Event) -> Iterator[None]:
    log = aside / "held.log"
    log.unlink(missing_ok=True)
    with running([*APP, str(database), "hold"], log, environment()) as app:
        for _ in range(round(ACT_S / HOLD_POLL_S)):
            if log.read_text(errors="replace") == selftest_app.HELD:
                break
            if (ended := app.last_words()) is not None or stop.wait(HOLD_POLL_S):
                raise SidecarError(f"the selftest's app {ended or 'was told to stop'}")
        yield


def _act(database: Path, stop: threading.Event, *words: str) -> None:
    ended = process.run([*APP, str(database), *words], timeout_s=ACT_S, stop=stop)
    if ended.returncode != 0:
        raise SidecarError(f"the selftest's app failed: {ended.stderr.decode(errors='replace').strip()[-300:]}")


@contextlib.contextmanager
def staged(home: Path, binary: str, faults: Sequence[Fault], stop: threading.Event) -> Iterator[Stage]:
    """Databases, Litestream and the daemon; nothing is broken yet. Raises SidecarError."""
    names = [*(each.name for each in faults), NEIGHBOUR]
    with contextlib.ExitStack() as stack:
        options = _lay_out(home, binary, names, stack.enter_context(socket_in(home)))
        for each in names:
            own = f"insert into notes (text) values ('this is {each}')"  # noqa: S608 - a constant of ours
            _act(_database(home, each), stop, "sql", f"{SCHEMA}; {own}")
        litestream = Litestream(binary, options.litestream_config)
        stack.callback(litestream.stop)
        litestream.start()
        house = stack.enter_context(assemble(options))
        stack.enter_context(turning(house))
        for _ in range(COMMITS):
            if stop.wait(APART_S):
                break
            for each in names:
                _act(_database(home, each), stop, "sql", MORE)
        yield Stage(home, binary, house, litestream, stop)


def _lay_out(home: Path, binary: str, names: Sequence[str], socket: Path) -> Options:
    (home / "data").mkdir()
    replicated = [
        {
            "path": str(_database(home, each)), "monitor-interval": "500ms",
            "checkpoint-interval": "1h",  # or Litestream writes by itself, half a minute after the last commit
            "replica": {"type": "file", "path": str(home / "replica" / each), "sync-interval": "200ms"},
        }
        for each in names
    ]  # fmt: skip
    theirs = {"socket": {"enabled": True, "path": str(socket)}, "dbs": replicated}
    ours = {
        "litestream": {"binary": binary, "command-timeout": "30s"}, "policy": POLICY, "resources": {"nice": 0, "drills": 2},
        "http": {"listen": f"unix:{socket.with_name('sidecar.sock')}"},
        "databases": {"assertion": {"policy": {"assertions": [ASSERTION]}}} if "assertion" in names else {},
    }  # fmt: skip
    for name, document in (("litestream.yml", theirs), ("sidecar.yml", ours)):
        (home / name).write_text(json.dumps(document, indent=2) + "\n")  # JSON is YAML
    return Options(litestream_config=home / "litestream.yml", config=home / "sidecar.yml", state_dir=home / "state")
