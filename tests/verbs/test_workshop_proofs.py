"""Proofs in the daemon's workshop: each on a seat, one piece of work per database, every end told to whoever asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sidecar.core.errors import SidecarError, Stopped
from sidecar.core.model import Database
from sidecar.core.policy import Policy
from sidecar.core.proof import Demand
from sidecar.core.schedule import Seats
from sidecar.deploy.proof_desk import ProofDesk, ProofTicket
from sidecar.fleet import Fleet
from sidecar.house import House
from sidecar.workshop import Workshop
from tests.core.evidences import database
from tests.core.receipts import proof
from tests.litestreams import until
from tests.road_fakes import FakeRoad


class Scene:
    """A workshop with a road that waits until it is let go; of the house it needs no more for proofs."""

    def __init__(self, seats: int = 2) -> None:
        numbers = iter(range(1, 1000))
        self.desk, self.road = ProofDesk(lambda: f"p{next(numbers)}"), FakeRoad()
        self.go, self.wake, self.stop = Event(), Event(), Event()
        house = SimpleNamespace(seats=Seats(1, seats), nice=0, proofs=self.desk, road=self.road)
        self.workshop = Workshop(cast("House", house), cast("Any", None), self.stop, self.wake)
        self.fleet = fleet("app", "b", "c")

    def ask(self, name: str) -> ProofTicket:
        self.road.steps.append(lambda: assert_true(self.go.wait(20)))
        return self.desk.request(Demand(name=name))

    def begin(self) -> list[str]:
        """Begin what can; the names of the databases that are worked on."""
        self.workshop.begin_proofs(self.fleet)
        return sorted(each.removeprefix("/data/").removesuffix(".db") for each in self.workshop.busy)

    def end(self) -> None:
        self.go.set()
        until(lambda: self.workshop.collect() and not self.workshop.busy)

    def found(self, ticket: ProofTicket) -> tuple[str, str]:
        now = self.desk.find(ticket.id)
        assert now is not None
        return now.state, now.error


def assert_true(what: object) -> None:
    assert what


def fleet(*names: str) -> Fleet:
    made: dict[str, Database] = {each.path: each for each in map(database, names)}
    return Fleet(made, dict.fromkeys(made, Policy()), 60.0, None, None, (), rescan=False, folders=())


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    with made.workshop.open():
        yield made
        made.go.set()


def test_a_proof_takes_a_seat_and_comes_back(scene: Scene) -> None:
    ticket = scene.ask("app")
    assert scene.begin() == ["app"]
    assert scene.found(ticket) == ("running", "")
    scene.end()
    assert scene.found(ticket) == ("done", "")
    found = scene.desk.find(ticket.id)
    assert found is not None
    assert found.proof == proof()
    assert scene.wake.is_set(), "the loop is told that a seat is free"


def test_there_are_no_more_at_a_time_than_seats_and_one_of_each_database(scene: Scene) -> None:
    tickets = [scene.ask(name) for name in ("app", "app", "b", "c")]
    assert scene.begin() == ["app", "b"]
    assert [scene.found(each)[0] for each in tickets] == ["running", "queued", "running", "queued"]
    scene.end()
    assert scene.begin() == ["app", "c"]
    scene.end()
    assert {scene.found(each)[0] for each in tickets} == {"done"}


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (Stopped("told to stop"), "told to stop"),
        (SidecarError("the ledger is gone", "look"), "the ledger is gone"),
        (ZeroDivisionError("/secret"), "the proof itself failed: ZeroDivisionError"),
    ],
)
def test_a_walk_that_breaks_is_told_to_whoever_asked(scene: Scene, error: Exception, says: str) -> None:
    ticket = scene.desk.request(Demand(name="app"))
    scene.road.steps = [error]
    scene.begin()
    scene.end()
    assert scene.found(ticket) == ("failed", says)
    again = scene.ask("app")
    scene.begin()
    scene.end()
    assert scene.found(again)[0] == "done", "its seat is free"


def test_a_database_that_left_meanwhile_is_told_at_once(scene: Scene) -> None:
    ticket = scene.ask("app")
    scene.fleet = replace(scene.fleet, databases={})
    assert scene.begin() == []
    assert scene.found(ticket) == ("failed", "there is no database app any more")
