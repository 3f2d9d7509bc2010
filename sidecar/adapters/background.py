"""Keeps a program running beside us until the block ends: the demo's app and its Litestream."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sidecar.core.errors import EnvironmentProblem

GRACE_S = 10.0
TAIL_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Companion:
    """A program that runs beside us, and where it logs to."""

    process: subprocess.Popen[bytes]
    log: Path

    def last_words(self) -> str | None:
        """None while it runs; after that its exit code and the last line of its log."""
        code = self.process.poll()
        if code is None:
            return None
        lines = self.log.read_bytes()[-TAIL_BYTES:].decode(errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"{how}, and said last: {said}"


@contextlib.contextmanager
def running(argv: Sequence[str], log: Path, env: Mapping[str, str]) -> Iterator[Companion]:
    """Start `argv` in a process group of its own, output to `log`; TERM, then KILL, at the end of the block.

    Raises:
        EnvironmentProblem: the program cannot be started.
    """
    with log.open("ab") as out:
        try:
            process = subprocess.Popen(
                list(argv), stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=dict(env), start_new_session=True
            )
        except OSError as error:
            raise EnvironmentProblem(f"{argv[0]} cannot be started: {error.strerror}", f"look at {argv[0]}") from error
    try:
        yield Companion(process, log)
    finally:
        if process.poll() is None:  # not reaped, so the number of its group is still ours
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
