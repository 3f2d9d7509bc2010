"""The tools that the daemon and every foreground command work with: both configurations read, the adapters built."""

from __future__ import annotations

import contextlib
import difflib
import logging
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import apsw

from sidecar.adapters import litestream_yml
from sidecar.adapters.claims import LitestreamClaims
from sidecar.adapters.clock import SystemClock
from sidecar.adapters.fingerprints import fingerprints
from sidecar.adapters.kept_copies import KeptCopies
from sidecar.adapters.ledger import Ledger
from sidecar.adapters.litestream_binary import detect, find_binary, is_v3
from sidecar.adapters.litestream_metrics import LitestreamMetrics
from sidecar.adapters.litestream_socket import LitestreamSocket
from sidecar.adapters.litestream_v3 import LitestreamV3
from sidecar.adapters.litestream_v5 import LitestreamV5
from sidecar.adapters.live_descriptors import LiveDescriptors
from sidecar.adapters.live_files import LiveFiles
from sidecar.adapters.local_changes import LocalChanges
from sidecar.adapters.memory import FreeMemory
from sidecar.adapters.page_file import page_file
from sidecar.adapters.replica_listing import Fetcher, LookLister, Requests
from sidecar.adapters.scratch import Scratch
from sidecar.adapters.sqlite_copy import CopySqlite
from sidecar.adapters.sqlite_live import LiveSqlite
from sidecar.adapters.sqlite_page_keeper import PageKeeper
from sidecar.adapters.sqlite_pages import LivePages
from sidecar.core.model import Position
from sidecar.core.ports import Claims, ReplicaReader
from sidecar.drill import Driller
from sidecar.fleet import Fleet
from sidecar.forwarding import Forwarder
from sidecar.look import Looker
from sidecar.options import Options
from sidecar.parity import Comparer
from sidecar.piecewise import Copier
from sidecar.production import Examiner
from sidecar.settings import Settings
from sidecar.settings import read as read_sidecar_yml

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


@dataclass
class FleetLoader:
    """Reads both files anew when called; `rescan` only looks into the folders again that they name."""

    options: Options
    generation: litestream_yml.Generation
    _read: tuple[Settings, litestream_yml.LitestreamConfig, Fleet] | None = field(default=None, init=False)

    def __call__(self) -> Fleet:
        """The fleet as both files say now. Raises SidecarError."""
        settings = read_settings(self.options)
        config = litestream_yml.read(
            self.options.litestream_config,
            os.environ,
            generation=self.generation,
            aliases=settings.aliases,
            previous=self._read[1] if self._read is not None else None,
        )
        return self._taken(settings, config)

    def rescan(self) -> Fleet:
        """The fleet as the files were read last, with the databases that stand there now; the same object where none came or left."""
        if self._read is None:
            return self()
        settings, config, fleet = self._read
        fresh = litestream_yml.rescan(config)
        return fleet if fresh is config else self._taken(settings, fresh)

    def _taken(self, settings: Settings, config: litestream_yml.LitestreamConfig) -> Fleet:
        options = self.options
        policies = {each.path: settings.policy_for(each.name) for each in config.databases}
        fleet = Fleet(
            databases={each.path: replace(each, in_reach=policies[each.path].production) for each in config.databases},
            policies=policies,
            command_timeout_s=settings.litestream.command_timeout.total_seconds(),
            socket_path=settings.litestream.socket or config.socket_path,
            metrics_url=settings.litestream.metrics_url or config.metrics_url,
            files=tuple(each for each in (options.litestream_config, options.config) if each is not None),
            rescan=any(each.watch for each in config.watch_dirs),
            folders=tuple(Path(each.path) for each in config.watch_dirs if each.watch),
            warnings=(*config.warnings, *strangers(settings, {each.name for each in config.databases})),
            secrets=config.secrets,
            trees=tuple(Path(each.path) for each in config.watch_dirs if each.watch and each.recursive),
        )
        self._read = (settings, config, fleet)
        return fleet


def load_fleet(options: Options, generation: litestream_yml.Generation) -> FleetLoader:
    """What reads the fleet, for this generation of Litestream."""
    return FleetLoader(options, generation)


@dataclass(frozen=True, slots=True)
class Tools:
    """The adapters and verbs that both the daemon and a foreground command work with."""

    settings: Settings
    binary: Binary
    clock: SystemClock
    ledger: Ledger
    descriptors: LiveDescriptors
    live: LiveFiles
    production: LiveSqlite
    replica: ReplicaReader
    requests: Requests  # that looks sent to the replicas' stores
    scratch: Scratch
    kept: KeptCopies
    fetcher: Fetcher
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


def _comparer(production: LiveSqlite, state_dir: Path) -> Comparer:
    """What compares restored copies with production; differing pages are kept in the state directory."""
    return Comparer(LivePages(production), LocalChanges, fingerprints, PageKeeper(state_dir / "pages"))


def _apply(copy: Path, files: Sequence[Path], stands_at: Position, between: Callable[[], None]) -> None:
    """Bring a copy forward. Imported by the first drill that does: most sidecars never do."""
    from sidecar.adapters.ltx_application import forward  # noqa: PLC0415

    forward(copy, files, stands_at.index, between)


def _copier(production: LiveSqlite) -> Copier:
    """What copies production for its checks, and keeps no read transaction open for long."""
    return Copier(LivePages(production), LocalChanges, page_file, production)


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
        kept = KeptCopies(settings.scratch)
        scratch = Scratch(settings.scratch, settings.resources.scratch_max, kept)
        if exclusive:
            scratch.sweep()
        integrity, lister = CopySqlite(), LookLister(replica, clock, os.environ)
        fetcher = Fetcher(lister, clock.monotonic)
        # What a foreground command kept would be its user's, not the daemon's.
        forwarder = Forwarder(lister, fetcher, kept, _apply, clock) if exclusive else None
        yield Tools(
            settings=settings,
            binary=binary,
            clock=clock,
            ledger=ledger,
            descriptors=descriptors,
            live=live,
            production=production,
            replica=replica,
            requests=lister.requests,
            scratch=scratch,
            kept=kept,
            fetcher=fetcher,
            looker=Looker(live, lister, production, clock),
            driller=Driller(
                replica,
                live,
                integrity,
                scratch,
                clock,
                _comparer(production, settings.state_dir),
                known=lambda database: ledger.snapshot().get(database.path),
                free_memory=FreeMemory().bytes,
                forwarder=forwarder,
            ),
            examiner=Examiner(production, integrity, scratch, clock, apsw.sqlite_lib_version(), _copier(production)),
        )
