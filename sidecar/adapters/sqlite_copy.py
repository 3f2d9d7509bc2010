"""SQLite's opinion of a file that nobody writes: a restored copy, or a copy of production.

The file is opened immutable, which leaves nothing beside it. Damage is what a check is sent to find, so it is a complaint and
never an exception, however SQLite says it. What kept us from finding out is an exception and never a complaint.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from threading import Event

import apsw

from sidecar.adapters.sqlite_content import (
    MissingInSchema,
    UnusableSql,
    Value,
    connect,
    quoted,
    read_content,
    run_users_sql,
    shown,
    watched,
)
from sidecar.core.census import Census, ForeignKeys, SchemaObject
from sidecar.core.errors import Overdue, SidecarError, UnsoundCopy
from sidecar.core.model import CheckKind, Content
from sidecar.core.policy import Assertion
from sidecar.core.ports import Progress
from sidecar.core.schema_version import LITESTREAM_TABLES, is_users, normalised

COMPLAINTS_MAX = 20
HEADER_BYTES = 100
_PRAGMA = {CheckKind.QUICK: "quick_check", CheckKind.FULL: "integrity_check"}
_NEWER_SYNTAX = (" - near ", " - unknown table option", " - unknown datatype")


class MissingModule(SidecarError):
    """This SQLite lacks what the database uses (a module, collation, function, tokenizer, newer syntax). Not damage."""


class CopySqlite:
    """Satisfies `ports.Integrity`. Keeps nothing between calls; safe to share between threads."""

    def check(
        self, file: Path, kind: CheckKind, *, timeout_s: float, stop: Event, progress: Progress
    ) -> tuple[str, ...]:
        """quick_check or integrity_check; at most `COMPLAINTS_MAX` complaints, () when sound.

        Progress counts pages read: every page once, and the tables' once more when their rows are checked. `total` is
        therefore twice the file's pages, of which a file full of indexes leaves some undone.

        Raises:
            MissingModule: this SQLite lacks what the database uses; nothing was found out.
            Overdue, Stopped: as their names say.
            SidecarError: the file cannot be read at all.
            OSError: same.
        """
        outside = _size_complaint(file)
        if outside is not None:
            return (outside,)
        pragma = _PRAGMA[kind]
        complaints: list[str] = []
        try:
            with _reading(file), closing(connect(file, immutable=True)) as connection:
                pages = 2 * int(connection.pragma("page_count"))

                def tell() -> None:
                    read, _ = connection.status(apsw.SQLITE_DBSTATUS_CACHE_MISS)
                    progress("check", min(read, pages), pages)

                with watched(connection, f"{pragma} of {file.name}", timeout_s=timeout_s, stop=stop, poll=tell):
                    for (said,) in connection.execute(f"pragma {pragma}({COMPLAINTS_MAX})"):
                        complaints += [line for line in str(said).splitlines() if not line.startswith("***")]
                progress("check", pages, pages)
        except UnsoundCopy as error:
            complaints.append(error.said)
        except (MissingModule, Overdue):
            if not complaints:  # else damage had been found before
                raise
        return () if complaints == ["ok"] else tuple(complaints[:COMPLAINTS_MAX])

    def content(self, file: Path, *, schema_version: str, now: datetime, timeout_s: float, stop: Event) -> Content:
        """What the file holds, rows counted (-1 where a table cannot be read without a module or collation that is missing).

        Raises:
            UnsoundCopy: SQLite met damage.
            MissingModule, Overdue, Stopped, SidecarError: as in `check`.
        """
        with (
            _reading(file),
            closing(connect(file, immutable=True)) as connection,
            watched(connection, f"counting the rows of {file.name}", timeout_s=timeout_s, stop=stop),
        ):
            return read_content(connection, schema_version=schema_version, now=now, count=True)

    def census(
        self, file: Path, *, schema_version: str, now: datetime, inode: int | None, timeout_s: float, stop: Event
    ) -> Census:
        """Everything that is held against a later state; `inode` is of production's file, which this is a copy of.

        Raises:
            UnsoundCopy, MissingModule, Overdue, Stopped, SidecarError: as in `content`.
        """
        with (
            _reading(file),
            closing(connect(file, immutable=True)) as connection,
            watched(connection, f"the census of {file.name}", timeout_s=timeout_s, stop=stop),
        ):
            content = read_content(connection, schema_version=schema_version, now=now, count=True)
            rows = list(connection.execute("select type, name, tbl_name, sql from sqlite_schema order by type, name"))
            schema = tuple(
                SchemaObject(kind, name, table, normalised(sql or ""))
                for kind, name, table, sql in rows
                if is_users(name) and is_users(table)
            )
            errors: list[str] = []
            tables = sorted(name for kind, name, _, _ in rows if kind == "table" and is_users(name))
            keys = ForeignKeys.of(_violations(connection, tables, errors), errors)
            theirs = tuple(name for _, name, _, _ in rows if name.lower() in LITESTREAM_TABLES)
            return Census(content, keys, schema, inode, theirs)

    def assertion(self, file: Path, assertion: Assertion, *, timeout_s: float, stop: Event) -> str | None:
        """None when it holds, else one sentence with what was observed and the limit.

        A table or column that the file lacks breaks an assertion: the backup may be of another database.

        Raises:
            UnusableSql: the SQL is wrong, does more than read, or returns more than one column: nothing was found out.
            UnsoundCopy, MissingModule, Overdue, Stopped, SidecarError: as above.
        """
        what = f"assertion {assertion.name}"
        try:
            with (
                _reading(file),
                closing(connect(file, immutable=True)) as connection,
                watched(connection, what, timeout_s=timeout_s, stop=stop),
            ):
                rows = run_users_sql(connection, assertion.sql, what)
        except MissingInSchema as error:
            return error.message
        if any(len(row) != 1 for row in rows):
            raise UnusableSql(f"{what} returns more than one column", "let it select one value, such as count(*)")
        if len(rows) != 1:
            return f"{what} returned {'no row' if not rows else 'more than one row'} where one is expected"
        return _broken(assertion, rows[0][0])


def _violations(
    connection: apsw.Connection, tables: Iterable[str], errors: list[str]
) -> Iterator[tuple[str, int | None, str, int]]:
    """The rows of foreign_key_check, table by table: one table whose parent has no such key must not hide the others."""
    for table in tables:
        try:
            for child, rowid, parent, key in connection.execute(f"pragma foreign_key_check({quoted(table)})"):
                yield str(child), rowid, str(parent), int(key)
        except apsw.SQLError as error:
            errors.append(str(error))


def _broken(assertion: Assertion, observed: Value) -> str | None:
    """Hold the value against the assertion's bounds."""
    said = f"assertion {assertion.name}: observed {shown(observed)}"
    if assertion.equals is not None and not _equal(observed, assertion.equals):
        return f"{said}, must be {shown(assertion.equals)}"
    if assertion.min is None and assertion.max is None:
        return None
    if not isinstance(observed, (int, float)):
        return f"{said}, which is no number to hold against its limits"
    if assertion.min is not None and observed < assertion.min:
        return f"{said}, must be at least {assertion.min:.15g}"
    if assertion.max is not None and observed > assertion.max:
        return f"{said}, must be at most {assertion.max:.15g}"
    return None


def _equal(observed: Value, wanted: str | float) -> bool:
    """Numbers by value, all else by its text: YAML does not say whether `"42"` is meant as text."""
    if isinstance(observed, (int, float)) and isinstance(wanted, (int, float)):
        return observed == wanted
    return observed is not None and not isinstance(observed, bytes) and str(observed) == str(wanted)


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """The one table from what SQLite says to what it means for a copy."""
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError) as error:
        if _is_newer_syntax(str(error)):
            raise _missing(file, error) from None
        raise UnsoundCopy(file.name, str(error)) from None
    except UnicodeDecodeError:
        raise UnsoundCopy(file.name, "the schema holds text that is not UTF-8") from None
    except apsw.SQLError as error:
        raise _missing(file, error) from None
    except apsw.Error as error:
        raise SidecarError(
            f"{file} cannot be read: {error}",
            "check the disk that holds scratch-dir, and that SQLite has room in $TMPDIR",
        ) from None


def _is_newer_syntax(said: str) -> bool:
    """A schema that this SQLite cannot parse was more likely written by a newer one than damaged.

    Damage to the schema's pages shows as a broken page, hardly ever as well-formed text with one strange word in it.
    """
    return said.startswith("malformed database schema") and any(each in said for each in _NEWER_SYNTAX)


def _missing(file: Path, error: apsw.Error) -> MissingModule:
    return MissingModule(
        f"SQLite {apsw.sqlite_lib_version()} cannot read {file.name} in full: {error}",
        "the app uses a module, collation, function or syntax that this SQLite lacks; check such a database with the app itself",
    )


def _size_complaint(file: Path) -> str | None:
    """What is wrong with the file's size: empty, no whole pages, or other pages than its header counts.

    The header's count holds when the change counter at 24 equals the one at 92 (SQLite, "Database File Format", 1.3.7);
    nobody has a connection to the file, so it may be opened by hand.
    """
    with file.open("rb") as opened:
        header = opened.read(HEADER_BYTES)
    size = file.stat().st_size
    if size == 0:
        return "the file is empty"
    if len(header) < HEADER_BYTES or not header.startswith(b"SQLite format 3\0"):
        return "file is not a database"
    page = int.from_bytes(header[16:18])
    page = 65536 if page == 1 else page
    if page < 512 or page & (page - 1):  # noqa: PLR2004 - the smallest page of the format
        return f"its header names a page size of {page} bytes"
    pages = int.from_bytes(header[28:32])
    counted = pages > 0 and header[24:28] == header[92:96]
    if size % page or (counted and pages * page != size):
        return f"the file has {size} bytes, its header counts {pages} pages of {page} bytes ({pages * page} bytes)"
    return None
