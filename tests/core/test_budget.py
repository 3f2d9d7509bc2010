"""The request budget: who gives way, by how much, and what cannot be kept is said."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.budget import STRETCHED_MAX, STRETCHES, Spender, pace, stretched
from sidecar.core.policy import Policy

POLICY = Policy()
MINUTE = timedelta(minutes=1)
REST, BUSY = Spender(POLICY, False, 10), Spender(POLICY, True, 10)
REST_A_DAY, BUSY_A_DAY = 14_400, 21_600  # ten requests a minute; every 40 s, a third of max-lag


def test_without_a_budget_nothing_gives_way() -> None:
    found = pace([REST] * 1000, None)
    assert (found.stretch, found.requests, found.kept) == (1, 1000 * REST_A_DAY, True)


def test_those_at_rest_give_way_and_what_changes_is_looked_at_as_often_as_ever() -> None:
    fleet = [REST] * 98 + [BUSY] * 2
    assert pace(fleet, 98 * REST_A_DAY + 2 * BUSY_A_DAY).stretch == 1
    found = pace(fleet, 400_000)
    assert (found.stretch, found.kept) == (4, True)
    assert found.requests == pytest.approx(98 * REST_A_DAY / 4 + 2 * BUSY_A_DAY)
    assert stretched(POLICY, 64).look_interval == POLICY.look_interval


def test_a_long_max_lag_gives_way_as_far_as_it_goes() -> None:
    patient = replace(POLICY, max_lag=timedelta(minutes=30))
    assert stretched(patient, 4).look_interval == 4 * MINUTE
    assert stretched(patient, 16).look_interval == 10 * MINUTE


def test_what_cannot_be_kept_is_said() -> None:
    found = pace([BUSY] * 10, 1000)
    assert not found.kept
    assert found.requests == pytest.approx(10 * BUSY_A_DAY)
    assert pace([], 1).kept


def test_the_longest_is_an_hour_and_what_is_longer_stays() -> None:
    assert stretched(POLICY, 64).look_every == STRETCHED_MAX
    seldom = replace(POLICY, look_every=timedelta(hours=3))
    assert stretched(seldom, 8) == seldom


def test_it_grows_at_once_and_falls_step_by_step() -> None:
    assert pace([REST] * 100, 100_000, before=1).stretch == 16
    assert [pace([REST], 10**6, before=each).stretch for each in (64, 32, 2, 1)] == [32, 16, 1, 1]


spenders = st.builds(
    Spender,
    st.builds(
        lambda every, lag: replace(POLICY, look_every=every * MINUTE, max_lag=lag * MINUTE),
        st.integers(1, 200), st.integers(1, 90),
    ),
    st.booleans(), st.floats(0.01, 20),
)  # fmt: skip


def spent(known: list[Spender], stretch: int) -> float:
    """Requests a day, one database after the other."""
    total = 0.0
    for each in known:
        policy = stretched(each.policy, stretch)
        total += each.each * timedelta(days=1) / (policy.look_interval if each.changing else policy.look_every)
    return total


@given(st.lists(spenders, max_size=20), st.integers(1, 10**6), st.sampled_from(STRETCHES))
def test_no_smaller_stretch_would_do_and_max_lag_can_always_be_met(
    known: list[Spender], budget: int, before: int
) -> None:
    found = pace(known, budget, before)
    assert found.requests == pytest.approx(spent(known, found.stretch))
    if found.stretch > max(before // 2, 1):
        assert spent(known, found.stretch // 2) > budget
    if found.stretch < STRETCHES[-1]:
        assert found.kept
    for each in known:
        policy = stretched(each.policy, found.stretch)
        assert policy.look_interval <= max(each.policy.max_lag / 3, timedelta(seconds=1))
        assert policy.look_every >= each.policy.look_every
        assert replace(policy, look_every=each.policy.look_every) == each.policy, "nothing else changes"
