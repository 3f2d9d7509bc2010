"""The state directory: private, ours, and held by one daemon at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from sidecar.core.errors import EnvironmentProblem

LOCK_PATIENCE_S = 2.0  # a command in the foreground holds the lock for moments, a daemon for good
_ROOT = 0


def prepare(folder: Path) -> None:
    """Make the directory (0700) where it is missing; raise EnvironmentProblem unless it is ours to write.

    A directory of root's is accepted when we may write to it: that is how Kubernetes hands out a volume (`fsGroup`).
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat().st_uid
    except OSError as error:
        raise _unusable(folder, error) from error
    me = os.geteuid()
    if me != _ROOT and owner not in {me, _ROOT}:
        raise EnvironmentProblem(
            f"the state directory {folder} belongs to user {owner}, and this is user {me}",
            f"run the sidecar as user {owner}, or give it a directory of its own with --state-dir",
        )


def new_file(path: Path) -> None:
    """Make an empty file (0600) where there is none, owned by the directory's owner even when root makes it."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        if os.geteuid() == _ROOT:  # `sudo … verify` must not lock the daemon's own user out
            parent = path.parent.stat()
            os.chown(path, parent.st_uid, parent.st_gid)
    except FileExistsError:
        return
    except OSError as error:
        raise _unusable(path.parent, error) from error


def _unusable(folder: Path, error: OSError) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"the state directory {folder} cannot be written: {(error.strerror or str(error)).lower()}",
        "give the sidecar a directory it may write, with --state-dir or by the directory's owner and mode",
    )


class Lock:
    """`<state-dir>/lock`: held by the daemon for as long as it lives; it names the holder's pid."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / "lock"
        self._file: IO[str] | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._file is not None

    def take(self) -> None:
        """Hold the lock until `release`. Raises EnvironmentProblem that names the pid of the holder."""
        patient = Retrying(
            stop=stop_after_delay(LOCK_PATIENCE_S),
            wait=wait_fixed(0.1),
            retry=retry_if_exception_type(BlockingIOError),
            reraise=True,
        )
        try:
            patient(self._flock)
        except BlockingIOError as error:
            pid = self._path.read_text().strip() or "unknown"
            raise EnvironmentProblem(
                f"another daemon (pid {pid}) already uses the state directory {self._folder}",
                "stop that daemon, or give this one a directory of its own with --state-dir",
            ) from error

    def try_take(self) -> bool:
        """Hold the lock if nobody else does."""
        if self.held:
            return True
        try:
            self._flock()
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Let go."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _flock(self) -> None:
        new_file(self._path)
        try:
            file = self._path.open("r+")
        except OSError as error:
            raise _unusable(self._folder, error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        except BlockingIOError:
            file.close()
            raise
        except OSError:  # a full disk: the lock holds without the pid
            pass
        self._file = file


def process_token(pid: int) -> str | None:
    """Boot, pid and start time of a live process: equal only for the same process. None where it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return f"{boot} {pid} {stat.rpartition(')')[2].split()[19]}"  # field 22 of proc(5): start time in clock ticks


def own_token() -> str:
    """The token of this process."""
    return process_token(os.getpid()) or f"? {os.getpid()} ?"


def still_runs(token: str) -> bool:
    """Whether the very process of that token is alive."""
    _, _, rest = token.partition(" ")
    pid = rest.partition(" ")[0]
    return pid.isdigit() and process_token(int(pid)) == token
