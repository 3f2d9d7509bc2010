"""What `doctor` says of a verifier, and of a daemon that is one."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from sidecar import diagnosis
from sidecar.core.elsewhere import Offer
from sidecar.core.errors import SidecarError
from sidecar.core.model import Database
from sidecar.core.policy import Policy
from sidecar.core.units import duration
from sidecar.diagnosis import ASKED_MAX, Diagnosis, Grade
from tests.fakes import NOW, database


class Unknown(SidecarError):
    """It does not know this database."""


@dataclass
class Other:
    """Answers by name."""

    answers: dict[str, Offer | SidecarError] = field(default_factory=dict)
    shown: str = "far:9810"
    asked: int = 0

    def ask(self, name: str) -> Offer:
        self.asked += 1
        answer = self.answers.get(name, Offer("s3", f"s3://bucket/{name}", (), NOW))
        if isinstance(answer, SidecarError):
            raise answer
        return answer


def said(other: Other, *names: str) -> list[Diagnosis]:
    databases: list[Database] = [database(each) for each in names]
    return list(diagnosis.verifier(other, Unknown, databases))


def test_all_known() -> None:
    assert said(Other(), "a", "b") == [Diagnosis("verifier", Grade.OK, "far:9810 answers and knows 2 of 2 databases")]


def test_it_names_which_it_does_not_know_and_which_it_backs_up_elsewhere() -> None:
    other = Other({"a": Unknown("no"), "b": Offer("s3", "s3://bucket/x", (), NOW)})
    found = said(other, "a", "b", "c")
    assert [each.grade for each in found] == [Grade.BAD, Grade.OK, Grade.WARN]
    assert (
        "none of its drills of b is taken over: its replica is s3 s3://bucket/x, ours is s3 s3://bucket/b"
        in found[0].message
    )
    assert found[1].message == "far:9810 answers and knows 1 of 3 databases"
    assert found[2].message == "far:9810 does not know a"
    assert all(each.fix for each in found if each.grade is not Grade.OK)


def test_whoever_does_not_answer_is_asked_once() -> None:
    other = Other(dict.fromkeys("abc", SidecarError("no daemon answers at http://far:9810", "start it")))
    (found,) = said(other, "a", "b", "c")
    assert (found.grade, found.fix, other.asked) == (Grade.UNKNOWN, "start it", 1)
    assert "until it answers, drills become due here" in found.message


def test_of_a_large_fleet_the_first_are_asked_about() -> None:
    other = Other()
    (found,) = said(other, *(f"db{number}" for number in range(ASKED_MAX * 3)))
    assert other.asked == ASKED_MAX
    assert found.message == f"far:9810 answers and knows {ASKED_MAX} of the first {ASKED_MAX} databases"


@pytest.mark.parametrize("production", [True, False])
def test_a_lag_that_is_not_asked_about_is_not_too_tight(production: bool) -> None:  # noqa: FBT001 - both
    policy = Policy(max_lag=duration("2s"), production=production)
    assert bool(list(diagnosis.tight(database(), policy))) is production


def test_a_daemon_without_production_says_so() -> None:
    found = diagnosis.alone(database())
    assert found.grade is Grade.OK
    assert "only the backup is judged here" in found.message
