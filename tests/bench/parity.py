"""What comparing page by page costs: drills with and without it in turn, beside an app that writes and a Litestream that runs.

python -m tests.bench.parity [figures.json]     (SIZE_MB=1000 ROUNDS=5 RATE=100; RATE=0 writes as fast as it can)
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.drill import SIZE_MB, build
from tests.bench.figures import keep, middle, say, spread
from tests.litestreams import ROOT, Litestream, environment, until

ROUNDS = int(os.environ.get("ROUNDS", "5"))
RATE = float(os.environ.get("RATE", "100"))
REST_S = float(os.environ.get("REST_S", "3"))  # for the store to become as it was


@dataclass(frozen=True)
class Drilled:
    """One drill beside the app."""

    seconds: float
    commits_per_second: float
    memory_mb: float
    pages: int
    proven: int
    longest_s: float  # read transaction on production


def commits(counts: Path) -> int:
    return int(counts.read_text().split()[0])


def drilled(config: Path, folder: Path, counts: Path, *, parity: bool) -> Drilled:
    before, began = commits(counts), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.one_drill", str(config), str(folder / "scratch")],
        check=True, env=environment(PARITY="1" if parity else "0"), capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    rate = (commits(counts) - before) / (time.monotonic() - began)
    said = done.stdout.split()
    at = said.index("parity")
    say(f"    {done.stdout.strip()}")
    return Drilled(float(said[0]), rate, float(said[-1]), int(said[at + 3]), int(said[at + 4]), float(said[at + 6]))


def at_rest(counts: Path, seconds: float) -> float:
    before, began = commits(counts), time.monotonic()
    threading.Event().wait(seconds)
    return (commits(counts) - before) / (time.monotonic() - began)


def measured(config: Path, folder: Path, counts: Path) -> None:
    plain, compared, alone = [], [], []
    for _ in range(ROUNDS):
        threading.Event().wait(REST_S)
        plain.append(drilled(config, folder, counts, parity=False))
        threading.Event().wait(REST_S)
        compared.append(drilled(config, folder, counts, parity=True))
        threading.Event().wait(REST_S)
        alone.append(at_rest(counts, compared[-1].seconds))
        ratio = compared[-1].seconds / plain[-1].seconds
        say(f"  without {plain[-1].seconds:.2f} s, with {compared[-1].seconds:.2f} s, ratio {ratio:.3f}")
    ratios = [a.seconds / b.seconds for a, b in zip(compared, plain, strict=True)]
    shares = [each.proven / each.pages for each in compared]
    beside = [a.commits_per_second / b for a, b in zip(compared, alone, strict=True)]
    beside_plain = [a.commits_per_second / b for a, b in zip(plain, alone, strict=True)]
    say(f"with against without: ratio {spread(ratios)}; proven {min(shares):.5f} at least")
    say(
        f"commits a second {spread(alone)} alone; during a drill with it {spread(beside)} of that, without {spread(beside_plain)}"
    )
    say(
        f"memory {spread([each.memory_mb for each in compared])} MB with, {spread([each.memory_mb for each in plain])} without"
    )
    say(f"longest read transaction on production {max(each.longest_s for each in compared):.2f} s")
    keep(
        "parity",
        {
            "size_mb": SIZE_MB, "rate": RATE, "ratio": middle(ratios), "proven_min": min(shares),
            "longest_s": max(each.longest_s for each in compared), "commits_ratio": middle(beside), "commits_ratio_without": middle(beside_plain), "commits": middle(alone),
            "memory_mb": middle([each.memory_mb for each in compared]),
            "memory_mb_without": middle([each.memory_mb for each in plain]),
        },
    )  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        database, config = build(folder)
        counts = folder / "counts"
        litestream = Litestream(config).start()
        command = [sys.executable, "-m", "tests.bench.writer", str(database), str(RATE), str(counts)]
        writer = subprocess.Popen(command, cwd=ROOT)
        try:
            until(lambda: counts.exists() and counts.read_text(), say="the app writes")
            threading.Event().wait(2 * REST_S)
            say(
                f"database {database.stat().st_size / 1e6:.0f} MB, {RATE:g} commits a second asked for; {ROUNDS} rounds, in turn"
            )
            measured(config, folder, counts)
        finally:
            writer.send_signal(signal.SIGTERM)
            writer.wait()
            litestream.kill()


if __name__ == "__main__":
    main()
