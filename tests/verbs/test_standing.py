"""What the service manager is told, turn by turn."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from sidecar.core.errors import SidecarError
from sidecar.standing import Standing
from tests.fakes import House, healthy


@dataclass
class Ear:
    """A service manager that writes down what it hears; `deaf` ones lose it."""

    listens: bool = True
    deaf: bool = False
    heard: list[str] = field(default_factory=list)
    beats: int = 0

    def _hear(self, text: str) -> bool:
        if not self.deaf:
            self.heard.append(text)
        return not self.deaf

    def ready(self, status: str) -> bool:
        return self._hear(f"READY {status}")

    def status(self, text: str) -> bool:
        return self._hear(text)

    def reloading(self) -> bool:
        return self._hear("RELOADING")

    def stopping(self) -> bool:
        return self._hear("STOPPING")

    def beat(self) -> None:
        self.beats += 1


GOOD = "ready: 1 database can be restored"


@pytest.fixture
def house() -> House:
    house = House()
    house.add("app", healthy())
    return house


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def standing(house: House, ear: Ear) -> Standing:
    return Standing(house.answers, ear)


def turn(house: House, standing: Standing, seconds: float = 1.0) -> None:
    house.clock.go(timedelta(seconds=seconds))
    standing.turned()


def test_ready_is_said_after_the_first_turn_with_the_verdict_and_only_once(
    house: House, standing: Standing, ear: Ear
) -> None:
    assert ear.heard == []
    for _ in range(12):
        turn(house, standing)
    assert ear.heard == [f"READY {GOOD}"]
    assert ear.beats == 12


def test_the_verdict_is_said_when_it_changes(house: House, standing: Standing, ear: Ear) -> None:
    turn(house, standing)
    turn(house, standing, timedelta(days=30).total_seconds())  # nothing was looked at since
    turn(house, standing)
    assert len(ear.heard) == 2
    assert ear.heard[1].startswith("not ready: ")


def test_what_was_lost_is_said_again(house: House, standing: Standing, ear: Ear) -> None:
    ear.deaf = True
    turn(house, standing)
    ear.deaf = False
    turn(house, standing)
    assert ear.heard == [f"READY {GOOD}"]
    ear.deaf = True
    turn(house, standing, timedelta(days=30).total_seconds())
    ear.deaf = False
    turn(house, standing, 5)
    assert len(ear.heard) == 2


def test_a_reload_ends_with_ready_and_a_failed_one_shows(house: House, standing: Standing, ear: Ear) -> None:
    turn(house, standing)
    house.keeper.error = SidecarError("broken")
    standing.reloading()
    turn(house, standing)
    assert ear.heard[1:] == [
        "RELOADING", f"READY {GOOD}; the changed configuration is not in force, see the log",
    ]  # fmt: skip
    standing.stopping()
    assert ear.heard[-1] == "STOPPING"


def test_where_nobody_listens_nothing_is_judged(house: House) -> None:
    ear = Ear(listens=False)
    standing = Standing(replace(house.answers, ledger=None), ear)  # type: ignore[arg-type] # would fail if it were read
    standing.turned()
    assert (ear.heard, ear.beats) == ([], 0)
