"""Deploys beside a running daemon, through its address or its state directory; and with Litestream 0.3, which cannot be asked to sync."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.stage import Stage, pause, stage
from tests.faces.commands import Ran, run
from tests.faces.deploys import GOOD, check, fill, migration, read, rows
from tests.litestreams import Writer, binary_of, until

TOKEN = "a-token-that-nobody-guesses"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Stage]:
    """App, Litestream and daemon; the daemon keeps two deploys' artifacts."""
    with stage(tmp_path, rest="rollback: {keep-count: 2}") as acting:
        fill(acting.app)
        acting.litestream.start()
        acting.sidecar.start()
        acting.sidecar.until_ready()
        yield acting


def files(acting: Stage) -> list[object]:
    ours = acting.sidecar
    return ["--litestream-config", ours.litestream_yml, "--config", ours.sidecar_yml, "--state-dir", ours.state_dir]


def gate(acting: Stage, *arguments: object) -> Ran:
    return run("gate", *files(acting), "app", *arguments)


def test_the_daemon_of_the_state_directory_does_the_work(running: Stage) -> None:
    ran = gate(running, "--json", "--log-level", "info", "--", *migration(running.app.path, GOOD))
    assert ran.code == 0, ran
    assert f"the daemon at {running.sidecar.url} does the work" in ran.err
    assert check(ran.document, "schema")["message"].startswith("the version went from 3 to 4")
    for word in ("gate passed for app", "postcheck passed for app"):
        assert word in running.sidecar.log
    assert running.sidecar.metric("gate_decisions_total", decision="passed") == 1
    assert (running.sidecar.metric("drills_total", db="app", outcome="passed") or 0) >= 3
    assert running.sidecar.until_ready()["databases"][0]["schema_version"]["value"] == "4"


def test_from_another_machine_only_the_address_is_needed(running: Stage, tmp_path: Path) -> None:
    elsewhere = ["--state-dir", tmp_path / "elsewhere", "--url", running.sidecar.url]
    receipt = tmp_path / "r.json"
    assert run("gate", *elsewhere, "--receipt", receipt).code == 0
    (entry,) = read(receipt)["databases"]
    artifact = Path(entry["rollback"]["artifact"])
    assert artifact.is_relative_to(running.sidecar.state_dir), "kept where the daemon is"
    assert rows(artifact) == entry["tables"]["users"] == 60
    running.app.connection.executescript(GOOD)
    held = run("postcheck", *elsewhere, "--receipt", receipt, "--json")
    assert (held.code, held.document["decision"]) == (0, "passed")
    run("postcheck", *elsewhere, "--receipt", receipt).refused(2, "was used already")


def test_what_a_command_decides_without_the_daemon_is_counted_by_it(running: Stage, tmp_path: Path) -> None:
    assert gate(running, "--keep", tmp_path / "here").code == 0
    until(lambda: running.sidecar.metric("gate_decisions_total", decision="passed") == 1, say="the daemon has read it")
    ran = run("history", *files(running), "--deploys", "--json")
    assert [each["decision"] for each in ran.document] == ["passed"]


def test_an_override_is_in_the_daemons_log_and_metric(running: Stage) -> None:
    running.litestream.kill()
    ran = gate(running, "--override", "ticket 42, ann", "--json")
    assert (ran.code, ran.document["decision"]) == (0, "overridden")
    assert running.sidecar.metric("gate_decisions_total", decision="overridden") == 1
    assert "gate overridden for app, overridden: ticket 42, ann: app: Litestream does not answer" in running.sidecar.log


def test_the_daemons_bounds_hold(running: Stage) -> None:
    assert [gate(running).code for _ in range(3)] == [0, 0, 3]


def test_the_daemons_token_is_asked_for(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with stage(tmp_path / "stage", rest=f"http: {{token-file: {token}}}") as acting:
        fill(acting.app)
        acting.litestream.start()
        acting.sidecar.start()
        acting.sidecar.until_ready()
        elsewhere = ["--state-dir", tmp_path / "elsewhere", "--url", acting.sidecar.url]
        run("gate", *elsewhere).refused(2, "POST needs the right bearer token", "--token-file")
        ran = run("gate", *elsewhere, "--token-file", token, "--json")
        assert (ran.code, ran.document["decision"]) == (0, "passed")
        assert gate(acting).code == 0, "on its own machine the token comes from sidecar.yml"
        assert TOKEN not in ran.out + ran.err + acting.sidecar.log


def test_a_proof_whose_daemon_is_told_to_stop_ends_in_a_sentence(running: Stage) -> None:
    asked = httpx.post(f"{running.sidecar.url}/proofs", json={"db": "app"}, timeout=5)
    assert asked.status_code == 202
    found: dict[str, Any] = until(
        lambda: (
            (got := httpx.get(f"{running.sidecar.url}{asked.headers['location']}", timeout=5).json())["proof"] and got
        )
    )
    assert (found["state"], found["proof"]["ready"]) == ("done", True)
    assert running.sidecar.stop() == 0
    assert gate(running).code == 0, "without a daemon the command does the work itself"
    assert not (running.sidecar.state_dir / "url").exists()


def test_a_killed_daemon_is_not_waited_for(running: Stage) -> None:
    running.sidecar.process.kill()  # type: ignore[union-attr]
    running.sidecar.process.wait()  # type: ignore[union-attr]
    assert (running.sidecar.state_dir / "url").exists()
    assert gate(running).code == 0


def hang(running: Stage) -> None:
    """Stop the daemon, and not in the middle of writing: then its lock would be what is in the way."""
    with contextlib.closing(sqlite3.connect(running.sidecar.state_dir / "evidence.db", timeout=0)) as evidence:
        while True:
            os.kill(running.sidecar.pid, signal.SIGSTOP)
            with contextlib.suppress(sqlite3.OperationalError):
                evidence.execute("begin exclusive")
                evidence.rollback()
                return
            os.kill(running.sidecar.pid, signal.SIGCONT)
            pause(0.05)


def test_a_daemon_that_hangs_in_the_middle_of_writing_is_named(running: Stage) -> None:
    with contextlib.closing(sqlite3.connect(running.sidecar.state_dir / "evidence.db", timeout=10)) as evidence:
        evidence.execute("begin exclusive")
        ran = run("history", "app", *files(running))
    assert ran.code == 2
    assert "evidence.db stays locked: a process holds it in the middle of writing" in ran.err
    assert "try: find out who (`fuser -v " in ran.err


def test_a_daemon_that_hangs_is_said_and_done_without(running: Stage) -> None:
    hang(running)
    try:
        ran = gate(running)
    finally:
        os.kill(running.sidecar.pid, signal.SIGCONT)
    assert ran.code == 0
    assert "it gave no answer within 10 s; its work is done here" in ran.err


def test_with_litestream_03(tmp_path: Path) -> None:
    """No socket to ask: the gate looks until what was committed before has been seen in the replica."""
    with stage(tmp_path, executable=binary_of("0.3.13")) as acting:
        fill(acting.app)
        acting.litestream.start()
        given = files(acting)
        with Writer(acting.app, pause=0.05) as writer:
            until(lambda: writer.commits > 20)
            before = writer.commits
            ran = run("gate", *given, "--timeout", "60s", "--json", within=90)
            assert ran.code == 0, json.dumps(ran.document, indent=1)
            artifact = Path(read(Path(ran.document["receipt"]))["databases"][0]["rollback"]["artifact"])
            assert rows(artifact, "t") >= before
        ran = run("gate", *given, "--timeout", "60s", "--json", "--", *migration(acting.app.path, GOOD), within=90)
        assert ran.code == 0, json.dumps(ran.document, indent=1)
