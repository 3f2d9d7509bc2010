"""The HTTP application over hand-made evidence: in-process (`site`), and on a real socket (`serve`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.adapters.http_server import HttpServer, Limits
from sidecar.core.settings_model import Listen
from sidecar.web import App
from tests.faces.commands import Scene, copy_of, end_what_is_left, replicated
from tests.faces.deploys import Deploy, deployable, deploying
from tests.faces.site import Site
from tests.fakes import healthy

HERE = Listen("127.0.0.1", 0)
LIMITS = Limits()


@pytest.fixture
def site() -> Site:
    made = Site()
    made.house.add("app", healthy())
    return made


@pytest.fixture
def app(site: Site) -> App:
    return site.app


@pytest.fixture
def serve(app: App) -> Iterator[Callable[[Listen], HttpServer]]:
    started: list[HttpServer] = []

    def start(listen: Listen = HERE, limits: Limits = LIMITS, asgi: Any = app) -> HttpServer:
        server = HttpServer(asgi, listen, limits)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def replicated_once(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Made once; tests work on copies."""
    return replicated(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def scene(replicated_once: Scene, tmp_path: Path) -> Scene:
    return copy_of(replicated_once, tmp_path)


@pytest.fixture(autouse=True)
def nothing_runs_on() -> Iterator[None]:
    """A failing test must not leave a daemon behind."""
    yield
    end_what_is_left()


@pytest.fixture(scope="session")
def deployable_once(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Made once; tests work on copies."""
    return deployable(tmp_path_factory.mktemp("deployable"))


@pytest.fixture
def deploy(deployable_once: Scene, tmp_path: Path) -> Iterator[Deploy]:
    """An app and Litestream that run, before a deploy."""
    with deploying(deployable_once, tmp_path) as made:
        yield made
