"""The service manager that started us, as sd_notify(3) speaks to it: datagrams to the socket named by NOTIFY_SOCKET.

Without that variable every call does nothing. It is taken out of the environment, so that no child of ours can speak in our
name. Nothing here ever waits: a datagram that finds no room is reported as not sent, and the caller says it again next time.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import MutableMapping
from typing import Self

from sidecar.core.ports import Clock
from sidecar.core.redact import redact

STATUS_CHARS_MAX = 400
WATCHDOG_SHARE = 3  # signs of life within the time that the service manager waits for one
USEC = 1_000_000

log = logging.getLogger("sidecar.service_manager")


class ServiceManager:
    """Tells it how we fare. For one thread at a time.

    Args:
        address: a path, or `@name` in the abstract namespace; empty: nobody listens.
        clock: monotonic seconds, the kernel's own.
        watchdog_s: seconds within which it wants a sign of life; None where it wants none.
    """

    def __init__(self, address: str, clock: Clock, watchdog_s: float | None = None) -> None:
        self._address, self._clock, self._watchdog_s = address, clock, watchdog_s
        self._beat_at: float | None = None
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    @classmethod
    def adopted(cls, env: MutableMapping[str, str], clock: Clock) -> Self:
        """The one that this environment names; what it says about it is taken out."""
        address = env.pop("NOTIFY_SOCKET", "")
        usec, pid = env.pop("WATCHDOG_USEC", ""), env.pop("WATCHDOG_PID", "")
        if address and not address.startswith(("/", "@")):
            log.warning("NOTIFY_SOCKET names no Unix socket: the service manager is told nothing")
            address = ""
        wanted = usec.isdigit() and int(usec) > 0 and pid in {"", str(os.getpid())}
        return cls(address, clock, int(usec) / USEC if wanted else None)

    @property
    def listens(self) -> bool:
        """Whether there is one to be told."""
        return self._socket is not None

    def ready(self, status: str) -> bool:
        """The service is up, or has taken its configuration over; whether it could be told."""
        return self._send("READY=1", _status(status))

    def status(self, text: str) -> bool:
        """One sentence for `systemctl status`; whether it could be told."""
        return self._send(_status(text))

    def reloading(self) -> bool:
        """The configuration is being read again; `ready` has to follow. Whether it could be told."""
        return self._send("RELOADING=1", f"MONOTONIC_USEC={int(self._clock.monotonic() * USEC)}")

    def stopping(self) -> bool:
        """The service is about to end; whether it could be told."""
        return self._send("STOPPING=1", _status("stopping"))

    def beat(self) -> None:
        """A sign of life, sent only as often as one is needed."""
        now = self._clock.monotonic()
        if self._watchdog_s is None:
            return
        if (self._beat_at is None or now - self._beat_at >= self._watchdog_s / WATCHDOG_SHARE) and self._send(
            "WATCHDOG=1"
        ):
            self._beat_at = now

    def close(self) -> None:
        """Close the socket; from here on nobody is told."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _send(self, *lines: str) -> bool:
        if self._socket is None:
            return False
        to = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            self._socket.sendto("\n".join(lines).encode(errors="replace"), to)
        except OSError as error:  # it is being replaced, or does not keep up
            log.debug("the service manager could not be told: %s", error.strerror)
            return False
        return True


def _status(text: str) -> str:
    """One line without secrets: whatever Litestream or a store said may stand in a verdict."""
    line = " ".join(redact(text).split())
    return f"STATUS={line if len(line) <= STATUS_CHARS_MAX else line[: STATUS_CHARS_MAX - 1] + '…'}"
