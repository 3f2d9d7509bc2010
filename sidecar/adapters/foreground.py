"""Runs a person's command in the foreground: their terminal, their folder, their standard input.

Two ways, by `kill_leftovers`. A rehearsal's command stands in a session of its own, so that it can be ended with all that it
started; a terminal's Ctrl-C then reaches only us, and we end it. A deploy's command stands in our process group, as if no one
stood between it and the terminal: Ctrl-C reaches it from the kernel, what else is sent to us is passed on, and nothing but
the command itself decides when it is over, because a migration that is killed half-way is the worst of all ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Event

from sidecar.core.errors import EnvironmentProblem, Overdue, Stopped

SLICE_S = 0.1  # how late a stop or a deadline is noticed
POLL_S = 0.005  # between two calls of `poll`
GRACE_S = 5.0  # between TERM and KILL
STDERR = 2
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def find_program(name: str, env: Mapping[str, str]) -> str:
    """The file that would be run for this name, so that a misspelt one is refused before any work is done.

    Raises:
        EnvironmentProblem: there is none, or it may not be executed.
    """
    found = shutil.which(name, path=env.get("PATH", os.defpath))
    if found is not None:
        return found
    if Path(name).is_file() and os.sep in name:
        raise EnvironmentProblem(f"{name} may not be executed", f"chmod +x {name}, or name its interpreter before it")
    raise EnvironmentProblem(f"there is no program {name}", "check its spelling and $PATH, or give its full path")


def run_foreground(  # noqa: PLR0913 - one keyword per thing a caller may decide, as in `process.run`
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    timeout_s: float | None,
    stop: Event,
    quiet_stdout: bool,
    kill_leftovers: bool,
    on_start: Callable[[int], None] | None = None,
    poll: Callable[[], None] | None = None,
    on_exit: Callable[[], None] | None = None,
    grace_s: float = GRACE_S,
) -> int:
    """Run `argv` and wait for it; its exit code, negative when a signal ended it.

    Args:
        argv: the command.
        env: all of its environment.
        timeout_s: None: as long as it takes.
        stop: ends the command (`kill_leftovers`), or is set by what is passed on to it.
        quiet_stdout: what it prints goes to stderr, because stdout is promised to one document.
        kill_leftovers: in a session of its own, killed when the command ends.
        on_start: told the command's process id.
        poll: called every few milliseconds while it runs; what it raises ends the command and is passed on.
        grace_s: between TERM and KILL.
        on_exit: called when it has ended by itself, before what it left running is killed.

    Raises:
        EnvironmentProblem: the program cannot be started.
        Overdue: `timeout_s` seconds passed. It got TERM, and KILL 5 s later.
        Stopped: `stop` was set, with `kill_leftovers` only. Same.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with _passing_on(stop, active=not kill_leftovers) as begun:
        process = _begin(argv, env, quiet_stdout=quiet_stdout, new_session=kill_leftovers)
        begun(process)
        with _ended(process, grace_s, group=kill_leftovers):
            if on_start is not None:
                on_start(process.pid)
            end = None if timeout_s is None else time.monotonic() + timeout_s
            slice_s = POLL_S if poll is not None else SLICE_S
            while not _exited(process, slice_s):
                if stop.is_set() and kill_leftovers:
                    raise Stopped(f"told to stop while `{argv[0]}` ran")
                if end is not None and time.monotonic() >= end:
                    raise Overdue(f"`{argv[0]}` had not ended after {timeout_s:g} s, and was killed")
                if poll is not None:
                    poll()
            if on_exit is not None:
                on_exit()
        return process.returncode


def _begin(
    argv: Sequence[str], env: Mapping[str, str], *, quiet_stdout: bool, new_session: bool
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(argv), env=dict(env), stdout=STDERR if quiet_stdout else None, start_new_session=new_session
        )
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot start {argv[0]}: {error.strerror}", "check that the program exists and may be executed"
        ) from error


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes], grace_s: float, *, group: bool) -> Iterator[None]:
    """Whatever happens in the block: the command has ended and is reaped, and with `group` all that it left in its session."""

    def send(number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if group:  # its leader runs or is a zombie: the number is still ours
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)

    try:
        yield
    except BaseException:
        send(signal.SIGTERM)
        end = time.monotonic() + grace_s
        while not _exited(process, SLICE_S) and time.monotonic() < end:
            pass
        send(signal.SIGKILL)
        raise
    finally:
        if group:
            send(signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def _passing_on(stop: Event, *, active: bool) -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """What is sent to us reaches the command once: Ctrl-C in a terminal is the kernel's to deliver to the whole group.

    Yields what is to be told of the process as soon as there is one; what was sent before that reaches it then.
    """
    running: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def begun(process: subprocess.Popen[bytes]) -> None:
        running.append(process)
        for number in early:
            process.send_signal(number)

    def pass_on(number: int, _frame: object) -> None:
        stop.set()
        if not running:
            early.append(number)
        elif number != signal.SIGINT or not _in_terminals_foreground():
            running[0].send_signal(number)

    if not active:
        yield begun
        return
    before = {each: signal.getsignal(each) for each in _PASSED_ON}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, pass_on)
    try:
        yield begun
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_terminals_foreground() -> bool:
    for descriptor in (0, 1, 2):
        with contextlib.suppress(OSError):
            return os.tcgetpgrp(descriptor) == os.getpgrp()
    return False


def _exited(process: subprocess.Popen[bytes], wait_s: float) -> bool:
    """Wait up to `wait_s` for the end; the process is not reaped, so that its number stays its own."""
    try:
        handle = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # no Linux
        select.select([], [], [], wait_s)
    else:
        try:
            select.select([handle], [], [], wait_s)
        finally:
            os.close(handle)
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
