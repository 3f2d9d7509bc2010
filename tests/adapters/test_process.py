"""process.run: prompt, bounded, and nothing left behind, against children that misbehave."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sidecar.adapters.process import STDERR_BYTES_MAX, Flooded, run
from sidecar.core.errors import EnvironmentProblem, Overdue, Stopped
from tests.litestreams import until
from tests.starved import descriptors_left

STUBS = Path(__file__).resolve().parent.parent / "stubs"
NEVER = threading.Event()


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_output_input_and_exit_code() -> None:
    done = run(["sh", "-c", "cat; echo oops >&2; exit 7"], stdin=b"hello", timeout_s=5, stop=NEVER)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"hello", b"oops\n")


def test_a_short_command_costs_little_more_than_itself() -> None:
    costs = sorted(run(["sleep", "0.03"], timeout_s=5, stop=NEVER).seconds for _ in range(9))
    assert costs[4] < 0.06


def test_without_pidfd_it_works_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    costs = sorted(run(["sleep", "0.03"], timeout_s=5, stop=NEVER).seconds for _ in range(5))
    assert costs[2] < 0.15


def test_large_input_and_output_do_not_deadlock() -> None:
    big = b"x" * 3_000_000
    assert big == run(["cat"], stdin=big, timeout_s=20, stop=NEVER).stdout
    assert run(["true"], stdin=big, timeout_s=20, stop=NEVER).returncode == 0  # never reads


def test_stop_is_noticed_at_once() -> None:
    stop = threading.Event()
    set_at: list[float] = []

    def poll() -> None:
        if not set_at:
            set_at.append(time.monotonic())
            stop.set()

    with pytest.raises(Stopped, match="sleep 300"):
        run(["sleep", "300"], timeout_s=60, stop=stop, poll=poll)
    assert time.monotonic() - set_at[0] < 0.5


def test_a_child_that_ignores_term_is_killed_with_its_group() -> None:
    before = children()
    began = time.monotonic()
    with pytest.raises(Overdue):
        run([str(STUBS / "hang")], timeout_s=0.3, stop=NEVER)
    assert 5 < time.monotonic() - began < 8
    assert before == children()


def test_a_grandchild_that_holds_the_pipes_does_not_hang_us_and_is_killed() -> None:
    done = run([str(STUBS / "leaver")], timeout_s=20, stop=NEVER)
    assert done.seconds < 3
    until(lambda: not alive(int(done.stdout)), within=5)


def test_a_grandchild_in_a_session_of_its_own_does_not_hang_us() -> None:
    done = run([str(STUBS / "leaver"), "escape"], timeout_s=20, stop=NEVER)
    assert done.seconds < 3
    os.kill(int(done.stdout), signal.SIGKILL)


def test_a_flood_is_cut_and_said() -> None:
    before = children()
    with pytest.raises(Flooded, match="more than 100000 bytes"):
        run([str(STUBS / "flood")], timeout_s=20, stop=NEVER, stdout_bytes_max=100_000)
    assert before == children()


def test_a_quick_flood_is_not_passed_off_as_the_whole() -> None:
    with pytest.raises(Flooded):
        run(["head", "-c", "40000", "/dev/zero"], timeout_s=20, stop=NEVER, stdout_bytes_max=30_000)


def test_of_a_long_standard_error_the_end_is_kept() -> None:
    done = run([str(STUBS / "flood"), "err"], timeout_s=20, stop=NEVER)
    assert done.returncode == 3
    assert done.stderr.startswith(b"[")
    assert b"bytes cut]" in done.stderr[:40]
    assert done.stderr.endswith(b"the end\n")
    assert len(done.stderr) < STDERR_BYTES_MAX + 100


def test_what_poll_raises_ends_the_child() -> None:
    before = children()

    def poll() -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError):
        run(["sleep", "300"], timeout_s=60, stop=NEVER, poll=poll)
    assert before == children()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: folder / "nothing", "No such file"),
        (lambda folder: _file(folder / "plain", 0o644), "Permission denied"),
        (lambda folder: _file(folder / "noformat", 0o755), "Exec format error"),
    ],
    ids=["missing", "not-executable", "not-a-program"],
)
def test_what_cannot_be_started_is_an_environment_problem(tmp_path: Path, make: object, said: str) -> None:
    assert callable(make)
    with pytest.raises(EnvironmentProblem, match=said):
        run([str(make(tmp_path))], timeout_s=5, stop=NEVER)


def _file(path: Path, mode: int) -> Path:
    path.write_bytes(b"\x00\x01")
    path.chmod(mode)
    return path


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="is gone"):
        run(["true"], timeout_s=5, stop=NEVER, cwd=tmp_path / "gone")


def test_however_few_descriptors_are_left_no_child_is_left_behind() -> None:
    before, ends = children(), [short_of_descriptors(left) for left in range(14)]
    assert before == children()
    refused, ended = ends[0], ends[-1]
    assert set(ends) == {refused, ended}
    assert "Too many open files; try: raise" in refused
    assert "ulimit -n" in refused
    assert ended == "0"


def short_of_descriptors(left: int) -> str:
    """How a child ends."""
    with descriptors_left(left):
        try:
            return str(run(["sleep", "0.01"], timeout_s=5, stop=NEVER).returncode)
        except EnvironmentProblem as error:
            return f"{error.message}; try: {error.hint}"


def test_niceness_reaches_the_child() -> None:
    done = run(["sh", "-c", "sleep 0.1; nice"], timeout_s=5, stop=NEVER, nice=7)
    assert done.stdout == b"7\n"


def test_a_signal_shows_as_a_negative_code() -> None:
    assert run(["sh", "-c", "kill -9 $$"], timeout_s=5, stop=NEVER).returncode == -9


def test_many_threads_at_once() -> None:
    def one(number: int) -> bytes:
        return run(["sh", "-c", f"echo {number}"], timeout_s=20, stop=NEVER).stdout

    with ThreadPoolExecutor(8) as pool:
        assert [f"{n}\n".encode() for n in range(40)] == list(pool.map(one, range(40)))
