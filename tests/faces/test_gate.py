"""`gate` beside a running app and the real Litestream: what it proves, keeps and writes, what it refuses, and when it waits."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sqlite3
import sys
from pathlib import Path

import pytest

from tests.faces.commands import in_terminal, interrupt, start
from tests.faces.deploys import ROWS, Deploy, check, read, rows
from tests.litestreams import Writer, free_port, until

CONTRACT = {
    "name",
    "path",
    "identity",
    "schema_version",
    "user_version",
    "foreign_key_violations",
    "tables",
    "drill",
    "rollback",
    "checks",
}


def test_it_passes_and_says_so_in_its_first_line(deploy: Deploy) -> None:
    ran = deploy.gate()
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("PASSED  1 database proved: restored, sound, and the way back is kept\n")
    (receipt,) = deploy.receipts
    (kept,) = deploy.kept
    assert f"receipt: {receipt}" in ran.out
    assert str(kept) in ran.out
    assert deploy.scene.scratch_is_empty()


def test_the_receipt_says_where_production_stood(deploy: Deploy) -> None:
    deploy.app.execute("pragma foreign_keys = off")
    deploy.app.execute("delete from users where id = 9")  # an old violation: not the migration's fault
    receipt = read(deploy.gated())
    (entry,) = receipt["databases"]
    assert receipt["receipt_version"] == 1
    assert entry.keys() >= CONTRACT
    assert entry["tables"] == {"users": ROWS - 1, "orders": ROWS, "notes": ROWS, "t": 0}
    assert (entry["schema_version"], entry["user_version"]) == ({"source": "user_version", "value": "3"}, 3)
    assert entry["foreign_key_violations"]["rows"] == ["orders 9 users 0"]
    assert entry["identity"]["inode"] == deploy.database.stat().st_ino
    assert {each["name"]: each["status"] for each in entry["checks"]} == {
        "litestream": "pass", "replica": "pass", "lag": "pass", "snapshot": "pass", "chain": "pass", "drill": "pass",
        "parity": "pass", "identity": "pass", "database": "pass", "schema": "pass", "scratch": "pass",
    }  # fmt: skip
    assert entry["drill"]["outcome"] == "passed"
    parity = entry["drill"]["parity"]
    assert (parity["result"], parity["proven"]) == ("equal", parity["pages"])


def test_a_byte_of_production_that_changed_past_sqlite_is_refused(deploy: Deploy) -> None:
    """A disk that lies, or a program that writes into the file: every check of the copy is content, and it is not production."""
    deploy.app.execute("insert into notes values (1000, 'needle-in-a-row')")
    deploy.gated()  # Litestream has it
    deploy.app.execute("pragma wal_checkpoint(full)")
    content = deploy.database.read_bytes()
    with deploy.database.open("r+b") as file:
        os.pwrite(file.fileno(), b"N", content.index(b"needle-in-a-row"))
    ran = deploy.gate("--json")
    assert ran.code == 1, check(ran.document, "parity")
    differs = check(ran.document, "parity")
    assert (differs["status"], differs["reason"], differs["retryable"]) == ("fail", "pages_differ", False)
    assert "(notes)" in differs["message"]
    assert differs["hint"]
    assert len(deploy.receipts) == 1, "the one from before"


def test_the_drilled_copy_is_kept_as_the_way_back(deploy: Deploy) -> None:
    deploy.app.write(5)  # a commit of just now: fresh proof holds it
    receipt = deploy.gated()
    rollback = read(receipt)["databases"][0]["rollback"]
    artifact = Path(rollback["artifact"])
    assert artifact == deploy.kept[0]
    assert rollback["artifact_sha256"] == hashlib.sha256(artifact.read_bytes()).hexdigest()
    assert rollback["size_bytes"] == artifact.stat().st_size
    assert rollback["position"] == read(receipt)["databases"][0]["drill"]["position"]
    assert rows(artifact, "t") == 5
    assert artifact.stat().st_mode & 0o777 == 0o400
    given = " ".join(map(str, deploy.scene.options))
    assert rollback["command"] == f"litestream-sidecar rollback --receipt {receipt} {given} --execute"


def test_a_machine_gets_the_document_of_ready_and_nothing_else(deploy: Deploy) -> None:
    ran = deploy.gate("--json")
    document = ran.document
    assert (ran.code, ran.err, document["ready"], document["decision"]) == (0, "", True, "passed")
    assert document["databases"][0]["last_drill"]["outcome"] == "passed"
    assert Path(document["receipt"]).exists()
    assert (deploy.decisions()[0]["decision"], deploy.decisions()[0]["receipt"]) == ("passed", document["receipt_id"])


def test_fresh_proof_holds_what_was_committed_before_while_the_app_goes_on_writing(deploy: Deploy) -> None:
    with Writer(deploy.app, pause=0.001) as writer:
        until(lambda: writer.commits > 50)
        before = writer.commits
        receipt = deploy.gated()
    assert rows(Path(read(receipt)["databases"][0]["rollback"]["artifact"]), "t") >= before


def test_a_broken_backup_is_refused_at_once_and_nothing_is_left(deploy: Deploy) -> None:
    deploy.break_backup()
    ran = deploy.gate("--json")
    assert ran.code == 1
    assert check(ran.document, "drill")["reason"] == "file_corrupt"
    assert ran.document["receipt"] is None
    assert (deploy.receipts, deploy.kept) == ([], [])
    said = deploy.gate()
    assert said.out.startswith("REFUSED  app: the newest drill failed: ")
    assert "try: " in said.out
    assert [each["decision"] for each in deploy.decisions()] == ["refused", "refused"]


def test_a_store_that_refuses_is_could_not_tell(deploy: Deploy) -> None:
    deploy.scene.replicas["app"] = (
        f"{{type: s3, bucket: bkt, path: app, endpoint: 'http://127.0.0.1:{free_port()}', region: us-east-1, "
        "access-key-id: A, secret-access-key: hushhush, force-path-style: true}"
    )
    deploy.scene.write_litestream_yml(names=("app",))
    ran = deploy.gate("--timeout", "3s", "--json")
    assert (ran.code, ran.document["decision"]) == (3, "unknown")
    assert check(ran.document, "replica")["reason"] == "unreachable"
    assert "hushhush" not in ran.out + ran.err


def test_it_waits_while_waiting_can_help(deploy: Deploy) -> None:
    deploy.litestream.stop()
    process = start("gate", "app", *deploy.scene.options, "--json")
    until((deploy.scene.state / "evidence.db").exists, say="the gate has begun")
    with pytest.raises(AssertionError):
        until(lambda: process.poll() is not None, within=3)
    deploy.litestream.start()
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert json.loads(out)["decision"] == "passed"


def test_it_waits_no_longer_than_it_may(deploy: Deploy) -> None:
    deploy.litestream.stop()
    ran = deploy.gate("--timeout", "3s", "--json")
    assert (ran.code, check(ran.document, "litestream")["reason"]) == (1, "litestream_down")
    assert ran.document["retryable"] is True


def test_ctrl_c_while_waiting_leaves_nothing(deploy: Deploy) -> None:
    deploy.litestream.stop()
    process = start("gate", "app", *deploy.scene.options)
    until((deploy.scene.state / "evidence.db").exists, say="the gate has begun")
    ran = interrupt(process, signal.SIGINT)
    assert (ran.code, ran.out) == (130, "")
    assert (deploy.receipts, deploy.kept) == ([], [])
    assert deploy.scene.scratch_is_empty()


def test_younger_proof_is_accepted_where_it_is_asked_for(deploy: Deploy) -> None:
    deploy.app.write(3)
    assert deploy.scene.run("verify", "app").code == 0
    receipt = deploy.gated("--max-age", "10m")
    assert len(deploy.scene.run("history", "app", "--json").document) == 1, "no second drill"
    rollback = read(receipt)["databases"][0]["rollback"]
    assert rollback["position"] is None, "the way back is a copy of production"
    assert rows(Path(rollback["artifact"]), "t") == 3


def test_where_no_proof_is_young_enough_it_drills(deploy: Deploy) -> None:
    receipt = deploy.gated("--max-age", "10m")
    assert len(deploy.scene.run("history", "app", "--json").document) == 1
    assert read(receipt)["databases"][0]["rollback"]["position"] is not None


def test_damaged_production_is_not_migrated(deploy: Deploy) -> None:
    deploy.app.execute("pragma wal_checkpoint(truncate)")
    root = int(deploy.app.execute("select rootpage from sqlite_schema where name = 'notes'")[0][0])  # type: ignore[call-overload]
    with deploy.database.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\x99" * 200)
    ran = deploy.gate("--max-age", "10m", "--json")
    assert ran.code == 1
    assert {check(ran.document, "drill")["reason"], check(ran.document, "database")["reason"]} & {"db_corrupt"}
    assert (deploy.receipts, deploy.kept) == ([], [])


def test_an_open_write_transaction_is_waited_for_and_then_named(deploy: Deploy) -> None:
    deploy.app.execute("begin immediate")
    ran = deploy.gate("--max-age", "10m", "--timeout", "6s", "--json")
    assert (ran.code, check(ran.document, "database")["status"]) == (3, "unknown")
    assert "has had a write transaction open for more than 2 s" in check(ran.document, "database")["message"]
    deploy.app.execute("commit")
    assert deploy.gate("--max-age", "10m").code == 0


# Overrides


def test_an_override_passes_and_is_written_down_everywhere(deploy: Deploy) -> None:
    deploy.break_backup()
    deploy.litestream.stop()
    ran = deploy.gate("--override", "ticket 42: disk is dying, ann", "--json")
    assert (ran.code, ran.document["decision"], ran.document["ready"]) == (0, "overridden", False)
    assert "ticket 42: disk is dying, ann" in ran.err, "in the log"
    receipt = read(Path(ran.document["receipt"]))
    assert receipt["override"]["reason"] == "ticket 42: disk is dying, ann"
    assert receipt["override"]["refused"].startswith("app: ")
    assert deploy.decisions()[0]["override"] == "ticket 42: disk is dying, ann"
    rollback = receipt["databases"][0]["rollback"]
    assert rows(Path(rollback["artifact"])) == ROWS, "a copy of production is the way back where the backup is none"


def test_an_override_that_is_not_needed_is_none(deploy: Deploy) -> None:
    ran = deploy.gate("--override", "just in case", "--json")
    assert (ran.code, ran.document["decision"]) == (0, "passed")
    assert read(Path(ran.document["receipt"]))["override"] is None


# Bounds


def test_artifacts_are_bounded_and_go_only_after_a_newer_deploy_was_proved_good(deploy: Deploy) -> None:
    options = ("--keep-count", "2")
    first, second = deploy.gated(*options), deploy.gated(*options)
    ran = deploy.gate(*options)
    assert ran.code == 3
    assert "there is no room for the rollback artifact: 2 deploys' artifacts are kept" in ran.out
    assert f"rm -r {deploy.rollback_folder / read(first)['id']}" in ran.out.replace("\n        ", "")
    assert deploy.postcheck(second).code == 0
    deploy.gated(*options)
    ids = [each.parent.name for each in deploy.kept]
    assert read(first)["id"] not in ids
    assert read(second)["id"] in ids


def test_too_little_room_for_the_artifact(deploy: Deploy) -> None:
    ran = deploy.gate("--keep-max", "10kB", "--json")
    assert (ran.code, check(ran.document, "scratch")["reason"]) == (3, "scratch_low")
    assert (deploy.receipts, deploy.kept) == ([], [])


def test_kept_where_it_is_wanted(deploy: Deploy, tmp_path: Path) -> None:
    receipt = deploy.gated("--keep", tmp_path / "elsewhere", "--receipt", tmp_path / "r.json")
    assert receipt == tmp_path / "r.json"
    assert Path(read(receipt)["databases"][0]["rollback"]["artifact"]).is_relative_to(tmp_path / "elsewhere")


def test_a_folder_that_cannot_be_written(deploy: Deploy, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = deploy.gate("--keep", tmp_path / "file" / "below", "--json")
    assert ran.code == 3
    assert "rollback artifacts cannot be kept in" in check(ran.document, "scratch")["message"]


# Bad input


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nobody"], "there is no database nobody"),
        (["--fresh", "--max-age", "10m"], "exclude each other"),
        (["--override", " "], "--override needs a reason"),
        (["--timeout", "soon"], "is not a duration"),
        (["--key-file", "/nowhere/key"], "--key-file /nowhere/key cannot be read"),
        (["--", "no-such-program"], "there is no program no-such-program"),
        (["--"], "there is no command behind `--`"),
        (["--url", "http://127.0.0.1:1", "--keep", "/tmp/x"], "do not go with --url"),
        (["--url", "ftp://x"], "must begin with http://"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_work(deploy: Deploy, arguments: list[str], says: str) -> None:
    deploy.scene.run("gate", *arguments).refused(2, says)
    assert (deploy.receipts, deploy.kept) == ([], [])


def test_a_receipt_is_never_written_over_a_file(deploy: Deploy, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("mine")
    deploy.gate("--receipt", tmp_path / "r.json").refused(2, "exists already")
    assert (tmp_path / "r.json").read_text() == "mine"


def test_a_gate_inside_a_gate_is_said_to_be_one(deploy: Deploy) -> None:
    inner = [sys.executable, "-m", "sidecar", "gate", "app", *deploy.scene.options]
    ran = deploy.gate("--", *inner)
    assert ran.code == 2
    assert "error: this runs inside another gate, whose receipt LITESTREAM_SIDECAR_RECEIPT names" in ran.err


def test_a_daemon_that_does_not_answer(deploy: Deploy) -> None:
    deploy.gate("--url", f"http://127.0.0.1:{free_port()}").refused(3, "no daemon answers at")


def test_a_state_directory_that_cannot_be_written_gives_nothing_half_done(deploy: Deploy) -> None:
    deploy.scene.state.mkdir(exist_ok=True)
    with sqlite3.connect(deploy.scene.state / "deploys.db") as book:
        book.execute("create table something (x)")
        book.execute("pragma user_version = 1")
    ran = deploy.gate()
    ran.refused(2, "deploys.db cannot be used")
    assert (deploy.receipts, deploy.kept) == ([], [])


def test_a_person_at_a_terminal_of_80_columns(deploy: Deploy) -> None:
    ran = in_terminal("gate", "app", *deploy.scene.options)
    assert ran.code == 0
    assert "PASSED" in ran.out
