"""One drill in a process of its own, for `tests.bench.drill` and `parity`: prints seconds, outcome and the stages.

With PARITY=1 it is compared with production. The last word is the most memory that the process took, in MB; `longest` its longest
read transaction on production, in seconds.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from sidecar.assembly_tools import load_fleet, tools
from sidecar.commands.progress import unseen
from sidecar.core.live_state import FileId
from sidecar.core.ports_pages import LivePages, PageReader, Snapshot
from sidecar.drill_attempt import Order
from sidecar.options import Options
from tests.litestreams import binary


@dataclass
class TimedReader:
    """A reader of production's pages that says how long the longest read transaction was, in seconds."""

    real: PageReader
    longest: list[float]

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        with self.real.snapshot() as snapshot:
            began = time.monotonic()
            yield snapshot
            self.longest.append(time.monotonic() - began)

    def file_id(self) -> FileId:
        return self.real.file_id()


@dataclass
class TimedPages:
    """The same for whoever opens one."""

    real: LivePages
    longest: list[float] = field(default_factory=list)

    @contextlib.contextmanager
    def opened(self, path: str) -> Iterator[TimedReader]:
        with self.real.opened(path) as reader:
            yield TimedReader(reader, self.longest)


def main() -> None:
    config, scratch = Path(sys.argv[1]), Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as state:
        ours = Path(state) / "sidecar.yml"
        ours.write_text(f"litestream: {{binary: {binary()}}}\nscratch-dir: {scratch}\n")
        options = Options(litestream_config=config, config=ours, state_dir=Path(state) / "state")
        with tools(options, exclusive=True) as kit:
            fleet = load_fleet(options, kit.binary.generation)()
            database = next(iter(fleet.databases.values()))
            order = Order(database, fleet.policies[database.path], parity=os.environ.get("PARITY") == "1")
            assert kit.driller.comparer is not None
            pages = TimedPages(kit.driller.comparer.pages)
            driller = replace(kit.driller, comparer=replace(kit.driller.comparer, pages=pages))
            began = time.monotonic()
            drill = driller.run(order, stop=threading.Event(), progress=unseen)
            spent = time.monotonic() - began
    stages = f"plan {drill.plan_seconds} restore {drill.restore_seconds} check {drill.check_seconds}"
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    parity = drill.parity
    proven = f"{parity.result} {parity.pages} {parity.proven}" if parity is not None else "- 0 0"
    stages += f" parity {drill.parity_seconds} {proven} longest {max(pages.longest, default=0.0):.3f}"
    sys.stdout.write(f"{spent:.3f} {drill.outcome} {stages} {drill.message} {memory_mb:.0f}\n")


if __name__ == "__main__":
    main()
