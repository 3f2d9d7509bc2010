"""How well a drill is foretold while its database grows: predicted seconds against measured ones, and memory, under the real Litestream.

python -m tests.bench.forecast [figures.json]     (SIZES_MB=10,50,200,500 PARITY=1)

After each step the drill is foretold by those before it, then made. A ratio above 1: it took less than was said.
"""

from __future__ import annotations

import os
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from sidecar.assembly_tools import Tools, load_fleet, tools
from sidecar.commands.progress import unseen
from sidecar.core.evidence import Evidence
from sidecar.core.forecast import Wanted, forecast
from sidecar.core.model import CheckKind, Database, Drill, Outcome
from sidecar.core.policy import Policy
from sidecar.drill_attempt import Order
from sidecar.options import Options
from tests.bench.figures import keep, say
from tests.litestreams import App, Litestream, binary, environment, until

SIZES_MB = [int(each) for each in os.environ.get("SIZES_MB", "10,50,200,500").split(",")]
PARITY = os.environ.get("PARITY", "1") == "1"
NEVER = threading.Event()
MB = 1_000_000
ROWS = 900  # bytes of a row, random, as hex


def grow(app: App, size_mb: int) -> None:
    """Add random rows until the database is so large."""
    while (missing := size_mb * MB - app.path.stat().st_size - wal_bytes(app)) > 0:
        app.connection.execute(
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < ?)"
            f" insert into t (v) select hex(randomblob({ROWS // 2})) from n",
            (max(min(missing, 20 * MB) // (ROWS + 100), 1),),
        )
        app.connection.execute("pragma wal_checkpoint(passive)")


def wal_bytes(app: App) -> int:
    """What the WAL holds beyond the database, roughly: nothing once it was checkpointed."""
    ((_, held, moved),) = app.connection.execute("pragma wal_checkpoint(passive)")
    return int(max(held - moved, 0)) * 4096


def ratio(predicted: float | None, measured: float | None) -> float | None:
    return round(predicted / measured, 2) if predicted is not None and measured else None


def compared(known: Evidence, drill: Drill, wanted: Wanted) -> dict[str, Any]:
    """What was foretold before this drill, beside what it took."""
    ahead = forecast(known, known.live, wanted)
    stages = {
        "restore": (ahead.rto_seconds, (drill.plan_seconds or 0) + (drill.restore_seconds or 0)),
        "check": (ahead.check_seconds, drill.check_seconds),
        "parity": (ahead.parity_seconds if wanted.parity else None, drill.parity_seconds),
        "all": (ahead.seconds, (drill.finished_at - drill.started_at).total_seconds()),
        "memory_mb": (
            ahead.memory_bytes / MB if ahead.memory_bytes else None, drill.memory_bytes / MB if drill.memory_bytes else None,
        ),
    }  # fmt: skip
    return {
        name: {
            "predicted": round(said, 3) if said is not None else None,
            "measured": round(took, 3) if took is not None else None,
            "ratio": ratio(said, took),
        }
        for name, (said, took) in stages.items()
    }


def shown(name: str, figures: dict[str, Any]) -> str:
    said = "unknown" if figures["predicted"] is None else f"{figures['predicted']:.3f}"
    took = "unknown" if figures["measured"] is None else f"{figures['measured']:.3f}"
    return f"{name} {said} / {took}" + (f" = {figures['ratio']:.2f}" if figures["ratio"] is not None else "")


def replicated(kit: Tools, database: Database, policy: Policy, known: Evidence) -> Evidence:
    """After all that was written has reached the replica."""

    def look() -> Evidence | None:
        nonlocal known
        known = kit.looker.look(database, known, policy, 60.0, NEVER).applied(known)
        return None if known.changing else known

    return until(look, within=300, every=0.5, say="all of it in the replica") or known


def measured(folder: Path) -> dict[str, Any]:
    app = App(folder / "data" / "app.db")
    app.write(20)
    config = folder / "litestream.yml"
    config.write_text(f"dbs: [{{path: {app.path}, replica: {{type: file, path: {folder / 'replica'}}}}}]\n")
    ours = folder / "sidecar.yml"
    ours.write_text(f"litestream: {{binary: {binary()}}}\n")
    running = Litestream(config).start()
    found: dict[str, Any] = {}
    try:
        until(lambda: list((folder / "replica" / "ltx" / "9").glob("*.ltx")), within=60, say="a first snapshot")
        with tools(Options(litestream_config=config, config=ours, state_dir=folder / "state"), exclusive=True) as kit:
            fleet = load_fleet(Options(litestream_config=config, config=ours), kit.binary.generation)()
            (database,) = fleet.databases.values()
            policy = fleet.policies[database.path]
            known, wanted = Evidence(first_seen_at=kit.clock.now()), Wanted(CheckKind.QUICK, PARITY)
            for size_mb in SIZES_MB:
                grow(app, size_mb)
                known = replicated(kit, database, policy, known)
                drill = kit.driller.run(Order(database, policy, parity=PARITY), stop=NEVER, progress=unseen)
                assert drill.outcome is Outcome.PASSED, drill.message
                live = kit.live.read(database)  # as the drill saw it, after its plan
                figures = compared(replace(known, live=live), drill, wanted)
                known = known.after_drill(drill)
                found[f"{size_mb} MB"] = {"size_bytes": drill.size_bytes, **figures}
                say(
                    f"{size_mb} MB: predicted / measured = ratio: "
                    + "; ".join(shown(*each) for each in figures.items())
                )
    finally:
        running.stop()
        app.close()
    return found


def main() -> None:
    os.environ.update(environment())
    with tempfile.TemporaryDirectory() as folder:
        keep("forecast", measured(Path(folder)))


if __name__ == "__main__":
    main()
