"""Where the daemon of a state directory can be asked: told while it runs, and by nobody after."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.adapters.announcement import FILE, LOCK, announced, running_at
from sidecar.adapters.ledger.folder import Lock
from tests.litestreams import ROOT

URL = "http://127.0.0.1:9810"
DAEMON = """
import sys
from pathlib import Path
from sidecar.adapters.announcement import announced
from sidecar.adapters.ledger.folder import Lock
state = Path(sys.argv[1])
lock = Lock(state)
lock.take()
with announced(state, sys.argv[2]):
    print("up", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def held(state: Path) -> Iterator[None]:
    """As the daemon's ledger holds it. flock is per open file, so one process is enough to see it."""
    lock = Lock(state)
    lock.take()
    try:
        yield
    finally:
        lock.release()


def test_it_is_told_while_the_daemon_runs_and_not_after(tmp_path: Path) -> None:
    assert running_at(tmp_path) is None
    with held(tmp_path):
        assert running_at(tmp_path) is None, "not listening yet"
        with announced(tmp_path, URL):
            assert running_at(tmp_path) == URL
        assert running_at(tmp_path) is None
        assert not (tmp_path / FILE).exists()


def test_asking_does_not_take_the_lock_away_nor_hold_it(tmp_path: Path) -> None:
    with held(tmp_path), announced(tmp_path, URL):
        for _ in range(3):
            assert running_at(tmp_path) == URL
        assert (tmp_path / LOCK).read_text().strip() == str(os.getpid())
    assert running_at(tmp_path) is None
    with held(tmp_path):
        pass


def test_what_a_killed_daemon_left_is_not_believed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DAEMON, str(tmp_path), URL]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as daemon:
        assert daemon.stdout is not None
        ready, found = daemon.stdout.readline(), running_at(tmp_path)
        daemon.kill()
    assert (ready, found) == (b"up\n", URL)
    assert (tmp_path / FILE).read_text() == f"{URL}\n"
    assert running_at(tmp_path) is None


@pytest.mark.parametrize("written", ["", "\n", " \n"])
def test_an_empty_word_is_no_address(tmp_path: Path, written: str) -> None:
    with held(tmp_path):
        (tmp_path / FILE).write_text(written)
        assert running_at(tmp_path) is None


def test_a_directory_that_cannot_be_written_is_no_reason_not_to_run(tmp_path: Path) -> None:
    with announced(tmp_path / "nowhere", URL):
        assert running_at(tmp_path / "nowhere") is None
    with held(tmp_path):
        (tmp_path / FILE).mkdir()
        with announced(tmp_path, URL):
            assert running_at(tmp_path) is None


def test_a_command_that_only_shares_the_lock_is_no_daemon(tmp_path: Path) -> None:
    (tmp_path / LOCK).touch()
    (tmp_path / FILE).write_text(URL)
    with (tmp_path / LOCK).open("rb") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        assert running_at(tmp_path) is None, "two commands that ask at once do not take each other for a daemon"
