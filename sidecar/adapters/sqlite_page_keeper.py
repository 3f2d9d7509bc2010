"""Pages that are not what production held: what they belong to, and both versions of the first ones kept for whoever looks into it.

They are production's content, so they lie in the state directory, for its owner's eyes only, and only the newest few are kept.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path
from threading import Event

import apsw

from sidecar.adapters.sqlite_content import connect, watched
from sidecar.core.errors import SidecarError, Stopped

KEPT_BYTES_MAX = 1 << 20  # of both versions together
FOLDERS_MAX = 10
OWNERS_MAX = 10
OWNERS_S = 60.0  # walking every b-tree of a large database takes longer than anybody waits for a name

log = logging.getLogger("sidecar.parity")


class PageKeeper:
    """Satisfies `ports.PageKeeper`. `folder` need not exist."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def is_in(self, copy: Path, page: int, data: bytes) -> bool:
        """Whether the copy holds just that. Raises OSError."""
        return _page(copy, page, len(data)) == data

    def keep(self, drill_id: str, copy: Path, pages: Mapping[int, bytes]) -> str | None:
        """`page-N.production` and `page-N.restored` of the first pages; their folder, None where none can be kept."""
        if not pages or re.fullmatch(r"[\w-]+", drill_id) is None:
            return None
        folder, room = self._folder / drill_id, KEPT_BYTES_MAX
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for page, data in sorted(pages.items()):
                room -= 2 * len(data)
                if room < 0:
                    break
                _write(folder / f"page-{page}.production", data)
                _write(folder / f"page-{page}.restored", _page(copy, page, len(data)))
            old = sorted(self._folder.iterdir(), key=lambda each: each.stat().st_mtime)[:-FOLDERS_MAX]
            for each in old:
                shutil.rmtree(each, ignore_errors=True)
        except OSError as error:
            log.warning("differing pages could not be kept in %s: %s", folder, error.strerror or error)
            return None
        return str(folder)

    def owners(self, copy: Path, pages: Collection[int], *, timeout_s: float, stop: Event) -> tuple[str, ...]:
        """The tables and indexes that pages of the copy belong to, as far as its b-trees can be walked; () where they cannot.

        A page of none of them is on the freelist, or holds pointers of auto_vacuum.
        """
        wanted, found = frozenset(pages), set[str]()
        try:
            with (
                closing(connect(copy, immutable=True)) as connection,
                watched(connection, f"walking {copy.name}", timeout_s=min(timeout_s, OWNERS_S), stop=stop),
            ):
                left = len(wanted)
                for name, page in connection.execute("select name, pageno from dbstat"):
                    if page in wanted:
                        found.add(str(name))
                        left -= 1
                    if not left or len(found) >= OWNERS_MAX:
                        break
        except Stopped:
            raise
        except (SidecarError, apsw.Error) as error:
            log.info("what differing pages belong to cannot be told: %s", error)
        return tuple(sorted(found))


def _page(copy: Path, page: int, size: int) -> bytes:
    descriptor = os.open(copy, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(descriptor, size, (page - 1) * size)
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
