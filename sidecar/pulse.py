"""The pulse: when the local files are read, and of which databases.

A few are all read whenever something changes. Of many those are, whose files have changed, and all of them by the timer; both
less often where that takes long, so that a fleet at rest costs next to nothing.
"""

from __future__ import annotations

from sidecar.core.pace import Pace
from sidecar.core.ports import Clock
from sidecar.fleet import Fleet
from sidecar.house import Ledger, LiveFiles, Watching

# Intervals, and what they stretch to where many databases make the work long.
ALL_S = 5.0, 10.0  # by the timer; well below the 15 s of `evidence.JUST_NOW`
WOKEN_S = 1.0, 5.0  # at most this often when events do come
FEW = 50  # read in milliseconds


class Pulse:
    """For the loop's thread alone."""

    def __init__(self, clock: Clock, live: LiveFiles, ledger: Ledger, watching: Watching) -> None:
        self._clock, self._live, self._ledger, self._watching = clock, live, ledger, watching
        self._all, self._woken = Pace(*ALL_S), Pace(*WOKEN_S)

    def hurry(self) -> None:
        """Read everything in the next turn: the fleet is another."""
        self._all.hurry()
        self._woken.hurry()

    def turn(self, fleet: Fleet, *, woken: bool) -> bool:
        """Read what is due, and record it; whether anything was due."""
        now, few = self._clock.monotonic(), len(fleet.databases) <= FEW
        everything = self._all.due(now)
        if not everything:
            if not ((woken or self._watching.fired) and self._woken.due(now)):
                return False
            everything = few
        pace = self._all if everything else self._woken
        pace.begin(now)
        self._woken.begin(now)
        self._read(fleet, everything=everything)
        if not few:  # a few take long on a busy machine only
            pace.took(self._clock.monotonic() - now)
        return True

    def _read(self, fleet: Fleet, *, everything: bool) -> None:
        self._watching.rearm()  # before the reading: what changes during it wakes us again
        for path, database in fleet.databases.items():
            if everything or self._live.changed(database):
                live, replica = self._live.read(database), database.replica
                self._ledger.record(path, lambda known, live=live, at=replica: known.of_replica(at).after_live(live))  # type: ignore[misc] # bound now
