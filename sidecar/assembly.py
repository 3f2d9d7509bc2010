"""The composition root of the daemon: the tools, the loop, the HTTP server and what watches and tells."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw

from sidecar import __version__
from sidecar.adapters.http_server import HttpServer
from sidecar.adapters.notify import Notifier
from sidecar.adapters.watcher import Watcher
from sidecar.answers import Answers
from sidecar.assembly_tools import load_fleet, tools
from sidecar.core.errors import ConfigError, Mistake
from sidecar.core.schedule import Seats
from sidecar.core.settings_model import Notify
from sidecar.daemon import Daemon
from sidecar.desk import DrillDesk
from sidecar.drill import new_id
from sidecar.fleet import Fleet, FleetKeeper
from sidecar.flips import Flips
from sidecar.house import House
from sidecar.metrics import Metrics
from sidecar.options import Options
from sidecar.settings import Settings
from sidecar.web import App


class FolderWatch:
    """Tells the file watcher which folders a fleet wants watched."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def watch(self, fleet: Fleet) -> None:
        """Watch the folders of the configuration, the databases and Litestream's local files."""
        folders = {file.resolve().parent for file in fleet.files} | {file.absolute().parent for file in fleet.files}
        for database in fleet.databases.values():
            folders |= {Path(database.path).parent, Path(database.meta_path) / "ltx" / "0"}
        self._watcher.watch(folders, fleet.folders)

    def rearm(self) -> None:
        """The loop has looked; events count again."""
        self._watcher.rearm()


def _token(settings: Settings) -> str | None:
    """The bearer token, from its file. Raises ConfigError where the file cannot be read or is empty."""
    file = settings.http.token_file
    if file is None:
        return None
    try:
        token = file.read_text().strip()
    except OSError as error:
        mistake = Mistake("http.token-file", None, f"{file} cannot be read: {error.strerror}")
        raise ConfigError("sidecar.yml", (mistake,), "make it readable for the sidecar's user") from None
    if not token:
        raise ConfigError("sidecar.yml", (Mistake("http.token-file", None, f"{file} is empty"),), "put a token into it")
    return token


@dataclass(frozen=True, slots=True)
class Running:
    """The daemon, its HTTP server, and the event that ends both."""

    daemon: Daemon
    answers: Answers
    server: HttpServer
    stop: threading.Event


@contextlib.contextmanager
def assemble(options: Options) -> Iterator[Running]:
    """Build the daemon and start its HTTP server; the caller runs `daemon.run()`."""
    stop = threading.Event()
    with tools(options, exclusive=True) as kit, contextlib.ExitStack() as stack:
        settings = kit.settings
        keeper = FleetKeeper(load_fleet(options, kit.binary.generation), kit.clock)
        desk = DrillDesk(new_id)
        running: list[Daemon] = []
        answers = Answers(
            keeper, kit.ledger, kit.clock, desk, lambda: running[0].scratch if running else None, __version__
        )
        metrics = Metrics(answers, litestream_version=kit.binary.version, sqlite_version=apsw.sqlite_lib_version())
        watcher = Watcher(lambda: running[0].wake.set() if running else None)
        notifier = Notifier(settings.notify.heartbeat_url, settings.notify.webhook_url, kit.clock)
        house = House(
            clock=kit.clock,
            ledger=kit.ledger,
            live=kit.live,
            claims=kit.claims,
            looker=kit.looker,
            driller=kit.driller,
            examiner=kit.examiner,
            scratch=kit.scratch,
            watching=FolderWatch(watcher),
            telemetry=metrics,
            desk=desk,
            seats=Seats(settings.resources.looks, settings.resources.drills),
            nice=settings.resources.nice,
            turned=Flips(answers, notifier, wanted=settings.notify != Notify()).turned,
        )
        daemon = Daemon(house, keeper, stop)
        running.append(daemon)
        app = App(
            answers=answers,
            desk=desk,
            alive=lambda: daemon.alive,
            render_metrics=metrics.render,
            token=_token(settings),
            wake=daemon.wake.set,
            loopback=settings.http.listen.is_local,
            count=metrics.requested,
        )
        server = HttpServer(app, settings.http.listen)
        stack.callback(stop.set)
        server.start()
        stack.callback(server.stop)
        watcher.start()
        stack.callback(watcher.stop)
        stack.callback(notifier.close)
        yield Running(daemon, answers, server, stop)
