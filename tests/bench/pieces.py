"""Copying a large database that is being written, for its check: in pieces against one read transaction, in turn.

python -m tests.bench.pieces [figures.json]     (SIZE_MB=1000 ROUNDS=5 RATE=100; RATE=0 writes as fast as it can)
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from sidecar.adapters import litestream_yml
from sidecar.adapters.live_descriptors import LiveDescriptors
from sidecar.adapters.local_changes import LocalChanges
from sidecar.adapters.page_file import page_file
from sidecar.adapters.sqlite_live import LiveSqlite
from sidecar.adapters.sqlite_pages import LivePages, PageReader
from sidecar.core.live_state import FileId
from sidecar.core.ports_pages import Snapshot
from sidecar.piecewise import Copier
from tests.bench.app import RATE, commits, writing
from tests.bench.drill import SIZE_MB, build
from tests.bench.figures import keep, middle, say, spread
from tests.copying import around
from tests.litestreams import Litestream, environment

ROUNDS = int(os.environ.get("ROUNDS", "5"))


@dataclass
class TimedReader:
    real: PageReader
    seconds: list[float]

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        began = time.monotonic()
        with self.real.snapshot() as snapshot:
            yield snapshot
        self.seconds.append(time.monotonic() - began)

    def file_id(self) -> FileId:
        return self.real.file_id()


@dataclass
class TimedPages:
    """Production page by page, and how long its read transactions lasted."""

    real: LivePages
    seconds: list[float] = field(default_factory=list)

    @contextlib.contextmanager
    def opened(self, path: str) -> Iterator[TimedReader]:
        with self.real.opened(path) as reader:
            yield TimedReader(reader, self.seconds)


def measured(folder: Path, path: Path, config: Path) -> None:
    database = litestream_yml.read(config, environment(), generation="0.5").databases[0]
    live, counts = LiveSqlite(LiveDescriptors()), folder / "counts"
    pages = TimedPages(LivePages(live))
    copier = Copier(pages, LocalChanges, page_file, live)
    pieces, whole, read_s, snapshots, not_in_pieces = [], [], [], [], 0
    with writing(path, counts):
        Event().wait(3)
        before, began = commits(counts), time.monotonic()
        for _ in range(ROUNDS):
            target = folder / "copy"
            began_s = time.monotonic()
            made = copier.copy(database, target, around())
            pieces.append(time.monotonic() - began_s)
            not_in_pieces += not made.in_pieces
            read_s.append(max(pages.seconds))
            snapshots.append(len(pages.seconds))
            said = f"{', '.join(f'{each:.2f}' for each in pages.seconds)} s"
            pages.seconds.clear()
            target.unlink()
            began_s = time.monotonic()
            live.copy(str(path), target, timeout_s=600, stop=Event(), progress=lambda *_: None)
            whole.append(time.monotonic() - began_s)
            target.unlink()
            say(f"  in pieces {pieces[-1]:.2f} s (read transactions of {said}), whole {whole[-1]:.2f} s")
        rate = (commits(counts) - before) / (time.monotonic() - began)
    ratios = [a / b for a, b in zip(pieces, whole, strict=True)]
    say(f"in pieces {spread(pieces)} s, whole {spread(whole)} s, ratio {spread(ratios)}; {rate:.0f} commits a second")
    keep(
        "pieces",
        {
            "size_mb": SIZE_MB, "rate": RATE, "commits": rate, "pieces_s": middle(pieces), "whole_s": middle(whole),
            "ratio": middle(ratios), "longest_read_s": max(read_s), "snapshots": middle(snapshots), "not_in_pieces": not_in_pieces,
        },
    )  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        path, config = build(folder)
        litestream = Litestream(config).start()
        try:
            say(f"{path.stat().st_size / 1e6:.0f} MB, {RATE:g} commits a second asked for")
            measured(folder, path, config)
        finally:
            litestream.kill()


if __name__ == "__main__":
    main()
