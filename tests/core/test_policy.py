"""Thresholds: a question may tighten them, never loosen them."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.core.checks import judge
from sidecar.core.evidence import Evidence
from sidecar.core.policy import Policy
from tests.core.evidences import NOW, ROOM, histories
from tests.core.test_verdict import not_better

lengths = st.none() | st.timedeltas(timedelta(0), timedelta(days=400))


@given(lengths, lengths)
@settings(deadline=None)
def test_tightened_never_loosens(max_age: timedelta | None, max_lag: timedelta | None) -> None:
    policy = Policy()
    tight = policy.tightened(max_age=max_age, max_lag=max_lag)
    assert tight.drill_max_age == min(policy.drill_max_age, max_age if max_age is not None else policy.drill_max_age)
    assert tight.max_lag == min(policy.max_lag, max_lag if max_lag is not None else policy.max_lag)


@given(histories(), lengths, lengths)
@settings(deadline=None, max_examples=100)
def test_a_tighter_question_never_gets_a_better_answer(
    evidence: Evidence, max_age: timedelta | None, max_lag: timedelta | None
) -> None:
    before = judge(evidence, Policy(), ROOM, NOW)
    after = judge(evidence, Policy().tightened(max_age=max_age, max_lag=max_lag), ROOM, NOW)
    not_better(before, after)


def test_a_database_that_changes_is_listed_often_enough_for_its_lag() -> None:
    assert Policy().look_interval == timedelta(seconds=40)
    assert Policy(max_lag=timedelta(seconds=1)).look_interval == timedelta(seconds=1)
    assert Policy(max_lag=timedelta(hours=1)).look_interval == Policy().look_every


def test_the_defaults_can_be_met() -> None:
    policy = Policy()
    assert policy.drill_max_age > policy.drill_every
    assert policy.database_check_max_age > policy.database_check_every
    assert policy.max_lag > policy.look_interval
