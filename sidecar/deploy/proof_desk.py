"""The proof desk: proofs that deploy commands asked the daemon for, queued, running and done."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock

from sidecar.core.proof import Demand, Proof

OPEN_MAX = 1000  # more than anybody deploys at once
DONE_KEPT_MAX = 200  # whoever asked comes back within seconds


class DeskFull(Exception):
    """Too many proofs are open."""


@dataclass(frozen=True, slots=True)
class ProofTicket:
    """A proof as the desk knows it: `queued`, `running`, `done` (with its proof) or `failed` (with a sentence)."""

    id: str
    demand: Demand
    state: str = "queued"
    proof: Proof | None = None
    error: str = ""


class ProofDesk:
    """Thread-safe: HTTP asks, the daemon's loop takes and finishes."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id, self._lock = new_id, Lock()
        self._open: OrderedDict[str, ProofTicket] = OrderedDict()
        self._done: OrderedDict[str, ProofTicket] = OrderedDict()

    def request(self, demand: Demand) -> ProofTicket:
        """Queue a proof. Raises DeskFull."""
        with self._lock:
            if len(self._open) >= OPEN_MAX:
                raise DeskFull
            ticket = ProofTicket(self._new_id(), demand)
            self._open[ticket.id] = ticket
            return ticket

    def queued(self) -> tuple[ProofTicket, ...]:
        """What waits for a seat, in the order of asking."""
        with self._lock:
            return tuple(each for each in self._open.values() if each.state == "queued")

    def begin(self, ticket: ProofTicket) -> None:
        """Its walk begins."""
        with self._lock:
            self._open[ticket.id] = replace(ticket, state="running")

    def finish(self, ticket: ProofTicket, proof: Proof | None, error: str = "") -> None:
        """Its walk has ended."""
        with self._lock:
            self._open.pop(ticket.id, None)
            state = "done" if proof is not None else "failed"
            self._done[ticket.id] = replace(ticket, state=state, proof=proof, error=error)
            while len(self._done) > DONE_KEPT_MAX:
                self._done.popitem(last=False)

    def find(self, proof_id: str) -> ProofTicket | None:
        """The ticket of that id, open or lately done."""
        with self._lock:
            return self._open.get(proof_id) or self._done.get(proof_id)
