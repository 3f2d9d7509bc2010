"""Fetches single backup files of a replica into a folder, where the direct way of listing it is understood."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from sidecar.adapters.replica_listing.bucket import Refused, StoreFailed, key_of
from sidecar.adapters.replica_listing.flight import Flight, Hands, TookTooLong
from sidecar.adapters.replica_listing.folder import path_of
from sidecar.adapters.replica_listing.lister import LookLister
from sidecar.adapters.replica_listing.names import name_of
from sidecar.adapters.replica_listing.target import Folder
from sidecar.core.errors import Overdue, SidecarError
from sidecar.core.model import Database, ReplicaFile


class NotFetched(SidecarError):
    """A file could not be fetched; Litestream is the one to ask then."""


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Satisfies `forwarding.Fetcher`; safe to share between threads.

    Args:
        lister: knows where replicas are, and keeps the stores' clients.
        clock_s: seconds that never go back.
    """

    lister: LookLister
    clock_s: Callable[[], float]
    hands: Hands = field(default_factory=Hands)

    def understands(self, database: Database) -> bool:
        """Whether files of this database's replica can be fetched."""
        return self.lister.target(database) is not None

    def fetch(
        self, database: Database, files: Sequence[ReplicaFile], folder: Path, *, timeout_s: float, stop: Event
    ) -> list[Path]:
        """Copies of these files in `folder`, each as large as it was listed.

        Raises:
            NotFetched: one is gone, of another size, or cannot be read.
            Overdue: not within `timeout_s`.
            Stopped: `stop` was set.
        """
        target = self.lister.target(database)
        if target is None:
            raise NotFetched("its replica is not one that is read directly")
        named = [(each, folder / str(each.level) / name_of(each)) for each in files]

        def all_of_them() -> None:
            for each, path in named:
                path.parent.mkdir(mode=0o700, exist_ok=True)
                if isinstance(target, Folder):
                    shutil.copyfile(path_of(target.path, each), path)
                else:
                    self.lister.bucket(target.store).get(key_of(target.path, each), path)

        try:
            Flight(self.hands, all_of_them, self.clock_s).wait(timeout_s, stop)
        except TookTooLong:
            raise Overdue("its files were not fetched in time", "look at the store") from None
        except (Refused, StoreFailed):
            raise NotFetched("the store did not give a file") from None
        except OSError as error:
            raise NotFetched(f"a file cannot be read: {error.strerror}") from error
        for each, path in named:
            if path.stat().st_size != each.size_bytes:
                raise NotFetched(f"{path.name} is of another size than it was listed with")
        return [path for _, path in named]
