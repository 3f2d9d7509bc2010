"""After the deploy: production against the receipt, then the backup; one answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from sidecar.core.decision import Kind, Word
from sidecar.core.errors import ReceiptError
from sidecar.core.expectation import Expect, Expectation
from sidecar.core.finding import Finding, Reason, Status
from sidecar.core.proof import Demand, Proof
from sidecar.core.receipt import Receipt
from sidecar.deploy.gate import Patience
from sidecar.deploy.postcheck import Checked, Held, check_change, cover_again, decide, decision_of, refuse_unfit
from tests.core.evidences import NOW
from tests.core.receipts import RECEIPT_ID, census, entry, proof, receipt, refuses, waits
from tests.fakes import FakeClock
from tests.road_fakes import FakeRoad, SteppingEvent
from tests.verb_fakes import unseen

MINUTE = timedelta(minutes=1)
HERE = {"app": "/data/app.db"}
SOUND = Finding("database", Status.PASS, "production is sound")
CORRUPT = Finding("database", Status.FAIL, "quick_check: row 3 missing", Reason.DB_CORRUPT, "do not go on")
UNREAD = Finding("database", Status.UNKNOWN, "not the app's user", Reason.UNREADABLE, "run as it")
BUSY = Finding("database", Status.UNKNOWN, "a transaction is open", Reason.CHECK_OLD, "wait", retryable=True)
LAG = Finding("lag", Status.UNKNOWN, "not all is there yet", Reason.LAGGING, "wait", retryable=True)
DRILLED = Finding("drill", Status.PASS, "restored")
ANY = Expectation(expect=Expect.ANY)


def patience(**proofs: list[Proof]) -> tuple[Patience, FakeRoad]:
    clock, road = FakeClock(NOW), FakeRoad(proofs)
    return Patience(road, clock, SteppingEvent(clock), unseen), road


def after(*findings: Finding, name: str = "app", **facts: Any) -> Proof:
    """What a look at production brings back after the deploy."""
    made = proof(name, *(findings or (SOUND,)), conclusive=facts.pop("conclusive", False))
    now = census(**facts) if facts.pop("census", True) else None
    return replace(made, entry=replace(made.entry, census=now))


def checked(*found: Proof, of: Receipt | None = None, expectation: Expectation = ANY) -> tuple[Checked, ...]:
    patient, _ = patience(**{each.name: [each] for each in found})
    return check_change(of or receipt(), expectation, patient, MINUTE)


def said(one: Checked) -> dict[str, tuple[Status, str]]:
    return {each.name: (each.status, each.message) for each in one.findings}


UNFIT: list[tuple[str, Receipt, Mapping[str, str], datetime, str]] = [
    ("expired", receipt(), HERE, NOW + timedelta(hours=1), "the receipt r.json expired at 2026-11-23 04:00:00 UTC"),
    ("long expired", receipt(), HERE, NOW + timedelta(days=9), "expired at 2026-11-23 04:00:00 UTC"),
    ("unknown", receipt(), {"b": "/b.db"}, NOW, "is about a database app, which is not known here (known: b)"),
    ("none known", receipt(), {}, NOW, "which is not known here (known: none)"),
    (
        "another path", receipt(), {"app": "/data/other.db"}, NOW,
        "is of another database: app is /data/app.db there and /data/other.db here",
    ),
    ("the second", receipt(entry(), entry("b")), HERE, NOW, "is about a database b, which is not known here"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "made", "here", "now", "says"), UNFIT, ids=[name for name, *_ in UNFIT])
def test_a_receipt_that_cannot_stand_for_these_databases_is_refused(
    name: str, made: Receipt, here: Mapping[str, str], now: datetime, says: str
) -> None:
    with pytest.raises(ReceiptError) as caught:
        refuse_unfit(made, "r.json", here, now)
    assert says in caught.value.message, name
    assert caught.value.message.startswith("the receipt r.json ")
    assert caught.value.hint


def test_a_receipt_is_good_to_its_last_second_and_others_may_be_known_too() -> None:
    refuse_unfit(receipt(), "r.json", {**HERE, "b": "/b.db"}, NOW + timedelta(minutes=59, seconds=59))


# Production


def test_production_is_asked_about_and_its_backup_is_not() -> None:
    patient, road = patience(app=[after()])
    (found,) = check_change(receipt(), ANY, patient, MINUTE)
    assert road.asked == [Demand(name="app", backup=False, timeout=MINUTE)]
    assert said(found) == {
        "identity": (Status.PASS, "it is the same database, and no table has shrunk"),
        "database": (Status.PASS, "no foreign key is violated that was not before"),
        "schema": (Status.PASS, "the version is still 0042_auto (django_migrations); the schema did not"),
    }
    assert found.blocking == ()
    assert (found.document["ready"], found.document["name"]) == (True, "app")
    assert [each["name"] for each in found.document["checks"]] == ["identity", "database", "schema"]


def test_what_changed_stands_in_the_document() -> None:
    (found,) = checked(after(tables={"users": 99, "orders": 50}))
    assert found.document["change"]["tables"] == [{"name": "users", "before": 100, "after": 99}]


def test_the_policys_shrink_is_the_daemons_and_not_the_commands() -> None:
    (found,) = checked(
        replace(after(tables={"users": 99, "orders": 50}), max_shrink=0.0),
        expectation=replace(ANY, max_shrink=0.9),
    )  # fmt: skip
    assert said(found)["identity"] == (Status.FAIL, "rows are gone: table users has 99 rows of 100")
    assert found.document["ready"] is False


@pytest.mark.parametrize("sound", [CORRUPT, UNREAD])
def test_of_soundness_and_foreign_keys_the_one_that_blocks_stands(sound: Finding) -> None:
    (found,) = checked(after(sound))
    assert [each for each in found.findings if each.name == "database"] == [sound]


def test_foreign_keys_are_told_where_the_copy_is_sound() -> None:
    violated = replace(after(), entry=replace(after().entry, census=census(("orders", 7, "users", 0))))
    (found,) = checked(violated)
    assert said(found)["database"][0] is Status.FAIL


def test_production_that_could_not_be_read_is_not_compared() -> None:
    (found,) = checked(after(UNREAD, census=False))
    assert [(each.name, each.status) for each in found.findings] == [
        ("database", Status.UNKNOWN), ("schema", Status.UNKNOWN),
    ]  # fmt: skip
    assert said(found)["schema"][1] == "production cannot be held against the receipt: not the app's user"
    assert (found.change, found.document["change"]) == (None, None)


def test_a_receipt_of_an_override_that_says_nothing_cannot_be_held_against() -> None:
    (found,) = checked(after(), of=receipt(entry(census=None)))
    assert said(found)["schema"][1].startswith("the receipt does not say how production was before the deploy")
    assert decide([found], 1).word is Word.UNKNOWN


def test_a_proof_without_the_check_is_no_proof() -> None:
    (found,) = checked(after(DRILLED))
    assert said(found)["database"] == (Status.UNKNOWN, "production was not checked")
    (found,) = checked(after(DRILLED, census=False))
    assert said(found)["database"] == (Status.UNKNOWN, "production was not checked")


def test_every_database_of_the_receipt_is_checked_in_its_order() -> None:
    found = checked(after(name="b"), after(CORRUPT), of=receipt(entry("b"), entry()))
    assert [each.entry.name for each in found] == ["b", "app"]
    assert [bool(each.blocking) for each in found] == [False, True]


def test_a_transaction_that_is_still_open_is_waited_for() -> None:
    patient, road = patience(app=[after(BUSY), after(BUSY)])
    (found,) = check_change(receipt(), ANY, patient, MINUTE)
    assert (len(road.asked), found.blocking) == (3, ())


def test_one_that_is_damaged_decides_for_all() -> None:
    patient, road = patience(app=[after(CORRUPT, conclusive=True)])
    found = check_change(receipt(entry(), entry("b")), ANY, patient, MINUTE)
    assert ([each.entry.name for each in found], len(road.asked)) == (["app"], 1)
    held = decide(found, 2)
    assert (held.word, held.reason) == (Word.REFUSED, "app: quick_check: row 3 missing")


# The backup


def test_the_backup_is_asked_about_once_production_is_good() -> None:
    before = checked(after())
    patient, road = patience(app=[waits(), proof("app", SOUND, DRILLED)])
    (found,) = cover_again(before, ANY, patient, MINUTE)
    assert {(each.backup, each.production, each.accept_shrink, each.keep) for each in road.asked} == {
        (True, False, False, False),
    }  # fmt: skip
    assert len(road.asked) == 2, "it waits"
    assert said(found)["database"] == (Status.PASS, "no foreign key is violated that was not before"), (
        "what was held against the receipt stands"
    )
    assert said(found)["drill"] == (Status.PASS, "restored")
    assert decide([found], 1) == Held(
        word=Word.PASSED, reason="deployed, intact, and covered by the backup again", checked=(found,)
    )


def test_rows_that_were_meant_to_go_become_the_new_measure() -> None:
    patient, road = patience()
    cover_again(checked(after()), Expectation(allow_shrink=frozenset({"users"})), patient, MINUTE)
    assert road.asked[0].accept_shrink is True


def test_a_backup_that_does_not_catch_up_is_not_known_and_one_that_is_broken_is_refused() -> None:
    before = checked(after())
    patient, _ = patience(app=[waits()] * 99)
    held = decide(cover_again(before, ANY, patient, MINUTE), 1)
    assert (held.word, held.reason) == (Word.UNKNOWN, "app: not all is there yet")
    patient, _ = patience(app=[refuses()])
    held = decide(cover_again(before, ANY, patient, MINUTE), 1)
    assert (held.word, held.reason) == (Word.REFUSED, "app: there is a gap")


def test_a_database_that_broke_meanwhile_is_told() -> None:
    patient, _ = patience(app=[proof("app", CORRUPT, conclusive=True, retryable=False)])
    (found,) = cover_again(checked(after()), ANY, patient, MINUTE)
    assert said(found)["database"] == (Status.FAIL, "quick_check: row 3 missing")


# One answer


def with_findings(*findings: Finding, name: str = "app") -> Checked:
    return Checked(entry=entry(name), proof=proof(name), findings=findings, change=None)


@pytest.mark.parametrize(
    ("found", "wanted", "word", "reason"),
    [
        ([with_findings(SOUND)], 1, Word.PASSED, "deployed, intact, and covered by the backup again"),
        ([with_findings(LAG)], 1, Word.UNKNOWN, "app: not all is there yet"),
        ([with_findings(LAG, CORRUPT)], 1, Word.REFUSED, "app: quick_check: row 3 missing (and 1 more)"),
        (
            [with_findings(LAG), with_findings(CORRUPT, name="b")],
            2,
            Word.REFUSED,
            "b: quick_check: row 3 missing (and 1 more)",
        ),
        (  # a failure that only could not find out
            [with_findings(Finding("drill", Status.FAIL, "too slow", Reason.TIMEOUT, "wait"))],
            1,
            Word.UNKNOWN,
            "app: too slow",
        ),
    ],
)
def test_all_that_was_found_is_one_answer(found: list[Checked], wanted: int, word: Word, reason: str) -> None:
    held = decide(found, wanted)
    assert (held.word, held.reason) == (word, reason)
    made = decision_of(held, receipt(), NOW)
    assert (made.kind, made.word, made.reason) == (Kind.POSTCHECK, word, reason)
    assert (made.receipt_id, made.databases, made.at, made.override) == (RECEIPT_ID, ("app",), NOW, "")


@pytest.mark.parametrize(("found", "wanted"), [([with_findings(SOUND)], 2), ([], 1), ([], 0)])
def test_less_than_all_databases_and_none_at_all_are_never_good(found: list[Checked], wanted: int) -> None:
    """Who was stopped by one database has not asked about the others."""
    held = decide(found, wanted)
    assert (held.word, held.reason) == (Word.UNKNOWN, "not every database of the receipt was checked")


def test_proved_faults_come_first() -> None:
    assert with_findings(LAG, SOUND, CORRUPT).blocking == (CORRUPT, LAG)
