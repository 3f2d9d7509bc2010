"""Asking the real Litestream to sync: done means that the replica has it; and what is said when it does not come to that."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from threading import Event, Thread, Timer

import pytest

from sidecar.adapters.litestream_sync import LitestreamSync
from sidecar.core.errors import LitestreamError, Stopped
from sidecar.core.model import Database, Replica
from tests.litestreams import App, Litestream, binary, environment, until

Make = Callable[..., Litestream]


def database(path: Path | str) -> Database:
    return Database(Path(path).stem, str(path), f"{path}-litestream", Replica("file", "file"))


def ask(
    at: Path, path: Path | str, timeout_s: float = 10.0, stop: Event | None = None, *, grace_s: float = 2.0
) -> None:
    LitestreamSync(str(at), grace_s=grace_s).sync(database(path), timeout_s=timeout_s, stop=stop or Event())


def refusal(at: Path, path: Path | str, timeout_s: float = 10.0, grace_s: float = 2.0) -> LitestreamError:
    with pytest.raises(LitestreamError) as caught:
        ask(at, path, timeout_s, grace_s=grace_s)
    assert caught.value.hint
    return caught.value


@pytest.fixture
def home() -> Iterator[Path]:
    """A short path: a socket's holds 108 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="ls-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def running(home: Path, app: App, litestream: Make) -> Path:
    """A real Litestream that would sync by itself only once an hour; its socket."""
    config, at = home / "litestream.yml", home / "s.sock"
    config.write_text(
        f"socket: {{enabled: true, path: {at}}}\n"
        f"dbs: [{{path: {app.path}, monitor-interval: 1h, replica: {{path: {home}/replica, sync-interval: 1h}}}}]\n"
    )
    litestream(config).start()
    until(at.exists)
    return at


def restored(home: Path, app: App) -> int:
    """Rows that a restore brings back."""
    target = home / "copy.db"
    target.unlink(missing_ok=True)
    command = [binary(), "restore", "-config", str(home / "litestream.yml"), "-o", str(target), str(app.path)]
    subprocess.run(command, check=True, capture_output=True, env=environment())
    copy = App(target)
    try:
        return int(str(copy.execute("select count(*) from t")[0][0]))
    finally:
        copy.close()


def test_what_was_committed_before_is_in_the_replica_after(home: Path, app: App, running: Path) -> None:
    app.write(3)
    until(lambda: _tried(running, app))
    assert restored(home, app) == 3
    app.write(4)
    ask(running, app.path)
    assert restored(home, app) == 7
    ask(running, app.path)  # idle: at once
    assert restored(home, app) == 7


def _tried(running: Path, app: App) -> bool:
    """Litestream may still be opening the database when its socket is there."""
    try:
        ask(running, app.path)
    except LitestreamError:
        return False
    return True


def test_a_path_that_litestream_knows_without_its_links_is_found(home: Path, app: App, running: Path) -> None:
    link = home / "link"
    link.symlink_to(app.path.parent)
    app.write(2)
    until(lambda: _tried(running, app))
    ask(running, link / app.path.name)
    assert restored(home, app) == 2


def test_a_database_that_litestream_does_not_know_is_said_in_its_words(home: Path, running: Path) -> None:
    error = refusal(running, home / "other.db")
    assert error.reason == "stalled"
    assert error.message.startswith("Litestream cannot sync: ")
    assert "not found" in error.message


def test_a_replica_that_cannot_be_written_is_said(home: Path, app: App, running: Path) -> None:
    until(lambda: _tried(running, app))
    shutil.rmtree(home / "replica")
    (home / "replica").write_text("a file where the replica was")
    app.write(1)
    error = refusal(running, app.path)
    assert (error.reason, "not a directory" in error.message) == ("stalled", True)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # httpcore leaves such a socket to Python
def test_without_a_socket_or_a_listener_litestream_is_not_there(home: Path) -> None:
    error = refusal(home / "nope.sock", "/data/app.db")
    assert error.reason == "unreachable"
    assert error.message == "Litestream's control socket cannot be used: No such file or directory"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(home / "left.sock"))
    assert refusal(home / "left.sock", "/data/app.db").message.endswith("Connection refused")
    (home / "file").touch()
    assert refusal(home / "file", "/data/app.db").reason == "unreachable"


@contextmanager
def answering(at: Path, answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[list[bytes]]:
    """A stub in Litestream's place; the bodies that it was sent."""
    asked: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["content-length"])))
            answer(self)

        def address_string(self) -> str:
            return "stub"

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    class Server(ThreadingUnixStreamServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Clients that leave are part of the test."""

    with Server(str(at), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


def says(code: int, text: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header("content-length", str(len(text.encode())))
        handler.end_headers()
        handler.wfile.write(text.encode())

    return answer


def hangs(free: Event) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(_: BaseHTTPRequestHandler) -> None:
        free.wait(20)

    return answer


def test_a_litestream_that_hangs_is_left_after_the_time_and_a_grace(home: Path) -> None:
    free = Event()
    with answering(home / "s.sock", hangs(free)):
        began = time.monotonic()
        error = refusal(home / "s.sock", "/data/app.db", timeout_s=0.3, grace_s=0.2)
        took = time.monotonic() - began
        free.set()
    assert (error.reason, error.message) == ("timeout", "Litestream had not synced after 0 s")
    assert 0.5 <= took < 3


def test_whoever_is_told_to_stop_does_not_wait_for_litestream(home: Path) -> None:
    free, stop = Event(), Event()
    with answering(home / "s.sock", hangs(free)):
        Timer(0.3, stop.set).start()
        began = time.monotonic()
        with pytest.raises(Stopped):
            ask(home / "s.sock", "/data/app.db", 60, stop)
        assert time.monotonic() - began < 3
        free.set()
    until(lambda: not [each for each in threading.enumerate() if each.name == "sync"])


@pytest.mark.parametrize(
    ("code", "text", "reason", "says_"),
    [
        (500, "disk I/O\n error", "stalled", "Litestream cannot sync: disk I/O error"),
        (503, "", "stalled", "Litestream cannot sync: status 503"),
        (500, "x" * 9999, "stalled", "Litestream cannot sync: " + "x" * 300),
        (500, "put https://me:hidden@store/x failed", "stalled", "store/x failed"),
        (404, "no such database", "stalled", "Litestream cannot sync: no such database"),
    ],
)
def test_what_litestream_answers_is_told_in_its_words_and_without_secrets(
    home: Path, code: int, text: str, reason: str, says_: str
) -> None:
    with answering(home / "s.sock", says(code, text)):
        error = refusal(home / "s.sock", "/data/app.db")
    assert error.reason == reason
    assert says_ in error.message
    assert len(error.message) < 400
    assert "hidden" not in error.message


def test_it_is_asked_to_wait_for_whole_seconds(home: Path) -> None:
    with answering(home / "s.sock", says(200, "{}")) as asked:
        ask(home / "s.sock", "/data/app.db", 0.2)
        ask(home / "s.sock", "/data/app.db", 29.6)
    assert asked == [
        b'{"path":"/data/app.db","wait":true,"timeout":1}',
        b'{"path":"/data/app.db","wait":true,"timeout":30}',
    ]


def test_proxies_of_the_environment_are_not_asked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with answering(home / "s.sock", says(200, "{}")) as asked:
        ask(home / "s.sock", os.fspath("/data/app.db"))
    assert len(asked) == 1
