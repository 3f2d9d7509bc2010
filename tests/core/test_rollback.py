"""The plan of a rollback: which way, how long, what is lost, and the commands in their order."""

from __future__ import annotations

import shlex
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sidecar.core.model import Position
from sidecar.core.occupancy import Occupancy, Occupant
from sidecar.core.position import position
from sidecar.core.receipt import Entry, Override, Receipt, Rollback
from sidecar.core.rollback import Artifact, Case, Plan, Probe, Standing, State, Surroundings, Way, position_of
from sidecar.core.rollback_steps import after_files, steps
from sidecar.core.rollback_words import loss, plan_document, plan_text
from tests.fakes import NOW

SHA = "ab" * 32
APP = Occupant(11, "gunicorn app", "app.service")
LITESTREAM = Occupant(12, "/usr/bin/litestream replicate", "litestream.service")
AROUND = Surroundings(
    receipt_file="/r.json", key_file=None, litestream_config="/etc/litestream.yml", litestream="0.5.17",
    options=("--litestream-config", "/etc/litestream.yml"), now=NOW,
)  # fmt: skip
SOUND = Artifact(state=State.SOUND, size_bytes=10_000_000, read_seconds=0.5)


def entry(name: str = "app", **more: Any) -> Entry:
    rollback = Rollback(
        position="0000000000000026", created_at=NOW - timedelta(seconds=312), artifact="/keep/it's app.db",
        artifact_sha256=SHA, size_bytes=10_000_000, command="litestream-sidecar rollback --receipt /r.json",
    )  # fmt: skip
    drill = {"restore_seconds": 7.0, "check_seconds": 2.0}
    return Entry(
        name=name, path=f"/data/{name}.db", census=None, drill=drill, rollback=replace(rollback, **more), checks=()
    )


def case(artifact: Artifact = SOUND, *, restorable: bool | None = True, name: str = "app", **standing: Any) -> Case:
    found: dict[str, Any] = {
        "path": f"/data/{name}.db", "exists": True, "uid": 1000, "gid": 1001, "mode": 0o640,
        "position": "000000000000002a", "last_commit": NOW - timedelta(seconds=3),
    } | standing  # fmt: skip
    return Case(entry=entry(name), artifact=artifact, probe=Probe(restorable=restorable), standing=Standing(**found))


def plan(*cases: Case, **around: Any) -> Plan:
    receipt = Receipt(
        id="20261123T030000Z-abcdef", issued_at=NOW - timedelta(minutes=5), expires_at=NOW + timedelta(hours=1),
        sidecar="1", litestream="0.5.17", databases=tuple(each.entry for each in cases),
    )  # fmt: skip
    return Plan(receipt, cases, replace(AROUND, **around))


GONE, ALTERED, NEVER = (Artifact(state=each) for each in (State.MISSING, State.ALTERED, State.NEVER))
LOCKED_AWAY = Artifact(state=State.UNREADABLE, why="Permission denied")


@pytest.mark.parametrize(
    ("artifact", "restorable", "way", "code"),
    [
        (SOUND, None, Way.ARTIFACT, 0),
        (SOUND, False, Way.ARTIFACT, 0),
        (GONE, True, Way.POSITION, 0),
        (ALTERED, True, Way.POSITION, 0),
        (NEVER, True, Way.POSITION, 0),
        (LOCKED_AWAY, True, Way.POSITION, 0),
        (GONE, False, Way.NONE, 1),
        (ALTERED, False, Way.NONE, 1),
        (NEVER, False, Way.NONE, 1),
        (GONE, None, Way.UNKNOWN, 3),
        (NEVER, None, Way.UNKNOWN, 3),
        (LOCKED_AWAY, False, Way.UNKNOWN, 3),
    ],
)
def test_the_way_and_the_exit_code(artifact: Artifact, *, restorable: bool | None, way: Way, code: int) -> None:
    made = plan(case(artifact, restorable=restorable))
    assert (made.cases[0].way, made.exit_code) == (way, code)
    assert plan_document(made)["possible"] is {0: True, 1: False, 3: None}[code]


def test_over_several_databases_the_worst_counts() -> None:
    assert plan(case(), case(GONE, restorable=None)).exit_code == 3
    assert plan(case(GONE, restorable=False), case(GONE, restorable=None)).exit_code == 1
    assert plan().exit_code == 1


def test_the_time_is_measured_or_not_known() -> None:
    assert case().seconds == 0.5 * 4 + 2 * 2
    assert case(GONE).seconds == 9.0
    assert case(GONE, restorable=None).seconds is None
    assert plan(case(), case(GONE)).seconds == 15.0
    assert plan(case(), case(GONE, restorable=None)).seconds is None
    assert "# " in plan_text(plan(case()))
    assert "takes     about 6 s for the files (20 MB/s measured just now)" in plan_text(plan(case()))
    assert "takes     not known" in plan_text(plan(case(GONE, restorable=None)))


def test_what_is_lost() -> None:
    said = loss(case(), NOW)
    assert (
        "312 s ago; the last write was 3 s ago; Litestream has captured production up to 000000000000002a, 4 transactions on"
        in said
    )
    assert case().positions_lost == 4
    assert case(position="5cd8f7d600cfdc59/00000001:32").positions_lost is None
    assert "transaction" not in loss(case(position=None, last_commit=None), NOW)


def commands(made: Plan) -> list[str]:
    return [each for step in steps(made) for each in step.commands]


def test_the_commands_stand_in_order() -> None:
    made = plan(case(beside=("-wal",), occupancy=Occupancy((APP, LITESTREAM))))
    aside, fresh = f"/data/app.db.replaced-{AROUND.stamp}", "/data/.app.db.fresh"
    assert commands(made) == [
        "systemctl stop app.service",
        "systemctl stop litestream.service",
        f"mkdir -m 700 {aside}",
        f"mv /data/app.db {aside}/app.db.old",
        f"[ ! -e /data/app.db-wal ] || mv /data/app.db-wal {aside}/app.db.old-wal",
        f"[ ! -e /data/app.db-shm ] || mv /data/app.db-shm {aside}/app.db.old-shm",
        f"[ ! -e /data/app.db-journal ] || mv /data/app.db-journal {aside}/app.db.old-journal",
        f"cp {shlex.quote('''/keep/it's app.db''')} {fresh}",
        f"echo '{SHA}  {fresh}' | sha256sum -c -",
        f"chown 1000:1001 {fresh}",
        f"chmod 640 {fresh}",
        f"sync {fresh}",
        "rm -f /data/app.db-wal /data/app.db-shm /data/app.db-journal",
        f"mv {fresh} /data/app.db",
        "sync /data",
        "systemctl start litestream.service",
        "systemctl start app.service",
        "litestream-sidecar verify app --litestream-config /etc/litestream.yml",
    ]
    assert [each.title for each in after_files(made)] == [each.title for each in steps(made)][-3:]
    assert plan_document(made)["steps"][0]["commands"] == ["systemctl stop app.service"]


def test_everything_but_commands_is_a_comment() -> None:
    nasty = Occupant(13, "sh -c 'a\nrm -rf /'")
    made = plan(case(occupancy=Occupancy((nasty,), locked=True, unseen=True)), case(GONE, name="users"))
    given = set(commands(made))
    lines = plan_text(made).splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == [
        each for each in commands(made) if each in given
    ]
    assert "kill 13  # sh -c 'a rm -rf /'" in lines
    assert "#    it ran as: sh -c 'a rm -rf /'" in lines
    assert any("holds locks on /data/app.db" in line for line in lines)
    assert any("run this as root" in line for line in lines)


def test_the_position_is_the_second_way() -> None:
    made = plan(case(GONE, restorable=True))
    restore = "litestream-sidecar restore app --position 0000000000000026 --to /data/.app.db.fresh --litestream-config /etc/litestream.yml"
    assert restore in commands(made)
    assert not any(each.startswith("cp ") for each in commands(made))
    text = plan_text(made)
    assert "artifact  /keep/it's app.db is gone" in text
    assert "position  0000000000000026 can be restored from the replica, for now" in text
    assert "--execute" not in text


def test_without_a_way_no_file_is_touched() -> None:
    made = plan(case(GONE, restorable=False))
    assert not any(each.startswith(("mv", "rm", "cp", "mkdir")) for each in commands(made))
    assert "there is no way back by this receipt" in plan_text(made)


def test_nothing_stands_there_any_more() -> None:
    made = plan(case(exists=False, uid=None, gid=None, mode=None, position=None, last_commit=None))
    assert not any(each.startswith(("mkdir", "chown")) for each in commands(made))
    assert "chmod 600 /data/.app.db.fresh" in commands(made)
    assert "no database file stands there now" in plan_text(made)


def test_what_litestream_needs_afterwards() -> None:
    assert "litestream reset -config /etc/litestream.yml /data/app.db" in plan_text(plan(case()))
    assert "litestream reset" not in plan_text(plan(case(), litestream="0.3.13"))
    assert "litestream reset" not in plan_text(plan(case(), litestream=None))


def test_expired_and_overridden_is_said_and_no_hindrance() -> None:
    made = plan(case())
    old = replace(
        made.receipt, expires_at=NOW - timedelta(hours=1), override=Override(reason="it\nburns", refused="no")
    )
    text = plan_text(replace(made, receipt=old))
    assert "# it expired " in text
    assert "# the gate was overridden (it burns)" in text
    assert replace(made, receipt=old).exit_code == 0
    assert plan_document(replace(made, receipt=old))["expired"] is True


def test_the_shortcut_names_the_key() -> None:
    text = plan_text(plan(case(), key_file="/key"))
    assert "litestream-sidecar rollback --receipt /r.json --key-file /key --execute" in text


def test_positions_are_read_as_they_are_written() -> None:
    for each in (Position.of_txid(42), Position("5cd8f7d600cfdc59", 3, 4152)):
        assert position(str(each)) == each
    for wrong in ("", "2a", "000000000000002A", "5cd8f7d600cfdc59/3:32", "5cd8f7d600cfdc59/00000003"):
        with pytest.raises(ValueError, match="is no position"):
            position(wrong)
        assert position_of(wrong) is None
    assert position_of(None) is None
