"""The real server held against the document that it serves: every route, method and parameter, with what fits and what does not.

Every check of schemathesis is on. The same requests each time, so that a red run can be had again.
"""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from sidecar.adapters.http_server import HttpServer
from tests.faces.site import DOCUMENT, Site

PHASES = ("examples", "coverage", "fuzzing", "stateful")
# Of each operation where values are drawn; that every limit of every parameter is met does not depend on it.
EXAMPLES = 3
# Not ready is 503, as documented; that it is one of the documented ones is another check.
CHECKS = {"not_a_server_error": {"expected-statuses": ["2xx", "4xx", 503]}}
# Of a duration the document says in words only that it is at most a hundred years: a JSON schema cannot add its parts up.
WORDS_ONLY = ("positive_data_acceptance", b"is longer than a hundred years")
EVERY_CHECK = {
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "negative_data_rejection", "positive_data_acceptance", "missing_required_header",
    "unsupported_method", "allow_header_conformance", "use_after_free", "ensure_resource_availability", "ignored_auth",
}  # fmt: skip


@dataclass
class Run:
    """What was asked and answered, and what of that is not as the document says."""

    failures: list[str] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)
    checks: Counter[str] = field(default_factory=Counter)
    answers: set[tuple[str, int]] = field(default_factory=set)

    def take(self, recorder: Any) -> None:
        for case, checks in recorder.checks.items():
            content = recorder.interactions[case].response.content
            for each in checks:
                self.checks[each.name] += 1
                wrong = each.failure_info
                if wrong is not None and not (each.name == WORDS_ONLY[0] and WORDS_ONLY[1] in content):
                    self.failed.add(each.name)
                    self.failures.append(f"{each.name}: {wrong.failure}\n{content!r:.300}\n{wrong.code_sample}")
        for case, exchange in recorder.interactions.items():
            if exchange.response is not None and case in recorder.cases:
                asked = recorder.cases[case].value
                self.answers.add((f"{asked.method} {asked.operation.path}", exchange.response.status_code))


def run(url: str, path: str | None = None, phases: tuple[str, ...] = PHASES) -> Run:
    """Ask everything at this address, or at one path of it."""
    config = SchemathesisConfig.from_dict({
        "seed": 1, "checks": CHECKS, "phases": {each: {"enabled": each in phases} for each in PHASES},
        "generation": {"max-examples": EXAMPLES, "deterministic": True, "database": "none"},
    })  # fmt: skip
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)
    made = Run()
    for event in from_schema(schema if path is None else schema.include(path=path)).execute():
        assert not isinstance(event, events.NonFatalError | events.FatalError), event
        if isinstance(event, events.ScenarioFinished):
            made.take(event.recorder)
    return made


def test_every_answer_is_as_the_document_says(site: Site, serve: Callable[..., HttpServer]) -> None:
    site.house.add("b/50% \u00e4")  # nothing is known of it: never ready
    made = run(serve().url)
    assert made.failures == [], "\n\n".join(made.failures)
    assert set(made.checks) >= EVERY_CHECK
    routes = {
        f"{method.upper()} {path}"
        for path, each in DOCUMENT["paths"].items()
        for method in each
        if method != "parameters"
    }
    asked = {route for route, _ in made.answers}
    assert asked >= routes - {"GET /openapi.json"}, "that one was asked to begin with"
    assert made.answers >= {
        ("GET /ready", 503), ("GET /ready", 400), ("GET /ready", 404), ("GET /databases/{name}", 200),
        ("POST /drills", 202), ("POST /drills", 404), ("POST /drills", 415), ("POST /receipts", 200), ("DELETE /ready", 405),
    }  # fmt: skip


async def answer(send: Any, status: int, body: bytes, **headers: str) -> None:
    """One answer in ASGI."""
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


NEVER = {"cache_control": "no-store"}
JSON = {**NEVER, "content_type": "application/json"}
LIES: tuple[tuple[str, str, int, bytes, dict[str, str]], ...] = (
    ("not_a_server_error", "/livez", 500, b'{"error": "", "hint": ""}', JSON),
    ("status_code_conformance", "/livez", 418, b"", JSON),
    ("content_type_conformance", "/livez", 200, b"ok", JSON),
    ("response_headers_conformance", "/livez", 200, b"ok", {"content_type": "text/plain"}),
    ("response_schema_conformance", "/ready", 200, b'{"ready": "yes"}', JSON),
    ("negative_data_rejection", "/receipts", 200, b'{"receipt": "", "state": ""}', JSON),
    ("positive_data_acceptance", "/receipts", 400, b'{"error": "", "hint": ""}', JSON),
    ("unsupported_method", "/livez", 200, b"ok", {**NEVER, "content_type": "text/plain"}),
)


@pytest.mark.parametrize(("check", "path", "status", "body", "headers"), LIES, ids=[each[0] for each in LIES])
def test_an_answer_that_is_not_is_seen(
    site: Site,
    serve: Callable[..., HttpServer],
    check: str,
    path: str,
    status: int,
    body: bytes,
    headers: dict[str, str],
) -> None:
    async def liar(scope: Any, receive: Any, send: Any) -> None:
        known = scope["method"].lower() in DOCUMENT["paths"][path] if scope["path"] == path else None
        if known == (check != "unsupported_method"):  # the first wrong answer ends it, so no other one is given
            await answer(send, status, body, **headers)
        else:
            await site.app(scope, receive, send)

    assert check in run(serve(asgi=liar).url, path, ("coverage",)).failed


POST = b"POST /drills HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNK = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
RAW: tuple[tuple[bytes, int], ...] = (
    (b"GET /databases/%ff%00 HTTP/1.1\r\nHost: x\r\n\r\n", 404), (b"GET /ready?db=%ff%00 HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    (b"GET //ready HTTP/1.1\r\nHost: x\r\n\r\n", 404), (b"GET http://x/ready HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    (b"GET /proofs/..%2f..%2fetc HTTP/1.1\r\nHost: x\r\n\r\n", 404), (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 404), (b"BREW /ready HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 404), (b"GET /ready?" + b"db=a&" * 3000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400), (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET /ready HTTP/1.1\r\n\r\n", 400), (b"GET /ready HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 90_000, 400),
    (b"GET /ready HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 200),
    (b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: " + b"a/b;q=\xff," * 100 + b"\r\n\r\n", 200),
    (POST + b"Content-Length: -1\r\n\r\n", 400), (POST + b"Content-Length: 99999999999\r\n\r\n", 413),
    (POST + b"Content-Length: 14\r\n\r\n" + b'{"db":"\\ud800"}'[:14], 400), (POST + b"Content-Length: 60000\r\n\r\n" + b"[" * 60_000, 400),
    (POST + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n", 400), (POST + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNK * 3, 413),
    (POST + b"Authorization: Bearer \xe9\r\nContent-Length: 12\r\n\r\n" + b'{"db":"app"}', 202),
)  # fmt: skip


def test_what_no_client_library_sends_is_answered_or_refused(serve: Callable[..., HttpServer]) -> None:
    port = int(serve().url.rpartition(":")[2])
    for sent, code in RAW:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as rude:
            with contextlib.suppress(ConnectionError):
                rude.sendall(sent)
            assert rude.recv(13).startswith(b"HTTP/1.1 %d" % code), (sent[:80], code)
