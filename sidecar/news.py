"""Tells others what is news: drills as pings, and the fleet's verdict and failed drills as messages, on edges only.

A verdict is told once it has stood for a moment, at most once a minute, and never twice the same: a fleet that flaps causes no
storm, and what was told last is always what became true. The first verdict after a start is nobody's news.
"""

from __future__ import annotations

from threading import Lock
from typing import Protocol

from sidecar.answers import Answers
from sidecar.core.model import Drill, Outcome
from sidecar.core.verdict import Document, FleetVerdict, database_document, drill_document, rfc3339

EVERY_S = 5.0  # judging a thousand databases takes some 10 ms
SETTLE_S = 15.0  # a verdict that does not last is nobody's news
AGAIN_S = 60.0  # between two messages about the verdict
NAMED_MAX = 20  # databases in one message

# How healthchecks.io and those who speak as it does are told; `log` is neither good nor bad.
PINGS = {Outcome.PASSED: "success", Outcome.FAILED: "fail", Outcome.INCONCLUSIVE: "log", Outcome.ABORTED: "log"}


class Teller(Protocol):
    """Somebody who passes news on, without ever keeping us waiting."""

    def ping(self, word: str, db: str, run: str, said: str) -> None:
        """`start`, `success`, `fail` or `log` of the drill `run`."""
        ...

    def post(self, document: Document) -> None:
        """A message for machines."""
        ...


class News:
    """The loop calls `turned`; drills are told by whichever thread drills."""

    def __init__(self, answers: Answers, teller: Teller, *, wanted: bool) -> None:
        self._answers, self._teller, self._wanted = answers, teller, wanted
        self._judged_at = self._told_at = -1e9
        self._told: bool | None = None
        self._seen: tuple[bool, float] | None = None  # the verdict as it stands, and since when
        self._failing: set[str] = set()
        self._lock = Lock()

    def turned(self) -> None:
        """Judge every few seconds, and pass on what is news."""
        now = self._answers.clock.monotonic()
        if not self._wanted or now - self._judged_at < EVERY_S:
            return
        self._judged_at = now
        fleet = self._answers.verdict()
        if self._seen is None or self._seen[0] != fleet.ready:
            self._seen = fleet.ready, now
        if now - self._seen[1] < SETTLE_S:
            return
        if self._told is None:
            self._told = fleet.ready
        elif fleet.ready != self._told and now - self._told_at >= AGAIN_S:
            self._told, self._told_at = fleet.ready, now
            self._teller.post(self._verdict(fleet))

    def drill_began(self, name: str, drill_id: str) -> None:
        """A drill begins."""
        if self._wanted:
            self._teller.ping("start", name, drill_id, f"{name}: drill {drill_id} begins")

    def drill_ended(self, name: str, drill: Drill) -> None:
        """A drill has ended; that it failed is a message, too, unless the one before did as well."""
        if not self._wanted:
            return
        self._teller.ping(PINGS[drill.outcome], name, drill.id, f"{name}: drill {drill.outcome}: {drill.message}")
        with self._lock:
            news = drill.outcome is Outcome.FAILED and name not in self._failing
            if drill.outcome is Outcome.FAILED:
                self._failing.add(name)
            elif drill.outcome is Outcome.PASSED:
                self._failing.discard(name)
        if news:
            self._teller.post(
                {
                    "event": "drill_failed",
                    "at": rfc3339(drill.finished_at),
                    "version": self._answers.version,
                    "db": name,
                    "reason": f"{name}: {drill.message}",
                    "drill": drill_document(drill),
                }
            )

    def proof_stands(self, name: str, drill: Drill) -> None:
        """A drill was due and not made: whoever waits for a sign of life gets it."""
        if self._wanted:
            said = f"{name}: nothing to restore that drill {drill.id} has not restored: its proof stands"
            self._teller.ping("success", name, drill.id, said)

    def _verdict(self, fleet: FleetVerdict) -> Document:
        bad = [each for each in fleet.verdicts if not each.ready]
        return {
            "event": "ready" if fleet.ready else "not_ready",
            "at": rfc3339(fleet.checked_at),
            "version": self._answers.version,
            "db": bad[0].database.name if len(bad) == 1 else None,
            "reason": fleet.reason,
            "not_ready": len(bad),
            "databases": [database_document(each) for each in bad[:NAMED_MAX]],
        }
