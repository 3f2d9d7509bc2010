"""`demo`: the newcomer's first minute. A writing app, the real Litestream and the daemon in one folder, and then: break it."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from sidecar.adapters.background import Companion, running
from sidecar.assembly import Running, assemble
from sidecar.commands.place import environment, folder_of, litestream_for, socket_in, turning
from sidecar.commands.render import Echo
from sidecar.commands.stopping import stopping
from sidecar.core.errors import SidecarError
from sidecar.core.finding import Reason
from sidecar.core.verdict import FleetVerdict
from sidecar.logs import set_up
from sidecar.options import Options

LOOK_AGAIN_S = 0.1
PATIENCE_S = 10.0  # after this long without a first proof, whatever stands in the way is said

INTERRUPTED = 130

SIDECAR_YML = """\
# The demo's policy: everything that takes hours in production takes seconds here.
policy:
  look-every: 2s
  max-lag: 15s
  drill-every: 30s
  drill-max-age: 5m
  database-check-every: 1m
"""


def demo(folder: Path | None, listen: str, *, once: bool, log_format: str, log_level: str, echo: Echo) -> int:
    """Run until ready (`--once`) or until interrupted; the folder is removed unless it was given."""
    set_up(log_format, log_level)
    binary = litestream_for("demo")
    say = _to_stderr if once else echo
    env = environment()
    with stopping() as stop, folder_of(folder) as home, contextlib.ExitStack() as stack:
        options = _lay_out(home, binary, listen, stack.enter_context(socket_in(home)))
        say(f"folder      {home}")
        app = [sys.executable, "-m", "sidecar.commands.demo_app", str(home / "data" / "shop.db")]
        replicate = [binary, "replicate", "-config", str(options.litestream_config)]
        beside = {"app": stack.enter_context(running(app, home / "app.log", env))}
        say("app         takes an order every half second")
        house = stack.enter_context(assemble(options))
        beside["Litestream"] = stack.enter_context(running(replicate, home / "litestream.log", env))
        say("Litestream  copies the orders to a folder")
        stack.enter_context(turning(house))
        say(f"daemon      {house.server.url}/ready  {house.server.url}/metrics")
        show = _Show(house, beside, stop, say, kept=folder is not None)
        if not show.until_ready():
            return INTERRUPTED
        if once:
            echo(json.dumps(house.answers.ready(house.answers.verdict()), indent=2, ensure_ascii=False))
            return 0
        _try_next(home, house.server.url, echo, kept=folder is not None)
        show.until_stopped()
    say("ended")
    return INTERRUPTED


@dataclass(slots=True)
class _Show:
    """Says each new answer of /ready, for as long as everybody is alive and somebody reads."""

    house: Running
    beside: dict[str, Companion]
    stop: threading.Event
    say: Echo
    kept: bool  # the folder, with its logs, stays
    said: str = ""

    def until_ready(self) -> bool:
        """Whether it became ready; False when it was stopped before."""
        patience = PATIENCE_S
        while True:
            verdict = self.house.answers.verdict()
            self._tell(verdict, _first_reason(verdict) if patience > 0 else verdict.reason)
            if verdict.ready or self._ended():
                return verdict.ready
            patience -= LOOK_AGAIN_S

    def until_stopped(self) -> None:
        while not self._ended():
            verdict = self.house.answers.verdict()
            self._tell(verdict, verdict.reason)

    def _tell(self, verdict: FleetVerdict, reason: str) -> None:
        shape = f"{verdict.ready}{''.join(char for char in reason if not char.isdigit())}"
        if shape != self.said and not self.say(f"/ready      {'200' if verdict.ready else '503'}  {reason}"):
            self.stop.set()
        self.said = shape

    def _ended(self) -> bool:
        """Wait a moment; whether the demo was stopped. Raises SidecarError when one of its programs has ended."""
        for name, each in self.beside.items():
            words = None if self.stop.is_set() else each.last_words()
            if words is not None:
                hint = f"look at {each.log}" if self.kept else "run it again with --dir FOLDER, which keeps the logs"
                raise SidecarError(f"the demo's {name} {words}", hint)
        return self.stop.wait(LOOK_AGAIN_S)


def _first_reason(verdict: FleetVerdict) -> str:
    """Of all that a set-up of three seconds lacks, what this program is about: nobody has restored its backup yet."""
    for each in verdict.verdicts:
        for finding in each.judged.blocking:
            if finding.reason is Reason.NEVER_DRILLED:
                return f"{each.database.name}: {finding.message}"
    return verdict.reason


def _lay_out(home: Path, binary: str, listen: str, socket: Path) -> Options:
    """Write the two configuration files of the demo."""
    litestream = {
        "socket": {"enabled": True, "path": str(socket)},
        "dbs": [{"path": str(home / "data" / "shop.db"), "replica": {"type": "file", "path": str(home / "replica")}}],
    }
    (home / "data").mkdir()
    (home / "litestream.yml").write_text(json.dumps(litestream, indent=2) + "\n")  # JSON is YAML
    (home / "sidecar.yml").write_text(SIDECAR_YML + f"litestream: {{binary: {json.dumps(binary)}}}\n")
    return Options(
        litestream_config=home / "litestream.yml", config=home / "sidecar.yml", state_dir=home / "state", listen=listen
    )


def _try_next(home: Path, url: str, echo: Echo, *, kept: bool) -> None:
    program, at = _program(), shlex.quote(str(home))
    ask = f"--unix-socket {shlex.quote(url.removeprefix('unix:'))} http://sidecar" if url.startswith("unix:") else url
    files = f"--litestream-config {at}/litestream.yml --config {at}/sidecar.yml --state-dir {at}/state"
    for line in (
        "",
        "Now break it, in another terminal, and watch the answer here turn:",
        f"  rm -r {at}/replica",
        "      the backup is gone; Litestream says that all is well, /ready does not",
        f"  curl -s '{ask}/ready?format=text'" if ask == url else f"  curl -s {ask}/ready?format=text",
        "      every check on a line of its own",
        f"  {program} status --watch --url {shlex.quote(url)}",
        "      the same as a table",
        f"  {program} verify {files}",
        "      one drill, in the foreground",
        "Ctrl-C ends everything" + ("." if kept else " and removes the folder."),
        "",
    ):
        echo(line)


def _program() -> str:
    """How this program is called from another terminal, which may have another PATH."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m sidecar"
    return called.name if shutil.which(called.name) else shlex.quote(str(called.absolute()))


def _to_stderr(line: str) -> bool:
    sys.stderr.write(line + "\n")
    return True
