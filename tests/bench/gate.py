"""The gate before a deploy against the shell script that would do the same by hand, beside a Litestream that runs.

The script: restore, quick_check, keep the copy and hash it; copy production (`.backup`) and quick_check that.
python -m tests.bench.gate [figures.json]     (SIZE_MB=1000 ROUNDS=3)
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.drill import SIZE_MB, build
from tests.bench.figures import keep, middle, say, spread
from tests.litestreams import Litestream, binary, environment, until

ROUNDS = int(os.environ.get("ROUNDS", "3"))


def by_hand(folder: Path, database: Path, config: Path) -> float:
    out, kept, copy = folder / "out.db", folder / "kept.db", folder / "copy.db"
    script = (
        f"rm -f {out}* {kept} {copy}; {binary()} restore -config {config} -o {out} {database} >/dev/null"
        f" && sqlite3 {out} 'pragma quick_check' && mv {out} {kept} && sha256sum {kept} && sync {kept}"
        f" && sqlite3 {database} '.backup {copy}' && sqlite3 {copy} 'pragma quick_check' && rm -f {out}* {copy} {kept}"
    )
    began = time.monotonic()
    subprocess.run(["sh", "-ec", script], check=True, env=environment(), stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def gate(folder: Path, config: Path, ours: Path) -> float:
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "sidecar", "gate", "--litestream-config", str(config), "--config", str(ours),
         "--state-dir", str(folder / "state")],
        check=True, env=environment(), stdout=subprocess.DEVNULL,
    )  # fmt: skip
    spent = time.monotonic() - began
    shutil.rmtree(folder / "state" / "rollback")  # what is kept is not what is measured
    return spent


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        database, config = build(folder)
        config.write_text(f"socket: {{enabled: true, path: {folder}/l.sock}}\n{config.read_text()}")
        ours = folder / "sidecar.yml"
        ours.write_text(f"litestream: {{binary: {binary()}}}\n")
        litestream = Litestream(config).start()
        try:
            until((folder / "l.sock").exists, say="Litestream runs")
            say(
                f"database {database.stat().st_size / 1e6:.0f} MB (SIZE_MB={SIZE_MB}), file replica; {ROUNDS} rounds, in turn"
            )
            theirs, mine = [], []
            for _ in range(ROUNDS):
                theirs.append(by_hand(folder, database, config))
                mine.append(gate(folder, config, ours))
                say(f"  by hand {theirs[-1]:.2f} s, gate {mine[-1]:.2f} s, ratio {mine[-1] / theirs[-1]:.3f}")
        finally:
            litestream.kill()
        ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
        say(f"gate {spread(mine)} s, by hand {spread(theirs)} s, ratio {spread(ratios)}")
        keep("gate", {"gate_s": middle(mine), "by_hand_s": middle(theirs), "ratio": middle(ratios)})


if __name__ == "__main__":
    main()
