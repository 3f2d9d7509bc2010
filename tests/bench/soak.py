"""The long soak: days of an app's life in minutes, a thousand drills, every answer held against a model of what was done.

python -m tests.bench.soak [figures.json]     (DRILLS=1000 SECONDS=600 SEED=1)
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.figures import keep, say
from tests.e2e.soak import grown, live, world

DRILLS = int(os.environ.get("DRILLS", "1000"))
SECONDS = float(os.environ.get("SECONDS", "600"))
SEED = int(os.environ.get("SEED", "1"))


def main() -> None:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as made, world(Path(made), SEED) as lived:
        drills = live(lived, SECONDS, DRILLS)
        growth = grown(lived)
        for each in lived.wrong:
            say(f"  WRONG {each}")
        last = lived.sizes[-1]
        say(
            f"{drills} drills, {len(lived.acts)} acts, {len(lived.sizes)} answers in {time.monotonic() - began:.0f} s; {len(lived.wrong)} wrong"
        )
        say(
            f"at the end {last[0]:.1f} MB resident, {last[1]} descriptors, {last[2]} threads, {last[3] / 1000:.0f} KB of state"
        )
        say("grown by " + ", ".join(f"{what} {ratio:.2f}" for what, ratio in growth.items()))
        keep(
            "soak",
            {
                "drills": drills,
                "acts": len(lived.acts),
                "answers": len(lived.sizes),
                "wrong": len(lived.wrong),
                **growth,
            },
        )
        if lived.wrong:
            sys.exit(1)


if __name__ == "__main__":
    main()
