"""Requests as web.py is given them, read strictly: what a client meant to say must not silently mean something else."""

from __future__ import annotations

import difflib
import ipaddress
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

from sidecar.core.units import duration

BODY_MAX = 64 * 1024
LENGTH_DIGITS_MAX = 10
PARAMETERS_MAX = 1000
ECHO_MAX = 64  # characters of what a client sent, in our sentences
READY_PARAMETERS = ("db", "max_age", "max_lag", "format")
BODY_EXAMPLE = '{"db": "app"}'
JSON = "application/json"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Refused(Exception):
    """A request that is answered with an error: its status, one sentence, what to do."""

    def __init__(self, code: int, error: str, hint: str, **headers: str) -> None:
        super().__init__(error)
        self.code, self.error, self.hint = code, error, hint
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Gone(Exception):
    """The client went away before it had sent its request."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a route is given. Header names are lower case."""

    query: str
    headers: Mapping[str, str]
    argument: str  # what stands after the route's prefix, percent-decoded
    over_unix: bool
    receive: Receive


@dataclass(frozen=True, slots=True)
class Response:
    """What a route answers."""

    code: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] | None = None


def as_json(document: object) -> bytes:
    """One line of JSON; ASCII, so that a path in no known encoding cannot break it."""
    return (json.dumps(document) + "\n").encode("ascii")


@dataclass(frozen=True, slots=True)
class ReadyParameters:
    """What `/ready` was asked."""

    names: tuple[str, ...]
    max_age: timedelta | None
    max_lag: timedelta | None
    text: bool


def ready_parameters(query: str) -> ReadyParameters:
    """Read the query of `/ready`. A misspelt limit must not pass for no limit, so everything unknown is refused."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=PARAMETERS_MAX)
    except ValueError:
        raise Refused(400, f"more than {PARAMETERS_MAX} parameters", "ask about fewer databases at once") from None
    given: dict[str, list[str]] = {name: [] for name in READY_PARAMETERS}
    for name, value in pairs:
        if name not in given:
            near = difflib.get_close_matches(name, READY_PARAMETERS, n=1, cutoff=0.5)
            meant = f"did you mean `{near[0]}`? " if near else ""
            known = ", ".join(READY_PARAMETERS)
            raise Refused(400, f"unknown parameter {json.dumps(name[:ECHO_MAX])}", f"{meant}known are {known}")
        if given[name] and name != "db":
            raise Refused(400, f"`{name}` is given more than once", "give it once")
        given[name].append(value)
    form = (given["format"] or ["json"])[0]
    if form not in {"json", "text"}:
        raise Refused(400, f"format: {json.dumps(form[:ECHO_MAX])} is unknown", "write `format=text` or `format=json`")
    return ReadyParameters(tuple(given["db"]), _limit("max_age", given), _limit("max_lag", given), form == "text")


def _limit(name: str, given: Mapping[str, list[str]]) -> timedelta | None:
    for value in given[name]:
        try:
            return duration(value)
        except ValueError as error:
            raise Refused(400, f"{name}: {error}", f"for example `{name}=10m`") from None
    return None


def is_local_name(host: str) -> bool:
    """Whether a `Host` header names this machine: `localhost` or a loopback address, with or without a port."""
    name = host.strip().lower()
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    try:
        return name == "localhost" or name.endswith(".localhost") or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


async def read_body(request: Request) -> bytes:
    """The request's body, at most BODY_MAX bytes. Raises Refused, Gone."""
    said = request.headers.get("content-length", "0")
    if len(said) > LENGTH_DIGITS_MAX or (said.isdecimal() and int(said) > BODY_MAX):
        raise _too_large()
    body, more = bytearray(), True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Gone
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > BODY_MAX:
            raise _too_large()
    return bytes(body)


def _too_large() -> Refused:
    return Refused(413, f"the body is larger than {BODY_MAX} bytes", f"send a body like {BODY_EXAMPLE}")


def wanted_name(body: bytes) -> str:
    """The database that `POST /drills` is about; what else the body says is ignored. Raises Refused."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON", f"send a body like {BODY_EXAMPLE}") from None
    name = document.get("db") if isinstance(document, dict) else None
    if not isinstance(name, str):
        raise Refused(400, "the body names no database", f"send a body like {BODY_EXAMPLE}")
    return name
