"""Drills with parity beside an app that does everything at once, for as long as one likes: a single `different` is a bug.

python -m tests.bench.parity_soak [figures.json]     (SECONDS=600 SEED=1)
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from tests.bench.figures import keep, say
from tests.parity_stage import V3, V5, Scene, playing

SECONDS = float(os.environ.get("SECONDS", "600"))
SCENE_S = 30.0
PAGE_SIZES = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
WORK = (
    ("steady",),
    ("small",),
    ("small", "churn"),
    ("small", "checkpoints"),
    ("autocheckpoints",),
    ("small", "churn", "checkpoints"),
    ("small", "churn", "vacuum"),
    ("small", "churn", "vacuum", "checkpoints", "autocheckpoints"),
)


class Figures:
    """What the drills said."""

    def __init__(self) -> None:
        self.results: dict[str, Counter[str]] = {}
        self.ratios: dict[str, list[float]] = {}
        self.commits = 0
        self.seconds = 0.0
        self.why: Counter[str] = Counter()

    def add(self, kind: str, scene: Scene, name: str) -> None:
        began, before = time.monotonic(), scene.app.commits
        drill = scene.drill(name)
        self.seconds += time.monotonic() - began
        self.commits += scene.app.commits - before
        parity = drill.parity
        result = parity.result.value if parity is not None else f"no comparison ({drill.reason})"
        self.results.setdefault(kind, Counter())[result] += 1
        if parity is not None and parity.ratio is not None:
            self.ratios.setdefault(kind, []).append(parity.ratio)
        if parity is None or result != "equal":
            message = f"{drill.reason}: {drill.message}" if parity is None else parity.message
            self.why["".join("N" if each.isdigit() else each for each in message)] += 1
            say(f"    {name}: {result}: {message}")
        if result == "different":
            kept = Path(tempfile.mkdtemp(prefix="parity-different-"))
            shutil.copytree(Path(scene.database.meta_path), kept / "meta", dirs_exist_ok=True)
            shutil.copytree(scene.replica, kept / "replica", dirs_exist_ok=True)
            shutil.copytree(scene.kept, kept / "pages", dirs_exist_ok=True)
            say(f"    DIFFERENT: {parity}; kept in {kept}")


def main() -> None:
    chance = random.Random(int(os.environ.get("SEED", "1")))
    figures, ends, number = Figures(), time.monotonic() + SECONDS, 0
    pairs = [(version, work) for work in WORK for version in (V5, V3)]
    with tempfile.TemporaryDirectory() as made:
        while time.monotonic() < ends:
            version, work = pairs[number % len(pairs)]
            page_size, vacuum = chance.choice(PAGE_SIZES), chance.choice(("none", "full", "incremental"))
            kind = f"{version} {'+'.join(work)}"
            say(f"{kind}, pages of {page_size}, auto_vacuum {vacuum}")
            folder = Path(made) / str(number)
            number += 1
            with playing(
                folder, version=version, page_size=page_size, auto_vacuum=vacuum, busy=True, brisk=False,
                rows=chance.choice((100, 5000, 50_000)),
            ) as scene:  # fmt: skip
                scene.app.go(*work, pause=chance.choice((0.0, 0.0, 0.002, 0.02)))
                threading.Event().wait(2)
                until = time.monotonic() + SCENE_S
                while time.monotonic() < min(until, ends):
                    figures.add(kind, scene, f"s{number}-{sum(map(len, figures.ratios.values()))}")
                scene.app.rest()
            shutil.rmtree(folder)
    for kind, results in sorted(figures.results.items()):
        ratios = figures.ratios.get(kind, [])
        shown = f"proven {min(ratios):.4f} at least, {statistics.mean(ratios):.4f} on average" if ratios else ""
        say(f"{kind}: {dict(results)} {shown}")
    total = sum(figures.results.values(), Counter[str]())
    every = [each for ratios in figures.ratios.values() for each in ratios]
    keep(
        "parity_soak",
        {
            "drills": total.total(), "results": dict(total), "proven_min": min(every, default=0.0),
            "proven_mean": statistics.mean(every or [0.0]), "commits_per_second": figures.commits / max(figures.seconds, 1),
            "why": dict(figures.why),
        },
    )  # fmt: skip
    sys.exit(1 if total["different"] else 0)


if __name__ == "__main__":
    main()
