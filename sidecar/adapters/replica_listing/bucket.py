"""An S3 bucket, listed by obstore: pages of a thousand keys, no retries, and none of its words let out.

obstore's errors repeat URLs and what the server said, a key's id with it: they are told apart here, and go no further.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from sidecar.adapters.replica_listing.names import LEVELS, NotUnderstood, file_of, name_of
from sidecar.adapters.replica_listing.target import Store
from sidecar.core.model import ReplicaFile

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Credential, S3Store

PART_BYTES = 1 << 20
PAGE_KEYS = 1000  # what S3 gives at once
REQUEST_TIMEOUT = timedelta(seconds=10)
_LEVELS = {f"{each:04x}": each for each in LEVELS}  # the folders' names (s3/replica_client.go, `newFileIterator`)
# All that a listing ends with is one class of obstore's; what the server answered stands in its words only. Too many requests, or a
# request that took too long, are no refusal.
_REFUSAL = re.compile(r"status code: 4(?!08|29)\d\d")


class TooMany(Exception):
    """More keys than were to be read."""


class StoreFailed(Exception):
    """The store did not answer, or not with a listing: nobody else who asks it now will fare better."""


class Refused(Exception):
    """The store refused to list this; it may allow something else."""


class _Meta(TypedDict):
    path: str
    size: int
    last_modified: datetime


@dataclass(frozen=True, slots=True)
class Key:
    """One object: its key below what was listed, bytes, and LastModified by the server's clock."""

    name: str
    size_bytes: int
    at: datetime


def available() -> bool:
    """Whether obstore is installed."""
    return importlib.util.find_spec("obstore") is not None


class Bucket:
    """A client for one bucket; safe to share between threads. `count` is told of every request."""

    def __init__(self, store: Store, count: Callable[[int], None]) -> None:
        self._count, self._client = count, _client(store)

    def keys(self, path: str, pages_max: int) -> list[Key]:
        """Everything below `path` (no slash at either end; empty is the whole bucket), in the order of names.

        Raises:
            TooMany: it goes on after `pages_max` pages.
            StoreFailed, Refused: there is no listing.
        """
        from obstore import exceptions  # noqa: PLC0415 - 8 MB that only a fleet with S3 replicas is to carry

        prefix, found = f"{path}/" if path else "", list[Key]()
        self._count(1)  # before it is sent: it may never end
        try:
            for chunk in self._client.list(path or None, chunk_size=PAGE_KEYS):
                found += (_key(each, prefix) for each in chunk)
                if len(found) >= pages_max * PAGE_KEYS:
                    raise TooMany
        except exceptions.BaseError as error:
            raise (Refused if _REFUSAL.search(str(error)) else StoreFailed) from None
        finally:
            self._count(pages_of(len(found)) - 1)
        return found

    def get(self, key: str, to: Path) -> None:
        """Write one object to a new file, a part at a time. Raises StoreFailed, Refused, and OSError of the disk."""
        import obstore  # noqa: PLC0415 - as above
        from obstore import exceptions  # noqa: PLC0415

        self._count(1)
        try:
            with to.open("xb") as file:
                for part in obstore.get(self._client, key).stream(min_chunk_size=PART_BYTES):
                    file.write(part)
        except (exceptions.BaseError, FileNotFoundError) as error:
            raise (Refused if _REFUSAL.search(str(error)) else StoreFailed) from None


def pages_of(keys: int) -> int:
    """How many requests a listing of so many keys takes."""
    return max(-(-keys // PAGE_KEYS), 1)


def _client(store: Store) -> S3Store:
    from obstore.store import S3Store  # noqa: PLC0415 - as above

    config: S3Config = {"region": store.region, "virtual_hosted_style_request": not store.path_style}
    if store.endpoint:
        config["endpoint"] = store.endpoint
    return S3Store(
        store.bucket,
        config=config,
        credential_provider=_Credentials(store),  # not among the settings: those are shown wherever the client is
        client_options={
            "timeout": REQUEST_TIMEOUT,
            "connect_timeout": REQUEST_TIMEOUT / 2,
            "allow_http": store.endpoint.startswith("http://"),
        },
        retry_config={"max_retries": 0, "retry_timeout": REQUEST_TIMEOUT},  # Litestream's command is the second try
    )


@dataclass(frozen=True, slots=True)
class _Credentials:
    """What obstore calls for the keys."""

    store: Store

    def __call__(self) -> S3Credential:
        return {
            "access_key_id": self.store.key_id,
            "secret_access_key": self.store.secret,
            "token": self.store.token or None,
            "expires_at": None,
        }


def key_of(path: str, file: ReplicaFile) -> str:
    """The key of one of a replica's files."""
    return f"{path}/{file.level:04x}/{name_of(file)}".lstrip("/")


def _key(meta: _Meta, prefix: str) -> Key:
    if not meta["path"].startswith(prefix):
        raise NotUnderstood("a key that was not asked for")
    return Key(meta["path"].removeprefix(prefix), meta["size"], meta["last_modified"])


def files_of(keys: list[Key]) -> tuple[ReplicaFile, ...]:
    """The LTX files among the keys below one replica's path, by level and position.

    Raises:
        NotUnderstood: a level holds what Litestream did not put there.
    """
    found: list[ReplicaFile] = []
    for each in keys:
        folder, _, name = each.name.partition("/")
        level = _LEVELS.get(folder)
        if level is None:  # 0.3's generations, another database below this one
            continue
        if "/" in name:  # Litestream takes the last part of such a key for a file of this level
            raise NotUnderstood("a folder within a level")
        file = file_of(level, name, each.size_bytes, each.at)
        if file is not None:
            found.append(file)
    return tuple(sorted(found, key=lambda each: (each.level, each.first.index, each.last.index)))
