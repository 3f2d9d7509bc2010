"""The routes behind `gate --url` and `postcheck --url`: the daemon walks the road, keeps the artifact and the book."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Protocol

from sidecar.core.decision import Decision, decision_of
from sidecar.core.errors import EnvironmentProblem, ReceiptError
from sidecar.core.fields import Fields
from sidecar.core.model import Database
from sidecar.core.proof import Demand, demand_of, proof_document
from sidecar.core.receipt import id_of
from sidecar.deploy.proof_desk import DeskFull, ProofTicket
from sidecar.web_guard import Guard
from sidecar.web_requests import JSON, Refused, Request, Response, as_json, read_body

BODY = "the body"
HINT = "`litestream-sidecar gate --url` sends these requests; /openapi.json describes them"


class Proofs(Protocol):
    """What does the work."""

    def request(self, demand: Demand) -> ProofTicket: ...  # noqa: D102 - see proof_desk.py
    def find(self, proof_id: str) -> ProofTicket | None: ...  # noqa: D102 - see proof_desk.py
    def take(self, receipt_id: str) -> None: ...  # noqa: D102 - see ports.Road
    def decided(self, decision: Decision) -> None: ...  # noqa: D102 - see ports.Road


class DeployRoutes:
    """Handlers; what may wait for a disk runs in a worker thread."""

    def __init__(
        self, proofs: Proofs, guard: Guard, named: Callable[[str], Database], wake: Callable[[], None]
    ) -> None:
        self._proofs, self._guard, self._named, self._wake = proofs, guard, named, wake

    async def post_proof(self, request: Request) -> Response:
        """Queue a proof."""
        document = await self._document(request)
        try:
            demand = demand_of(document, BODY)
        except (ReceiptError, ValueError) as error:
            raise Refused(400, str(error), HINT) from None
        self._named(demand.name)
        try:
            ticket = self._proofs.request(demand)
        except DeskFull:
            raise Refused(503, "too many proofs are waiting", "wait until they have ended") from None
        self._wake()
        return Response(202, as_json(_ticket(ticket)), JSON, {"Location": f"/proofs/{ticket.id}"})

    async def get_proof(self, request: Request) -> Response:
        """How far it is, and what was found."""
        ticket = self._proofs.find(request.argument)
        if ticket is None:
            raise Refused(404, "no proof has this id", "ask for a new one: the daemon forgets them when it restarts")
        return Response(200, as_json(_ticket(ticket)))

    async def post_receipt(self, request: Request) -> Response:
        """Use a receipt, for one postcheck."""
        document = await self._document(request)
        receipt_id = _receipt_id(document)
        await self._in_the_book(lambda: self._proofs.take(receipt_id))
        return Response(200, as_json({"receipt": receipt_id, "state": "in use"}))

    async def post_decision(self, request: Request) -> Response:
        """Record what a command decided."""
        document = await self._document(request)
        try:
            decision = decision_of(document, BODY)
        except ReceiptError as error:
            raise Refused(400, error.message, HINT) from None
        await self._in_the_book(lambda: self._proofs.decided(decision))
        return Response(200, as_json({"recorded": True}))

    async def _in_the_book(self, work: Callable[[], None]) -> None:
        try:
            await asyncio.to_thread(work)
        except ReceiptError as error:
            raise Refused(409, error.message, error.hint) from None
        except EnvironmentProblem as error:
            raise Refused(503, error.message, error.hint) from None

    async def _document(self, request: Request) -> dict[str, Any]:
        self._guard.check(request)
        self._guard.json_only(request)
        try:
            document = json.loads(await read_body(request))
        except (ValueError, RecursionError):
            raise Refused(400, "the body is not JSON", HINT) from None
        if not isinstance(document, dict):
            raise Refused(400, "the body is no JSON object", HINT)
        return document


def _receipt_id(document: dict[str, Any]) -> str:
    try:
        return id_of(Fields(document, BODY).text("receipt"), BODY)
    except ReceiptError as error:
        raise Refused(400, error.message, HINT) from None


def _ticket(ticket: ProofTicket) -> dict[str, Any]:
    return {
        "id": ticket.id,
        "db": ticket.demand.name,
        "state": ticket.state,
        "error": ticket.error or None,
        "proof": proof_document(ticket.proof) if ticket.proof is not None else None,
    }
