"""How often periodic work is done: at its interval, and less often where it takes long, so that its share of the time stays small.

A few databases are read and planned for within a millisecond, and the intervals are kept; for thousands they stretch, up to a limit.
"""

from __future__ import annotations

REST = 200  # a piece of work rests this many times as long as it took: half a percent of the time


class Pace:
    """When one kind of work may be done again, by the monotonic clock.

    Args:
        every_s: its interval.
        most_s: what the interval stretches to at most.
    """

    def __init__(self, every_s: float, most_s: float) -> None:
        self._every_s, self._most_s = every_s, most_s
        self._rest_s = every_s
        self.began_s = -1e9

    @property
    def stretched(self) -> bool:
        """Whether it takes so long that its interval is not kept."""
        return self._rest_s > self._every_s

    def due(self, now_s: float) -> bool:
        """Whether it may be done again."""
        return now_s - self.began_s >= self._rest_s

    def begin(self, now_s: float) -> None:
        """It is begun."""
        self.began_s = now_s

    def took(self, seconds: float) -> None:
        """So long it took, the last time."""
        self._rest_s = min(max(self._every_s, seconds * REST), self._most_s)

    def hurry(self) -> None:
        """It is due now, and what it took says nothing of the next time."""
        self.began_s, self._rest_s = -1e9, self._every_s
