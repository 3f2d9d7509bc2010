"""A short soak: `python -m tests.bench.soak` is the long one, of a thousand drills."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.soak import NAMES, grown, live, world
from tests.e2e.stage import pause


@pytest.mark.timeout(400)
def test_every_answer_is_what_the_model_says_and_nothing_grows(tmp_path: Path) -> None:
    with world(tmp_path, seed=20261125) as made:
        drills = live(made, seconds=45)
        assert made.wrong == []
        assert drills > 10
        growth = grown(made)
        assert growth["threads"] <= 1.5
        assert growth["descriptors"] <= 1.5


@pytest.mark.timeout(200)
def test_the_model_is_one_that_can_be_contradicted(tmp_path: Path) -> None:
    """Both ways: what is said to be sound and is broken, and the other way round."""
    with world(tmp_path, seed=1) as made:
        made.say("broken", NAMES[0])
        pause(1.5)
        assert any("is broken, ready=True" in each for each in made.wrong)
        made.say("unsettled")
        made.acting.litestream.stop()
        made.until_red(NAMES[1], {"litestream_down"})
        made.say("sound", NAMES[1])
        pause(1.5)
        assert any("is sound, ready=False: litestream litestream_down" in each for each in made.wrong)
