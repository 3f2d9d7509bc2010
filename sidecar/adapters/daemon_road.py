"""The road to a proof through a running daemon: it walks, keeps the artifact and the book; we ask and wait."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import httpx

from sidecar.adapters.daemon_client import Address, client, stranger
from sidecar.core.decision import Decision, decision_document
from sidecar.core.errors import ReceiptError, SidecarError, Stopped
from sidecar.core.ports import Progress
from sidecar.core.proof import Demand, Proof, demand_document, proof_of

POLL_S = 0.25
GRACE_S = 15.0  # beyond the demand's own time: the daemon ends a drill that takes longer, and its child within seconds
TOKEN_HINT = "give the daemon's token with --token-file"  # noqa: S105 - a hint


class Refused(SidecarError):
    """The daemon does not take the request as it is: a matter of set-up."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class DaemonRoad:
    """Satisfies `ports.Road`. Every method raises SidecarError where the daemon does not answer as it should."""

    address: Address
    token: str | None = field(default=None, repr=False)
    poll_s: float = POLL_S
    grace_s: float = GRACE_S

    def databases(self) -> Mapping[str, str]:
        """Name to path of all databases."""
        document = self._json("GET", "/ready")
        try:
            return {str(each["name"]): str(each["path"]) for each in document["databases"]}
        except (KeyError, TypeError):
            raise stranger(self.address) from None

    def prove(self, demand: Demand, *, stop: Event, progress: Progress) -> Proof:
        """Have the daemon walk once. Raises `Stopped`; the daemon then finishes by itself."""
        ticket = self._json("POST", "/proofs", demand_document(demand))
        ends_s = time.monotonic() + demand.timeout.total_seconds() + self.grace_s
        while True:
            state = ticket.get("state")
            progress(f"{state} at the daemon", 0, None)
            if state == "done" and isinstance(ticket.get("proof"), dict):
                return proof_of(ticket["proof"], f"the answer of {self.address.shown}")
            if state not in {"queued", "running"}:
                raise SidecarError(
                    f"the daemon at {self.address.shown} could not prove {demand.name}: {ticket.get('error')}",
                    "look at its log, and try again",
                )
            if time.monotonic() >= ends_s:
                raise SidecarError(
                    f"the daemon at {self.address.shown} had not begun or ended after {demand.timeout.total_seconds():.0f} s",
                    "another drill may hold its only seat: wait, or raise resources.drills or --timeout",
                )
            if stop.wait(self.poll_s):
                raise Stopped("told to stop while the daemon worked")
            ticket = self._json("GET", f"/proofs/{ticket.get('id')}")

    def take(self, receipt_id: str) -> None:
        """Use this receipt. Raises ReceiptError where it was used."""
        self._json("POST", "/receipts", {"receipt": receipt_id})

    def decided(self, decision: Decision) -> None:
        """Have the daemon record it."""
        self._json("POST", "/decisions", decision_document(decision))

    def _json(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token is not None and method == "POST" else {}
        with client(self.address) as asking:
            answer = asking.request(method, f"{self.address.base}{path}", json=body, headers=headers)
        try:
            document = answer.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise stranger(self.address)
        refused = "error" in document and "hint" in document and not answer.is_success
        if not refused:
            return document
        raise self._refusal(path, answer.status_code, str(document["error"]), str(document["hint"]))

    def _refusal(self, path: str, code: int, error: str, hint: str) -> SidecarError:
        if code == httpx.codes.CONFLICT:
            return ReceiptError(error, hint)
        if code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            return Refused(
                f"the daemon at {self.address.shown} says: {error}",
                TOKEN_HINT if code == httpx.codes.UNAUTHORIZED else hint,
            )
        if code == httpx.codes.NOT_FOUND and path == "/proofs":
            return Refused(f"the daemon at {self.address.shown} says: {error}", "is it as new as this command?")
        kind = Refused if code == httpx.codes.BAD_REQUEST else SidecarError
        return kind(f"the daemon at {self.address.shown} says: {error}", hint)
