"""The guard against real processes: whoever opens production is killed, whoever is not the command's is left alone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.adapters.rehearsal_guard import Guard
from sidecar.core.rehearsal import TouchedProduction
from tests.litestreams import ROOT, until

MARK = "REHEARSAL_MARK"
HOLD = "import sys, time\nopened = open(sys.argv[1], 'rb')\nprint('open', flush=True)\nsys.stdin.read()\n"
DAEMON = (
    "import os, signal, sys\n"
    "if os.fork(): os._exit(0)\n"
    "os.setsid()\n"
    "if os.fork(): os._exit(0)\n"
    "opened = open(sys.argv[1], 'rb')\n"
    "open(sys.argv[2], 'w').write(str(os.getpid()))\n"
    "signal.pause()\n"
)


@pytest.fixture
def production(tmp_path: Path) -> Path:
    file = tmp_path / "data" / "app.db"
    file.parent.mkdir()
    for suffix in ("", "-wal", "-shm"):
        file.with_name(f"app.db{suffix}").write_bytes(b"x")
    return file


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    file = tmp_path / "room" / "app.db"
    file.parent.mkdir()
    file.write_bytes(b"x")
    return file


@pytest.fixture
def guard(production: Path, copy: Path) -> Guard:
    return Guard(production, f"{MARK}={copy}", copy.parent)


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for each in started:
        each.kill()
        each.communicate()


def holding(file: Path, processes: list[subprocess.Popen[bytes]], **more: object) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more,  # type: ignore[call-overload]
    )  # fmt: skip
    processes.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == b"open\n"
    return process  # type: ignore[no-any-return] # of an overload that mypy cannot choose


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_whoever_opens_production_is_killed(
    guard: Guard, production: Path, suffix: str, processes: list[subprocess.Popen[bytes]]
) -> None:
    file = production.with_name(f"app.db{suffix}")
    process = holding(file, processes, start_new_session=True)
    guard.started(process.pid)
    with pytest.raises(TouchedProduction, match=rf"opened production \(app.db{suffix}\) and was killed"):
        guard.look()
    assert process.wait(5) == -9


def test_another_name_of_production_is_production(
    guard: Guard, production: Path, tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    for name, make in (("hard", os.link), ("soft", os.symlink)):
        other = tmp_path / name
        make(production, other)
        process = holding(other, processes, start_new_session=True)
        guard.started(process.pid)
        with pytest.raises(TouchedProduction):
            guard.look()


def test_the_copy_may_be_opened_and_that_is_seen(
    guard: Guard, copy: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    process = holding(copy, processes, start_new_session=True)
    guard.started(process.pid)
    assert not guard.opened_copy
    guard.look()
    assert guard.opened_copy


def test_the_app_may_have_production_open(
    guard: Guard, production: Path, copy: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    app = holding(production, processes, start_new_session=True)
    command = holding(copy, processes, start_new_session=True)
    guard.started(command.pid)
    guard.look()
    guard.end_what_is_left()
    assert app.poll() is None


def test_a_daemon_that_left_the_session_is_known_by_its_mark(
    guard: Guard, production: Path, copy: Path, tmp_path: Path
) -> None:
    said = tmp_path / "pid"
    env = {**os.environ, MARK: str(copy)}
    starter = subprocess.Popen(
        [sys.executable, "-c", DAEMON, str(production), str(said)], env=env, start_new_session=True
    )
    guard.started(starter.pid)
    starter.wait()
    until(lambda: said.exists() and said.read_text())
    pid = int(said.read_text())
    assert guard.left()[pid].startswith("python")
    with pytest.raises(TouchedProduction):
        guard.look()
    until(lambda: pid not in guard.left())


def test_what_is_left_is_ended(guard: Guard, copy: Path, tmp_path: Path) -> None:
    said = tmp_path / "pid"
    env = {**os.environ, MARK: str(copy)}
    starter = subprocess.Popen([sys.executable, "-c", DAEMON, str(copy), str(said)], env=env, start_new_session=True)
    guard.started(starter.pid)
    starter.wait()
    until(lambda: said.exists() and said.read_text())
    guard.end_what_is_left()
    threading.Event().wait(0.05)
    assert guard.left() == {}


def test_who_else_writes_production_is_named_and_readers_are_not(
    guard: Guard, production: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    holding(production, processes, start_new_session=True)
    assert guard.other_writers() == ()
    with production.open("r+b"):  # we ourselves
        assert guard.other_writers() == ()
    script = HOLD.replace("'rb'", "'r+b'")
    writer = subprocess.Popen(
        [sys.executable, "-c", script, str(production)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    processes.append(writer)
    assert writer.stdout is not None
    writer.stdout.readline()
    (said,) = guard.other_writers()
    assert said.endswith(f"(pid {writer.pid})")


def test_in_a_container_whose_session_began_outside_a_writer_is_still_no_member(
    production: Path, tmp_path: Path
) -> None:
    """There `/proc/PID/stat` says session 0 for everybody: nobody is the command's before the command has started."""
    inside = (
        "import subprocess, sys\n"
        "from pathlib import Path\n"
        "from sidecar.adapters.rehearsal_guard import Guard\n"
        "production, ours = map(Path, sys.argv[1:])\n"
        "guard = Guard(production, 'MARK=none', ours)\n"
        f"script = {HOLD.replace('rb', 'r+b')!r}\n"
        "writer = subprocess.Popen([sys.executable, '-c', script, str(production)], stdin=-1, stdout=-1)\n"
        "writer.stdout.readline()\n"
        "print(len(list(guard.members())), *guard.other_writers())\n"
        "writer.kill()\n"
    )
    ran = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", inside, str(production), str(tmp_path)],
        check=True, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    members, *writers = ran.stdout.split()
    assert members == "0"
    assert writers[0].startswith("python")
