"""What a database at rest costs: a drill that compares, a check of production, a look, and the drill that is not made, each in CPU seconds.

python -m tests.bench.skipped [figures.json]     (SIZES_MB=0.1,100,1000 ROUNDS=5)

In turn, in one process: its own CPU and that of the children it has waited for.
"""

from __future__ import annotations

import os
import resource
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sidecar.assembly_tools import load_fleet, tools
from sidecar.commands.progress import unseen
from sidecar.core.evidence import Evidence
from sidecar.core.model import CheckKind
from sidecar.core.schedule import Busy, Seats, Subject, due
from sidecar.drill_attempt import Order
from sidecar.options import Options
from tests.bench.figures import keep, middle, say
from tests.litestreams import App, Litestream, binary, environment, until

SIZES_MB = [float(each) for each in os.environ.get("SIZES_MB", "0.1,100,1000").split(",")]
ROUNDS = int(os.environ.get("ROUNDS", "5"))
NEVER = threading.Event()


def cpu_s() -> float:
    return sum(
        used.ru_utime + used.ru_stime
        for used in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def spent(what: Callable[[], object]) -> float:
    began = cpu_s()
    what()
    return cpu_s() - began


def build(folder: Path, size_mb: float) -> tuple[App, Litestream, Path]:
    """A database of random rows, replicated, Litestream running on, nobody writing."""
    app = App(folder / "data" / "app.db")
    app.write(20)
    for _ in range(int(size_mb) // 10):
        app.connection.execute(
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 10000)"
            " insert into t (v) select hex(randomblob(450)) from n"
        )
    config = folder / "litestream.yml"
    config.write_text(f"dbs: [{{path: {app.path}, replica: {{type: file, path: {folder / 'replica'}}}}}]\n")
    running = Litestream(config).start()
    until(lambda: list((folder / "replica" / "ltx" / "9").glob("*.ltx")), within=600, every=0.5, say="a first snapshot")
    return app, running, config


def measured(folder: Path, size_mb: float) -> dict[str, float]:
    app, running, config = build(folder, size_mb)
    ours = folder / "sidecar.yml"
    ours.write_text(f"litestream: {{binary: {binary()}}}\n")
    options = Options(litestream_config=config, config=ours, state_dir=folder / "state")
    taken: dict[str, list[float]] = {"drill": [], "check": [], "look": [], "skipped": []}
    try:
        with tools(options, exclusive=True) as kit:
            fleet = load_fleet(options, kit.binary.generation)()
            (database,) = fleet.databases.values()
            policy = fleet.policies[database.path]
            known = Evidence(first_seen_at=kit.clock.now())

            def look() -> None:
                nonlocal known
                known = kit.looker.look(database, known, policy, 60.0, NEVER).applied(known)

            def drill() -> None:
                nonlocal known
                order = Order(
                    database, policy, CheckKind.FULL if known.last_audit is None else CheckKind.QUICK, parity=True
                )
                known = known.after_drill(kit.driller.run(order, stop=NEVER, progress=unseen))

            def check() -> None:
                assert known.live is not None
                found = kit.examiner.run(database, policy, known.live, stop=NEVER, progress=unseen)
                assert found.sound, found.message

            def skip() -> None:
                later = kit.clock.now() + policy.drill_every
                assert known.sighting is not None
                seen = replace(known, sighting=replace(known.sighting, read_at=later))
                work = due(
                    {"a": Subject.of(seen, policy)}, later, seats=Seats(4, 1), busy=Busy(frozenset(), frozenset())
                )
                assert work.standing == ("a",), known.last_drill
                seen.after_standing()

            look()
            drill()
            for _ in range(ROUNDS):
                for name, what in (("look", look), ("drill", drill), ("check", check), ("skipped", skip)):
                    taken[name].append(spent(what))
    finally:
        running.stop()
        app.close()
    return {f"{name}_cpu_s": round(middle(values), 5) for name, values in taken.items()}


def main() -> None:
    os.environ.update(environment())
    found = {}
    for size_mb in SIZES_MB:
        with tempfile.TemporaryDirectory() as folder:
            figures = measured(Path(folder), size_mb)
        found[f"{size_mb:g} MB"] = figures
        drill, check = figures["drill_cpu_s"], figures["check_cpu_s"]
        say(
            f"{size_mb:g} MB: drill {drill:.3f}, check of production {check:.3f}, look {figures['look_cpu_s']:.3f}, "
            f"not made {figures['skipped_cpu_s']:.5f} CPU s; a day at rest by the default policy: "
            f"{4 * drill:.2f} with drills (each is a check, too), {4 * check + drill / 7:.2f} without: {4 * drill / (4 * check + drill / 7):.1f} times less"
        )
    keep("skipped", {"rounds": ROUNDS, **found})


if __name__ == "__main__":
    main()
