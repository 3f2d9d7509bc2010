"""The composition root: reads both configurations, builds the adapters, and hands them to the daemon or to a foreground command."""

from __future__ import annotations

import contextlib
import difflib
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw

from sidecar import __version__
from sidecar.adapters import litestream_yml
from sidecar.adapters.claims import LitestreamClaims
from sidecar.adapters.clock import SystemClock
from sidecar.adapters.http_server import HttpServer
from sidecar.adapters.ledger import Ledger
from sidecar.adapters.litestream_binary import detect, find_binary, is_v3
from sidecar.adapters.litestream_metrics import LitestreamMetrics
from sidecar.adapters.litestream_socket import LitestreamSocket
from sidecar.adapters.litestream_v3 import LitestreamV3
from sidecar.adapters.litestream_v5 import LitestreamV5
from sidecar.adapters.live_descriptors import LiveDescriptors
from sidecar.adapters.live_files import LiveFiles
from sidecar.adapters.notify import Notifier
from sidecar.adapters.scratch import Scratch
from sidecar.adapters.sqlite_copy import CopySqlite
from sidecar.adapters.sqlite_live import LiveSqlite
from sidecar.adapters.watcher import Watcher
from sidecar.answers import Answers
from sidecar.core.errors import ConfigError, Mistake
from sidecar.core.ports import Claims, ReplicaReader
from sidecar.core.schedule import Seats
from sidecar.core.settings_model import Notify
from sidecar.daemon import Daemon
from sidecar.desk import DrillDesk
from sidecar.drill import Driller, new_id
from sidecar.fleet import Fleet, FleetKeeper
from sidecar.flips import Flips
from sidecar.house import House
from sidecar.look import Looker
from sidecar.metrics import Metrics
from sidecar.options import Options
from sidecar.production import Examiner
from sidecar.settings import Settings
from sidecar.settings import read as read_sidecar_yml
from sidecar.web import App

log = logging.getLogger("sidecar")


def read_settings(options: Options) -> Settings:
    """sidecar.yml under what the command line says."""
    overrides = {"http.listen": options.listen, "state-dir": str(options.state_dir) if options.state_dir else None}
    return read_sidecar_yml(options.config, os.environ, overrides)


def address(settings: Settings) -> str:
    """Where a daemon with these settings can be asked from this machine."""
    listen = settings.http.listen
    if listen.unix:
        return str(listen)
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - read, not bound
    return f"http://{everywhere.get(listen.host, str(listen).rsplit(':', 1)[0])}:{listen.port}"


@dataclass(frozen=True, slots=True)
class Binary:
    """The Litestream that drills: where it is and what it says its version is."""

    path: str
    version: str

    @property
    def generation(self) -> litestream_yml.Generation:
        """Which generation's configuration and commands it understands."""
        return "0.3" if is_v3(self.version) else "0.5"


def find_litestream(settings: Settings) -> Binary:
    """Find Litestream and ask it for its version. Raises EnvironmentProblem."""
    path = find_binary(settings.litestream.binary)
    return Binary(path, detect(path, os.environ))


def strangers(settings: Settings, names: Collection[str]) -> Iterator[str]:
    """Names under `databases:` that no database has: what is set there is set for nobody."""
    for name, own in settings.databases.items():
        if name not in names and own.path is None:
            near = difflib.get_close_matches(name, names, n=1)
            yield f"sidecar.yml sets databases.{name}, and no database has that name" + (
                f"; {near[0]}?" if near else ""
            )


def load_fleet(options: Options, generation: litestream_yml.Generation) -> Callable[[], Fleet]:
    """A function that reads both files anew; folders are only rescanned when neither file changed."""
    previous: litestream_yml.LitestreamConfig | None = None

    def load() -> Fleet:
        nonlocal previous
        settings = read_settings(options)
        config = litestream_yml.read(
            options.litestream_config, os.environ, generation=generation, aliases=settings.aliases, previous=previous
        )
        previous = config
        return Fleet(
            databases={each.path: each for each in config.databases},
            policies={each.path: settings.policy_for(each.name) for each in config.databases},
            command_timeout_s=settings.litestream.command_timeout.total_seconds(),
            socket_path=settings.litestream.socket or config.socket_path,
            metrics_url=settings.litestream.metrics_url or config.metrics_url,
            files=tuple(each for each in (options.litestream_config, options.config) if each is not None),
            rescan=any(each.watch for each in config.watch_dirs),
            folders=tuple(Path(each.path) for each in config.watch_dirs if each.watch),
            warnings=(*config.warnings, *strangers(settings, {each.name for each in config.databases})),
            secrets=config.secrets,
        )

    return load


@dataclass(frozen=True, slots=True)
class Tools:
    """The adapters and verbs that both the daemon and a foreground command work with."""

    settings: Settings
    binary: Binary
    clock: SystemClock
    ledger: Ledger
    live: LiveFiles
    production: LiveSqlite
    replica: ReplicaReader
    scratch: Scratch
    looker: Looker
    driller: Driller
    examiner: Examiner

    def claims(self, fleet: Fleet) -> Claims:
        """Whom to ask about Litestream, by what the configuration in force says."""
        return LitestreamClaims(
            socket=LitestreamSocket(fleet.socket_path, self.clock) if fleet.socket_path else None,
            metrics=LitestreamMetrics(fleet.metrics_url, self.clock) if fleet.metrics_url else None,
            clock=self.clock,
        )


@contextlib.contextmanager
def tools(options: Options, *, exclusive: bool) -> Iterator[Tools]:
    """Build everything that reads and restores. `exclusive` claims the state directory, as a daemon must."""
    settings = read_settings(options)
    binary = find_litestream(settings)
    clock = SystemClock()
    descriptors = LiveDescriptors()
    live = LiveFiles(descriptors.read, clock)
    production = LiveSqlite(descriptors)
    kind = LitestreamV3 if binary.generation == "0.3" else LitestreamV5
    replica = kind(binary.path, binary.version, os.environ, nice=settings.resources.nice)
    with contextlib.closing(Ledger.open(settings.state_dir, clock=clock, exclusive=exclusive)) as ledger:
        for note in ledger.notes:
            log.warning("%s", note)
        scratch = Scratch(settings.scratch, settings.resources.scratch_max)
        if exclusive:
            scratch.sweep()
        integrity = CopySqlite()
        yield Tools(
            settings=settings,
            binary=binary,
            clock=clock,
            ledger=ledger,
            live=live,
            production=production,
            replica=replica,
            scratch=scratch,
            looker=Looker(live, replica, production, clock),
            driller=Driller(replica, live, integrity, scratch, clock),
            examiner=Examiner(production, integrity, scratch, clock, apsw.sqlite_lib_version()),
        )


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
