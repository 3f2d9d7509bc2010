"""How many listing requests looks sent to the replicas' stores, and by which way: the figure that the short way is there to lower."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Literal

from sidecar.core.model import Database

Way = Literal["direct", "litestream"]

# `litestream ltx -level all` lists ten levels one after the other (cmd/litestream/ltx.go); 0.3 is asked twice, for snapshots and WAL.
LEVELS = 10
COMMANDS_03 = 2


class Requests:
    """Counts since the process started; safe to share between threads.

    A folder on a disk is no store that sends bills: a look at it counts 1 by either way.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count: dict[Way, int] = {"direct": 0, "litestream": 0}
        self._looks, self._spent = Counter[str](), Counter[str]()  # by the replica's type

    def add(self, way: Way, number: int, kind: str) -> None:
        """So many more, of a replica of this type."""
        with self._lock:
            self._count[way] += number
            self._spent[kind] += number

    def looked(self, kind: str) -> None:
        """A look at a replica of this type, whatever it takes."""
        with self._lock:
            self._looks[kind] += 1

    def so_far(self) -> Mapping[str, tuple[int, int]]:
        """Replica type to (looks, requests) since the start."""
        with self._lock:
            return {kind: (looks, self._spent[kind]) for kind, looks in self._looks.items()}

    def read(self) -> Mapping[str, int]:
        """Requests by way, each only growing."""
        with self._lock:
            return {str(way): count for way, count in self._count.items()}


def of_command(database: Database, version: str) -> int:
    """The least that Litestream sends for one listing; a level of more than 1000 objects costs it more."""
    if database.replica.type == "file":
        return 1
    return LEVELS if version.startswith("0.5.") else COMMANDS_03
