"""The composition root of the daemon: the tools, the loop, the HTTP server and what watches and tells."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw

from sidecar import __version__
from sidecar.adapters.announcement import announced
from sidecar.adapters.clock import SystemClock
from sidecar.adapters.http_server import HttpServer
from sidecar.adapters.ledger import Deploys, Ledger
from sidecar.adapters.ledger.codec import facts_of_drill
from sidecar.adapters.notify import Notifier
from sidecar.adapters.service_manager import ServiceManager
from sidecar.adapters.watcher import FOLDERS_MAX, Watcher
from sidecar.answers import Answers
from sidecar.assembly_page import in_turn, status_page
from sidecar.assembly_road import daemon_shelf, local_road
from sidecar.assembly_tools import Tools, load_fleet, tools
from sidecar.assembly_verifier import asked_verifiers
from sidecar.core.case import Scratch
from sidecar.core.decision import Decision, Word, sentence_of
from sidecar.core.errors import ConfigError, Mistake
from sidecar.core.evidence import Evidence
from sidecar.core.model import Database, Drill
from sidecar.core.proof import Demand
from sidecar.core.schedule import Seats
from sidecar.core.settings_model import Notify
from sidecar.daemon import Daemon
from sidecar.deploy.proof_desk import ProofDesk, ProofTicket
from sidecar.deploy.road import LocalRoad
from sidecar.desk import DrillDesk
from sidecar.drill import new_id
from sidecar.drill_log import DrillLog
from sidecar.fleet import Fleet, FleetKeeper
from sidecar.house import House
from sidecar.metrics import Metrics
from sidecar.news import News
from sidecar.options import Options
from sidecar.settings import Settings
from sidecar.standing import Standing
from sidecar.thrift import Thrift
from sidecar.tidying import Tidying
from sidecar.trace import LagTrace
from sidecar.verifier import Verifier
from sidecar.web import App
from sidecar.web_page import PageRoute

log = logging.getLogger("sidecar")

# To watch a tree again takes a tenth of a millisecond for each database below it, since Litestream's folders are watched too.
TREES_DATABASES_MAX = 50


class FolderWatch:
    """Tells the file watcher which folders a fleet wants watched. What is left out, the loop's timer finds."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def watch(self, fleet: Fleet) -> None:
        """Watch the folders of the configuration, the databases and Litestream's local files."""
        few = len(fleet.databases) <= TREES_DATABASES_MAX
        folders = dict.fromkeys(
            parent for file in fleet.files for parent in (file.resolve().parent, file.absolute().parent)
        )
        folders |= dict.fromkeys(fleet.folders)
        folders |= dict.fromkeys(Path(each.path).parent for each in fleet.databases.values())
        if few and len(folders) + len(fleet.databases) <= FOLDERS_MAX:
            folders |= dict.fromkeys(Path(each.meta_path) / "ltx" / "0" for each in fleet.databases.values())
        self._watcher.watch(folders, fleet.trees if few else ())

    def rearm(self) -> None:
        """The loop has looked; events count again."""
        self._watcher.rearm()

    @property
    def fired(self) -> bool:
        """Whether something has changed since then."""
        return self._watcher.fired


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
class DaemonLedger:
    """The ledger as a walk of the daemon's writes it: its drills are known to all who know of the others."""

    ledger: Ledger
    drills: DrillLog

    def snapshot(self) -> Mapping[str, Evidence]:
        """As the ledger's."""
        return self.ledger.snapshot()

    def record(self, path: str, change: Callable[[Evidence], Evidence]) -> Evidence:
        """As the ledger's."""
        return self.ledger.record(path, change)

    def begin_drill(self, database: Database) -> str:
        """A drill begins; its id."""
        return self.drills.begin(database)

    def add_drill(self, database: Database, drill: Drill, *, max_shrink: float) -> Evidence:
        """It has ended."""
        return self.drills.end(database, drill, max_shrink=max_shrink)


@dataclass(frozen=True, slots=True)
class DeployWork:
    """What the routes of deploy commands ask for: the desk's queue, and the road's book. Satisfies `web_deploys.Proofs`."""

    desk: ProofDesk
    road: LocalRoad

    def request(self, demand: Demand) -> ProofTicket:
        """Queue a proof."""
        return self.desk.request(demand)

    def find(self, proof_id: str) -> ProofTicket | None:
        """The proof's ticket."""
        return self.desk.find(proof_id)

    def take(self, receipt_id: str) -> None:
        """Use a receipt."""
        self.road.take(receipt_id)

    def decided(self, decision: Decision) -> None:
        """Record a decision, also in the log."""
        level = logging.INFO if decision.word is Word.PASSED else logging.WARNING
        log.log(level, "%s", sentence_of(decision))
        self.road.decided(decision)


@dataclass(frozen=True, slots=True)
class Running:
    """The daemon, its HTTP server, and the event that ends both."""

    daemon: Daemon
    answers: Answers
    server: HttpServer
    stop: threading.Event


def _metrics(
    kit: Tools, answers: Answers, book: Deploys, notifier: Notifier, verifiers: Sequence[Verifier], thrift: Thrift
) -> Metrics:
    return Metrics(
        answers,
        litestream_version=kit.binary.version,
        sqlite_version=apsw.sqlite_lib_version(),
        decisions=lambda: book.counts,
        notifications=notifier.counts,
        kept=lambda: kit.ledger.error is None,
        verifier=lambda: verifiers[0].up if verifiers else None,
        requests=kit.requests.read,
        pace=lambda: thrift.pace,
    )


def _app(
    settings: Settings, answers: Answers, daemon: Daemon, metrics: Metrics, work: DeployWork, page: PageRoute
) -> App:
    return App(
        answers=answers,
        desk=answers.desk,
        alive=lambda: daemon.alive,
        render_metrics=metrics.render,
        token=_token(settings),
        wake=daemon.wake.set,
        loopback=settings.http.listen.is_local,
        count=metrics.requested,
        proofs=work,
        page=page,
        facts=facts_of_drill,
    )


def _room(running: Sequence[Daemon]) -> Callable[[], Scratch | None]:
    """The room for drills as the daemon saw it last, once there is one."""
    return lambda: running[0].scratch if running else None


def _waker(running: Sequence[Daemon]) -> Callable[[], None]:
    """Wakes the daemon's loop, once there is one."""
    return lambda: running[0].wake.set() if running else None


@contextlib.contextmanager
def _watching(watcher: Watcher, notifier: Notifier) -> Iterator[None]:
    watcher.start()
    try:
        yield
    finally:
        notifier.close()
        watcher.stop()


@contextlib.contextmanager
def assemble(options: Options) -> Iterator[Running]:
    """Build the daemon and start its HTTP server; the caller runs `daemon.run()`."""
    stop = threading.Event()
    manager = ServiceManager.adopted(os.environ, SystemClock())  # before any child gets our environment
    with tools(options, exclusive=True) as kit, contextlib.ExitStack() as stack:
        settings = kit.settings
        load = load_fleet(options, kit.binary.generation)
        keeper = FleetKeeper(load, kit.clock, rescan=load.rescan)
        desk, proofs, book = DrillDesk(new_id), ProofDesk(new_id), Deploys(settings.state_dir)
        running: list[Daemon] = []
        answers = Answers(keeper, kit.ledger, kit.clock, desk, _room(running), __version__)
        notifier = Notifier(settings.notify.heartbeat_url, settings.notify.webhook_url)
        news, standing = News(answers, notifier, wanted=settings.notify != Notify()), Standing(answers, manager)
        trace = LagTrace(answers)
        thrift = Thrift(keeper, kit.clock, kit.requests, kit.ledger.snapshot, settings.resources.requests_per_day)
        tidying = Tidying(keeper, kit.kept)
        verifiers: list[Verifier] = []  # one at most
        metrics = _metrics(kit, answers, book, notifier, verifiers, thrift)
        drills = DrillLog(kit.ledger, desk, metrics, news)
        road = local_road(kit, lambda: keeper.fleet, DaemonLedger(kit.ledger, drills), daemon_shelf(settings), book)
        wake = _waker(running)
        watcher = Watcher(wake)
        verifiers += asked_verifiers(kit, keeper, drills, wake, stack)
        told = (news.turned, trace.turned, thrift.turned, tidying.turned, standing.turned)
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
            drills=drills,
            proofs=proofs,
            road=road,
            book=book,
            seats=Seats(settings.resources.looks, settings.resources.drills),
            nice=settings.resources.nice,
            turned=in_turn(*(each.turned for each in verifiers), *told),
            standing=standing,
            awaited=verifiers[0].awaited if verifiers else tuple,
        )
        daemon = Daemon(house, keeper, stop)
        running.append(daemon)
        page = status_page(answers, book, settings, trace, lambda: daemon.alive)
        app = _app(settings, answers, daemon, metrics, DeployWork(proofs, road), page)
        server = HttpServer(app, settings.http.listen)
        stack.callback(stop.set)
        server.start()
        stack.callback(server.stop)
        stack.enter_context(announced(settings.state_dir, server.url))
        watcher.start()
        stack.callback(watcher.stop)
        stack.callback(notifier.close)
        stack.callback(manager.close)
        yield Running(daemon, answers, server, stop)
