"""Asking a verifier: what comes back whole, and everything else it may do instead of answering."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sidecar.adapters.ledger.codec import drill_of_text, facts_of_drill
from sidecar.adapters.verifier_client import TIMEOUT_S, UnknownThere, VerifierClient
from sidecar.core.errors import SidecarError
from tests.core.evidences import drill
from tests.litestreams import free_port

SOON_S = 0.6
Answer = Callable[[socket.socket], None]


@dataclass
class Other:
    """Whoever listens there; one connection at a time."""

    answer: Answer
    port: int = 0
    asked: list[bytes] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)

    def serve(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection, contextlib.suppress(OSError):
                    self.asked.append(connection.recv(65536))
                    self.answer(connection)
                self.gone.set()


@contextlib.contextmanager
def listening(answer: Answer) -> Iterator[Other]:
    other = Other(answer)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        other.port = server.getsockname()[1]
        thread = threading.Thread(target=other.serve, args=(server,), daemon=True)
        thread.start()
        yield other
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def client(other: Other, **more: Any) -> VerifierClient:
    return VerifierClient(f"http://127.0.0.1:{other.port}", drill_of_text, timeout_s=SOON_S, **more)


def says(body: bytes | str, status: str = "200 OK") -> Answer:
    data = body.encode() if isinstance(body, str) else body
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    return lambda connection: connection.sendall(head + data)


def document(*drills: Any, **more: Any) -> str:
    said = {
        "evidence_version": 1,
        "checked_at": "2026-11-23T03:00:00Z",
        "name": "app",
        "replica": {"type": "s3", "label": "s3://bucket/app"},
        "drills": list(drills),
    }
    return json.dumps(said | more)


def test_an_answer_is_read_whole() -> None:
    made = drill(id="v1")
    with listening(says(document(facts_of_drill(made)))) as other:
        asking = client(other)
        offer = asking.ask("a/b c")
    assert (offer.replica_type, offer.replica_label, offer.drills, offer.unreadable) == (
        "s3",
        "s3://bucket/app",
        (made,),
        (),
    )
    assert other.asked[0].startswith(b"GET /evidence/a%2Fb%20c HTTP/1.1\r\n")
    assert b"authorization" not in other.asked[0].lower()
    assert asking.shown == f"127.0.0.1:{other.port}"


def test_the_token_is_read_at_each_question_and_sent(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    with listening(says(document())) as other:
        asking = client(other, token_file=token)
        asking.ask("app")
        token.write_text("second\n")
        asking.ask("app")
        token.unlink()
        with pytest.raises(SidecarError, match=r"verifier\.token-file .* cannot be read"):
            asking.ask("app")
    assert [b"Bearer first" in other.asked[0], b"Bearer second" in other.asked[1]] == [True, True]


def hang(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.recv(1)


def drip(head: bytes) -> Answer:
    """A byte now and then, more often than any single read would time out."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(b"x")
            time.sleep(0.05)

    return answer


def flood(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    while True:
        connection.sendall(b" " * 65536)


SLOW: dict[str, Answer] = {
    "nothing": hang,
    "headers without end": drip(b"HTTP/1.1 200 OK\r\nX-A: "),
    "a body without end": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n"),
}


@pytest.mark.parametrize("how", SLOW)
def test_whoever_does_not_end_is_left_in_time(how: str) -> None:
    with listening(SLOW[how]) as other:
        began = time.monotonic()
        with pytest.raises(SidecarError, match=r"had not ended its answer after|no answer within"):
            client(other).ask("app")
        assert time.monotonic() - began < SOON_S * 3
        assert other.gone.wait(5), "and the connection is closed"
    assert TIMEOUT_S <= 10


def test_a_flood_is_stopped() -> None:
    with listening(flood) as other:
        with pytest.raises(SidecarError, match="sends more than 100000 bytes"):
            client(other, body_max=100_000).ask("app")
        assert other.gone.wait(5)


NONSENSE = {
    "no HTTP": lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"),
    "nothing at all": lambda connection: connection.close(),
    "no JSON": says("<html>hello</html>"),
    "a list": says("[]"),
    "deep": says("[" * 100_000),
    "another language": says(document(evidence_version=2)),
    "no replica": says(document(replica=None)),
    "no drills": says(document(drills="many")),
    "no clock": says(document(checked_at=None)),
    "a clock before all time": says(document(checked_at="0001-01-01T00:00:00+23:00")),
    "an error": says("{}", "500 Internal Server Error"),
    "a way elsewhere": says("", "302 Found\r\nLocation: http://127.0.0.1:1/"),
    "a 404 of another server's": says("not here", "404 Not Found"),
    "packed": says(b"\x1f\x8b", "200 OK\r\nContent-Encoding: gzip"),
}  # fmt: skip


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_is_refused_in_a_sentence_and_not_repeated(what: str) -> None:
    with listening(NONSENSE[what]) as other, pytest.raises(SidecarError) as refused:
        client(other).ask("app")
    assert not isinstance(refused.value, UnknownThere)
    assert refused.value.hint
    assert "hello" not in refused.value.message


def test_an_unknown_name_is_no_outage() -> None:
    unknown = says('{"error": "no database is called", "hint": "ask"}', "404 Not Found")
    with listening(unknown) as other, pytest.raises(UnknownThere, match="knows no database app"):
        client(other).ask("app")


def test_nobody_there() -> None:
    asking = VerifierClient(f"http://127.0.0.1:{free_port()}", drill_of_text)
    with pytest.raises(SidecarError, match="no daemon answers at"):
        asking.ask("app")


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in facts_of_drill(drill()).items() if key != name}


HALVES: dict[str, Any] = {
    "no outcome": without("outcome"),
    "no dates": without("finished_at"),
    "a date without zone": facts_of_drill(drill()) | {"finished_at": "2026-11-23T03:00:00"},
    "a date before all time": facts_of_drill(drill()) | {"finished_at": "0001-01-01T00:00:00+23:00"},
    "an outcome of its own": facts_of_drill(drill()) | {"outcome": "splendid"},
    "half a character": facts_of_drill(drill()) | {"message": "\ud800"},
    "half a content": facts_of_drill(drill()) | {"content": {"read_at": "2026-11-23T03:00:00Z"}},
    "a figure that is none": facts_of_drill(drill()) | {"restore_seconds": float("nan")},
    "no drill": 7,
}


@pytest.mark.parametrize("half", HALVES)
def test_half_a_drill_is_left_out_and_the_others_are_read(half: str) -> None:
    with listening(says(document(HALVES[half], facts_of_drill(drill(id="v2"))))) as other:
        offer = client(other).ask("app")
    assert [each.id for each in offer.drills] == ["v2"]
    assert len(offer.unreadable) == 1
    assert "cannot be read whole" in offer.unreadable[0]


def test_no_more_drills_are_read_than_are_offered() -> None:
    many = [facts_of_drill(drill(id=f"d{number}")) for number in range(500)]
    with listening(says(document(*many))) as other:
        assert len(client(other).ask("app").drills) == 20


def test_over_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    other = Other(says(document()))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        threading.Thread(target=other.serve, args=(server,), daemon=True).start()
        asking = VerifierClient(f"unix:{path}", drill_of_text, timeout_s=SOON_S)
        assert asking.ask("app").drills == ()
        assert asking.shown == f"unix:{path}"
        server.shutdown(socket.SHUT_RDWR)
