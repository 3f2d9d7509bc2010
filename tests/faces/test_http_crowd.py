"""Five hundred half-open connections and fifty slow readers of a big answer, all at once: whoever asks properly is answered.

`python -m tests.bench.http` measures the same, longer and harder, with the whole daemon: milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx

from sidecar.adapters.http_server import HttpServer, Limits
from tests.crowd import PIPELINED, outside
from tests.litestreams import until

RATE, SECONDS = 100.0, 4.0
HALVES, SLOW = 500, 50


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def rss_mib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) // 1024


def port_of(server: HttpServer) -> int:
    return int(server.url.rpartition(":")[2])


def test_a_crowd_keeps_nobody_waiting_and_costs_no_more_than_its_connections(serve: Callable[..., HttpServer]) -> None:
    server = serve()
    assert len(httpx.get(f"{server.url}/openapi.json").content) * PIPELINED > 2_000_000
    before, memory = descriptors(), rss_mib()
    with outside(port_of(server), halves=HALVES, slow=SLOW, seconds=SECONDS * 5) as crowd:
        until(lambda: descriptors() - before > 400, within=10, say="they stand")
        with outside(port_of(server), rate=RATE, seconds=SECONDS) as asking:
            found = asking.line()
        held = descriptors() - before
        assert crowd.child.poll() is None
    assert found["errors"] == 0
    assert found["answered"] == int(RATE * SECONDS / 16) * 16
    assert found["p50_ms"] < 6000, found  # some milliseconds; seen at two seconds where three tests shared two cores
    assert held <= Limits().connections + 10
    assert rss_mib() - memory < 150
    until(lambda: descriptors() <= before + 2, within=10, say="what they held is given back")
