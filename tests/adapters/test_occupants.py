"""Who has a database open: other processes, of our user or not, named or only seen by SQLite's locks."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidecar.adapters.live_descriptors import LiveDescriptors
from sidecar.adapters.occupants import BESIDE, Occupants
from sidecar.core.occupancy import InUse, Occupancy, Occupant

HOLD = (
    "import sqlite3, sys, os\n"
    "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
    "for each in sys.argv[2].split(';'): c.execute(each).fetchall()\n"
    "print('ready', flush=True); sys.stdin.readline()\n"
)
Hold = Callable[..., int]


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Hold]:
    """Hold the database open in another process, which says its pid; it ends with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(sql: str, *before: str) -> int:
        process = subprocess.Popen(
            [*before, sys.executable, "-c", HOLD, str(tmp_path / "app.db"), sql],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process.pid

    yield start
    for process in started:
        process.communicate(b"\n")


@pytest.fixture(params=["wal", "delete"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "app.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"pragma journal_mode={request.param}")
    connection.execute("create table t (a)")
    connection.close()
    return path


def look(path: Path, proc: Path = Path("/proc")) -> Occupancy:
    return Occupants(LiveDescriptors().lockers, proc).of(path)


def test_nobody_has_it_open(database: Path) -> None:
    assert look(database).free
    look(database).refuse(str(database))


def test_nothing_is_there(tmp_path: Path) -> None:
    assert look(tmp_path / "none.db").free


@pytest.mark.parametrize("sql", ["select * from t", "begin; select * from t", "begin immediate"])
def test_another_process_is_named_idle_or_not(database: Path, hold: Hold, sql: str) -> None:
    pid = hold(sql)
    found = look(database)
    assert [each.pid for each in found.processes] == [pid]
    assert not found.locked
    with pytest.raises(InUse) as refused:
        found.refuse(str(database))
    assert f"(pid {pid}" in refused.value.message
    assert refused.value.exit_code == 3
    assert refused.value.hint.startswith("stop it first: ")


def test_by_another_link_to_the_same_file(database: Path, hold: Hold, tmp_path: Path) -> None:
    pid = hold("select * from t")
    link = tmp_path / "other.db"
    link.hardlink_to(database)
    assert [each.pid for each in look(link).processes] == [pid]


def test_this_process_does_not_count(database: Path) -> None:
    connection = sqlite3.connect(database)
    connection.execute("begin immediate")
    assert look(database).free
    connection.close()


@pytest.mark.parametrize("sql", ["begin; select * from t", "begin immediate", "begin exclusive"])
def test_a_lock_is_enough_where_processes_cannot_be_seen(database: Path, hold: Hold, sql: str, tmp_path: Path) -> None:
    """As in another container: no entry of theirs in our /proc."""
    hold(sql)
    found = look(database, tmp_path / "no-proc")
    assert (found.processes, found.locked, found.free) == ((), True, False)
    with pytest.raises(InUse, match="cannot be seen from here"):
        found.refuse(str(database))


def test_an_idle_wal_connection_holds_a_lock_too_and_an_idle_one_without_wal_does_not(
    database: Path, hold: Hold, tmp_path: Path
) -> None:
    wal = Path(f"{database}").read_bytes()[18] == 2
    hold("select * from t")
    assert look(database, tmp_path / "no-proc").locked is wal


def test_a_process_in_another_pid_namespace(database: Path, hold: Hold) -> None:
    """From inside such a namespace the kernel says pid 0 of locks that are held outside."""
    if os.geteuid() != 0:
        pytest.fail("run the tests as root: a pid namespace has to be made")
    hold("begin immediate")
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "from sidecar.adapters.live_descriptors import LiveDescriptors\n"
        "from sidecar.adapters.occupants import Occupants\n"
        "found = Occupants(LiveDescriptors().lockers).of(Path(sys.argv[1]))\n"
        "print(len(found.processes), found.locked)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code, str(database), str(root)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("0 True\n", "")


def test_another_users_process_is_seen_by_its_lock_alone(database: Path, hold: Hold, tmp_path: Path) -> None:
    """Its descriptors may not be read by nobody, its command line and its lock may."""
    assert os.geteuid() == 0, "run the tests as root: another user has to be acted"
    for each in (*tmp_path.parents[:3], tmp_path):
        each.chmod(each.stat().st_mode | 0o011)
    for suffix in BESIDE:
        if Path(f"{database}{suffix}").exists():
            Path(f"{database}{suffix}").chmod(0o644)
    pid = hold("begin immediate")
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "from sidecar.adapters.live_descriptors import LiveDescriptors\n"
        "from sidecar.adapters.occupants import Occupants\n"
        "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "found = Occupants(LiveDescriptors().lockers).of(Path(sys.argv[1]))\n"
        "print([each.pid for each in found.processes], found.unseen)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, str(database), str(root)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == (f"[{pid}] True\n", "")


def test_a_command_line_is_shortened_and_a_service_is_named(database: Path, tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    for pid, cgroup in (
        (4000001, "0::/system.slice/app.service\n"),
        (4000002, "0::/user.slice/user-1000.slice/user@1000.service/app.slice/mine.service\n"),
        (4000003, "12:cpu:/\n1:name=systemd:/system.slice/system-web.slice/web@1.service\n"),
        (4000004, "0::/system.slice/docker-0123.scope\n"),
    ):
        (proc / str(pid) / "fd").mkdir(parents=True)
        (proc / str(pid) / "fd" / "3").symlink_to(database)
        (proc / str(pid) / "cmdline").write_bytes(b"\0".join([b"gunicorn", b"x" * 200, b""]))
        (proc / str(pid) / "cgroup").write_text(cgroup)
    (proc / "4000005" / "fd").mkdir(parents=True)
    shutil.copy(database, tmp_path / "copy.db")
    (proc / "4000005" / "fd" / "3").symlink_to(tmp_path / "copy.db")
    found = look(database, proc)
    assert [each.unit for each in found.processes] == ["app.service", None, "web@1.service", None]
    assert {len(each.command) for each in found.processes} == {80}
    with pytest.raises(InUse) as refused:
        found.refuse("app.db")
    assert refused.value.message.endswith(" and 1 more")
    assert refused.value.hint == "stop it first: systemctl stop app.service; kill 4000002; systemctl stop web@1.service"


def test_litestream_is_told_from_the_app() -> None:
    assert Occupant(1, "/usr/bin/litestream replicate").is_litestream
    assert Occupant(1, "litestream").is_litestream
    assert not Occupant(1, "python litestream").is_litestream
