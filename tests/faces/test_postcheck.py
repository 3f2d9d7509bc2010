"""`postcheck`, and `gate -- CMD`: deployed, intact, and covered by the backup again is one exit code; everything else is a sentence."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import sys
from pathlib import Path

import pytest

from tests.faces.commands import run, start
from tests.faces.deploys import BREAKS, FAILS, FORGETS, GOOD, LOSES, Deploy, check, migration, read
from tests.litestreams import Writer, until

KEY = "0123456789abcdef0123456789abcdef"


def test_a_good_migration_is_proved_good_and_covered_again(deploy: Deploy) -> None:
    ran = deploy.migrate(GOOD)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("PASSED  ")
    assert "\nHELD  deployed, intact, and covered by the backup again\n" in ran.out
    assert "version 3 -> 4" in ran.out
    assert "+ CREATE TABLE users(id integer primary key, name text, email text)" in ran.out
    drills = deploy.scene.run("history", "app", "--json").document
    assert [each["schema_version"]["value"] for each in drills] == ["4", "3"]
    assert [(each["kind"], each["decision"]) for each in deploy.decisions()] == [
        ("postcheck", "passed"),
        ("gate", "passed"),
    ]


def test_apart_from_each_other_gate_and_postcheck_do_the_same(deploy: Deploy) -> None:
    receipt = deploy.gated()
    deploy.app.connection.executescript(GOOD)
    ran = deploy.postcheck(receipt, "--json")
    document = ran.document
    assert (ran.code, document["ready"], document["decision"]) == (0, True, "passed")
    assert document["databases"][0]["change"]["schema_version"] == {
        "before": {"source": "user_version", "value": "3"}, "after": {"source": "user_version", "value": "4"},
    }  # fmt: skip
    assert (
        check(document, "schema")["message"]
        == "the version went from 3 to 4 (user_version); 1 object of the schema changed"
    )
    assert check(document, "drill")["status"] == "pass"


def test_while_the_app_goes_on_writing(deploy: Deploy) -> None:
    with Writer(deploy.app, pause=0.01):
        ran = deploy.migrate("create table more (x); pragma user_version = 4")
        assert ran.code == 0, ran


@pytest.mark.parametrize(
    ("sql", "name", "reason", "says"),
    [
        (FORGETS, "schema", "version_differs", "the schema changed and its version is still 3 (user_version)"),
        (LOSES, "identity", "shrunk", "rows are gone: table notes has 5 rows of 60"),
        ("drop table notes; pragma user_version = 4", "identity", "shrunk", "table notes is gone with its 60 rows"),
        ("drop table _litestream_seq; drop table _litestream_lock; pragma user_version = 4", "litestream", "not_managed",
         "Litestream's own tables are gone: _litestream_lock, _litestream_seq"),
        (BREAKS, "database", "assertion_failed", "foreign keys are violated that were not before: orders -> users in 1 rows"),
    ],
)  # fmt: skip
def test_a_bad_migration_is_caught_and_the_way_back_is_printed(
    deploy: Deploy, sql: str, name: str, reason: str, says: str
) -> None:
    ran = deploy.migrate(sql, "--json")
    document = ran.document
    assert ran.code == 1
    assert (check(document, name)["status"], check(document, name)["reason"]) == ("fail", reason)
    assert says in check(document, name)["message"]
    assert check(document, name)["hint"]
    assert document["rollback"].startswith(
        f"litestream-sidecar rollback --receipt {document['receipt']} --litestream-config "
    )
    assert deploy.decisions()[0]["decision"] == "refused"


def test_what_was_meant_can_be_said(deploy: Deploy) -> None:
    assert deploy.migrate(LOSES, "--allow-shrink", "notes").code == 0
    assert deploy.gate().code == 0, "and is the new measure from then on"


def test_old_violations_are_not_the_migrations_fault(deploy: Deploy) -> None:
    deploy.app.execute("pragma foreign_keys = off")
    deploy.app.execute("delete from users where id = 9")
    ran = deploy.migrate(GOOD, "--json")
    assert ran.code == 0
    assert deploy.migrate("update orders set user_id = 999 where id = 3; pragma user_version = 5", "--json").code == 1


@pytest.mark.parametrize(
    ("options", "sql", "code", "says"),
    [
        (["--expect-version", "4"], GOOD, 0, "the version went from 3 to 4"),
        (["--expect-version", "5"], GOOD, 1, "the schema version is 4, expected 5 (it was 3)"),
        (["--expect", "changed"], "select 1", 1, "the schema version is still 3: it did not move"),
        (["--expect", "same"], GOOD, 1, "the schema version went from 3 to 4, and nothing was to change"),
        (["--expect", "same"], "insert into notes values (1000, 'x')", 0, "the version is still 3"),
        (["--expect", "any"], FORGETS, 0, "the version is still 3 (user_version); 1 object of the schema changed"),
    ],
)
def test_what_is_expected(deploy: Deploy, options: list[str], sql: str, code: int, says: str) -> None:
    ran = deploy.migrate(sql, *options, "--json")
    assert ran.code == code, ran
    assert says in check(ran.document, "schema")["message"]


# The command


def test_the_commands_exit_code_is_kept_and_what_it_changed_is_shown(deploy: Deploy) -> None:
    ran = deploy.gate(
        "--", "sh", "-c", f"{sys.executable} -c {migration(deploy.database, FAILS)[2]!r} 2>/dev/null; exit 7"
    )
    assert ran.code == 7
    assert "\nDID NOT HOLD  sh failed with exit code 7\n" in ran.out
    assert "+ CREATE TABLE users(id integer primary key, name text, email text)" in ran.out, "half of it had happened"
    assert "way back: litestream-sidecar rollback --receipt" in ran.out
    assert f"# the way back by receipt {read(deploy.receipts[0])['id']}" in ran.out, "the plan, with what it costs"
    assert f"artifact  {deploy.kept[0]} is there, its sha256 is the receipt's" in ran.out


def test_a_command_that_is_killed(deploy: Deploy) -> None:
    ran = deploy.gate("--json", "--", "sh", "-c", "kill -9 $$")
    assert (ran.code, ran.document["reason"]) == (137, "sh failed with exit code 137")


def test_the_receipt_is_named_to_the_command_and_stdout_stays_one_document(deploy: Deploy) -> None:
    ran = deploy.gate("--json", "--", "sh", "-c", 'echo "receipt $LITESTREAM_SIDECAR_RECEIPT"')
    assert ran.code == 0
    assert f"receipt {ran.document['receipt']}" in ran.err


def test_a_refused_gate_runs_nothing(deploy: Deploy, tmp_path: Path) -> None:
    deploy.break_backup()
    ran = deploy.gate("--", "touch", tmp_path / "ran")
    assert ran.code == 1
    assert not (tmp_path / "ran").exists()


def test_a_transaction_left_open_is_could_not_tell(deploy: Deploy) -> None:
    holds = (
        f"import sqlite3, time; c = sqlite3.connect({str(deploy.database)!r}, isolation_level=None);"
        "c.execute('begin immediate'); c.execute('delete from users'); print('holds', flush=True); time.sleep(60)"
    )
    script = f'{sys.executable} -c "{holds}" > {deploy.scene.folder}/held 2>&1 & while [ ! -s {deploy.scene.folder}/held ]; do :; done; echo $!'
    ran = deploy.gate("--timeout", "5s", "--json", "--", "sh", "-c", script)
    os.kill(int(ran.err.split()[-1]), signal.SIGKILL)
    assert ran.code == 3
    assert "has had a write transaction open" in check(ran.document, "database")["message"]
    assert deploy.postcheck(Path(ran.document["receipt"]), "--expect", "same").code == 0, (
        "an answer that was none uses nothing up"
    )


def test_told_to_stop_the_command_is_told_and_decides(deploy: Deploy, tmp_path: Path) -> None:
    script = (
        f"trap 'echo stopped > {tmp_path}/out; exit 9' TERM; echo began > {tmp_path}/out; while :; do sleep 0.1; done"
    )
    process = start("gate", "app", *deploy.scene.options, "--", "sh", "-c", script)
    until((tmp_path / "out").exists, say="the command runs")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert (process.returncode, (tmp_path / "out").read_text()) == (9, "stopped\n")


# Receipts


def test_a_receipt_is_used_once(deploy: Deploy) -> None:
    receipt = deploy.gated()
    assert deploy.postcheck(receipt).code == 0
    deploy.postcheck(receipt).refused(2, "was used already", "gate again")
    ran = deploy.migrate("select 1", "--json")
    deploy.postcheck(Path(ran.document["receipt"])).refused(2, "was used already")


def test_a_receipt_that_is_missing_altered_expired_or_none(deploy: Deploy, tmp_path: Path) -> None:
    deploy.postcheck(tmp_path / "none.json").refused(2, "there is no receipt")
    expired = deploy.gated("--valid-for", "1ms")
    deploy.postcheck(expired).refused(2, "expired at", "--valid-for")
    receipt = deploy.gated()
    altered = tmp_path / "altered.json"
    altered.write_text(receipt.read_text().replace('"users": 60', '"users": 6'))
    deploy.postcheck(altered).refused(2, "it was altered after the gate wrote it")
    altered.write_text("{}")
    deploy.postcheck(altered).refused(2, "is no receipt")


def test_a_receipt_of_another_database(deploy: Deploy, tmp_path: Path) -> None:
    receipt = deploy.gated()
    other = tmp_path / "other"
    shutil.copytree(deploy.scene.folder / "data", other / "data")
    yml = other / "litestream.yml"
    yml.write_text(
        deploy.scene.litestream_yml.read_text().replace(f"path: {deploy.database}", f"path: {other}/data/app.db")
    )
    given = ["--config", deploy.scene.sidecar_yml, "--state-dir", deploy.scene.state, "--receipt", receipt]
    run("postcheck", "--litestream-config", yml, *given).refused(2, "is of another database")
    yml.write_text(yml.read_text().replace("/data/app.db", "/data/shop.db"))
    run("postcheck", "--litestream-config", yml, *given).refused(2, "which is not known here")


def test_a_signed_receipt_needs_its_key(deploy: Deploy, tmp_path: Path) -> None:
    key, other = tmp_path / "key", tmp_path / "other"
    key.write_text(KEY)
    other.write_text(KEY[::-1])
    receipt = deploy.gated("--key-file", key)
    assert read(receipt)["digest"].startswith("hmac-sha256:")
    assert KEY not in receipt.read_text()
    deploy.postcheck(receipt).refused(2, "is signed, and there is no key")
    deploy.postcheck(receipt, "--key-file", other).refused(2, "signed with another key")
    assert deploy.postcheck(receipt, "--key-file", key).code == 0
    plain = deploy.gated()
    deploy.postcheck(plain, "--key-file", key).refused(2, "is not signed")


# Production


def test_the_database_replaced_between_gate_and_postcheck(deploy: Deploy) -> None:
    receipt = deploy.gated()
    deploy.app.close()
    deploy.litestream.stop()
    other = deploy.database.with_name("other.db")
    shutil.copy(deploy.database, other)
    for suffix in ("-wal", "-shm"):
        deploy.database.with_name(f"app.db{suffix}").unlink(missing_ok=True)
    other.replace(deploy.database)
    ran = deploy.postcheck(receipt, "--json")
    assert (ran.code, check(ran.document, "identity")["reason"]) == (1, "file_replaced")


def test_another_database_copied_over_it(deploy: Deploy) -> None:
    receipt = deploy.gated()
    deploy.app.connection.executescript(
        "drop table orders; drop table users; drop table notes; drop table t; create table x (y); insert into x values (1)"
    )
    ran = deploy.postcheck(receipt, "--json")
    assert (ran.code, check(ran.document, "identity")["reason"]) == (1, "identity_changed")


def test_damaged_by_the_deploy(deploy: Deploy) -> None:
    receipt = deploy.gated()
    deploy.app.execute("pragma wal_checkpoint(truncate)")
    root = int(deploy.app.execute("select rootpage from sqlite_schema where name = 'notes'")[0][0])  # type: ignore[call-overload]
    with deploy.database.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\x99" * 200)
    ran = deploy.postcheck(receipt, "--json")
    assert (ran.code, check(ran.document, "database")["reason"]) == (1, "db_corrupt")


def test_intact_and_not_covered_by_the_backup_is_not_good(deploy: Deploy) -> None:
    receipt = deploy.gated()
    deploy.litestream.kill()
    deploy.app.connection.executescript(GOOD)
    ran = deploy.postcheck(receipt, "--timeout", "3s", "--json")
    assert (ran.code, ran.document["ready"]) == (1, False)
    assert check(ran.document, "identity")["status"] == "pass"
    assert check(ran.document, "litestream")["reason"] == "litestream_down"
    assert ran.document["reason"].startswith("app: Litestream does not answer")


def test_after_an_override_nobody_can_tell(deploy: Deploy) -> None:
    deploy.litestream.stop()
    root = int(deploy.app.execute("select rootpage from sqlite_schema where name = 'notes'")[0][0])  # type: ignore[call-overload]
    deploy.app.execute("pragma wal_checkpoint(truncate)")
    with deploy.database.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\x99" * 200)
    ran = deploy.gate("--override", "it burns", "--json")
    assert ran.code == 0
    receipt = Path(ran.document["receipt"])
    assert read(receipt)["databases"][0]["identity"] is None
    said = deploy.postcheck(receipt, "--json")
    assert said.code == 1
    assert check(said.document, "database")["reason"] == "db_corrupt"


def test_sqlite3_reads_what_is_kept(deploy: Deploy) -> None:
    artifact = Path(read(deploy.gated())["databases"][0]["rollback"]["artifact"])
    with sqlite3.connect(f"file:{artifact}?mode=ro&immutable=1", uri=True) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
