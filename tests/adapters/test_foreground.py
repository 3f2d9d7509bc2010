"""A command in the foreground: its exit code, its deadline, what it leaves behind, and who gets which signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.adapters.foreground import find_program, run_foreground
from sidecar.core.errors import EnvironmentProblem, Overdue, Stopped
from tests.litestreams import ROOT, until


def run(
    *argv: str,
    timeout_s: float | None = 20,
    stop: threading.Event | None = None,
    kill_leftovers: bool = True,
    quiet_stdout: bool = True,
    on_start: Callable[[int], None] | None = None,
    poll: Callable[[], None] | None = None,
    on_exit: Callable[[], None] | None = None,
    grace_s: float = 5.0,
) -> int:
    return run_foreground(
        argv, env=os.environ, timeout_s=timeout_s, stop=stop or threading.Event(), quiet_stdout=quiet_stdout,
        kill_leftovers=kill_leftovers, on_start=on_start, poll=poll, on_exit=on_exit, grace_s=grace_s,
    )  # fmt: skip


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("kill_leftovers", [True, False])
def test_the_exit_code_or_the_signal(*, kill_leftovers: bool) -> None:
    assert run("sh", "-c", "exit 7", kill_leftovers=kill_leftovers) == 7
    assert run("sh", "-c", "kill -9 $$", kill_leftovers=kill_leftovers) == -9
    assert run("true", timeout_s=None, kill_leftovers=kill_leftovers) == 0


def test_what_it_prints_goes_where_it_belongs(capfd: pytest.CaptureFixture[str]) -> None:
    run("sh", "-c", "echo out; echo err >&2", quiet_stdout=False)
    assert capfd.readouterr() == ("out\n", "err\n")
    run("sh", "-c", "echo out; echo err >&2", quiet_stdout=True)
    assert capfd.readouterr() == ("", "out\nerr\n")


def test_its_folder_and_environment_are_the_callers(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    env = {**os.environ, "WORD": "given"}
    argv = ["sh", "-c", f"pwd > {seen}; echo $WORD >> {seen}"]
    run_foreground(argv, env=env, timeout_s=9, stop=threading.Event(), quiet_stdout=True, kill_leftovers=True)
    assert seen.read_text().split() == [str(Path.cwd()), "given"]


def test_too_late_ends_it_with_all_that_it_started(tmp_path: Path) -> None:
    child = tmp_path / "child"
    with pytest.raises(Overdue, match=r"`sh` had not ended after 0.5 s"):
        run("sh", "-c", f"sleep 600 & echo $! > {child}; wait", timeout_s=0.5)
    until(lambda: not alive(int(child.read_text())), within=5)


def test_one_that_ignores_term_is_killed() -> None:
    pids: list[int] = []
    with pytest.raises(Overdue):
        run("sh", "-c", "trap '' TERM; while :; do sleep 1; done", timeout_s=0.3, on_start=pids.append, grace_s=0.3)
    assert not alive(pids[0])


def test_a_stop_ends_it() -> None:
    stop, pids = threading.Event(), list[int]()
    threading.Timer(0.3, stop.set).start()
    with pytest.raises(Stopped):
        run("sleep", "600", stop=stop, on_start=pids.append)
    assert not alive(pids[0])


def test_what_it_left_is_seen_and_then_killed(tmp_path: Path) -> None:
    child, seen = tmp_path / "child", list[bool]()
    code = run("sh", "-c", f"sleep 600 & echo $! > {child}", on_exit=lambda: seen.append(alive(int(child.read_text()))))
    assert (code, seen) == (0, [True])
    until(lambda: not alive(int(child.read_text())), within=5)


def test_a_deploys_command_may_leave_something_running(tmp_path: Path) -> None:
    child = tmp_path / "child"
    assert run("sh", "-c", f"sleep 600 & echo $! > {child}", kill_leftovers=False) == 0
    pid = int(child.read_text())
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)


def test_what_poll_raises_ends_it() -> None:
    pids: list[int] = []

    def poll() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run("sleep", "600", on_start=pids.append, poll=poll)
    assert not alive(pids[0])


def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/nowhere/at/all\n")
    script.chmod(0o755)
    with pytest.raises(EnvironmentProblem, match=r"cannot start .*script: No such file"):
        run(str(script))


def test_programs_are_found_as_the_shell_finds_them(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    assert find_program("sh", os.environ).endswith("/sh")
    assert find_program(sys.executable, {}) == sys.executable
    with pytest.raises(EnvironmentProblem, match="there is no program migarte"):
        find_program("migarte", os.environ)
    with pytest.raises(EnvironmentProblem, match="plain may not be executed"):
        find_program(str(plain), os.environ)


GATE = """
import os, signal, sys, threading
from sidecar.adapters.foreground import run_foreground
stop = threading.Event()
argv = ["sh", "-c", 'trap "echo got TERM; exit 9" TERM; trap "echo got INT; exit 8" INT; echo ready; while :; do sleep 0.05; done']
code = run_foreground(argv, env=os.environ, timeout_s=None, stop=stop, quiet_stdout=False, kill_leftovers=False)
print("code", code, "stop", stop.is_set())
"""


@pytest.mark.parametrize(("how", "word", "code"), [(signal.SIGTERM, "TERM", 9), (signal.SIGINT, "INT", 8)])
def test_a_deploys_command_gets_what_is_sent_to_us_and_is_waited_for(how: signal.Signals, word: str, code: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", GATE], stdout=subprocess.PIPE, text=True, cwd=ROOT, stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(how)
    out, _ = process.communicate(timeout=10)
    assert out == f"got {word}\ncode {code} stop True\n"
