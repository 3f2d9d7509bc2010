"""One listing for many databases: where replicas lie below a common prefix of a bucket, it is listed once for all that are due.

A shared listing may have begun before it was asked for, by `LIFE_S` at most. It serves a database only where it shows all that
Litestream's local files hold, and only if that was not looked at since it began, so that no look goes back behind the one before.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event

from sidecar.adapters.replica_listing.bucket import Bucket, Key, Refused, StoreFailed, TooMany, files_of, pages_of
from sidecar.adapters.replica_listing.flight import Flight, Hands, TookTooLong
from sidecar.adapters.replica_listing.names import NotUnderstood
from sidecar.core.listed import Listed
from sidecar.core.model import Position
from sidecar.core.ports import Clock

# A quarter of the default `look-every`. Whoever is served takes the listing's own beginning as the time of the look, so all
# of them are due again together: after a few rounds a thousand databases are a handful of groups.
LIFE_S = 15.0
# A page holds a thousand keys, and a listing of one database alone costs a page: beyond this many keys for each of our databases
# (others' objects, or a long history) little would be saved.
KEYS_EACH = 500
REST_S = 3600.0  # for so long a prefix that did not pay is not tried again
POOR_MAX = 3  # listings in a row that served no more databases than they took requests
FORGET_S = 3600.0  # a database that was not looked at for so long is no longer counted


@dataclass(frozen=True, slots=True)
class _Brought:
    """What a shared listing brought: its keys by replica, and how many requests it took."""

    keys: dict[str, list[Key]]
    requests: int


@dataclass
class _Common:
    """A listing of `above`, begun for the members that were known then."""

    above: str
    began: datetime
    began_s: float
    members: frozenset[str]
    flight: Flight[_Brought]
    past: set[str] = field(default_factory=set)  # looked at since it began
    served: int = 0
    pages: int = 1


@dataclass
class _Rest:
    """How a prefix did: listings in a row that did not pay, and until when it is left alone."""

    poor: int = 0
    until_s: float = 0.0
    members: int = 0


class Commons:
    """What the databases of one bucket can share; safe to share between threads."""

    def __init__(self, bucket: Bucket, hands: Hands, clock: Clock) -> None:
        self._bucket, self._hands, self._clock = bucket, hands, clock
        self._lock = threading.Lock()
        self._asked_s: dict[str, float] = {}  # path of a replica -> when it was last looked at
        self._below: Counter[str] = Counter()  # prefix -> how many replicas lie below it
        self._commons: list[_Common] = []
        self._rests: dict[str, _Rest] = {}

    def listed(
        self, path: str, holds: Position | None, *, may_begin: bool, timeout_s: float, stop: Event
    ) -> Listed | None:
        """The files below `path` as a shared listing shows them; None where none serves it, then it is to be listed alone.

        Args:
            path: of a replica.
            holds: what the listing must show; None where only one that begins now will do.
            may_begin: where none is under way, begin one.
            timeout_s: how long to wait for it.
            stop: ends the waiting.

        Raises:
            NotUnderstood: something odd lies below `path`.
            StoreFailed: the store did not answer.
            Stopped: `stop` was set.
        """
        common = self._join(path, may_begin=may_begin, wanted=holds is not None)
        if common is None or holds is None:
            return None
        try:
            keys = common.flight.wait(timeout_s, stop).keys.pop(path, None)
        except (TookTooLong, TooMany, Refused, NotUnderstood):
            self._leave(common)
            return None
        except StoreFailed:
            self._leave(common, rest_s=0.0)
            raise
        files = files_of(keys) if keys else ()
        if not any(each.last.covers(holds) for each in files):
            return None
        with self._lock:
            common.served += 1
        return Listed(common.began, files)

    def _join(self, path: str, *, may_begin: bool, wanted: bool) -> _Common | None:
        """The listing that is to serve this replica, if any; it is past all that are under way from now on."""
        now_s = self._clock.monotonic()
        with self._lock:
            self._sweep(now_s)
            if wanted and path not in self._asked_s:
                self._below.update(_above(path))
            if wanted:
                self._asked_s[path] = now_s
            common = next((each for each in self._commons if path in each.members and path not in each.past), None)
            if common is None and wanted and may_begin:
                common = self._begin(path, now_s)
            for each in self._commons:
                each.past.add(path)
            return common

    def _begin(self, path: str, now_s: float) -> _Common | None:
        for gone in [each for each, asked_s in self._asked_s.items() if now_s - asked_s > FORGET_S]:
            del self._asked_s[gone]
            self._below.subtract(_above(gone))
        free = [each for each in _above(path) if self._below[each] > 1 and not self._resting(each, now_s)]
        # The one that most replicas lie below; of several, the closest, so that nobody else's objects are listed.
        above = max(free, key=lambda each: (self._below[each], len(each)), default=None)
        if above is None:
            return None
        members = frozenset(each for each in self._asked_s if above in _above(each))
        pages_max = max(len(members) * KEYS_EACH // 1000, 1)
        began = self._clock.now()
        flight = Flight(
            self._hands,
            lambda: _by_member(self._bucket.keys(above, pages_max), above, members),
            self._clock.monotonic,
        )
        common = _Common(above, began, now_s, members, flight)
        self._commons.append(common)
        return common

    def _resting(self, above: str, now_s: float) -> bool:
        rest = self._rests.get(above)
        # Where twice as many replicas are known as then, it may pay by now.
        return rest is not None and now_s < rest.until_s and self._below[above] < 2 * rest.members

    def _leave(self, common: _Common, rest_s: float = REST_S) -> None:
        """This listing brought nothing: nobody else is to join it, and its prefix rests."""
        with self._lock:
            if common in self._commons:
                self._commons.remove(common)
            if rest_s:
                until_s = self._clock.monotonic() + rest_s
                for each in (common.above, *_above(common.above)):  # what lies above holds at least as much
                    self._rests[each] = _Rest(0, until_s, self._below[each])

    def _sweep(self, now_s: float) -> None:
        """Let go of what is too old to serve anybody, and see whether it paid."""
        for each in [each for each in self._commons if now_s - each.began_s > LIFE_S]:
            self._commons.remove(each)
            brought = each.flight.brought
            if brought is None:
                continue
            rest = self._rests.setdefault(each.above, _Rest())
            rest.poor = rest.poor + 1 if each.served <= brought.requests else 0
            if rest.poor >= POOR_MAX:
                self._rests[each.above] = _Rest(0, now_s + REST_S, self._below[each.above])


def _above(path: str) -> Iterator[str]:
    """The prefixes that a replica's path lies below, the closest first; the empty one is the bucket."""
    while path:
        path = path.rpartition("/")[0]
        yield path


def _by_member(keys: list[Key], above: str, members: frozenset[str]) -> _Brought:
    """The keys of each member, named from there on; of nested members the inner one has them."""
    found: dict[str, list[Key]] = {}
    owners: dict[str, str | None] = {}
    for each in keys:
        whole = f"{above}/{each.name}" if above else each.name
        folder = whole.rpartition("/")[0]
        if folder not in owners:
            owners[folder] = next((up for up in _above(whole) if up in members), None)
        owner = owners[folder]
        if owner is not None:
            found.setdefault(owner, []).append(Key(whole[len(owner) + 1 :], each.size_bytes, each.at))
    return _Brought(found, pages_of(len(keys)))
