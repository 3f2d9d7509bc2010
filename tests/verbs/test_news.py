"""What is told to others: pings about every drill, messages on edges only, and never a storm."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from sidecar.core.model import Outcome
from sidecar.news import AGAIN_S, EVERY_S, NAMED_MAX, SETTLE_S, News
from tests.fakes import House, drill, healthy


@dataclass
class Ears:
    """Writes down what it is told."""

    pings: list[tuple[str, str]] = field(default_factory=list)
    posts: list[dict[str, Any]] = field(default_factory=list)

    def ping(self, word: str, db: str, run: str, said: str) -> None:
        assert db in said
        assert run
        self.pings.append((word, db))

    def post(self, document: dict[str, Any]) -> None:
        self.posts.append(document)


@dataclass
class Room:
    """One database whose backup can be broken and mended, and the news about it."""

    house: House = field(default_factory=House)
    ears: Ears = field(default_factory=Ears)

    def __post_init__(self) -> None:
        self.app = self.house.add("app", healthy())
        self.news = News(self.house.answers, self.ears, wanted=True)

    def be(self, *, ready: bool) -> None:
        now = self.house.clock.now()
        known = healthy(now)
        failed = replace(drill(at=now), outcome=Outcome.FAILED, reason="file_corrupt", message="checksum mismatch")
        self.house.ledger.evidence[self.app.path] = known if ready else known.after_drill(failed)

    def wait(self, seconds: float, *, ready: bool) -> None:
        for _ in range(int(seconds / EVERY_S)):
            self.house.clock.go(timedelta(seconds=EVERY_S))
            self.be(ready=ready)
            self.news.turned()

    @property
    def told(self) -> list[str]:
        return [each["event"] for each in self.ears.posts]


def test_the_first_verdict_is_no_news_and_each_edge_is_told_once() -> None:
    room = Room()
    room.wait(120, ready=True)
    assert room.told == []
    room.wait(120, ready=False)
    assert room.told == ["not_ready"]
    assert room.ears.posts[0]["reason"] == "app: the newest drill failed: checksum mismatch"
    assert (room.ears.posts[0]["db"], room.ears.posts[0]["not_ready"]) == ("app", 1)
    assert room.ears.posts[0]["databases"][0]["ready"] is False
    room.wait(120, ready=True)
    assert room.told == ["not_ready", "ready"]
    assert room.ears.posts[1]["databases"] == []


def test_what_does_not_last_is_not_told() -> None:
    room = Room()
    room.wait(60, ready=True)
    room.wait(SETTLE_S, ready=False)
    room.wait(120, ready=True)
    assert room.told == []


def test_a_fleet_that_flaps_for_an_hour_is_told_of_at_most_once_a_minute_and_truly_at_the_end() -> None:
    room = Room()
    room.wait(60, ready=True)
    for _ in range(60):
        room.wait(SETTLE_S + 15, ready=False)
        room.wait(SETTLE_S + 15, ready=True)
    assert 0 < len(room.told) <= 3600 / AGAIN_S
    room.wait(120, ready=False)
    assert room.told[-1] == "not_ready"
    assert all(one != other for one, other in zip(room.told, room.told[1:], strict=False))


def test_every_drill_is_a_ping_and_only_the_first_failure_a_message() -> None:
    room = Room()
    failed = replace(drill(), outcome=Outcome.FAILED, reason="file_corrupt", message="checksum mismatch")
    room.news.drill_began("app", "d1")
    for each in (
        failed,
        failed,
        replace(failed, outcome=Outcome.INCONCLUSIVE),
        replace(failed, outcome=Outcome.ABORTED),
        failed,
        drill(),
        failed,
    ):
        room.news.drill_ended("app", each)
    assert [word for word, _ in room.ears.pings] == ["start", "fail", "fail", "log", "log", "fail", "success", "fail"]
    assert room.told == ["drill_failed", "drill_failed"], "again only after one had passed"
    assert room.ears.posts[0]["drill"]["reason"] == "file_corrupt"
    assert room.ears.posts[0]["reason"] == "app: checksum mismatch"


def test_a_large_fleet_makes_no_large_message() -> None:
    room = Room()
    room.wait(60, ready=True)
    for number in range(NAMED_MAX + 30):
        room.house.add(f"other{number}")
    room.wait(120, ready=True)
    assert (len(room.ears.posts[0]["databases"]), room.ears.posts[0]["not_ready"]) == (NAMED_MAX, NAMED_MAX + 30)
    assert room.ears.posts[0]["db"] is None


def test_nobody_is_told_where_nobody_wants_to_know() -> None:
    room = Room()
    room.news = News(room.house.answers, room.ears, wanted=False)
    room.wait(60, ready=True)
    room.wait(120, ready=False)
    room.news.drill_began("app", "d1")
    room.news.drill_ended("app", drill())
    assert (room.ears.pings, room.ears.posts) == ([], [])
