"""How much memory is free by the machine and by control groups, and how much a child took."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from sidecar.adapters.litestream_v5 import LitestreamV5
from sidecar.adapters.memory import FreeMemory
from sidecar.adapters.process import run
from sidecar.core.ports import Plan
from tests.litestreams import binary, environment
from tests.replica_stage import at_rest
from tests.verb_fakes import unseen

MB = 1_000_000
NEVER = threading.Event()
NO_LIMIT = 9223372036854771712  # v1's


def put(root: Path, **files: str) -> FreeMemory:
    """A system that says this; `_` in a name stands for `/`, `__` for `.`."""
    for name, text in files.items():
        file = root / name.replace("__", ".").replace("_", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return FreeMemory(root)


def group(root: Path, path: str, **files: str) -> None:
    folder = root / "sys/fs/cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"memory.{name}").write_text(text)


MACHINE = f"MemTotal: 9000000 kB\nMemFree: 1 kB\nMemAvailable: {800 * MB // 1024} kB\n"


def test_without_groups_it_is_what_the_machine_has(tmp_path: Path) -> None:
    assert put(tmp_path, proc_meminfo=MACHINE).bytes() == 800 * MB // 1024 * 1024


def test_a_group_of_v2_limits_it_and_its_files_count_as_free(tmp_path: Path) -> None:
    free = put(tmp_path, proc_meminfo=MACHINE, proc_self_cgroup="0::/\n")
    group(
        tmp_path,
        "",
        max=f"{100 * MB}\n",
        current=f"{90 * MB}\n",
        stat=f"anon {60 * MB}\nactive_file {10 * MB}\ninactive_file {15 * MB}\nslab 7\n",
    )
    assert free.bytes() == 35 * MB


def test_the_tightest_of_the_groups_above_counts(tmp_path: Path) -> None:
    free = put(tmp_path, proc_meminfo=MACHINE, proc_self_cgroup="0::/pod/app\n")
    group(tmp_path, "pod/app", max="max\n", current=f"{30 * MB}\n")
    group(tmp_path, "pod", max=f"{50 * MB}\n", current=f"{40 * MB}\n")
    assert free.bytes() == 10 * MB


def test_a_group_that_is_over_its_limit_leaves_nothing(tmp_path: Path) -> None:
    free = put(tmp_path, proc_self_cgroup="0::/a\n")
    group(tmp_path, "a", max="10\n", current="20\n")
    assert free.bytes() == 0


def test_a_container_that_is_shown_the_machines_path_finds_its_own_group(tmp_path: Path) -> None:
    free = put(tmp_path, proc_self_cgroup="0::/docker/0123abcd\n")
    group(tmp_path, "", max=f"{64 * MB}\n", current=f"{4 * MB}\n")
    assert free.bytes() == 60 * MB


def test_a_group_of_v1_limits_it(tmp_path: Path) -> None:
    free = put(tmp_path, proc_meminfo=MACHINE, proc_self_cgroup="9:name=systemd:/x\n4:memory:/box\n0::/\n")
    stat = f"cache 1\ninactive_file 5\ntotal_inactive_file {2 * MB}\ntotal_active_file {MB}\n"
    group(tmp_path, "memory/box", limit_in_bytes=f"{20 * MB}\n", usage_in_bytes=f"{15 * MB}\n", stat=stat)
    group(tmp_path, "memory", limit_in_bytes=f"{NO_LIMIT}\n", usage_in_bytes=f"{900 * MB}\n")
    assert free.bytes() == 8 * MB


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"proc_meminfo": "MemTotal: 5 kB\n", "proc_self_cgroup": "0::/\n"},
        {"proc_meminfo": "MemAvailable: lots\n", "proc_self_cgroup": "nonsense\n\n1:memory\n0::/../..\n"},
    ],
    ids=["nothing", "an old kernel", "nonsense"],
)
def test_what_cannot_be_read_is_not_known(tmp_path: Path, files: dict[str, str]) -> None:
    assert put(tmp_path, **files).bytes() is None


def test_this_machine_says_something() -> None:
    free = FreeMemory().bytes()
    assert free is not None
    assert free > MB


def test_a_child_is_weighed_and_not_its_parent() -> None:
    ours = bytearray(150 * MB)  # the kernel counts this in the child's ru_maxrss
    small = run(["sleep", "0.2"], timeout_s=5, stop=NEVER, weigh=True)
    held = f"held = bytearray({80 * MB}); import time; time.sleep(0.3)"
    large = run([sys.executable, "-S", "-c", held], timeout_s=20, stop=NEVER, weigh=True)
    del ours
    assert small.memory_bytes is not None
    assert large.memory_bytes is not None
    assert small.memory_bytes < 20 * MB
    assert 80 * MB < large.memory_bytes < 140 * MB


def test_what_is_not_weighed_says_nothing() -> None:
    assert run(["true"], timeout_s=5, stop=NEVER).memory_bytes is None


def test_a_restore_says_what_litestream_took(tmp_path: Path) -> None:
    database = at_rest(tmp_path)
    reader = LitestreamV5(binary(), "0.5.17", environment())
    plan: Plan = reader.plan(database, timeout_s=20, stop=NEVER)
    took = reader.restore(database, plan, tmp_path / "out.db", timeout_s=20, stop=NEVER, progress=unseen)
    assert took is not None
    assert 5 * MB < took < 200 * MB
