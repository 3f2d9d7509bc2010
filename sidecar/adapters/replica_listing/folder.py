"""A file replica, listed by reading its ten level folders: names, sizes and times only, no file in it is opened."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime

from sidecar.adapters.replica_listing.names import LEVELS, NotUnderstood, file_of, name_of
from sidecar.core.model import ReplicaFile

_SECOND_NS = 1_000_000_000


def read_folder(path: str) -> tuple[ReplicaFile, ...]:
    """Every LTX file below `path`, by level and position.

    As Litestream does it (file/replica_client.go, and seen with 0.5.17): a level that is not there is empty; links are not followed; a
    file that goes meanwhile is left out. From the lowest level up: what compaction moves meanwhile only goes up, so nothing
    is missed that was there all the time.

    Raises:
        OSError: a level cannot be read.
        NotUnderstood: something stands there that Litestream did not make.
    """
    found: list[ReplicaFile] = []
    for level in LEVELS:
        try:
            entries = os.scandir(f"{path}/ltx/{level}")
        except FileNotFoundError:
            continue
        with entries:
            files = [file for each in entries if (file := _file(level, each)) is not None]
        found += sorted(files, key=lambda each: (each.first.index, each.last.index))
    return tuple(found)


def path_of(path: str, file: ReplicaFile) -> str:
    """Where one of these files lies."""
    return f"{path}/ltx/{file.level}/{name_of(file)}"


def _file(level: int, entry: os.DirEntry[str]) -> ReplicaFile | None:
    if not entry.name.endswith(".ltx"):
        return None
    try:
        seen = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(seen.st_mode):
        raise NotUnderstood("something that is no plain file")
    return file_of(level, entry.name, seen.st_size, datetime.fromtimestamp(seen.st_mtime_ns // _SECOND_NS, UTC))
