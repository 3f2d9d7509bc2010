"""Copies in pieces beside an app that does everything at once, for as long as one likes: a single one that is not exact is a bug.

python -m tests.bench.copy_soak [figures.json]     (SECONDS=600 SEED=1)

Each copy is held, byte for byte, against SQLite's own copy of the same read transaction, and against integrity_check and the app's sums.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sidecar.pieces import Pace
from sidecar.piecewise import NotCopied
from tests.bench.figures import keep, middle, say
from tests.bench.parity_soak import PAGE_SIZES, WORK
from tests.copying import Copies, keep_tally
from tests.parity_stage import V3, V5, Scene, playing

SECONDS = float(os.environ.get("SECONDS", "600"))
SCENE_S = 20.0
SETTLE_S = 10.0
PIECES_S = (0.0, 0.005, 0.02, 0.1)  # of a database of some megabytes; the default second holds it whole
VERSIONS = (V5, V5, V3)
RESTARTED = 0.4  # of the scenes


@dataclass
class Figures:
    """What became of the copies."""

    results: Counter[str] = field(default_factory=Counter)
    by_kind: dict[str, Counter[str]] = field(default_factory=dict)
    snapshots: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    why: Counter[str] = field(default_factory=Counter)
    commits: int = 0

    def add(self, kind: str, copying: Copies) -> None:
        began = time.monotonic()
        snapshots = 0
        try:
            snapshots = copying.one().snapshots
            self.seconds.append(time.monotonic() - began)
            self.snapshots.append(snapshots)
            result = "equal" if copying.exact and not copying.wrong else "NOT EQUAL"
        except NotCopied as error:
            result = "given up"
            self.why[error.message.rpartition("in pieces, ")[2]] += 1
        self.results[result] += 1
        self.by_kind.setdefault(kind, Counter())[result] += 1
        if result == "NOT EQUAL":
            kept = Path(tempfile.mkdtemp(prefix="copy-not-equal-"))
            shutil.copy(copying.target, kept / "copy")
            (kept / "sqlites").write_bytes(b"".join(copying.witness.last))
            say(f"    NOT EQUAL, {snapshots} snapshots: {copying.wrong}; kept in {kept}")


@contextlib.contextmanager
def restarting(scene: Scene, *, often: bool) -> Iterator[None]:
    """Litestream comes and goes meanwhile: what the app commits in between may be in none of its lists."""
    over = threading.Event()

    def restart() -> None:
        while often and not over.wait(0.7):
            scene.litestream.kill()
            over.wait(0.5)
            scene.litestream.start()

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def main() -> None:
    chance = random.Random(int(os.environ.get("SEED", "1")))
    figures, ends, number = Figures(), time.monotonic() + SECONDS, 0
    kinds = [(version, work) for work in WORK for version in VERSIONS]
    with tempfile.TemporaryDirectory() as made:
        while time.monotonic() < ends:
            version, work = kinds[number % len(kinds)]
            page_size, vacuum = chance.choice(PAGE_SIZES), chance.choice(("none", "full", "incremental"))
            piece_s, pause = chance.choice(PIECES_S), chance.choice((0.0, 0.001, 0.005, 0.02))
            often = chance.random() < RESTARTED
            kind = f"{version} {'+'.join(work)}{', Litestream restarted' if often else ''}"
            say(f"{kind}, pages of {page_size}, auto_vacuum {vacuum}, pieces of {piece_s:g} s, a pause of {pause:g} s")
            folder = Path(made) / str(number)
            number += 1
            with playing(
                folder, version=version, page_size=page_size, auto_vacuum=vacuum, busy=True,
                rows=chance.choice((5000, 30_000, 60_000)),
            ) as scene:  # fmt: skip
                keep_tally(scene.app)
                scene.app.go(*work, pause=pause)
                threading.Event().wait(1)
                copying = Copies(
                    scene.database, folder, Pace(piece_s=piece_s, rest_s=0.005, settle_s=SETTLE_S), hold_s=0.0
                )
                until = min(time.monotonic() + SCENE_S, ends)
                with restarting(scene, often=often):
                    while time.monotonic() < until:
                        figures.add(kind, copying)
                figures.commits += scene.app.rest()
            shutil.rmtree(folder)
    for kind, results in sorted(figures.by_kind.items()):
        say(f"{kind}: {dict(results)}")
    keep(
        "copy_soak",
        {
            "copies": figures.results.total(), "results": dict(figures.results), "scenes": number, "commits": figures.commits,
            "snapshots_middle": middle(figures.snapshots or [0]), "snapshots_max": max(figures.snapshots, default=0),
            "seconds_middle": middle(figures.seconds or [0]), "seconds_max": max(figures.seconds, default=0), "why": dict(figures.why),
        },
    )  # fmt: skip
    sys.exit(1 if figures.results["NOT EQUAL"] else 0)


if __name__ == "__main__":
    main()
