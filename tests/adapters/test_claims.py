"""What Litestream says of itself: the real 0.5 and 0.3, up, restarted, killed, hanging, shut off and confused."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

from sidecar.adapters.claims import LitestreamClaims
from sidecar.adapters.litestream_metrics import LitestreamMetrics, WalProgress
from sidecar.adapters.litestream_socket import LitestreamSocket
from sidecar.core.model import Claim, ClaimSource, Database, Replica
from tests.litestreams import App, Litestream, binary, binary_of, environment, free_port, rclone_s3, until

Make = Callable[..., Litestream]


class Wall:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


CLOCK = Wall()


def database(path: Path | str) -> Database:
    return Database(Path(path).stem, str(path), f"{path}-litestream", Replica("file", "file"))


@dataclass
class Place:
    """A folder with an app, a litestream.yml, and how to ask."""

    folder: Path
    app: App
    stack: ExitStack
    port: int = field(default_factory=free_port)

    @property
    def socket_path(self) -> Path:
        return self.folder / "s.sock"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/metrics"

    def config(self, *, socket: bool = True, addr: bool = False, replica: str | None = None, v3: bool = False) -> Path:
        file = self.folder / "litestream.yml"
        block = replica or f"{{type: file, path: {self.folder / 'rep'}, sync-interval: 100ms}}"
        lines = [f"addr: 127.0.0.1:{self.port}"] if addr else []
        lines += [f"socket: {{enabled: true, path: {self.socket_path}}}"] if socket else []
        lines += ["dbs:", f"  - path: {self.app.path}", f"    {f'replicas: [{block}]' if v3 else f'replica: {block}'}"]
        file.write_text("\n".join(lines) + "\n")
        return file

    def by_socket(self) -> LitestreamSocket:
        made = LitestreamSocket(str(self.socket_path), CLOCK)
        self.stack.callback(made.close)
        return made

    def by_metrics(self) -> LitestreamMetrics:
        made = LitestreamMetrics(self.url, CLOCK)
        self.stack.callback(made.close)
        return made

    @property
    def databases(self) -> tuple[Database, ...]:
        return (database(self.app.path),)

    def ask(self, witness: LitestreamSocket | LitestreamMetrics) -> Claim:
        return witness.read(self.databases)[str(self.app.path)]


@pytest.fixture
def place(tmp_path: Path, app: App) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(tmp_path, app, stack)


def test_a_running_litestream_tells_all(place: Place, litestream: Make) -> None:
    process = litestream(place.config()).start().process
    witness = place.by_socket()
    claim = until(lambda: (c := place.ask(witness)).last_sync_at and c.txid and c, say="a synced claim")
    assert isinstance(claim, Claim)
    assert (claim.source, claim.up, claim.managed, claim.version) == (ClaimSource.SOCKET, True, True, "0.5.17")
    assert process is not None
    assert claim.pid == process.pid
    assert claim.started_at is not None
    assert timedelta(0) <= claim.read_at - claim.started_at < timedelta(seconds=20)
    assert claim.last_sync_at is not None
    assert abs(claim.read_at - claim.last_sync_at) < timedelta(seconds=20)
    assert (claim.sync_error, claim.error) == (None, None)

    place.app.write()
    until(lambda: (place.ask(witness).txid or 0) > (claim.txid or 0), say="the txid grows with a commit")

    other = database(place.folder / "other.db")
    both = witness.read((*place.databases, other))
    assert (both[other.path].up, both[other.path].managed, both[other.path].txid) == (True, False, None)
    link = place.folder / "link"
    link.symlink_to(place.app.path.parent)
    assert witness.read((database(link / "app.db"),))[str(link / "app.db")].managed


def test_a_database_that_was_stopped_says_so(place: Place, litestream: Make) -> None:
    litestream(place.config()).start()
    witness = place.by_socket()
    until(lambda: place.ask(witness).txid)
    stop = [binary(), "stop", "-socket", str(place.socket_path), str(place.app.path)]
    subprocess.run(stop, check=True, env=environment(), stdin=subprocess.DEVNULL, capture_output=True)
    claim = place.ask(witness)
    assert claim.managed
    assert claim.sync_error == "replication of this database is stopped (`litestream start` resumes it)"


def test_kill_restart_and_absence(place: Place, litestream: Make) -> None:
    witness = place.by_socket()
    absent = place.ask(witness)
    assert not absent.up
    assert absent.error == (
        f"there is no control socket at {place.socket_path}: "
        "Litestream is stopped, or was started without `socket:` `enabled: true`"
    )
    running = litestream(place.config()).start()
    first = until(lambda: (c := place.ask(witness)).txid and c)
    running.kill()
    killed = place.ask(witness)
    assert place.socket_path.exists()  # the trap: the file outlives its process
    assert not killed.up
    assert (
        killed.error
        == f"nobody listens on the control socket {place.socket_path}: Litestream was killed or has stopped"
    )
    running.start()
    again = until(lambda: (c := place.ask(witness)).txid and c)
    assert isinstance(first, Claim)
    assert isinstance(again, Claim)
    assert again.pid != first.pid


def test_a_file_replaced_under_litestream_is_a_sync_error(place: Place, litestream: Make) -> None:
    place.app.write(300)
    litestream(place.config(addr=True)).start()
    witness, metrics = place.by_socket(), place.by_metrics()
    until(lambda: place.ask(witness).last_sync_at)
    assert place.ask(metrics).sync_error is None
    place.app.close()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{place.app.path}{suffix}").unlink(missing_ok=True)
    fresh = sqlite3.connect(place.app.path, isolation_level=None)
    fresh.execute("pragma journal_mode=wal")
    fresh.execute("create table other (id)")
    fresh.close()
    claim = until(lambda: (c := place.ask(witness)).sync_error and c, say="a sync error")
    assert isinstance(claim, Claim)
    assert (claim.up, claim.managed) == (True, True)
    assert "disk I/O error" in (claim.sync_error or "")
    said = until(lambda: place.ask(metrics).sync_error, say="the error counter moves")
    assert str(said).startswith("Litestream's syncs fail")


def test_a_store_that_hangs_from_the_start_does_not_keep_us(place: Place, litestream: Make) -> None:
    with rclone_s3(place.folder / "s3") as store:
        store.pause()
        litestream(place.config(addr=True, replica=store.replica())).start()
        witness = place.by_socket()
        until(lambda: place.ask(witness).up)
        took: list[float] = []

        def asked() -> float:
            began = time.monotonic()
            claim = place.ask(witness)
            took.append(time.monotonic() - began)
            assert (claim.up, claim.managed, claim.last_sync_at, claim.txid) == (True, True, None, None)
            return took[-1]

        until(lambda: asked() > 0.7, say="/list hangs once Litestream's first sync waits for the store")
        assert max(took) < 3.5
        assert asked() < 0.5  # /list is left alone for a while
        assert place.ask(place.by_socket()).up  # and by a newcomer, who sees that a sync holds the lock
        assert place.ask(place.by_metrics()).managed
        impatient = LitestreamSocket(str(place.socket_path), CLOCK, sync_stuck_s=1.0)
        stuck = until(lambda: place.ask(impatient).sync_error, say="a stuck sync is told")
        assert "(phase starting)" in str(stuck)
        impatient.close()
        store.resume()


def test_a_socket_that_never_answers(place: Place) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(place.socket_path))
        silent.listen()
        began = time.monotonic()
        claim = place.ask(place.by_socket())
        took = time.monotonic() - began
    assert took < 2.5
    assert not claim.up
    assert claim.error == f"the control socket {place.socket_path} accepts connections and does not answer within 2 s"


def test_a_socket_that_drips(place: Place) -> None:
    """Every byte comes in time, the answer never: the deadline is for the whole."""

    def serve(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(4096)
            try:
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                while True:
                    peer.sendall(b" ")
                    Event().wait(0.1)
            except OSError:
                return

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place.socket_path))
        listener.listen()
        thread = Thread(target=serve, args=(listener,))
        thread.start()
        witness = place.by_socket()
        began = time.monotonic()
        claim = place.ask(witness)
        assert time.monotonic() - began < 3.0
        assert "does not answer" in (claim.error or "")
        witness.close()
        thread.join()


def test_a_socket_of_another_user(litestream: Make) -> None:
    """Litestream's own default mode 0600, looked at by somebody else."""
    folder = Path(f"/tmp/sidecar-claims-{os.getpid()}")
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        app = App(folder / "data" / "app.db")
        stack.callback(app.close)
        place = Place(folder, app, stack)
        running = litestream(place.config(addr=True)).start()
        stack.callback(running.kill)
        # Both are asked before, because the other user may not be able to read Python's own modules.
        until(lambda: place.ask(place.by_socket()).up and place.ask(place.by_metrics()).managed)
        with other_user(place.socket_path):
            claim = place.ask(place.by_socket())
            both = LitestreamClaims(socket=place.by_socket(), metrics=place.by_metrics(), clock=CLOCK)
            second = both.read(place.databases)[str(app.path)]
        assert not claim.up
        assert claim.error == (
            f"permission denied on the control socket {place.socket_path}: "
            "run the sidecar as Litestream's user, or set `socket.permissions` in litestream.yml"
        )
        assert (second.source, second.up, second.managed) == (ClaimSource.METRICS, True, True)
        assert second.error == claim.error  # doctor can still say what is wrong with the socket


@contextmanager
def other_user(path: Path) -> Iterator[None]:
    """Look with the eyes of a user who may not use this socket."""
    if os.geteuid() != 0:
        path.chmod(0)
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_somebody_else_on_the_socket(place: Place) -> None:
    place.socket_path.write_text("a plain file")
    assert "nobody listens" in (place.ask(place.by_socket()).error or "")
    place.socket_path.unlink()

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *_: object) -> None:
            """Quiet."""

        def address_string(self) -> str:
            return "unix"

    class UnixServer(ThreadingHTTPServer):
        address_family = socket.AF_UNIX

        def server_bind(self) -> None:
            self.socket.bind(str(place.socket_path))

    with UnixServer(str(place.socket_path), Other) as server:  # type: ignore[arg-type] # a Unix address
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        claim = place.ask(place.by_socket())
        server.shutdown()
        thread.join()
    assert claim.error == f"what answers on {place.socket_path} is no Litestream: GET /info gave status 200"


def test_an_older_socket_is_asked_per_database(place: Place, litestream: Make) -> None:
    """0.5.9 has /info, /list and /txid, and no /debug/sync-status."""
    litestream(place.config(), executable=binary_of("0.5.9")).start()
    witness = place.by_socket()
    claim = until(lambda: (c := place.ask(witness)).txid and c, say="a claim of 0.5.9")
    assert isinstance(claim, Claim)
    assert (claim.version, claim.managed) == ("0.5.9", True)
    other = database(place.folder / "other.db")
    assert not witness.read((other,))[other.path].managed


@pytest.mark.parametrize("version", ["0.5.17", "0.3.13"])
def test_metrics_alone(place: Place, litestream: Make, version: str) -> None:
    v3 = version == "0.3.13"
    running = litestream(
        place.config(socket=False, addr=True, v3=v3), executable=binary_of(version) if v3 else binary()
    ).start()
    metrics = place.by_metrics()
    witness = LitestreamClaims(socket=None, metrics=metrics, clock=CLOCK)
    place.app.write()

    def ask() -> Claim:
        return witness.read(place.databases)[str(place.app.path)]

    claim = until(lambda: (c := ask()).managed and (c.txid or v3) and c, say="a managed claim")
    assert isinstance(claim, Claim)
    assert (claim.source, claim.up, claim.version, claim.pid) == (ClaimSource.METRICS, True, None, None)
    assert claim.started_at is not None
    assert abs(claim.read_at - claim.started_at) < timedelta(seconds=20)
    assert (claim.txid is None) == v3
    if v3:
        wal = place.app.path.with_name("app.db-wal")

        def whole() -> bool:
            metrics.read(place.databases)
            end = (0, wal.stat().st_size)
            return metrics.wal_progress.get(str(place.app.path)) == WalProgress(shadow=end, sent=end)

        until(whole, say="all of the WAL was sent")
    else:
        assert metrics.wal_progress == {}
    other = database(place.folder / "other.db")
    assert not witness.read((other,))[other.path].managed
    running.kill()
    down = ask()
    assert not down.up
    assert down.error == f"nobody listens at {place.url}: Litestream is stopped, or was started without this `addr`"


@pytest.mark.parametrize("value", ["+Inf", "-Inf", "NaN", "1e300", "-1e300"])
def test_metrics_with_numbers_that_are_none_say_nothing(place: Place, value: str) -> None:
    path = place.app.path
    series = ("litestream_txid", "litestream_shadow_wal_index", "litestream_shadow_wal_size")
    lines = [f'{each}{{db="{path}"}} {value}' for each in series if value != "1e300"]
    lines += [f'litestream_db_size{{db="{path}"}} 1', f"process_start_time_seconds {value}", ""]
    with saying(place.port, "\n".join(lines).encode()):
        witness = place.by_metrics()
        claim = place.ask(witness)
    assert (claim.up, claim.managed, claim.started_at, claim.error) == (True, True, None, None)


@contextmanager
def saying(port: int, body: bytes) -> Iterator[None]:
    """A server that answers everything so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def test_metrics_of_somebody_else_and_of_nobody(place: Place) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(b"go_goroutines 3\n")

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", place.port), Other) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        claim = place.ask(place.by_metrics())
        with_password = LitestreamMetrics(f"http://me:hidden@127.0.0.1:{place.port}/nope", CLOCK)
        lost = place.ask(with_password)
        with_password.close()
        server.shutdown()
        thread.join()
    assert claim.error == f"{place.url} answers, but holds no metrics of a Litestream that has databases"
    assert "status 404" in (lost.error or "")
    assert "hidden" not in (lost.error or "")
    silent = socket.create_server(("127.0.0.1", place.port))
    with silent:
        began = time.monotonic()
        assert "does not answer within 2 s" in (place.ask(place.by_metrics()).error or "")
        assert time.monotonic() - began < 3.0
    nobody = LitestreamClaims(socket=None, metrics=None, clock=CLOCK).read(place.databases)[str(place.app.path)]
    assert (nobody.source, nobody.up, nobody.error) == (ClaimSource.NONE, False, None)
