"""Decisions of deploy commands: as documents, and as one line of a log."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.core.decision import Decision, Kind, Word, decision_document, decision_of, sentence_of
from sidecar.core.errors import ReceiptError
from tests.core.receipts import RECEIPT_ID, decision

FULL = decision(Word.OVERRIDDEN, databases=("app", "naïve 💾"), override="disk is dying")


@pytest.mark.parametrize("word", Word)
@pytest.mark.parametrize("kind", Kind)
def test_a_decision_comes_back_as_it_was(kind: Kind, word: Word) -> None:
    for made in (decision(word, kind), decision(word, kind, receipt_id="", databases=()), FULL):
        assert decision_of(json.loads(json.dumps(decision_document(made))), "the body") == made


def test_what_is_not_there_is_null_in_the_document() -> None:
    assert decision_document(decision(receipt_id="")) == {
        "kind": "gate", "decision": "passed", "at": "2026-11-23T03:00:00Z", "databases": ["app"],
        "reason": "all is well", "receipt": None, "override": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "wrong", "says"),
    [
        ("kind", "deploy", "'deploy' is not a valid Kind"),
        ("kind", None, "kind must be a text"),
        ("decision", "yes", "'yes' is not a valid Word"),
        ("decision", "PASSED", "is not a valid Word"),
        ("decision", True, "decision must be a text"),
        ("at", "2026-11-23", "at must name its time zone"),
        ("at", 7, "at must be a text"),
        ("databases", "app", "databases must be a list"),
        ("databases", [7], "databases must hold texts"),
        ("reason", None, "reason must be a text"),
        ("receipt", 7, "receipt must be a text"),
        ("receipt", "../x", "'../x' is no receipt's id"),
        ("override", False, "override must be a text"),
    ],
)
def test_a_decision_that_cannot_be_read_is_refused(name: str, wrong: Any, says: str) -> None:
    with pytest.raises(ReceiptError) as caught:
        decision_of({**decision_document(FULL), name: wrong}, "the body")
    assert caught.value.message.startswith("the body: ")
    assert says in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("name", ["kind", "decision", "at", "reason"])
def test_a_decision_without_what_it_needs_is_refused(name: str) -> None:
    document = decision_document(FULL)
    del document[name]
    with pytest.raises(ReceiptError, match=f"^the body: {name} is missing$"):
        decision_of(document, "the body")


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (decision(), f"gate passed for app: all is well (receipt {RECEIPT_ID})"),
        (decision(Word.REFUSED, receipt_id=""), "gate refused for app: all is well"),
        (
            FULL,
            f"gate overridden for app, naïve 💾, overridden: disk is dying: all is well (receipt {RECEIPT_ID})",
        ),
    ],
)
def test_a_decision_is_one_line_of_a_log(made: Decision, line: str) -> None:
    assert sentence_of(made) == line
