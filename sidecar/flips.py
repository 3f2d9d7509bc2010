"""Tells others: a heartbeat while all is well, a message when the verdict flips. Silent where nobody is to be told."""

from __future__ import annotations

from typing import Protocol

from sidecar.answers import Answers
from sidecar.core.verdict import Document

EVERY_S = 5.0  # judging a thousand databases takes some 10 ms


class Teller(Protocol):
    """Somebody who passes news on, without ever keeping us waiting."""

    def heartbeat(self) -> None:
        """All is well."""
        ...

    def changed(self, document: Document) -> None:
        """The fleet's verdict has flipped."""
        ...


class Flips:
    """Called after every turn of the loop."""

    def __init__(self, answers: Answers, teller: Teller, *, wanted: bool) -> None:
        self._answers, self._teller, self._wanted = answers, teller, wanted
        self._judged_at = -1e9
        self._ready: bool | None = None

    def turned(self) -> None:
        """Judge every few seconds, and pass on what is news."""
        now = self._answers.clock.monotonic()
        if not self._wanted or now - self._judged_at < EVERY_S:
            return
        self._judged_at = now
        verdict = self._answers.verdict()
        if verdict.ready:
            self._teller.heartbeat()
        if self._ready is not None and verdict.ready != self._ready:
            self._teller.changed(self._answers.ready(verdict))
        self._ready = verdict.ready
