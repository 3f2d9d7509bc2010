"""Production read beside a working app, and refused where reading could harm it. Apps are processes of their own.

Tests of ownership, mounts and full disks need root: real uids, real mounts, a real full disk.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import apsw
import pytest

from sidecar.adapters.live_descriptors import LiveDescriptors
from sidecar.adapters.sqlite_copy import CopySqlite
from sidecar.adapters.sqlite_live import LiveSqlite
from sidecar.core.errors import Overdue, Stopped, Unreadable
from sidecar.core.model import CheckKind, Content, SchemaVersion
from tests.litestreams import ROOT, until

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
APP, OTHER = 2001, 2002
BESIDE = ("", "-wal", "-shm")
APP_CODE = """
import sqlite3, sys, threading, time
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10, check_same_thread=False)
state = {"commits": 0, "slowest": 0.0, "on": False, "error": ""}
def write():
    while True:
        if not state["on"]:
            time.sleep(0.001)
            continue
        began = time.monotonic()
        try:
            db.execute("begin immediate")
            db.execute("insert into a (v) values (hex(randomblob(200)))")
            db.execute("insert into b (v) values ('x')")
            db.execute("commit")
        except sqlite3.Error as error:
            state.update(error=str(error), on=False)
            continue
        state["commits"] += 1
        state["slowest"] = max(state["slowest"], time.monotonic() - began)
threading.Thread(target=write, daemon=True).start()
for line in sys.stdin:
    word, _, rest = line.strip().partition(" ")
    if word == "sql":
        try:
            print(db.execute(rest).fetchall(), flush=True)
        except sqlite3.Error as error:
            print(error, flush=True)
    else:
        state["on"] = {"go": True, "halt": False}.get(word, state["on"])
        print(state["commits"], state["slowest"], state["error"], flush=True)
db.close()
"""


@dataclass
class Process:
    """The app: answers SQL, and writes at full speed between `go` and `halt`, both tables in every commit."""

    child: subprocess.Popen[str]

    def say(self, line: str) -> str:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(line + "\n")
        self.child.stdin.flush()
        return self.child.stdout.readline().strip()

    def sql(self, *statements: str) -> str:
        return [self.say(f"sql {each}") for each in statements][-1]

    @property
    def commits(self) -> int:
        return int(self.say("count").split()[0])

    def close(self) -> None:
        """As apps end: the last connection checkpoints and removes the WAL."""
        self.child.communicate(timeout=10)

    def kill(self) -> None:
        self.child.kill()
        self.child.communicate(timeout=10)


@contextmanager
def app(path: Path, uid: int = 0, journal: str = "wal") -> Iterator[Process]:
    assert uid == 0 or os.geteuid() == 0, "these tests change uids: run them as root"
    become = f"import os; os.setgroups([]); os.setgid({uid}); os.setuid({uid})\n" if uid else ""
    argv = [sys.executable, "-c", "import sqlite3, threading\n" + become + APP_CODE, str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        process = Process(child)
        try:
            said = process.sql(f"pragma journal_mode={journal}")
            assert journal in said, said
            process.sql("create table if not exists a (id integer primary key, v text)")
            process.sql("create table if not exists b (id integer primary key, v text)")
            yield process
        finally:
            child.kill()


def run_as(uid: int, code: str, *arguments: object, prefix: tuple[str, ...] = ()) -> str:
    """Run Python as another uid in this tree; `live` and `show(call)` are there. What it printed.

    Modules are imported before the uid changes, since the interpreter may lie where only root can read.
    """
    assert os.geteuid() == 0, "these tests change uids: run them as root"
    start = f"""
import os, sys, encodings.idna
from datetime import datetime, UTC
from pathlib import Path
from threading import Event
import apsw
from sidecar.adapters.live_descriptors import LiveDescriptors
from sidecar.adapters.sqlite_live import LiveSqlite
live = LiveSqlite(LiveDescriptors())
def content():
    return live.content(sys.argv[1], schema_version="auto", now=datetime.now(UTC))
def show(call):
    try:
        print("fine", call())
    except Exception as error:
        print(type(error).__name__, error, "| try:", getattr(error, "hint", ""))
if {uid}:
    os.setgroups([]); os.setgid({uid}); os.setuid({uid})
"""
    argv = [*prefix, sys.executable, "-c", start + code, *map(str, arguments)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of the app's that other uids can reach, as pytest's own cannot."""
    made = Path(tempfile.mkdtemp(dir="/tmp"))
    made.chmod(0o755)
    os.chown(made, APP, APP)
    yield made
    shutil.rmtree(made)


def content(path: Path, schema_version: str = "auto", busy_ms: int = 1000) -> Content:
    return LiveSqlite(LiveDescriptors(), busy_ms).content(str(path), schema_version=schema_version, now=NOW)


def copy(path: Path, target: Path, timeout_s: float = 60, stop: Event | None = None, look: Callable[[], None] | None = None,
         descriptors: LiveDescriptors | None = None) -> int:  # fmt: skip
    def progress(stage: str, done: int, total: int | None) -> None:
        assert stage == "copy"
        assert total is not None
        assert 0 <= done <= total
        if look is not None:
            look()

    return LiveSqlite(descriptors or LiveDescriptors()).copy(
        str(path), target, timeout_s=timeout_s, stop=stop or Event(), progress=progress
    )


def state(path: Path) -> dict[str, tuple[bytes, int]]:
    """Hash and mtime of the database and its WAL."""
    files = [Path(f"{path}{each}") for each in BESIDE[:2]]
    return {each.name: (hashlib.sha256(each.read_bytes()).digest(), each.stat().st_mtime_ns) for each in files}


def fill(process: Process, mib: int) -> None:
    process.sql(
        f"with recursive n(i) as (select 1 union all select i + 1 from n where i < {mib * 1000})"
        " insert into a (v) select hex(randomblob(500)) from n",
        "insert into b (v) select 'x' from a",
        "pragma wal_checkpoint(truncate)",
    )


def test_content_is_what_the_app_has_committed_and_counts_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "odd name?#%41.db"
    with app(path) as process:
        process.sql("create table alembic_version (version_num text)", "insert into alembic_version values ('ae10')")
        process.sql("create table _litestream_seq (id integer)")
        before = state(path)
        found = content(path)
        assert found.tables == {"a": -1, "alembic_version": -1, "b": -1}
        assert found.schema_version == SchemaVersion("alembic_version", "ae10")
        process.sql("update alembic_version set version_num = 'ff01'", "alter table a add column w")
        later = content(path)
        assert later.schema_version == SchemaVersion("alembic_version", "ff01")
        assert later.schema_digest != found.schema_digest
        assert content(path, "select count(*) from b").schema_version == SchemaVersion("sql", "0")
        assert content(path, "delete from b").error == "policy.schema-version does more than read: delete from b"
        assert before != state(path)


def test_production_and_its_copy_tell_the_same(tmp_path: Path) -> None:
    path, target = tmp_path / "app.db", tmp_path / "copy" / "c.db"
    target.parent.mkdir()
    with app(path) as process:
        process.sql("create virtual table search using fts5(body)", "insert into search values ('one')", "analyze")
        process.sql("insert into a (v) values ('x')")
        size = copy(path, target)
        assert size == target.stat().st_size
        assert (
            CopySqlite().check(target, CheckKind.FULL, timeout_s=9, stop=Event(), progress=lambda *_, **__: None) == ()
        )
        found = CopySqlite().content(target, schema_version="auto", now=NOW, timeout_s=9, stop=Event())
        lives = content(path)
        assert (found.schema_digest, found.page_count, set(found.tables)) == (
            lives.schema_digest, lives.page_count, set(lives.tables),
        )  # fmt: skip
        assert found.tables["a"] == 1
    assert target.read_bytes()[18:20] == b"\x02\x02"  # the header still says WAL
    assert [each.name for each in target.parent.iterdir()] == ["c.db"]
    assert target.stat().st_mode & 0o777 == 0o600


def test_nothing_of_productions_is_written_nor_checkpointed(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with app(path) as process:
        process.sql("insert into a (v) values ('x')")
        before = state(path)
        assert Path(f"{path}-wal").stat().st_size > 0
        for number in range(3):
            content(path)
            copy(path, tmp_path / f"c{number}.db")
        assert state(path) == before
        process.kill()  # now ours is the only and last connection, and the WAL still holds commits
        content(path)
        copy(path, tmp_path / "after.db")
        assert state(path) == before
    check = apsw.Connection(
        f"file:{tmp_path}/after.db?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    )
    assert check.execute("select count(*) from a").get == 1
    check.close()


def test_writer_at_full_speed_goes_on_and_the_copy_is_one_snapshot(tmp_path: Path) -> None:
    path, target = tmp_path / "app.db", tmp_path / "c.db"
    descriptors = LiveDescriptors()
    seen: list[int] = []
    with app(path) as process:
        fill(process, 24)
        process.say("go")
        until(lambda: process.commits > 20)

        def look() -> None:
            """At every step: the app commits, and our own reads by hand drop no lock of the copy's."""
            seen.append(process.commits)
            until(lambda: process.commits > seen[-1], every=0.001)
            descriptors.read(Path(f"{path}-shm"), 48, 0)

        copy(path, target, look=look, descriptors=descriptors)
        commits, slowest, *error = process.say("halt").split(maxsplit=2)
    assert len(seen) >= 6
    assert int(commits) - seen[0] >= len(seen)
    assert error == []
    assert float(slowest) < 5
    made = apsw.Connection(f"file:{target}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    ((a, b),) = made.execute("select (select count(*) from a), (select count(*) from b)")
    made.close()
    assert a == b
    assert int(commits) > a - 24_000 > 0  # commits made before the copy are in it, later ones are not
    assert CopySqlite().check(target, CheckKind.FULL, timeout_s=30, stop=Event(), progress=lambda *_, **__: None) == ()


def test_checkpoint_cannot_pass_the_snapshot_while_we_also_read_by_hand(tmp_path: Path) -> None:
    path, descriptors = tmp_path / "app.db", LiveDescriptors()
    answers: list[str] = []
    with app(path) as process:
        fill(process, 6)

        def look() -> None:
            descriptors.read(Path(f"{path}-shm"), 48, 0)
            process.sql("pragma busy_timeout = 0", "insert into a (v) values ('x')")
            answers.append(process.sql("pragma wal_checkpoint(truncate)"))

        copy(path, tmp_path / "c.db", look=look, descriptors=descriptors)
        assert {each[:3] for each in answers[:-1]} == {"[(1"}
        assert process.sql("pragma wal_checkpoint(truncate)") == "[(0, 0, 0)]"


def test_writer_with_a_rollback_journal_is_not_held_up_for_the_length_of_the_copy(tmp_path: Path) -> None:
    path, target = tmp_path / "app.db", tmp_path / "c.db"
    seen: list[str] = []
    with app(path, journal="delete") as process:
        fill(process, 12)

        def look() -> None:
            if len(seen) < 2:
                seen.append(process.sql("insert into b (v) values ('x')", "insert into a (v) values ('x')"))

        copy(path, target, look=look)
    assert seen == ["[]", "[]"]
    made = apsw.Connection(f"file:{target}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    assert made.execute("select (select count(*) from a) = (select count(*) from b)").get == 1
    made.close()


def test_copy_is_stopped_and_leaves_nothing(tmp_path: Path) -> None:
    path, target, stop = tmp_path / "app.db", tmp_path / "c.db", Event()
    with app(path) as process:
        fill(process, 12)
        with pytest.raises(Stopped):
            copy(path, target, stop=stop, look=stop.set)
        with pytest.raises(Overdue, match="copying"):
            copy(path, target, timeout_s=0)
        assert not target.exists()
        process.sql("pragma wal_checkpoint(truncate)")  # no read transaction is left behind
        assert Path(f"{path}-wal").stat().st_size == 0
    target.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        copy(path, target)
    assert target.read_bytes() == b"mine"


def test_a_read_transaction_is_given_up_where_it_would_last_too_long(tmp_path: Path) -> None:
    path, target = tmp_path / "app.db", tmp_path / "c.db"
    with app(path) as process:
        fill(process, 12)
        took: list[float] = []
        began = time.monotonic()

        def slowly(stage: str, done: int, total: int | None) -> None:
            del stage, done, total
            Event().wait(0.1)
            took.append(time.monotonic() - began)

        def bounded(hold_s: float | None) -> int:
            return LiveSqlite(LiveDescriptors()).copy(
                str(path), target, timeout_s=60, stop=Event(), progress=slowly, hold_s=hold_s
            )

        with pytest.raises(Overdue, match=r"the copy's read transaction took longer than the 0\.15 s it had"):
            bounded(0.15)
        assert 1 <= len(took) <= 2, "one step more than it had is not begun"
        assert not target.exists()
        process.sql("pragma wal_checkpoint(truncate)")  # no read transaction is left behind
        assert Path(f"{path}-wal").stat().st_size == 0
        assert bounded(60) > 0


def test_a_copy_in_steps_holds_nothing_that_could_last(tmp_path: Path) -> None:
    path, target = tmp_path / "app.db", tmp_path / "c.db"
    with app(path, journal="delete") as process:
        fill(process, 12)
        size = LiveSqlite(LiveDescriptors()).copy(
            str(path), target, timeout_s=60, stop=Event(), progress=lambda *_: None, hold_s=0.0
        )
        assert size == path.stat().st_size


def test_lock_is_waited_for_and_then_named(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with app(path) as process:
        process.sql("pragma locking_mode=exclusive", "insert into a (v) values ('x')")
        with pytest.raises(Unreadable, match="stayed locked") as caught:
            content(path, busy_ms=20)
        assert "fuser" in caught.value.hint
        with pytest.raises(Unreadable, match="stayed locked"):
            LiveSqlite(LiveDescriptors(), 20).copy(
                str(path), tmp_path / "c.db", timeout_s=9, stop=Event(), progress=lambda *_, **__: None
            )
        process.sql("pragma locking_mode=normal", "select * from a")
        assert content(path, busy_ms=20).tables == {"a": -1, "b": -1}


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda _path: None, "there is no database file at"),
        (lambda path: path.mkdir(), "is no file"),
        (os.mkfifo, "is no file"),
        (lambda path: path.write_bytes(b"hello, world" * 400), "is not a SQLite database"),
        (lambda path: path.write_bytes(bytes(8192)), "is not a SQLite database"),
        (lambda path: path.write_bytes(b"SQLite format 3\0" + b"\xff" * 8000), "SQLite says: file is not a database"),
    ],
)
def test_what_cannot_be_read_is_unreadable_and_says_what_to_do(
    tmp_path: Path, made: Callable[[Path], None], said: str
) -> None:
    path = tmp_path / "app.db"
    made(path)
    with pytest.raises(Unreadable, match=said) as caught:
        content(path)
    assert caught.value.hint
    with pytest.raises(Unreadable, match=said):
        copy(path, tmp_path / "c.db")
    assert not (tmp_path / "c.db").exists()


def test_an_empty_file_is_an_empty_database(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    path.touch()
    assert (content(path).page_count, content(path).tables) == (0, {})
    assert [each.name for each in tmp_path.iterdir()] == ["app.db"]


def test_damage_in_production_can_be_copied_and_is_found_in_the_copy(tmp_path: Path) -> None:
    path, target = tmp_path / "app.db", tmp_path / "c.db"
    with app(path) as process:
        fill(process, 1)
        process.close()
    with path.open("r+b") as file:
        file.seek(40 * 4096)
        file.write(bytes(4096))
    copy(path, target)
    assert CopySqlite().check(target, CheckKind.QUICK, timeout_s=9, stop=Event(), progress=lambda *_, **__: None)
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 300)
    with pytest.raises(Unreadable, match="SQLite says: database disk image is malformed") as caught:
        content(path)
    assert "integrity_check" in caught.value.hint


def owners(path: Path) -> dict[str, int]:
    return {each: file.stat().st_uid for each in BESIDE if (file := Path(f"{path}{each}")).exists()}


def closed(folder: Path) -> Path:
    """A WAL database of the app's, cleanly closed: no -wal, no -shm."""
    path = folder / "app.db"
    with app(path, APP) as process:
        process.sql("insert into a (v) values ('x')")
        process.close()
    assert owners(path) == {"": APP}
    return path


def test_red_a_reader_of_another_uid_locks_the_app_out(folder: Path) -> None:
    path = closed(folder)
    folder.chmod(0o777)
    naive = (
        "naive = apsw.Connection(f'file:{sys.argv[1]}?mode=ro', flags=apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_READONLY)\n"
        "show(lambda: naive.execute('select count(*) from a').get)"
    )
    assert run_as(OTHER, naive, path).startswith("fine 1")
    assert owners(path) == {"": APP, "-wal": OTHER, "-shm": OTHER}
    with app(path, APP) as process:  # and for good: the reader is gone
        assert process.sql("insert into a (v) values ('y')") == "attempt to write a readonly database"


def test_green_another_uid_is_refused_before_it_makes_a_file(folder: Path) -> None:
    path = closed(folder)
    folder.chmod(0o777)
    said = run_as(OTHER, "show(content)", path)
    assert said.startswith(f"Unreadable {path} belongs to uid {APP}: opening it as uid {OTHER} could leave files")
    assert f"try: run the sidecar as uid {APP}" in said
    with app(path, APP) as process:  # also while the app has it open: it may close at any moment
        assert run_as(OTHER, "show(content)", path).startswith("Unreadable")
        assert process.sql("insert into a (v) values ('y')") == "[]"
        process.close()
    assert owners(path) == {"": APP}


@pytest.mark.parametrize("uid", [0, APP])
def test_root_and_the_owner_may_read_and_what_they_leave_is_the_apps(folder: Path, uid: int) -> None:
    path = closed(folder)
    assert run_as(uid, "show(content)", path).startswith("fine Content(")
    assert set(owners(path).values()) == {APP}
    with app(path, APP) as process:
        assert process.sql("insert into a (v) values ('y')") == "[]"


def test_root_that_may_not_give_files_away_is_refused(folder: Path) -> None:
    path = closed(folder)
    without = ("setpriv", "--bounding-set=-chown", "--inh-caps=-chown")
    assert run_as(0, "show(content)", path, prefix=without).startswith(f"Unreadable {path} belongs to uid {APP}")
    assert owners(path) == {"": APP}


def test_folder_that_cannot_be_written_opens_only_while_the_app_has_it_open(folder: Path) -> None:
    path = folder / "app.db"
    with app(path, APP) as process:
        assert run_as(OTHER, "show(content)", path).startswith("fine Content(")
        process.close()
    said = run_as(OTHER, "show(content)", path)
    assert said.startswith(f"Unreadable {path} cannot be opened: ")
    assert "start the app" in said
    path.chmod(0o600)
    said = run_as(OTHER, "show(content)", path)
    assert said.startswith(f"Unreadable {path} cannot be read: Permission denied")
    assert f"this is uid {OTHER}" in said


def test_read_only_mount(folder: Path) -> None:
    path = folder / "app.db"
    mounted = """
import subprocess
folder = os.path.dirname(sys.argv[1])
subprocess.run(["mount", "--bind", folder, folder], check=True)
subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
show(content)
"""
    own = ("unshare", "--mount")
    with app(path, APP) as process:
        assert run_as(0, mounted, path, prefix=own).startswith("fine Content(")
        process.close()
    said = run_as(0, mounted, path, prefix=own)
    assert said.startswith(f"Unreadable {path} cannot be opened: unable to open database file")
    assert "start the app" in said


def test_app_that_died_in_a_rollback_journal_transaction(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with app(path, journal="delete") as process:
        fill(process, 1)
        process.sql("pragma cache_size = 2", "begin", "update a set v = 'torn'")
        process.kill()
    assert Path(f"{path}-journal").stat().st_size > 0
    before = path.read_bytes()
    with pytest.raises(Unreadable, match="cannot be opened") as caught:
        content(path)
    assert caught.value.hint.startswith("the app died while writing: start it")
    assert path.read_bytes() == before


def test_full_scratch_disk(folder: Path) -> None:
    path = folder / "app.db"
    with app(path, APP) as process:
        fill(process, 4)
        full = """
import subprocess
small = sys.argv[2]
os.mkdir(small)
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", small], check=True)
show(lambda: live.copy(sys.argv[1], Path(small) / "c.db", timeout_s=30, stop=Event(), progress=lambda *_, **__: None))
print(os.listdir(small))
"""
        said = run_as(0, full, path, folder / "small", prefix=("unshare", "--mount"))
    assert said.startswith(f"ScratchFull no room for a copy of {path}")
    assert said.endswith("[]")
