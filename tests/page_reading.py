"""A live database's pages, read by us and by SQLite's own backup within one read transaction."""

from __future__ import annotations

from contextlib import closing

import apsw

from sidecar.adapters.sqlite_pages import PageReader, Snapshot

# What the backup API writes into page 1 of its copy: change counter, schema cookie, version-valid-for, version.
EDITED = (range(24, 28), range(40, 44), range(92, 100))


def masked(page: bytes) -> bytes:
    data = bytearray(page)
    for each in EDITED:
        data[each.start : each.stop] = bytes(len(each))
    return bytes(data)


def backup(reader: PageReader, size: int) -> list[bytes]:
    """SQLite's own copy, within the read transaction that is open."""
    with closing(apsw.Connection(":memory:")) as target:
        with target.backup("main", reader.connection, "main") as copying:
            while not copying.done:
                copying.step(1000)
        data = target.serialize("main")
    return split(data, size)


def split(data: bytes, size: int) -> list[bytes]:
    assert len(data) % size == 0
    return [data[at : at + size] for at in range(0, len(data), size)]


def read(snapshot: Snapshot) -> list[bytes]:
    found: list[bytes] = []
    for first, data in snapshot.pages(1, snapshot.page_count):
        assert first == len(found) + 1
        found += split(bytes(data), snapshot.index.page_size)
    return found


def same(ours: list[bytes], theirs: list[bytes]) -> bool:
    return len(ours) == len(theirs) and masked(ours[0]) == masked(theirs[0]) and ours[1:] == theirs[1:]
