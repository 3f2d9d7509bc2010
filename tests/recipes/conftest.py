"""Places to deploy to: made once for all workers, copied for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.stage import Sidecar
from tests.faces.commands import end_what_is_left
from tests.recipes.frameworks import SQL, Framework, initial
from tests.recipes.place import Place, copy_of
from tests.recipes.snippets import script
from tests.recipes.tools import one_at_a_time


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[[Framework], Place]:
    """Each framework's project after its first migration. Who asks first makes it."""
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "recipes"

    def prepare(framework: Framework) -> Place:
        folder = shared / framework.name
        with one_at_a_time(framework.name, shared):
            if not (folder / "done").exists():
                initial(framework, folder)
                (folder / "done").touch()
        return Place(folder)

    return prepare


@pytest.fixture
def place_of(prepared: Callable[[Framework], Place], tmp_path: Path) -> Iterator[Callable[[Framework], Place]]:
    """A copy of it, with its app and Litestream running."""
    made: list[Place] = []

    def make(framework: Framework) -> Place:
        place = copy_of(prepared(framework), tmp_path)
        made.append(place)
        place.start()
        return place

    yield make
    for each in made:
        each.stop()


@pytest.fixture(autouse=True)
def nothing_runs_on() -> Iterator[None]:
    """A failing test must not leave a daemon behind."""
    yield
    end_what_is_left()


@pytest.fixture
def shop(place_of: Callable[[Framework], Place]) -> Place:
    """A release that is about to be deployed: `./migrate` brings production from version 1 to 2."""
    place = place_of(SQL)
    SQL.lay("good", place)
    script(place, "migrate", f"#!/bin/sh\ncd {place.project} && exec sh migrate.sh {place.database}\n")
    return place


@pytest.fixture
def daemon(shop: Place) -> Iterator[Sidecar]:
    """The daemon beside the shop, not yet started."""
    made = Sidecar(shop.litestream_yml, shop.sidecar_yml, shop.state)
    yield made
    if made.process is not None:
        made.stop()
