"""Litestream's control socket: what the running process says of itself and of every database, by GET alone.

The same socket can stop and unregister databases, so nothing but GET is ever sent through it. Three requests serve any number
of databases: /info, /debug/sync-status (takes no lock, so it answers while a store hangs) and /list. /list waits
for each database's lock, for ever when a store hangs, and every such request stays behind in Litestream as a waiting
goroutine. So it is skipped while any database has been at one sync for long, and for a growing while after it did not answer;
only `last_sync_at` is missing meanwhile.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sidecar.core.model import Claim, ClaimSource, Database
from sidecar.core.ports import Clock

if TYPE_CHECKING:
    import httpx

ANSWER_S = 2.0  # for everything but /list
LIST_S = 0.8
LIST_PAUSE_S, LIST_PAUSE_MAX_S = 30.0, 600.0
SYNC_LONG_S = 1.0  # a sync that lasts this long holds the lock that /list waits for
SYNC_STUCK_S = 60.0  # from here on a sync that does not end is told as what keeps Litestream from syncing
RETRY_AFTER_S = 0.2  # Litestream removes and makes its socket anew when it restarts
BODY_MAX = 32 * 1024 * 1024  # 5,000 databases are 2 MB

_CONNECT = {
    errno.ENOENT: (
        "there is no control socket at {path}: Litestream is stopped, or was started without `socket:` `enabled: true`"
    ),
    errno.ECONNREFUSED: "nobody listens on the control socket {path}: Litestream was killed or has stopped",
    errno.EACCES: (
        "permission denied on the control socket {path}: run the sidecar as Litestream's user, "
        "or set `socket.permissions` in litestream.yml"
    ),
}


class _NoAnswer(Exception):
    """One sentence: why there is no answer."""


@dataclass(slots=True)
class _Known:
    """What an earlier answer said of one database, by the same Litestream process."""

    txid: int | None = None
    sync_error: str | None = None
    last_sync_at: datetime | None = None


class LitestreamSocket:
    """Asks one Litestream through its control socket. For one thread at a time; never raises."""

    def __init__(self, path: str, clock: Clock, *, sync_stuck_s: float = SYNC_STUCK_S) -> None:
        self.path, self._clock, self._sync_stuck_s = path, clock, sync_stuck_s
        self._client: httpx.Client | None = None
        self._known: dict[str, _Known] = {}
        self._pid: int | None = None
        self._list_not_before, self._list_pause_s = 0.0, LIST_PAUSE_S

    def read(self, databases: tuple[Database, ...]) -> dict[str, Claim]:
        """A claim for every database, within `ANSWER_S + LIST_S` and a retry. `error` says why Litestream did not answer."""
        base = Claim(self._clock.now(), ClaimSource.SOCKET)
        deadline = self._clock.monotonic() + ANSWER_S
        try:
            self._knock()
            base = self._info(base, deadline)
            said = self._statuses(databases, deadline)
        except _NoAnswer as problem:
            down = replace(base, up=False, error=str(problem))
            return {database.path: down for database in databases}
        synced = self._list(said)
        self._known = {path: known for path, known in self._known.items() if path in said}
        theirs = _their_paths(databases, said)
        return {
            database.path: self._claim(theirs[database.path], base, said, synced) if database.path in theirs else base
            for database in databases
        }

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
        self._client = None

    def _info(self, base: Claim, deadline: float) -> Claim:
        info = self._get("/info", deadline)
        if info is None:  # before 0.5.8
            return replace(base, up=True)
        pid = info.get("pid")
        if pid != self._pid:
            self._pid, self._known = pid, {}
            self._list_not_before, self._list_pause_s = 0.0, LIST_PAUSE_S
        return replace(base, up=True, version=info.get("version"), pid=pid, started_at=_time(info.get("started_at")))

    def _statuses(self, databases: tuple[Database, ...], deadline: float) -> Mapping[str, Mapping[str, Any]]:
        """Litestream's path to what it says of that database's local side."""
        answer = self._get("/debug/sync-status", deadline)
        if answer is not None:
            return _by_path(answer)
        said: dict[str, Mapping[str, Any]] = {}
        for database in databases:  # before 0.5.12 each database is asked for, 404 means unknown
            found = self._get(f"/txid?path={quote(database.path)}", deadline)
            if found is not None:
                said[database.path] = found
        return said

    def _list(self, said: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
        now = self._clock.monotonic()
        held = any(each.get("active") and each.get("elapsed_seconds", 0) > SYNC_LONG_S for each in said.values())
        if held or now < self._list_not_before:
            return {}
        try:
            answer = self._get("/list", now + LIST_S)
        except _NoAnswer:
            self._list_not_before = now + self._list_pause_s
            self._list_pause_s = min(self._list_pause_s * 2, LIST_PAUSE_MAX_S)
            return {}
        self._list_pause_s = LIST_PAUSE_S
        return _by_path(answer) if answer is not None else {}

    def _claim(
        self,
        theirs: str,
        base: Claim,
        said: Mapping[str, Mapping[str, Any]],
        synced: Mapping[str, Mapping[str, Any]],
    ) -> Claim:
        status, listed = said[theirs], synced.get(theirs, {})
        known = self._known.setdefault(theirs, _Known())
        if not status.get("active"):  # while a sync runs, its txid may be one ahead and its error is not known yet
            known.sync_error = status.get("error")
            known.txid = status.get("txid", known.txid) if known.sync_error is None else known.txid
        if "last_sync_at" in listed:
            known.last_sync_at = _time(listed["last_sync_at"])
        sync_error = known.sync_error
        if status.get("active") and status.get("elapsed_seconds", 0) > self._sync_stuck_s:
            sync_error = (
                f"one sync has been running for {status['elapsed_seconds']:.0f} s (phase {status.get('phase')})"
            )
        if listed.get("status") == "stopped" and sync_error is None:
            sync_error = "replication of this database is stopped (`litestream start` resumes it)"
        return replace(
            base, managed=True, txid=known.txid, sync_error=sync_error, last_sync_at=known.last_sync_at
        )  # fmt: skip

    def _knock(self) -> None:
        """Connect and hang up: httpcore (1.0.9) leaks its socket when connecting fails, and buries why it failed.

        Knocks once more after a moment, because Litestream may be restarting. Raises _NoAnswer with one sentence.
        """
        from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed  # noqa: PLC0415 - 4 MB

        gone = retry_if_exception_type((FileNotFoundError, ConnectionRefusedError))
        try:
            Retrying(stop=stop_after_attempt(2), wait=wait_fixed(RETRY_AFTER_S), retry=gone, reraise=True)(
                self._connect
            )
        except TimeoutError as error:
            raise _NoAnswer(self._silent) from error
        except OSError as error:
            known = _CONNECT.get(error.errno or 0, "the control socket {path} cannot be used: {why}")
            raise _NoAnswer(known.format(path=self.path, why=error.strerror or error)) from error

    def _connect(self) -> None:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(ANSWER_S)
            probe.connect(self.path)

    @property
    def _silent(self) -> str:
        return f"the control socket {self.path} accepts connections and does not answer within {ANSWER_S:g} s"

    def _get(self, target: str, deadline: float) -> dict[str, Any] | None:
        """The JSON object of one GET; None on 404. Raises _NoAnswer with one sentence."""
        import httpx  # noqa: PLC0415 - 16 MB, which a set-up without a socket need not pay

        if self._client is None:
            # No TLS on a Unix socket, no proxy of the environment in between, and no connection kept that a restart breaks.
            transport = httpx.HTTPTransport(
                uds=self.path, verify=False, limits=httpx.Limits(max_keepalive_connections=0)
            )
            self._client = httpx.Client(transport=transport, trust_env=False)
        left = deadline - self._clock.monotonic()
        silent = _NoAnswer(
            f"the control socket {self.path} accepts connections and does not answer within {ANSWER_S:g} s"
        )
        if left <= 0:
            raise silent
        try:
            with self._client.stream("GET", f"http://litestream{target}", timeout=left) as response:
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    if self._clock.monotonic() > deadline or len(body) > BODY_MAX:
                        raise _NoAnswer(self._silent)
        except httpx.TimeoutException as error:
            raise _NoAnswer(self._silent) from error
        except (httpx.HTTPError, OSError) as error:
            why = str(error) or type(error).__name__
            raise _NoAnswer(f"the control socket {self.path} broke off before it had answered: {why}") from error
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        try:
            answer = json.loads(body) if response.is_success else None
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise _NoAnswer(
                f"what answers on {self.path} is no Litestream: GET {target.partition('?')[0]} gave status {response.status_code}"
            )
        return answer


def _their_paths(databases: tuple[Database, ...], said: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Our path to the path under which Litestream knows the file: the same, or another way to it through symbolic links."""
    theirs = {database.path: database.path for database in databases if database.path in said}
    if len(theirs) < len(databases):
        real = {os.path.realpath(each): each for each in said}
        others = {database.path: real.get(os.path.realpath(database.path)) for database in databases}
        theirs |= {ours: known for ours, known in others.items() if known is not None and ours not in theirs}
    return theirs


def _by_path(answer: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    databases = answer.get("databases")
    return {str(each["path"]): each for each in databases or () if isinstance(each, dict) and "path" in each}


def _time(text: Any) -> datetime | None:
    """Go's RFC 3339 with up to nine digits of fraction; Python keeps six."""
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
