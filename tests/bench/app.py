"""What the app feels of the daemon: phases with and without it in turn, beside a writing app and a running Litestream.

python -m tests.bench.app [figures.json]     (SIZE_MB=1000 ROUNDS=3 PHASE_S=45 RATE=100; RATE=0 writes as fast as it can)

In each phase with it the daemon starts from nothing, with the default policy, and drills again as soon as a drill has ended. With CHECKS=1 it
does not drill but checks production's content, every few seconds. How
long its read transactions on production last, and that it takes no lock to write or to checkpoint, is read from outside, in /proc/locks.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.bench.drill import SIZE_MB, build
from tests.bench.figures import keep, middle, say, spread
from tests.e2e.stage import Sidecar
from tests.litestreams import ROOT, Litestream, binary, until

ROUNDS = int(os.environ.get("ROUNDS", "3"))
PHASE_S = float(os.environ.get("PHASE_S", "45"))
RATE = float(os.environ.get("RATE", "100"))
CHECKS = os.environ.get("CHECKS", "") == "1"
CHECKING = "policy: {parity: false, database-check-every: 10s}\n"
CHECKED = "app: copied in "  # the daemon's log says so of each copy in pieces
# In the -shm (https://www.sqlite.org/walformat.html#wal_locks): to write, to checkpoint, to recover; then the read marks.
WRITES, READS = range(120, 123), range(123, 128)


@dataclass
class Locks:
    """What a process holds on a database's -shm, looked at a hundred times a second."""

    shm: Path
    pid: int
    longest_read_s: float = 0.0
    writes: int = 0  # looks at which it held a lock to write, checkpoint or recover
    looks: int = 0
    _since_s: float | None = field(default=None, repr=False)

    def look(self) -> None:
        """Once."""
        inode, reading = self.shm.stat().st_ino, False
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if "->" in words or int(words[4]) != self.pid or int(words[5].rsplit(":", 1)[1]) != inode:
                continue
            first = int(words[6])
            reading = reading or first in READS
            self.writes += first in WRITES or words[3] == "WRITE"
        self.looks += 1
        now_s = time.monotonic()
        if not reading:
            self._since_s = None
            return
        self._since_s = now_s if self._since_s is None else self._since_s
        self.longest_read_s = max(self.longest_read_s, now_s - self._since_s)


@dataclass(frozen=True)
class Phase:
    """What the app felt."""

    commits_per_second: float
    slowest_s: float
    wal_mb: float
    drills: int = 0
    checks: int = 0


@contextlib.contextmanager
def writing(database: Path, counts: Path) -> Iterator[subprocess.Popen[str]]:
    counts.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.bench.writer", str(database), str(RATE), str(counts)]
    writer = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    until(lambda: counts.exists() and counts.read_text(), say="the app writes")
    try:
        yield writer
    finally:
        ended = writer.poll()
        writer.send_signal(signal.SIGTERM)
        _, error = writer.communicate()
        assert ended is None, f"the app failed: {error}"


def phase(database: Path, counts: Path, sidecar: Sidecar | None) -> tuple[Phase, Locks | None]:
    """One phase; with the daemon where one is given."""
    wal, largest, drills, checks = database.with_name(f"{database.name}-wal"), 0, 0, 0
    with writing(database, counts):
        if sidecar is not None:
            sidecar.start()
        locks = Locks(database.with_name(f"{database.name}-shm"), sidecar.pid) if sidecar is not None else None
        before, ends_s, began_s, asked_s = commits(counts), time.monotonic() + PHASE_S, time.monotonic(), 0.0
        while (now_s := time.monotonic()) < ends_s:
            largest = max(largest, wal.stat().st_size)
            if locks is not None:
                locks.look()
            if sidecar is not None and not CHECKS and now_s - asked_s > 1:
                asked_s = now_s
                httpx.post(f"{sidecar.url}/drills", json={"db": "app"})
            threading.Event().wait(0.01)
        if sidecar is not None:
            drills = int(sidecar.metric("drills_total", outcome="passed") or 0)
        done = (commits(counts) - before) / (time.monotonic() - began_s)
        slowest_s = float(counts.read_text().split()[1])
        if sidecar is not None:
            sidecar.stop()
            checks = sidecar.log.count(CHECKED)
    return Phase(done, slowest_s, largest / 1e6, drills, checks), locks


def commits(counts: Path) -> int:
    return int(counts.read_text().split()[0])


def measured(folder: Path, database: Path, config: Path) -> None:
    ours = folder / "sidecar.yml"
    ours.write_text(f"litestream: {{binary: {binary()}}}\n{CHECKING if CHECKS else ''}")
    state, counts = folder / "state", folder / "counts"
    without, beside, held = [], [], []
    phase(database, counts, None)  # the first minutes of a store are not like the others
    for _ in range(ROUNDS):
        without.append(phase(database, counts, None)[0])
        shutil.rmtree(state, ignore_errors=True)
        (folder / "sidecar.log").unlink(missing_ok=True)
        seen, locks = phase(database, counts, Sidecar(config, ours, state))
        assert locks is not None
        beside.append(seen)
        held.append(locks)
        say(f"  without {without[-1]}\n  with    {seen}\n          {locks}")
    ratios = [a.commits_per_second / b.commits_per_second for a, b in zip(beside, without, strict=True)]
    say(
        f"commits a second {spread([each.commits_per_second for each in without])} without; with {spread(ratios)} of that"
    )
    say(
        f"slowest commit {max(each.slowest_s for each in without):.3f} s without, {max(each.slowest_s for each in beside):.3f} s with"
    )
    say(
        f"largest WAL {max(each.wal_mb for each in without):.1f} MB without, {max(each.wal_mb for each in beside):.1f} MB with"
    )
    say(
        f"longest read transaction {max(each.longest_read_s for each in held):.2f} s; "
        f"locks to write or checkpoint {sum(each.writes for each in held)} in {sum(each.looks for each in held)} looks"
    )
    keep(
        "app",
        {
            "size_mb": SIZE_MB, "rate": RATE, "commits": middle([each.commits_per_second for each in without]),
            "commits_ratio": middle(ratios), "slowest_s": max(each.slowest_s for each in beside),
            "slowest_without_s": max(each.slowest_s for each in without), "wal_mb": max(each.wal_mb for each in beside),
            "wal_without_mb": max(each.wal_mb for each in without), "longest_read_s": max(each.longest_read_s for each in held),
            "write_locks": sum(each.writes for each in held), "drills": sum(each.drills for each in beside),
            "checks_in_pieces": sum(each.checks for each in beside),
        },
    )  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        database, config = build(folder)
        litestream = Litestream(config).start()
        try:
            say(
                f"{database.stat().st_size / 1e6:.0f} MB, {RATE:g} commits a second asked for, {ROUNDS} rounds of {PHASE_S:g} s each"
            )
            measured(folder, database, config)
        finally:
            litestream.kill()


if __name__ == "__main__":
    main()
