"""Asking the verifier and taking its drills over: whom it asks and when, what becomes evidence, and what is said of the rest."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from threading import Event
from typing import Any

import pytest

from sidecar.core.elsewhere import Offer
from sidecar.core.errors import SidecarError
from sidecar.core.evidence import Evidence
from sidecar.core.model import Database, Drill, Outcome
from sidecar.core.policy import Policy
from sidecar.drill_log import DrillLog
from sidecar.verifier import ASK_EVERY_MIN, AWAITED_S, BROUGHT_MAX, PAUSE_S, REST_S, Verifier
from tests.fakes import NOW, House, MemoryLedger, drill, healthy


class Unknown(SidecarError):
    """It does not know this database."""


@dataclass
class Other:
    """A verifier that says what it is told to."""

    shown: str = "far:9810"
    answers: dict[str, Offer | SidecarError] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def ask(self, name: str) -> Offer:
        self.asked.append(name)
        answer = self.answers.get(name, Offer("s3", f"s3://bucket/{name}", (), NOW))
        if isinstance(answer, SidecarError):
            raise answer
        return answer


@dataclass
class Written(MemoryLedger):
    """Also takes drills."""

    def add_drill(self, database: Database, drill: Drill, *, max_shrink: float) -> Evidence:
        self.drills.insert(0, (database.path, database.name, drill))
        return self.record(database.path, lambda known: known.after_drill(drill, max_shrink=max_shrink))


@dataclass
class Heard:
    """Who is told of drills, and who counts them."""

    told: list[str] = field(default_factory=list)

    def drill_ended(self, name: str, drill: Drill) -> None:
        assert name == "app"
        self.told.append(drill.id)

    def __getattr__(self, name: str) -> Callable[..., None]:
        raise AssertionError(f"nothing is {name} here")


@dataclass
class Desk:
    """A house with a verifier, worked by hand: `step` is the thread's, `turn` the loop's."""

    house: House = field(default_factory=lambda: House(ledger=Written()))
    other: Other = field(default_factory=Other)
    heard: Heard = field(default_factory=Heard)
    woken: int = 0

    def __post_init__(self) -> None:
        log = DrillLog(self.house.ledger, self.house.desk, self.heard, self.heard)  # type: ignore[arg-type] # Written
        self.verifier = Verifier(
            self.other, Unknown, self.house.keeper, self.house.ledger, log, self.house.clock, self.wake
        )

    def wake(self) -> None:
        self.woken += 1

    def step(self) -> float:
        return self.verifier.step()

    def round(self, *drills: Drill, name: str = "app", label: str | None = None, **more: Any) -> None:
        """It is asked about one database, and what it says is taken over."""
        self.other.answers[name] = Offer(
            "s3", label or f"s3://bucket/{name}", drills, **({"at": self.house.clock.at} | more)
        )
        self.house.clock.go(ASK_EVERY_MIN + Policy().look_every)
        self.step()
        self.verifier.turned()

    @property
    def evidence(self) -> Evidence:
        return self.house.ledger.evidence["/data/app.db"]

    @property
    def ids(self) -> list[str]:
        return [each.id for _, each in self.house.ledger.history(None, 100)]


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    made.house.add("app", healthy())
    return made


def far(number: int, **facts: Any) -> Drill:
    return replace(drill(f"v{number}", NOW + timedelta(seconds=number)), **facts)


def test_what_is_not_known_is_taken_over_oldest_first_and_told_of_once(desk: Desk) -> None:
    desk.round(far(3), far(1), far(2))
    assert desk.ids == ["v3", "v2", "v1", "d1"]
    assert desk.heard.told == ["v3"], "old news is none"
    known = desk.evidence.last_drill
    assert known is not None
    assert (known.id, known.verifier, known.parity) == ("v3", "far:9810", None)
    assert desk.evidence.last_compared is not None
    assert desk.evidence.last_compared.id == "d1"
    desk.round(far(3), far(1), far(2))
    assert desk.ids == ["v3", "v2", "v1", "d1"]


def test_one_id_twice_in_an_answer_is_taken_once(desk: Desk) -> None:
    desk.round(far(1), far(1))
    assert desk.ids == ["v1", "d1"]


def test_what_was_taken_and_is_kept_no_longer_is_not_taken_again(desk: Desk) -> None:
    desk.round(far(1), far(2))
    desk.house.ledger.drills.clear()
    desk.round(far(1), far(2), far(3))
    assert desk.ids == ["v3"]


def test_of_another_replica_nothing_is_taken_and_that_is_said_once(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        desk.round(far(1), label="s3://bucket/other")
    assert desk.ids == ["d1"]
    assert [each.message for each in caplog.records] == [
        "app: no drill of the verifier's is taken over: its replica is s3 s3://bucket/other, ours is s3 s3://bucket/app"
    ]


def test_of_a_verifier_whose_clock_is_ahead_nothing_is_taken(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(3):
        desk.round(far(1), at=NOW + timedelta(hours=1, seconds=number))
    assert desk.ids == ["d1"]
    assert [each.message.partition(":")[0] for each in caplog.records] == ["app"], "once, however far it is"


def test_what_is_refused_is_said_once_and_the_rest_is_taken(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    lies = replace(drill("v9", NOW + timedelta(days=3)), content=None)
    half = replace(far(1), content=None)
    for _ in range(2):
        desk.round(lies, half, far(2), unreadable=("a drill cannot be read whole (KeyError)",))
    assert desk.ids == ["v2", "d1"]
    warned = [each.message for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(warned) == 3
    assert all(each.startswith("app: not taken over from the verifier: ") for each in warned)


def test_a_failed_drill_turns_the_sidecar_red_with_its_reason(desk: Desk) -> None:
    assert desk.house.answers.verdict().ready
    desk.round(far(1, outcome=Outcome.FAILED, reason="file_corrupt", message="file checksum mismatch", content=None))
    fleet = desk.house.answers.verdict()
    assert "the newest drill, made by far:9810, failed: file checksum mismatch" in [
        each.message for each in fleet.verdicts[0].judged.blocking
    ]  # fmt: skip


def test_a_verifier_that_cannot_be_asked_changes_nothing_and_is_said_once(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before = desk.evidence
    assert (desk.verifier.up,) == (None,)
    desk.other.answers["app"] = SidecarError("no daemon answers at http://far:9810", "")
    for _ in range(3):
        desk.house.clock.go(timedelta(minutes=2))
        assert desk.step() == REST_S
        desk.verifier.turned()
    assert (desk.verifier.up, desk.evidence) == (False, before)
    desk.round()
    assert desk.verifier.up is True
    assert [each.message for each in caplog.records] == [
        "no daemon answers at http://far:9810; until it can be asked again, drills become due here",
        "the verifier far:9810 answers again",
    ]


def test_a_database_that_it_does_not_know_is_no_outage(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.other.answers["app"] = Unknown("the verifier knows no database app")
    for _ in range(2):
        desk.house.clock.go(timedelta(minutes=2))
        assert desk.step() == PAUSE_S
        desk.verifier.turned()
    assert desk.verifier.up is True
    assert [each.message for each in caplog.records] == ["app: the verifier knows no database app"]
    assert not desk.verifier.awaited()


def test_each_is_asked_every_look_every_the_longest_waiting_first_and_not_more_than_two_a_second() -> None:
    desk = Desk()
    for name in ("a", "b", "c"):
        desk.house.add(name, healthy(), Policy(look_every=timedelta(seconds=1)))
    for _ in range(30):
        pause = desk.step()
        assert pause >= PAUSE_S
        desk.verifier.turned()
        desk.house.clock.go(timedelta(seconds=pause))
    assert desk.other.asked[:3] == ["a", "b", "c"]
    assert desk.other.asked[3:6] == ["a", "b", "c"]
    took = desk.house.clock.seconds - 1000.0
    assert len(desk.other.asked) <= 3 * (took / ASK_EVERY_MIN.total_seconds() + 1)


def test_a_loop_that_is_stuck_is_brought_only_so_much() -> None:
    desk = Desk()
    for number in range(20):
        desk.house.add(f"db{number}", healthy())
    for _ in range(50):
        desk.step()
        desk.house.clock.go(timedelta(seconds=20))
    assert len(desk.other.asked) == BROUGHT_MAX


def test_at_the_start_nothing_heavy_begins_before_it_was_heard_and_not_for_long(desk: Desk) -> None:
    assert list(desk.verifier.awaited()) == ["/data/app.db"]
    desk.step()
    assert list(desk.verifier.awaited()) == ["/data/app.db"], "it was asked, and nothing is taken over yet"
    desk.verifier.turned()
    assert not desk.verifier.awaited()
    silent = Desk(house=desk.house)
    assert list(silent.verifier.awaited()) == ["/data/app.db"]
    desk.house.clock.go(timedelta(seconds=AWAITED_S + 1))
    assert not silent.verifier.awaited()


def test_of_a_database_that_has_left_or_moved_meanwhile_nothing_is_taken(desk: Desk) -> None:
    desk.other.answers["app"] = Offer("s3", "s3://bucket/app", (far(1),), NOW)
    desk.step()
    desk.house.remove("app")
    desk.verifier.turned()
    assert desk.ids == ["d1"]


def test_what_nobody_foresaw_is_logged_and_the_next_question_comes(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.other.answers["app"] = None  # type: ignore[assignment] # not what an adapter returns
    desk.verifier.start()
    try:
        for _ in range(200):
            if desk.verifier.up is False:
                break
            Event().wait(0.02)
    finally:
        desk.verifier.close()
    assert desk.verifier.up is False
    assert "in a way that nobody foresaw" in caplog.text
