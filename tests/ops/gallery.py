"""A fleet that has lived for a day, in every state that the page shows: hand-made evidence behind the real HTTP server."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

from sidecar.core.finding import Reason
from sidecar.core.model import Drill, LookResult, Outcome, Sighting
from sidecar.core.parity import Parity, ParityResult
from sidecar.core.policy import Policy
from sidecar.core.receipt import Kept
from tests.faces.site import Site
from tests.fakes import NOW, healthy
from tests.fakes import drill as passed

RECEIPT = "20261122T181502Z-5be1c3d0"
LAST_HOUR = 60


def drills(name: str, *, every: timedelta = timedelta(hours=6), count: int = 28, slow: float = 1.0) -> list[Drill]:
    """Newest first; a few did not pass."""
    made = []
    for number in range(count):
        at = NOW - timedelta(minutes=42) - every * number
        wave = 1 + 0.2 * math.sin(number * 1.7) + 0.02 * (count - number)
        each = replace(
            passed(f"{name}-{number}", at),
            restore_seconds=round(1.2 * slow * wave, 2),
            check_seconds=round(0.4 * slow * wave, 2),
            parity_seconds=round(0.5 * slow * wave, 2),
            parity=equal(1024, changed=number % 5),
        )
        if number == 9:
            each = replace(
                each, outcome=Outcome.INCONCLUSIVE, reason=Reason.TIMEOUT.value, check_seconds=None, restore_seconds=3.1 * slow,
                message="the restore did not end within 30 min", hint="raise drill-timeout, or look at the store",
                parity=None, parity_seconds=None,
            )  # fmt: skip
        made.append(each)
    return made


def equal(pages: int, changed: int) -> Parity:
    """A comparison that proved all but what production changed meanwhile."""
    proven = pages - changed
    return Parity(ParityResult.EQUAL, pages, proven, changed, f"{proven} of {pages} pages are what production held")


def decisions() -> list[dict[str, object]]:
    """A deploy that held, and one that was stopped."""
    base = {"databases": ["shop"], "override": None}
    return [
        {**base, "kind": "gate", "decision": "refused", "at": "2026-11-23T02:51:00Z", "receipt": None,
         "reason": "shop: replica lacks commits of the last 540 s (limit 120 s)"},
        {**base, "kind": "postcheck", "decision": "passed", "at": "2026-11-22T18:16:10Z", "receipt": RECEIPT,
         "reason": "the change is as expected, and the backup goes on past it"},
        {**base, "kind": "gate", "decision": "passed", "at": "2026-11-22T18:15:02Z", "receipt": RECEIPT,
         "reason": "1 database can be restored"},
    ]  # fmt: skip


def gallery(*, broken: bool) -> Site:
    """Three databases; `broken`: the store stopped answering ten minutes ago."""
    site = Site()
    house = site.house
    policy = Policy()
    for name, slow in (("shop", 1.0), ("sessions", 0.3), ("mail/queue", 4.0)):
        known = healthy()
        newest = drills(name, slow=slow)[0]
        known = replace(known, last_drill=newest, last_passed=newest, last_conclusive=newest, last_compared=newest)
        house.add(name, known, policy)
        path = f"/data/{name}.db"
        house.ledger.drills = [each for each in house.ledger.drills if each[0] != path]
        house.ledger.drills += [(path, name, each) for each in drills(name, slow=slow)]
    house.ledger.drills.sort(key=lambda each: each[2].finished_at, reverse=True)
    site.past.decisions = decisions()
    site.past.artifacts = [
        Kept(
            name="shop", receipt_id=RECEIPT, artifact=f"/var/lib/litestream-sidecar/rollback/{RECEIPT}/shop-4bce1a02f7d1.artifact",
            size_bytes=4_194_304, proved=True, receipt=f"/var/lib/litestream-sidecar/receipts/{RECEIPT}.json",
        )
    ]  # fmt: skip
    healthy_now = dict(house.ledger.evidence)
    for minute in range(9 * 60, -1, -1):
        at = NOW - timedelta(minutes=minute)
        lag = 1 + abs(math.sin(minute / 9)) * 4 + (22 if 180 < minute < 200 else 0)
        if broken and minute < 10:
            lag = (10 - minute) * 60
        for path, known in healthy_now.items():
            behind = lag if path == "/data/shop.db" else lag / 3 if not broken else min(lag, 5)
            house.ledger.evidence[path] = replace(
                known,
                covered_at=at - timedelta(seconds=behind),
                covered_live=None if behind > 0 else known.covered_live,
            )
        house.clock.at, house.clock.seconds = at, house.clock.seconds + 60
        site.trace.turned()
    house.ledger.evidence = healthy_now
    house.clock.at = NOW + timedelta(seconds=3)
    if broken:
        known = healthy_now["/data/shop.db"]
        why = "dial tcp 10.0.4.17:9000: connect: connection refused"
        refused = Sighting(NOW, LookResult.UNREACHABLE, f"the replica cannot be listed: {why}",
                           "check that the store at 10.0.4.17:9000 runs and can be reached from here", None, NOW)  # fmt: skip
        house.ledger.evidence["/data/shop.db"] = replace(
            known, sighting=refused, covered_at=NOW - timedelta(seconds=597), covered_live=None
        )
    return site
