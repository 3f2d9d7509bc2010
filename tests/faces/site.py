"""The HTTP application over hand-made evidence, asked in-process; every answer is held against /openapi.json."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import httpx
import jsonschema

from sidecar.adapters.ledger import codec
from sidecar.core.receipt import Kept
from sidecar.openapi import openapi
from sidecar.page_facts import Gatherer
from sidecar.trace import LagTrace
from sidecar.web import App
from sidecar.web_page import PageRoute
from tests.fakes import House
from tests.road_fakes import FakeProofs

DOCUMENT = openapi("1.2.3")
CREATED = {"content-type": "application/json"}


def render(accept: str) -> tuple[bytes, str]:
    return b"# " + accept.encode() + b"\n", "text/plain; version=0.0.4; charset=utf-8"


@dataclass
class FakePast:
    """Deploys that were."""

    decisions: list[dict[str, Any]] = field(default_factory=list)
    artifacts: list[Kept] = field(default_factory=list)
    error: Exception | None = None

    def newest(self, limit: int) -> list[dict[str, Any]]:
        if self.error is not None:
            raise self.error
        return self.decisions[:limit]

    def kept(self) -> list[Kept]:
        return self.artifacts


@dataclass
class Site:
    """The app over a house, and what it did to the daemon."""

    house: House = field(default_factory=House)
    proofs: FakeProofs = field(default_factory=FakeProofs)
    past: FakePast = field(default_factory=FakePast)
    alive: bool = True
    token: Any = None
    loopback: bool = True
    woken: int = 0
    counted: list[tuple[str, int]] = field(default_factory=list)

    def wake(self) -> None:
        self.woken += 1

    def __post_init__(self) -> None:
        self.trace = LagTrace(self.house.answers)

    @property
    def app(self) -> App:
        gatherer = Gatherer(self.house.answers, self.past, self.trace.curve, lambda: self.alive)
        return App(
            self.house.answers, self.house.desk, lambda: self.alive, render, self.token, self.wake,
            loopback=self.loopback, count=lambda route, code: self.counted.append((route, code)),
            proofs=self.proofs, page=PageRoute(self.house.answers, gatherer), facts=codec.facts_of_drill,
        )  # fmt: skip

    def ask(self, method: str, target: str, base: str = "http://127.0.0.1:9810", **more: Any) -> httpx.Response:
        """One request; what comes back is as `/openapi.json` says, on this route, method and status code."""

        async def go() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=base) as client:
                return await client.request(method, target, **more)

        response = asyncio.run(go())
        assert response.headers["cache-control"] == "no-store"
        hold(method, self.counted[-1][0], response)
        return response

    def get(self, target: str, **more: Any) -> httpx.Response:
        return self.ask("GET", target, **more)

    def post(self, body: Any = None, target: str = "/drills", **more: Any) -> httpx.Response:
        return self.ask("POST", target, content=json.dumps(body or {"db": "app"}), **{"headers": CREATED, **more})


def hold(method: str, template: str, response: httpx.Response) -> None:
    """Hold a response against the document."""
    if response.status_code in {404, 405} and (
        template == "other" or method.lower() not in DOCUMENT["paths"][template]
    ):
        schema: dict[str, Any] = {"$ref": "#/components/schemas/Error"}
    else:
        described = DOCUMENT["paths"][template][method.lower()]["responses"][str(response.status_code)]
        if method == "HEAD":
            assert response.content == b""
            return
        media = response.headers["content-type"].partition(";")[0]
        schema = described["content"][media]["schema"]
        if media != "application/json":
            return
    if method != "HEAD":
        checker = jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]})
        checker.validate(response.json())


def refusal(response: httpx.Response) -> tuple[int, str, str]:
    body = response.json()
    assert body["hint"]
    return response.status_code, body["error"], body["hint"]
