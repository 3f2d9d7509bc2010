"""The daemon under clients that mean no good: `/ready` alone, beside 500 half-open connections and 50 slow readers, and at 1,000 a second for a minute.

Latencies count from when a request was due. The clients are processes of their own, on the same two cores.
python -m tests.bench.http [figures.json]     (LOAD_S=60 CROWD_S=20 RATE=1000 HALVES=500 SLOW=50)
"""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path

from tests.bench.figures import keep, say
from tests.bench.rest import cpu_s, rss_mb
from tests.crowd import outside
from tests.e2e.stage import Sidecar, stage

LOAD_S, CROWD_S = float(os.environ.get("LOAD_S", "60")), float(os.environ.get("CROWD_S", "20"))
RATE, HALVES, SLOW = (
    float(os.environ.get(name, value)) for name, value in (("RATE", "1000"), ("HALVES", "500"), ("SLOW", "50"))
)
ASIDE_PER_S = 50.0  # of the requests whose latency is of interest, beside what else there is
SETTLE_S = 15.0  # until what was left of a crowd has been dropped


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def held(sidecar: Sidecar) -> dict[str, float]:
    return {"rss_mb": round(rss_mb(sidecar.pid), 1), "descriptors": descriptors(sidecar.pid)}


def asked(sidecar: Sidecar, what: str, rate: float, seconds: float) -> dict[str, float]:
    """What became of requests at a rate, and what they cost the daemon."""
    before = cpu_s(sidecar.pid)
    with outside(sidecar.port, rate=rate, seconds=seconds) as asking:
        found = asking.line()
    found |= {"cpu_share": round((cpu_s(sidecar.pid) - before) / seconds, 3), **held(sidecar)}
    say(
        f"{what}: {found['answered']:.0f} answered, {found['per_second']:.0f}/s of {rate:.0f}/s, {found['errors']:.0f} errors; p50 "
        f"{found['p50_ms']:.2f} ms, p99 {found['p99_ms']:.2f} ms, max {found['max_ms']:.2f} ms; {found['cpu_share']:.0%} of a core, "
        f"{found['rss_mb']:.1f} MB, {found['descriptors']:.0f} descriptors"
    )
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as made, stage(Path(made)) as acting:
        acting.app.write(1000)
        acting.litestream.start()
        acting.sidecar.start()
        acting.sidecar.until_ready(within=90)
        figures: dict[str, object] = {"before": held(acting.sidecar)}
        figures["alone"] = asked(acting.sidecar, "/ready alone", ASIDE_PER_S, CROWD_S)
        with outside(acting.sidecar.port, halves=HALVES, slow=SLOW, seconds=CROWD_S * 10):
            threading.Event().wait(2)
            what = f"/ready beside {HALVES:.0f} half-open connections and {SLOW:.0f} slow readers"
            figures["crowd"] = asked(acting.sidecar, what, ASIDE_PER_S, CROWD_S)
        threading.Event().wait(SETTLE_S)
        figures["after_crowd"] = held(acting.sidecar)
        figures["load"] = asked(acting.sidecar, f"/ready for {LOAD_S:.0f} s", RATE, LOAD_S)
        threading.Event().wait(SETTLE_S)
        figures["after"] = held(acting.sidecar)
        say(
            f"held before, after the crowd, in the end: {figures['before']}, {figures['after_crowd']}, {figures['after']}"
        )
        keep("http", figures)


if __name__ == "__main__":
    main()
