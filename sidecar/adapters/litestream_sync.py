"""Asks a running Litestream to capture and upload everything committed so far: `POST /sync`, the one thing that is sent besides GET.

Its answer is a hint and never a proof (on an idle database it says "no change" without asking the store), so whoever asks looks
at the replica afterwards. Litestream does not keep to the timeout that it is given while it waits for a lock, hence our own.
"""

from __future__ import annotations

import os
from threading import Event, Thread

from sidecar.core.errors import LitestreamError, Stopped
from sidecar.core.model import Database
from sidecar.core.redact import redact

GRACE_S = 2.0  # beyond the timeout that Litestream is given
POLL_S = 0.1
SAID_MAX = 300  # characters of what Litestream says


class LitestreamSync:
    """Satisfies `ports.Syncer` over the control socket; safe to share between threads."""

    def __init__(self, path: str, *, grace_s: float = GRACE_S) -> None:
        self._path, self._grace_s = path, grace_s

    def sync(self, database: Database, *, timeout_s: float, stop: Event) -> None:
        """Returns when Litestream says that it is done.

        Raises:
            LitestreamError: `unreachable` (no socket, no answer in time) or what Litestream says keeps it from syncing.
            Stopped: `stop` was set; Litestream goes on.
        """
        failed: list[LitestreamError | None] = []

        def ask() -> None:
            failed.append(self._ask(database, timeout_s))

        asking = Thread(target=ask, name="sync", daemon=True)  # a request that hangs must not hold up a stop
        asking.start()
        while asking.is_alive():
            asking.join(POLL_S)
            if stop.is_set():
                raise Stopped("told to stop while Litestream synced")
        if not failed:
            raise LitestreamError("unreachable", "asking Litestream to sync failed", "look at the sidecar's log")
        if failed[0] is not None:
            raise failed[0]

    def _ask(self, database: Database, timeout_s: float) -> LitestreamError | None:
        import httpx  # noqa: PLC0415 - 16 MB, which a set-up without a socket need not pay

        transport = httpx.HTTPTransport(uds=self._path, verify=False)
        try:
            with httpx.Client(transport=transport, trust_env=False, timeout=timeout_s + self._grace_s) as client:
                body = {"path": database.path, "wait": True, "timeout": max(round(timeout_s), 1)}
                answer = client.post("http://litestream/sync", json=body)
                if answer.status_code == httpx.codes.NOT_FOUND:  # it may know the file by another way through links
                    body |= {"path": os.path.realpath(database.path)}
                    answer = client.post("http://litestream/sync", json=body)
        except httpx.TimeoutException:
            return LitestreamError("timeout", f"Litestream had not synced after {timeout_s:.0f} s", "look at its log")
        except httpx.HTTPError as error:
            why = str(error).partition("] ")[2] or str(error) or type(error).__name__
            return LitestreamError(
                "unreachable", f"Litestream's control socket cannot be used: {why}", "start Litestream"
            )
        if answer.is_success:
            return None
        return LitestreamError(
            "stalled", f"Litestream cannot sync: {_said(answer.text, answer.status_code)}", "look at Litestream's log"
        )


def _said(text: str, status: int) -> str:
    """Litestream's own words; they may quote a URL."""
    return redact(" ".join(text.split()))[:SAID_MAX] or f"status {status}"
