"""What `/ready` and `/metrics` cost by the number of databases: as judged afresh and printed by the library, and as the daemon answers.

Through the web application, without a socket; the same evidence, in the same run, by turns. `quiet`: nothing has changed since the
last question; `pulsed`: every database's local files have been read again; `claimed`: Litestream has been asked again.
python -m tests.bench.answers [figures.json]     (COUNTS=1,10,100,1000,5000 ROUNDS=7)
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import CollectorRegistry

from sidecar.adapters.ledger.codec import facts_of_drill
from sidecar.core.case import Scratch
from sidecar.core.policy import Policy
from sidecar.core.verdict import FleetVerdict, fleet_document, verdict_of
from sidecar.metrics import Metrics
from sidecar.page_facts import Gatherer
from sidecar.trace import LagTrace
from sidecar.web import App
from sidecar.web_page import PageRoute
from sidecar.web_requests import as_json
from tests.bench.figures import keep, middle, say
from tests.bench.rest import rss_mb
from tests.core import evidences
from tests.faces.site import FakePast
from tests.fakes import House
from tests.road_fakes import FakeProofs

COUNTS = tuple(int(each) for each in os.environ.get("COUNTS", "1,10,100,1000,5000").split(","))
ROUNDS = int(os.environ.get("ROUNDS", "7"))
ACCEPT = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3"


class Fleet:
    """So many healthy databases, and the web application over them."""

    def __init__(self, count: int) -> None:
        self.house, self.loop = House(), asyncio.new_event_loop()
        found = [evidences.database(f"tenant-{number:05d}") for number in range(count)]
        self.databases = found
        policies = {each.path: Policy() for each in found}
        self.house.set(replace(self.house.fleet, databases={each.path: each for each in found}, policies=policies))
        self.house.ledger.evidence = {each.path: evidences.healthy() for each in found}
        self.house.clock.go(timedelta(seconds=5))
        answers = self.house.answers
        self.metrics = Metrics(answers, litestream_version="0.5.17", sqlite_version="3.51.0")
        self.library = CollectorRegistry(auto_describe=False)
        self.library.register(self.metrics)
        ProcessCollector(registry=self.library)
        for each in found:
            self.metrics.looked(each.name, "ok")
        page = PageRoute(answers, Gatherer(answers, FakePast(), LagTrace(answers).curve, lambda: True))
        self.app = App(
            answers, self.house.desk, lambda: True, self.metrics.render, None, lambda: None, loopback=True,
            count=lambda _route, _code: None, proofs=FakeProofs(), page=page, facts=facts_of_drill,
        )  # fmt: skip

    def ask(self, path: str) -> bytes:
        """The body of one answer."""
        sent: list[Mapping[str, Any]] = []

        async def send(message: Mapping[str, Any]) -> None:
            sent.append(message)

        async def receive() -> dict[str, Any]:
            return {"type": "http.request"}

        headers = [(b"accept", ACCEPT.encode())]
        scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": headers}
        self.loop.run_until_complete(self.app(scope, receive, send))
        assert sent[0]["status"] == 200, sent
        body: bytes = sent[1]["body"]
        return body

    def ready_afresh(self) -> bytes:
        house = self.house
        known, policies, now = house.ledger.snapshot(), house.keeper.fleet.policies, house.clock.at
        found = tuple(
            verdict_of(each, known[each.path], policies[each.path], house.room, now)
            for each in sorted(self.databases, key=lambda each: each.name)
        )
        return as_json(fleet_document(FleetVerdict(found, now), house.answers.version))

    def metrics_by_library(self) -> bytes:
        encode = choose_encoder(ACCEPT)[0]
        return self.loop.run_until_complete(asyncio.to_thread(encode, self.library))  # as the daemon does

    def quiet(self) -> None:
        self.house.clock.go(timedelta(milliseconds=20))

    def pulsed(self) -> None:
        house, now = self.house, self.house.clock.at
        for path, known in house.ledger.evidence.items():
            assert known.live is not None
            house.ledger.evidence[path] = known.after_live(replace(known.live, read_at=now))
        house.room = Scratch(now, 10**12 - house.ledger.reads)
        self.quiet()

    def claimed(self) -> None:
        house, now = self.house, self.house.clock.at
        for path, known in house.ledger.evidence.items():
            assert known.claim is not None
            house.ledger.evidence[path] = known.after_claim(replace(known.claim, read_at=now))
        self.quiet()


def cpu_ms(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1000


def measured(count: int) -> dict[str, Any]:
    fleet = Fleet(count)
    ways: dict[str, tuple[Callable[[], None], Callable[[], bytes]]] = {
        "ready_afresh": (fleet.quiet, fleet.ready_afresh),
        "ready_quiet": (fleet.quiet, lambda: fleet.ask("/ready")),
        "ready_pulsed": (fleet.pulsed, lambda: fleet.ask("/ready")),
        "ready_claimed": (fleet.claimed, lambda: fleet.ask("/ready")),
        "metrics_library": (fleet.quiet, fleet.metrics_by_library),
        "metrics": (fleet.quiet, lambda: fleet.ask("/metrics")),
    }
    fleet.claimed()
    assert fleet.ask("/ready") == fleet.ready_afresh()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (before, ask) in ways.items():
            before()
            taken[name].append(cpu_ms(ask))
    found: dict[str, Any] = {name: round(middle(each), 3) for name, each in taken.items()}
    for name in ("ready_quiet", "ready_pulsed", "ready_claimed"):
        found[f"{name}_ratio"] = round(found["ready_afresh"] / found[name], 1)
    found["metrics_ratio"] = round(found["metrics_library"] / found["metrics"], 1)
    found |= {"ready_bytes": len(fleet.ask("/ready")), "metrics_bytes": len(fleet.ask("/metrics"))}
    say(
        f"{count} databases, CPU ms: /ready afresh {found['ready_afresh']}; quiet {found['ready_quiet']} ({found['ready_quiet_ratio']} times "
        f"less), pulsed {found['ready_pulsed']} ({found['ready_pulsed_ratio']}), claimed {found['ready_claimed']} ({found['ready_claimed_ratio']}); "
        f"/metrics by the library {found['metrics_library']}, as written {found['metrics']} ({found['metrics_ratio']} times less); "
        f"{found['ready_bytes']} and {found['metrics_bytes']} bytes"
    )
    return found


def grown(count: int, what: str) -> None:
    """By how many MB the resident memory grows with what is asked three times; for a process of its own."""
    fleet = Fleet(count)
    ways: dict[str, Callable[[], object]] = {
        "ready_afresh": fleet.ready_afresh, "ready": lambda: fleet.ask("/ready"),
        "metrics_library": fleet.metrics_by_library, "metrics": lambda: fleet.ask("/metrics"),
        "both_before": lambda: (fleet.ready_afresh(), fleet.metrics_by_library()), "both": lambda: (fleet.ask("/ready"), fleet.ask("/metrics")),
    }  # fmt: skip
    gc.collect()
    before = rss_mb(os.getpid())
    for _ in range(3):
        fleet.claimed()
        ways[what]()
    gc.collect()
    sys.stdout.write(f"{rss_mb(os.getpid()) - before:.1f}\n")


def memory(count: int) -> dict[str, float]:
    found = {}
    for what in ("ready_afresh", "ready", "metrics_library", "metrics", "both_before", "both"):
        command = [sys.executable, "-m", "tests.bench.answers", "--grown", str(count), what]
        found[what] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    say(f"{count} databases, resident memory in MB that stays after three answers: {found}")
    return found


def main() -> None:
    if sys.argv[1:2] == ["--grown"]:
        grown(int(sys.argv[2]), sys.argv[3])
        return
    figures: dict[str, Any] = {"load": os.getloadavg()[0], "fleets": {str(count): measured(count) for count in COUNTS}}
    figures["grown_mb"] = {str(count): memory(count) for count in COUNTS if count >= 1000}
    keep("answers", figures)


if __name__ == "__main__":
    main()
