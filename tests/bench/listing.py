"""What it costs to list replicas: the direct way and Litestream's command, in turn, per 1,000 databases; requests at a real S3 server.

python -m tests.bench.listing [figures.json]     (DATABASES=50 ROUNDS=5)

CPU is this process's and that of the children it has waited for; the store's own is not in it. Requests are counted on the wire.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from sidecar.adapters.replica_listing import LookLister
from sidecar.core.model import Database, Position
from tests.bench.figures import keep, middle, say
from tests.bench.rest import rss_mb
from tests.fakes import FakeClock
from tests.litestreams import environment, free_port
from tests.replica_stage import NEVER, Wire, command, fleet, lister, settled
from tests.stores import S3

DATABASES = int(os.environ.get("DATABASES", "50"))
ROUNDS = int(os.environ.get("ROUNDS", "5"))
SEATS = 4  # as many looks as the daemon makes at once
MINUTE = timedelta(minutes=1)


def cpu_s() -> float:
    return sum(
        used.ru_utime + used.ru_stime
        for used in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def looks(who: LookLister, found: tuple[Database, ...], held: dict[str, Position]) -> dict[str, Position]:
    """One look at each; the newest positions they showed."""

    def look(database: Database) -> tuple[str, Position]:
        listed = who.listed(database, holds=held.get(database.path), timeout_s=60, stop=NEVER)
        return database.path, max((each.last for each in listed.files), key=lambda each: each.index)

    with ThreadPoolExecutor(SEATS) as pool:
        return dict(pool.map(look, found))


def by_command(found: tuple[Database, ...]) -> None:
    with ThreadPoolExecutor(SEATS) as pool:
        list(pool.map(lambda each: command().list_files(each, timeout_s=60, stop=NEVER), found))


def measured(found: tuple[Database, ...], wire: Wire | None) -> dict[str, float]:
    """Seconds per 1,000 databases and requests per database, of each way."""
    clock = FakeClock()
    shared, alone = lister(clock), lister(clock)
    held = looks(shared, found, dict.fromkeys((each.path for each in found), Position.of_txid(1)))
    looks(alone, found, {})

    def together() -> None:
        clock.go(MINUTE)
        looks(shared, found, held)

    ways: dict[str, Callable[[], object]] = {"litestream": lambda: by_command(found)}
    ways["direct"] = lambda: looks(alone, found, {})
    if wire is not None:
        ways["direct_shared"] = together
    taken: dict[str, list[tuple[float, float, int]]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            cpu, began, lists = cpu_s(), time.monotonic(), wire.lists if wire is not None else 0
            way()
            now = wire.lists if wire is not None else 0
            taken[name].append((cpu_s() - cpu, time.monotonic() - began, now - lists))
    assert shared.requests.read()["litestream"] == alone.requests.read()["litestream"] == 0
    figures = {}
    for name, values in taken.items():
        each = 1000 / len(found)
        figures[f"{name}_cpu_s"] = round(middle([cpu for cpu, _, _ in values]) * each, 3)
        figures[f"{name}_wall_s"] = round(middle([wall for _, wall, _ in values]) * each, 3)
        if wire is not None:
            figures[f"{name}_requests_each"] = round(middle([lists for _, _, lists in values]) / len(found), 3)
    return figures


def of_kind(kind: str, home: Path) -> dict[str, float]:
    store = S3(home / "store", free_port())
    if kind == "s3":
        store.start()
        store.make_bucket()
    try:
        with Wire(store.port) if kind == "s3" else nullcontext() as wire:
            block = f"{{path: {home}/replica}}" if wire is None else replace(store, port=wire.port).replica("fleet")
            with fleet(home, block, DATABASES) as (found, _, running):
                settled(found)
                running.stop()
                before = rss_mb(os.getpid())
                figures = measured(found, wire)
                return figures | {"rss_grown_mb": round(rss_mb(os.getpid()) - before, 1)}
    finally:
        store.stop()


def main() -> None:
    for name in set(os.environ) - set(environment()):
        del os.environ[name]
    found = {}
    for kind in ("file", "s3"):
        with tempfile.TemporaryDirectory() as folder:
            figures = found[kind] = of_kind(kind, Path(folder))
        for way in ("litestream", "direct", "direct_shared"):
            if f"{way}_cpu_s" in figures:
                asked = f", {figures[f'{way}_requests_each']:g} requests a database" if kind == "s3" else ""
                say(
                    f"{kind}, {way}: {figures[f'{way}_cpu_s']:.2f} CPU s, {figures[f'{way}_wall_s']:.2f} s per 1,000 databases"
                    f"{asked}; a look a minute at each takes {figures[f'{way}_cpu_s'] / 60:.2%} of a core"
                )
    keep("listing", {"databases": DATABASES, "rounds": ROUNDS, **found})


if __name__ == "__main__":
    main()
