"""What a comparison with production means to a walk of the road: it is demanded, and where it is conclusive production is not copied."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sidecar.core.errors import Unreadable
from sidecar.core.model import Database, Position
from sidecar.core.parity import Parity, ParityResult
from sidecar.core.policy import Policy
from sidecar.core.ports_pages import PageReader
from sidecar.parity import Comparer, Comparison
from sidecar.pieces import Around
from tests.verbs.test_walk import WHOLE_WAY, Scene, check

PAGES = 10_000


def nothing(*_: object) -> object:
    """Nothing is read, so nothing is gathered and nothing written down."""
    return None


@dataclass
class Locked:
    """Production that nobody may read."""

    @contextmanager
    def opened(self, path: str) -> Iterator[PageReader]:
        del path
        raise Unreadable("database is locked", "try again")
        yield


class Said(Comparison):
    """A comparison whose end is known."""

    said: Parity

    def conclude(self, copy: Path, position: Position, page_size: int, drill_id: str, *, newest: bool) -> Parity:
        del copy, position, page_size, drill_id, newest
        return self.said


@dataclass(frozen=True)
class Saying(Comparer):
    """Compares nothing, and says this."""

    said: Parity = field(kw_only=True)

    @contextmanager
    def begun(self, database: Database, room: Path, around: Around) -> Iterator[Comparison]:
        del room
        comparison = Said(self, database, around)
        comparison.said = self.said
        yield comparison


def locked_out() -> Comparer:
    return Comparer(Locked(), nothing, nothing, nothing)  # type: ignore[arg-type] # of these nothing is asked


def saying(parity: Parity) -> Comparer:
    return Saying(Locked(), nothing, nothing, nothing, said=parity)  # type: ignore[arg-type] # nor here


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    made = Scene(tmp_path)
    made.policy = Policy(parity=True)
    return made


def test_what_could_not_be_compared_blocks_and_says_why(scene: Scene) -> None:
    scene.comparer = locked_out()
    proof = scene.walk()
    status, reason, message = check(proof, "parity")
    assert (status, reason) == ("unknown", "not_compared")
    assert "database is locked" in message
    assert (proof.ready, proof.retryable, proof.conclusive) == (False, True, False)
    assert scene.did[:4] == ["sync", "list", "restore", "check"], (
        "a backup is no worse for that: it was restored and checked"
    )
    assert proof.entry.drill is not None
    assert proof.entry.drill["outcome"] == "passed"


def test_where_the_policy_does_not_want_it_nothing_is_compared(scene: Scene) -> None:
    scene.comparer, scene.policy = locked_out(), Policy(parity=False)
    proof = scene.walk()
    assert proof.ready
    assert not [each for each in proof.entry.checks if each["name"] == "parity"]


@pytest.mark.parametrize(
    ("proven", "did"), [(PAGES, [each for each in WHOLE_WAY if each != "copy"]), (PAGES * 9 // 10, WHOLE_WAY)]
)
def test_a_copy_that_is_production_is_taken_stock_of_in_its_place(scene: Scene, proven: int, did: list[str]) -> None:
    """Nine tenths are no reason not to read the rest."""
    scene.comparer = saying(Parity(ParityResult.EQUAL, PAGES, proven, PAGES - proven, "the same"))
    proof = scene.walk()
    assert proof.ready, proof.reason
    assert proof.entry.census is not None
    assert [each for each in scene.did if each != "check"] == [each for each in did if each != "check"]
    assert check(proof, "database")[0] == "pass"


def test_pages_that_differ_are_proved_and_end_it(scene: Scene) -> None:
    scene.comparer = saying(
        Parity(ParityResult.DIFFERENT, PAGES, PAGES - 1, 0, "1 page differs", "start over", (7,), 1, ("users",))
    )
    proof = scene.walk()
    assert check(proof, "parity")[:2] == ("fail", "pages_differ")
    assert (proof.ready, proof.retryable, proof.conclusive) == (False, False, True)
    assert ("copy" in scene.did, scene.kept) == (False, [])
