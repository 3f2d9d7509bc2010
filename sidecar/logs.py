"""Logs: one line an event, for people or as JSON. Ten lines of our own instead of a library of 18 MB."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import TextIO

from sidecar.core.people import tame
from sidecar.core.redact import redact

SAID_AGAIN_S, SAID_MAX = 60.0, 100  # how often a library's line is repeated, and how many lines are remembered


class _Console(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        said = tame(" ".join(record.getMessage().split()))  # names and what others say may hold anything
        return redact(f"{at} {record.levelname.lower():7} {said}{_failure(record)}")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {
            "time": at,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage() + _failure(record)),
        }
        return json.dumps(line, ensure_ascii=False)


def _failure(record: logging.LogRecord) -> str:
    """The kind of an unexpected failure and where it happened; a traceback may quote secrets, this cannot."""
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    error = record.exc_info[1]
    why = f": {os.strerror(error.errno)}" if isinstance(error, OSError) and error.errno else ""
    trace, where = error.__traceback__, ""
    while trace is not None:
        where = f"{trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f" [{type(error).__name__}{why} at {where}]"


class _Seldom(logging.Filter):
    """What a library says over and over is passed on once a minute: without descriptors asyncio says 256 times a second, a
    hundred kilobytes, that it cannot accept."""  # noqa: D205, D209 - one thought

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, object], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        key = record.name, record.msg
        since_s = record.created - self._said.get(key, -SAID_AGAIN_S)
        if (
            record.name.startswith("sidecar") or not 0 <= since_s < SAID_AGAIN_S
        ):  # a clock that was set back is no minute
            if len(self._said) >= SAID_MAX:
                self._said.clear()
            self._said[key] = record.created
            return True
        return False


def set_up(kind: str, level: str, stream: TextIO = sys.stderr) -> None:
    """Send our own log (`sidecar.*`) to a stream; libraries speak up from warnings on."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Json() if kind == "json" else _Console())
    handler.addFilter(_Seldom())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("sidecar").setLevel(level.upper())
    for chatty in ("httpx", "httpcore", "uvicorn", "watchdog"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
