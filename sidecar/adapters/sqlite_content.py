"""Reading a database through a connection of apsw's: what the live reader and the copy's checker have in common.

Both open read-only, run everything under a deadline, and let SQL that a person wrote in sidecar.yml do nothing but read.
The functions raise apsw's errors unless they say otherwise; each caller translates them, since damage means one thing in a
copy and another in production.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from threading import Event
from urllib.parse import quote

import apsw

from sidecar.core.errors import Overdue, SidecarError, Stopped
from sidecar.core.model import Content, SchemaVersion
from sidecar.core.schema_version import (
    HEADS_MAX,
    MIGRATION_TABLE_NAMES,
    SchemaRow,
    conclude,
    digest,
    recognise,
    user_tables,
)

# Virtual-machine steps, or pages during quick_check, between two looks at the clock: 16 MB of pages, or a tenth of a
# millisecond of SQL. Below 1 % of quick_check's time.
STEPS = 4000
# As much as SQLite takes by default. A cache of 64 MB made quick_check slower (0.5 against 0.3 s for 745 MB), and mapping
# the file made it a quarter faster for as much resident memory as the file is large.
CACHE_KIB = 2000
SHOWN_MAX = 80  # characters of a value in a sentence

_READ_PRAGMAS = {
    *("application_id", "data_version", "encoding", "freelist_count", "journal_mode"),
    *("page_count", "page_size", "schema_version", "user_version"),
}
_READ_PRAGMAS_OF_A_TABLE = {
    *("foreign_key_check", "foreign_key_list", "index_info", "index_list", "index_xinfo"),
    *("integrity_check", "quick_check", "table_info", "table_list", "table_xinfo"),
}
# Refused at run time by query_only. Not refused here, because R*Tree prepares its own when its tables are merely read.
_PREPARED_BY_MODULES = frozenset({apsw.SQLITE_INSERT, apsw.SQLITE_UPDATE, apsw.SQLITE_DELETE})
_READING = frozenset({apsw.SQLITE_SELECT, apsw.SQLITE_READ, apsw.SQLITE_RECURSIVE}) | _PREPARED_BY_MODULES

Value = int | float | str | bytes | None
Row = tuple[Value, ...]


class UnusableSql(SidecarError):
    """SQL from sidecar.yml that cannot be run at all: no SQL, not allowed, or not one value. Says nothing of the database."""


class MissingInSchema(SidecarError):
    """SQL from sidecar.yml names a table or column that the database does not have."""


def connect(path: Path | str, *, immutable: bool, busy_ms: int = 0) -> apsw.Connection:
    """A read-only connection that never checkpoints.

    `immutable` only for a file that nobody writes: it neither locks nor makes files beside it.
    """
    name = quote(os.fsencode(Path(path).absolute()))
    uri = f"file://{name}?mode=ro" + ("&immutable=1" if immutable else "")
    connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    try:
        connection.set_busy_timeout(busy_ms)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.pragma("cache_size", -CACHE_KIB)  # the database's own setting may be anything; reads the schema
        connection.pragma("mmap_size", 0)
        connection.pragma("query_only", True)
    except BaseException:
        connection.close(True)
        raise
    return connection


class Deadline:
    """How long a piece of work has, and whether it was told to stop."""

    def __init__(self, what: str, timeout_s: float, stop: Event | None) -> None:
        self.what, self.timeout_s = what, timeout_s
        self._end, self._stop = time.monotonic() + timeout_s, stop or Event()

    def reached(self) -> SidecarError | None:
        """Stopped or Overdue, or None while the work may go on."""
        if self._stop.is_set():
            return Stopped(f"told to stop during {self.what}")
        if time.monotonic() >= self._end:
            spent = f"{self.what} took longer than the {max(self.timeout_s, 0):.3g} s it had"
            return Overdue(spent, "give it more time, or it less work")
        return None

    def check(self) -> None:
        """Raises Stopped or Overdue."""
        error = self.reached()
        if error is not None:
            raise error

    def pause(self, seconds: float) -> None:
        """Wait, but not when told to stop."""
        self._stop.wait(seconds)


@contextmanager
def watched(
    connection: apsw.Connection,
    what: str,
    *,
    timeout_s: float,
    stop: Event | None,
    poll: Callable[[], None] | None = None,
) -> Iterator[None]:
    """Interrupt the connection's work when the time is up or `stop` is set; `poll` is called at the same moments.

    Raises:
        Overdue: `timeout_s` seconds passed.
        Stopped: `stop` was set.
    """
    deadline = Deadline(what, timeout_s, stop)

    def look() -> bool:
        if poll is not None:
            poll()
        return deadline.reached() is not None

    deadline.check()
    connection.set_progress_handler(look, STEPS)
    try:
        yield
    except apsw.InterruptError:
        raise deadline.reached() or Stopped(f"{what} was interrupted") from None
    finally:
        connection.set_progress_handler(None)


def _allowed(action: int, first: str | None, second: str | None, _database: str | None, _inner: str | None) -> int:
    """SQLite's authorizer for people's SQL: reading, and nothing that could reach another file or change a setting."""
    allowed = action in _READING
    if action == apsw.SQLITE_FUNCTION:
        allowed = (second or "").lower() != "load_extension"
    elif action == apsw.SQLITE_PRAGMA:
        name = (first or "").lower()
        allowed = name in _READ_PRAGMAS_OF_A_TABLE or (name in _READ_PRAGMAS and second is None)
    return apsw.SQLITE_OK if allowed else apsw.SQLITE_DENY


def run_users_sql(connection: apsw.Connection, sql: str, what: str) -> list[Row]:
    """At most two rows of what a person's SQL returns.

    Raises:
        UnusableSql: it is no SQL, or does more than read.
        MissingInSchema: it names what the database does not have.
    """
    connection.authorizer = _allowed
    try:
        rows: list[Row] = []
        for row in connection.execute(sql):
            rows.append(row)
            if len(rows) > 1:
                break
    except (apsw.AuthError, apsw.ReadOnlyError):
        raise _more_than_reads(what, sql) from None
    except apsw.SQLError as error:
        if str(error).startswith("not authorized"):
            raise _more_than_reads(what, sql) from None
        if str(error).startswith(("no such table", "no such column")):
            raise MissingInSchema(f"{what}: {error}", "compare with production's schema") from None
        raise UnusableSql(f"{what} cannot be run: {error}", "correct its SQL in sidecar.yml") from None
    except (apsw.BindingsError, apsw.MismatchError, apsw.TooBigError) as error:
        raise UnusableSql(f"{what} cannot be run: {error}", "correct its SQL in sidecar.yml") from None
    except UnicodeDecodeError:
        raise UnusableSql(f"{what} returned text that is not UTF-8", "select hex() of it") from None
    else:
        return rows
    finally:
        connection.authorizer = None


def _more_than_reads(what: str, sql: str) -> UnusableSql:
    return UnusableSql(f"{what} does more than read: {shown(sql)}", "change its SQL to a SELECT")


def shown(value: object) -> str:
    """A value as a sentence shows it: short, on one line."""
    text = (
        "NULL" if value is None else f"x'{value.hex()}'" if isinstance(value, bytes) else " ".join(str(value).split())
    )
    return text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 1] + "…"


def quoted(name: str) -> str:
    """A table's name, safe within SQL."""
    return '"' + name.replace('"', '""') + '"'


def read_content(connection: apsw.Connection, *, schema_version: str, now: datetime, count: bool) -> Content:
    """What the database is. With `count` every user's table is counted, else rows are -1.

    A schema version that cannot be told is no error: `Content.error` says why.
    """
    rows = [
        SchemaRow(*row) for row in connection.execute("select type, name, tbl_name, rootpage, sql from sqlite_schema")
    ]
    number = {name: _number(connection, name) for name in ("application_id", "user_version", "page_size", "page_count")}
    version: SchemaVersion | None = None
    error: str | None = None
    try:
        version = _version(connection, schema_version, rows, number["user_version"])
    except (UnusableSql, MissingInSchema) as cause:
        error = cause.message
    return Content(
        read_at=now,
        application_id=number["application_id"],
        user_version=number["user_version"],
        page_size=number["page_size"],
        page_count=number["page_count"],
        schema_digest=digest(rows),
        schema_version=version,
        tables={name: _count(connection, name) if count else -1 for name in user_tables(rows)},
        sqlite_version=apsw.sqlite_lib_version(),
        error=error,
    )


def _number(connection: apsw.Connection, pragma: str) -> int:
    return int(connection.pragma(pragma))


def _version(connection: apsw.Connection, how: str, rows: Iterable[SchemaRow], user_version: int) -> SchemaVersion:
    """The schema version as the policy wants it read. Raises UnusableSql, MissingInSchema."""
    if how.strip() == "user_version":
        return conclude((), user_version)
    if how.strip() == "auto":
        return conclude(tuple(_readings(connection, rows)), user_version)
    what = "policy.schema-version"
    found = run_users_sql(connection, how, what)
    if len(found) != 1 or len(found[0]) != 1 or found[0][0] is None:
        raise UnusableSql(f"{what} must return one row of one value that is not null", "correct its SQL in sidecar.yml")
    return SchemaVersion("sql", shown(found[0][0]))


def _readings(connection: apsw.Connection, rows: Iterable[SchemaRow]) -> Iterator[tuple[str, list[str]]]:
    """What each known migration table says."""
    columns: dict[str, list[str]] = {}
    for row in rows:
        if row.type == "table" and row.root and row.name.lower() in MIGRATION_TABLE_NAMES:
            found = connection.execute("select name from pragma_table_xinfo(?)", (row.name,))
            columns[row.name] = [str(name) for (name,) in found]
    for known in recognise(columns):
        try:
            values = list(connection.execute(f"select * from ({known.sql}) limit {HEADS_MAX}"))  # noqa: S608 - ours
        except (apsw.SQLError, UnicodeDecodeError) as error:
            raise UnusableSql(
                f"{known.table} is not as {known.tool} makes it: {error}", "set policy.schema-version"
            ) from None
        yield known.table, [shown(value) for (value,) in values if value is not None]


def _count(connection: apsw.Connection, table: str) -> int:
    """Rows, by the smallest index; by the table itself where an index needs a collation that we lack; else -1."""
    for how in ("", " not indexed"):
        try:
            ((rows,),) = connection.execute(f"select count(*) from {quoted(table)}{how}")  # noqa: S608 - quoted
        except apsw.SQLError:
            continue
        return int(rows)
    return -1
