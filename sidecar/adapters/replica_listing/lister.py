"""Which way a look lists a replica: the short one where it is understood and has not just failed, else Litestream's command."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping
from threading import Event
from typing import Protocol

from sidecar.adapters.replica_listing.bucket import (
    Bucket,
    Refused,
    StoreFailed,
    TooMany,
    available,
    files_of,
)
from sidecar.adapters.replica_listing.commons import Commons
from sidecar.adapters.replica_listing.flight import Flight, Hands, TookTooLong
from sidecar.adapters.replica_listing.folder import read_folder
from sidecar.adapters.replica_listing.names import NotUnderstood
from sidecar.adapters.replica_listing.requests import Requests, of_command
from sidecar.adapters.replica_listing.target import Folder, Prefix, Store, Target, target_of
from sidecar.core.errors import Stopped
from sidecar.core.listed import Listed
from sidecar.core.listing import chain
from sidecar.core.model import Database, Position, Replica, ReplicaFile
from sidecar.core.ports import Clock

log = logging.getLogger("sidecar.look")

DIRECT_S = 10.0  # the short way may take this long, and no more than a quarter of what the look may take
SHARED_PART = 0.6  # of that, for a shared listing; the rest is for one of our own
REST_S = 600.0  # after a failure: a store that hangs is not to cost both timeouts at every look
STORES_MAX = 32  # clients kept: each is 0.1 MB, and 3 ms to make anew
KNOWN_MAX = 20_000  # databases remembered; past that all are read anew, so that those that left are not kept for ever
PAGES_MAX = 20  # of one replica: a listing takes seconds by then
_WHY: Mapping[type[Exception], str] = {
    TookTooLong: "no answer in time",
    StoreFailed: "the store gave no answer",
    Refused: "the store refused",
    TooMany: "too many files",
    OSError: "the folder cannot be read",
}


class Command(Protocol):
    """Litestream's command."""

    @property
    def version(self) -> str:
        """As Litestream says it."""
        ...

    def list_files(self, database: Database, *, timeout_s: float, stop: Event) -> tuple[ReplicaFile, ...]:
        """All files of the replica."""
        ...


class LookLister:
    """Lists replicas for looks; safe to share between threads.

    Args:
        command: asked whenever the short way does not answer; its errors are the look's errors.
        clock: dates every listing just before it begins.
        env: the environment that Litestream sees.
    """

    def __init__(self, command: Command, clock: Clock, env: Mapping[str, str]) -> None:
        self.requests = Requests()
        self._command, self._clock, self._env = command, clock, env
        self._understood = command.version.startswith("0.5.")  # the layout that is read here
        self._lock, self._hands = threading.Lock(), Hands()
        self._targets: dict[str, tuple[Replica, Target | None]] = {}
        self._stores: OrderedDict[Store, tuple[Bucket, Commons]] = OrderedDict()
        self._rests: dict[Target | Store, float] = {}
        self._newest: dict[str, Position] = {}  # database's path -> what the last look saw

    def listed(self, database: Database, *, holds: Position | None, timeout_s: float, stop: Event) -> Listed:
        """The files of the replica; where there is none, Litestream itself has said so.

        `holds`: the position of Litestream's newest local file, where that holds all that production has committed: then a
        listing that began up to `LIFE_S` ago will do, if it shows that position. None: only one that begins now.

        Raises:
            LitestreamError: what Litestream's command said.
            Stopped: `stop` was set.
        """
        self.requests.looked(database.replica.type)
        target = self._listed_directly(database)
        direct = self._direct(database, target, holds, timeout_s, stop) if target is not None else None
        if direct is None:
            began = self._clock.now()
            self.requests.add("litestream", of_command(database, self._command.version), database.replica.type)
            direct = Listed(began, self._command.list_files(database, timeout_s=timeout_s, stop=stop))
            if target is not None and direct.files:  # the short way failed, saw no backup, or a broken one
                self._rest(target)
        if direct.files:
            self._newest[database.path] = max((each.last for each in direct.files), key=lambda each: each.index)
        return direct

    def _listed_directly(self, database: Database) -> Target | None:
        """Where to list directly; None where that is not understood, or rests after a failure."""
        target = self.target(database)
        return None if target is None or self._resting(target) else target

    def target(self, database: Database) -> Target | None:
        """Where a replica is; None where that is not understood."""
        if not self._understood:
            return None
        known = self._targets.get(database.path)
        if known is None or known[0] != database.replica:
            if len(self._targets) >= KNOWN_MAX:
                for each in (self._targets, self._newest, self._rests):
                    each.clear()
            known = self._targets[database.path] = database.replica, self._read(database.replica)
        return known[1]

    def _read(self, replica: Replica) -> Target | None:
        try:
            target = target_of(replica, self._env)
        except Exception:  # noqa: BLE001 - unforeseen; a configuration holds secrets, and its error may repeat them
            return None
        return None if isinstance(target, Prefix) and not available() else target

    def _direct(
        self, database: Database, target: Target, holds: Position | None, timeout_s: float, stop: Event
    ) -> Listed | None:
        """The short way; None where it failed or brought bad news, and then Litestream is to be asked."""
        left_s = min(DIRECT_S, timeout_s / 4)
        try:
            listed = (
                self._folder(target, left_s, stop)
                if isinstance(target, Folder)
                else self._bucket(database.path, target, holds, left_s, stop)
            )
        except Stopped:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, Litestream's own answer is what counts
            silent = isinstance(error, TookTooLong | StoreFailed)
            self._rest(target.store if silent and isinstance(target, Prefix) else target)
            log.info(
                "%s: listing the replica directly did not work (%s); Litestream is asked for %d min",
                database.name or database.path, _why(error), REST_S // 60,
            )  # fmt: skip
            return None
        return listed if _is_good_news(listed.files) else None

    def _folder(self, target: Folder, left_s: float, stop: Event) -> Listed:
        began = self._clock.now()
        self.requests.add("direct", 1, "file")
        return Listed(
            began, Flight(self._hands, lambda: read_folder(target.path), self._clock.monotonic).wait(left_s, stop)
        )

    def _bucket(self, path: str, target: Prefix, holds: Position | None, left_s: float, stop: Event) -> Listed:
        ends_s = self._clock.monotonic() + left_s
        bucket, commons = self._store(target.store)
        # Whoever was written to since its last look is seldom shown whole by a listing that began before: it begins none.
        idle, shared_s = holds == self._newest.get(path), left_s * SHARED_PART
        shared = commons.listed(target.path, holds, may_begin=idle, timeout_s=shared_s, stop=stop)
        if shared is not None:
            return shared
        began = self._clock.now()
        flight = Flight(self._hands, lambda: files_of(bucket.keys(target.path, PAGES_MAX)), self._clock.monotonic)
        return Listed(began, flight.wait(ends_s - self._clock.monotonic(), stop))

    def bucket(self, store: Store) -> Bucket:
        """The client for this store."""
        return self._store(store)[0]

    def _store(self, store: Store) -> tuple[Bucket, Commons]:
        with self._lock:
            if store not in self._stores:
                bucket = Bucket(store, lambda number: self.requests.add("direct", number, "s3"))
                self._stores[store] = bucket, Commons(bucket, self._hands, self._clock)
                if len(self._stores) > STORES_MAX:
                    self._stores.popitem(last=False)
            self._stores.move_to_end(store)
            return self._stores[store]

    def _resting(self, target: Target) -> bool:
        until_s = self._rests.get(target, float("-inf"))
        if isinstance(target, Prefix):
            until_s = max(until_s, self._rests.get(target.store, float("-inf")))
        return self._clock.monotonic() < until_s

    def _rest(self, what: Target | Store) -> None:
        self._rests[what] = self._clock.monotonic() + REST_S


def _why(error: Exception) -> str:
    """In words of our own: an error of a library's may repeat a key."""
    if isinstance(error, NotUnderstood):
        return str(error)
    return next((words for kind, words in _WHY.items() if isinstance(error, kind)), type(error).__name__)


def _is_good_news(files: tuple[ReplicaFile, ...]) -> bool:
    """Whether these files can be restored without a gap. What says otherwise is for Litestream to say."""
    way = chain(files)
    return way.reachable is not None and way.gap is None and way.overlap is None
