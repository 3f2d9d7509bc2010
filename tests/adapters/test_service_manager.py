"""sd_notify against a real datagram socket: what is said, how often, and what happens when nobody can hear it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from sidecar.adapters.service_manager import STATUS_CHARS_MAX, ServiceManager
from tests.fakes import FakeClock


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """NOTIFY_SOCKET's value, and the service manager's end of it."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@sidecar-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(address if request.param == "path" else f"\0{address[1:]}")
        bound.setblocking(False)
        yield address, bound


def heard(listener: socket.socket) -> list[str]:
    said = []
    while True:
        try:
            said.append(listener.recv(4096).decode())
        except BlockingIOError:
            return said


def test_it_says_what_systemd_understands(listener: tuple[str, socket.socket]) -> None:
    address, ear = listener
    manager = ServiceManager(address, FakeClock(seconds=12.5))
    assert manager.listens
    assert manager.ready("ready: 1 database can be restored")
    assert manager.status("not ready")
    assert manager.reloading()
    assert manager.stopping()
    assert heard(ear) == [
        "READY=1\nSTATUS=ready: 1 database can be restored",
        "STATUS=not ready",
        "RELOADING=1\nMONOTONIC_USEC=12500000",
        "STOPPING=1\nSTATUS=stopping",
    ]
    manager.close()
    assert not manager.listens
    assert not manager.status("after the end")


def test_a_status_is_one_short_line_without_secrets(listener: tuple[str, socket.socket]) -> None:
    address, ear = listener
    manager = ServiceManager(address, FakeClock())
    manager.status("app: cannot list\nREADY=1\nhttps://user:hunter2@host/ says secret-access-key: abcdef " + "x" * 1000)
    (said,) = heard(ear)
    assert "hunter2" not in said
    assert "abcdef" not in said
    assert "\n" not in said
    assert len(said) == len("STATUS=") + STATUS_CHARS_MAX
    manager.close()


def test_signs_of_life_come_three_times_within_the_time(listener: tuple[str, socket.socket]) -> None:
    address, ear = listener
    clock = FakeClock()
    manager = ServiceManager.adopted({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "9000000"}, clock)
    beats = []
    for second in range(10):
        manager.beat()
        if heard(ear) == ["WATCHDOG=1"]:
            beats.append(second)
        clock.go(timedelta(seconds=1))
    assert beats == [0, 3, 6, 9]
    manager.close()


@pytest.mark.parametrize(
    "watchdog", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "9000000", "WATCHDOG_PID": "1"}]
)  # fmt: skip
def test_no_sign_of_life_where_none_is_wanted_of_us(
    listener: tuple[str, socket.socket], watchdog: dict[str, str]
) -> None:
    address, ear = listener
    manager = ServiceManager.adopted({"NOTIFY_SOCKET": address} | watchdog, FakeClock())
    manager.beat()
    assert heard(ear) == []
    manager.close()


def test_the_environment_no_longer_names_it() -> None:
    env = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid()), "PATH": "/bin"}
    ServiceManager.adopted(env, FakeClock()).close()
    assert env == {"PATH": "/bin"}


@pytest.mark.parametrize("env", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:9999"}])
def test_without_a_socket_nothing_happens(env: dict[str, str]) -> None:
    manager = ServiceManager.adopted({**env, "WATCHDOG_USEC": "1000000"}, FakeClock())
    assert not manager.listens
    manager.beat()
    assert not any((manager.ready("x"), manager.status("x"), manager.reloading(), manager.stopping()))
    manager.close()


def test_a_service_manager_that_does_not_listen_is_no_failure(tmp_path: Path) -> None:
    manager = ServiceManager(str(tmp_path / "gone"), FakeClock(), 9.0)
    assert not manager.ready("x")
    manager.beat()
    manager.close()


def test_one_that_does_not_keep_up_never_makes_us_wait(listener: tuple[str, socket.socket]) -> None:
    address, ear = listener
    clock = FakeClock()
    manager = ServiceManager(address, clock, 9.0)
    said = 0
    while manager.status("x" * 300):
        said += 1
        assert said < 100_000
    manager.beat()  # lost, and so said again at once when there is room
    assert "WATCHDOG=1" not in heard(ear)
    manager.beat()
    assert heard(ear) == ["WATCHDOG=1"]
    manager.close()


def test_a_daemon_that_cannot_start_left_its_children_no_socket(listener: tuple[str, socket.socket]) -> None:
    """`litestream version` is the first child, before anything else is known."""
    address, ear = listener
    script = (
        "import os, subprocess, sys\n"
        "from sidecar.adapters.clock import SystemClock\n"
        "from sidecar.adapters.service_manager import ServiceManager\n"
        "ServiceManager.adopted(os.environ, SystemClock()).ready('up')\n"
        "subprocess.run([sys.executable, '-c', 'import os; assert not {\"NOTIFY_SOCKET\", \"WATCHDOG_USEC\"} & set(os.environ)'], check=True)\n"
    )
    env = os.environ | {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}
    subprocess.run([sys.executable, "-c", script], check=True, env=env)
    assert heard(ear) == ["READY=1\nSTATUS=up"]
