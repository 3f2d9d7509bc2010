"""How often periodic work is done: at its interval while it is quick, less often as it takes longer, and never less than it may."""

from __future__ import annotations

import pytest

from sidecar.core.pace import REST, Pace


@pytest.mark.parametrize(
    ("took", "again_after"),
    [(0.0, 5.0), (5.0 / REST, 5.0), (8.0 / REST, 8.0), (60.0, 10.0)],
    ids=["quick", "just quick enough", "long", "for ever"],
)
def test_what_takes_long_is_done_less_often(took: float, again_after: float) -> None:
    pace = Pace(5.0, 10.0)
    assert pace.due(0.0), "at the start"
    pace.begin(100.0)
    pace.took(took)
    assert not pace.due(99.9 + again_after)
    assert pace.due(100.0 + again_after)
    assert pace.stretched is (again_after > 5.0)


def test_it_can_be_hurried_and_forgets_what_it_took() -> None:
    pace = Pace(5.0, 10.0)
    pace.begin(100.0)
    pace.took(60.0)
    pace.hurry()
    assert pace.due(100.0)
    assert not pace.stretched
