"""POST /drills: what it queues, whom it refuses, and what is said when something breaks."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest

from sidecar.core.model import Outcome
from sidecar.web_requests import is_local_name
from tests.faces.site import CREATED, Site, refusal
from tests.fakes import drill


def test_post_queues_one_drill_per_database_and_wakes_the_daemon(site: Site) -> None:
    response = site.post()
    assert (response.status_code, response.headers["location"], site.woken) == (202, "/drills/drill-1", 1)
    assert response.json() == {"id": "drill-1", "db": "app", "state": "queued"}
    site.house.desk.begin("/data/app.db")
    assert site.post().json() == {"id": "drill-1", "db": "app", "state": "running"}
    assert site.get("/drills/drill-1").json() == {"id": "drill-1", "db": "app", "state": "running", "drill": None}
    failed = replace(drill("drill-1"), outcome=Outcome.FAILED, reason="db_corrupt", message="bad", hint="look")
    site.house.ledger.drills.insert(0, ("/data/app.db", "app", failed))
    site.house.desk.finish("/data/app.db", "failed")
    ended = site.get("/drills/drill-1").json()
    assert (ended["state"], ended["drill"]["reason"]) == ("failed", "db_corrupt")


def test_a_get_starts_nothing(site: Site) -> None:
    for target in ("/", "/ready", "/metrics", "/livez", "/databases/app", "/drills/x", "/openapi.json", "/drills"):
        site.get(target)
    assert (site.woken, site.house.desk.queued()) == (0, ())


@pytest.mark.parametrize(
    ("body", "headers", "code", "says"),
    [
        (b"{", CREATED, 400, "is not JSON"),
        (b"\xff\xfe\x00", CREATED, 400, "is not JSON"),
        (b"[" * 60_000, CREATED, 400, "is not JSON"),
        (b"", CREATED, 400, "is not JSON"),
        (b'["app"]', CREATED, 400, "names no database"),
        (b'{"database": "app"}', CREATED, 400, "names no database"),
        (b'{"db": 7}', CREATED, 400, "names no database"),
        (b'{"db": "nope"}', CREATED, 404, "no database is called"),
        (b" " * 65537, CREATED, 413, "larger than 65536"),
        (b'{"db": "app"}', {}, 415, "must be JSON"),
        (b'{"db": "app"}', {"content-type": "text/plain"}, 415, "must be JSON"),
        (b"db=app", {"content-type": "application/x-www-form-urlencoded"}, 415, "must be JSON"),
    ],
)
def test_a_bad_post_is_refused_with_a_sentence(
    site: Site, body: bytes, headers: dict[str, str], code: int, says: str
) -> None:
    found, error, _ = refusal(site.ask("POST", "/drills", content=body, headers=headers))
    assert found == code
    assert says in error
    assert (site.woken, site.house.desk.queued()) == (0, ())


def test_a_body_without_a_length_is_cut_off_too(site: Site) -> None:
    async def endless() -> Any:
        while True:
            yield b" " * 10_000

    assert refusal(site.ask("POST", "/drills", content=endless(), headers=CREATED))[0] == 413


def test_unknown_fields_and_a_charset_are_fine(site: Site) -> None:
    more = {"content-type": "Application/JSON; charset=utf-8"}
    assert site.post({"db": "app", "later": 1}, headers=more).status_code == 202


@pytest.mark.parametrize("how", ["text", "callable"])
def test_the_token_guards_post_and_only_post(site: Site, how: str) -> None:
    site.token = "s3cret" if how == "text" else lambda: "s3cret"
    for loopback in (True, False):
        site.loopback = loopback
        for given in (None, "Bearer wrong", "Bearer", "Basic s3cret", "s3cret", "Bearer s3cret2", "Bearer \xe4"):
            headers = CREATED | ({"authorization": given.encode("latin-1")} if given else {})
            response = site.post(headers=headers)
            assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
            assert "s3cret" not in response.text
        assert site.post(headers=CREATED | {"authorization": "bearer s3cret"}).status_code == 202
        assert site.get("/ready").status_code == 200


def test_beyond_loopback_without_a_token_post_is_refused(site: Site) -> None:
    site.loopback = False
    code, error, hint = refusal(site.post())
    assert (code, "no token is configured" in error, "http.token-file" in hint) == (403, True, True)
    site.loopback, site.token = True, ""
    assert refusal(site.post())[:2] == (403, "POST is refused: the configured token is empty")


def test_a_page_whose_name_resolves_to_us_cannot_post(site: Site) -> None:
    code, error, _ = refusal(site.post(base="http://evil.example:9810"))
    assert (code, "Host header" in error) == (403, True)
    for base in ("http://localhost:9810", "http://[::1]:9810", "http://127.0.0.2", "http://app.localhost"):
        assert site.post(base=base).status_code == 202
    site.token = "s3cret"
    headers = CREATED | {"authorization": "Bearer s3cret"}
    assert site.post(base="http://sidecar.internal", headers=headers).status_code == 202
    assert not is_local_name("localhost.evil.example")
    assert not is_local_name("[fe80::1]")


def test_what_nobody_foresaw_is_500_without_a_traceback(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> str:
        raise OSError("/secret/token: Input/output error")

    site.token = broken
    with caplog.at_level(logging.ERROR, "sidecar.web"):
        response = site.post()
    assert refusal(response)[:2] == (500, "the sidecar failed to answer")
    assert "secret" not in response.text
    assert [each.exc_info[0] for each in caplog.records if each.exc_info] == [OSError]
    assert caplog.records[0].getMessage() == "POST /drills failed in a way that nobody foresaw"
    assert site.counted[-1] == ("/drills", 500)


def test_a_client_that_leaves_gets_no_answer_and_no_drill(site: Site) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/drills", "query_string": b"", "server": ("/run/x.sock", None),
        "headers": [(b"content-type", b"application/json"), (b"host", b"sidecar")],
    }  # fmt: skip
    asyncio.run(site.app(scope, receive, send))
    assert (sent, site.woken, site.counted) == ([], 0, [])
