"""`verify`, `history` and their exit codes against faults really made."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faces.commands import Scene, in_terminal, interrupt, run, start
from tests.litestreams import Litestream, binary, free_port, rclone_s3, until

PROOF = ["replica", "lag", "chain", "drill", "parity", "identity", "schema"]


def flip(file: Path) -> None:
    """Turn one bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(bytes(content))


def files(scene: Scene, name: str = "app") -> list[Path]:
    return sorted(scene.replica(name).rglob("*.ltx"))


def damage(scene: Scene, name: str = "app") -> None:
    """A bit in every file of one database's replica, so that no level spares it."""
    for each in files(scene, name):
        flip(each)


def check(document: dict[str, Any], name: str, db: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in document["databases"][db]["checks"] if each["name"] == name)
    return found


def test_all_databases_pass_and_the_document_says_so_and_nothing_else(scene: Scene) -> None:
    ran = scene.run("verify", "--json")
    document = ran.document
    assert (ran.code, ran.err, document["ready"]) == (0, "", True)
    assert document["reason"] == "2 databases can be restored"
    assert [each["name"] for each in document["databases"]] == ["app", "users"]
    for each in document["databases"]:
        assert [found["name"] for found in each["checks"]] == PROOF
        assert {found["status"] for found in each["checks"]} == {"pass"}
        assert (each["last_drill"]["outcome"], each["last_drill"]["check"]) == ("passed", "quick")
    assert document["databases"][1]["last_drill"]["schema_version"] == {"source": "user_version", "value": "7"}
    assert scene.scratch_is_empty()


def test_what_is_kept_for_the_next_drill_is_kept_by_the_daemon_alone(scene: Scene) -> None:
    """A copy of a person's would not be the daemon's to write to."""
    scene.sidecar_yml.write_text(
        scene.sidecar_yml.read_text().replace("policy: {", "policy: {drill-by-change-from: 1kB, ")
    )
    assert scene.run("verify", "app").code == 0
    assert scene.scratch_is_empty()


def test_a_name_or_a_path_and_an_audit(scene: Scene) -> None:
    ran = scene.run("verify", "users", str(scene.database("users")), "--full", "--json")
    assert ran.code == 0
    assert [(each["name"], each["last_drill"]["check"]) for each in ran.document["databases"]] == [("users", "full")]


def test_a_person_gets_a_table(scene: Scene) -> None:
    ran = scene.run("verify", "app")
    assert ran.code == 0
    assert ran.out.startswith("PROVED  1 database can be restored\n")
    assert "passed" in ran.out
    assert "\x1b" not in ran.out
    assert ran.err == ""


def test_a_damaged_file_is_a_proved_no_and_the_others_are_drilled_all_the_same(scene: Scene) -> None:
    damage(scene)
    ran = scene.run("verify", "--json")
    document = ran.document
    assert (ran.code, document["ready"]) == (1, False)
    assert (check(document, "drill")["status"], check(document, "drill")["reason"]) == ("fail", "file_corrupt")
    assert document["databases"][1]["ready"] is True
    assert document["reason"].startswith("app: ")
    assert scene.run("verify", "users").code == 0
    assert scene.run("verify", "app").out.startswith("DISPROVED  app: ")
    assert scene.scratch_is_empty()


def test_an_empty_replica_is_a_proved_no(scene: Scene) -> None:
    for each in files(scene):
        each.unlink()
    ran = scene.run("verify", "app", "--json")
    assert (ran.code, check(ran.document, "replica")["reason"]) == (1, "no_backup")


def test_a_store_that_refuses_is_could_not_tell(scene: Scene) -> None:
    """Also where an earlier drill passed: an older proof does not stand for this one."""
    assert scene.run("verify", "app").code == 0
    scene.replicas["app"] = (
        f"{{type: s3, bucket: bkt, path: app, endpoint: 'http://127.0.0.1:{free_port()}', region: us-east-1, "
        "access-key-id: A, secret-access-key: hushhush, force-path-style: true}"
    )
    scene.write_litestream_yml()
    ran = scene.run("verify", "app", "users", "--json")
    document = ran.document
    assert (ran.code, document["ready"]) == (3, False)
    assert (check(document, "replica")["status"], check(document, "replica")["reason"]) == ("fail", "unreachable")
    assert (check(document, "drill")["status"], check(document, "drill")["reason"]) == ("unknown", "restore_failed")
    assert document["databases"][1]["ready"] is True
    assert "hushhush" not in ran.out + ran.err


def test_wrong_credentials_are_could_not_tell_and_the_doctor_says_which(scene: Scene) -> None:
    with rclone_s3(scene.folder / "s3") as s3:
        scene.replicas["app"] = s3.replica(secret="WRONGSECRET")
        scene.write_litestream_yml()
        ran = scene.run("verify", "app", "--json")
        said = scene.run("doctor")
    assert (ran.code, check(ran.document, "replica")["reason"]) == (3, "auth")
    assert said.code == 1
    assert "bad     app: the store refuses our credentials" in said.out
    assert "try: check the replica's credentials in litestream.yml and the environment" in said.out
    assert "WRONGSECRET" not in ran.out + ran.err + said.out + said.err


def test_too_little_scratch_is_could_not_tell(scene: Scene) -> None:
    scene.write_sidecar_yml("resources: {scratch-max: 1MB}\n")
    ran = scene.run("verify", "app", "--json")
    assert (ran.code, check(ran.document, "drill")["reason"]) == (3, "scratch_full")
    assert scene.run("verify", "app").out.startswith("COULD NOT TELL  app: the drill was inconclusive: ")


def test_the_backup_is_proved_on_another_machine_where_there_is_no_database(scene: Scene) -> None:
    """Litestream's and the app's files are not here; a damaged backup is still told from a good one."""
    for each in scene.database().parent.iterdir():
        if each.is_file():
            each.unlink()
    ran = scene.run("verify", "app", "--json")
    assert (ran.code, ran.document["ready"]) == (0, True)
    assert [each["name"] for each in ran.document["databases"][0]["checks"]] == ["replica", "chain", "drill"]
    damage(scene)
    assert scene.run("verify", "app").code == 1


def test_what_the_replica_lacks_is_a_no(scene: Scene) -> None:
    scene.write_sidecar_yml("databases: {app: {policy: {max-lag: 2s}}}\n")
    connection = sqlite3.connect(scene.database(), isolation_level=None)
    connection.execute("insert into t (v) values ('nobody replicates this')")
    until(lambda: scene.run("verify", "app", "--json").code == 1, within=20)
    ran = scene.run("verify", "app", "--json")
    connection.close()
    assert (check(ran.document, "lag")["status"], check(ran.document, "drill")["status"]) == ("fail", "pass")


def test_what_was_meant_to_go_is_accepted_by_name(scene: Scene, litestream: Callable[..., Litestream]) -> None:
    assert scene.run("verify", "app").code == 0
    litestream(scene.litestream_yml).start()
    connection = sqlite3.connect(scene.database(), isolation_level=None)
    connection.execute("delete from t where id > 20")

    def shrunk() -> bool:
        ran = scene.run("verify", "app", "--json")
        return (
            ran.code == 1 and check(ran.document, "drill")["status"] == check(ran.document, "lag")["status"] == "pass"
        )

    until(shrunk, within=30, every=0.3, say="the replica has what is left")
    refused = check(scene.run("verify", "app", "--json").document, "identity")
    assert (refused["status"], refused["reason"]) == ("fail", "shrunk")
    assert "verify NAME --accept-shrink" in refused["hint"]
    scene.run("verify", "--accept-shrink").refused(2, "--accept-shrink needs the name of a database")
    accepted = scene.run("verify", "app", "--accept-shrink", "--json")
    assert (accepted.code, check(accepted.document, "identity")["status"]) == (0, "pass")
    assert scene.run("verify", "app").code == 0, "from here on it is the measure"
    connection.execute("delete from t where id > 2")
    until(lambda: scene.run("verify", "app").code == 1, within=30, every=0.3, say="what is lost after that shows again")
    connection.close()


def test_a_kept_copy_is_there_alone_and_opens(scene: Scene) -> None:
    kept = scene.folder / "a" / "kept"
    ran = scene.run("verify", "users", "--keep", kept, "--json")
    assert ran.code == 0
    drill = ran.document["databases"][0]["last_drill"]["id"]
    assert [each.name for each in kept.iterdir()] == [f"users-{drill}.db"]
    copy = sqlite3.connect(f"file:{kept}/users-{drill}.db?immutable=1", uri=True)
    assert copy.execute("select count(*) from t").fetchall() == [(200,)]
    assert copy.execute("pragma user_version").fetchall() == [(7,)]
    copy.close()
    assert len(list(kept.iterdir())) == 1
    assert scene.scratch_is_empty()


def test_a_copy_is_kept_under_a_name_that_is_a_path(scene: Scene) -> None:
    scene.write_sidecar_yml(f"databases: {{shop/app: {{path: {scene.database()}}}}}\n")
    kept = scene.folder / "kept"
    assert scene.run("verify", "shop/app", "--keep", kept).code == 0
    assert len(list((kept / "shop").glob("app-*.db"))) == 1


def test_history_is_a_list_newest_first(scene: Scene) -> None:
    assert scene.run("history").code == 2  # no state directory yet
    assert scene.run("verify").code == 0
    damage(scene)
    assert scene.run("verify", "app").code == 1
    told = scene.run("history", "--json")
    assert (told.code, told.err) == (0, "")
    assert [(each["db"], each["outcome"], each["reason"]) for each in told.document] == [
        ("app", "failed", "file_corrupt"), ("users", "passed", None), ("app", "passed", None),
    ]  # fmt: skip
    assert {"id", "position", "finished_at", "restore_seconds", "size_bytes", "check"} <= told.document[0].keys()
    assert [each["db"] for each in scene.run("history", "users", "--json").document] == ["users"]
    assert len(scene.run("history", str(scene.database()), "--json").document) == 2
    assert len(scene.run("history", "--json", "--limit", "1").document) == 1
    table = scene.run("history", "app").out
    assert "file_corrupt: " in table
    assert table.index("failed") < table.index("passed")
    scene.run("history", "nope").refused(2, "no drill of a database nope is recorded", "one of: app, users")


@pytest.fixture
def sluggish(scene: Scene) -> Scene:
    """A Litestream that lists at once and restores for ever."""
    slow = scene.folder / "litestream"
    slow.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = restore ] && case "$*" in *-dry-run*) ;; *) touch {scene.folder}/restoring; sleep 600 ;; esac\n'
        f'exec {binary()} "$@"\n'
    )
    slow.chmod(0o755)
    scene.write_sidecar_yml(executable=str(slow))
    return scene


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_restore_leaves_nothing_behind(sluggish: Scene, how: signal.Signals) -> None:
    scene = sluggish
    verify = start("verify", *scene.options, "app", "--json")
    until((scene.folder / "restoring").exists, say="the restore runs")
    ran = interrupt(verify, how)
    assert (ran.code, ran.out, ran.err) == (130, "", "error: interrupted\n")
    assert scene.scratch_is_empty()
    assert [each["outcome"] for each in scene.run("history", "--json").document] == ["aborted"]


def test_progress_is_shown_on_a_terminal_and_nowhere_else(scene: Scene) -> None:
    shown = in_terminal("verify", *scene.options, "app")
    assert shown.code == 0
    assert "app: " in shown.out
    assert "━" in shown.out
    assert "\x1b[1;32mPROVED" in shown.out
    piped = run("verify", *scene.options, "app")
    assert (piped.err, "━" in piped.out) == ("", False)
    plain = in_terminal("verify", *scene.options, "app", env={"NO_COLOR": "1"})
    assert "\x1b[1;32m" not in plain.out


def test_beside_a_daemon_which_takes_the_drill_over(scene: Scene, litestream: Callable[..., Litestream]) -> None:
    litestream(scene.litestream_yml).start()
    port = free_port()
    daemon = start("run", *scene.options, "--listen", f"127.0.0.1:{port}")
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: run("status", "--json", "--url", url).code == 0, every=0.2, say="the daemon is ready")
        mine = scene.run("verify", "app", "--json").document["databases"][0]["last_drill"]["id"]

        def daemons() -> str:
            document = run("status", "--json", "--url", url).document
            return str(document["databases"][0]["last_drill"]["id"])

        until(lambda: daemons() == mine, every=0.2, say="the daemon shows verify's drill")
    finally:
        ended = interrupt(daemon, signal.SIGTERM)
    assert ended.code == 0
