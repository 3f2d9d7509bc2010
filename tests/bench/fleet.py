"""What the daemon costs as the number of databases grows: 1 to thousands of small ones under one `dir:`, one in fifty being written.

python -m tests.bench.fleet [figures.json]     (COUNTS=1,10,100,1000 REST_S=90 SETTLE_S=900 ASKED_S=30 VICTIM_LAG_S=30 WATCH=1)

The policy is the default one, but for one busy database, whose `max-lag` is VICTIM_LAG_S: its replica's folder is made unwritable in
the end, and the time until that is said is taken. Between the daemon and Litestream stands a program that notes each command.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.figures import keep, say
from tests.bench.meters import Calls, Meters, cpu_s, folder_bytes, memory_kb
from tests.bench.tenants import COMMIT_EVERY_S, EACH_MAX, Tenants, busy, made, name_of, replicated
from tests.e2e.stage import Sidecar
from tests.litestreams import binary

COUNTS = [int(each) for each in os.environ.get("COUNTS", "1,10,100,1000").split(",")]
REST_S = float(os.environ.get("REST_S", "90"))
SETTLE_S = float(os.environ.get("SETTLE_S", "900"))
QUIET_S = float(os.environ.get("QUIET_S", "20"))  # between the last first drill and rest
VICTIM_LAG_S = float(os.environ.get("VICTIM_LAG_S", "30"))
WATCH = os.environ.get("WATCH", "1") == "1"
ASKED, PAUSE_S = 200, 0.05  # requests of a kind
ASKED_S = float(os.environ.get("ASKED_S", "30"))  # and the time that they may take
CALM_S, CALM_MAX_S = 5.0, 60.0  # the victim is green for so long before it is harmed, or that is given up
COMMAND_S = 5.0  # that a listing and a busy machine may add to a detection
DESCRIPTORS_EACH, DESCRIPTORS_MORE = 4, 500  # that Litestream keeps open of each database, and beside them
STRANGERS_MAX = 0.25  # of a core: then others disturb
MEMORY_KB, MEMORY_EACH_KB = 64 * 1024, 8
DRILL_EVERY_H, DRILL_MAX_AGE_H = 6.0, 24.0  # the default policy's
SILENT = {"pass", "warn"}  # statuses that do not keep a database from being ready


class Quiet(Sidecar):
    """At the default log level."""

    @property
    def options(self) -> list[str]:
        return [each.replace("debug", "info") for each in super().options]


@dataclass(frozen=True)
class Fleet:
    """The daemon beside its fleet."""

    tenants: Tenants
    sidecar: Sidecar
    calls: Calls
    meters: Meters


def ask(sidecar: Sidecar, path: str) -> tuple[float, bytes]:
    """One request on a connection of its own: seconds, and the body."""
    connection = http.client.HTTPConnection("127.0.0.1", sidecar.port, timeout=60)
    began = time.monotonic()
    connection.request("GET", path)
    body = connection.getresponse().read()
    taken = time.monotonic() - began
    connection.close()
    return taken, body


def latency(sidecar: Sidecar, path: str, share: float) -> dict[str, float]:
    """Milliseconds of requests one after the other, the processor's above the daemon's `share` at rest, and the last answer's bytes."""
    taken: list[float] = []
    body, began, before = b"", time.monotonic(), cpu_s(sidecar.pid)[0]
    ends = began + ASKED_S
    while len(taken) < ASKED and time.monotonic() < ends:
        seconds, body = ask(sidecar, path)
        taken.append(seconds * 1000)
        threading.Event().wait(PAUSE_S)
    spent = cpu_s(sidecar.pid)[0] - before - share * (time.monotonic() - began)
    taken.sort()
    return {
        "p50_ms": round(taken[len(taken) // 2], 1), "p99_ms": round(taken[int(len(taken) * 0.99)], 1),
        "cpu_ms": round(spent / len(taken) * 1000, 1), "requests": len(taken), "bytes": len(body),
    }  # fmt: skip


def databases(sidecar: Sidecar, name: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ask(sidecar, f"/ready?db={name}" if name else "/ready")[1])["databases"]
    return found


def standing(sidecar: Sidecar) -> dict[str, Any]:
    """How the fleet stands: how many are ready, why others are not, and how many have no passed drill and are not said to lack it."""
    reasons: Counter[str] = Counter()
    ready = drilled = unsaid = 0
    for each in databases(sidecar):
        ready += each["ready"]
        passed = (each["last_drill"] or {}).get("outcome") == "passed"
        drilled += passed
        drill = next(check for check in each["checks"] if check["name"] == "drill")
        unsaid += not passed and drill["status"] in SILENT
        reasons.update(
            f"{check['name']}/{check['reason']}" for check in each["checks"] if check["status"] not in SILENT
        )
    return {"ready": ready, "drilled": drilled, "unsaid": unsaid, "reasons": dict(reasons.most_common(5))}


def first_drills(fleet: Fleet) -> dict[str, Any]:
    """Wait until every database was drilled once, or for SETTLE_S."""
    began, last = time.monotonic(), 0.0
    while (taken := time.monotonic() - began) < SETTLE_S:
        drilled = len(fleet.calls.restored)
        if drilled == fleet.tenants.count:
            break
        if taken - last >= 30:
            last = taken
            say(f"  {drilled} drilled after {taken:.0f} s")
        threading.Event().wait(0.5)
    drilled = len(fleet.calls.restored)
    return {"drilled": drilled, "settle_s": round(taken, 1), "drills_per_hour": round(drilled / taken * 3600)}


@contextlib.contextmanager
def frozen(folder: Path) -> Iterator[None]:
    """Nothing can be written into this folder, not even by root."""
    root = os.geteuid() == 0
    subprocess.run(["chattr", "+i", folder] if root else ["chmod", "a-w", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", folder] if root else ["chmod", "u+w", folder], check=True)


def red(fleet: Fleet) -> dict[str, str]:
    """What keeps the victim from being ready."""
    checks = databases(fleet.sidecar, name_of(0))[0]["checks"]
    return {check["name"]: check["reason"] for check in checks if check["status"] not in SILENT}


def resting(fleet: Fleet) -> dict[str, Any]:
    """Let REST_S pass: how often the victim was red meanwhile, which nobody has harmed yet."""
    ends, looks, reds = time.monotonic() + REST_S, 0, Counter[str]()
    while time.monotonic() < ends:
        threading.Event().wait(5)
        looks += 1
        reds.update(f"{check}/{reason}" for check, reason in red(fleet).items())
    return {"looks": looks, **reds}


def calm(fleet: Fleet) -> bool:
    """Wait until the victim has been green for a while; whether it ever was."""
    began = green = time.monotonic()
    while (now := time.monotonic()) - began < CALM_MAX_S:
        green = now if red(fleet) else green
        if now - green >= CALM_S:
            return True
        threading.Event().wait(0.5)
    return False


def detection(fleet: Fleet) -> dict[str, Any]:
    """Seconds from when a busy database's replica can no longer be written until its `lag` is red, and until anything of it is."""
    found = dict[str, Any]()
    if not calm(fleet):
        return {"lag_s": None, "red_before": red(fleet)}
    with frozen(fleet.tenants.level(0, 0)):
        began = time.monotonic()
        while (taken := time.monotonic() - began) < 4 * VICTIM_LAG_S + 120:
            now = red(fleet)
            if now and "first" not in found:
                found |= {"first": now, "first_s": round(taken, 1)}
            if "lag" in now:
                return found | {"lag_s": round(taken, 1)}
            threading.Event().wait(0.2)
    return found | {"lag_s": None}


@contextlib.contextmanager
def fleet_of(count: int, folder: Path) -> Iterator[Fleet]:
    """Everything runs; the daemon has just started."""
    tenants = made(folder / "fleet", count, watch=WATCH)
    calls = Calls.before(binary(), folder)
    ours = folder / "sidecar.yml"
    victim = f"databases: {{{name_of(0)}: {{policy: {{max-lag: {VICTIM_LAG_S:g}s}}}}}}"
    ours.write_text(f"litestream: {{binary: {calls.program}}}\n{victim}\n")
    began = time.monotonic()
    with replicated(tenants) as working, busy(tenants) as writer:
        say(f"  {count} replicated after {time.monotonic() - began:.1f} s")
        sidecar = Quiet(tenants.config, ours, folder / "state")
        sidecar.start()
        first, *others = [each.process.pid for each in working if each.process is not None]
        try:
            meters = Meters(sidecar.pid, first, (*others, writer.pid), calls, lambda: tenants.levels)
            yield Fleet(tenants, sidecar, calls, meters)
        finally:
            sidecar.stop()


def measured(count: int, folder: Path) -> dict[str, Any]:
    with fleet_of(count, folder) as fleet:
        say(f"  the daemon is {fleet.sidecar.pid}")
        first: dict[str, Any] = {}
        starting = fleet.meters.window(lambda: first.update(first_drills(fleet)))
        say(f"  first drills: {first}; {starting}")
        threading.Event().wait(QUIET_S)
        began = len(fleet.calls.restored)
        unharmed: dict[str, Any] = {}
        rest = fleet.meters.window(lambda: unharmed.update(resting(fleet)))
        rested = len(fleet.calls.restored) == began
        say(f"  at rest{'' if rested else ' (still at first drills)'}: {rest}; {unharmed}")
        share = float(rest["daemon_share"])
        found = {
            "databases": count, "load_before": os.getloadavg()[0], **first, "starting": starting, "rest": rest, "rested": rested, "unharmed": unharmed,
            "rss_kb": memory_kb(fleet.sidecar.pid, "Rss"), "pss_kb": memory_kb(fleet.sidecar.pid, "Pss"),
            "standing": standing(fleet.sidecar),
            "ready": latency(fleet.sidecar, "/ready", share), "ready_one": latency(fleet.sidecar, f"/ready?db={name_of(0)}", share),
            "ready_text": latency(fleet.sidecar, "/ready?format=text", share), "metrics": latency(fleet.sidecar, "/metrics", share),
            "rss_asked_kb": memory_kb(fleet.sidecar.pid, "Rss"),
        }  # fmt: skip
        found["detection"] = detection(fleet)
        found["state_bytes"] = folder_bytes(fleet.sidecar.state_dir)
        return found


def targets(found: dict[str, Any]) -> list[tuple[str, str, str, bool]]:
    """What was aimed at, what it came to, and whether it was met."""
    count, rest, lag_s = found["databases"], found["rest"], found["detection"]["lag_s"]
    memory = MEMORY_KB + MEMORY_EACH_KB * count
    share = rest["daemon_share"] + rest["children_share"]
    listed = rest["commands_per_minute"].get("ltx", 0.0)
    within = VICTIM_LAG_S + VICTIM_LAG_S / 3 + COMMIT_EVERY_S + COMMAND_S
    cycle_h = count / found["drills_per_hour"] if found["drills_per_hour"] else math.inf
    drills = f"all in {cycle_h:.2f} h; {found['standing']['unsaid']} undrilled and not said"
    falsely = found["unharmed"].get("lag/lagging", 0)
    return [
        ("memory", f"{memory / 1024:.1f} MB", f"{found['rss_kb'] / 1024:.1f} MB", found["rss_kb"] <= memory),
        ("memory once asked", f"{memory / 1024:.1f} MB", f"{found['rss_asked_kb'] / 1024:.1f} MB", found["rss_asked_kb"] <= memory),
        ("CPU at rest, with children", "2 % of a core", f"{share:.1%}", share <= 0.02),
        ("children that list", f"{max(10.0, count / 10):.0f}/min", f"{listed:.0f}/min", listed <= max(10.0, count / 10)),
        ("/ready p99", "25 ms", f"{found['ready']['p99_ms']:.1f} ms", found["ready"]["p99_ms"] <= 25),
        ("/metrics p99", "250 ms", f"{found['metrics']['p99_ms']:.1f} ms", found["metrics"]["p99_ms"] <= 250),
        ("every database drilled", f"in {DRILL_EVERY_H:g} h (max-age {DRILL_MAX_AGE_H:g} h), or said", drills,
         cycle_h <= DRILL_EVERY_H and not found["standing"]["unsaid"]),
        ("red after a fault", f"{within:.0f} s", f"{lag_s} s", lag_s is not None and lag_s <= within),
        ("red without a fault", "0 times", f"{falsely} of {found['unharmed']['looks']} times", not falsely),
    ]  # fmt: skip


def main() -> None:
    figures: list[dict[str, Any]] = []
    for count in COUNTS:
        say(f"{count} databases")
        if (files := resource.getrlimit(resource.RLIMIT_NOFILE)[1]) < DESCRIPTORS_EACH * min(
            count, EACH_MAX
        ) + DESCRIPTORS_MORE:
            say(f"  left out: Litestream keeps {DESCRIPTORS_EACH} files of each open, and may open {files} in all")
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = measured(count, Path(folder))
        figures.append(found)
        keep("fleet", {"fleets": figures, "rest_s": REST_S, "watch": WATCH, "python": sys.version.split()[0]})
        for what, limit, value, met in targets(found):
            say(f"  {'met    ' if met else 'NOT MET'} {what}: {value} (at most {limit})")
        if (strangers := found["rest"]["strangers_share"]) > STRANGERS_MAX:
            say(f"  disturbed: others took {strangers:.0%} of a core of {os.cpu_count()}; take no latency from this")


if __name__ == "__main__":
    main()
