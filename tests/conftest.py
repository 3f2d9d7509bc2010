"""Fixtures that many tests share: a folder with an app, a replica and the real Litestream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.litestreams import App, Litestream


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    made = App(tmp_path / "data" / "app.db")
    yield made
    made.close()


@pytest.fixture
def litestream() -> Iterator[Callable[..., Litestream]]:
    """Make a Litestream that is killed when the test ends."""
    started: list[Litestream] = []

    def make(config: Path, **more: object) -> Litestream:
        made = Litestream(config, **more)  # type: ignore[arg-type] # passed through as given
        started.append(made)
        return made

    yield make
    for each in started:
        each.kill()
