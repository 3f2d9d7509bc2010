"""How the daemon stands, for the service manager: ready after the loop's first turn, alive with each, the verdict as its status.

All of it is said from the loop itself. A thread of its own would go on saying that all is well beside a loop that is stuck.
"""

from __future__ import annotations

from typing import Protocol

from sidecar.answers import Answers

EVERY_S = 5.0  # judging a thousand databases takes 80 ms, a fraction of that where little has changed


class Manager(Protocol):
    """The service manager. No call waits; True: it was told."""

    @property
    def listens(self) -> bool: ...  # noqa: D102 - see the adapter
    def ready(self, status: str) -> bool: ...  # noqa: D102 - see the adapter
    def status(self, text: str) -> bool: ...  # noqa: D102 - see the adapter
    def reloading(self) -> bool: ...  # noqa: D102 - see the adapter
    def stopping(self) -> bool: ...  # noqa: D102 - see the adapter
    def beat(self) -> None: ...  # noqa: D102 - see the adapter


class Standing:
    """Called by the loop. Satisfies `house.Standing`."""

    def __init__(self, answers: Answers, manager: Manager) -> None:
        self._answers, self._manager = answers, manager
        self._judged_at = -1e9
        self._ready = False  # whether it knows that the service is up, with the configuration in force
        self._said = ""

    def turned(self) -> None:
        """After each turn: a sign of life; and what it does not know yet."""
        if not self._manager.listens:
            return
        self._manager.beat()
        now = self._answers.clock.monotonic()
        if self._ready and now - self._judged_at < EVERY_S:
            return
        self._judged_at = now
        sentence = self._sentence()
        if not self._ready:
            self._ready = self._manager.ready(sentence)
        elif sentence != self._said and not self._manager.status(sentence):
            return  # said again next time
        self._said = sentence

    def reloading(self) -> None:
        """The configuration is read again, because somebody asked for it; the turn that does it ends with `turned`."""
        if self._manager.reloading():
            self._ready = False

    def stopping(self) -> None:
        """The loop has ended; what runs is being ended."""
        self._manager.stopping()

    def _sentence(self) -> str:
        verdict = self._answers.standing()
        stale = "" if self._answers.keeper.error is None else "; the changed configuration is not in force, see the log"
        return f"{'ready' if verdict.ready else 'not ready'}: {verdict.reason}{stale}"
