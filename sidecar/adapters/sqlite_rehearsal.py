"""The copy before and after a rehearsed command: brought to rest, told apart page by page and row by row.

No other process has the copy open when these run, and none of them runs while the command does.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from threading import Event
from urllib.parse import quote

import apsw

from sidecar.adapters.sqlite_content import Deadline, connect, quoted, watched
from sidecar.core.errors import Overdue, UnsoundCopy
from sidecar.core.rehearsal import RowChange
from sidecar.core.restarts import HEADER_BYTES, Shape, shape_of

CHUNK_BYTES = 1024 * 1024
_ROWID_NAMES = ("rowid", "_rowid_", "oid")
_PRISTINE = "pristine"  # the schema under which the untouched copy is attached
_PLAIN = 0  # of table_xinfo's `hidden`: neither generated nor hidden


class RehearsalCopy:
    """Satisfies `ports.RehearsalCopies`. Keeps nothing between calls."""

    def shape(self, file: Path) -> Shape | None:
        """From the header; None where the file is no database any more, or is gone."""
        try:
            with file.open("rb") as opened:
                found = os.fstat(opened.fileno())
                return shape_of(opened.read(HEADER_BYTES), found.st_size, found.st_ino)
        except FileNotFoundError:
            return None

    def duplicate(self, file: Path, target: Path, *, stop: Event) -> None:
        """A second, untouched copy. Raises Stopped, OSError."""
        deadline = Deadline("copying the copy", float("inf"), stop)
        with file.open("rb") as source, target.open("xb") as made:
            while chunk := source.read(CHUNK_BYTES):
                made.write(chunk)
                deadline.check()
        shutil.copymode(file, target)

    def settle(self, file: Path) -> str | None:
        """Bring what a killed command left in a WAL or journal into the file, as the next to open it would.

        None when it is at rest; else what SQLite said, which means damage or a lock that somebody still holds.
        """
        uri = f"file://{quote(os.fsencode(file.absolute()))}?mode=rw"
        try:
            with closing(apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI)) as connection:
                connection.execute("select count(*) from sqlite_schema").fetchall()
                if connection.pragma("journal_mode") == "wal":
                    connection.execute("pragma wal_checkpoint(truncate)").fetchall()
        except apsw.Error as error:
            return str(error)
        for suffix in ("-wal", "-shm"):  # of a database that has left WAL mode they are nobody's
            with suppress(FileNotFoundError):
                file.with_name(file.name + suffix).unlink()
        return None

    def pages_changed(self, before: Path, after: Path, page_size: int, *, stop: Event) -> int:
        """How many pages differ, new ones included: what goes to the replica. Raises Stopped, OSError."""
        deadline, changed = Deadline("comparing pages", float("inf"), stop), 0
        size = CHUNK_BYTES // page_size * page_size
        with before.open("rb") as one, after.open("rb") as other:
            while new := other.read(size):
                old = one.read(size)
                if new != old:
                    changed += sum(
                        new[at : at + page_size] != old[at : at + page_size] for at in range(0, len(new), page_size)
                    )
                deadline.check()
        return changed

    def rows(
        self, before: Path, after: Path, tables: Sequence[str], *, timeout_s: float, stop: Event
    ) -> tuple[RowChange, ...]:
        """Rows that came, went or changed, by table; within the time, and counting only. Raises Stopped, UnsoundCopy."""
        found: dict[str, RowChange] = {}
        try:
            with closing(connect(after, immutable=True)) as connection:
                name = quote(os.fsencode(before.absolute()))
                connection.execute(f"attach ? as {_PRISTINE}", (f"file://{name}?mode=ro&immutable=1",))
                with suppress(Overdue), watched(connection, "comparing rows", timeout_s=timeout_s, stop=stop):
                    for table in tables:
                        found[table] = _changes(connection, table)
        except (apsw.CorruptError, apsw.NotADBError) as error:
            raise UnsoundCopy(after.name, str(error)) from None
        late = "there was no time left to compare its rows"
        return tuple(found.get(each) or RowChange(name=each, why=late) for each in tables)


def _changes(connection: apsw.Connection, table: str) -> RowChange:
    """One table. A module or collation that we lack is said of this table only."""
    try:
        return _compared(connection, table)
    except apsw.SQLError as error:
        return RowChange(name=table, why=str(error))


def _compared(connection: apsw.Connection, table: str) -> RowChange:
    old, new = list(_columns(connection, _PRISTINE, table)), list(_columns(connection, "main", table))
    key = _key(old, new)
    if key is None:
        return RowChange(name=table, why="its rows bear no key by which to tell them")
    common = [each for each, _ in new if each in {name for name, _ in old} and each not in key]
    one, other = f"main.{quoted(table)} new", f"{_PRISTINE}.{quoted(table)} old"
    same = " and ".join(f"new.{each} is old.{each}" for each in key)
    # A collation may call different values the same, and here a changed letter is a change.
    differs = " or ".join(f"new.{each} collate binary is not old.{each}" for each in common)
    only = "select count(*) from {} where not exists (select 1 from {} where {})"
    both = f"select count(*) from {one} join {other} on {same} where {differs}"  # noqa: S608 - names are quoted
    return RowChange(
        name=table,
        inserted=_number(connection, only.format(one, other, same)),
        deleted=_number(connection, only.format(other, one, same)),
        updated=_number(connection, both) if common else 0,
    )


def _columns(connection: apsw.Connection, schema: str, table: str) -> Iterator[tuple[str, int]]:
    """(quoted name, place in the primary key or 0) of every column that is stored as it was written."""
    asked = "select name, pk, hidden from pragma_table_xinfo(?, ?)"
    for name, place, hidden in connection.execute(asked, (table, schema)):
        if hidden == _PLAIN:
            yield quoted(str(name)), int(place)


def _key(old: Sequence[tuple[str, int]], new: Sequence[tuple[str, int]]) -> list[str] | None:
    """By which columns a row is the same row: its primary key where that did not change, else its rowid.

    A table that was built anew keeps its primary keys, and may number its rowids anew.
    """
    before, after = ({name for name, place in columns if place} for columns in (old, new))
    if before and before == after:
        return sorted(before)
    taken = {name.strip('"').lower() for name, _ in (*old, *new)}
    return next(([each] for each in _ROWID_NAMES if each not in taken), None)


def _number(connection: apsw.Connection, sql: str) -> int:
    ((number,),) = connection.execute(sql)
    return int(number)
