"""The watch against real writers in other processes: locks, commits, WAL, and what changes the file for Litestream.

The scripts sleep, the tests do not: how long a lock is held is what is measured here.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.adapters.journal_watch import JournalWatch
from sidecar.adapters.rehearsal_watch import CopyWatch
from sidecar.core.rehearsal import Watched

PAGE = 4096
FRAME = 24 + PAGE
START = "import sqlite3, sys, time\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\nx = c.execute\n"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    file = tmp_path / "app.db"
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("pragma journal_mode=wal")
    connection.execute("create table t (id integer primary key, v text)")
    connection.executemany("insert into t (v) values (?)", [("x" * 400,)] * 400)
    connection.close()
    assert not (tmp_path / "app.db-shm").exists()
    return file


def play(database: Path, script: str) -> tuple[Watched, str]:
    """Run a script with a connection `c` and `x = c.execute` under the watch; what was seen, and what it printed."""
    with CopyWatch(database) as watch:
        done = subprocess.run(
            [sys.executable, "-c", START + script, str(database)], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    return watch.watched(), done.stdout


def finely(database: Path, script: str) -> Watched:
    """The same, once more where a busy machine kept the watch from looking for longer than what is to be told apart."""
    seen, _ = play(database, script)
    for _ in range(4):
        if seen.resolution_seconds < 0.1:
            break
        seen, _ = play(database, script)
    return seen


def test_the_longest_lock_is_measured(database: Path) -> None:
    seen = finely(database, "x('begin immediate'); x('insert into t(v) values(1)'); time.sleep(0.3); x('commit')")
    assert 0.3 <= seen.longest_lock_seconds < 0.8
    assert seen.commits == 1


def test_two_transactions_on_end_are_two_locks(database: Path) -> None:
    one = "x('begin immediate'); x('insert into t(v) values(1)'); time.sleep(0.5); x('commit')\n"
    seen = finely(database, one + one)
    assert 0.5 <= seen.longest_lock_seconds < 0.95
    assert seen.commits == 2


def test_reading_holds_no_write_lock(database: Path) -> None:
    seen, _ = play(database, "x('begin'); x('select count(*) from t').fetchall(); time.sleep(0.1); x('commit')")
    assert (seen.commits, seen.wal_written_bytes) == (0, 0)
    assert seen.longest_lock_seconds < 0.1  # the first to open a WAL database takes the lock to set its index up


@pytest.mark.parametrize("how", ["pragma journal_mode=delete", "pragma locking_mode=exclusive"])
def test_a_lock_outside_the_wal_index_is_seen(database: Path, how: str) -> None:
    seen = finely(
        database, f"x('{how}'); x('begin immediate'); x('insert into t(v) values(1)'); time.sleep(0.3); x('commit')"
    )
    assert 0.3 <= seen.longest_lock_seconds < 0.8


def test_the_wal_is_counted_to_the_frame(database: Path) -> None:
    script = (
        "x('pragma wal_autocheckpoint=0')\n"
        "for n in range(20): x('update t set v=? where id % 20 = ?', (str(n) * 300, n)); time.sleep(0.003)\n"
        "print(x('pragma wal_checkpoint(passive)').fetchone()[1])"
    )
    seen, said = play(database, script)
    assert seen.wal_written_bytes == int(said) * FRAME
    assert seen.commits == 20
    assert seen.wal_peak_bytes == 32 + int(said) * FRAME


def test_a_wal_that_is_begun_anew_is_counted_on(database: Path) -> None:
    script = (
        "total = 0\n"
        "for n in range(5):\n"
        "    x('update t set v=?', (str(n) * 300,)); time.sleep(0.02)\n"
        "    total += x('pragma wal_checkpoint(restart)').fetchone()[1]\n"
        "print(total)"
    )
    seen, said = play(database, script)
    assert seen.wal_written_bytes == int(said) * FRAME
    assert seen.wal_peak_bytes < int(said) * FRAME


def test_the_shortest_session_is_seen_and_so_is_the_next(database: Path) -> None:
    for _ in range(5):
        with CopyWatch(database) as watch:
            subprocess.run(["sqlite3", database, "insert into t(v) values(1)"], check=True)
            subprocess.run(["sqlite3", database, "insert into t(v) values(1); insert into t(v) values(2)"], check=True)
        assert watch.watched().commits == 3


def test_vacuum_is_told_from_a_large_transaction(database: Path) -> None:
    seen, _ = play(database, "x('update t set v = upper(v) where id < 300')")
    assert not seen.rewrote_all
    assert seen.largest_transaction_bytes > 20 * FRAME
    seen, _ = play(database, "x('vacuum')")
    assert seen.rewrote_all


def test_leaving_wal_mode_is_seen_also_when_it_comes_back(database: Path) -> None:
    seen, _ = play(database, "x('pragma journal_mode=delete'); time.sleep(0.05); x('pragma journal_mode=wal')")
    assert seen.left_wal
    seen, _ = play(database, "x('insert into t(v) values(1)'); x('vacuum'); x('pragma wal_checkpoint(truncate)')")
    assert not seen.left_wal


def test_however_shortly_it_was_left_the_journal_tells(database: Path) -> None:
    """In less time than lies between two looks, on a busy machine."""
    for _ in range(10):
        with JournalWatch(database) as journal:
            play(database, "x('pragma journal_mode=delete'); x('pragma journal_mode=wal')")
        assert journal.seen
    assert list(database.parent.glob(".*")) == []
    with JournalWatch(database) as journal:
        play(
            database,
            "x('begin'); x('insert into t(v) values(1)'); x('commit'); x('vacuum'); x('pragma wal_checkpoint(truncate)')",
        )
    assert not journal.seen, "in WAL mode none is made"
    with JournalWatch(database.parent / "gone" / "app.db") as journal:
        pass
    assert not journal.seen


def test_the_watch_keeps_nobody_from_anything(database: Path) -> None:
    _, said = play(database, "print(x('pragma journal_mode=delete').fetchone()[0]); x('begin exclusive'); x('commit')")
    assert said == "delete\n"


def test_the_holder_of_the_lock_is_named(database: Path) -> None:
    with CopyWatch(database) as watch:
        assert watch.holder() is None
        script = START + "x('begin immediate'); print('in', flush=True); sys.stdin.read()"
        writer = subprocess.Popen(
            [sys.executable, "-c", script, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        assert watch.holder() == writer.pid
        writer.communicate()
        assert watch.holder() is None


def test_it_says_how_closely_it_looked(database: Path) -> None:
    seen, _ = play(database, "")  # as long as a Python takes to start
    assert 0.001 <= seen.resolution_seconds < 0.5


def test_who_holds_it_may_be_asked_while_indexes_come_and_go(database: Path) -> None:
    """Each last connection takes its index away, and the watch closes it: not under the hands of whoever asks."""
    script = "for n in range(300): c.close(); c = sqlite3.connect(sys.argv[1]); c.execute('delete from t where id = ?', (n,)); c.commit()"
    with CopyWatch(database) as watch:
        process = subprocess.Popen([sys.executable, "-c", START + script, str(database)])
        while process.poll() is None:
            watch.holder()
    assert process.returncode == 0
