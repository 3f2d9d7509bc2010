"""Litestream 0.5's file names, read as strictly as Litestream reads them; what it would not list is told from what nobody foresaw."""

from __future__ import annotations

import re
from datetime import datetime

from sidecar.core.model import Position, ReplicaFile

LEVELS = range(10)
_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.ltx")


class NotUnderstood(Exception):
    """Something that Litestream is to be asked about. Says what, and shows no name."""


def name_of(file: ReplicaFile) -> str:
    """The name that Litestream gave this file."""
    return f"{file.first.index:016x}-{file.last.index:016x}.ltx"


def file_of(level: int, name: str, size_bytes: int, at: datetime) -> ReplicaFile | None:
    """The file that this name stands for; None where Litestream passes over it (`.tmp`, what a system leaves in a folder).

    Source: `ltx.ParseFilename` (superfly/ltx), and seen with 0.5.17: sixteen lower-case hex digits twice; everything else is passed over.
    Times are whole seconds, as `litestream ltx` prints them.

    Raises:
        NotUnderstood: it ends like Litestream's names and is none.
    """
    if not name.endswith(".ltx"):
        return None
    match = _NAME.fullmatch(name)
    if match is None:
        raise NotUnderstood("an odd file name")
    first, last = int(match[1], 16), int(match[2], 16)
    if not 1 <= first <= last:
        raise NotUnderstood("a file name with impossible positions")
    at = at.replace(microsecond=0)
    return ReplicaFile(level, Position.of_txid(first), Position.of_txid(last), size_bytes, at)
