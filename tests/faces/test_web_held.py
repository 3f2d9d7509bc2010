"""What the daemon holds from one question to the next never outlives what it was made from: every new fact shows in the next answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sidecar.core.case import Scratch
from sidecar.core.model import Outcome
from sidecar.core.policy import Policy
from sidecar.core.verdict import Document, FleetVerdict, fleet_document, verdict_of
from tests.faces.site import Site
from tests.fakes import NOW, House, drill, healthy

PATH = "/data/app.db"


def afresh(house: House) -> Document:
    """The body of `/ready`, from evidence and the present instant and nothing else."""
    now, fleet = house.clock.at, house.keeper.fleet
    found = (
        verdict_of(each, house.ledger.evidence[each.path], fleet.policies[each.path], house.room, now)
        for each in sorted(fleet.databases.values(), key=lambda each: each.name)
    )
    return fleet_document(FleetVerdict(tuple(found), now), "1.2.3")


def ready(site: Site) -> bool:
    """What `/ready` says, which is what judging afresh says; so do the metrics' and the page's verdicts."""
    response = site.get("/ready")
    wanted = afresh(site.house)
    assert response.content == (json.dumps(wanted) + "\n").encode()
    assert site.house.answers.ready(site.house.answers.verdict()) == wanted
    standing = site.house.answers.standing()
    assert [each.ready for each in standing.verdicts] == [each["ready"] for each in wanted["databases"]]
    assert (standing.ready, standing.reason) == (wanted["ready"], wanted["reason"])
    assert response.status_code == (200 if wanted["ready"] else 503)
    return bool(wanted["ready"])


def failed(house: House) -> None:
    house.ledger.record(
        PATH, lambda known: known.after_drill(replace(drill(), outcome=Outcome.FAILED, reason="db_corrupt"))
    )


def lost(house: House) -> None:
    del house.ledger.evidence[PATH]
    house.ledger.evidence[PATH] = replace(healthy(), last_passed=None, last_drill=None, last_conclusive=None)


def stricter(house: House) -> None:
    house.set(replace(house.fleet, policies={PATH: Policy(max_lag=timedelta(seconds=5))}))


def older(house: House) -> None:
    house.clock.go(timedelta(minutes=3))


def set_back(house: House) -> None:
    house.clock.go(-timedelta(hours=2))


def joined(house: House) -> None:
    house.add("new", replace(healthy(), claim=None))


@pytest.mark.parametrize("change", [failed, lost, stricter, older, set_back, joined])
def test_what_has_changed_shows_in_the_next_answer(site: Site, change: Callable[[House], None]) -> None:
    site.house.clock.go(timedelta(seconds=20))
    for _ in range(3):
        assert ready(site)
        site.house.clock.go(timedelta(milliseconds=100))
    change(site.house)
    assert not ready(site)


def test_what_has_mended_shows_as_well(site: Site) -> None:
    failed(site.house)
    assert not ready(site)
    site.house.ledger.evidence[PATH] = healthy()
    assert ready(site)


def test_no_ready_answer_is_a_microsecond_late(site: Site) -> None:
    """A claim counts for a minute, a listing for longer."""
    site.house.clock.go(timedelta(seconds=60))
    assert ready(site)
    site.house.clock.go(timedelta(microseconds=1))
    assert not ready(site)


def test_a_clock_that_goes_back_and_forth_is_followed(site: Site) -> None:
    for seconds, wanted in ((1, True), (-3600, False), (3610, True), (600, False), (-605, True), (-100, False)):
        site.house.clock.go(timedelta(seconds=seconds))
        assert ready(site) is wanted


def test_the_room_for_drills_shows_in_the_next_answer(site: Site) -> None:
    def scratch() -> Any:
        assert ready(site)
        checks = site.get("/ready").json()["databases"][0]["checks"]
        return next((each["status"], each["observed"]) for each in checks if each["name"] == "scratch")

    site.house.clock.go(timedelta(seconds=1))
    assert scratch() == ("pass", 1e12)
    site.house.room = Scratch(NOW, 10)
    assert scratch() == ("warn", 10.0)
    site.house.room = None
    assert scratch() == ("warn", None)
    site.house.room = Scratch(NOW, 10**12)
    assert scratch() == ("pass", 1e12)


def test_what_left_is_not_held(site: Site) -> None:
    for number in range(20):
        site.house.add(f"db{number}", healthy())
    assert ready(site)
    for number in range(20):
        site.house.remove(f"db{number}")
    assert ready(site)
    assert len(site.house.answers._held) == 1  # noqa: SLF001 - nothing else shows what is kept


def test_limits_of_a_client_are_its_own(site: Site) -> None:
    site.house.clock.go(timedelta(seconds=40))
    assert ready(site)
    assert site.get("/ready?max_lag=30s").status_code == 503
    assert ready(site)


def test_a_db_alone_is_judged_as_among_all(site: Site) -> None:
    joined(site.house)
    assert not ready(site)
    assert site.get("/ready?db=app").json()["databases"] == afresh(site.house)["databases"][:1]
    assert not ready(site)


def test_many_threads_ask_at_once(site: Site) -> None:
    for number in range(30):
        site.house.add(f"db{number}", healthy())
    wanted = {len(json.dumps(afresh(site.house)))}
    found: set[int] = set()

    def ask() -> None:
        for _ in range(20):
            fleet, text = site.house.answers.ready_text()
            found.add(len(text) if fleet.ready and site.house.answers.standing().ready else 0)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == wanted
