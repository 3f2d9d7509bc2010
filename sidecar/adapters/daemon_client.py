"""How a running daemon is asked over HTTP or its Unix socket: its address read, what goes wrong in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from sidecar.core.errors import SidecarError

TIMEOUT_S = 10.0
HINT = "start it with `litestream-sidecar run`, or say where it listens with --url"


class BadAddress(SidecarError):
    """What was given as the daemon's address is none: a usage error."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Address:
    """Where a daemon can be asked; `shown` holds no userinfo."""

    base: str
    shown: str
    socket: str | None  # the path of a Unix socket


def read_address(text: str) -> Address:
    """`http://host:port`, `host:port` or `unix:/path`. Raises BadAddress."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        return Address("http://sidecar", f"unix:{path}", path)
    base = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(base)
        port = parts.port
    except ValueError as error:
        raise BadAddress(f"the daemon's address cannot be read: {error}", "write http://127.0.0.1:9810") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise BadAddress(
            "the daemon's address must begin with http://, https:// or unix:", "write http://127.0.0.1:9810"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    shown = f"{parts.scheme}://{host}" + (f":{port}" if port else "")
    return Address(base.rstrip("/").removesuffix("/ready"), shown, None)


@contextmanager
def client(address: Address, *, timeout_s: float = TIMEOUT_S) -> Iterator[httpx.Client]:
    """A client for this daemon; what httpx raises in the block becomes a sentence.

    Raises:
        SidecarError: nobody answers there.
        BadAddress: that is no address.
    """
    # `verify` costs the loading of a certificate store, which only https looks at
    transport = httpx.HTTPTransport(uds=address.socket, verify=address.base.startswith("https:"))
    try:
        with httpx.Client(transport=transport, timeout=timeout_s) as made:
            yield made
    except httpx.InvalidURL as error:
        raise BadAddress(f"{address.shown} is no address of a daemon: {error}", HINT) from error
    except httpx.HTTPError as error:
        raise SidecarError(f"no daemon answers at {address.shown}: {_why(error, timeout_s)}", HINT) from error


def stranger(address: Address) -> SidecarError:
    """What answers there does not speak as we do."""
    return SidecarError(f"what answers at {address.shown} is no litestream-sidecar", HINT)


def _why(error: httpx.HTTPError, timeout_s: float) -> str:
    """The reason without Python's number before it."""
    if isinstance(error, httpx.TimeoutException):
        return f"it gave no answer within {timeout_s:.0f} s"
    text = str(error) or type(error).__name__
    return text.partition("] ")[2] if text.startswith("[Errno") else text
