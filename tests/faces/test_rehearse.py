"""`rehearse` as a user meets it: real migrations, good and bad, on a copy that the real Litestream restores.

Every test ends with production byte for byte as it was and an empty scratch directory.
"""

from __future__ import annotations

import hashlib
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.core.case import room_for
from tests.faces.commands import Ran, Scene, in_terminal, interrupt, start
from tests.litestreams import until

START = "import os, sqlite3, sys, time\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\nx = c.execute\n"


def hashes(folder: Path) -> dict[str, str]:
    return {str(each): hashlib.sha256(each.read_bytes()).hexdigest() for each in folder.rglob("*") if each.is_file()}


@pytest.fixture(autouse=True)
def production_stays_as_it_was(scene: Scene) -> Iterator[None]:
    before = hashes(scene.folder / "data")
    yield
    assert hashes(scene.folder / "data") == before
    assert scene.scratch_is_empty()


def rehearse(scene: Scene, *arguments: object, env: dict[str, str] | None = None) -> Ran:
    return scene.run("rehearse", "--json", *arguments, env=env)


def python(scene: Scene, script: str, *options: object, db: str = "app") -> Ran:
    """Rehearse a Python script with a connection `c` and `x = c.execute`."""
    return rehearse(scene, *options, db, "--", sys.executable, "-c", START + script, "{db}")


def check(ran: Ran, name: str) -> tuple[str, str | None]:
    found = next(each for each in ran.document["checks"] if each["name"] == name)
    return found["status"], found["reason"]


def message(ran: Ran, name: str) -> str:
    return str(next(each["message"] for each in ran.document["checks"] if each["name"] == name))


def not_passed(ran: Ran) -> set[str]:
    return {each["name"] for each in ran.document["checks"] if each["status"] != "pass"}


def table(ran: Ran, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in ran.document["changes"]["tables"] if each["name"] == name)
    return found


GOOD = """
alter table t add column w integer;
create table u (id integer primary key, name text);
insert into u (name) values ('a'), ('b');
update t set v = 'changed' where id % 10 = 0;
delete from t where id = 1;
pragma user_version = 3;
"""


def test_a_good_migration_of_the_sqlite_shell(scene: Scene) -> None:
    script = scene.folder / "m.sql"
    script.write_text(GOOD)
    ran = rehearse(scene, "app", "--", "sqlite3", "{db}", f".read {script}")
    document = ran.document
    assert (ran.code, document["outcome"], ran.err) == (0, "held", "")
    assert document["reason"] == "app: the command held on the copy"
    assert not_passed(ran) == set()
    assert document["command"]["argv"] == ["sqlite3", "{db}", f".read {script}"]
    assert (document["command"]["exit_code"], document["command"]["signal"]) == (0, None)
    assert document["command"]["seconds"] > 0
    assert document["changes"]["schema_version"]["after"] == {"source": "user_version", "value": "3"}
    assert [(each["type"], each["name"]) for each in document["changes"]["schema"]] == [("table", "t"), ("table", "u")]
    assert table(ran, "t") == {"name": "t", "before": 200, "after": 199, "inserted": 0, "deleted": 1, "updated": 20}
    assert table(ran, "u")["after"] == 2
    assert document["measured"]["commits"] == 6
    assert document["measured"]["wal_written_bytes"] > 6 * 4096
    assert document["after"]["size_bytes"] >= document["before"]["size_bytes"] > 0
    assert document["drill"]["outcome"] == "passed"


def test_a_data_migration_shows_how_many_rows_it_changes(scene: Scene) -> None:
    ran = python(scene, "x('update t set v = 1 where id <= 30')", db="users")
    assert ran.code == 0
    assert table(ran, "t") == {"name": "t", "before": 200, "after": 200, "inserted": 0, "deleted": 0, "updated": 30}
    assert ran.document["changes"]["schema"] == []


def test_a_person_gets_a_report_that_fits_the_terminal(scene: Scene) -> None:
    script = scene.folder / "m.sql"
    script.write_text(GOOD)
    shown = in_terminal("rehearse", *scene.options, "app", "--", "sqlite3", "{db}", f".read {script}")
    assert shown.code == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.out).replace("\r", "\n")
    report = plain[plain.index("WOULD HOLD") :]
    assert max(len(line) for line in report.splitlines()) <= 80
    for each in (
        "WOULD HOLD  app: the command held on the copy", "backup  restored 0000000000000001", "command ", "lock    held ",
        "wal     ", "in 6 commits", "size    ", "schema  version 0 before, 3 after", "+   w integer", "+ CREATE TABLE u",
        "t: 200 rows before, 199 after (1 deleted, 20 updated)", "u: new, 2 rows",
    ):  # fmt: skip
        assert each in report, report


def test_the_commands_own_words_reach_the_user(scene: Scene) -> None:
    command = ("app", "--", "sh", "-c", "echo spoken; echo shouted >&2; cat {db} > /dev/null; cat")
    ran = scene.run("rehearse", *command)
    assert ran.out.startswith("spoken\nWOULD HOLD  app: ")
    assert ran.err == "shouted\n"
    ran = scene.run("rehearse", "--json", *command)
    assert ran.document["outcome"] == "held"
    assert ran.err == "spoken\nshouted\n"


def test_the_copy_keeps_its_name_and_the_folder_is_the_callers(scene: Scene) -> None:
    said = scene.folder / "said"
    script = (
        f"open({str(said)!r}, 'w').write('\\n'.join([sys.argv[1], os.getcwd(), os.environ['DATABASE_URL'], os.environ['DB'],"
        "os.environ['LITESTREAM_SIDECAR_REHEARSAL_DB']])); print(x('pragma journal_mode').fetchone()); x('create table z (a)')"
    )
    ran = python(scene, script, "--database-url", "sqlite:///{db}", "--env", "DB={db}?x=1", "--expect", "any")
    assert ran.code == 0, ran
    assert "('wal',)" in ran.err
    copy, folder, url, other, ours = said.read_text().split("\n")
    assert Path(copy).name == "app.db"
    assert folder == str(Path(__file__).resolve().parents[2])
    assert (url, other, ours) == (f"sqlite:///{copy}", f"{copy}?x=1", copy)
    assert not Path(copy).exists()


def test_a_command_that_fails_and_undoes_its_work(scene: Scene) -> None:
    ran = python(scene, "x('begin'); x('create table z (a)'); x('rollback'); sys.exit(4)")
    assert (ran.code, ran.document["outcome"]) == (1, "failed")
    assert check(ran, "command") == ("fail", "command_failed")
    assert "it failed with exit code 4 after " in message(ran, "command")
    assert message(ran, "command").endswith(", and left nothing behind")


def test_a_command_that_fails_half_way(scene: Scene) -> None:
    ran = rehearse(scene, "app", "--", "sqlite3", "-bail", "{db}", "create table z (a); insert into nowhere values (1)")
    assert ran.code == 1
    assert "left half of its changes behind" in message(ran, "command")
    assert "no such table: nowhere" in ran.err


def test_a_command_that_is_killed(scene: Scene) -> None:
    ran = python(scene, "x('begin'); x('delete from t'); os.kill(os.getpid(), 9)")
    assert ran.code == 1
    assert (ran.document["command"]["exit_code"], ran.document["command"]["signal"]) == (None, "SIGKILL")
    assert "was ended by SIGKILL" in message(ran, "command")
    assert ran.document["changes"]["tables"] == []


def test_rows_that_are_lost(scene: Scene) -> None:
    ran = python(scene, "x('delete from t where id > 20')")
    assert (ran.code, check(ran, "identity")) == (1, ("fail", "shrunk"))
    assert "table t has 20 rows of 200" in ran.document["reason"]
    hint = next(each["hint"] for each in ran.document["checks"] if each["name"] == "identity")
    assert hint == "mend the migration and rehearse again; where it is meant, say --allow-shrink t"
    assert python(scene, "x('delete from t where id > 20')", "--allow-shrink", "t").code == 0
    assert python(scene, "x('drop table t')", "--expect", "any").code == 1


def test_foreign_keys_that_break(scene: Scene) -> None:
    script = "x('create table child (id integer primary key, t_id int references t(id))'); x('insert into child values (1, 999)'); x('pragma user_version=1')"
    ran = python(scene, script)
    assert (ran.code, check(ran, "database")) == (1, ("fail", "assertion_failed"))
    assert ran.document["changes"]["foreign_key_violations"] == {"before": 0, "after": 1}


def test_a_version_that_is_forgotten_or_another_than_expected(scene: Scene) -> None:
    script = "x('alter table t add column w')"
    ran = python(scene, script)
    assert (ran.code, check(ran, "schema")) == (1, ("fail", "version_differs"))
    assert python(scene, script, "--expect", "any").code == 0
    assert python(scene, script + "; x('pragma user_version=5')", "--expect-version", "5").code == 0
    assert python(scene, script + "; x('pragma user_version=4')", "--expect-version", "5").code == 1
    assert python(scene, "pass", "--expect", "changed").code == 1


@pytest.mark.parametrize(
    ("statements", "code", "reasons"),
    [
        ("vacuum", 0, {"rewrote_all"}),
        ("pragma journal_mode=delete", 0, {"journal_mode"}),
        ("pragma journal_mode=delete; pragma journal_mode=wal", 0, {"journal_mode"}),
        ("pragma auto_vacuum=full; vacuum", 0, {"rewrote_all", "auto_vacuum"}),
        ("pragma journal_mode=delete; vacuum", 0, {"journal_mode", "rewrote_all"}),
        ("pragma journal_mode=delete; pragma page_size=8192; vacuum; pragma journal_mode=wal", 1, {"journal_mode", "page_size"}),
    ],
)  # fmt: skip
def test_what_litestream_does_not_take_in_its_stride(
    scene: Scene, statements: str, code: int, reasons: set[str]
) -> None:
    ran = rehearse(scene, "app", "--", "sqlite3", "{db}", statements)
    found = [each for each in ran.document["checks"] if each["name"] == "litestream"]
    assert reasons <= {each["reason"] for each in found}, found
    assert ran.code == code
    assert {each["status"] for each in found if each["reason"] == "page_size"} <= {"fail"}
    assert {each["status"] for each in found if each["reason"] != "page_size"} <= {"warn"}


def test_a_file_put_in_the_databases_place(scene: Scene) -> None:
    ran = rehearse(scene, "app", "--", "sh", "-c", "sqlite3 {db} \"vacuum into '{db}.new'\" && mv {db}.new {db}")
    assert (ran.code, check(ran, "litestream")) == (1, ("fail", "file_replaced"))


def test_a_file_that_is_gone_or_damaged(scene: Scene) -> None:
    ran = rehearse(scene, "app", "--", "rm", "{db}")
    assert (ran.code, check(ran, "content")) == (1, ("fail", "db_corrupt"))
    assert "app.db is gone" in message(ran, "content")
    ran = rehearse(
        scene,
        "app",
        "--",
        "dd",
        "if=/dev/zero",
        "of={db}",
        "bs=4096",
        "seek=3",
        "count=2",
        "conv=notrunc",
        "status=none",
    )
    assert (ran.code, check(ran, "content")) == (1, ("fail", "db_corrupt"))


def test_how_long_the_app_would_wait(scene: Scene) -> None:
    ran = python(scene, "x('begin immediate'); x('update t set v=1'); time.sleep(0.5); x('commit')")
    assert ran.code == 0
    held = ran.document["measured"]["write_lock_longest_seconds"]
    assert 0.5 <= held < 0.6 + 2 * ran.document["measured"]["resolution_seconds"]
    assert message(ran, "lock").startswith("the app's writes would wait up to ")


def test_a_command_that_hangs_is_ended_and_nothing_is_claimed(scene: Scene) -> None:
    ran = python(scene, "x('begin'); x('delete from t'); time.sleep(600)", "--timeout", "1s")
    assert (ran.code, ran.document["outcome"], check(ran, "command")) == (3, "unknown", ("unknown", "timeout"))
    assert ran.document["command"]["timed_out"] is True
    assert ran.document["changes"]["tables"] == []


def test_a_transaction_left_open_by_what_was_left_running(scene: Scene) -> None:
    child = "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('begin immediate'); print(1, flush=True); time.sleep(600)"
    script = (
        "c.close(); import subprocess\n"
        f"p = subprocess.Popen([sys.executable, '-c', {child!r}, sys.argv[1]], stdout=subprocess.PIPE, start_new_session=True)\n"
        "p.stdout.readline()"
    )
    ran = python(scene, script)
    assert (ran.code, check(ran, "transaction")) == (1, ("fail", "transaction_open"))
    assert re.search(r"python\S* \(pid \d+\) still held the write lock", message(ran, "transaction"))
    pid = int(re.findall(r"pid (\d+)", ran.document["command"]["left_running"][0])[0])
    until(lambda: not Path(f"/proc/{pid}").exists(), within=5, say="it was killed")


def test_something_left_running_without_a_lock(scene: Scene) -> None:
    ran = rehearse(scene, "app", "--", "sh", "-c", "sqlite3 {db} 'select 1' >&2; sleep 600 &")
    assert (ran.code, check(ran, "transaction")) == (0, ("warn", "left_running"))


def test_a_command_that_never_opened_the_copy_rehearsed_nothing(scene: Scene) -> None:
    ran = rehearse(scene, "app", "--", "true")
    assert (ran.code, check(ran, "command")) == (3, ("unknown", "copy_not_opened"))
    assert rehearse(scene, "app", "--", "sqlite3", "{db}", "select count(*) from t").code == 0


def test_a_command_that_does_not_exist_is_refused_before_anything_is_restored(scene: Scene) -> None:
    scene.run("rehearse", "app", "--", "migarte", "{db}").refused(2, "there is no program migarte")
    assert not scene.state.exists()
    scene.run("rehearse", "app").refused(2, "there is no command to rehearse")
    scene.run("rehearse", "app", "--").refused(2, "there is no command behind `--`")
    scene.run("rehearse", "nope", "--", "true").refused(2, "there is no database nope", "one of: app, users")
    scene.run("rehearse", "app", "--env", "DB", "--", "true").refused(2, "--env DB is not NAME=VALUE")


def test_a_command_that_names_production_is_refused_before_anything_is_restored(scene: Scene) -> None:
    path = scene.database()
    scene.run("rehearse", "app", "--", "sqlite3", path, "drop table t").refused(
        2, f"the command names production ({path}): it would migrate production", "write {db} in its place"
    )
    env = {"SHOP_DATABASE_URL": f"sqlite:///{path}?password=hush"}
    ran = scene.run("rehearse", "app", "--", "true", env=env)
    ran.refused(2, "the environment variable SHOP_DATABASE_URL names production", "--env SHOP_DATABASE_URL={db}")
    assert "hush" not in ran.err
    assert scene.run("history", "--json").document == []


def test_a_variable_that_names_production_can_be_turned_to_the_copy(scene: Scene) -> None:
    env = {"DATABASE_URL": f"sqlite:///{scene.database()}"}
    command = (
        "app",
        "--",
        sys.executable,
        "-c",
        "import os, sqlite3; sqlite3.connect(os.environ['DATABASE_URL'][10:]).execute('select 1 from t')",
    )
    assert rehearse(scene, *command, env=env).code == 2
    assert rehearse(scene, "--database-url", "sqlite:///{db}", *command, env=env).code == 0
    assert rehearse(scene, "--env", "DATABASE_URL=sqlite:///{db}", *command, env=env).code == 0
    near = {"BACKUP": f"{scene.database()}.bak", "FOLDER": str(scene.database().parent)}
    assert rehearse(scene, "app", "--", "sqlite3", "{db}", "select 1 from t", env=near).code == 0


def test_a_command_that_opens_production_all_the_same_is_killed(scene: Scene, tmp_path: Path) -> None:
    """Its path stands in a file that we cannot know; a plain read here, so that production stays as it was."""
    script = tmp_path / "migrate.py"
    script.write_text(f"import time\nopened = open({str(scene.database())!r}, 'rb')\ntime.sleep(600)\n")
    ran = scene.run("rehearse", "app", "--", sys.executable, script)
    ran.refused(1, "the command opened production (app.db) and was killed; its files are as they were")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_rehearsal_leaves_nothing_behind(scene: Scene, how: signal.Signals) -> None:
    said = scene.folder / "pid"
    process = start("rehearse", *scene.options, "app", "--", "sh", "-c", f"sleep 600 & echo $! > {said}; wait")
    until(lambda: said.exists() and said.read_text(), say="the command runs")
    ran = interrupt(process, how)
    assert (ran.code, ran.out, ran.err) == (130, "", "error: interrupted\n")
    until(lambda: not Path(f"/proc/{int(said.read_text())}").exists(), within=5)


def test_too_little_room(scene: Scene) -> None:
    """For the restore; for the command to work in; for a second copy to compare with."""
    size = python(scene, "x('select 1 from t')").document["before"]["size_bytes"]
    for room, message in (
        (1_000_000, "nothing to rehearse on, the drill was inconclusive"),
        (room_for(size) + size // 2, "a migration may need"),
    ):
        scene.write_sidecar_yml(f"resources: {{scratch-max: {room}}}\n")
        scene.run("rehearse", "app", "--", "sqlite3", "{db}", "select 1").refused(3, message)
    scene.write_sidecar_yml(f"resources: {{scratch-max: {room_for(size) + size + size // 2}}}\n")
    command = ("app", "--", "sqlite3", "{db}", "update t set v = 1; delete from t where id = 1")
    ran = rehearse(scene, *command)
    assert (ran.code, ran.document["changes"]["rows_compared"], ran.document["measured"]["pages_changed"]) == (
        0,
        False,
        None,
    )
    assert table(ran, "t") == {
        "name": "t",
        "before": 200,
        "after": 199,
        "inserted": None,
        "deleted": None,
        "updated": None,
    }
    said = scene.run("rehearse", *command).out
    assert "rows    1 table changed (only counted: there was no room for a second copy to compare with)" in said


def test_a_backup_that_cannot_be_restored(scene: Scene) -> None:
    for each in scene.replica().rglob("*.ltx"):
        content = bytearray(each.read_bytes())
        content[len(content) // 2] ^= 0x10
        each.write_bytes(content)
    ran = scene.run("rehearse", "app", "--", "sqlite3", "{db}", "select 1")
    ran.refused(1, "app: nothing to rehearse on, the drill failed")
    assert [each["outcome"] for each in scene.run("history", "--json").document] == ["failed"]


def test_a_replica_that_cannot_be_reached(scene: Scene) -> None:
    scene.replicas["app"] = (
        "{type: s3, bucket: bkt, path: app, endpoint: 'http://127.0.0.1:9', region: us-east-1, access-key-id: A, secret-access-key: hushhush, force-path-style: true}"
    )
    scene.write_litestream_yml()
    ran = scene.run("rehearse", "app", "--", "sqlite3", "{db}", "select 1")
    ran.refused(3, "app: nothing to rehearse on, the drill was inconclusive")
    assert "hushhush" not in ran.err


def test_the_drill_stands_in_the_history_and_a_path_is_a_name(scene: Scene) -> None:
    ran = rehearse(scene, scene.database(), "--", "sqlite3", "{db}", "select 1 from t")
    assert ran.code == 0
    told = scene.run("history", "app", "--json").document
    assert [each["id"] for each in told] == [ran.document["drill"]["id"]]
