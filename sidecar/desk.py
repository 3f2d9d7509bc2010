"""The drill desk: drills that somebody asked for, queued and running, one per database at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

FINISHED_KEPT_MAX = 100  # then history answers instead


@dataclass(frozen=True, slots=True)
class Ticket:
    """A drill as the desk knows it: `queued`, `running`, or an outcome."""

    id: str
    path: str
    state: str


class DrillDesk:
    """Thread-safe: HTTP asks, the daemon's loop takes and finishes."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id, self._lock = new_id, Lock()
        self._open: dict[str, Ticket] = {}  # by path
        self._finished: OrderedDict[str, Ticket] = OrderedDict()

    def request(self, path: str) -> Ticket:
        """Queue a drill; a second request for the same database gets the one that is queued or running."""
        with self._lock:
            return self._open.setdefault(path, Ticket(self._new_id(), path, "queued"))

    def queued(self) -> tuple[str, ...]:
        """Paths that wait for a seat, in the order of asking."""
        with self._lock:
            return tuple(path for path, ticket in self._open.items() if ticket.state == "queued")

    def open_at(self, path: str) -> Ticket | None:
        """The drill of this database that is queued or running."""
        with self._lock:
            return self._open.get(path)

    def begin(self, path: str) -> str:
        """A drill of this database begins; its id, the asked-for one where somebody asked."""
        with self._lock:
            known = self._open.get(path)
            ticket = Ticket(known.id if known is not None else self._new_id(), path, "running")
            self._open[path] = ticket
            return ticket.id

    def finish(self, path: str, outcome: str) -> None:
        """The drill of this database has ended."""
        with self._lock:
            ticket = self._open.pop(path, None)
            if ticket is None:
                return
            self._finished[ticket.id] = Ticket(ticket.id, path, outcome)
            while len(self._finished) > FINISHED_KEPT_MAX:
                self._finished.popitem(last=False)

    def drop(self, paths: frozenset[str]) -> None:
        """Forget what is queued for databases that left the fleet."""
        with self._lock:
            for path in [p for p, ticket in self._open.items() if p not in paths and ticket.state == "queued"]:
                del self._open[path]

    def find(self, drill_id: str) -> Ticket | None:
        """The ticket of that id, open or lately finished."""
        with self._lock:
            open_ones = (ticket for ticket in self._open.values() if ticket.id == drill_id)
            return next(open_ones, None) or self._finished.get(drill_id)

    @property
    def running(self) -> int:
        """Drills under way."""
        with self._lock:
            return sum(ticket.state == "running" for ticket in self._open.values())
