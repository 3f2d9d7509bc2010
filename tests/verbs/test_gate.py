"""The gate waits while waiting can help, stops at once when it cannot, and says what it decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sidecar.core.decision import Kind, Word
from sidecar.core.errors import SidecarError, Stopped
from sidecar.core.proof import Demand, Proof
from sidecar.core.receipt import Override
from sidecar.deploy.gate import AGAIN_S, Answer, Issue, Patience, Question, ask, decision_of, receipt_for
from tests.core.evidences import NOW
from tests.core.receipts import RECEIPT_ID, proof, refuses, waits
from tests.fakes import FakeClock
from tests.road_fakes import FakeRoad, SteppingEvent
from tests.verb_fakes import slow, unseen

MINUTE = timedelta(minutes=1)
LATER = NOW + timedelta(seconds=9)


class Scene:
    """A road, a clock that only waiting moves, and somebody who asks."""

    def __init__(self, *, stop_after: int | None = None, **proofs: list[Proof]) -> None:
        self.clock = FakeClock(NOW)
        self.road = FakeRoad(proofs)
        self.stop = SteppingEvent(self.clock, stop_after)
        self.patience = Patience(self.road, self.clock, self.stop, unseen)

    def proved(self, *demands: Demand, timeout: timedelta = MINUTE) -> tuple[Proof, ...]:
        return self.patience.proved(demands, timeout)

    def ask(self, *names: str, timeout: timedelta = MINUTE, **more: Any) -> Answer:
        return ask(Question(names=names or ("app",), receipt_id=RECEIPT_ID, timeout=timeout, **more), self.patience)

    @property
    def asked(self) -> list[str]:
        return [each.name for each in self.road.asked]


def test_a_database_that_is_ready_is_asked_once() -> None:
    scene = Scene()
    answer = scene.ask()
    assert (answer.word, answer.passed, scene.asked, scene.stop.waits) == (Word.PASSED, True, ["app"], [])
    assert answer.reason == "1 database proved: restored, sound, and the way back is kept"
    assert answer.proofs == (proof(),)


def test_it_waits_while_waiting_can_help() -> None:
    scene = Scene(app=[waits(), waits()])
    assert scene.ask().word is Word.PASSED
    assert (scene.asked, scene.stop.waits) == (["app"] * 3, [AGAIN_S] * 2)


@pytest.mark.parametrize("conclusive", [True, False])
def test_it_stops_at_once_where_waiting_cannot_help(*, conclusive: bool) -> None:
    scene = Scene(app=[refuses(conclusive=conclusive)], b=[waits()])
    answer = scene.ask("app", "b")
    assert answer.word is (Word.REFUSED if conclusive else Word.UNKNOWN)
    assert (answer.passed, answer.reason, scene.asked, scene.stop.waits) == (False, "app: there is a gap", ["app"], [])
    assert [each.name for each in answer.proofs] == ["app"], "nobody was asked about b"


def test_it_stops_also_where_waiting_stops_to_help() -> None:
    scene = Scene(app=[waits(), waits(), refuses()])
    assert scene.ask().word is Word.REFUSED
    assert len(scene.stop.waits) == 2


def test_the_time_that_is_up_is_no_answer_and_the_newest_proof_says_why() -> None:
    scene = Scene(app=[waits(reason=f"app: try {each}") for each in range(99)])
    answer = scene.ask(timeout=timedelta(seconds=10))
    assert (answer.word, answer.reason) == (Word.UNKNOWN, "app: try 4")
    assert sum(scene.stop.waits) <= 10
    assert (scene.clock.now() - NOW).total_seconds() <= 10


def test_one_that_is_proved_bad_but_may_mend_is_refused_when_the_time_is_up() -> None:
    """A sync that fails is proved, and may still come right."""
    scene = Scene(app=[waits(conclusive=True)] * 99)
    assert scene.ask(timeout=timedelta(seconds=3)).word is Word.REFUSED


def test_every_try_has_what_is_left_of_the_time_and_never_none() -> None:
    scene = Scene(app=[waits()] * 99)
    scene.road.steps = [slow(scene.clock, 5)] * 99
    scene.ask(timeout=timedelta(seconds=20))
    assert [each.timeout.total_seconds() for each in scene.road.asked] == [20, 13, 6]
    late = Scene(app=[waits()])
    late.road.steps = [slow(late.clock, 30)]
    late.ask("app", "b", timeout=timedelta(seconds=10))
    assert [each.timeout.total_seconds() for each in late.road.asked] == [10, 1]


def test_no_time_at_all_is_one_try() -> None:
    scene = Scene(app=[waits()])
    assert scene.ask(timeout=timedelta(0)).word is Word.UNKNOWN
    assert (scene.asked, scene.stop.waits) == (["app"], [])


def test_what_was_asked_about_first_is_asked_about_again() -> None:
    """Else a busy database would never be covered: every try would demand newer commits."""
    scene = Scene(app=[waits(since=LATER), waits(since=LATER)])
    scene.proved(Demand(name="app"))
    assert [each.since for each in scene.road.asked] == [None, LATER, LATER]
    given = Scene(app=[waits(since=LATER)])
    given.proved(Demand(name="app", since=NOW))
    assert given.road.asked[0].since == NOW


def test_of_several_only_those_that_are_not_ready_are_asked_again() -> None:
    scene = Scene(a=[waits("a")], c=[waits("c"), waits("c")])
    answer = scene.ask("a", "b", "c")
    assert scene.asked == ["a", "b", "c", "a", "c", "c"]
    assert [each.name for each in answer.proofs] == ["a", "b", "c"], "in the order of the names"
    assert answer.reason.startswith("3 databases proved")


def test_of_several_that_are_not_ready_the_proved_one_is_told_and_the_others_counted() -> None:
    scene = Scene(a=[waits("a")] * 9, b=[waits("b", conclusive=True)] * 9, c=[waits("c")] * 9)
    answer = scene.ask("a", "b", "c", "d", timeout=timedelta(seconds=1))
    assert (answer.word, answer.reason) == (Word.REFUSED, "b: not all is there yet (and 2 more)")


@pytest.mark.parametrize("after", [1, 2])
def test_whoever_is_told_to_stop_while_waiting_stops(after: int) -> None:
    scene = Scene(stop_after=after, app=[waits()] * 9)
    with pytest.raises(Stopped):
        scene.ask()
    assert len(scene.asked) == after


@pytest.mark.parametrize("error", [Stopped("told to stop"), SidecarError("no daemon answers", "start it")])
def test_what_breaks_on_the_road_is_the_callers(error: SidecarError) -> None:
    scene = Scene()
    scene.road.steps = [error]
    with pytest.raises(type(error), match=error.message):
        scene.ask()


def test_the_gate_wants_both_halves_a_kept_copy_and_fresh_proof() -> None:
    scene = Scene()
    scene.ask()
    scene.ask(max_age=timedelta(minutes=10))
    fresh, younger = scene.road.asked
    assert fresh == Demand(name="app", receipt_id=RECEIPT_ID, timeout=MINUTE, keep=True)
    assert younger == replace(fresh, max_age=timedelta(minutes=10))


OVERRIDDEN: list[Callable[..., Proof]] = [waits, refuses]


@pytest.mark.parametrize("found", OVERRIDDEN)
def test_an_override_passes_after_one_try_and_says_what_it_overrode(found: Callable[..., Proof]) -> None:
    scene = Scene(app=[found(), found()], b=[found("b")])
    answer = scene.ask("app", "b", override="disk is dying")
    assert (answer.word, answer.passed, scene.asked, scene.stop.waits) == (Word.OVERRIDDEN, True, ["app", "b"], [])
    assert answer.reason == f"{found().reason} (and 1 more)"
    assert all(each.anyway and each.keep for each in scene.road.asked)


def test_an_override_that_was_not_needed_is_none() -> None:
    answer = Scene().ask(override="disk is dying")
    assert answer.word is Word.PASSED
    question = Question(names=["app"], receipt_id=RECEIPT_ID, timeout=MINUTE, override="disk is dying")
    assert decision_of(answer, question, NOW).override == ""
    assert receipt_for(answer, ISSUE, NOW).override is None


ISSUE = Issue(
    id=RECEIPT_ID, sidecar="1.2.3", command="litestream-sidecar rollback --receipt r.json",
    valid_for=timedelta(hours=2), override="disk is dying",
)  # fmt: skip


def test_the_receipt_holds_what_was_proved_and_how_to_go_back() -> None:
    made = receipt_for(Scene().ask("app", "b"), ISSUE, LATER)
    assert (made.id, made.issued_at, made.expires_at) == (RECEIPT_ID, LATER, LATER + timedelta(hours=2))
    assert (made.sidecar, made.litestream, made.override) == ("1.2.3", "0.5.17", None)
    assert [each.name for each in made.databases] == ["app", "b"]
    assert {each.rollback.command for each in made.databases} == {ISSUE.command}
    assert replace(made.databases[0], rollback=proof().entry.rollback) == proof().entry


def test_the_receipt_of_an_override_says_who_wanted_it_and_what_was_against_it() -> None:
    made = receipt_for(Scene(app=[refuses()]).ask(override="disk is dying"), ISSUE, NOW)
    assert made.override == Override(reason="disk is dying", refused="app: there is a gap")


def test_the_decision_is_recorded_with_all_names_whatever_was_reached() -> None:
    question = Question(names=["app", "b"], receipt_id=RECEIPT_ID, timeout=MINUTE, override=None)
    made = decision_of(Scene(app=[refuses()]).ask("app", "b"), question, LATER)
    assert (made.kind, made.word, made.at, made.databases) == (Kind.GATE, Word.REFUSED, LATER, ("app", "b"))
    assert (made.reason, made.receipt_id, made.override) == ("app: there is a gap", RECEIPT_ID, "")
    asked = replace(question, override="disk is dying")
    made = decision_of(Scene(app=[refuses()]).ask(override="disk is dying"), asked, LATER)
    assert (made.word, made.override) == (Word.OVERRIDDEN, "disk is dying")
