"""Clients of a server that no server wants, and many that it does, in a process of their own.

python -m tests.crowd HOST:PORT halves=500 slow=50 seconds=10     half-open connections, and slow readers of megabytes
python -m tests.crowd HOST:PORT rate=1000 seconds=60              `/ready`, each request at its own time, whatever became of the last one
Prints one JSON line when it stands, and one when it ends.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

CONNECTIONS = 16  # that the steady requests share
SLOW_BYTES, SLOW_S = 200, 0.1  # what a slow reader takes at a time, of answers of megabytes
PIPELINED = 100  # more than the kernel holds for a connection
HALF = b"GET /ready HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
READY = b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n"
BIG = READY + b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * PIPELINED
RECEIVE_BYTES = 4096
ANSWER_S = 10.0
AGAIN_S = 1.0  # until who was dropped comes back


@dataclass
class Steady:
    """What became of the steady requests; seconds from the time each was due."""

    seconds: float
    taken: list[float] = field(default_factory=list)
    errors: int = 0
    ended: float = 0.0

    @property
    def figures(self) -> dict[str, float]:
        taken = sorted(self.taken) or [0.0]
        return {
            "answered": len(self.taken), "errors": self.errors, "per_second": round(len(self.taken) / max(self.ended, 0.001), 1),
            "p50_ms": round(taken[len(taken) // 2] * 1000, 2), "p99_ms": round(taken[int(len(taken) * 0.99)] * 1000, 2),
            "max_ms": round(taken[-1] * 1000, 2),
        }  # fmt: skip


async def answered(reader: asyncio.StreamReader) -> bool:
    """Read one answer; whether it is one of `/ready`."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"content-length: "))
    await reader.readexactly(length)
    return head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 503"))


async def steady(host: str, port: int, rate: float, seconds: float) -> Steady:
    """Requests at a rate, over kept connections."""
    made, began = Steady(seconds), time.monotonic()

    async def client(number: int) -> None:
        stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        for turn in range(int(rate * seconds / CONNECTIONS)):
            due = began + (turn * CONNECTIONS + number) / rate
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            try:
                stream = stream or await asyncio.open_connection(host, port)
                stream[1].write(READY)
                right = await asyncio.wait_for(answered(stream[0]), ANSWER_S)
                made.errors += not right
                made.taken.append(time.monotonic() - due)
            except (OSError, EOFError, TimeoutError):
                made.errors += 1
                stream = None

    await asyncio.gather(*(client(each) for each in range(CONNECTIONS)))
    made.ended = time.monotonic() - began
    return made


async def half_open(host: str, port: int, *, speaks: bool) -> None:
    """Connected, and never done with its request; again soon after the server has given up on it."""
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(HALF if speaks else b"")
            await reader.read()
            writer.close()
        await asyncio.sleep(AGAIN_S)


async def slow(host: str, port: int) -> None:
    """Asks for megabytes, and takes a few bytes a tenth of a second."""
    loop = asyncio.get_running_loop()
    while True:
        with suppress(OSError), socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            connection.setblocking(False)
            await loop.sock_connect(connection, (host, port))
            await loop.sock_sendall(connection, BIG)
            taken = BIG
            while taken:
                taken = await loop.sock_recv(connection, SLOW_BYTES)
                await asyncio.sleep(SLOW_S)
        await asyncio.sleep(AGAIN_S)


async def crowd(host: str, port: int, halves: int, slows: int, seconds: float) -> None:
    tasks = [asyncio.create_task(half_open(host, port, speaks=each % 2 == 0)) for each in range(halves)]
    tasks += [asyncio.create_task(slow(host, port)) for _ in range(slows)]
    await asyncio.sleep(min(1.0, seconds / 2))
    say({"stands": len(tasks)})
    await asyncio.sleep(seconds)
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    host, _, port = sys.argv[1].partition(":")
    given = {name: float(value) for name, _, value in (each.partition("=") for each in sys.argv[2:])}
    if "rate" in given:
        say({"stands": CONNECTIONS})
        say(asyncio.run(steady(host, int(port), given["rate"], given["seconds"])).figures)
    else:
        asyncio.run(crowd(host, int(port), int(given["halves"]), int(given["slow"]), given["seconds"]))
        say({})


@dataclass
class Outside:
    """One of these processes, as who started it sees it."""

    child: Popen[str]

    def line(self) -> dict[str, float]:
        assert self.child.stdout is not None
        found: dict[str, float] = json.loads(self.child.stdout.readline())
        return found


@contextmanager
def outside(port: int, **what: float) -> Iterator[Outside]:
    """A process of this module, once it stands."""
    argv = [
        sys.executable,
        "-m",
        "tests.crowd",
        f"127.0.0.1:{port}",
        *(f"{name}={value}" for name, value in what.items()),
    ]
    with Popen(argv, stdout=PIPE, text=True, cwd=Path(__file__).resolve().parent.parent) as child:
        made = Outside(child)
        try:
            assert made.line()["stands"]
            yield made
        finally:
            child.kill()


if __name__ == "__main__":
    main()
