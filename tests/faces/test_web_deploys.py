"""The routes of deploy commands: proofs, receipts and decisions; what they queue and write, and whom they refuse."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import timedelta
from typing import Any

import jsonschema
import pytest

from sidecar.core.decision import Kind, Word, decision_document
from sidecar.core.errors import EnvironmentProblem, ReceiptError
from sidecar.core.proof import Demand, Proof, demand_document, proof_of
from sidecar.deploy.proof_desk import OPEN_MAX
from tests.core.evidences import NOW
from tests.core.receipts import RECEIPT_ID, decision, entry, everything, proof, refuses, waits
from tests.faces.site import CREATED, Site, refusal

TAKE = {"receipt": RECEIPT_ID}
GOOD: dict[str, Any] = {
    "/proofs": {"db": "app"},
    "/receipts": TAKE,
    "/decisions": decision_document(decision()),
}


def untouched(site: Site) -> bool:
    return (site.woken, site.proofs.made, site.proofs.taken, site.proofs.decisions) == (0, 0, [], [])


def state(site: Site, number: int = 1) -> dict[str, Any]:
    found = site.get(f"/proofs/proof-{number}")
    assert found.status_code == 200
    document: dict[str, Any] = found.json()
    return document


# Proofs


def test_a_proof_is_queued_and_wakes_the_daemon(site: Site) -> None:
    response = site.post(target="/proofs")
    assert (response.status_code, response.headers["location"], site.woken) == (202, "/proofs/proof-1", 1)
    queued = {"id": "proof-1", "db": "app", "state": "queued", "error": None, "proof": None}
    assert response.json() == state(site) == queued
    (ticket,) = site.proofs.desk.queued()
    assert ticket.demand == Demand(name="app")
    site.proofs.desk.begin(ticket)
    assert state(site) == {**queued, "state": "running"}
    assert site.post(target="/proofs").json()["id"] == "proof-2", "everybody gets one of their own"


def test_all_of_a_demand_arrives(site: Site) -> None:
    full = Demand(
        name="app", timeout=timedelta(minutes=90), receipt_id=RECEIPT_ID, max_age=timedelta(hours=26),
        since=NOW + timedelta(microseconds=123456), backup=False, production=False, keep=True, anyway=True,
        accept_shrink=True,
    )  # fmt: skip
    assert site.post(demand_document(full), "/proofs").status_code == 202
    assert site.proofs.desk.queued()[0].demand == full
    assert site.post({**demand_document(full), "later": [1]}, "/proofs").status_code == 202


PROOFS = [proof(), waits(), refuses(), *(proof(entry=each) for each in everything().databases)]


@pytest.mark.parametrize("made", PROOFS, ids=["ready", "waits", "refuses", "full", "bare", "nothing"])
def test_what_was_found_arrives_as_it_was(site: Site, made: Proof) -> None:
    site.post(target="/proofs")
    site.proofs.desk.finish(site.proofs.desk.queued()[0], made)
    done = state(site)
    assert (done["state"], done["error"]) == ("done", None)
    assert proof_of(done["proof"], "the answer") == made


def test_a_proof_that_failed_says_why(site: Site) -> None:
    site.post(target="/proofs")
    site.proofs.desk.finish(site.proofs.desk.queued()[0], None, "told to stop")
    assert state(site) == {"id": "proof-1", "db": "app", "state": "failed", "error": "told to stop", "proof": None}


def test_a_path_in_no_encoding_arrives_too(site: Site) -> None:
    odd = proof(entry=entry(path="/data/na\udcefve.db"))
    site.post(target="/proofs")
    site.proofs.desk.finish(site.proofs.desk.queued()[0], odd)
    assert proof_of(state(site)["proof"], "the answer").entry.path == "/data/na\udcefve.db"


@pytest.mark.parametrize("target", ["/proofs/nope", "/proofs/proof-1/", "/proofs/..%2f", "/proofs/%ff"])
def test_a_proof_that_nobody_knows_is_404(site: Site, target: str) -> None:
    code, error, _ = refusal(site.get(target))
    assert (code, error) == (404, "no proof has this id")


def test_too_many_proofs_are_503(site: Site) -> None:
    for _ in range(OPEN_MAX):
        site.proofs.request(Demand(name="app"))
    assert refusal(site.post(target="/proofs"))[:2] == (503, "too many proofs are waiting")
    assert site.woken == 0


# Receipts and decisions


def test_a_receipt_is_taken(site: Site) -> None:
    response = site.post(TAKE, "/receipts")
    assert (response.status_code, response.json()) == (200, {"receipt": RECEIPT_ID, "state": "in use"})
    assert (site.proofs.taken, site.woken) == ([RECEIPT_ID], 0)


def test_a_receipt_that_was_used_is_409(site: Site) -> None:
    site.proofs.steps = [ReceiptError("the receipt was used already", "gate again")]
    assert refusal(site.post(TAKE, "/receipts")) == (409, "the receipt was used already", "gate again")
    assert site.proofs.taken == []


@pytest.mark.parametrize("word", Word)
@pytest.mark.parametrize("kind", Kind)
def test_a_decision_is_recorded(site: Site, kind: Kind, word: Word) -> None:
    made = decision(word, kind, override="disk is dying" if word is Word.OVERRIDDEN else "")
    response = site.post(decision_document(made), "/decisions")
    assert (response.status_code, response.json()) == (200, {"recorded": True})
    assert site.proofs.decisions == [made]


@pytest.mark.parametrize("target", ["/receipts", "/decisions"])
def test_a_book_that_cannot_be_used_is_503(site: Site, target: str) -> None:
    site.proofs.steps = [EnvironmentProblem("/state/deploys.db cannot be used: disk is full", "free some")]
    assert refusal(site.post(GOOD[target], target)) == (
        503, "/state/deploys.db cannot be used: disk is full", "free some",
    )  # fmt: skip


@pytest.mark.parametrize("target", ["/receipts", "/decisions"])
def test_what_nobody_foresaw_is_500_without_a_traceback(
    site: Site, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    site.proofs.steps = [ValueError("/secret/place")]
    with caplog.at_level(logging.ERROR, "sidecar.web"):
        response = site.post(GOOD[target], target)
    assert refusal(response)[:2] == (500, "the sidecar failed to answer")
    assert "secret" not in response.text


def test_the_book_is_asked_beside_the_loop(site: Site) -> None:
    """A disk that hangs must not hold `/livez` up."""
    ran: list[bool] = []

    def look() -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            ran.append(True)

    site.proofs.steps = [look, look]
    site.post(TAKE, "/receipts")
    site.post(GOOD["/decisions"], "/decisions")
    assert ran == [True, True]


# Bad requests

BROKEN = [
    (b"{", CREATED, 400, "the body is not JSON"),
    (b"", CREATED, 400, "the body is not JSON"),
    (b"\xff\xfe\x00", CREATED, 400, "the body is not JSON"),
    (b"[" * 60_000, CREATED, 400, "the body is not JSON"),
    (b'["app"]', CREATED, 400, "the body is no JSON object"),
    (b"7", CREATED, 400, "the body is no JSON object"),
    (b"null", CREATED, 400, "the body is no JSON object"),
    (b" " * 65537, CREATED, 413, "larger than 65536"),
    (None, {}, 415, "must be JSON"),
    (None, {"content-type": "text/plain"}, 415, "must be JSON"),
    (None, {"content-type": "application/x-www-form-urlencoded"}, 415, "must be JSON"),
]


@pytest.mark.parametrize("target", GOOD)
@pytest.mark.parametrize(("body", "headers", "code", "says"), BROKEN)
def test_a_body_that_is_none_is_refused_with_a_sentence(
    site: Site, target: str, body: bytes | None, headers: dict[str, str], code: int, says: str
) -> None:
    content = body if body is not None else json.dumps(GOOD[target]).encode()
    found, error, _ = refusal(site.ask("POST", target, content=content, headers=headers))
    assert found == code
    assert says in error
    assert untouched(site)


WRONG = [
    ("/proofs", {"database": "app"}, 400, "the body: db is missing"),
    ("/proofs", {"db": 7}, 400, "the body: db must be a text"),
    ("/proofs", {"db": "nope"}, 404, "no database is called"),
    ("/proofs", {"db": "x" * 9999}, 404, "no database is called"),
    ("/proofs", {"db": "app", "timeout": "soon"}, 400, "`soon` is not a duration"),
    ("/proofs", {"db": "app", "max_age": 600}, 400, "max_age must be a text"),
    ("/proofs", {"db": "app", "since": "2026-11-23"}, 400, "since must name its time zone"),
    ("/proofs", {"db": "app", "since": "9999-12-31T23:59:59-23:59"}, 400, "since must be a time"),
    ("/proofs", {"db": "app", "keep": "yes"}, 400, "keep must be true or false"),
    ("/proofs", {"db": "app", "keep": True, "receipt": "../../etc"}, 400, "is no receipt's id"),
    ("/receipts", {"id": RECEIPT_ID}, 400, "the body: receipt is missing"),
    ("/receipts", {"receipt": None}, 400, "the body: receipt must be a text"),
    ("/receipts", {"receipt": "../../etc"}, 400, "is no receipt's id"),
    ("/receipts", {"receipt": "\ud800"}, 400, "is no receipt's id"),
    ("/receipts", {"receipt": ""}, 400, "is no receipt's id"),
    ("/decisions", {}, 400, "the body: kind is missing"),
    ("/decisions", {**GOOD["/decisions"], "decision": "yes"}, 400, "'yes' is not a valid Word"),
    ("/decisions", {**GOOD["/decisions"], "at": "now"}, 400, "at must be a time"),
    ("/decisions", {**GOOD["/decisions"], "receipt": "../../etc"}, 400, "is no receipt's id"),
    ("/decisions", {**GOOD["/decisions"], "databases": "app"}, 400, "databases must be a list"),
]


@pytest.mark.parametrize(("target", "body", "code", "says"), WRONG)
def test_a_body_that_says_something_else_is_refused_with_a_sentence(
    site: Site, target: str, body: dict[str, Any], code: int, says: str
) -> None:
    body = body or {"later": 1}
    found, error, _ = refusal(site.post(body, target))
    assert found == code
    assert says in error
    assert len(error) < 200
    assert untouched(site)


def test_a_body_without_a_length_is_cut_off_too(site: Site) -> None:
    async def endless() -> Any:
        while True:
            yield b" " * 10_000

    for target in GOOD:
        assert refusal(site.ask("POST", target, content=endless(), headers=CREATED))[0] == 413


# Who may


@pytest.mark.parametrize("target", GOOD)
def test_the_token_guards_them_as_it_guards_drills(site: Site, target: str) -> None:
    site.token = "s3cret"
    for loopback in (True, False):
        site.loopback = loopback
        for given in (None, "Bearer wrong", "Bearer", "Basic s3cret", "s3cret", "Bearer s3cret2", "Bearer \xe4"):
            headers = CREATED | ({"authorization": given.encode("latin-1")} if given else {})
            response = site.post(GOOD[target], target, headers=headers)
            assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
            assert "s3cret" not in response.text
        assert untouched(site)
    assert site.post(GOOD[target], target, headers=CREATED | {"authorization": "Bearer s3cret"}).is_success


@pytest.mark.parametrize("target", GOOD)
def test_whoever_may_not_post_is_told_before_the_body_is_read(site: Site, target: str) -> None:
    site.loopback = False
    code, error, _ = refusal(site.ask("POST", target, content=b"{", headers={}))
    assert (code, "no token is configured" in error) == (403, True)
    site.loopback = True
    code, error, _ = refusal(site.post(GOOD[target], target, base="http://evil.example:9810"))
    assert (code, "Host header" in error) == (403, True)
    site.token = ""
    assert refusal(site.post(GOOD[target], target))[:2] == (403, "POST is refused: the configured token is empty")
    assert untouched(site)


def test_reading_a_proof_needs_no_token_and_starts_nothing(site: Site) -> None:
    site.post(target="/proofs")
    site.token, woken = "s3cret", site.woken
    assert state(site)["state"] == "queued"
    head = site.ask("HEAD", "/proofs/proof-1")
    assert (head.status_code, head.content, site.woken) == (200, b"", woken)


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("GET", "/proofs", "POST"), ("PUT", "/receipts", "POST"), ("DELETE", "/decisions", "POST"),
        ("GET", "/receipts", "POST"), ("POST", "/proofs/proof-1", "GET, HEAD"),
    ],
)  # fmt: skip
def test_another_method_is_405_with_allow(site: Site, method: str, target: str, allow: str) -> None:
    response = site.ask(method, target)
    assert (response.status_code, response.headers["allow"]) == (405, allow)
    assert untouched(site)


def test_requests_are_counted_by_route(site: Site) -> None:
    for target, body in GOOD.items():
        site.post(body, target)
    site.get("/proofs/proof-1")
    site.get("/proofs/nope")
    assert site.counted == [
        ("/proofs", 202), ("/receipts", 200), ("/decisions", 200), ("/proofs/{id}", 200), ("/proofs/{id}", 404),
    ]  # fmt: skip


def test_the_document_asks_for_what_the_routes_take(site: Site) -> None:
    """Each request body of the tests fits /openapi.json, so whoever generates a client from it is understood."""

    components = site.get("/openapi.json").json()["components"]
    bodies: dict[str, list[Any]] = {
        "ProofRequest": [GOOD["/proofs"], demand_document(Demand(name="app", since=NOW, max_age=timedelta(hours=1)))],
        "ReceiptRequest": [TAKE],
        "Decision": [decision_document(decision(word)) for word in Word],
    }
    for name, examples in bodies.items():
        checker = jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": components})
        for each in examples:
            checker.validate(each)
        assert not checker.is_valid({}), name
