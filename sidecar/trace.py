"""The trace: how far behind each replica has been, minute by minute. Kept in memory only: evidence holds the newest lag alone.

Four bytes a minute and database: 24 hours of one are 6 kB. Where the fleet is larger than a thousand, the trace is shorter
instead, so that all of it never holds more than 6 MB.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock

from sidecar.answers import Answers
from sidecar.core.verdict import lag_seconds

EVERY_S = 5.0  # the lag is read this often; a thousand databases take a millisecond
SLOT_S = 60.0  # and the worst of a minute is kept
SLOTS_MAX = 24 * 60
VALUES_MAX = 1000 * SLOTS_MAX
UNKNOWN = math.nan


@dataclass(frozen=True, slots=True)
class Curve:
    """The lag of one database: in each slot its worst, NaN where nobody knew it; oldest first."""

    at: Sequence[datetime]
    seconds: Sequence[float]


class LagTrace:
    """Called after every turn of the loop. Thread-safe."""

    def __init__(self, answers: Answers, *, values_max: int = VALUES_MAX) -> None:
        self._answers, self._lock, self._values_max = answers, Lock(), values_max
        self._read_at = -1e9
        self._times = array("d")  # when each slot began; all curves end at the same slot
        self._lags: dict[str, array[float]] = {}  # by path; shorter where the database came later

    def turned(self) -> None:
        """Read the lag of every database, every few seconds."""
        mono = self._answers.clock.monotonic()
        if mono - self._read_at < EVERY_S:
            return
        self._read_at = mono
        now, evidence = self._answers.clock.now(), self._answers.ledger.snapshot()
        paths = tuple(self._answers.keeper.fleet.databases)
        lags = {path: lag_seconds(evidence[path], now) if path in evidence else None for path in paths}
        with self._lock:
            self._record(now.timestamp(), lags)

    def _record(self, now_s: float, lags: dict[str, float | None]) -> None:
        began = self._times[-1] if self._times else None
        fresh = began is None or not began <= now_s < began + SLOT_S  # also where the clock was set back
        if fresh:
            self._times.append(now_s)
        keep = min(SLOTS_MAX, self._values_max // max(len(lags), 1))
        for path in [path for path in self._lags if path not in lags]:
            del self._lags[path]
        for path, lag in lags.items():
            value, known = UNKNOWN if lag is None else lag, self._lags.setdefault(path, array("f"))
            if fresh or not known:
                known.append(value)
            elif not known[-1] >= value:  # NaN included
                known[-1] = value if not math.isnan(value) else known[-1]
            del known[:-keep]
        del self._times[:-keep]

    def curve(self, path: str) -> Curve | None:
        """The lag of one database so far; None while there is none."""
        with self._lock:
            known = self._lags.get(path)
            if not known:
                return None
            times = self._times[-len(known) :]
            return Curve(tuple(datetime.fromtimestamp(each, UTC) for each in times), tuple(known))
