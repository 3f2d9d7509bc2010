"""`GET /evidence/NAME`: a daemon's own drills whole, for the sidecar beside the app; and how a verifier says what it is."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import httpx

from sidecar.adapters.ledger.codec import drill_of_text
from sidecar.answers import OFFER_BYTES_MAX
from sidecar.core.evidence import Evidence
from sidecar.core.live_state import LiveState
from sidecar.core.model import LookResult, Outcome, Sighting
from sidecar.core.policy import Policy
from sidecar.metrics import Metrics
from tests.faces.site import Site, refusal
from tests.fakes import NOW, content, drill, healthy


def offered(response: httpx.Response) -> list[str]:
    return [each["id"] for each in response.json()["drills"]]


def put(site: Site, *drills: object) -> None:
    site.house.ledger.drills[:] = [("/data/app.db", "app", each) for each in drills]  # type: ignore[misc] # Drill


def test_drills_come_whole_newest_first_and_nobody_keeps_the_answer(site: Site) -> None:
    new, old = (
        drill("new"),
        replace(drill("old", NOW - timedelta(hours=6)), outcome=Outcome.FAILED, reason="db_corrupt"),
    )
    put(site, new, old)
    response = site.get("/evidence/app")
    assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")
    body = response.json()
    assert (body["evidence_version"], body["name"]) == (1, "app")
    assert body["replica"] == {"type": "s3", "label": "s3://bucket/app"}
    assert [drill_of_text(json.dumps(each)) for each in body["drills"]] == [
        replace(each, parity=None, parity_seconds=None) for each in (new, old)
    ]
    assert "config" not in response.text


def test_no_drill_of_somebody_elses_is_passed_on_and_at_most_twenty(site: Site) -> None:
    own = [drill(f"d{number}", NOW - timedelta(hours=number)) for number in range(30)]
    put(
        site,
        replace(drill("theirs"), verifier="far:9810"),
        replace(drill("cut"), outcome=Outcome.ABORTED, reason="aborted"),
        *own,
    )
    assert offered(site.get("/evidence/app")) == [each.id for each in own[:20]]


def test_a_thousand_tables_in_each_do_not_make_it_endless(site: Site) -> None:
    wide = replace(content(), tables={f"{'t' * 100}{number}": 1 for number in range(10_000)})
    put(site, *(replace(drill(f"d{number}"), content=wide) for number in range(20)))
    response = site.get("/evidence/app")
    assert 1 <= len(offered(response)) < 5
    assert len(response.content) < OFFER_BYTES_MAX * 1.1


def test_head_and_unknown_names_and_no_post(site: Site) -> None:
    head = site.ask("HEAD", "/evidence/app")
    assert (head.status_code, head.content, int(head.headers["content-length"]) > 100) == (200, b"", True)
    assert refusal(site.get("/evidence/nope"))[:2] == (404, 'no database is called "nope"')
    assert refusal(site.ask("POST", "/evidence/app"))[0] == 405
    assert refusal(site.get("/evidence/"))[0] == 404


def test_a_database_without_drills_offers_none(site: Site) -> None:
    site.house.add("new")
    assert offered(site.get("/evidence/new")) == []


def far_site() -> Site:
    """A verifier's own answers."""
    site, known = Site(), healthy()
    database = site.house.add("app", None, Policy(production=False))
    alone = LiveState(NOW, None, 0, 0, None, None, (), in_reach=False)
    grown = Evidence(first_seen_at=NOW).after_sighting(
        alone, Sighting(NOW, LookResult.OK, listing=known.listing, finished_at=NOW)
    )
    site.house.ledger.evidence[database.path] = grown.after_drill(replace(drill(), parity=None))
    site.house.set(replace(site.house.fleet, databases={database.path: replace(database, in_reach=False)}))
    return site


def test_a_verifier_says_plainly_what_it_judges() -> None:
    site = far_site()
    body = site.get("/ready").json()
    assert (
        body["reason"] == "1 database can be restored; of them only the backup was judged, production is not in reach"
    )
    assert body["databases"][0]["production"] is False
    assert body["databases"][0]["position"]["lag_seconds"] is None
    page = site.get("/?db=app", headers={"Accept": "text/html"}).text
    assert "Only its backup is judged" in page
    near = Site()
    near.house.add("app", healthy())
    assert near.get("/ready").json()["databases"][0]["production"] is True
    assert "Only its backup" not in near.get("/", headers={"Accept": "text/html"}).text


def test_whose_drill_it_was_is_shown(site: Site) -> None:
    put(site, replace(drill("v1"), verifier="far:9810"))
    assert site.get("/databases/app").json()["drills"][0]["verifier"] == "far:9810"
    assert "made by far:9810" in site.get("/", headers={"Accept": "text/html"}).text


def test_whether_the_verifier_answers_is_a_series_where_there_is_one(site: Site) -> None:
    def page(up: bool | None) -> str:  # noqa: FBT001 - the value shown
        made = Metrics(site.house.answers, litestream_version="0.5.17", sqlite_version="3", verifier=lambda: up)
        return made.render("")[0].decode()

    assert "litestream_sidecar_verifier_up 1.0\n" in page(up=True)
    assert "litestream_sidecar_verifier_up 0.0\n" in page(up=False)
    assert "\nlitestream_sidecar_verifier_up" not in page(up=None)
