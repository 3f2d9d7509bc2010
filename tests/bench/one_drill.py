"""One drill in a process of its own, for `tests.bench.drill` and `parity`: prints seconds, outcome and the stages.

With PARITY=1 it is compared with production. The last word is the most memory that the process took, in MB.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path

from sidecar.assembly_tools import load_fleet, tools
from sidecar.commands.progress import unseen
from sidecar.drill import Order
from sidecar.options import Options
from tests.litestreams import binary


def main() -> None:
    config, scratch = Path(sys.argv[1]), Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as state:
        ours = Path(state) / "sidecar.yml"
        ours.write_text(f"litestream: {{binary: {binary()}}}\nscratch-dir: {scratch}\n")
        options = Options(litestream_config=config, config=ours, state_dir=Path(state) / "state")
        with tools(options, exclusive=True) as kit:
            fleet = load_fleet(options, kit.binary.generation)()
            database = next(iter(fleet.databases.values()))
            order = Order(database, fleet.policies[database.path], parity=os.environ.get("PARITY") == "1")
            began = time.monotonic()
            drill = kit.driller.run(order, stop=threading.Event(), progress=unseen)
            spent = time.monotonic() - began
    stages = f"plan {drill.plan_seconds} restore {drill.restore_seconds} check {drill.check_seconds}"
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    parity = drill.parity
    proven = f"{parity.result} {parity.pages} {parity.proven}" if parity is not None else "- 0 0"
    stages += f" parity {drill.parity_seconds} {proven}"
    sys.stdout.write(f"{spent:.3f} {drill.outcome} {stages} {drill.message} {memory_mb:.0f}\n")


if __name__ == "__main__":
    main()
