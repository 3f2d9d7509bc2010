"""Asks another daemon for its drills: one GET a database, which ends within a set time whatever comes back, and is never believed.

The other side may hang, send a byte now and then, flood, or speak nonsense: time and size are bounded here, and what is said is
judged in `core/elsewhere.py`.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from sidecar.adapters.daemon_client import Address, client, read_address
from sidecar.core.elsewhere import FORMAT, OFFERED_MAX, Offer
from sidecar.core.errors import SidecarError
from sidecar.core.model import Drill

TIMEOUT_S = 10.0  # from the first byte that is sent to the last that is read
BODY_MAX = 8 * 1024 * 1024  # bytes; twice what a daemon of ours sends
TOKEN_MAX = 4096  # bytes of the token's file
HINT = "is it a litestream-sidecar, as new as this one, that runs and can be reached from here?"


class UnknownThere(SidecarError):
    """The verifier answers, and does not know this database."""


@dataclass(frozen=True, slots=True)
class VerifierClient:
    """Satisfies `verifier.Elsewhere`. Safe to share between threads.

    Args:
        url: `http://`, `https://` or `unix:/`, without userinfo, as the settings take it.
        read_drill: a drill from the text that a ledger keeps. Raises ValueError.
        token_file: holds what is sent as bearer token; read at each question, so that it may be exchanged.
    """

    url: str
    read_drill: Callable[[str], Drill]
    token_file: Path | None = None
    timeout_s: float = TIMEOUT_S
    body_max: int = BODY_MAX
    _address: Address = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_address", read_address(self.url))

    @property
    def shown(self) -> str:
        """Host and port, or the socket's path: what drills taken over from there are labelled with."""
        if self._address.socket is not None:
            return self._address.shown
        return urlsplit(self._address.shown).netloc

    def ask(self, name: str) -> Offer:
        """What it offers of the database of that name.

        Raises:
            UnknownThere: it answers, and knows no such database.
            SidecarError: it does not answer in time, or not as it should; what it said is not in the sentence.
        """
        code, body = self._get(f"/evidence/{quote(name, safe='', errors='surrogateescape')}")
        if code == httpx.codes.NOT_FOUND and _document(body).keys() >= {"error", "hint"}:
            raise UnknownThere(
                f"the verifier at {self.shown} knows no database {name}",
                "give it the same litestream.yml; names come from the databases' file names",
            )
        if code != httpx.codes.OK:
            raise SidecarError(f"the verifier at {self.shown} answers with HTTP status {code}", HINT)
        return self._offer(_document(body))

    def _offer(self, document: Mapping[str, Any]) -> Offer:
        replica, drills = document.get("replica"), document.get("drills")
        if document.get("evidence_version") != FORMAT or not isinstance(replica, dict) or not isinstance(drills, list):
            raise SidecarError(f"the verifier at {self.shown} does not speak of evidence as we do", HINT)
        try:
            at = datetime.fromisoformat(document["checked_at"]).astimezone(UTC)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise SidecarError(f"the verifier at {self.shown} does not say what its clock says", HINT) from None
        read, unreadable = [], []
        for each in drills[:OFFERED_MAX]:
            try:
                read.append(self._drill(each))
            except (ValueError, OverflowError, RecursionError) as error:
                unreadable.append(f"a drill cannot be read whole ({type(error).__name__})")
        label = str(replica.get("label"))
        return Offer(str(replica.get("type")), label, tuple(read), at, tuple(dict.fromkeys(unreadable)))

    def _drill(self, facts: object) -> Drill:
        """Half of a character and a figure that is none are refused here: what is taken over is written to disk and shown."""
        text = json.dumps(facts, ensure_ascii=False, allow_nan=False)
        text.encode()
        return self.read_drill(text)

    def _get(self, path: str) -> tuple[int, bytes]:
        """Status and body. Raises SidecarError."""
        ends_s = time.monotonic() + self.timeout_s
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", **self._authorization()}
        body = bytearray()
        try:
            with client(self._address, timeout_s=self.timeout_s) as asking, _cut_at(self.timeout_s) as held:
                url, extensions = f"{self._address.base}{path}", {"trace": held.trace}
                with asking.stream("GET", url, headers=headers, extensions=extensions) as answer:
                    for piece in answer.iter_raw():
                        body += piece
                        if len(body) > self.body_max:
                            break
        except SidecarError as error:
            if time.monotonic() >= ends_s:  # whatever became of the connection then
                late = f"the verifier at {self.shown} had not ended its answer after {self.timeout_s:.0f} s"
                raise SidecarError(late, HINT) from error
            raise SidecarError(error.message, HINT) from error
        if len(body) > self.body_max:
            raise SidecarError(f"the verifier at {self.shown} sends more than {self.body_max} bytes", HINT)
        return answer.status_code, bytes(body)

    def _authorization(self) -> dict[str, str]:
        if self.token_file is None:
            return {}
        try:
            with self.token_file.open("rb") as file:
                token = file.read(TOKEN_MAX).decode("ascii").strip()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it holds more than ASCII"
            raise SidecarError(
                f"verifier.token-file {self.token_file} cannot be read: {why}", "make it readable"
            ) from None
        return {"Authorization": f"Bearer {token}"}


class _Held:
    """The socket of a question under way, so that a clock can end it: httpx bounds each single read, and headers have many."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Called by httpx at each step."""
        if event in {
            "connection.connect_tcp.complete",
            "connection.connect_unix_socket.complete",
            "connection.start_tls.complete",
        }:
            self._socket = info["return_value"].get_extra_info("socket")

    def cut(self) -> None:
        """End it: the reading thread is told that the connection is over. TLS's own farewell would wait for the other side."""
        if self._socket is not None:
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


@contextmanager
def _cut_at(timeout_s: float) -> Iterator[_Held]:
    held = _Held()
    timer = threading.Timer(timeout_s, held.cut)
    timer.daemon = True
    timer.start()
    try:
        yield held
    finally:
        timer.cancel()


def _document(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
