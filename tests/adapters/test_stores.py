"""Every kind of store that can be started here besides files and S3: what works, and what each failure is called."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from sidecar.adapters import litestream_yml
from sidecar.adapters.litestream_v5 import LitestreamV5
from sidecar.core.errors import LitestreamError
from sidecar.core.model import Database
from tests.litestreams import App, Litestream, binary, environment, free_port, until
from tests.stores import BUCKET, KINDS, Store, serving

NEVER = threading.Event()
WRONG = "WRONGSECRET"


def quiet(stage: str, done: int, total: int | None) -> None:
    """No progress wanted."""
    del stage, done, total


def reader(store: Store) -> LitestreamV5:
    return LitestreamV5(binary(), "0.5.17", environment(**store.env))


def database(store: Store, folder: Path, path: str = "app", **more: str) -> Database:
    """As litestream.yml is read, with the endpoint that stands there."""
    config = folder / f"{path}.yml"
    config.write_text(f"dbs:\n  - path: {folder / 'app.db'}\n    replica: {store.replica(path, **more)}\n")
    return litestream_yml.read(config, environment(**store.env)).databases[0]


@pytest.fixture(scope="module", params=list(KINDS))
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that Litestream has replicated to."""
    home = tmp_path_factory.mktemp(request.param)
    with serving(request.param, home / "store") as server:
        found = database(server, home)
        app = App(home / "app.db")
        litestream = Litestream(home / "app.yml", env=environment(**server.env)).start()
        try:
            app.write(50)
            until(partial(has_a_snapshot, server, found), within=30, say="a snapshot is in the store")
        finally:
            litestream.stop()
            app.close()
        yield server


def has_a_snapshot(store: Store, found: Database) -> bool:
    return any(each.level == 9 for each in reader(store).list_files(found, timeout_s=20, stop=NEVER))


@pytest.fixture
def app(store: Store, tmp_path: Path) -> Database:
    return database(store, tmp_path)


def failing(do: Callable[[], object]) -> LitestreamError:
    with pytest.raises(LitestreamError) as caught:
        do()
    assert "SECRETEXAMPLE" not in f"{caught.value.message} {caught.value.hint}"
    assert WRONG not in f"{caught.value.message} {caught.value.hint}"
    assert caught.value.hint
    return caught.value


def asking(store: Store, found: Database, timeout_s: float) -> list[Callable[[], object]]:
    asked = reader(store)
    return [partial(each, found, timeout_s=timeout_s, stop=NEVER) for each in (asked.list_files, asked.plan)]


def test_it_lists_plans_and_restores(store: Store, app: Database, tmp_path: Path) -> None:
    plan = reader(store).plan(app, timeout_s=20, stop=NEVER)
    reader(store).restore(app, plan, tmp_path / "copy", timeout_s=20, stop=NEVER, progress=quiet)
    assert (tmp_path / "copy").stat().st_size > 4096
    assert app.replica.type == store.type


def test_another_path_is_empty(store: Store, tmp_path: Path) -> None:
    elsewhere = database(store, tmp_path, "elsewhere")
    if store.type == "nats":  # Litestream knows buckets there and no paths, which litestream_yml warns about
        assert reader(store).list_files(elsewhere, timeout_s=20, stop=NEVER)
        return
    assert reader(store).list_files(elsewhere, timeout_s=20, stop=NEVER) == ()
    assert failing(lambda: reader(store).plan(elsewhere, timeout_s=20, stop=NEVER)).reason == "no_backup"


def test_a_bucket_that_is_not_there_is_no_backup(store: Store, tmp_path: Path) -> None:
    if store.type in {"webdav", "sftp"}:  # they have folders, and one that is not there is as good as an empty one
        assert reader(store).list_files(database(store, tmp_path, "elsewhere"), timeout_s=20, stop=NEVER) == ()
        return
    block = store.replica().replace(BUCKET, "nosuch")
    config = tmp_path / "app.yml"
    config.write_text(f"dbs:\n  - path: {tmp_path / 'app.db'}\n    replica: {block}\n")
    found = litestream_yml.read(config, environment(**store.env)).databases[0]
    for ask in asking(store, found, 20):
        error = failing(ask)
        assert (error.reason, "bucket does not exist" in error.message) == ("no_backup", True), error


def test_a_wrong_password_is_auth_and_never_shown(store: Store, tmp_path: Path) -> None:
    if store.keeps_nobody_out:
        assert reader(store).list_files(database(store, tmp_path, password=WRONG), timeout_s=20, stop=NEVER)
        return
    for ask in asking(store, database(store, tmp_path, password=WRONG), 20):
        assert failing(ask).reason == "auth"


def test_a_server_that_is_gone_is_unreachable(store: Store, tmp_path: Path) -> None:
    gone = replace(store, port=free_port(), process=None)
    for ask in asking(gone, database(gone, tmp_path), 4):
        assert failing(ask).reason == store.refuses_when_gone


def test_a_server_that_hangs_is_a_timeout(store: Store, app: Database) -> None:
    store.pause()
    try:
        for ask in asking(store, app, 1.5):
            assert failing(ask).reason == "timeout"
    finally:
        store.resume()
