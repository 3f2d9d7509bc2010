"""A short soak by the command of the long one, which is a thousand drills."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.soak import NAMES, world
from tests.e2e.stage import pause
from tests.litestreams import ROOT, environment


@pytest.mark.timeout(400)
def test_every_answer_is_what_the_model_says_and_nothing_grows() -> None:
    short = environment(SECONDS="40", DRILLS="10", SEED="20261125")
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.soak"], capture_output=True, text=True, check=False, cwd=ROOT, env=short
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["wrong"] == 0
    assert figures["drills"] >= 10
    assert figures["answers"] > 50
    assert figures["threads"] <= 1.5
    assert figures["descriptors"] <= 1.5


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
