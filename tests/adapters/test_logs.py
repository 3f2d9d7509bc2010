"""The log: what a library repeats is said once a minute, and an error of the system says which."""

from __future__ import annotations

import errno
import io
import logging
from collections.abc import Iterator

import pytest

from sidecar.logs import SAID_AGAIN_S, set_up


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    made = io.StringIO()
    set_up("console", "info", made)
    yield made
    root.handlers[:] = handlers
    root.setLevel(level)


def said(name: str, message: str, at: float) -> None:
    record = logging.LogRecord(name, logging.ERROR, __file__, 1, message, None, None)
    record.created = at
    logging.getLogger().handle(record)


def failing() -> None:
    raise OSError(errno.EMFILE, "a secret")


def test_a_library_is_heard_once_a_minute_and_we_always(stream: io.StringIO) -> None:
    for moment in range(600):
        said("asyncio", "socket.accept() out of system resource", 1000 + moment / 10)
        said("sidecar.drill", "a drill failed", 1000 + moment / 10)
    assert stream.getvalue().count("out of system resource") == 1
    assert stream.getvalue().count("a drill failed") == 600
    said("asyncio", "another matter", 1001)
    said("asyncio", "socket.accept() out of system resource", 1000 + SAID_AGAIN_S)
    said("asyncio", "socket.accept() out of system resource", 10)  # the clock was set back
    assert stream.getvalue().count("another matter") == 1
    assert stream.getvalue().count("out of system resource") == 3


def test_what_is_remembered_is_bounded_and_errors_of_the_system_are_named(stream: io.StringIO) -> None:
    for number in range(1000):
        said("asyncio", f"line {number}", 1000)
    assert stream.getvalue().count("line") == 1000
    try:
        failing()
    except OSError:
        logging.getLogger("sidecar").exception("could not")
    assert "could not [OSError: Too many open files at test_logs.py:" in stream.getvalue()
    assert "a secret" not in stream.getvalue()
