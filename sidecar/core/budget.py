"""The budget: how far apart looks are put so that requests to the store stay within `resources.requests-per-day`. Pure.

A database that changes is looked at as often as its `max-lag` asks for: what a late answer about it costs is more than requests.
So it is those at rest whose looks are put apart, and of the others what `max-lag` leaves to be had.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

from sidecar.core.policy import Policy

DAY = timedelta(days=1)
STRETCHED_MAX = timedelta(hours=1)  # that a replica has gone is seen at least so often
STRETCHES = (1, 2, 4, 8, 16, 32, 64)  # powers of two: few policies, and one change an hour at most costs nothing


@dataclass(frozen=True, slots=True)
class Spender:
    """One database whose looks cost requests, `each` of them so many."""

    policy: Policy
    changing: bool
    each: float
    rest: int = 1  # as `Sighting` has it


@dataclass(frozen=True, slots=True)
class Pace:
    """By how much `look-every` is multiplied, how many requests a day that makes, and how many were allowed."""

    stretch: int
    requests: float
    budget: int | None

    @property
    def kept(self) -> bool:
        """Whether the looks stay within the budget."""
        return self.budget is None or self.requests <= self.budget


def stretched(policy: Policy, stretch: int) -> Policy:
    """The same policy with looks so many times as far apart, an hour at most; what is farther apart already stays so."""
    if stretch == 1:
        return policy
    return replace(policy, look_every=min(policy.look_every * stretch, max(policy.look_every, STRETCHED_MAX)))


def pace(spenders: Iterable[Spender], budget: int | None, before: int = 1) -> Pace:
    """The least stretch that keeps the budget, else the largest there is.

    From `before` it falls one step at a time: looks that were far apart are to be made up for before more are asked for.
    """
    known = _alike(spenders)
    if budget is None:
        return Pace(1, _requests_a_day(known, 1), None)
    least = next((each for each in STRETCHES if _requests_a_day(known, each) <= budget), STRETCHES[-1])
    step = max(least, before // 2)
    return Pace(step, _requests_a_day(known, step), budget)


def _alike(spenders: Iterable[Spender]) -> list[Spender]:
    """One for all that share a policy and a pace: thousands of databases have a handful of policies."""
    sums: dict[tuple[int, bool, int], tuple[Policy, float]] = {}
    for one in spenders:
        key = id(one.policy), one.changing, one.rest
        sums[key] = one.policy, sums.get(key, (one.policy, 0.0))[1] + one.each
    return [Spender(policy, changing, each, rest) for (_, changing, rest), (policy, each) in sums.items()]


def _requests_a_day(spenders: Iterable[Spender], stretch: int) -> float:
    total = 0.0
    for one in spenders:
        policy = stretched(one.policy, stretch)
        interval = policy.look_interval if one.changing else policy.look_every_at_rest(one.rest)
        total += DAY / interval * one.each
    return total
