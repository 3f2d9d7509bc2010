"""The road through a daemon: a real HTTP server at one end, the client that `gate --url` uses at the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from sidecar.adapters.daemon_client import BadAddress, read_address
from sidecar.adapters.daemon_road import DaemonRoad, Refused
from sidecar.adapters.http_server import HttpServer
from sidecar.core.decision import Word
from sidecar.core.errors import EnvironmentProblem, ReceiptError, SidecarError, Stopped
from sidecar.core.proof import Demand, Proof
from sidecar.core.settings_model import Listen
from tests.core.evidences import NOW
from tests.core.receipts import RECEIPT_ID, decision, everything, proof, refuses
from tests.faces.site import Site
from tests.verb_fakes import unseen

Serve = Callable[..., HttpServer]
DEMAND = Demand(name="app", receipt_id=RECEIPT_ID, since=NOW, timeout=timedelta(seconds=30), keep=True)


@pytest.fixture
def road(serve: Serve) -> DaemonRoad:
    return DaemonRoad(read_address(serve().url), poll_s=0.02)


@contextmanager
def working(site: Site, found: Proof | None, error: str = "") -> Iterator[None]:
    """A daemon's loop that takes what is queued, until the block ends."""
    stop = Event()

    def loop() -> None:
        while not stop.wait(0.01):
            for ticket in site.proofs.desk.queued():
                site.proofs.desk.begin(ticket)
                stop.wait(0.05)
                site.proofs.desk.finish(ticket, found, error)

    thread = Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def prove(road: DaemonRoad, demand: Demand = DEMAND, stop: Event | None = None, seen: list[str] | None = None) -> Proof:
    told = (lambda stage, *_: seen.append(stage)) if seen is not None else unseen
    return road.prove(demand, stop=stop or Event(), progress=told)


def failure(work: Callable[[], object], kind: type[SidecarError] = SidecarError) -> tuple[str, str]:
    with pytest.raises(SidecarError) as caught:
        work()
    assert type(caught.value) is kind
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize("made", [proof(), refuses(), proof(entry=everything().databases[0])])
def test_what_the_daemon_found_is_what_the_command_gets(site: Site, road: DaemonRoad, made: Proof) -> None:
    seen: list[str] = []
    with working(site, made):
        assert prove(road, seen=seen) == made
    assert seen[0] == "queued at the daemon"
    assert seen[-1] == "done at the daemon"
    ticket = site.proofs.find("proof-1")
    assert ticket is not None
    assert ticket.demand == DEMAND


def test_over_a_unix_socket_too(site: Site, serve: Serve, tmp_path: Path) -> None:
    server = serve(Listen(unix=str(tmp_path / "s.sock")))
    with working(site, proof()):
        assert prove(DaemonRoad(read_address(server.url))) == proof()


def test_names_and_paths_are_the_daemons(road: DaemonRoad) -> None:
    assert road.databases() == {"app": "/data/app.db"}


def test_receipts_and_decisions_go_into_the_daemons_book(site: Site, road: DaemonRoad) -> None:
    road.take(RECEIPT_ID)
    road.decided(decision(Word.OVERRIDDEN, override="disk is dying"))
    assert site.proofs.taken == [RECEIPT_ID]
    assert site.proofs.decisions == [decision(Word.OVERRIDDEN, override="disk is dying")]


def test_a_receipt_that_was_used_is_a_matter_of_the_receipt(site: Site, road: DaemonRoad) -> None:
    site.proofs.steps = [ReceiptError("the receipt r was used already", "gate again")]
    assert failure(lambda: road.take(RECEIPT_ID), ReceiptError) == ("the receipt r was used already", "gate again")


def test_a_book_that_cannot_be_used_is_said_to_be_the_daemons(site: Site, road: DaemonRoad) -> None:
    site.proofs.steps = [EnvironmentProblem("the disk is full", "free some")]
    message, hint = failure(lambda: road.decided(decision()))
    assert (message, hint) == (f"the daemon at {road.address.shown} says: the disk is full", "free some")


def test_a_daemon_that_could_not_prove_it_says_why(site: Site, road: DaemonRoad) -> None:
    with working(site, None, "told to stop"):
        message, _ = failure(lambda: prove(road))
    assert message == f"the daemon at {road.address.shown} could not prove app: told to stop"


def test_a_daemon_whose_seats_are_taken_is_not_waited_for_without_end(road: DaemonRoad) -> None:
    hasty = replace(road, grace_s=0.1)
    message, hint = failure(lambda: prove(hasty, replace(DEMAND, timeout=timedelta(seconds=0.2))))
    assert message == f"the daemon at {road.address.shown} had not begun or ended after 0 s"
    assert "resources.drills" in hint


def test_whoever_is_told_to_stop_leaves_the_daemon_to_its_work(site: Site, road: DaemonRoad) -> None:
    stop = Event()
    stop.set()
    failure(lambda: prove(road, stop=stop), Stopped)
    assert site.proofs.desk.queued(), "it is still going to be done"


def test_a_token_is_sent_with_post_and_a_wrong_one_is_a_matter_of_set_up(site: Site, serve: Serve) -> None:
    site.token = "s3cret"
    url = serve(asgi=site.app).url
    right, wrong, none = (DaemonRoad(read_address(url), token) for token in ("s3cret", "other", None))
    right.take(RECEIPT_ID)
    for each in (wrong, none):
        message, hint = failure(lambda each=each: each.take(RECEIPT_ID), Refused)  # type: ignore[misc] # bound now
        assert "POST needs the right bearer token" in message
        assert "--token-file" in hint
        assert each.databases() == {"app": "/data/app.db"}
    assert "s3cret" not in repr(right)


def test_a_daemon_that_takes_no_post_is_a_matter_of_set_up(site: Site, serve: Serve) -> None:
    site.loopback = False
    road = DaemonRoad(read_address(serve(asgi=site.app).url))
    message, hint = failure(lambda: road.take(RECEIPT_ID), Refused)
    assert "no token is configured" in message
    assert "http.token-file" in hint


def test_a_database_that_the_daemon_does_not_know_is_a_matter_of_set_up(road: DaemonRoad) -> None:
    message, _ = failure(lambda: prove(road, Demand(name="nope")), Refused)
    assert 'no database is called "nope"' in message


def test_nobody_there_and_strangers_are_told_apart(road: DaemonRoad, serve: Serve) -> None:
    async def stranger(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"hi"})

    other = DaemonRoad(read_address(serve(asgi=stranger).url))
    for work in (other.databases, lambda: other.take(RECEIPT_ID), lambda: prove(other)):
        assert failure(work)[0] == f"what answers at {other.address.shown} is no litestream-sidecar"
    gone = DaemonRoad(read_address("http://127.0.0.1:1"))
    message, hint = failure(gone.databases)
    assert message == "no daemon answers at http://127.0.0.1:1: Connection refused"
    assert "litestream-sidecar run" in hint
    assert road.databases()


def test_a_daemon_that_forgot_the_proof_was_restarted(site: Site, road: DaemonRoad) -> None:
    def forget() -> None:
        site.proofs.desk = type(site.proofs)().desk

    told: list[str] = []

    def progress(stage: str, done: int, total: int | None) -> None:  # noqa: ARG001 - the port's
        told.append(stage)
        forget()

    with pytest.raises(SidecarError) as caught:
        road.prove(DEMAND, stop=Event(), progress=progress)
    assert "no proof has this id" in caught.value.message
    assert told == ["queued at the daemon"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("127.0.0.1:9810", "http://127.0.0.1:9810"),
        ("http://me:hidden@host:9810/ready", "http://host:9810"),
        ("http://[::1]:9810/", "http://[::1]:9810"),
        ("unix:/run/s.sock", "unix:/run/s.sock"),
        ("unix:///run/s.sock", "unix:/run/s.sock"),
    ],
)
def test_addresses_are_shown_without_what_is_secret(text: str, shown: str) -> None:
    assert read_address(text).shown == shown


@pytest.mark.parametrize("text", ["", "ftp://host", "http://", "http://host:port", "http://[::1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BadAddress) as caught:
        read_address(text)
    assert caught.value.exit_code == 2
