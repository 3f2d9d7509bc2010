"""`restore`: safe where `litestream restore` is not, on a fresh machine, over what stands there, killed midway."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faces.commands import Scene, in_terminal, interrupt, run_as_nobody, start
from tests.litestreams import App, Litestream, binary, binary_of, rows_in_replica, until


def query(path: Path, sql: str = "select count(*) from t") -> Any:
    """One value of a file that nobody writes."""
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
        return connection.execute(sql).fetchone()[0]


def beside(path: Path) -> list[str]:
    """What lies in a file's folder under a name that begins like its own, or is ours."""
    return sorted(
        each.name for each in path.parent.iterdir() if each.name.startswith((path.name, ".litestream-sidecar"))
    )


@pytest.fixture
def to(scene: Scene) -> Path:
    (scene.folder / "restored").mkdir()
    return scene.folder / "restored" / "app.db"


def test_a_restore_is_one_checked_file_told_in_one_sentence(scene: Scene, to: Path) -> None:
    ran = scene.run("restore", "app", "--to", to)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"restored app to {to}: position 00000000000000")
    assert "200 rows in 1 table, schema version 0 (user_version), quick_check ok\n" in ran.out
    assert query(to) == 200
    assert stat.S_IMODE(to.stat().st_mode) == 0o600
    assert beside(to) == ["app.db"]
    assert not scene.state.exists()


def test_as_json_and_checked_in_full(scene: Scene, to: Path) -> None:
    ran = scene.run("restore", "users", "--to", to, "--json", "--full")
    said = ran.document
    assert (ran.code, ran.err, said["made"], said["outcome"], said["check"]) == (0, "", True, "passed", "full")
    assert (said["size_bytes"], said["tables"], said["reason"]) == (to.stat().st_size, {"t": 200}, None)


OLD = "OLD!" * 25


def stale_wal(scene: Scene, to: Path) -> None:
    """What is left of a database that was restored on another day, written to, and lost all but its WAL (fact h2)."""
    assert scene.run("restore", "app", "--to", to).code == 0
    app = App(to)
    app.execute(f"update t set v = '{OLD}' where id = 7")
    wal = Path(f"{to}-wal").read_bytes()
    app.close()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{to}{suffix}").unlink(missing_ok=True)
    Path(f"{to}-wal").write_bytes(wal)


def content(path: Path) -> tuple[int, str, str]:
    """What an app reads that opens it: rows of the stale WAL, and what SQLite says of the file."""
    with closing(sqlite3.connect(path)) as connection:
        old = connection.execute("select count(*) from t where v = ?", (OLD,)).fetchone()[0]
        quick, full = (
            connection.execute(f"pragma {each}").fetchone()[0] for each in ("quick_check", "integrity_check")
        )
        return old, quick, full


def test_red_litestream_restores_beside_a_stale_wal_which_then_speaks_silently(scene: Scene, to: Path) -> None:
    stale_wal(scene, to)
    command = [binary(), "restore", "-config", str(scene.litestream_yml), "-o", str(to), str(scene.database())]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    old, quick, full = content(to)
    assert old > 0, "wrong data"
    assert (quick, full) == ("ok", "ok")


def test_green_ours_removes_it_and_says_so(scene: Scene, to: Path) -> None:
    stale_wal(scene, to)
    ran = scene.run("restore", "app", "--to", to)
    assert ran.code == 0
    assert f"note: {to}-wal lay there without its database and was removed" in ran.out
    assert content(to) == (0, "ok", "ok")
    assert query(to) == 200


def test_an_existing_database_goes_with_its_wal_and_only_with_force(scene: Scene, to: Path) -> None:
    app = App(to)
    app.write(5)
    for suffix in ("", "-wal", "-shm"):
        shutil.copy(f"{to}{suffix}", f"{to.parent}/kept{suffix}")
    app.close()
    for suffix in ("", "-wal", "-shm"):
        shutil.copy(f"{to.parent}/kept{suffix}", f"{to}{suffix}")
    os.chown(to, 4711, 4712)
    to.chmod(0o640)
    scene.run("restore", "app", "--to", to).refused(2, "exists already", "--force")
    ran = scene.run("restore", "app", "--to", to, "--force", "--json")
    assert (ran.code, ran.document["replaced"]) == (0, True)
    assert beside(to) == ["app.db"]
    found = to.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (4711, 4712, 0o640)
    assert query(to) == 200


HOLD = (
    "import sqlite3, sys\n"
    "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
    "c.execute(f'pragma journal_mode={sys.argv[2]}'); c.execute('create table if not exists u (a)')\n"
    "print('ready', flush=True); sys.stdin.readline()\n"
)


@contextmanager
def held(path: Path, mode: str) -> Iterator[int]:
    """An idle connection in another process."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
        process.communicate(b"\n")


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_database_in_use_is_refused_with_force_too(scene: Scene, to: Path, mode: str) -> None:
    with held(to, mode) as pid:
        before = to.read_bytes()
        scene.run("restore", "app", "--to", to, "--force").refused(
            3, f"{to} is in use by", f"pid {pid}", "stop it first"
        )
        assert to.read_bytes() == before
    assert scene.run("restore", "app", "--to", to, "--force").code == 0
    assert query(to) == 200


def test_over_a_running_litestream_it_is_refused(scene: Scene, litestream: Callable[..., Litestream]) -> None:
    """Litestream would go on replicating the file that was moved away."""
    litestream(scene.litestream_yml).start()
    until(lambda: scene.run("restore", "app", "--to", scene.database(), "--force").code == 3)
    ran = scene.run("restore", "app", "--to", scene.database(), "--force")
    ran.refused(3, "is in use by", "litestream replicate")


def test_a_disaster_where_the_machine_has_nothing_but_the_two_files(scene: Scene) -> None:
    """The folder belongs to the app, and so does what is restored there."""
    shutil.rmtree(scene.database().parent)
    scene.database().parent.mkdir()
    os.chown(scene.database().parent, 4711, 4712)
    ran = scene.run("restore", "app", "--to", scene.database())
    assert ran.code == 0
    assert "note: start Litestream first, then the app" in ran.out
    found = scene.database().stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (4711, 4712, 0o600)
    assert query(scene.database()) == 200


def test_a_damaged_backup_is_a_proved_no_and_what_stands_there_stays(scene: Scene, to: Path) -> None:
    for each in scene.replica().rglob("*.ltx"):
        data = bytearray(each.read_bytes())
        data[len(data) // 2] ^= 0x10
        each.write_bytes(data)
    to.write_bytes(b"mine")
    scene.run("restore", "app", "--to", to, "--force").refused(1, "nothing was put in place: ", "(file_corrupt)")
    ran = scene.run("restore", "app", "--to", to, "--force", "--json")
    assert (ran.code, ran.err) == (1, "")
    assert (ran.document["made"], ran.document["outcome"], ran.document["reason"]) == (False, "failed", "file_corrupt")
    assert (to.read_bytes(), beside(to)) == (b"mine", ["app.db"])


def test_damage_that_litestream_replicated_faithfully_is_found_by_the_check(scene: Scene, to: Path) -> None:
    with closing(sqlite3.connect(scene.database(), isolation_level=None)) as app:
        app.execute("pragma wal_checkpoint(truncate)")
    content = bytearray(scene.database().read_bytes())
    content[4096 * 2 : 4096 * 3] = bytes(4096)
    scene.database().write_bytes(content)
    shutil.rmtree(scene.replica())
    shutil.rmtree(scene.database().parent / ".app.db-litestream")
    running = scene.litestream()
    until(lambda: any(scene.replica().rglob("*.ltx")))
    running.stop()
    ran = scene.run("restore", "app", "--to", to, "--json")
    assert (ran.code, ran.document["reason"]) == (1, "db_corrupt")
    assert beside(to) == []


def test_an_unreachable_store_is_could_not_tell(scene: Scene, to: Path) -> None:
    scene.replicas["app"] = (
        "{type: s3, bucket: bkt, path: app, endpoint: 'http://127.0.0.1:9', region: us-east-1, "
        "access-key-id: A, secret-access-key: hushhush, force-path-style: true}"
    )
    scene.write_litestream_yml()
    ran = scene.run("restore", "app", "--to", to)
    ran.refused(3, "nothing was put in place: ", "127.0.0.1:9")
    assert "hushhush" not in ran.err
    assert beside(to) == []


def test_one_position_of_it(scene: Scene, to: Path, litestream: Callable[..., Litestream]) -> None:
    assert scene.run("restore", "app", "--to", to, "--json").document["position"] == "0000000000000001"
    running = litestream(scene.litestream_yml).start()
    app = App(scene.database())
    app.write(50)
    until(lambda: rows_in_replica(scene.litestream_yml, scene.database()) == 250)
    running.stop()
    app.close()
    ran = scene.run("restore", "app", "--to", to, "--force", "--position", "0000000000000001", "--json")
    assert (ran.code, ran.document["position"], query(to)) == (0, "0000000000000001", 200)
    ran = scene.run("restore", "app", "--to", to, "--force", "--position", "0000000000000fff")
    ran.refused(1, "nothing was put in place: 0000000000000fff cannot be restored", "use a kept copy")
    scene.run("restore", "app", "--to", to, "--position", "x").refused(2, "`x` is no position")


def test_places_that_are_refused(scene: Scene, to: Path) -> None:
    scene.run("restore", "app", "--to", to.parent / "none" / "x.db").refused(2, "there is no folder", "mkdir -p")
    scene.run("restore", "app", "--to", to.parent).refused(2, "is a directory")
    scene.run("restore", "app", "--to", f"{to}-wal").refused(2, "bears the name of a file that SQLite keeps")
    scene.run("restore", "nope", "--to", to).refused(2, "there is no database nope")
    scene.run("restore", "app").refused(2, "--to")
    assert beside(to) == []


def test_without_the_right_to_write_there(scene: Scene, to: Path) -> None:
    for each in (*scene.folder.parents[:3], scene.folder, *scene.folder.rglob("*")):
        each.chmod(each.stat().st_mode | (0o055 if each.is_dir() else 0o044))
    ran = run_as_nobody("restore", *scene.options, "app", "--to", to)
    ran.refused(2, f"nothing can be written to {to.parent} (as uid 65534)")


@pytest.fixture
def sluggish(scene: Scene) -> Scene:
    """A Litestream that begins to write what it restores, and never ends."""
    slow = scene.folder / "litestream"
    slow.write_text(
        "#!/bin/sh\n"
        '[ "$1" = restore ] && case "$*" in *-dry-run*) ;; *)\n'
        f'  while [ "$1" != -o ]; do shift; done; echo part > "$2.tmp"; touch {scene.folder}/restoring; sleep 600 ;; esac\n'
        f'exec {binary()} "$@"\n'
    )
    slow.chmod(0o755)
    scene.write_sidecar_yml(executable=str(slow))
    return scene


def test_killed_midway_the_destination_is_untouched_and_the_next_run_sweeps(sluggish: Scene, to: Path) -> None:
    scene = sluggish
    to.write_bytes(b"mine")
    command = start("restore", *scene.options, "app", "--to", to, "--force")
    until((scene.folder / "restoring").exists, say="the restore runs")
    ours = to.parent / f".litestream-sidecar-{os.geteuid()}"
    assert list(ours.rglob("*.tmp"))
    assert not list(ours.rglob("*.db")), "Litestream's `dir:` would replicate it"
    assert interrupt(command, signal.SIGKILL).code == -signal.SIGKILL
    assert (to.read_bytes(), beside(to)) == (b"mine", [ours.name, "app.db"])
    scene.write_sidecar_yml()
    assert scene.run("restore", "app", "--to", to, "--force").code == 0
    assert (query(to), beside(to)) == (200, ["app.db"])


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(sluggish: Scene, to: Path, how: signal.Signals) -> None:
    command = start("restore", *sluggish.options, "app", "--to", to)
    until((sluggish.folder / "restoring").exists, say="the restore runs")
    ran = interrupt(command, how)
    assert (ran.code, ran.out, ran.err) == (130, "", "error: interrupted\n")
    assert beside(to) == []


def test_progress_is_shown_on_a_terminal(scene: Scene, to: Path) -> None:
    shown = in_terminal("restore", *scene.options, "app", "--to", to)
    assert (shown.code, "━" in shown.out) == (0, True)


def test_with_litestream_0_3(tmp_path: Path, litestream: Callable[..., Litestream]) -> None:
    scene = Scene(tmp_path)
    scene.write_sidecar_yml(executable=binary_of("0.3.13"))
    scene.litestream_yml.write_text(
        f"dbs:\n  - path: {scene.database()}\n    replicas: [{{type: file, path: {scene.replica()}, sync-interval: 100ms}}]\n"
    )
    app = App(scene.database())
    app.write(30)
    running = litestream(scene.litestream_yml, executable=binary_of("0.3.13")).start()
    until(lambda: rows_in_replica(scene.litestream_yml, scene.database(), binary_of("0.3.13")) == 30)
    to = tmp_path / "restored.db"
    running.kill()
    app.close()
    Path(f"{to}-wal").write_bytes(b"stale")
    ran = scene.run("restore", "app", "--to", to, "--force", "--json")
    position = ran.document["position"]
    assert (ran.code, beside(to), "/00000000:" in position) == (0, ["restored.db"], True)
    assert scene.run("restore", "app", "--to", to, "--force", "--position", position).code == 0
    elsewhere = "0000000000000000" + position[16:]
    assert scene.run("restore", "app", "--to", to, "--force", "--position", elsewhere).code == 1
