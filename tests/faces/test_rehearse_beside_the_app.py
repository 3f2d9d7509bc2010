"""`rehearse` while the app goes on writing, and from a replica of Litestream 0.3."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.faces.commands import Scene, run, start
from tests.litestreams import App, Litestream, binary_of, until


def name_of(pid: int) -> str:
    return f"{Path(f'/proc/{pid}/comm').read_text().strip()} (pid {pid})"


def test_what_the_app_writes_meanwhile_is_said(scene: Scene) -> None:
    app = App(scene.database())
    began, go = scene.folder / "began", scene.folder / "go"
    script = f"cat {{db}} > /dev/null; touch {began}; while [ ! -e {go} ]; do sleep 0.02; done"
    process = start("rehearse", *scene.options, "--json", "app", "--", "sh", "-c", script)
    until(began.exists, say="the command runs")
    app.write(3)
    go.touch()
    out, _ = process.communicate(timeout=20)
    app.close()
    assert process.returncode == 0
    assert f"never seen opening production; it was written meanwhile, and {name_of(os.getpid())} has it open" in out


def test_a_change_of_production_that_nobody_owns_up_to_is_no_pass(scene: Scene) -> None:
    """Quicker than the guard looks, so nothing but the change itself is seen."""
    began, go = scene.folder / "began", scene.folder / "go"
    script = f"cat {{db}} > /dev/null; touch {began}; while [ ! -e {go} ]; do sleep 0.02; done"
    process = start("rehearse", *scene.options, "app", "--", "sh", "-c", script)
    until(began.exists, say="the command runs")
    app = App(scene.database())
    app.write(3)
    app.close()
    go.touch()
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 3
    assert out.startswith("COULD NOT TELL  app: production: production changed meanwhile, and nobody but the command")


def test_a_migration_with_production_wired_in_is_killed_before_it_writes(scene: Scene) -> None:
    script = scene.folder / "migrate.py"
    script.write_text(
        f"import sqlite3, time\nc = sqlite3.connect({str(scene.database())!r}, isolation_level=None)\n"
        "print(c.execute('select count(*) from t').fetchone())\ntime.sleep(0.3)\nc.execute('delete from t')\n"
    )
    ran = scene.run("rehearse", "app", "--", sys.executable, script)
    assert ran.code == 1
    assert ran.err.startswith("error: the command opened production (app.db) and was killed; its files ")
    app = App(scene.database())
    assert app.execute("select count(*) from t") == [(200,)]
    app.close()
    assert scene.scratch_is_empty()


def test_a_replica_of_litestream_0_3(tmp_path: Path) -> None:
    """The same rehearsal; and another page size, which 0.5 never gets over, is only a full copy to 0.3."""
    app = App(tmp_path / "data" / "app.db")
    app.write(200)
    config, executable = tmp_path / "litestream.yml", binary_of("0.3.13")
    config.write_text(
        f"dbs: [{{path: {app.path}, replicas: [{{type: file, path: {tmp_path}/rep, sync-interval: 100ms}}]}}]\n"
    )
    (tmp_path / "sidecar.yml").write_text(f"litestream: {{binary: {executable}}}\n")
    litestream = Litestream(config, executable=executable).start()
    until(lambda: any((tmp_path / "rep").rglob("*.wal.lz4")), say="it is replicated")
    litestream.stop()
    app.close()
    options = ("--litestream-config", config, "--config", tmp_path / "sidecar.yml", "--state-dir", tmp_path / "state")
    ran = run("rehearse", *options, "--json", "app", "--", "sqlite3", "{db}", "update t set v = 1")
    assert ran.code == 0, ran
    assert ran.document["changes"]["tables"][0]["updated"] == 200
    assert ran.document["drill"]["litestream_version"].startswith("0.3")
    statements = "pragma journal_mode=delete; pragma page_size=8192; vacuum; pragma journal_mode=wal"
    ran = run("rehearse", *options, "--json", "app", "--", "sqlite3", "{db}", statements)
    found = {each["reason"]: each["status"] for each in ran.document["checks"] if each["name"] == "litestream"}
    assert found["page_size"] == "warn"
    assert ran.code == 0
