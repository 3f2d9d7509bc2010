"""One Litestream command: the configuration through standard input, clean surroundings, errors translated.

Both generations of Litestream are run through here. The configuration of one database goes in through `/dev/stdin`, so
that no secret lies on disk or stands on a command line. `AWS_CA_BUNDLE` is taken out of the environment, because with it
Litestream cannot open any S3 replica.

A refused endpoint would cost 112 s of Litestream's retries, a silent one never ends: where the configuration names an
endpoint, a connection of our own, tried while the command takes long, tells the one from the other.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event

import yaml

from sidecar.adapters import process
from sidecar.core.errors import EnvironmentProblem, LitestreamError, Overdue
from sidecar.core.litestream_errors import MISSING, UnknownFailure, explain, reports_error
from sidecar.core.model import Database, Replica
from sidecar.core.redact import is_secret_key

CONNECT_S = 2.0  # a connection not accepted by then counts as silence
PROBE_AFTER_S = (1.0, 2.0)  # refused at both instants: no server there, and none starting
LISTING_BYTES_MAX = 32 * 1024 * 1024  # a month of 30-second files is about 20 MB of JSON
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
OUT_OF_MEMORY_HINT = (
    "most likely the machine or the container ran out of memory (`dmesg` says what the kernel killed): give it more"
)
LEFTOVERS = ("-wal", "-shm", "-journal", "-txid")


@dataclass(frozen=True, slots=True)
class Ask:
    """One command: `litestream VERB FLAGS... PATH`. `busy` says whether bytes are flowing, so that patience pays."""

    database: Database
    verb: str
    flags: tuple[str, ...]
    timeout_s: float
    stop: Event
    cwd: Path | None = None
    poll: Callable[[], None] | None = None
    busy: Callable[[], bool] | None = None
    weigh: bool = False  # say how much memory it took


@dataclass(frozen=True, slots=True)
class Runner:
    """Litestream's binary and its surroundings; safe to share between threads."""

    binary: str
    env: Mapping[str, str] = field(repr=False)
    nice: int = 0

    def run(self, ask: Ask) -> str:
        """Standard output of a command that succeeded. Raises as `weighed`."""
        return self._run(ask)[0]

    def weighed(self, ask: Ask) -> int | None:
        """Bytes of memory that a command took at its peak, where it succeeded and the system says.

        Raises:
            LitestreamError: it failed, or did not end in time (`timeout`, or `unreachable` where nobody listens).
            Stopped: `ask.stop` was set.
        """
        return self._run(replace(ask, weigh=True))[1]

    def _run(self, ask: Ask) -> tuple[str, int | None]:
        argv = [self.binary, ask.verb, "-config", "/dev/stdin", "-no-expand-env", *ask.flags, ask.database.path]
        env = {key: value for key, value in self.env.items() if key != "AWS_CA_BUNDLE"} | {"LOG_LEVEL": "error"}
        watch = _Watch(ask, proxied=any(env.get(each) or env.get(each.upper()) for each in PROXIES))
        try:
            done = process.run(
                argv,
                timeout_s=ask.timeout_s,
                stop=ask.stop,
                stdin=ask.database.replica.config.encode(),
                env=env,
                cwd=ask.cwd,
                nice=self.nice,
                poll=watch,
                stdout_bytes_max=LISTING_BYTES_MAX,
                weigh=ask.weigh,
            )
        except Overdue as error:
            refused = watch.refused()
            if refused is not None:
                raise _unreachable(ask.database.replica, refused) from error
            raise LitestreamError(
                "timeout",
                f"`litestream {ask.verb}` had not ended after {ask.timeout_s:.0f} s",
                "the store accepts connections and does not answer, or answers slowly: check it, or allow more time",
            ) from error
        except (EnvironmentProblem, process.Flooded) as error:
            raise UnknownFailure(error.message, error.hint) from error
        stdout, stderr = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        if done.returncode < 0:
            raise UnknownFailure(
                f"`litestream {ask.verb}` was ended by signal {-done.returncode}",
                OUT_OF_MEMORY_HINT if done.returncode == -signal.SIGKILL else "find out who sent it (`dmesg`)",
            )
        if done.returncode != 0 or reports_error(stdout):
            said = stderr if stderr.strip() and not reports_error(stdout) else stdout
            raise explain(said, secrets=secrets_of(ask.database.replica.config))
        return stdout, done.memory_bytes


class _Refused(Exception):
    """Nobody listens at the endpoint; unwinds the running command."""


class _Watch:
    """Called while a command runs: passes the call on, and tries the endpoint when the command takes long."""

    def __init__(self, ask: Ask, *, proxied: bool) -> None:
        self._ask, self._began = ask, time.monotonic()
        self._endpoint = None if proxied else ask.database.replica.endpoint
        self._tries: list[_Try] = []

    def __call__(self) -> None:
        if self._ask.poll is not None:
            self._ask.poll()
        if self._endpoint is None or (self._ask.busy is not None and self._ask.busy()):
            return
        spent = time.monotonic() - self._began
        if len(self._tries) < len(PROBE_AFTER_S) and spent >= PROBE_AFTER_S[len(self._tries)]:
            self._tries.append(_Try(self._endpoint))
        refusals = [each.refusal for each in self._tries]
        if len(refusals) == len(PROBE_AFTER_S) and all(refusals):
            raise _unreachable(self._ask.database.replica, str(refusals[-1]))

    def refused(self) -> str | None:
        """Try once more, now that the deadline has passed: why there is no connection, None where there is one."""
        if self._endpoint is None:
            return None
        last = _Try(self._endpoint)
        last.thread.join(CONNECT_S)
        return last.refusal


class _Try:
    """One connection tried in a thread of its own, because looking a name up can block for long."""

    def __init__(self, endpoint: tuple[str, int]) -> None:
        self.refusal: str | None = None
        self._endpoint = endpoint
        self.thread = threading.Thread(target=self._connect, name="endpoint", daemon=True)
        self.thread.start()

    def _connect(self) -> None:
        try:
            socket.create_connection(self._endpoint, CONNECT_S).close()
        except TimeoutError:
            return  # silence: the command's deadline decides
        except OSError as error:
            self.refusal = error.strerror or str(error)


def _unreachable(replica: Replica, why: str) -> LitestreamError:
    host, port = replica.endpoint or ("", 0)
    return LitestreamError(
        "unreachable",
        f"nobody answers at {host}:{port} ({why})",
        "check that the replica's host is up and can be reached from here",
    )


def secrets_of(config: str) -> tuple[str, ...]:
    """The literal secrets in a configuration, to be masked wherever Litestream repeats them."""
    try:
        return tuple(_secrets(yaml.safe_load(config)))
    except yaml.YAMLError:
        return ()


def _secrets(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if isinstance(value, str | int) and is_secret_key(str(key)):
                yield str(value)
            else:
                yield from _secrets(value)
    elif isinstance(node, list):
        for each in node:
            yield from _secrets(each)


def clear(target: Path) -> None:
    """Remove what must not lie beside a restore's target: SQLite would replay a stale WAL into the fresh copy.

    Raises:
        UnknownFailure: the target itself exists; then nothing is removed, since these files may be its own.
    """
    if os.path.lexists(target):
        raise UnknownFailure(f"{target} exists already", "restore to a path where nothing stands")
    tidy(target)


def tidy(target: Path) -> None:
    """Remove what Litestream or SQLite left beside a restored file (0.3: `.tmp-shm`, `.tmp-wal`)."""
    for each in target.parent.iterdir() if target.parent.is_dir() else ():
        beside = each.name.removeprefix(target.name) if each.name.startswith(target.name) else ""
        if beside in LEFTOVERS or beside.startswith(".tmp"):
            each.unlink(missing_ok=True)


def raced_or(error: LitestreamError, files: object, plan_again: Callable[[], object]) -> LitestreamError:
    """What it means that a file of the plan is missing: `raced` when a fresh plan reads other files (retention took
    the old ones away after merging them), else the loss itself, in the words of the fresh plan where that fails too.
    """  # noqa: D205 - one thought
    try:
        fresh = plan_again()
    except LitestreamError as again:
        return again if again.reason in MISSING else error
    if fresh != files:
        return LitestreamError(
            "raced", "files of the restore plan were replaced while it was carried out", "plan again"
        )
    return error
