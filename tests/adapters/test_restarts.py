"""What `core/restarts.py` says of Litestream, asked of the real one: a version that does otherwise turns these red."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.litestreams import App, Litestream, binary, until

OTHER_PAGE_SIZE = "pragma journal_mode=delete; pragma page_size=8192; vacuum; pragma journal_mode=wal"


@pytest.fixture
def stage(app: App, tmp_path: Path, litestream: Callable[..., Litestream]) -> tuple[App, Litestream]:
    """An app of a hundred pages and a Litestream that has copied it."""
    app.connection.executemany("insert into t (v) values (?)", [(os.urandom(1500).hex(),) for _ in range(100)])
    config = tmp_path / "litestream.yml"
    config.write_text(
        f"dbs: [{{path: {app.path}, replica: {{type: file, path: {tmp_path}/rep, sync-interval: 100ms}}}}]\n"
    )
    running = litestream(config).start()
    until(lambda: any((tmp_path / "rep").rglob("ltx/9/*.ltx")), say="it has a snapshot")
    return app, running


def files(app: App) -> set[Path]:
    return set((app.path.parent.parent / "rep").rglob("ltx/0/*.ltx"))


def restored(app: App, running: Litestream) -> int:
    """How many rows a restore brings back."""
    target = app.path.with_name("restored.db")
    target.unlink(missing_ok=True)
    argv = [binary(), "restore", "-config", str(running.config), "-o", str(target), str(app.path)]
    subprocess.run(argv, check=True, capture_output=True)
    connection = sqlite3.connect(target)
    ((rows,),) = connection.execute("select count(*) from t")
    connection.close()
    return int(rows)


def test_vacuum_is_one_file_as_large_as_the_database(stage: tuple[App, Litestream]) -> None:
    app, _ = stage
    before = files(app)
    app.execute("vacuum")
    until(lambda: files(app) - before)
    assert max(each.stat().st_size for each in files(app) - before) > 100 * 1500


def test_wal_mode_cannot_be_left_while_litestream_runs(stage: tuple[App, Litestream]) -> None:
    app, _ = stage
    app.close()
    connection = sqlite3.connect(app.path, isolation_level=None, timeout=1)
    with pytest.raises(sqlite3.OperationalError, match="database is locked"):
        connection.execute("pragma journal_mode=delete")
    connection.close()


def test_another_page_size_ends_replication_for_good_and_a_restore_brings_the_old_database(
    stage: tuple[App, Litestream],
) -> None:
    app, running = stage
    running.stop()
    app.close()
    subprocess.run(["sqlite3", "-bail", app.path, OTHER_PAGE_SIZE], check=True, stdout=subprocess.DEVNULL)
    argv = [binary(), "reset", "-config", str(running.config), str(app.path)]
    subprocess.run(argv, check=True, capture_output=True)  # does not help
    running.start()
    until(lambda: "unaligned wal offset" in running.log)
    app.open()
    app.write(5)
    threading.Event().wait(3)  # thirty times its sync interval
    assert "sync recovered" not in running.log
    assert restored(app, running) == 100


def test_without_its_local_folder_and_on_a_new_path_it_goes_on(stage: tuple[App, Litestream], tmp_path: Path) -> None:
    app, running = stage
    running.stop()
    app.close()
    subprocess.run(["sqlite3", "-bail", app.path, OTHER_PAGE_SIZE], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["rm", "-r", app.path.with_name(".app.db-litestream")], check=True)
    running.config.write_text(running.config.read_text().replace("/rep,", "/new,"))
    running.start()
    app.open()
    app.write(5)
    until(lambda: any((tmp_path / "new").rglob("ltx/9/*.ltx")))
    until(lambda: restored(app, running) == 105, every=0.5)
