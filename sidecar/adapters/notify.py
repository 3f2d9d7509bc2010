"""Telling others: pings about drills (as healthchecks.io takes them) to the heartbeat URL, messages to the webhook URL.

Both URLs are secrets (whoever knows them can speak for us), so no log line holds more than their host. One worker sends; callers
never wait, and when the other side is slow the oldest unsent message is dropped rather than memory spent.
"""

from __future__ import annotations

import json
import logging
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Condition, Event, Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit
from uuid import NAMESPACE_OID, uuid5

from sidecar.core.redact import redact

if TYPE_CHECKING:
    import httpx
    from tenacity import RetryCallState

TIMEOUT_S = 10.0
ATTEMPTS = 3
WAIT_S, WAIT_MAX_S = 1.0, 10.0
QUEUE_MAX = 20
SAID_MAX = 1000  # characters of a ping's body
CLOSE_S = 2.0  # what a shutdown waits for a message under way

log = logging.getLogger("sidecar.notify")


class _NotTakenError(Exception):
    """The other side did not take the message; one sentence without the URL."""

    def __init__(self, message: str, *, again: bool) -> None:
        super().__init__(message)
        self.again = again


@dataclass(frozen=True, slots=True, repr=False)
class _Message:
    what: str  # `heartbeat` or `webhook`
    url: str
    body: bytes
    content_type: str

    @property
    def host(self) -> str:
        try:
            return urlsplit(self.url).hostname or "a URL without host"
        except ValueError:
            return "a malformed URL"


class Notifier:
    """Satisfies `news.Teller`. Both calls return at once and never raise; None as URL: nothing is sent.

    Args:
        heartbeat_url: gets POSTs; `/start`, `/fail` and `/log` are put behind its path, `rid` names the drill, `{db}` in it is
            the database, so that each can have a check of its own.
        webhook_url: gets POSTs of JSON.
        wait_s: seconds before the first retry; doubled for the next.
    """

    def __init__(self, heartbeat_url: str | None, webhook_url: str | None, *, wait_s: float = WAIT_S) -> None:
        self._heartbeat_url, self._webhook_url, self._wait_s = heartbeat_url, webhook_url, wait_s
        self._queue: deque[_Message] = deque()
        self._news = Condition()
        self._stop = Event()
        self._worker: Thread | None = None
        self._counts: Counter[tuple[str, str]] = Counter()

    def ping(self, word: str, db: str, run: str, said: str) -> None:
        """`start`, `success`, `fail` or `log` of the drill `run`; `said` is for the log over there."""
        if self._heartbeat_url is not None:
            url = _ping_url(self._heartbeat_url, word, db, run)
            self._put(
                _Message(
                    "heartbeat", url, redact(said)[:SAID_MAX].encode(errors="replace"), "text/plain; charset=utf-8"
                )
            )

    def post(self, document: Mapping[str, Any]) -> None:
        """A message, as JSON."""
        if self._webhook_url is not None:
            self._put(_Message("webhook", self._webhook_url, json.dumps(document).encode(), "application/json"))

    def counts(self) -> Mapping[tuple[str, str], int]:
        """(to, result) to messages: to `heartbeat` or `webhook`; `sent`, `failed` or `dropped`."""
        with self._news:
            known = [to for to, url in (("heartbeat", self._heartbeat_url), ("webhook", self._webhook_url)) if url]
            return {(to, result): self._counts[to, result] for to in known for result in ("sent", "failed", "dropped")}

    def close(self) -> None:
        """Stop sending; what waits is dropped, what is under way gets a moment."""
        with self._news:
            self._stop.set()
            self._news.notify()
        if self._worker is not None:
            self._worker.join(CLOSE_S)

    def _put(self, message: _Message) -> None:
        with self._news:
            if self._stop.is_set():
                return
            if len(self._queue) >= QUEUE_MAX:
                dropped = self._queue.popleft()
                self._counts[dropped.what, "dropped"] += 1
                log.warning("%s to %s dropped: %d messages wait already", dropped.what, dropped.host, QUEUE_MAX)
            self._queue.append(message)
            if self._worker is None:
                self._worker = Thread(target=self._work, name="notify", daemon=True)
                self._worker.start()
            self._news.notify()

    def _work(self) -> None:
        import httpx  # noqa: PLC0415 - 16 MB, which nobody pays who notifies nobody

        # httpx logs every URL at level INFO, httpcore at DEBUG; these are secrets.
        for chatty in ("httpx", "httpcore"):
            logging.getLogger(chatty).setLevel(logging.ERROR)
        with httpx.Client(timeout=TIMEOUT_S) as client:
            while (message := self._next()) is not None:
                try:
                    self._send(client, message)
                except _NotTakenError as problem:
                    if not self._stop.is_set():
                        self._failed(message, str(problem))
                except Exception as problem:  # noqa: BLE001 - a message must never end the worker, nor its URL reach a traceback
                    self._failed(message, type(problem).__name__)
                else:
                    self._count(message, "sent")

    def _failed(self, message: _Message, why: str) -> None:
        self._count(message, "failed")
        log.warning("%s to %s failed: %s", message.what, message.host, why)

    def _count(self, message: _Message, result: str) -> None:
        with self._news:
            self._counts[message.what, result] += 1

    def _next(self) -> _Message | None:
        with self._news:
            self._news.wait_for(lambda: self._queue or self._stop.is_set())
            return None if self._stop.is_set() else self._queue.popleft()

    def _send(self, client: httpx.Client, message: _Message) -> None:
        from tenacity import (  # noqa: PLC0415 - 4 MB, as above
            Retrying,
            retry_if_exception,
            sleep_using_event,
            stop_after_attempt,
            wait_exponential,
        )

        def give_up(state: RetryCallState) -> bool:
            return self._stop.is_set() or stop_after_attempt(ATTEMPTS)(state)

        Retrying(
            stop=give_up,
            wait=wait_exponential(multiplier=self._wait_s, max=WAIT_MAX_S),
            sleep=sleep_using_event(self._stop),
            retry=retry_if_exception(lambda error: isinstance(error, _NotTakenError) and error.again),
            reraise=True,
        )(_send_once, client, message)


def _ping_url(url: str, word: str, db: str, run: str) -> str:
    """The address for one ping; one that cannot be taken apart is used as it is, and fails when it is sent."""
    url = url.replace("{db}", quote(db, safe="")) if "{db}" in url else url
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    path = parts.path if word == "success" else f"{parts.path.rstrip('/')}/{word}"
    query = "&".join([*([parts.query] if parts.query else []), f"rid={uuid5(NAMESPACE_OID, run)}"])
    return urlunsplit((parts.scheme, parts.netloc, path, query, ""))


def _send_once(client: httpx.Client, message: _Message) -> None:
    import httpx  # noqa: PLC0415 - loaded by then

    headers = {"Content-Type": message.content_type}
    try:
        # Streamed, so that an endless answer is never read.
        with client.stream("POST", message.url, content=message.body, headers=headers) as response:
            status = response.status_code
    except httpx.TimeoutException:
        raise _NotTakenError(f"no answer within {TIMEOUT_S:g} s", again=True) from None
    except httpx.ConnectError as error:
        raise _NotTakenError(f"cannot connect ({_cause(error)})", again=True) from None
    except httpx.TransportError as error:
        raise _NotTakenError(type(error).__name__, again=True) from None
    if not 200 <= status < 300:  # noqa: PLR2004 - the range of success
        again = status >= 500 or status == httpx.codes.TOO_MANY_REQUESTS  # noqa: PLR2004 - the server's own fault
        raise _NotTakenError(f"it answered with status {status}", again=again)


def _cause(error: BaseException) -> str:
    """The system's own word for it; httpx's text could name the URL."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror.lower()
        seen = seen.__cause__ or seen.__context__
    return type(error).__name__
