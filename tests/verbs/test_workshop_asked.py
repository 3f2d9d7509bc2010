"""Drills in the daemon's workshop know whether somebody asked for them, and so whether a forecast may keep them from being begun."""

from __future__ import annotations

from threading import Event
from types import SimpleNamespace
from typing import Any, cast

from sidecar.core.evidence import Evidence
from sidecar.core.model import Database, Drill
from sidecar.core.policy import Policy
from sidecar.core.schedule import Heavy, Seats, Subject
from sidecar.core.turns import HeavyKind
from sidecar.desk import DrillDesk
from sidecar.drill_attempt import Order
from sidecar.fleet import Fleet
from sidecar.house import House
from sidecar.workshop import Workshop
from tests.core.evidences import NOW, database, drill
from tests.litestreams import until


class Driller:
    """Writes down what it was ordered to do."""

    def __init__(self) -> None:
        self.orders: list[Order] = []

    def run(self, order: Order, **_: object) -> Drill:
        self.orders.append(order)
        return drill(id=order.id)


def test_what_is_posted_is_asked_for_and_what_is_due_is_not() -> None:
    numbers = iter(range(100))
    desk, driller, app = DrillDesk(lambda: f"d{next(numbers)}"), Driller(), database()
    fleet = Fleet({app.path: app}, {app.path: Policy()}, 60.0, None, None, (), rescan=False, folders=())

    def end(database: Database, drill: Drill, **_: object) -> None:
        desk.finish(database.path, drill.outcome.value)

    house = SimpleNamespace(
        seats=Seats(1, 1), nice=0, desk=desk, driller=driller,
        ledger=SimpleNamespace(snapshot=dict), drills=SimpleNamespace(begin=lambda each: desk.begin(each.path), end=end),
    )  # fmt: skip
    keeper = SimpleNamespace(fleet=fleet)
    workshop = Workshop(cast("House", house), cast("Any", keeper), Event(), Event())
    subject = cast("Subject", SimpleNamespace(policy=Policy(), evidence=Evidence(first_seen_at=NOW)))
    with workshop.open():
        for posted in (False, True, False):
            asked = desk.request(app.path).id if posted else None
            workshop.begin(fleet, Heavy(app.path, HeavyKind.DRILL, by_change=True), subject)
            until(workshop.collect)
            assert driller.orders[-1].asked is posted
            assert driller.orders[-1].by_change is not posted, "whoever asks gets a restore"
            assert asked in {None, driller.orders[-1].id}
