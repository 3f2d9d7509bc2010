"""A drill that brings a kept copy forward against one that restores the whole, in turn, under the real Litestream.

python -m tests.bench.by_change [figures.json]     (SIZES_MB=100,1000 CHURN=0.01 ROUNDS=3 PARITY=1)

CPU seconds are those of this process and of its children. Both drills make the same checks and prove the same position.
"""

from __future__ import annotations

import os
import random
import resource
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sidecar.assembly_tools import Tools, load_fleet, tools
from sidecar.commands.progress import unseen
from sidecar.core.evidence import Evidence
from sidecar.core.model import Database, Drill, Outcome
from sidecar.core.policy import Policy
from sidecar.drill_attempt import Order
from sidecar.options import Options
from tests.bench.figures import keep, middle, say
from tests.bench.forecast import grow, replicated
from tests.litestreams import App, Litestream, binary, environment, until

SIZES_MB = [int(each) for each in os.environ.get("SIZES_MB", "100,1000").split(",")]
CHURN = float(os.environ.get("CHURN", "0.01"))  # of the pages
ROUNDS = int(os.environ.get("ROUNDS", "3"))
PARITY = os.environ.get("PARITY", "1") == "1"
COMMITS = 10
NEVER = threading.Event()


@dataclass
class Cost:
    """Of one drill."""

    drill: Drill
    cpu_s: float
    wall_s: float
    peak_mb: float  # of this process alone


def cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmHWM:"))


def churn(app: App, *, pause_s: float = 0.3) -> None:
    """Change that share of the pages, at random, in some commits."""
    (pages,), (rows,) = app.execute("pragma page_count")[0], app.execute("select max(id) from t")[0]
    ids = random.sample(range(1, int(str(rows))), max(int(int(str(pages)) * CHURN), COMMITS))
    for number in range(COMMITS):
        app.connection.execute("begin immediate")
        app.connection.executemany(
            "update t set v = substr(v, 1, 8) || hex(randomblob(440)) where id = ?",
            [(each,) for each in ids[number::COMMITS]],
        )
        app.connection.execute("commit")
        time.sleep(pause_s)


def made(kit: Tools, database: Database, policy: Policy, *, by_change: bool) -> Cost:
    order = Order(database, policy, parity=PARITY, asked=not by_change, by_change=by_change)
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before, began = cpu_s(), time.monotonic()
    drill = kit.driller.run(order, stop=NEVER, progress=unseen)
    cost = Cost(drill, cpu_s() - before, time.monotonic() - began, peak_mb())
    assert (drill.outcome, drill.by_change) == (Outcome.PASSED, by_change), drill.message
    return cost


def stages(costs: list[Cost]) -> dict[str, float]:
    """Medians, in seconds and MB."""
    names = ("plan_seconds", "restore_seconds", "apply_seconds", "check_seconds", "parity_seconds")
    each = {name: [getattr(cost.drill, name) for cost in costs] for name in names}
    found = {name: middle(values) for name, values in each.items() if None not in values}
    mb = {"our_peak_mb": middle([cost.peak_mb for cost in costs])}
    if costs[0].drill.memory_bytes is not None:
        mb["litestream_peak_mb"] = middle([(cost.drill.memory_bytes or 0) / 1e6 for cost in costs])
    return {
        "cpu": middle([cost.cpu_s for cost in costs]),
        "wall": middle([cost.wall_s for cost in costs]),
        **found,
        **mb,
    }


def at(size_mb: int, app: App, kit: Tools, database: Database, policy: Policy) -> dict[str, Any]:
    grow(app, size_mb)
    known = replicated(kit, database, policy, Evidence(first_seen_at=kit.clock.now()))
    made(kit, database, policy, by_change=False)
    whole, news = [], []
    for _ in range(ROUNDS):
        churn(app)
        known = replicated(kit, database, policy, replace(known, sighting=None))
        news.append(made(kit, database, policy, by_change=True))
        whole.append(made(kit, database, policy, by_change=False))
    figures = {"whole": stages(whole), "by_change": stages(news)}
    times = {what: round(figures["whole"][what] / max(figures["by_change"][what], 1e-6), 1) for what in ("cpu", "wall")}
    for name, each in figures.items():
        say(f"{size_mb} MB {name:9} " + "  ".join(f"{what} {figure:.3f}" for what, figure in each.items()))
    say(f"{size_mb} MB, {CHURN:.1%} of the pages: {times['cpu']} times less CPU, {times['wall']} times less time")
    return figures | {"times": times}


def measured(folder: Path) -> dict[str, Any]:
    app = App(folder / "data" / "app.db")
    app.write(20)
    config, ours = folder / "litestream.yml", folder / "sidecar.yml"
    config.write_text(f"dbs: [{{path: {app.path}, replica: {{type: file, path: {folder / 'replica'}}}}}]\n")
    ours.write_text(f"litestream: {{binary: {binary()}}}\npolicy: {{drill-by-change-from: 1kB}}\n")
    running = Litestream(config).start()
    try:
        until(lambda: list((folder / "replica" / "ltx" / "9").glob("*.ltx")), within=60, say="a first snapshot")
        options = Options(litestream_config=config, config=ours, state_dir=folder / "state")
        with tools(options, exclusive=True) as kit:
            fleet = load_fleet(options, kit.binary.generation)()
            (database,) = fleet.databases.values()
            return {f"{size} MB": at(size, app, kit, database, fleet.policies[database.path]) for size in SIZES_MB}
    finally:
        running.stop()
        app.close()


def main() -> None:
    os.environ.update(environment())
    with tempfile.TemporaryDirectory() as folder:
        keep("by_change", {"churn": CHURN, "rounds": ROUNDS, **measured(Path(folder))})


if __name__ == "__main__":
    main()
