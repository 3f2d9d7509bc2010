"""Heartbeat and webhook against real servers: one that takes, one that refuses, one that is slow, and none at all."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest

from sidecar.adapters.notify import QUEUE_MAX, Notifier
from tests.litestreams import free_port, until

SECRET = "hidden-7f3a"


@dataclass
class Ear:
    """A server that writes down what it hears and answers as told (200 when nothing is left to tell)."""

    port: int
    heard: list[tuple[str, str, bytes]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    hold: Event = field(default_factory=Event)

    def url(self, path: str = "/") -> str:
        return f"http://me:{SECRET}@127.0.0.1:{self.port}{path}{SECRET}?key={SECRET}"


@contextmanager
def listening() -> Iterator[Ear]:
    ear = Ear(0)
    ear.hold.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            ear.heard.append((self.command, self.path, body))
            ear.hold.wait(10)
            self.send_response(ear.answers.pop(0) if ear.answers else 200)
            self.end_headers()

        do_POST = do_GET  # noqa: N815 - the server's own naming

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        ear.port = server.server_address[1]
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield ear
        finally:
            ear.hold.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Everything logged by anybody; the secret must not be in it."""
    with caplog.at_level(logging.DEBUG):
        yield caplog
        assert SECRET not in caplog.text


def test_pings_are_what_healthchecks_takes(said: pytest.LogCaptureFixture) -> None:
    with listening() as ear:
        notifier = Notifier(ear.url("/beat/{db}/"), None)
        for word in ("start", "success", "fail", "log"):
            notifier.ping(word, "my app", "d1", f"app: {word}")
        notifier.post({"ready": False})  # no webhook: nothing
        until(lambda: notifier.counts()["heartbeat", "sent"] == 4)
        notifier.close()
    paths = [urlsplit(path) for _, path, _ in ear.heard]
    at = f"/beat/my%20app/{SECRET}"
    assert [each.path for each in paths] == [f"{at}/start", at, f"{at}/fail", f"{at}/log"]
    (run,) = {parse_qs(each.query)["rid"][0] for each in paths}
    assert UUID(run).version == 5, "one run from start to end"
    assert all(parse_qs(each.query)["key"] == [SECRET] for each in paths)
    assert [(method, body) for method, _, body in ear.heard][:2] == [("POST", b"app: start"), ("POST", b"app: success")]
    assert not [each for each in said.records if each.name == "sidecar.notify"]


def test_a_ping_tells_no_secret(said: pytest.LogCaptureFixture) -> None:
    with listening() as ear:
        notifier = Notifier(ear.url(), None)
        notifier.ping("fail", "app", "d1", "app: cannot list s3://AK:hushhush@bkt/x")
        until(lambda: ear.heard)
        notifier.close()
    assert b"hushhush" not in ear.heard[0][2]
    assert not said.records or SECRET not in said.text


def test_a_flip_is_posted_and_a_busy_server_is_asked_again(said: pytest.LogCaptureFixture) -> None:
    with listening() as ear:
        ear.answers = [503, 429]
        notifier = Notifier(None, ear.url("/hook/"), wait_s=0.01)
        notifier.ping("success", "app", "d1", "app: passed")
        notifier.post({"ready": False, "reason": "app: …"})
        until(lambda: len(ear.heard) == 3)
        notifier.close()
    assert {(method, path.partition("?")[0]) for method, path, _ in ear.heard} == {("POST", f"/hook/{SECRET}")}
    assert json.loads(ear.heard[-1][2]) == {"ready": False, "reason": "app: …"}
    assert "failed" not in said.text


@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (302, 1), (500, 3)])
def test_what_is_not_taken_is_said_without_the_url(said: pytest.LogCaptureFixture, status: int, attempts: int) -> None:
    with listening() as ear:
        ear.answers = [status] * attempts
        notifier = Notifier(ear.url(), None, wait_s=0.01)
        notifier.ping("success", "app", "d1", "app: passed")
        until(lambda: said.text)
        notifier.close()
    assert len(ear.heard) == attempts
    assert f"heartbeat to 127.0.0.1 failed: it answered with status {status}" in said.text
    assert notifier.counts() == {("heartbeat", "sent"): 0, ("heartbeat", "failed"): 1, ("heartbeat", "dropped"): 0}


def test_nobody_listens(said: pytest.LogCaptureFixture) -> None:
    notifier = Notifier(None, f"http://127.0.0.1:{free_port()}/{SECRET}", wait_s=0.01)
    notifier.post({})
    until(lambda: said.text)
    notifier.close()
    assert "webhook to 127.0.0.1 failed: cannot connect (connection refused)" in said.text


def test_nonsense_for_a_url_does_not_end_the_worker(said: pytest.LogCaptureFixture) -> None:
    notifier = Notifier(f"ftp://host/{SECRET}", f"http://[{SECRET}", wait_s=0.01)
    notifier.ping("success", "app", "d1", "app: passed")
    notifier.post({})
    until(lambda: "webhook to a malformed URL failed" in said.text)
    notifier.close()
    assert "heartbeat to host failed: UnsupportedProtocol" in said.text


def test_a_slow_server_costs_the_oldest_message_and_no_time(said: pytest.LogCaptureFixture) -> None:
    with listening() as ear:
        ear.hold.clear()
        notifier = Notifier(None, ear.url())
        notifier.post({"n": 0})
        until(lambda: len(ear.heard) == 1)
        began = time.monotonic()
        for number in range(1, QUEUE_MAX + 3):
            notifier.post({"n": number})
        assert time.monotonic() - began < 0.5
        ear.hold.set()
        until(lambda: len(ear.heard) == QUEUE_MAX + 1)
        notifier.close()
    assert [json.loads(body)["n"] for _, _, body in ear.heard] == [0, *range(3, QUEUE_MAX + 3)]
    assert notifier.counts()["webhook", "dropped"] == 2
    assert said.text.count("webhook to 127.0.0.1 dropped: 20 messages wait already") == 2


def test_stopping_does_not_wait_for_retries(said: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        waiting = Notifier(f"http://127.0.0.1:{port}/{SECRET}", None)
        waiting.ping("success", "app", "d1", "app: passed")
        retrying = Notifier(f"http://127.0.0.1:{free_port()}/{SECRET}", None, wait_s=30)
        retrying.ping("success", "app", "d1", "app: passed")
        peer, _ = silent.accept()
        began = time.monotonic()
        retrying.close()
        assert time.monotonic() - began < 1.0
        waiting.close()
        assert time.monotonic() - began < 3.5
        peer.close()
    retrying.post({})
    assert not [each for each in said.records if each.name == "sidecar.notify"]
