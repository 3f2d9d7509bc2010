"""`backup`: under a full-speed writer, of a damaged database, to every place where it must not go."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faces.commands import Scene, interrupt, start
from tests.litestreams import until


def query(path: Path, sql: str) -> Any:
    """One value of a file that nobody writes."""
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
        return connection.execute(sql).fetchone()[0]


def beside(path: Path) -> list[str]:
    """What lies in a file's folder under a name that begins like its own, or is ours."""
    return sorted(
        each.name for each in path.parent.iterdir() if each.name.startswith((path.name, ".litestream-sidecar"))
    )


@pytest.fixture
def out(scene: Scene) -> Path:
    (scene.folder / "backups").mkdir()
    return scene.folder / "backups" / "app-copy.db"


def test_a_backup_is_one_file_and_is_told_in_one_sentence(scene: Scene, out: Path) -> None:
    ran = scene.run("backup", "app", out)
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"backed up app to {out}: ")
    for each in ("200 rows in 1 table", "schema version 0 (user_version)", "quick_check ok", f"sha256 {digest}\n"):
        assert each in ran.out
    assert query(out, "select count(*) from t") == 200
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert beside(out) == [out.name]
    assert not scene.state.exists()


def test_as_json_and_checked_in_full(scene: Scene, out: Path) -> None:
    ran = scene.run("backup", "users", out, "--json", "--full")
    said = ran.document
    assert (ran.code, ran.err, said["made"], said["check"]) == (0, "", True, "full")
    assert said["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert (said["size_bytes"], said["tables"]) == (out.stat().st_size, {"t": 200})
    assert said["schema_version"] == {"source": "user_version", "value": "7"}


def test_compact(scene: Scene, out: Path) -> None:
    with closing(sqlite3.connect(scene.database(), isolation_level=None)) as app:
        app.execute("insert into t (v) select randomblob(2000) from t, t as u limit 2000")
        app.execute("delete from t where id > 200")
    assert scene.run("backup", "app", out).code == 0
    loose = out.stat().st_size
    ran = scene.run("backup", "app", out, "--vacuum", "--force", "--json")
    assert (ran.code, ran.document["vacuumed"], ran.document["replaced"]) == (0, True, True)
    assert out.stat().st_size < loose / 10
    assert query(out, "select count(*) from t") == 200
    assert query(out, "pragma freelist_count") == 0
    assert query(out, "pragma integrity_check") == "ok"
    assert beside(out) == [out.name]


WRITER = (
    "import sqlite3, sys\n"
    "c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)\n"
    "n = 0\n"
    "while True:\n"
    "    n += 1\n"
    "    c.execute('begin immediate'); c.execute('insert into a values (?, randomblob(500))', (n,))\n"
    "    c.execute('insert into b values (?, randomblob(500))', (n,)); c.execute('commit')\n"
    "    if n == 100: print('going', flush=True)\n"
)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """An app that commits as fast as it can, always the same number to both tables."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"going\n"
        yield
        assert process.poll() is None, "it has been writing all the time"
    finally:
        process.kill()
        process.communicate()


def test_a_writer_at_full_speed_neither_stops_it_nor_shows_in_it(scene: Scene, out: Path) -> None:
    with closing(sqlite3.connect(scene.database(), isolation_level=None)) as app:
        app.execute("create table a (n, v)")
        app.execute("create table b (n, v)")
        app.execute("insert into t (v) select randomblob(1000) from t, t as u limit 30000")  # 30 MB: many steps
    with writing(scene.database()):
        for _ in range(2):
            ran = scene.run("backup", "app", out, "--json", "--full", "--force")
            assert (ran.code, ran.err) == (0, "")
            tables = ran.document["tables"]
            assert tables["a"] == tables["b"] >= 100
            assert query(out, "select count(*) from a left join b using (n) where b.n is null") == 0


def test_damaged_production_is_a_proved_no_and_nothing_is_put_in_place(scene: Scene, out: Path) -> None:
    for each in ("-wal", "-shm"):
        Path(f"{scene.database()}{each}").unlink(missing_ok=True)
    content = bytearray(scene.database().read_bytes())
    content[4096 * 2 : 4096 * 3] = bytes(4096)
    scene.database().write_bytes(content)
    scene.run("backup", "app", out).refused(1, "is damaged (db_corrupt)", "quick_check of the copy: ")
    ran = scene.run("backup", "app", out, "--json")
    assert (ran.code, ran.document["made"], ran.document["reason"]) == (1, False, "db_corrupt")
    assert beside(out) == []
    out.write_bytes(b"the last good one")
    assert scene.run("backup", "app", out, "--force").code == 1
    assert out.read_bytes() == b"the last good one"


@pytest.mark.parametrize("how", ["name", "wal", "symlink", "hardlink"])
def test_the_database_itself_is_no_place_for_its_backup(scene: Scene, how: str) -> None:
    before = scene.database().read_bytes()
    out = scene.folder / "out.db"
    if how == "symlink":
        out.symlink_to(scene.database())
    elif how == "hardlink":
        out.hardlink_to(scene.database())
    else:
        out = scene.database() if how == "name" else Path(f"{scene.database()}-wal")
    scene.run("backup", "app", out, "--force").refused(2, "is the database app itself")
    assert scene.database().read_bytes() == before


def test_places_that_are_refused(scene: Scene, out: Path) -> None:
    scene.run("backup", "app", out.parent / "none" / "x.db").refused(2, "there is no folder")
    scene.run("backup", "app", out.parent).refused(2, "is a directory")
    scene.run("backup", "nope", out).refused(2, "there is no database nope")
    out.write_bytes(b"mine")
    scene.run("backup", "app", out).refused(2, "exists already", "--force replaces it")
    assert out.read_bytes() == b"mine"
    scene.database().unlink()
    scene.run("backup", "app", out, "--force").refused(3, "cannot be read: No such file")
    assert out.read_bytes() == b"mine"


def test_another_database_that_is_in_use_is_not_replaced(scene: Scene) -> None:
    with closing(sqlite3.connect(scene.database("users"))) as app:
        app.execute("select * from t").fetchall()
        scene.run("backup", "app", scene.database("users"), "--force").refused(3, "is in use by")
        assert app.execute("pragma user_version").fetchone() == (7,)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_too_little_room_is_said_before_work_begins(scene: Scene, tiny: Path) -> None:
    scene.run("backup", "app", tiny / "x.db").refused(3, f"there is no room in {tiny}", "MB are free", "are needed")
    scene.run("restore", "app", "--to", tiny / "x.db").refused(3, f"there is no room in {tiny}", "scratch_full")
    assert list(tiny.iterdir()) == []


def test_a_read_only_file_system(scene: Scene, tiny: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(tiny)], check=True)
    scene.run("backup", "app", tiny / "x.db").refused(2, f"nothing can be written to {tiny}")


def test_killed_midway_it_leaves_what_the_next_run_sweeps(scene: Scene, out: Path) -> None:
    with closing(sqlite3.connect(scene.database(), isolation_level=None)) as app:
        app.execute("insert into t (v) select randomblob(1000) from t, t as u limit 40000")
    out.write_bytes(b"the last one")
    command = start("backup", *scene.options, "app", out, "--force")
    ours = out.parent / f".litestream-sidecar-{os.geteuid()}"
    until(lambda: ours.exists() and any(ours.rglob("backup")), every=0.005, say="it copies")
    assert interrupt(command, signal.SIGKILL).code == -signal.SIGKILL
    assert out.read_bytes() == b"the last one"
    assert beside(out) == [ours.name, out.name]
    assert stat.S_IMODE(ours.stat().st_mode) == 0o700
    assert not list(ours.rglob("*.db")), "Litestream's `dir:` would replicate it"
    assert scene.run("backup", "users", out, "--force").code == 0
    assert beside(out) == [out.name]


def test_interrupted_it_leaves_nothing(scene: Scene, out: Path) -> None:
    with closing(sqlite3.connect(scene.database(), isolation_level=None)) as app:
        app.execute("insert into t (v) select randomblob(1000) from t, t as u limit 40000")
    command = start("backup", *scene.options, "app", out)
    ours = out.parent / f".litestream-sidecar-{os.geteuid()}"
    until(lambda: ours.exists() and any(ours.rglob("backup")), every=0.005, say="it copies")
    ran = interrupt(command)
    assert (ran.code, ran.out, ran.err) == (130, "", "error: interrupted\n")
    assert beside(out) == []
