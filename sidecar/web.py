"""HTTP: an ASGI application over the answers and the drill desk. It reads state; all it can cause is a drill that was asked for.

No framework: a dozen routes, and its memory sits in every Pod. What may wait for a disk (history, a scrape of many databases)
runs in a worker thread, so that `/livez` and `/ready` never queue behind it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sidecar.answers import Answers
from sidecar.core.model import Database, Drill
from sidecar.core.people import tame
from sidecar.core.verdict import Document, text_lines
from sidecar.desk import DrillDesk
from sidecar.openapi import openapi
from sidecar.web_deploys import DeployRoutes, Proofs
from sidecar.web_guard import Guard
from sidecar.web_page import TEXT, PageRoute
from sidecar.web_requests import (
    ECHO_MAX,
    JSON,
    Gone,
    Receive,
    Refused,
    Request,
    Response,
    Send,
    as_json,
    read_body,
    ready_parameters,
    wanted_name,
)

RETRY_AFTER_S = "2"  # curl waits exactly as long as it is told, so a large value makes deploys slow
UNMATCHED = "other"  # the label of requests that match no route: a raw path would be a label without bound

log = logging.getLogger("sidecar.web")

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table: how it is called in metrics, and who answers which method."""

    template: str
    methods: Mapping[str, Handler]

    @property
    def allow(self) -> str:
        """The value of `Allow`."""
        return "GET, HEAD" if "GET" in self.methods else ", ".join(self.methods)


class App:
    """The ASGI application.

    Args:
        answers: the read side of the daemon.
        desk: takes drills that are asked for.
        alive: whether the daemon's loop turns; no I/O.
        render_metrics: from the `Accept` header to a body and its content type.
        token: the bearer token that a POST must carry, or how to read it; None where none is configured.
        wake: wakes the daemon's loop.
        loopback: whether only this machine can connect (a Unix socket counts).
        count: told the route's template and the status code of every answer.
        proofs: does the work of deploy commands.
        page: the page for people.
        facts: a drill whole, as it is kept.
    """

    def __init__(  # noqa: PLR0913 - one argument for each thing it talks to
        self,
        answers: Answers,
        desk: DrillDesk,
        alive: Callable[[], bool],
        render_metrics: Callable[[str], tuple[bytes, str]],
        token: Callable[[], str | None] | str | None,
        wake: Callable[[], None],
        *,
        loopback: bool,
        count: Callable[[str, int], None],
        proofs: Proofs,
        page: PageRoute,
        facts: Callable[[Drill], Document],
    ) -> None:
        self.answers, self.desk, self.alive, self.render_metrics = answers, desk, alive, render_metrics
        self.guard, self.wake, self.count = Guard(token, loopback), wake, count
        deploys = DeployRoutes(proofs, self.guard, self._named, wake)
        self._openapi, self._facts = b"", facts
        self._exact = {
            route.template: route
            for route in (
                Route("/", {"GET": page.get}),
                Route("/ready", {"GET": self._ready}),
                Route("/livez", {"GET": self._livez}),
                Route("/metrics", {"GET": self._metrics}),
                Route("/drills", {"POST": self._post_drill}),
                Route("/proofs", {"POST": deploys.post_proof}),
                Route("/receipts", {"POST": deploys.post_receipt}),
                Route("/decisions", {"POST": deploys.post_decision}),
                Route("/openapi.json", {"GET": self._describe}),
            )
        }
        self._prefixed = {
            "/databases/": Route("/databases/{name}", {"GET": self._database}),
            "/evidence/": Route("/evidence/{name}", {"GET": self._evidence}),
            "/drills/": Route("/drills/{id}", {"GET": self._drill}),
            "/proofs/": Route("/proofs/{id}", {"GET": deploys.get_proof}),
        }

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request; whatever happens, the client gets a JSON sentence and never a traceback."""
        if scope["type"] != "http":
            return
        method, route, argument = scope["method"], *self._route(scope["path"])
        try:
            response = await self._answer(route, method, argument, scope, receive)
        except Gone:
            return
        except Refused as refused:
            body = as_json({"error": refused.error, "hint": refused.hint})
            response = Response(refused.code, body, JSON, refused.headers)
        except Exception:
            log.exception("%s %s failed in a way that nobody foresaw", method, route.template if route else UNMATCHED)
            body = as_json({"error": "the sidecar failed to answer", "hint": "look at the sidecar's log"})
            response = Response(500, body)
        self.count(route.template if route else UNMATCHED, response.code)
        await _send(replace(response, body=b"") if method == "HEAD" else response, len(response.body), send)

    def _route(self, path: str) -> tuple[Route | None, str]:
        route = self._exact.get(path)
        if route is not None:
            return route, ""
        for prefix, each in self._prefixed.items():
            if path.startswith(prefix) and len(path) > len(prefix):
                return each, path.removeprefix(prefix)  # a database's name may hold slashes
        return None, ""

    @staticmethod
    async def _answer(
        route: Route | None, method: str, argument: str, scope: Mapping[str, Any], receive: Receive
    ) -> Response:
        if route is None:
            raise Refused(404, "there is nothing at this address", "GET / lists what there is")
        handler = route.methods.get("GET" if method == "HEAD" else method)
        if handler is None:
            raise Refused(405, f"{method[:ECHO_MAX]} is not allowed here", f"use {route.allow}", Allow=route.allow)
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key, text = name.decode("latin-1"), value.decode("latin-1")
            headers[key] = f"{headers[key]},{text}" if key in headers else text
        server = scope.get("server")
        over_unix = server is not None and server[1] is None
        return await handler(Request(scope["query_string"].decode("latin-1"), headers, argument, over_unix, receive))

    async def _livez(self, _: Request) -> Response:
        alive = self.alive()
        return Response(200 if alive else 503, b"ok\n" if alive else b"the daemon's loop does not turn\n", TEXT)

    async def _metrics(self, request: Request) -> Response:
        body, content_type = await asyncio.to_thread(self.render_metrics, request.headers.get("accept", ""))
        return Response(200, body, content_type)

    async def _describe(self, _: Request) -> Response:
        self._openapi = self._openapi or as_json(openapi(self.answers.version))
        return Response(200, self._openapi)

    async def _ready(self, request: Request) -> Response:
        asked = ready_parameters(request.query)
        databases = [self._named(name) for name in dict.fromkeys(asked.names)] or None
        text = None
        if asked.max_age is not None or asked.max_lag is not None:
            fleet = self.answers.verdict(databases, max_age=asked.max_age, max_lag=asked.max_lag)
        elif asked.text:
            fleet = self.answers.told(databases)
        else:
            fleet, text = self.answers.ready_text(databases)
        headers = {"Retry-After": RETRY_AFTER_S} if fleet.retryable else {}
        code = 200 if fleet.ready else 503
        if text is not None:
            return Response(code, f"{text}\n".encode("ascii"), JSON, headers)
        if not asked.text:
            return Response(code, as_json(self.answers.ready(fleet)), JSON, headers)
        lines = (tame(" ".join(line.split())) for line in text_lines(fleet))  # a name or a message may hold anything
        return Response(code, "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace"), TEXT, headers)

    async def _database(self, request: Request) -> Response:
        database = self._named(request.argument)
        return Response(200, as_json(await asyncio.to_thread(self.answers.database, database)))

    async def _evidence(self, request: Request) -> Response:
        database = self._named(request.argument)
        return Response(200, as_json(await asyncio.to_thread(self.answers.evidence, database, self._facts)))

    async def _drill(self, request: Request) -> Response:
        document = await asyncio.to_thread(self.answers.drill, request.argument)
        if document is None:
            raise Refused(404, "no drill has this id", "`litestream-sidecar history` lists past drills")
        return Response(200, as_json(document))

    async def _post_drill(self, request: Request) -> Response:
        self.guard.check(request)
        self.guard.json_only(request)
        database = self._named(wanted_name(await read_body(request)))
        ticket = self.desk.request(database.path)
        self.wake()
        body = as_json({"id": ticket.id, "db": database.name, "state": ticket.state})
        return Response(202, body, JSON, {"Location": f"/drills/{ticket.id}"})

    def _named(self, name: str) -> Database:
        fleet = self.answers.keeper.fleet
        database = fleet.named(name)
        if database is None:
            count = len(fleet.databases)
            known = f"{count} database{' is' if count == 1 else 's are'} known"
            raise Refused(
                404, f"no database is called {json.dumps(name[:ECHO_MAX])}", f"{known}; GET /ready names them"
            )
        return database


async def _send(response: Response, length: int, send: Send) -> None:
    headers = {
        "Content-Type": response.content_type,
        "Content-Length": str(length),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        **(response.headers or {}),
    }
    raw = [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": response.code, "headers": raw})
    await send({"type": "http.response.body", "body": response.body})
