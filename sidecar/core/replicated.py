"""Up to which commit, and up to which instant, production is known to be in the replica."""

from __future__ import annotations

from datetime import datetime

from sidecar.core.instants import from_the_future
from sidecar.core.live_state import Capture, LiveState
from sidecar.core.model import Listing


def holds(listing: Listing, capture: Capture) -> bool:
    """Whether the replica has all that Litestream had captured.

    A listing of 0.3 says where its newest WAL segment begins and not where it ends. Where it begins before the last commit, its
    time decides, in whole seconds as listed: it was written after the last commit was captured, so it holds it.
    """
    if listing.position.covers(capture.position):
        return True
    listed, local = listing.position, capture.position
    same_wal = bool(local.generation) and (listed.generation, listed.index) == (local.generation, local.index)
    return same_wal and listing.at >= capture.at.replace(microsecond=0)


def time_of(listing: Listing, live: LiveState) -> datetime | None:
    """Up to which instant commits are in the replica, when it is not known to hold them all; None where no date can be believed.

    The newest local file that the listed position contains carries the writer's time, read just after the WAL was. Where the
    position is older than all local files, so are the commits it holds; the replica's own clock (upload time on object stores)
    can only lower that. Never later than the moment before the listing. Once the clock was set back, the files of before are
    dated ahead of it: taken for new, they would keep a replica that gets nothing any more current until the clock gets there.
    """
    contained = [each.at for each in live.captures if listing.position.covers(each.position)]  # newest first
    stated = contained[0] if contained else listing.last_at or listing.at
    if from_the_future(stated, live.read_at):
        return None
    past = next(
        (at for at in contained if at <= live.read_at), None
    )  # one that came just after the reading proves nothing
    if past is not None:
        return past
    oldest = min((each.at for each in live.captures), default=live.read_at)
    return min(listing.last_at or listing.at, oldest, live.read_at)
