"""Thrift: once a minute, how many requests looks make at the present pace, and how far they must be put apart to keep the budget.

Says so in the log when it changes, and to metrics always.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from sidecar.core.budget import Pace, Spender, pace
from sidecar.core.evidence import Evidence
from sidecar.core.ports import Clock
from sidecar.core.units import spell
from sidecar.fleet import FleetKeeper

EVERY_S = 60.0
LISTS_A_LOOK = 10.0  # `litestream ltx` lists each level, until more is known
LOOKS_MIN = 3  # fewer say nothing of what one costs
LEARNING_S = (
    600.0  # for so long it is waited for that: to have put looks apart by a wrong guess takes long to make good
)
FREE = frozenset({"file"})  # replica types that nobody counts requests of

log = logging.getLogger("sidecar.thrift")


class Requests(Protocol):
    """What looks have cost so far."""

    def so_far(self) -> Mapping[str, tuple[int, int]]:
        """Replica type to (looks, requests) since the start."""
        ...


class Thrift:
    """For the loop's thread; metrics read `pace`.

    Args:
        keeper: the fleet, whose looks are put apart.
        clock: tells when a minute has passed.
        requests: what a look has cost so far, by replica type.
        known: the evidence, by path.
        budget: requests a day, None: no limit.
    """

    def __init__(
        self,
        keeper: FleetKeeper,
        clock: Clock,
        requests: Requests,
        known: Callable[[], Mapping[str, Evidence]],
        budget: int | None,
    ) -> None:
        self._keeper, self._clock, self._requests, self._budget = keeper, clock, requests, budget
        self._known = known
        self._due_s = self._fell_s = -1e9
        self._began_s = clock.monotonic()
        self._counted: dict[str, tuple[int, int]] = {}
        self._cost: dict[str, float] = {}
        self.pace: Pace | None = None

    def turned(self) -> None:
        """Reckon anew, if it is time, and have the fleet looked at accordingly."""
        now = self._clock.monotonic()
        if now < self._due_s:
            return
        if now - self._began_s < LEARNING_S and not self._learnt():
            return
        self._due_s, before = now + EVERY_S, self.pace
        stretch = before.stretch if before is not None else 1
        found = pace(self._spenders(self._known()), self._budget, stretch)
        if found.stretch < stretch and now - self._fell_s < self._longest_s(stretch):
            found = Pace(stretch, before.requests if before is not None else found.requests, self._budget)
        elif found.stretch < stretch:
            self._fell_s = now
        self.pace = found
        self._keeper.stretch(found.stretch)
        if before is None or (before.stretch, before.kept) != (found.stretch, found.kept):
            self._say(found, stretch)

    def _spenders(self, evidence: Mapping[str, Evidence]) -> list[Spender]:
        """The fleet as the policies ask for it, with what a look at each has cost on average."""
        fleet, each = self._keeper.asked_for, self._each()
        return [
            Spender(
                fleet.policies[path],
                (known := evidence.get(path)) is not None and known.changing,
                each.get(kind, LISTS_A_LOOK),
                known.sighting.rest if known is not None and known.sighting is not None else 1,
            )
            for path, database in fleet.databases.items()
            if (kind := database.replica.type) not in FREE
        ]

    def _learnt(self) -> bool:
        """Whether it is known of each kind of replica what a look costs."""
        kinds = {each.replica.type for each in self._keeper.asked_for.databases.values()} - FREE
        known = self._requests.so_far()
        return all(known.get(each, (0, 0))[0] >= LOOKS_MIN for each in kinds)

    def _each(self) -> dict[str, float]:
        """What a look has cost lately, by replica type: the first ones, at a replica that is just begun, cost more."""
        for kind, (looks, made) in self._requests.so_far().items():
            looks_then, made_then = self._counted.get(kind, (0, 0))
            if looks - looks_then >= LOOKS_MIN:
                self._counted[kind] = looks, made
                self._cost[kind] = (made - made_then) / (looks - looks_then)
        return self._cost

    def _longest_s(self, stretch: int) -> float:
        """What was looked at so seldom until now may be as old as that: it is given one interval to be looked at sooner."""
        longest = max((each.look_every for each in self._keeper.fleet.policies.values()), default=None)
        return longest.total_seconds() if longest is not None and stretch > 1 else 0.0

    def _say(self, found: Pace, before: int) -> None:
        every = sorted({each.look_every for each in self._keeper.fleet.policies.values()})
        words = (
            f"{found.requests:,.0f} requests a day (resources.requests-per-day: {found.budget:,})"
            if found.budget
            else ""
        )
        if not found.kept:
            log.warning(
                "looks make about %s, with every database at rest looked at as seldom as it can be: what changes needs more; "
                "raise the budget, max-lag, or look-every",
                words,
            )
        elif found.stretch != before and every:
            log.info("looks at rest come every %s now, so that they make about %s", spell(every[-1]), words)
