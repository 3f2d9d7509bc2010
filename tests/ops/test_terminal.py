"""What people read in a terminal of 80 columns: the answer first, nothing broken by the terminal, no colour where none is wanted."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.faces.commands import end_what_is_left, run, start
from tests.faces.deploys import GOOD, LOSES, Deploy, deployable, deploying, migration
from tests.litestreams import free_port, until
from tests.ops.terminal import COLUMNS, Terminal, terminal

MIGRATES = "alter table users add column phone text; create index phones on users (phone); pragma user_version = 5"
COPIED = (
    "/",
    "litestream-sidecar ",
    "kill ",
    "mv ",
    "cp ",
    "mkdir ",
    "[ ! -e ",
    "chown ",
    "chmod ",
    "sync ",
    "rm ",
    "echo ",
    "# ",
)
TABLE_MAX = 100


@pytest.fixture(scope="module")
def deploy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deploy]:
    folder = tmp_path_factory.mktemp("terminal")
    with deploying(deployable(folder / "made"), folder / "scene") as made:
        yield made
    end_what_is_left()


@pytest.fixture
def window(tmp_path: Path) -> Iterator[Terminal]:
    with terminal(tmp_path) as made:
        yield made


def read(lines: Sequence[str], first: str, code: int) -> str:
    """Every line as it was meant to stand, the answer first; what is to be copied (a path, a command) is never broken."""
    assert lines[0].startswith(first), lines
    assert lines[-1] == f"exit {code}", lines
    for line in lines:
        assert len(line) <= COLUMNS or line.startswith(COPIED), line
        assert "━" not in line, f"what showed the progress is gone: {line}"
    return "\n".join(lines)


def test_a_deploy_read_in_a_terminal(deploy: Deploy, window: Terminal) -> None:
    options, state = deploy.scene.options, deploy.scene.options[-2:]

    doctor = window.run("doctor", *options)
    said = read(doctor, "ok      sidecar.yml:", 0)
    assert re.fullmatch(r"\d+ ok, \d+ warn", doctor[-2]), "asked one by one: the sum comes last, above the prompt"
    assert all(re.match(r"(ok|warn) +\S|        \S", line) for line in doctor[:-2]), said

    said = read(window.run("verify", *options), "PROVED  1 database can be restored", 0)
    assert re.search(r"^app +yes +\S+ m?s +\d+ s ago +passed \d+ s ago +3$", said, re.MULTILINE)

    rehearsal = window.run("rehearse", "app", *options, "--", "sqlite3", "{db}", MIGRATES)
    said = read(rehearsal, "WOULD HOLD  app: the command held on the copy", 0)
    assert "+ CREATE INDEX phones on users ( phone )" in said

    said = read(
        window.run("gate", "app", *options, "--", *migration(deploy.database, GOOD)), "PASSED  1 database proved", 0
    )
    receipt, artifact = deploy.receipts[-1], deploy.kept[-1]
    assert f"\n{receipt}\nway back of app:\n{artifact}\n\nHELD  deployed, intact" in said

    gated = deploy.gated()
    lost = window.run("gate", "app", *options, "--", *migration(deploy.database, LOSES))
    said = read(lost, "PASSED", 1)
    assert "\n\nDID NOT HOLD  app: rows are gone: table notes has 5 rows of 60\n" in said
    assert re.search(r"^way back:\nlitestream-sidecar rollback --receipt \S+ --litestream-config", said, re.MULTILINE)

    said = read(window.run("postcheck", *options, "--receipt", gated), "DID NOT HOLD  app: rows are gone", 1)
    assert "try: roll back, or, where it was meant, say so: --allow-shrink notes" in said

    said = read(window.run("history", "--deploys", *state), "the newest: postcheck refused, ", 0)
    assert re.search(r"^\S+Z  postcheck refused  app\n        app: rows are gone: table notes", said, re.MULTILINE)

    history = window.run("history", *state)
    read(history, "the newest passed; 6 of 6 drills passed", 0)
    assert re.fullmatch(r"\S{20}  app +passed +\S+ kB +\S+ m?s +\d+(\.\d+)?%", history[4]), history


def test_a_broken_backup_is_said_first(tmp_path: Path, window: Terminal) -> None:
    with deploying(deployable(tmp_path / "made"), tmp_path / "scene") as deploy:
        options, state, port = deploy.scene.options, deploy.scene.options[-2:], free_port()
        assert deploy.scene.run("verify").code == 0
        deploy.break_backup()
        daemon = start("run", *options, "--listen", f"127.0.0.1:{port}", "--log-level", "error")
        ask = ["--url", f"http://127.0.0.1:{port}"]
        try:
            for env in ({}, {"NO_COLOR": "1"}, {"TERM": "dumb"}):
                verified = window.run("verify", *options, env=env)
                said = read(verified, "DISPROVED  app: the newest drill failed: a file of the backup is damaged", 1)
                assert re.search(r"^fail    app drill \(file_corrupt\): ", said, re.MULTILINE)
                history = window.run("history", *state, env=env)
                said = read(history, "the newest failed; 1 of ", 0)
                assert "file_corrupt: a file of the backup is damaged" in " ".join(said.split())
                until(lambda: run("status", *ask).code == 1, say="the daemon knows")
                read(window.run("status", *ask, env=env), "NOT READY  app: ", 1)
        finally:
            daemon.terminate()
            daemon.communicate(timeout=20)


def test_piped_into_a_file_every_sentence_is_one_line(deploy: Deploy, tmp_path: Path) -> None:
    options, state = deploy.scene.options, deploy.scene.options[-2:]
    for arguments in (
        ["verify", *options],
        ["doctor", *options],
        ["history", *state],
        ["history", "--deploys", *state],
    ):
        ran = run(*arguments)
        file = tmp_path / "out"
        file.write_text(ran.out)
        assert "\x1b" not in ran.out
        assert subprocess.run(["grep", "-c", "", str(file)], capture_output=True, check=True).stdout != b"0\n"
        for line in ran.out.splitlines():
            assert line == line.rstrip()
            assert not line.startswith(" " * TABLE_MAX), f"the rest of a cell: {line!r}"
