"""Logs: one line an event, for people or as JSON. Ten lines of our own instead of a library of 18 MB."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TextIO

from sidecar.core.redact import redact


class _Console(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        return redact(f"{at} {record.levelname.lower():7} {record.getMessage()}{_failure(record)}")


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
    trace, where = error.__traceback__, ""
    while trace is not None:
        where = f"{trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f" [{type(error).__name__} at {where}]"


def set_up(kind: str, level: str, stream: TextIO = sys.stderr) -> None:
    """Send our own log (`sidecar.*`) to a stream; libraries speak up from warnings on."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Json() if kind == "json" else _Console())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("sidecar").setLevel(level.upper())
    for chatty in ("httpx", "httpcore", "uvicorn", "watchdog"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
