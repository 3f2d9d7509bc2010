"""Gathers what Litestream's local files list as changed, for as long as a comparison needs it.

Litestream 0.5 leaves a level-0 file per sync in its local folder for minutes, 0.3 a shadow of the WAL until it is replicated. Whoever
wants to know what changed between two instants must read the lists while they are there.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sidecar.adapters.local_folder import current_generation, regular
from sidecar.core import ltx, wal
from sidecar.core.changes import Change, Changes
from sidecar.core.model import Database, Position

LISTED_MAX = 2_000_000  # page numbers kept, 8 MB; beyond it a file counts as one in which any page may have changed
READ_BYTES = 1 << 20
STRETCHES_MAX = 256  # of what is new in a shadow file: one transaction each while they are so few


class LocalChanges:
    """The lists of one database, gathered again and again by one thread. Never raises: what cannot be read is not listed."""

    def __init__(self, database: Database, *, listed_max: int = LISTED_MAX) -> None:
        self._meta = Path(database.meta_path)
        self._listed_left = listed_max
        self._found: dict[tuple[str, int, int], Change] = {}

    def gather(self, since: Position | None = None) -> Changes:
        """Everything gathered so far; first read what is new. `since`: how far back to begin, by default at the newest."""
        level0 = self._meta / "ltx" / "0"
        growing: Position | None = None
        with suppress(OSError, ValueError):
            if level0.is_dir():
                self._gather_files(level0, since)
            else:
                growing = self._gather_shadow(since)
        return Changes(tuple(self._found[key] for key in sorted(self._found)), growing)

    def _gather_files(self, folder: Path, since: Position | None) -> None:
        named = ((ltx.parse_name(name), name) for name in os.listdir(folder))  # noqa: PTH208 - costs half as much
        files = sorted((txids, name) for txids, name in named if txids is not None)
        known = [key[2] for key in self._found]
        after = since.index if since is not None and not since.generation else max(known, default=0)
        if not known and since is None:
            files = files[-1:]
        for (first, last), name in files:
            if last > after and ("", first, last) not in self._found:
                # Removed by retention since, or damaged: then it is missing from the lists, and nothing that needs it is judged.
                with suppress(FileNotFoundError, ValueError):
                    self._found["", first, last] = self._file(folder / name)

    def _file(self, path: Path) -> Change:
        with regular(path) as file:
            header = ltx.parse_header(file.read(ltx.HEADER_BYTES))
            end = file.seek(-ltx.TAIL_BYTES, os.SEEK_END)
            size = ltx.index_size(file.read(ltx.TAIL_BYTES))
            if size > end - ltx.HEADER_BYTES:
                raise ValueError("the LTX file's page index is longer than the file")
            file.seek(end - size)
            pages = ltx.parse_pages(file.read(size), header.page_count)
        return Change(
            after=Position.of_txid(header.first_txid - 1), upto=Position.of_txid(header.last_txid), salts=header.salts,
            wal_start=header.wal_offset, wal_end=header.wal_end, page_size=header.page_size, page_count=header.page_count,
            pages=self._within_limit(pages),
        )  # fmt: skip

    def _gather_shadow(self, since: Position | None) -> Position | None:
        """How far the file that Litestream appends to was read."""
        generation = current_generation(self._meta)
        if generation is None:
            return None
        folder = self._meta / "generations" / generation / "wal"
        indexes = sorted(index for name in os.listdir(folder) if (index := wal.parse_shadow_name(name)) is not None)  # noqa: PTH208
        begin = max((key[1] for key in self._found if key[0] == generation), default=indexes[-1] if indexes else 0)
        if since is not None and since.generation == generation:
            begin = min(begin, since.index)
        growing: Position | None = None
        for index in indexes:
            if index >= begin:
                with suppress(FileNotFoundError, ValueError):
                    growing = None
                    growing = self._shadow(folder / f"{index:08x}.wal", generation, index, ended=index < indexes[-1])
        return growing

    def _shadow(self, path: Path, generation: str, index: int, *, ended: bool) -> Position | None:
        """The transactions of one shadow WAL file that were not known yet; at its end the next index's state begins.

        How far it was read.
        """
        known = [
            each for each in self._found.values() if (each.upto.generation, each.after.index) == (generation, index)
        ]
        start = max((each.wal_end for each in known), default=wal.WAL_HEADER_BYTES)
        with regular(path) as file:
            header = wal.parse_wal_header(file.read(wal.WAL_HEADER_BYTES))
            if header is None:
                return None
            frames = list(_frames(file.fileno(), start, header.page_size))
        commits = [number for number, (_, page_count) in enumerate(frames) if page_count]
        for stretch in _stretches(frames[: commits[-1] + 1] if commits else [], len(commits)):
            end = start + len(stretch) * (wal.FRAME_HEADER_BYTES + header.page_size)
            change = Change(
                after=Position(generation, index, start), upto=Position(generation, index, end), salts=header.salts,
                wal_start=start, wal_end=end, page_size=header.page_size,
                page_count=min(count for _, count in stretch if count),
                pages=self._within_limit(array("I", sorted({page for page, _ in stretch}))),
            )  # fmt: skip
            self._found[generation, index, start] = change
            known.append(change)
            start = end
        if ended and known:
            last = max(known, key=lambda each: each.wal_end)
            following = Position(generation, index + 1, wal.WAL_HEADER_BYTES)
            key = (generation, index, last.wal_start)
            self._found[key] = replace(last, upto=following)
        return Position(generation, index, max((each.wal_end for each in known), default=wal.WAL_HEADER_BYTES))

    def _within_limit(self, pages: array[int] | None) -> array[int] | None:
        if pages is None or len(pages) > self._listed_left:
            return None
        self._listed_left -= len(pages)
        return pages


def _stretches(frames: list[tuple[int, int]], commits: int) -> Iterator[list[tuple[int, int]]]:
    """Frames in stretches of whole transactions: a copy stands between two of them, and only what lies between is excused."""
    each = -(-commits // STRETCHES_MAX)
    stretch: list[tuple[int, int]] = []
    ended = 0
    for frame in frames:
        stretch.append(frame)
        ended += bool(frame[1])
        if ended == each:
            yield stretch
            stretch, ended = [], 0
    if stretch:
        yield stretch


def _frames(descriptor: int, start: int, page_size: int) -> Iterator[tuple[int, int]]:
    """(page number, pages of the database where the frame ends a transaction, else 0) of every whole frame from `start` on."""
    frame = wal.FRAME_HEADER_BYTES + page_size
    step = max(READ_BYTES // frame, 1) * frame
    while True:
        data = os.pread(descriptor, step, start)
        for at in range(0, len(data) - frame + 1, frame):
            page, page_count = struct.unpack_from(">II", data, at)
            yield page, page_count
        if len(data) < step:
            return
        start += step
