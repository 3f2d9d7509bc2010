"""The daemon at rest with one database: start to /livez, resident memory, CPU, and /ready under 500 requests a second.

python -m tests.bench.rest [figures.json]     (REST_S=60 LOAD_S=10 STARTS=5)
"""

from __future__ import annotations

import http.client
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.bench.figures import keep, middle, say
from tests.e2e.stage import stage

REST_S = float(os.environ.get("REST_S", "60"))
LOAD_S = float(os.environ.get("LOAD_S", "10"))
RATE = 500
CLIENTS = 4
STARTS = int(os.environ.get("STARTS", "5"))


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


def load(port: int) -> list[float]:
    """RATE requests a second from CLIENTS keep-alive connections, each sent on its own schedule; seconds each."""
    taken: list[float] = []

    def client(offset: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.connect()
        step, began = CLIENTS / RATE, time.monotonic()
        for turn in range(int(LOAD_S * RATE / CLIENTS)):
            due = began + offset + turn * step
            if (wait := due - time.monotonic()) > 0:
                time.sleep(wait)
            asked = time.monotonic()
            connection.request("GET", "/ready")
            connection.getresponse().read()
            taken.append(time.monotonic() - asked)

    threads = [threading.Thread(target=client, args=(each / RATE,)) for each in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken


def starts(folder: Path) -> list[float]:
    taken: list[float] = []
    for turn in range(STARTS):
        with stage(folder / f"start{turn}") as acting:
            began = time.monotonic()
            acting.sidecar.start()
            taken.append(time.monotonic() - began)
            acting.sidecar.stop()
    return taken


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        first = starts(Path(made))
        say(f"process start to /livez 200: {middle(first):.2f} s ({min(first):.2f}-{max(first):.2f})")
        with stage(Path(made) / "rest") as acting:
            acting.sidecar.sidecar_yml.write_text(
                acting.sidecar.sidecar_yml.read_text()
                .replace("look-every: 1s", "look-every: 1m")
                .replace("max-lag: 4s", "max-lag: 2m")
            )
            acting.app.write(1000)
            acting.litestream.start()
            acting.sidecar.start()
            acting.sidecar.until_ready(within=90)
            assert acting.sidecar.process is not None
            pid = acting.sidecar.process.pid
            before, began = cpu_s(pid), time.monotonic()
            threading.Event().wait(REST_S)
            share = (cpu_s(pid) - before) / (time.monotonic() - began)
            resident = rss_mb(pid)
            say(f"at rest: {share:.2%} of a core, {resident:.1f} MB resident")
            taken = sorted(load(acting.sidecar.port))
            p50, p99 = taken[len(taken) // 2] * 1000, taken[int(len(taken) * 0.99)] * 1000
            say(f"/ready at {RATE}/s: p50 {p50:.2f} ms, p99 {p99:.2f} ms, {len(taken)} requests")
            figures = {"start_s": middle(first), "cpu_share": share, "rss_mb": resident, "ready_p99_ms": p99}
            keep("rest", {**figures, "python": sys.version.split()[0]})


if __name__ == "__main__":
    main()
