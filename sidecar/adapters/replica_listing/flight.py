"""A listing on its way in a thread of its own: whoever waits for it can be told to stop, or give up, while a store hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from threading import Event
from typing import Generic, TypeVar

from sidecar.core.errors import Stopped

T = TypeVar("T")
POLL_S = 0.1  # how soon one who waits notices that it is to stop
HANDS_MAX = 16  # more listings than that at once are listings that hang


class TookTooLong(Exception):
    """It had not ended in time. It may end later; nobody waits for it."""


class Hands:
    """A few threads that list, kept for the next listing: to make one costs more than to read a folder.

    They are daemons: a network file system that never answers keeps one of them, and neither a seat nor the process.
    """

    def __init__(self) -> None:
        self._idle: list[SimpleQueue[Callable[[], None]]] = []
        self._lock, self._count = threading.Lock(), 0

    def do(self, work: Callable[[], None]) -> None:
        """Begin this work, which raises nothing. Raises TookTooLong where all hands hang."""
        with self._lock:
            hand = self._idle.pop() if self._idle else None
            if hand is None:
                if self._count == HANDS_MAX:
                    raise TookTooLong
                self._count += 1
                hand = SimpleQueue()
                threading.Thread(target=self._work, args=(hand,), name="listing", daemon=True).start()
        hand.put(work)

    def _work(self, hand: SimpleQueue[Callable[[], None]]) -> None:
        while True:
            hand.get()()
            with self._lock:
                self._idle.append(hand)


class Flight(Generic[T]):
    """Work that has begun; several may wait for it."""

    def __init__(self, hands: Hands, work: Callable[[], T], clock_s: Callable[[], float]) -> None:
        self._work, self._clock_s = work, clock_s
        self._ended = Event()
        self._brought: T | None = None
        self._error: Exception | None = None
        hands.do(self._fly)

    def _fly(self) -> None:
        try:
            self._brought = self._work()
        except Exception as error:  # noqa: BLE001 - it is raised where somebody waits
            self._error = error
        finally:
            self._ended.set()

    @property
    def brought(self) -> T | None:
        """What it has brought; None while it is under way, and where it failed."""
        return self._brought

    def wait(self, timeout_s: float, stop: Event) -> T:
        """What it brings.

        Raises:
            TookTooLong: not within `timeout_s`.
            Stopped: `stop` was set.
            Exception: whatever went wrong on the way.
        """
        until_s = self._clock_s() + timeout_s
        while not self._ended.wait(min(POLL_S, max(until_s - self._clock_s(), 0.0))):
            if stop.is_set():
                raise Stopped("told to stop")
            if self._clock_s() >= until_s:
                raise TookTooLong
        if self._error is not None:
            raise self._error
        return self._brought  # type: ignore[return-value] # None only where T is
