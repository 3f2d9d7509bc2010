"""Thrift in a fleet: looks at rest give way at once, come back step by step, and what cannot be kept is said once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from sidecar.core.evidence import Evidence
from sidecar.core.policy import Policy
from sidecar.fleet import Fleet, FleetKeeper
from sidecar.thrift import Thrift
from tests.core.evidences import database, healthy, replica
from tests.fakes import FakeClock

POLICY = Policy()
MINUTE = timedelta(minutes=1)


@dataclass
class Counted:
    """What looks have cost so far."""

    found: dict[str, tuple[int, int]] = field(default_factory=lambda: {"s3": (100, 1000)})

    def so_far(self) -> Mapping[str, tuple[int, int]]:
        return self.found


def fleet_of(count: int, kind: str = "s3") -> Fleet:
    made = [replace(database(f"app{each}"), replica=replica(type=kind)) for each in range(count)]
    return Fleet(
        databases={each.path: each for each in made}, policies={each.path: POLICY for each in made}, command_timeout_s=60.0,
        socket_path=None, metrics_url=None, files=(), rescan=False, folders=(),
    )  # fmt: skip


@dataclass
class Scene:
    """So many databases at rest, and a budget."""

    count: int
    budget: int | None
    kind: str = "s3"
    clock: FakeClock = field(default_factory=FakeClock)
    counted: Counted = field(default_factory=Counted)

    def __post_init__(self) -> None:
        fleet = fleet_of(self.count, self.kind)
        self.keeper = FleetKeeper(lambda: fleet, self.clock)
        self.evidence: dict[str, Evidence] = dict.fromkeys(fleet.databases, healthy())
        self.thrift = Thrift(self.keeper, self.clock, self.counted, lambda: self.evidence, self.budget)

    def pass_minutes(self, minutes: int) -> None:
        for _ in range(minutes):
            self.thrift.turned()
            self.clock.go(MINUTE)

    @property
    def look_every(self) -> timedelta:
        (found,) = {each.look_every for each in self.keeper.fleet.policies.values()}
        return found


def test_looks_at_rest_are_put_apart_at_once(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(100, 300_000)
    with caplog.at_level(logging.INFO):
        scene.pass_minutes(3)
    assert scene.look_every == 8 * MINUTE, "1,440,000 a day are asked for"
    assert scene.thrift.pace is not None
    assert scene.thrift.pace.kept
    assert [each.message for each in caplog.records] == [
        "looks at rest come every 8m now, so that they make about 180,000 requests a day (resources.requests-per-day: 300,000)"
    ]
    assert {each.look_every for each in scene.keeper.asked_for.policies.values()} == {MINUTE}


def test_what_a_look_costs_is_what_it_has_cost() -> None:
    scene = Scene(100, 300_000, counted=Counted({"s3": (100, 100)}))  # one listing each
    scene.pass_minutes(1)
    assert scene.look_every == MINUTE
    assert scene.thrift.pace is not None
    assert scene.thrift.pace.requests == 144_000


def test_it_is_waited_for_what_a_look_costs_and_not_for_ever() -> None:
    scene = Scene(100, 300_000, counted=Counted({"s3": (2, 2)}))
    scene.pass_minutes(10)
    assert (scene.look_every, scene.thrift.pace) == (MINUTE, None), "two looks say nothing yet"
    scene.pass_minutes(1)
    assert scene.look_every == 8 * MINUTE, "taken to be what Litestream's command costs"


def test_files_cost_nothing_and_without_a_budget_nothing_gives_way() -> None:
    for scene in (Scene(100, 1, kind="file"), Scene(100, None)):
        scene.pass_minutes(2)
        assert scene.look_every == MINUTE


def test_looks_come_back_step_by_step_so_that_none_is_overdue_at_once() -> None:
    scene = Scene(100, 300_000)
    scene.pass_minutes(2)
    scene.counted.found["s3"] = (1000, 1000)
    seen: list[timedelta] = []
    for _ in range(20):
        scene.pass_minutes(1)
        if not seen or seen[-1] != scene.look_every:
            seen.append(scene.look_every)
    assert seen == [4 * MINUTE, 2 * MINUTE, MINUTE]


def test_a_budget_that_cannot_be_kept_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(10, 100)
    scene.evidence = dict.fromkeys(scene.evidence, replace(healthy(), covered_live=None))
    with caplog.at_level(logging.INFO):
        scene.pass_minutes(5)
    assert [each.levelname for each in caplog.records] == ["WARNING"]
    assert "216,000 requests a day (resources.requests-per-day: 100)" in caplog.text
    assert scene.thrift.pace is not None
    assert not scene.thrift.pace.kept


def test_a_fleet_that_is_taken_over_is_stretched_too(tmp_path: Path) -> None:
    file, clock, sizes = tmp_path / "litestream.yml", FakeClock(), [100]
    file.write_text("1")
    keeper = FleetKeeper(lambda: replace(fleet_of(sizes[0]), files=(file,)), clock)
    thrift = Thrift(keeper, clock, Counted(), lambda: dict.fromkeys(keeper.fleet.databases, healthy()), 300_000)
    thrift.turned()
    sizes[0] = 101
    file.write_text("22")
    assert keeper.poll()
    assert len(keeper.fleet.databases) == 101
    assert {each.look_every for each in keeper.fleet.policies.values()} == {
        keeper.fleet.policies["/data/app0.db"].look_every
    }
    assert keeper.fleet.policies["/data/app100.db"].look_every > MINUTE
    assert not keeper.poll(), "nothing is news"
