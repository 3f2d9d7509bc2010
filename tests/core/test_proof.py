"""Demands and proofs travel between a command and a daemon as JSON, and come back as they were or not at all."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest

from sidecar.core.errors import ReceiptError
from sidecar.core.proof import TIMEOUT, Demand, Proof, demand_document, demand_of, proof_document, proof_of
from tests.core.evidences import NOW
from tests.core.receipts import RECEIPT_ID, everything, proof, refuses, waits

FULL = Demand(
    name="app", timeout=timedelta(minutes=90), receipt_id=RECEIPT_ID, max_age=timedelta(hours=26),
    since=NOW + timedelta(microseconds=123456), backup=False, production=False, keep=True, anyway=True,
    accept_shrink=True,
)  # fmt: skip


def sent(document: dict[str, Any]) -> dict[str, Any]:
    """Over the wire and back."""
    found: dict[str, Any] = json.loads(json.dumps(document))
    return found


def test_the_full_demand_differs_from_the_plain_one_in_every_field() -> None:
    plain = Demand(name="b")
    assert not [each.name for each in fields(Demand) if getattr(FULL, each.name) == getattr(plain, each.name)]


@pytest.mark.parametrize("demand", [FULL, Demand(name="app"), Demand(name="naïve 💾")], ids=["full", "plain", "odd"])
def test_a_demand_comes_back_as_it_was(demand: Demand) -> None:
    assert demand_of(sent(demand_document(demand)), "the body") == demand


def test_all_but_the_name_may_be_absent_or_null() -> None:
    assert demand_of({"db": "app"}, "the body") == Demand(name="app", timeout=TIMEOUT)
    nothing = dict.fromkeys(demand_document(FULL)) | {"db": "app"}
    assert demand_of(nothing, "the body") == Demand(name="app")
    assert demand_of({"db": "app", "later": 1}, "the body") == Demand(name="app")


def test_by_default_both_halves_are_walked_and_nothing_is_kept_or_forgiven() -> None:
    made = Demand(name="app")
    assert (made.backup, made.production, made.keep, made.anyway, made.accept_shrink) == (
        True, True, False, False, False,
    )  # fmt: skip
    assert (made.max_age, made.since, made.timeout) == (None, None, timedelta(minutes=10))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "the body: db is missing"),
        ({"db": None}, "the body: db must be a text"),
        ({"db": ["app"]}, "the body: db must be a text"),
        ({"db": "app", "timeout": 600}, "timeout must be a text"),
        ({"db": "app", "timeout": "soon"}, "`soon` is not a duration"),
        ({"db": "app", "max_age": "10"}, "`10` is not a duration"),
        ({"db": "app", "max_age": "-1m"}, "`-1m` is not a duration"),
        ({"db": "app", "max_age": ""}, "is not a duration"),
        ({"db": "app", "since": "yesterday"}, "since must be a time"),
        ({"db": "app", "since": "2026-11-23T03:00:00"}, "since must name its time zone"),
        ({"db": "app", "since": 0}, "since must be a text"),
        ({"db": "app", "since": "0001-01-01T00:00:00+23:59"}, "since must be a time"),
        ({"db": "app", "keep": "yes"}, "keep must be true or false"),
        ({"db": "app", "keep": 1}, "keep must be true or false"),
        ({"db": "app", "backup": "false"}, "backup must be true or false"),
        ({"db": "app", "receipt": 7}, "receipt must be a text"),
        ({"db": "app", "receipt": "../x"}, "'../x' is no receipt's id"),
    ],
)
def test_a_demand_that_cannot_be_read_is_refused(body: dict[str, Any], says: str) -> None:
    with pytest.raises((ReceiptError, ValueError)) as caught:
        demand_of(body, "the body")
    assert says in str(caught.value)


PROOFS = [proof(), waits(), refuses(), *(proof(entry=each) for each in everything().databases)]


@pytest.mark.parametrize("made", PROOFS, ids=["ready", "waits", "refuses", "full", "bare", "nothing"])
def test_a_proof_comes_back_as_it_was(made: Proof) -> None:
    assert proof_of(sent(proof_document(made)), "the answer") == made


def test_the_instant_asked_about_keeps_its_fractions() -> None:
    """A daemon that were asked about an earlier instant would take an older backup for covering."""
    made = proof(since=NOW + timedelta(microseconds=999_999))
    assert proof_of(sent(proof_document(made)), "the answer").since == made.since


@pytest.mark.parametrize("name", [each.name for each in fields(Proof)])
def test_a_proof_without_one_of_its_fields_is_none(name: str) -> None:
    document = proof_document(proof())
    del document[name]
    if name == "database":
        assert proof_of(document, "the answer") == replace(proof(), database={})
        return
    with pytest.raises(ReceiptError, match=rf"^the answer: {name} "):
        proof_of(document, "the answer")


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("ready", "yes"), ("ready", 1), ("ready", None), ("conclusive", 0), ("reason", None), ("since", "now"),
        ("max_shrink", "50%"), ("max_shrink", True), ("max_shrink", float("nan")), ("entry", []), ("database", "app"),
    ],
)  # fmt: skip
def test_a_proof_with_a_field_of_another_kind_is_none(name: str, wrong: Any) -> None:
    with pytest.raises(ReceiptError, match=rf"^the answer: {name} must be"):
        proof_of({**proof_document(proof()), name: wrong}, "the answer")


def test_what_is_wrong_within_the_entry_is_named_with_its_place() -> None:
    document = proof_document(proof())
    del document["entry"]["rollback"]["created_at"]
    with pytest.raises(ReceiptError, match=r"^the answer: entry\.rollback\.created_at is missing$"):
        proof_of(document, "the answer")


def test_an_artifact_is_kept_under_a_receipt() -> None:
    with pytest.raises(ReceiptError, match="receipt is missing: an artifact is kept under it"):
        demand_of({"db": "app", "keep": True}, "the body")
