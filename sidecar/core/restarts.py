"""What a change to a database means for Litestream: measured with 0.5.17 and 0.3.13, not guessed.

Measured, on a database of 3.3 MB, with the app and Litestream running or stopped meanwhile:
- VACUUM, also one that changes auto_vacuum, while Litestream runs: one backup file as large as the database; nothing starts over.
- `PRAGMA journal_mode=delete` while Litestream runs, app or no app: "database is locked". While it is stopped: it succeeds, and
  Litestream sets WAL mode again at its start and begins with a full copy, as after every stop.
- Another page size needs rollback mode, so it can happen only while Litestream is stopped. 0.5.17 then replicates nothing for ever
  ("unaligned wal offset 3349592 for page size 8192"), and a restore exits 0 and brings the old database. Neither a restart nor
  `litestream reset` nor a new replica path alone helps, nor the removal of its local folder alone; the last two together do.
  0.3.13 begins a new generation, and all is well.
- Litestream stopped, with SIGTERM or SIGKILL, while the app goes on, and the app checkpoints once meanwhile (SQLite does so by itself, at
  1,000 pages) and commits again: with 0.5.17 a page or more of what was committed meanwhile is not in the backup. It says nothing, a
  restore exits 0, and integrity_check says "ok" (3 to 18 rows of 1,700 missing after 12 of 14 trials of three restarts) or finds rows
  out of order. The next snapshot mends it, or a new, empty path; a restart, `litestream reset` and the removal of its local folder do
  not. With `PRAGMA wal_autocheckpoint=0` in the app: none in 6 trials. 0.3.13 begins a new generation: none in 5.
- The file replaced (`VACUUM INTO` and `mv`) while the old one's `-wal` lies beside it: an app that had it open said "no such table";
  0.5.17 logs "ensure wal exists" and replicates nothing until a later write; with 0.3.13 the new one was "malformed" a moment later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

HEADER_BYTES = 100
PAGES_MIN = 8  # a transaction may well write every page of a smaller database
REWRITTEN_SHARE = 0.9  # of the pages, in rollback mode, where no WAL shows the transactions
_MAGIC = b"SQLite format 3\0"
_WAL = b"\2\2"  # the versions to write and to read with, at 18


@dataclass(frozen=True, slots=True)
class Shape:
    """A database file as its header describes it (SQLite, "Database File Format", 1.3)."""

    size_bytes: int
    page_size: int
    wal: bool
    auto_vacuum: str  # none, full, incremental
    inode: int = 0  # another one: the file was replaced

    @property
    def pages(self) -> int:
        """Whole pages in the file."""
        return self.size_bytes // self.page_size


def shape_of(header: bytes, size_bytes: int, inode: int) -> Shape | None:
    """From the first 100 bytes, the size and the file's number; None where it is no database."""
    if len(header) < HEADER_BYTES or not header.startswith(_MAGIC):
        return None
    page = int.from_bytes(header[16:18])
    page = 65536 if page == 1 else page
    if page < 512 or page & (page - 1):  # noqa: PLR2004 - the smallest page of the format
        return None
    largest_root, incremental = header[52:56], header[64:68]
    vacuum = "none" if not any(largest_root) else "incremental" if any(incremental) else "full"
    return Shape(size_bytes, page, header[18:20] == _WAL, vacuum, inode)


PAGE_SIZE_HINT = (
    "keep the page size; else, with Litestream stopped, do both: remove its local folder (.NAME-litestream beside the "
    "database) and give the replica a new, empty path (`litestream reset` alone does not help)"
)


@dataclass(frozen=True, slots=True)
class Restart:
    """Something that Litestream does not take in its stride. `blocks`: the backup would be lost, not only slow."""

    reason: str
    message: str
    hint: str
    blocks: bool = False


def restarts(before: Shape, after: Shape, *, rewrote_all: bool, left_wal: bool, v3: bool) -> Iterator[Restart]:
    """What a command that turned `before` into `after` would do to the replication of production."""
    if before.page_size != after.page_size:
        sizes = f"the page size goes from {before.page_size} to {after.page_size}"
        if v3:
            yield Restart(
                "page_size", f"{sizes}: Litestream begins a new generation with a full copy", "plan for the upload"
            )
        else:
            yield Restart(
                "page_size",
                f"{sizes}: Litestream 0.5 would replicate nothing from then on, and a restore would bring the old database",
                PAGE_SIZE_HINT,
                blocks=True,
            )
    if before.inode != after.inode:
        yield Restart(
            "file_replaced",
            "it puts another file in the database's place: while the app or Litestream has the old one open, the new one may be damaged "
            "by the old one's WAL, and replication stops",
            "change the database in place; else stop the app and Litestream before, and start them after",
            blocks=True,
        )
    if left_wal or (before.wal and not after.wal):
        back = "" if after.wal else "; Litestream sets WAL mode again when it starts"
        yield Restart(
            "journal_mode",
            f"it leaves WAL mode: while Litestream or the app runs, SQLite refuses that with `database is locked`{back}",
            "leave journal_mode alone, or stop both meanwhile; Litestream then starts over with a full copy",
        )
    if rewrote_all:
        yield Restart(
            "rewrote_all",
            "it writes every page in one transaction, as VACUUM does: the WAL and the next backup file grow as large as the database",
            "see that the disk has room for it; expect a slow upload, during which the newest commits are not backed up",
        )
    if before.auto_vacuum != after.auto_vacuum:
        yield Restart(
            "auto_vacuum",
            f"auto_vacuum goes from {before.auto_vacuum} to {after.auto_vacuum}, which Litestream copies like any other change",
            "nothing to do for the backup; whether it was meant is yours to say",
        )
