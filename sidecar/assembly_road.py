"""Which road a deploy command takes: through the daemon where one runs, else in this process. The work is the same."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sidecar.adapters.announcement import running_at
from sidecar.adapters.daemon_client import read_address
from sidecar.adapters.daemon_road import DaemonRoad
from sidecar.adapters.ledger import Deploys, Ledger
from sidecar.adapters.litestream_sync import LitestreamSync
from sidecar.adapters.shelf import Shelf
from sidecar.adapters.write_lock import WriteLock
from sidecar.assembly_tools import Tools, load_fleet, read_settings, tools
from sidecar.core.errors import EnvironmentProblem, SidecarError
from sidecar.core.evidence import Evidence
from sidecar.core.model import Database, Drill
from sidecar.core.ports import Road
from sidecar.deploy.road import LocalRoad
from sidecar.deploy.works import ProofLedger, Works
from sidecar.drill import new_id
from sidecar.fleet import Fleet, FleetKeeper
from sidecar.options import Options
from sidecar.settings import Settings

log = logging.getLogger("sidecar")


class KeptHere(SidecarError):
    """--keep with --url: a usage error."""

    exit_code = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What a person says about the road."""

    url: str | None = None
    token_file: Path | None = None
    keep: Path | None = None
    keep_count: int | None = None
    keep_max: int | None = None

    @property
    def keeps_here(self) -> bool:
        """Whether artifacts go where this command says, which is then the one that keeps them."""
        return not (self.keep is None and self.keep_count is None and self.keep_max is None)


@contextlib.contextmanager
def road_to(options: Options, way: Way) -> Iterator[Road]:
    """The road. Raises whatever keeps it from being built, in sentences."""
    settings = read_settings(options)
    if way.url is not None and way.keeps_here:
        raise KeptHere("--keep, --keep-count and --keep-max do not go with --url: the daemon keeps the artifact",
                       "set rollback.keep-dir, keep-count and keep-max in the daemon's sidecar.yml")  # fmt: skip
    daemon = _named(settings, way) if way.url is not None else _found(settings, way)
    if daemon is not None:
        yield daemon
        return
    with tools(options, exclusive=False) as kit:
        keeper, book = FleetKeeper(load_fleet(options, kit.binary.generation), kit.clock), Deploys(settings.state_dir)
        yield local_road(kit, lambda: keeper.fleet, ForegroundLedger(kit.ledger), _shelf(settings, way), book)


def _named(settings: Settings, way: Way) -> DaemonRoad:
    return DaemonRoad(read_address(way.url or ""), _token(way.token_file or settings.http.token_file))


def _found(settings: Settings, way: Way) -> DaemonRoad | None:
    """The daemon of this state directory. One that does not answer is no reason not to deploy: the work is then done here."""
    where = None if way.keeps_here else running_at(settings.state_dir)
    if where is None:
        return None
    daemon = _named(settings, replace(way, url=where))
    try:
        daemon.databases()
    except SidecarError as error:
        log.warning("%s; its work is done here", error.message)
        return None
    log.info("the daemon at %s does the work", where)
    return daemon


@dataclass(frozen=True, slots=True)
class ForegroundLedger:
    """The ledger as a walk in a command writes it."""

    ledger: Ledger

    def snapshot(self) -> Mapping[str, Evidence]:
        """As the ledger's."""
        return self.ledger.snapshot()

    def record(self, path: str, change: Callable[[Evidence], Evidence]) -> Evidence:
        """As the ledger's."""
        return self.ledger.record(path, change)

    def begin_drill(self, database: Database) -> str:
        """As the ledger's; the new drill's id."""
        drill_id = new_id()
        self.ledger.begin_drill(database, drill_id)
        return drill_id

    def add_drill(self, database: Database, drill: Drill, *, max_shrink: float) -> Evidence:
        """As the ledger's."""
        return self.ledger.add_drill(database, drill, max_shrink=max_shrink)


def local_road(kit: Tools, fleet: Callable[[], Fleet], ledger: ProofLedger, shelf: Shelf, book: Deploys) -> LocalRoad:
    """The road that is walked in this process."""
    works = Works(
        claims=kit.claims,
        syncer=lambda fleet: LitestreamSync(fleet.socket_path) if fleet.socket_path is not None else None,
        looker=kit.looker,
        driller=kit.driller,
        examiner=kit.examiner,
        integrity=kit.driller.integrity,
        scratch=kit.scratch,
        ledger=ledger,
        shelf=shelf,
        writers=WriteLock(kit.descriptors.lockers),
        clock=kit.clock,
    )
    return LocalRoad(fleet, works, book)


def _shelf(settings: Settings, way: Way) -> Shelf:
    bounds = settings.rollback
    return Shelf(
        way.keep.absolute() if way.keep is not None else settings.keep,
        way.keep_count if way.keep_count is not None else bounds.keep_count,
        way.keep_max if way.keep_max is not None else bounds.keep_max,
    )


def daemon_shelf(settings: Settings) -> Shelf:
    """Where a daemon keeps artifacts."""
    return _shelf(settings, Way())


def _token(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text().strip()
    except OSError as error:
        raise EnvironmentProblem(
            f"the token file {file} cannot be read: {error.strerror}", "name another with --token-file"
        ) from None
