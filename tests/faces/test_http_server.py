"""The HTTP server and its clients: whom it gives up on, and how it ends."""

from __future__ import annotations

import contextlib
import http.client
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from sidecar.adapters.http_server import HttpServer, Limits
from tests.litestreams import until

HALF = b"GET /ready HTTP/1.1\r\nHost: localhost\r\nX-Slow: "


def port_of(server: HttpServer) -> int:
    return int(server.url.rsplit(":", 1)[1])


def connected(server: HttpServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port_of(server)), timeout=5)


def ended(connection: socket.socket) -> bool:
    """Whether the server has closed it."""
    connection.settimeout(0.01)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


def test_half_open_connections_do_not_keep_others_waiting(serve: Callable[..., HttpServer]) -> None:
    server = serve()
    threads = threading.active_count()
    with contextlib.ExitStack() as stack:
        for turn in range(300):
            half = stack.enter_context(connected(server))
            half.sendall(HALF if turn % 2 else b"")
        taken = []
        for _ in range(20):
            asked = time.monotonic()
            assert httpx.get(f"{server.url}/ready", timeout=2).status_code == 200
            taken.append(time.monotonic() - asked)
        assert sorted(taken)[10] < 0.2
        assert threading.active_count() == threads


def test_when_too_many_wait_the_one_that_has_waited_longest_gives_way(serve: Callable[..., HttpServer]) -> None:
    server = serve(limits=Limits(connections=20))
    with contextlib.ExitStack() as stack:
        halves = []
        for _ in range(20):
            halves.append(stack.enter_context(connected(server)))
            halves[-1].sendall(HALF)
        for _ in range(3):
            assert httpx.get(f"{server.url}/ready", timeout=2).status_code == 200
        until(lambda: ended(halves[0]), within=2)
        assert not any(ended(each) for each in halves[3:])


def test_a_client_that_never_finishes_its_request_is_dropped(serve: Callable[..., HttpServer]) -> None:
    server = serve(limits=Limits(request_s=0.3))
    body = b"POST /drills HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
    whole = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for sent in (b"", HALF, body, whole + HALF):
        with connected(server) as slow:
            began = time.monotonic()
            with contextlib.suppress(ConnectionError):
                slow.sendall(sent)
                while time.monotonic() - began < 3 and slow.recv(4096):
                    if sent.startswith(whole):
                        slow.sendall(b"x")
            assert 0.2 < time.monotonic() - began < 2


def test_a_client_that_never_takes_its_answer_is_dropped(serve: Callable[..., HttpServer]) -> None:
    async def large(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})

    server = serve(limits=Limits(response_s=0.3), asgi=large)
    with connected(server) as greedy:
        greedy.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        threading.Event().wait(0.6)
        taken = 0
        with contextlib.suppress(ConnectionResetError):
            while got := greedy.recv(1_000_000):
                taken += len(got)
        assert 0 < taken < 50_000_000


def test_a_kept_connection_is_answered_without_the_delay_of_small_packets(serve: Callable[..., HttpServer]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port_of(serve()), timeout=5)
    taken = []
    with contextlib.closing(connection):
        for _ in range(50):
            asked = time.monotonic()
            connection.request("GET", "/ready")
            assert connection.getresponse().read()
            taken.append(time.monotonic() - asked)
    assert sorted(taken)[25] < 0.03  # Nagle's algorithm against a delayed acknowledgement costs 0.04 each


def test_garbage_and_endless_headers_are_refused_without_a_word_in_the_log(
    serve: Callable[..., HttpServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = serve()
    for sent in (b"\x16\x03\x01\x02\x00\x01", b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000):
        with connected(server) as rude, contextlib.suppress(ConnectionError):
            rude.sendall(sent)
            answer = rude.recv(4096)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert httpx.get(f"{server.url}/livez").status_code == 200
    assert [each for each in caplog.records if each.levelno >= logging.INFO and each.name.startswith("uvicorn")] == []


def test_it_ends_within_seconds_whatever_its_clients_do(serve: Callable[..., HttpServer]) -> None:
    server = serve(limits=Limits(grace_s=1))
    with connected(server) as idle, connected(server) as half, httpx.Client() as kept:
        assert kept.get(f"{server.url}/livez").status_code == 200
        idle.sendall(b"")
        half.sendall(
            b"POST /drills HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
        )
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 3
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/livez")
    assert "http" not in {thread.name for thread in threading.enumerate()}
    server.stop()
