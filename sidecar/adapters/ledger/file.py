"""`evidence.db`: the SQL behind the ledger, through apsw.

Journal mode DELETE, not WAL: after every commit there is one plain file, which any volume carries, which can be moved aside
whole, and beside which no `-shm` of another user's can ever stand. A commit costs a few syncs, and there is one a minute.
Every fact is a row of its own, so a minute of an idle database writes hundreds of bytes and not its whole evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import apsw

from sidecar.adapters.ledger import codec
from sidecar.adapters.ledger.folder import new_file
from sidecar.core.errors import EnvironmentProblem
from sidecar.core.model import Drill, Outcome

VERSION = 1
BUSY_MS = 2000
DAMAGED_KEPT_MAX = 3
DRILLS_KEPT_MAX, FAILED_KEPT_MAX = 200, 500  # of one database; failures outlive successes
ALL_KEPT_MAX = 50_000  # of a fleet: beyond it the oldest that did not fail go
_SIDE_FILES = ("", "-wal", "-shm", "-journal")

_SCHEMA = f"""
create table facts (
  path text not null, fact text not null, document text not null, primary key (path, fact)
) without rowid;
create table drills (
  seq integer primary key autoincrement, id text not null unique, path text not null, name text not null,
  finished_at text not null, failed integer not null, max_shrink real not null, document text not null
);
create index drills_by_path on drills (path, seq);
create table running (
  id text primary key, path text not null, name text not null, started_at text not null, owner text not null
) without rowid;
pragma user_version = {VERSION};
"""


class DamagedError(Exception):
    """The file is not a sound database of ours."""


@dataclass(frozen=True, slots=True)
class DrillRow:
    """A drill as stored; `seq` orders drills by when they were written."""

    seq: int
    path: str
    name: str
    max_shrink: float
    document: str


@dataclass(frozen=True, slots=True)
class NewDrill:
    """A drill to be stored."""

    id: str
    path: str
    name: str
    finished_at: str
    failed: bool
    max_shrink: float
    document: str


class EvidenceFile:
    """One connection. Not thread-safe: the ledger serialises. Raises apsw.Error."""

    def __init__(self, path: Path) -> None:
        self.path = path
        new_file(path)
        try:
            self._db = apsw.Connection(str(path))
        except apsw.Error as error:
            raise EnvironmentProblem(
                f"{path} cannot be opened: {error}", "check the owner and mode of the state directory and of this file"
            ) from error
        try:
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        self._db.set_busy_timeout(BUSY_MS)
        try:
            self._db.execute("pragma journal_mode=delete; pragma synchronous=full")
            version = self._db.pragma("user_version")
            if version == 0 and not self._db.execute("select 1 from sqlite_schema").fetchone():
                with self.transaction():
                    if self._db.pragma("user_version") == 0:  # nobody else was quicker
                        self._db.execute(_SCHEMA)
                version = VERSION
            complaint = next(iter(self._db.execute("pragma quick_check(1)")))[0]
        except (apsw.CorruptError, apsw.NotADBError) as error:
            raise DamagedError(str(error)) from error
        except apsw.BusyError:
            raise EnvironmentProblem(
                f"{self.path} stays locked: a process holds it in the middle of writing, which takes milliseconds",
                f"find out who (`fuser -v {self.path}`); a daemon that hangs is to be restarted, or name another --state-dir",
            ) from None
        except apsw.Error as error:
            raise EnvironmentProblem(
                f"{self.path} cannot be used: {error}", "check the room, owner and mode of the state directory"
            ) from error
        if isinstance(version, int) and version > VERSION:
            raise EnvironmentProblem(
                f"{self.path} was written by a newer sidecar (format {version}, this one knows {VERSION})",
                "upgrade this sidecar again, or give it a directory of its own with --state-dir",
            )
        if complaint != "ok" or version != VERSION:
            raise DamagedError(str(complaint) if complaint != "ok" else "a database that is not the sidecar's")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """BEGIN IMMEDIATE, then COMMIT, or ROLLBACK when something raises."""
        self._db.execute("begin immediate")
        try:
            yield
            self._db.execute("commit")
        except BaseException:
            with suppress(apsw.Error):
                if self._db.in_transaction:
                    self._db.execute("rollback")
            raise

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def data_version(self) -> int:
        """Changes when another process has committed (SQLite, PRAGMA data_version)."""
        return int(self._db.pragma("data_version"))

    def facts(self) -> Iterator[tuple[str, str, str]]:
        """(path, fact, document), paths together."""
        yield from self._db.execute("select path, fact, document from facts order by path")

    def write_facts(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Insert or replace."""
        self._db.executemany("insert or replace into facts values (?, ?, ?)", rows)

    def forget(self, paths: Iterable[str]) -> None:
        """Everything about these paths."""
        for table in ("facts", "drills", "running"):
            self._db.executemany(f"delete from {table} where path = ?", ((path,) for path in paths))  # noqa: S608

    def add_drill(self, new: NewDrill) -> int:
        """Store a drill (its `running` row goes), prune its database's old ones, and return its seq."""
        self._db.execute("delete from running where id = ?", (new.id,))
        self._db.execute(
            "insert or replace into drills (id, path, name, finished_at, failed, max_shrink, document) "
            "values (?, ?, ?, ?, ?, ?, ?)",
            (new.id, new.path, new.name, new.finished_at, int(new.failed), new.max_shrink, new.document),
        )
        seq = self._db.last_insert_rowid()
        self._db.execute(
            "delete from drills where path = :path"
            " and seq not in (select seq from drills where path = :path order by seq desc limit :all)"
            " and seq not in (select seq from drills where path = :path and failed order by seq desc limit :failed)",
            {"path": new.path, "all": DRILLS_KEPT_MAX, "failed": FAILED_KEPT_MAX},
        )
        self._db.execute(
            "delete from drills where seq in (select seq from drills where not failed order by seq"
            " limit max(0, (select count(*) from drills) - ?))",
            (ALL_KEPT_MAX,),
        )
        return seq

    def last_seq(self) -> int:
        """The seq of the newest drill ever written."""
        row = self._db.execute("select seq from sqlite_sequence where name = 'drills'").fetchone()
        return int(row[0]) if row else 0

    def unfolded(self, marker: str) -> list[DrillRow]:
        """Drills newer than the one that the fact `marker` of their database names, in order."""
        rows = self._db.execute(
            "with paths(path) as (select distinct path from drills)"
            " select seq, d.path, name, max_shrink, d.document from paths join drills d on d.path = paths.path and d.seq >"
            " coalesce((select cast(f.document as integer) from facts f where f.path = d.path and f.fact = ?), 0)"
            " order by seq",
            (marker,),
        )
        return [DrillRow(*row) for row in rows]

    def drills_after(self, seq: int) -> list[DrillRow]:
        """Drills written after that one, in order."""
        rows = self._db.execute(
            "select seq, path, name, max_shrink, document from drills where seq > ? order by seq", (seq,)
        )
        return [DrillRow(*row) for row in rows]

    def history(self, path: str | None, limit: int) -> list[DrillRow]:
        """The newest drills, newest first."""
        rows = self._db.execute(
            "select seq, path, name, max_shrink, document from drills"
            " where :path is null or path = :path order by seq desc limit :limit",
            {"path": path, "limit": limit},
        )
        return [DrillRow(*row) for row in rows]

    def drill(self, drill_id: str) -> DrillRow | None:
        """The drill of that id."""
        columns = "seq, path, name, max_shrink, document"
        row = self._db.execute(f"select {columns} from drills where id = ?", (drill_id,)).fetchone()  # noqa: S608
        return DrillRow(*row) if row else None

    def begin_drill(self, drill_id: str, path: str, name: str, started_at: str, owner: str) -> None:
        """Note that a drill runs, and in which process."""
        self._db.execute(
            "insert or replace into running values (?, ?, ?, ?, ?)", (drill_id, path, name, started_at, owner)
        )

    def running(self) -> list[tuple[str, str, str, str, str]]:
        """(id, path, name, started_at, owner) of drills that were begun and not stored."""
        return list(self._db.execute("select id, path, name, started_at, owner from running"))


def move_aside(path: Path, now: datetime) -> Path:
    """Rename a damaged file, with what lies beside it; keep the few newest such. No connection may be open."""
    aside = path.with_name(f"{path.name}.damaged-{now:%Y%m%dT%H%M%S}")
    for suffix in _SIDE_FILES:
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
    sets = sorted(path.parent.glob(f"{path.name}.damaged-*[0-9]"))
    for old in sets[:-DAMAGED_KEPT_MAX]:
        for suffix in _SIDE_FILES:
            Path(f"{old}{suffix}").unlink(missing_ok=True)
    return aside


def open_or_move_aside(path: Path, *, alone: bool, now: datetime) -> tuple[EvidenceFile, str | None]:
    """The file, and a sentence where a damaged one had to be moved aside, which only whoever is `alone` may do."""
    try:
        return EvidenceFile(path), None
    except DamagedError as error:
        if not alone:
            raise EnvironmentProblem(
                f"{path} is damaged ({error}), and a daemon uses it", "restart the daemon: it moves the file aside"
            ) from error
        aside = move_aside(path, now)
        return EvidenceFile(path), f"{path} was damaged ({error}); it was moved to {aside}, and evidence begins anew"


def new_drill(path: str, name: str, drill: Drill, max_shrink: float) -> NewDrill:
    """A drill as it will be stored."""
    failed = drill.outcome is Outcome.FAILED
    return NewDrill(
        drill.id, path, name, codec.text_of_time(drill.finished_at), failed, max_shrink, codec.text_of_drill(drill)
    )


def sentence_of(path: Path, error: Exception) -> str:
    """Why a write failed, for the log."""
    if isinstance(error, apsw.FullError):
        return f"{path}: there is no room left in the state directory; free some, evidence is kept in memory until then"
    if isinstance(error, apsw.ReadOnlyError):
        return f"{path}: the state directory is read-only; evidence is kept in memory until it can be written"
    return f"{path}: {error}; evidence is kept in memory until it can be written"
