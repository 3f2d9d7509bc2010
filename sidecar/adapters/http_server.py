"""The HTTP server: uvicorn (h11, asyncio) in a thread of its own, on a socket that we bind.

Binding comes first and apart, so that a taken port is one sentence. Connections cost no thread: a limit of processes and
hundreds of half-open connections leave the answers as they are. uvicorn itself never gives up on a client that does not
finish its request, so this module does; and when too many wait at once, the one that has waited longest gives way.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import stat
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from sidecar.core.errors import EnvironmentProblem
from sidecar.core.settings_model import Listen

if TYPE_CHECKING:
    import uvicorn

KEEP_ALIVE_S = 5
HEADERS_MAX = 16 * 1024
BACKLOG = 256
START_S = 10.0
STOP_S = 5.0
SOCKET_MODE = 0o660
PROBE_S = 1.0

log = logging.getLogger("sidecar.http")

App = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients get, in seconds and connections."""

    request_s: float = 10.0  # to send a whole request
    response_s: float = 30.0  # to be answered and to take the answer
    grace_s: int = 3  # to be answered once the server is to stop
    connections: int = 512  # half of the usual 1024 descriptors: drills and looks need some too


class HttpServer:
    """Serves an ASGI application until `stop`. Not restartable."""

    def __init__(self, app: App, listen: Listen, limits: Limits = Limits()) -> None:
        self._app, self._listen, self._limits = app, listen, limits
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._thread: Thread | None = None
        self._inode: int | None = None  # of our socket file
        self.url = ""  # the real one, once started; `unix:/path` for a Unix socket

    def start(self) -> None:
        """Bind, then serve. Raises EnvironmentProblem: the port is taken, not ours to take, or no address of ours."""
        self._socket = bound = _bind(self._listen)
        if self._listen.unix:
            self._inode = os.stat(self._listen.unix).st_ino  # noqa: PTH116 - a number, not a Path
        self.url = _url(self._listen, bound)
        ready = Event()
        self._server = _server(self._app, ready, self._limits)
        self._thread = Thread(target=self._serve, args=(self._server, bound, ready), name="http", daemon=True)
        self._thread.start()
        if not ready.wait(START_S) or not self._server.started:
            self.stop()
            raise EnvironmentProblem(f"the HTTP server did not start on {self._listen}", "look at the log above")

    @staticmethod
    def _serve(server: uvicorn.Server, bound: socket.socket, ready: Event) -> None:
        try:
            server.run(sockets=[bound])
        except Exception:
            log.exception("the HTTP server ended in a way that nobody foresaw")
        finally:
            ready.set()

    def stop(self) -> None:
        """Stop accepting, let requests under way finish for some seconds, end. Within STOP_S; safe to call twice."""
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(STOP_S)
        if self._socket is not None:
            self._socket.close()
        with contextlib.suppress(OSError):
            if self._inode is not None and os.stat(self._listen.unix).st_ino == self._inode:  # noqa: PTH116 - as above
                os.unlink(self._listen.unix)  # noqa: PTH108 - as above
        self._inode = None


def _bind(listen: Listen) -> socket.socket:
    try:
        return _bind_unix(listen.unix) if listen.unix else _bind_tcp(listen)
    except OSError as error:
        raise _problem(listen, error) from error


def _bind_tcp(listen: Listen) -> socket.socket:
    found = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    found.sort(key=lambda each: each[0] != socket.AF_INET)  # `localhost` means 127.0.0.1 to most who ask
    family, _, _, _, address = found[0]
    bound = socket.create_server((str(address[0]), int(address[1])), family=family, backlog=BACKLOG)
    # asyncio turns Nagle's algorithm off only where a socket names its protocol; with it every second answer takes 40 ms.
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=bound.detach())


def _bind_unix(path: str) -> socket.socket:
    _remove_stale(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(path)
        os.chmod(path, SOCKET_MODE)  # noqa: PTH101 - before listen(), so nobody connected under another mode
        bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound


def _remove_stale(path: str) -> None:
    """Remove a socket file that a killed process left. Raises EnvironmentProblem when somebody answers, or it is no socket."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise EnvironmentProblem(f"{path} exists and is no socket", "move it away, or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_S)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)  # noqa: PTH108 - a string as it was given
            return
        except TimeoutError:
            pass  # its backlog is full: somebody is there
    raise EnvironmentProblem(
        f"another program answers on {path}", "stop it, or choose another path with --listen unix:/path"
    )


_HINTS = {
    errno.EADDRINUSE: ("another program listens there", "stop it, or choose another port with --listen"),
    errno.EACCES: (
        "permission denied",
        "choose a port above 1023, or for a Unix socket a directory that this user may write to",
    ),
    errno.EADDRNOTAVAIL: ("this machine has no such address", "use 127.0.0.1, or an address that `ip addr` shows"),
    errno.ENOENT: ("its directory does not exist", "create the directory, or choose another path"),
    errno.EROFS: ("its file system is read-only", "choose a path below /run"),
}


def _problem(listen: Listen, error: OSError) -> EnvironmentProblem:
    if isinstance(error, socket.gaierror):
        return EnvironmentProblem(
            f"cannot listen on {listen}: the name {listen.host} does not resolve", "write an address such as 127.0.0.1"
        )
    why, hint = _HINTS.get(error.errno or 0, (error.strerror or str(error), "choose another address with --listen"))
    return EnvironmentProblem(f"cannot listen on {listen}: {why}", hint)


def _url(listen: Listen, bound: socket.socket) -> str:
    if listen.unix:
        return str(listen)
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound
    host = everywhere.get(listen.host, listen.host)
    return f"http://[{host}]:{bound.getsockname()[1]}" if ":" in host else f"http://{host}:{bound.getsockname()[1]}"


def _server(app: App, ready: Event, limits: Limits) -> uvicorn.Server:
    """uvicorn, imported here: commands that serve nothing do not pay for it."""
    import uvicorn  # noqa: PLC0415 - see above

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            ready.set()

    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=_protocol(limits),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="critical",  # a client's broken request is no news, and a traceback may quote secrets
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=limits.grace_s,
        h11_max_incomplete_event_size=HEADERS_MAX,
    )
    return Server(config)


class Impatient(asyncio.Protocol):
    """What uvicorn's connection lacks: deadlines for a client's part, and a limit on how many connections there are.

    Mixed into `H11Protocol`, whose `conn`, `loop`, `transport` and `connections` it reads.
    """

    conn: Any
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    connections: set[Any]
    limits: Limits
    unfinished: frozenset[Any]  # h11's states of a client that owes us the rest of its request
    waiting: OrderedDict[Impatient, None]  # those clients, oldest first
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The clock runs from here: whoever connects owes a request."""
        super().connection_made(transport)
        self._expect_request()
        if len(self.connections) > self.limits.connections:
            next(iter(self.waiting)).give_up()  # this one itself where all others are being answered

    def data_received(self, data: bytes) -> None:
        """Some or all of a request."""
        super().data_received(data)
        if self.conn.their_state in self.unfinished:
            self._expect_request()
        elif self in self.waiting:
            self._start(self.limits.response_s)
            del self.waiting[self]

    def on_response_complete(self) -> None:
        """The answer is out; a connection that is kept alive owes the next request."""
        super().on_response_complete()  # type: ignore[misc] # H11Protocol's
        if not self.transport.is_closing() and self.conn.their_state in self.unfinished:
            self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whoever ended it."""
        self._start(None)
        self.waiting.pop(self, None)
        super().connection_lost(exc)

    def give_up(self) -> None:
        """End the connection now."""
        self.waiting.pop(self, None)
        self.transport.abort()

    def _expect_request(self) -> None:
        if self not in self.waiting:  # what trickles in does not start the clock anew
            self.waiting[self] = None
            self._start(self.limits.request_s)

    def _start(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self.give_up) if seconds is not None else None


def _protocol(limits: Limits) -> type[asyncio.Protocol]:
    import h11  # noqa: PLC0415 - comes with uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol  # noqa: PLC0415 - see _server

    own = {
        "limits": limits,
        "waiting": OrderedDict[Impatient, None](),
        "unfinished": frozenset({h11.IDLE, h11.SEND_BODY}),
    }
    return type("Connection", (Impatient, H11Protocol), own)
