"""Asks a running daemon over HTTP or its Unix socket, as `status` and deploy scripts do."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import httpx

from sidecar.core.errors import SidecarError

TIMEOUT_S = 10.0
HINT = "start it with `litestream-sidecar run`, or say where it listens with --url"
_ENTRY = {"name", "ready", "position", "snapshot", "last_drill", "schema_version", "checks"}


class BadAddress(SidecarError):
    """What was given as the daemon's address is none: a usage error."""

    exit_code = 2


def fetch_ready(address: str) -> dict[str, Any]:
    """GET /ready of the daemon at `http://host:port`, `host:port` or `unix:/path`; its document, whatever it answers.

    Raises:
        SidecarError: nobody answers there, or what answers is no sidecar.
        BadAddress: that is no address.
    """
    base, shown, socket = _place(address)
    # `verify` costs the loading of a certificate store, which only https looks at
    transport = httpx.HTTPTransport(uds=socket, verify=base.startswith("https:"))
    try:
        with httpx.Client(transport=transport, timeout=TIMEOUT_S) as client:
            document = client.get(f"{base}/ready").json()
    except httpx.InvalidURL as error:
        raise BadAddress(f"{shown} is no address of a daemon: {error}", HINT) from error
    except httpx.HTTPError as error:
        raise SidecarError(f"no daemon answers at {shown}: {_why(error)}", HINT) from error
    except ValueError as error:
        raise SidecarError(f"what answers at {shown} is no litestream-sidecar", HINT) from error
    if not _is_ready_document(document):
        raise SidecarError(f"what answers at {shown} is no litestream-sidecar", HINT)
    return dict(document)


def _place(address: str) -> tuple[str, str, str | None]:
    """The base URL, how it may be shown (no userinfo), and the socket's path where it is one."""
    if address.startswith("unix:"):
        path = address.removeprefix("unix:").removeprefix("//")
        return "http://sidecar", f"unix:{path}", path
    base = address if "://" in address else f"http://{address}"
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
    return base.rstrip("/").removesuffix("/ready"), shown, None


def _why(error: httpx.HTTPError) -> str:
    """The reason without Python's number before it."""
    if isinstance(error, httpx.TimeoutException):
        return f"it gave no answer within {TIMEOUT_S:.0f} s"
    text = str(error) or type(error).__name__
    return text.partition("] ")[2] if text.startswith("[Errno") else text


def _is_ready_document(document: object) -> bool:
    if not isinstance(document, dict) or not {"ready", "reason", "databases"} <= document.keys():
        return False
    entries = document["databases"]
    return isinstance(entries, list) and all(isinstance(each, dict) and each.keys() >= _ENTRY for each in entries)
