"""A drill of a large database against the shell script that everybody writes: restore, then sqlite3 quick_check.

python -m tests.bench.drill [figures.json]     (SIZE_MB=1000 ROUNDS=5)
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.figures import keep, middle, say, spread
from tests.litestreams import App, Litestream, binary, environment, until

SIZE_MB = int(os.environ.get("SIZE_MB", "1000"))
ROUNDS = int(os.environ.get("ROUNDS", "5"))


def build(folder: Path) -> tuple[Path, Path]:
    """A database of random rows with an index, replicated to a folder; Litestream is stopped afterwards."""
    app = App(folder / "data" / "app.db")
    app.execute("create index if not exists t_v on t (substr(v, 1, 8))")
    for _ in range(SIZE_MB // 10):
        app.connection.execute(
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 10000)"
            " insert into t (v) select hex(randomblob(450)) from n"
        )
    config = folder / "litestream.yml"
    config.write_text(f"dbs: [{{path: {app.path}, replica: {{type: file, path: {folder / 'replica'}}}}}]\n")
    litestream = Litestream(config).start()
    snapshots = folder / "replica" / "ltx" / "9"
    until(lambda: list(snapshots.glob("*.ltx")), within=300, every=0.5, say="the first snapshot")
    litestream.stop()
    app.close()
    return app.path, config


def shell(config: Path, database: Path, out: Path) -> float:
    script = (
        f"rm -f {out} {out}-wal {out}-shm; {binary()} restore -config {config} -o {out} {database} >/dev/null"
        f" && sqlite3 {out} 'pragma quick_check' && rm -f {out} {out}-wal {out}-shm"
    )
    began = time.monotonic()
    subprocess.run(["sh", "-c", script], check=True, env=environment(), stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def sidecar(config: Path, folder: Path) -> float:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.one_drill", str(config), str(folder / "scratch")],
        check=True, env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    say(f"    {done.stdout.strip()} (whole process {time.monotonic() - began:.2f} s)")
    return float(done.stdout.split()[0])


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        database, config = build(folder)
        size = database.stat().st_size / 1e6
        say(f"database {size:.0f} MB, file replica; {ROUNDS} rounds, in turn")
        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(ROUNDS):
            theirs.append(shell(config, database, folder / "out.db"))
            ours.append(sidecar(config, folder))
            say(f"  shell {theirs[-1]:.2f} s, drill {ours[-1]:.2f} s, ratio {ours[-1] / theirs[-1]:.3f}")
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        say(f"drill {spread(ours)} s, shell {spread(theirs)} s, ratio {spread(ratios)}")
        keep("drill", {"size_mb": size, "drill_s": middle(ours), "shell_s": middle(theirs), "ratio": middle(ratios)})


if __name__ == "__main__":
    main()
