"""The proof desk: proofs are taken in the order of asking, are found while they matter, and do not pile up."""

from __future__ import annotations

import threading

import pytest

from sidecar.core.proof import Demand
from sidecar.deploy.proof_desk import DONE_KEPT_MAX, OPEN_MAX, DeskFull, ProofDesk
from tests.core.receipts import proof

DEMAND = Demand(name="app")


@pytest.fixture
def desk() -> ProofDesk:
    numbers = iter(range(1, 10**6))
    return ProofDesk(lambda: f"p{next(numbers)}")


def test_a_proof_is_queued_running_and_done(desk: ProofDesk) -> None:
    ticket = desk.request(DEMAND)
    assert (ticket.id, ticket.state, ticket.demand, desk.queued()) == ("p1", "queued", DEMAND, (ticket,))
    assert desk.find("p1") == ticket
    desk.begin(ticket)
    running = desk.find("p1")
    assert running is not None
    assert (running.state, desk.queued()) == ("running", ())
    desk.finish(ticket, proof())
    done = desk.find("p1")
    assert done is not None
    assert (done.state, done.proof, done.error, desk.queued()) == ("done", proof(), "", ())


def test_a_proof_that_could_not_be_made_failed_with_a_sentence(desk: ProofDesk) -> None:
    ticket = desk.request(DEMAND)
    desk.finish(ticket, None, "there is no database app any more")  # before it began
    found = desk.find("p1")
    assert found is not None
    assert (found.state, found.proof, found.error) == ("failed", None, "there is no database app any more")
    assert desk.queued() == ()


def test_everybody_gets_a_proof_of_their_own_in_the_order_of_asking(desk: ProofDesk) -> None:
    """Unlike drills: each deploy asks about its own instant."""
    tickets = [desk.request(DEMAND), desk.request(Demand(name="b")), desk.request(DEMAND)]
    desk.begin(tickets[1])
    assert [each.id for each in desk.queued()] == ["p1", "p3"]


def test_nobody_finds_what_was_never_asked_for(desk: ProofDesk) -> None:
    desk.request(DEMAND)
    assert desk.find("p2") is None
    assert desk.find("") is None


def test_too_many_open_proofs_are_refused_until_some_have_ended(desk: ProofDesk) -> None:
    tickets = [desk.request(DEMAND) for _ in range(OPEN_MAX)]
    with pytest.raises(DeskFull):
        desk.request(DEMAND)
    desk.begin(tickets[0])
    with pytest.raises(DeskFull):
        desk.request(DEMAND)
    desk.finish(tickets[0], proof())
    assert desk.request(DEMAND).state == "queued"


def test_of_those_that_ended_only_the_newest_are_kept(desk: ProofDesk) -> None:
    waiting = desk.request(DEMAND)
    ended = [desk.request(DEMAND) for _ in range(DONE_KEPT_MAX + 1)]
    for each in ended:
        desk.finish(each, None, "no")
    assert desk.find(ended[0].id) is None
    assert all(desk.find(each.id) for each in ended[1:])
    assert desk.find(waiting.id) == waiting


def test_many_may_ask_at_once(desk: ProofDesk) -> None:
    def ask() -> None:
        for _ in range(50):
            desk.finish(desk.request(DEMAND), proof())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert desk.queued() == ()
    assert desk.request(DEMAND).id == "p401"
