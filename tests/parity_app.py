"""The app whose database is compared, in a process of its own: one process may open a live database through one SQLite library only.

python -m tests.parity_app DATABASE     One JSON list a line: a word and what belongs to it; one JSON value a line back.
"""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.litestreams import ROOT

TEXT = "hex(randomblob(abs(random()) % 300))"
SMALL = (
    f"insert into t (v) values ({TEXT})",
    f"update t set v = {TEXT} where id = (select abs(random()) % (max(id) + 1) from t)",
    "delete from t where id = (select abs(random()) % (max(id) + 1) from t)",
)
STEADY = (
    f"insert into t (v) values ({TEXT})",
    SMALL[1],
    "delete from t where id = (select min(id) from t)",
)
MANY = f"insert into t (v) with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000) select {TEXT} from n"
# Grows by some hundred pages and shrinks again, within transactions and across them.
CHURN = (
    (MANY,),
    ("delete from t where id % 3 = 0",),
    ("pragma incremental_vacuum(200)",),
    (MANY, "delete from t where id > (select max(id) - 2000 from t)"),
    ("delete from t where id > (select max(id) / 2 from t)", "pragma incremental_vacuum"),
    ("create table if not exists other (k, v); insert into other select id, v from t", "drop table other"),
)


class _Work:
    """Commits until it is told to rest."""

    def __init__(self, path: str) -> None:
        self.path, self.commits, self.error = path, 0, ""
        self._rest = threading.Event()
        self._threads: list[threading.Thread] = []

    def go(self, kinds: list[str], pause: float) -> None:
        self._rest.clear()
        for kind in kinds:
            thread = threading.Thread(target=self._keep, args=(getattr(self, f"_{kind}"), pause), daemon=True)
            thread.start()
            self._threads.append(thread)

    def rest(self) -> None:
        self._rest.set()
        for each in self._threads:
            each.join()
        self._threads.clear()

    def _keep(self, work: Any, pause: float) -> None:
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=30)
        connection.execute("pragma synchronous=normal")
        try:
            while not self._rest.wait(pause):
                try:
                    work(connection)
                except sqlite3.OperationalError as error:  # locked by a checkpoint, or by the other worker
                    self.error = str(error)
                    if connection.in_transaction:
                        connection.execute("rollback")
        finally:
            connection.close()

    def _transaction(self, connection: sqlite3.Connection, statements: tuple[str, ...]) -> None:
        connection.execute("begin immediate")
        for each in statements:
            for one in each.split(";"):
                connection.execute(one).fetchall()
        connection.execute("commit")
        self.commits += 1

    def _small(self, connection: sqlite3.Connection) -> None:
        self._transaction(connection, tuple(random.choices(SMALL, weights=(4, 3, 2), k=random.randint(1, 3))))

    def _steady(self, connection: sqlite3.Connection) -> None:
        """A row comes, one goes, one changes: the database stays as large as it is."""
        self._transaction(connection, (random.choice(STEADY),))

    def _churn(self, connection: sqlite3.Connection) -> None:
        self._transaction(connection, random.choice(CHURN))
        self._rest.wait(0.2)

    def _vacuum(self, connection: sqlite3.Connection) -> None:
        connection.execute("vacuum")
        self._rest.wait(1)

    def _checkpoints(self, connection: sqlite3.Connection) -> None:
        connection.execute("pragma busy_timeout=200")
        kind = random.choice(("passive", "full", "restart", "truncate"))
        connection.execute(f"pragma wal_checkpoint({kind})").fetchall()
        self._rest.wait(random.random() / 2)

    def _guided(self, connection: sqlite3.Connection) -> None:
        """It leaves checkpoints to Litestream."""
        connection.execute("pragma wal_autocheckpoint=0")
        self._small(connection)

    def _autocheckpoints(self, connection: sqlite3.Connection) -> None:
        connection.execute("pragma wal_autocheckpoint=20")
        self._small(connection)


def main() -> None:
    path = sys.argv[1]
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    connection.execute("pragma wal_autocheckpoint=0")
    work = _Work(path)
    for line in sys.stdin:
        word, *rest = json.loads(line)
        answer: Any = None
        if word == "sql":
            answer = [
                [repr(each) if isinstance(each, bytes) else each for each in row] for row in connection.execute(*rest)
            ]
        elif word == "go":
            work.go(*rest)
        elif word == "rest":
            work.rest()
        answer = work.commits if word in {"go", "rest", "count"} else answer
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    work.rest()
    connection.close()


@dataclass
class Process:
    """The app as a test sees it: it keeps its connection open, as apps do."""

    path: Path
    page_size: int = 4096
    auto_vacuum: str = "none"
    journal: str = "wal"
    child: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.start()
        self.sql(f"pragma page_size={self.page_size}")
        self.sql(f"pragma auto_vacuum={self.auto_vacuum}")
        assert self.sql(f"pragma journal_mode={self.journal}") == [[self.journal]]
        self.sql("create table if not exists t (id integer primary key, v text)")
        return self

    def start(self) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-m", "tests.parity_app", str(self.path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """As apps end."""
        if self.child is not None:
            self.child.communicate(timeout=30)
        self.child = None

    def kill(self) -> None:
        assert self.child is not None
        self.child.kill()
        self.child.communicate()
        self.child = None

    def say(self, *words: Any) -> Any:
        assert self.child is not None
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(json.dumps(words) + "\n")
        self.child.stdin.flush()
        answer = self.child.stdout.readline()
        assert answer, "the app ended"
        return json.loads(answer)

    def sql(self, *statements: str) -> list[list[Any]]:
        """The last one's rows."""
        rows: list[list[Any]] = [self.say("sql", each) for each in statements][-1]
        return rows

    def write(self, rows: int = 1, text: str = "x" * 100) -> None:
        """One commit of so many rows."""
        self.sql(
            "insert into t (v) with recursive n(i) as (select 1 union all select i + 1 from n where i < "
            f"{rows}) select '{text}' from n"
        )

    def go(self, *kinds: str, pause: float = 0.0) -> None:
        self.say("go", kinds, pause)

    def rest(self) -> int:
        """Commits so far, of all workers."""
        return int(self.say("rest"))

    @property
    def commits(self) -> int:
        return int(self.say("count"))


if __name__ == "__main__":
    main()
