"""The replica ahead of production: it holds what production never had. Once, production was set back; again and again, somebody else writes there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sidecar.core.live_state import LiveState
from sidecar.core.model import Listing, Position, Sighting

# Another Litestream that writes to the same path is ahead, is overtaken and is ahead again; who sets production back is ahead once.
TIMES_OF_ANOTHER_WRITER = 2
REMEMBERED = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Ahead:
    """How often the replica was seen ahead, with production at its position in between. A pause of `REMEMBERED` begins anew."""

    times: int
    last_at: datetime
    still: bool

    def another_writer(self, now: datetime) -> bool:
        """Whether somebody else writes to the replica's path, as far as can be told at this instant."""
        return self.times >= TIMES_OF_ANOTHER_WRITER and now - self.last_at <= REMEMBERED


def positions(
    live: LiveState | None, sighting: Sighting | None, listing: Listing | None
) -> tuple[Position, Position] | None:
    """The replica's position and production's own, where the two can be told apart; else None.

    Litestream writes its local file before it uploads, so local files read after a listing ended can never be behind that listing.
    """
    if live is None or sighting is None or listing is None:
        return None
    if sighting.listing is not listing and sighting.listing != listing:  # equal: it may come from disk
        return None
    if sighting.finished_at is None or live.read_at < sighting.finished_at or live.capture is None:
        return None
    local = live.capture.position
    if local.generation:  # of a large transaction 0.3 may upload a part: what begins before the local end is not ahead
        local = replace(local, offset=max(local.offset, live.capture.wal_end or 0))
    return listing.position, local


def is_ahead(replica: Position, local: Position) -> bool:
    """Whether the replica holds what production does not."""
    return replica.covers(local) and not local.covers(replica)


def after(known: Ahead | None, told: tuple[Position, Position] | None, at: datetime) -> Ahead | None:
    """What is known of it after one more reading of the local files."""
    if told is None:
        return known
    if not is_ahead(*told):
        return known if known is None or not known.still else replace(known, still=False)
    if known is None or at - known.last_at > REMEMBERED:
        return Ahead(1, at, still=True)
    return Ahead(known.times if known.still else known.times + 1, at, still=True)
