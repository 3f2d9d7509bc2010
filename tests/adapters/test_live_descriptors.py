"""SQLite's locks outlive our reads of its files: shown red with a plain open and close, green through LiveDescriptors."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PosixPath

import apsw
import pytest

from sidecar.adapters.live_descriptors import LiveDescriptors

BESIDE = ("", "-wal", "-shm")


def elsewhere(path: Path, sql: str) -> str:
    """Run SQL on the database in another process, as the app would; what its last statement returned."""
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0)\n"
        "for each in sys.argv[2].split(';'): found = c.execute(each).fetchall()\n"
        "sys.stdout.write(str(found)); sys.stdout.flush()\n"
        "import os; os._exit(0)\n"  # no close: the last connection's would checkpoint
    )
    done = subprocess.run([sys.executable, "-c", code, str(path), sql], check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "app.db"
    assert "ok" in elsewhere(
        path, "pragma journal_mode=wal; create table t (a); insert into t values (1); pragma quick_check"
    )
    assert all(Path(f"{path}{each}").exists() for each in BESIDE)
    return path


@contextmanager
def reader(path: Path) -> Iterator[apsw.Connection]:
    """A read transaction in this process, whose snapshot holds one row."""
    connection = apsw.Connection(f"file:{path}?mode=ro", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    connection.execute("begin")
    assert connection.execute("select count(*) from t").get == 1
    try:
        yield connection
    finally:
        connection.close(True)


def is_protected(path: Path) -> bool:
    """Whether another process's checkpoint has to stop at our snapshot."""
    elsewhere(path, "insert into t values (2)")
    return elsewhere(path, "pragma wal_checkpoint(truncate)").startswith("[(1")  # busy


def open_descriptors(path: Path) -> int:
    """Descriptors of the database's files in this process."""
    names = {f"{path}{each}" for each in BESIDE}
    found = 0
    for each in Path("/proc/self/fd").iterdir():
        try:
            found += str(each.readlink()) in names
        except FileNotFoundError:
            continue  # that of the listing itself
    return found


def test_red_a_plain_close_drops_the_locks_of_sqlite(database: Path) -> None:
    with reader(database):
        assert is_protected(database)
        with Path(f"{database}-shm").open("rb") as file:
            file.read(48)
        assert not is_protected(database)


@pytest.mark.parametrize("suffix", BESIDE)
def test_green_reading_through_live_descriptors_keeps_them(database: Path, suffix: str) -> None:
    descriptors = LiveDescriptors()
    with descriptors.connection(database), reader(database) as connection:
        for _ in range(3):
            assert descriptors.read(Path(f"{database}{suffix}"), 48, 0)
            assert is_protected(database)
            assert all(descriptors.read_each(Path(f"{database}{suffix}"), 8, [0, 16, 8]))
            assert is_protected(database)
        assert connection.execute("select count(*) from t").get == 1


def test_bytes_are_those_of_the_file(database: Path) -> None:
    descriptors = LiveDescriptors()
    raw = database.read_bytes()
    assert descriptors.read(database, 16, 0) == b"SQLite format 3\0"
    with descriptors.connection(database):
        assert descriptors.read(database, 8, 16) == raw[16:24]
        assert descriptors.read(str(database), 100, len(raw) - 7) == raw[-7:]
        assert descriptors.read(database, 100, len(raw) + 7) == b""
        assert descriptors.read_each(database, 8, [16, 0, len(raw) - 3]) == [raw[16:24], raw[:8], raw[-3:]]


def test_descriptors_are_parked_once_and_closed_with_the_last_connection(database: Path) -> None:
    descriptors = LiveDescriptors()
    descriptors.read(database, 16, 0)
    assert open_descriptors(database) == 0
    with descriptors.connection(database):
        with descriptors.connection(database):
            for _ in range(50):
                for each in BESIDE:
                    descriptors.read(Path(f"{database}{each}"), 16, 0)
            assert open_descriptors(database) == 3
        assert open_descriptors(database) == 3
    assert open_descriptors(database) == 0
    assert descriptors._files == {}  # noqa: SLF001 - nothing is remembered of a database that nobody uses


def test_a_replaced_file_is_read_anew_while_the_old_ones_lock_is_kept(database: Path) -> None:
    descriptors = LiveDescriptors()
    with descriptors.connection(database), reader(database):
        descriptors.read(Path(f"{database}-shm"), 16, 0)
        other = database.with_name("other")
        other.write_bytes(b"the new one")
        kept = database.with_name("kept-shm")
        Path(f"{database}-shm").rename(kept)
        other.rename(f"{database}-shm")
        assert descriptors.read(Path(f"{database}-shm"), 16, 0) == b"the new one"
        Path(f"{database}-shm").unlink()
        kept.rename(f"{database}-shm")
        assert is_protected(database)


def test_a_link_leads_to_the_same_database(database: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(database)
    descriptors = LiveDescriptors()
    with descriptors.connection(link), reader(link):
        descriptors.read(Path(f"{database}-shm"), 16, 0)
        descriptors.read(link, 16, 0)
        assert is_protected(database)


def test_other_databases_are_not_held_up(database: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.write_bytes(b"x")
    descriptors = LiveDescriptors()
    with descriptors.connection(database):
        descriptors.read(other, 1, 0)
        assert open_descriptors(other) == 0


def test_missing_file_and_pipe_raise_at_once(tmp_path: Path) -> None:
    descriptors = LiveDescriptors()
    os.mkfifo(tmp_path / "pipe")
    for connected in (False, True):
        with descriptors.connection(tmp_path / ("pipe" if connected else "else")):
            with pytest.raises(FileNotFoundError):
                descriptors.read(tmp_path / "app.db", 1, 0)
            with pytest.raises(OSError, match="Illegal seek"):
                descriptors.read(tmp_path / "pipe", 1, 0)
    assert descriptors._files == {}  # noqa: SLF001 - as above


def test_the_lock_survives_readers_on_many_threads(database: Path) -> None:
    """Connections come and go while others read by hand; no lock may ever be lost to a close."""
    descriptors, stop = LiveDescriptors(), threading.Event()
    lost: list[str] = []

    def read() -> None:
        while not stop.is_set():
            for each in BESIDE:
                descriptors.read(Path(f"{database}{each}"), 48, 0)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for each in threads:
        each.start()
    try:
        with witness(database) as locked:
            for _ in range(150):
                with descriptors.connection(database), reader(database):
                    if not locked():
                        lost.append("lost")
    finally:
        stop.set()
        for each in threads:
            each.join()
    assert lost == []
    assert open_descriptors(database) == 0


@contextmanager
def witness(path: Path) -> Iterator[Callable[[], bool]]:
    """Whether somebody holds a read lock in `-shm`, asked by another process: one's own locks do not show."""
    # WAL_READ_LOCK(0..4) are the bytes 123-127 (SQLite, "WAL-mode File Format", 2.2).
    code = (
        "import fcntl, os, struct, sys; shm = open(sys.argv[1], 'rb+')\n"
        "for line in sys.stdin:\n"
        "    asked = struct.pack('hhqqi4x', fcntl.F_WRLCK, os.SEEK_SET, 123, 5, 0)\n"
        "    print(struct.unpack('hhqqi4x', fcntl.fcntl(shm, fcntl.F_GETLK, asked))[0] != fcntl.F_UNLCK, flush=True)\n"
    )
    argv = [sys.executable, "-c", code, f"{path}-shm"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        asking, answers = child.stdin, child.stdout
        assert asking is not None
        assert answers is not None

        def locked() -> bool:
            asking.write("?\n")
            asking.flush()
            return answers.readline().strip() == "True"

        yield locked
        asking.close()


def test_asking_for_lockers_keeps_the_locks_and_sees_only_others(database: Path) -> None:
    descriptors = LiveDescriptors()
    spans = [(0x40000000, 512)]
    with descriptors.connection(database), reader(database):
        assert descriptors.lockers(database, spans) == frozenset()
        with witness(database) as locked:  # holds nothing itself
            assert locked()
            assert descriptors.lockers(Path(f"{database}-shm"), [(123, 5)]) == frozenset()
            assert locked()
        assert is_protected(database)


class Held(PosixPath):
    """A path that is not opened before somebody says so."""

    asked, go_on = threading.Event(), threading.Event()

    def __fspath__(self) -> str:
        self.asked.set()
        assert self.go_on.wait(10)
        return super().__fspath__()


def test_a_connection_begins_only_once_no_file_is_open_any_more(database: Path) -> None:
    descriptors, connected = LiveDescriptors(), threading.Event()

    def connect() -> None:
        with descriptors.connection(database):
            connected.set()

    threads = [
        threading.Thread(target=lambda: descriptors.read(Held(database), 1, 0)),
        threading.Thread(target=connect),
    ]
    threads[0].start()
    assert Held.asked.wait(10)
    threads[1].start()
    assert not connected.wait(0.2), "closing the file would drop the locks that SQLite is about to take"
    Held.go_on.set()
    assert connected.wait(10)
    for each in threads:
        each.join()
