"""What GET answers; every answer is held against /openapi.json."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import jsonschema
import pytest

from sidecar.core.model import ClaimSource, Position, Replica
from tests.faces.site import DOCUMENT, Site, refusal
from tests.fakes import NOW, healthy


def test_ready_says_yes_with_all_evidence(site: Site) -> None:
    response = site.get("/ready")
    assert response.status_code == 200
    assert "retry-after" not in response.headers
    body = response.json()
    assert (body["ready"], body["retryable"], body["reason"]) == (True, False, "1 database can be restored")
    assert body["version"] == "1.2.3"
    assert body["databases"][0]["position"] == {
        "live": "000000000000002a", "replica": "000000000000002a", "lag_seconds": 0.0,
    }  # fmt: skip


def test_ready_turns_red_by_itself_when_the_daemon_stops_looking(site: Site) -> None:
    assert site.get("/ready").status_code == 200
    site.house.clock.go(timedelta(minutes=10))
    response = site.get("/ready")
    assert response.status_code == 503
    assert response.json()["reason"].startswith("app: replica lacks commits of the last 600 s (limit 120 s)")


def test_retry_after_stands_only_where_waiting_helps(site: Site) -> None:
    known = site.house.ledger.evidence["/data/app.db"]
    site.house.clock.go(timedelta(minutes=3))
    waiting = site.get("/ready")
    assert (waiting.status_code, waiting.json()["retryable"], waiting.headers["retry-after"]) == (503, True, "2")
    claim = replace(known.claim, managed=False, read_at=site.house.clock.at) if known.claim else None
    site.house.ledger.evidence["/data/app.db"] = replace(known, claim=claim)
    stuck = site.get("/ready")
    assert (stuck.status_code, stuck.json()["retryable"], stuck.headers.get("retry-after")) == (503, False, None)


def test_no_database_and_no_evidence_are_never_ready() -> None:
    site = Site()
    assert site.get("/ready").status_code == 503
    site.house.add("new")
    response = site.get("/ready")
    assert response.status_code == 503
    assert response.json()["retryable"] is True
    checks = response.json()["databases"][0]["checks"]
    assert {each["status"] for each in checks if each["name"] != "scratch"} == {"unknown"}


def test_db_chooses_and_may_be_repeated(site: Site) -> None:
    site.house.add("other")
    assert site.get("/ready").status_code == 503
    assert site.get("/ready?db=app").status_code == 200
    both = site.get("/ready?db=other&db=app&db=app").json()
    assert [each["name"] for each in both["databases"]] == ["app", "other"]


def test_an_unknown_db_is_404_and_lists_no_names(site: Site) -> None:
    code, error, hint = refusal(site.get("/ready?db=app&db=nope"))
    assert (code, error) == (404, 'no database is called "nope"')
    assert hint == "1 database is known; GET /ready names them"
    assert refusal(site.get("/ready?db="))[0] == 404


def test_limits_tighten_and_never_loosen(site: Site) -> None:
    site.house.clock.go(timedelta(seconds=40))
    assert site.get("/ready").status_code == 200
    assert site.get("/ready?max_lag=30s").status_code == 503
    assert site.get("/ready?max_age=30s").status_code == 503
    assert site.get("/ready?max_age=1h&max_lag=1m30s").status_code == 200
    site.house.clock.go(timedelta(seconds=100))
    assert site.get("/ready?max_lag=7d").status_code == 503


@pytest.mark.parametrize(
    ("query", "says", "hint"),
    [
        ("max_age=10", "max_age: `10` is not a duration", "max_age=10m"),
        ("max_age=", "max_age: `` is not a duration", "max_age=10m"),
        ("max_lag=-5s", "max_lag: `-5s` is not a duration", "max_lag=10m"),
        ("max_lag=1m&max_lag=7d", "`max_lag` is given more than once", "once"),
        ("max_age=" + "0" * 64 + "1s", "max_age: a duration is no longer than 64 characters", "max_age=10m"),
        ("max_age=1s1000000d", "is longer than a hundred years", "max_age=10m"),
        ("maxage=10m", 'unknown parameter "maxage"', "did you mean `max_age`?"),
        ("max-lag=10m", 'unknown parameter "max-lag"', "did you mean `max_lag`?"),
        ("database=app", 'unknown parameter "database"', "known are db, max_age, max_lag, format"),
        ("format=xml", 'format: "xml" is unknown', "format=text"),
        ("&".join(["db=app"] * 1001), "more than 1000 parameters", "fewer"),
    ],
)
def test_what_cannot_be_read_is_400_and_says_what_to_write(site: Site, query: str, says: str, hint: str) -> None:
    code, error, told = refusal(site.get(f"/ready?{query}"))
    assert code == 400
    assert says in error
    assert hint in told


def test_text_is_one_line_a_check_after_the_reason(site: Site) -> None:
    site.house.clock.go(timedelta(minutes=3))
    response = site.get("/ready?format=text")
    assert (response.status_code, response.headers["content-type"]) == (503, "text/plain; charset=utf-8")
    first, *lines = response.text.splitlines()
    assert first == "app: replica lacks commits of the last 180 s (limit 120 s)"
    assert "[-] app lag lagging: replica lacks commits of the last 180 s (limit 120 s)" in lines
    assert "[+] app drill ok" in lines
    assert len(lines) == len(site.get("/ready").json()["databases"][0]["checks"])


def test_a_message_of_many_lines_stays_one_line_of_text(site: Site) -> None:
    known = site.house.ledger.evidence["/data/app.db"]
    assert known.claim is not None
    claim = replace(known.claim, up=False, error="first\nsecond\r\n[+] app lag ok")
    site.house.ledger.evidence["/data/app.db"] = replace(known, claim=claim)
    lines = site.get("/ready?format=text").text.splitlines()
    assert lines[0] == "app: Litestream does not answer: first second [+] app lag ok"
    assert all(line.startswith("[") for line in lines[1:])


def test_a_path_in_no_encoding_breaks_nothing(site: Site) -> None:
    site.house.add("odd\udcff", path="/data/odd\udcff.db")
    assert [each["name"] for each in site.get("/ready").json()["databases"]] == ["app", "odd\udcff"]
    assert "odd\\udcff" in site.get("/ready?format=text").text


@pytest.mark.parametrize(
    "target",
    ["/", "/ready", "/ready?format=text", "/livez", "/metrics", "/databases/app", "/openapi.json", "/drills/d1"],
)
def test_head_works_wherever_get_does(site: Site, target: str) -> None:
    got, headed = site.get(target), site.ask("HEAD", target)
    assert (headed.status_code, headed.headers) == (got.status_code, got.headers)
    assert int(headed.headers["content-length"]) == len(got.content) > 0
    assert headed.content == b""


def test_livez_knows_only_whether_the_loop_turns(site: Site) -> None:
    site.house.ledger.evidence.clear()
    assert (site.get("/livez").status_code, site.get("/livez").text) == (200, "ok\n")
    site.alive = False
    assert site.get("/livez").status_code == 503


def test_metrics_are_rendered_for_whoever_accepts_what(site: Site) -> None:
    response = site.get("/metrics", headers={"accept": "application/openmetrics-text"})
    assert response.text == "# application/openmetrics-text\n"


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("POST", "/ready", "GET, HEAD"), ("DELETE", "/databases/app", "GET, HEAD"), ("PUT", "/drills", "POST"),
        ("GET", "/drills", "POST"), ("HEAD", "/drills", "POST"), ("OPTIONS", "/drills", "POST"),
    ],
)  # fmt: skip
def test_another_method_is_405_with_allow(site: Site, method: str, target: str, allow: str) -> None:
    response = site.ask(method, target)
    assert (response.status_code, response.headers["allow"]) == (405, allow)


def test_unknown_addresses_are_404_and_counted_without_their_path(site: Site) -> None:
    for target in ("/nope", "/ready/", "/databases/", "/drills/", "/READY"):
        assert refusal(site.get(target))[0] == 404
    site.get("/databases/nope")
    site.get("/drills/whatever")
    assert {route for route, _ in site.counted} == {"other", "/databases/{name}", "/drills/{id}"}


def test_a_database_is_asked_for_by_its_name_percent_encoded(site: Site) -> None:
    site.house.add("b/50% ä", path="/data/b/50% ä.db")
    for target in ("/databases/b%2F50%25%20%C3%A4", "/databases/b/50%25%20%C3%A4"):
        assert site.get(target).json()["name"] == "b/50% ä"
    found = site.get("/databases/app").json()
    assert [each["id"] for each in found["drills"]] == ["d1"]
    assert found["ready"] is True


def test_litestream_03_positions_are_as_described(site: Site) -> None:
    known = site.house.ledger.evidence["/data/app.db"]
    at = Position("5cd8f7d600cfdc59", 0x1A, 16512)
    assert known.listing is not None
    site.house.ledger.evidence["/data/app.db"] = replace(known, listing=replace(known.listing, position=at))
    assert site.get("/ready").json()["databases"][0]["position"]["replica"] == "5cd8f7d600cfdc59/0000001a:16512"


def test_the_document_is_sound_and_names_every_route(site: Site) -> None:
    document = site.get("/openapi.json").json()
    assert document == DOCUMENT
    assert set(document["paths"]) == {
        "/", "/ready", "/livez", "/metrics", "/databases/{name}", "/evidence/{name}", "/drills", "/drills/{id}",
        "/openapi.json",
        "/proofs", "/proofs/{id}", "/receipts", "/decisions",
    }  # fmt: skip
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_the_document_is_precise_enough_to_refuse_a_wrong_answer(site: Site) -> None:
    checker = jsonschema.Draft202012Validator(
        {"$ref": "#/components/schemas/Ready", "components": DOCUMENT["components"]}
    )
    for path, wrong in (("status", "ok"), ("reason", "because"), ("name", "speed"), ("observed", "many")):
        answer = site.get("/ready").json()
        answer["databases"][0]["checks"][0][path] = wrong
        assert not checker.is_valid(answer), path
    answer = site.get("/ready").json()
    answer["databases"][0]["position"]["replica"] = "42"
    assert not checker.is_valid(answer)
    answer = site.get("/ready").json()
    del answer["retryable"]
    assert not checker.is_valid(answer)


def test_a_replica_configuration_never_shows(site: Site) -> None:
    site.house.add("shy", healthy())
    shy = site.house.fleet.databases["/data/shy.db"]
    hidden = replace(shy, replica=Replica("s3", "s3://bucket/shy", config="secret-access-key: HIDDEN"))
    site.house.set(replace(site.house.fleet, databases={hidden.path: hidden}))
    for target in ("/ready", "/ready?format=text", "/databases/shy", "/openapi.json", "/databases/none"):
        assert "HIDDEN" not in site.get(target).text


def test_sources_that_cannot_be_asked_are_a_warning(site: Site) -> None:
    known = site.house.ledger.evidence["/data/app.db"]
    assert known.claim is not None
    claim = replace(known.claim, source=ClaimSource.NONE, read_at=NOW)
    site.house.ledger.evidence["/data/app.db"] = replace(known, claim=claim)
    assert site.get("/ready").status_code == 200
