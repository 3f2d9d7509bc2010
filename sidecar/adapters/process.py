"""Runs one child process to its end: deadline, stop event, process group, capped output.

The traps it is here for:
- A child's children may outlive it and hold its pipes open: we read until the child has exited, never until end-of-file.
- A signal to a reaped pid may hit a stranger: the group is signalled only while its leader is running or a zombie.
- A child that is not reaped stays a zombie: every way out of `run` waits for it.
- Descriptors may run out at any instant: what is needed to watch a child is had before there is one.
- A full pipe blocks its writer and, if we wait for the writer, us: standard input, output and error share one loop.
- Waiting in slices makes short commands slow: the child's exit wakes the loop (pidfd); slices only bound how late a stop
  or a deadline is noticed.
- The kernel counts in a child's `ru_maxrss` what its parent held when it began, which may be far more than the child ever takes:
  how much memory a child took is read from /proc while it runs (`VmHWM`), at worst 100 ms before its end.
- `preexec_fn` is not safe beside threads: the session comes from `start_new_session`, the niceness is set from outside,
  on the whole group, because on Linux a niceness belongs to a thread and Go starts several.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import IO, Self

from sidecar.core.errors import OPEN_FILES_HINT, EnvironmentProblem, Overdue, SidecarError, Stopped

SLICE_S = 0.1  # how late a stop is noticed
SLICE_S_MIN = 0.002  # where no pidfd wakes us, the first slices are this short
GRACE_S = 5.0  # between TERM and KILL
STDOUT_BYTES_MAX = 8 * 1024 * 1024
STDERR_BYTES_MAX = 64 * 1024  # the tail that is kept
CHUNK_BYTES = 64 * 1024
_HINTS = {
    errno.EMFILE: OPEN_FILES_HINT,
    errno.EAGAIN: "raise the limit of processes (TasksMax= in its unit, pids.max of the container)",
    errno.ENOMEM: "give the machine or the container more memory",
}


@dataclass(frozen=True, slots=True)
class Finished:
    """A child that ended by itself. `returncode` is negative when a signal ended it; `stderr` may be a tail."""

    returncode: int
    stdout: bytes
    stderr: bytes
    seconds: float
    memory_bytes: int | None = None  # of this child at its peak, where it was weighed and the system says


class Flooded(SidecarError):
    """The child wrote more to standard output than anybody will read, and was killed."""


def run(  # noqa: PLR0913 - one keyword per thing a caller may decide; a parameter object would only rename them
    argv: Sequence[str],
    *,
    timeout_s: float,
    stop: Event,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
    nice: int = 0,
    poll: Callable[[], None] | None = None,
    stdout_bytes_max: int = STDOUT_BYTES_MAX,
    weigh: bool = False,
) -> Finished:
    """Run `argv` in a session of its own and wait for it; whatever it started is killed when it ends.

    `poll` is called about every 100 ms while the child runs; what it raises ends the child and is passed on.
    With `weigh` the most memory that the child itself took is told, in bytes (Linux only).

    Raises:
        EnvironmentProblem: the program cannot be started.
        Overdue: `timeout_s` seconds passed. The group got TERM, and KILL 5 s later.
        Stopped: `stop` was set. Same.
        Flooded: more than `stdout_bytes_max` bytes on standard output. Same.
    """
    began = time.monotonic()
    name = " ".join([Path(argv[0]).name, *argv[1:2]])
    selector, process = _start(argv, env, cwd, piped=stdin is not None)
    with _Child(process, selector, stdin or b"", stdout_bytes_max) as child:
        if nice:
            with contextlib.suppress(OSError):  # it may have ended already; niceness is a courtesy
                os.setpriority(os.PRIO_PGRP, child.pid, nice)
        next_poll = began + SLICE_S
        while True:
            now = time.monotonic()
            if stop.is_set():
                raise Stopped(f"told to stop while `{name}` ran")
            if now >= began + timeout_s:
                raise Overdue(f"`{name}` had not ended after {timeout_s:.0f} s")
            slice_s = min(child.weigh(), max(next_poll - now, SLICE_S_MIN)) if weigh else SLICE_S
            if child.turn(min(slice_s, began + timeout_s - now)):
                break
            if child.flooded:
                raise Flooded(f"`{name}` printed more than {stdout_bytes_max} bytes and was killed")
            if now >= next_poll:
                next_poll = now + SLICE_S
                if poll is not None:
                    poll()
    if child.flooded:
        raise Flooded(f"`{name}` printed more than {stdout_bytes_max} bytes")
    return Finished(
        child.returncode, bytes(child.stdout), child.stderr_tail(), time.monotonic() - began, child.memory_bytes
    )


def _start(
    argv: Sequence[str], env: Mapping[str, str] | None, cwd: Path | str | None, *, piped: bool
) -> tuple[selectors.BaseSelector, subprocess.Popen[bytes]]:
    selector: selectors.BaseSelector | None = None
    try:
        selector = selectors.DefaultSelector()
        return selector, subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
        )
    except OSError as error:
        if selector is not None:
            selector.close()
        if cwd is not None and not Path(cwd).is_dir():
            raise EnvironmentProblem(f"the folder {cwd} is gone", "check scratch-dir") from error
        hint = _HINTS.get(error.errno or 0, "check that the program exists and may be executed")
        raise EnvironmentProblem(f"cannot start {argv[0]}: {error.strerror}", hint) from error


class _Child:
    """A running child and its pipes. Leaving the block ends it if it runs, kills what it left behind, and reaps it."""

    def __init__(
        self, process: subprocess.Popen[bytes], selector: selectors.BaseSelector, stdin: bytes, stdout_bytes_max: int
    ) -> None:
        self.pid = process.pid
        self.stdout, self.flooded = bytearray(), False
        self.memory_bytes: int | None = None
        self._process, self._stdin, self._stdout_bytes_max = process, memoryview(stdin), stdout_bytes_max
        self._stderr, self._stderr_cut = bytearray(), 0
        self._slice_s, self._discard = SLICE_S_MIN, False
        self._weigh_s = SLICE_S_MIN
        self._selector = selector
        self._pidfd = _pidfd(process.pid)
        if self._pidfd is not None:
            self._selector.register(self._pidfd, selectors.EVENT_READ, self._nothing)
        for stream, mask, what in (
            (process.stdin, selectors.EVENT_WRITE, self._feed),
            (process.stdout, selectors.EVENT_READ, self._take_stdout),
            (process.stderr, selectors.EVENT_READ, self._take_stderr),
        ):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
                self._selector.register(stream, mask, what)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None:
                self._end()
            self._signal(signal.SIGKILL)  # the group's leader is a zombie now: the number is still ours
            with contextlib.suppress(
                subprocess.TimeoutExpired
            ):  # KILL waits for disks and dead file servers; we do not
                self._process.wait(GRACE_S)
            if kind is None:
                self._drain()
        finally:
            self._selector.close()
            if self._pidfd is not None:
                os.close(self._pidfd)
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):  # unread input of a dead child
                        stream.close()

    @property
    def returncode(self) -> int:
        code = self._process.returncode
        return -signal.SIGKILL if code is None else code

    def stderr_tail(self) -> bytes:
        """Standard error, or its end; what was cut is said."""
        cut = self._stderr_cut + max(len(self._stderr) - STDERR_BYTES_MAX, 0)
        said = f"[{cut} bytes cut]\n".encode() if cut else b""
        return said + bytes(self._stderr[-STDERR_BYTES_MAX:])

    def turn(self, wait_s: float) -> bool:
        """Move what can be moved, waiting up to `wait_s`; True once the child has exited (it is not reaped yet)."""
        if self._pidfd is None:
            wait_s, self._slice_s = min(wait_s, self._slice_s), min(self._slice_s * 2, SLICE_S)
        for key, _ in self._selector.select(wait_s):
            key.data(key.fileobj)
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def weigh(self) -> float:
        """Read how much memory it has taken so far; seconds until that is worth reading again, few for one that has just begun."""
        self.memory_bytes = _memory_peak(self.pid) or self.memory_bytes
        self._weigh_s = min(self._weigh_s * 2, SLICE_S)
        return self._weigh_s

    def _end(self) -> None:
        """TERM to the group, KILL after the grace; output is thrown away meanwhile so that nobody blocks on it."""
        self._discard = True
        self._signal(signal.SIGTERM)
        end = time.monotonic() + GRACE_S
        while not self.turn(SLICE_S) and time.monotonic() < end:
            pass

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS refuses on zombies
            os.killpg(self.pid, number)

    def _nothing(self, _stream: IO[bytes]) -> None:
        """The child's exit: `turn` asks for it."""

    def _feed(self, stream: IO[bytes]) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._stdin = self._stdin[os.write(stream.fileno(), self._stdin[:CHUNK_BYTES]) :]
            if self._stdin:
                return
        self._selector.unregister(stream)
        stream.close()

    def _read(self, stream: IO[bytes]) -> bytes:
        try:
            chunk = os.read(stream.fileno(), CHUNK_BYTES)
        except BlockingIOError:
            return b""
        if not chunk:
            self._selector.unregister(stream)
        return b"" if self._discard else chunk

    def _take_stdout(self, stream: IO[bytes]) -> None:
        if not self.flooded:
            self.stdout += self._read(stream)
            self.flooded = len(self.stdout) > self._stdout_bytes_max
        elif self._discard:
            self._read(stream)

    def _take_stderr(self, stream: IO[bytes]) -> None:
        self._stderr += self._read(stream)
        if len(self._stderr) > 2 * STDERR_BYTES_MAX:
            self._stderr_cut += len(self._stderr) - STDERR_BYTES_MAX
            del self._stderr[:-STDERR_BYTES_MAX]

    def _drain(self) -> None:
        """What the child wrote before it exited; a stranger that still writes to the pipe gets no more than the cap."""
        rounds = (self._stdout_bytes_max + STDERR_BYTES_MAX) // CHUNK_BYTES + 2
        for _ in range(rounds):
            ready = [
                key for key, _ in self._selector.select(0) if key.fileobj not in {self._pidfd, self._process.stdin}
            ]
            if not ready or self.flooded:
                return
            for key in ready:
                key.data(key.fileobj)


def _memory_peak(pid: int) -> int | None:
    """The most that it has had in memory so far, in bytes (proc(5), `VmHWM`); None once it has ended, and where there is no /proc."""
    try:
        with Path(f"/proc/{pid}/status").open("rb") as status:
            return next((int(line.split()[1]) * 1024 for line in status if line.startswith(b"VmHWM:")), None)
    except (OSError, ValueError):
        return None


def _pidfd(pid: int) -> int | None:
    """A descriptor that becomes readable when the child exits; None on systems without it."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None
