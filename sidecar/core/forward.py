"""The way on: which of a replica's files bring a restored copy forward from where it stands. Pure.

Litestream 0.5's files may overlap: each holds every page that its TXIDs changed, as it was at the last of them, so a file that begins
before the copy's TXID and ends after it fits as well as one that follows it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sidecar.core.listing import SNAPSHOT_LEVEL
from sidecar.core.model import Position, ReplicaFile


@dataclass(frozen=True, slots=True)
class KeptCopy:
    """A restored copy: where it stands, and when it was last written."""

    position: Position
    written_at: datetime


def begun_anew(files: Iterable[ReplicaFile], copy: KeptCopy) -> bool:
    """Whether these files are of another history, whose TXIDs only happen to follow the copy's.

    A snapshot holds all there is when it is made. One that was made after the copy was written, and does not reach as far, cannot be
    of the same history; and every history begins with one. Where the clocks differ a copy may be given up for nothing.
    """
    return any(
        each.level == SNAPSHOT_LEVEL and each.last.index < copy.position.index and each.at > copy.written_at
        for each in files
    )


def way_on(files: Iterable[ReplicaFile], stands_at: Position, upto: Position) -> tuple[ReplicaFile, ...] | None:
    """The fewest files, none of them a snapshot, from one TXID exactly to another; () from one to itself, None where there is no way.

    A snapshot holds the whole database: whoever has to read one may as well restore.
    """
    at, found = stands_at.index, list[ReplicaFile]()
    usable = [each for each in files if each.level != SNAPSHOT_LEVEL and each.last.index <= upto.index]
    while at < upto.index:
        fits = [each for each in usable if each.first.index <= at + 1 and each.last.index > at]
        if not fits:
            return None
        furthest = max(fits, key=lambda each: (each.last.index, each.first.index))
        found.append(furthest)
        at = furthest.last.index
    return tuple(found) if at == upto.index else None
