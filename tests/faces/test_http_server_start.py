"""Where the HTTP server listens, and what it refuses to start on."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from sidecar.adapters import http_server
from sidecar.adapters.http_server import HttpServer
from sidecar.core.errors import EnvironmentProblem
from sidecar.core.settings_model import Listen
from sidecar.web import App


def port_of(server: HttpServer) -> int:
    return int(server.url.rsplit(":", 1)[1])


def refused(server: HttpServer) -> EnvironmentProblem:
    with pytest.raises(EnvironmentProblem) as caught:
        server.start()
    assert caught.value.hint
    server.stop()
    return caught.value


def test_it_serves_on_a_port_the_kernel_chose_and_says_which(serve: Callable[..., HttpServer]) -> None:
    server = serve()
    response = httpx.get(f"{server.url}/ready")
    assert (response.status_code, response.json()["ready"]) == (200, True)
    assert "server" not in response.headers
    assert httpx.head(f"{server.url}/ready").headers["content-length"] == str(len(response.content))
    accepted = httpx.post(f"{server.url}/drills", json={"db": "app"})
    assert (accepted.status_code, accepted.headers["location"]) == (202, "/drills/drill-1")
    assert httpx.get(f"{server.url}/databases/app%2F..%2F").status_code == 404


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        (Listen("0.0.0.0", 0), "http://127.0.0.1:"), (Listen("localhost", 0), "http://localhost:"),
        (Listen("::1", 0), "http://[::1]:"),
    ],
)  # fmt: skip
def test_its_url_can_be_asked(serve: Callable[..., HttpServer], listen: Listen, url: str) -> None:
    server = serve(listen)
    assert server.url.startswith(url)
    assert httpx.get(f"{server.url}/livez").text == "ok\n"


def test_a_taken_port_is_one_sentence(serve: Callable[..., HttpServer], app: App) -> None:
    port = port_of(serve())
    problem = refused(HttpServer(app, Listen("127.0.0.1", port)))
    assert problem.message == f"cannot listen on 127.0.0.1:{port}: another program listens there"
    assert problem.exit_code == 2


@pytest.mark.parametrize(
    ("listen", "says"),
    [
        (Listen("192.0.2.1", 9810), "cannot listen on 192.0.2.1:9810: this machine has no such address"),
        (Listen("no.such.host.invalid", 1), "the name no.such.host.invalid does not resolve"),
        (Listen("", 0, "/no/such/folder/s"), "cannot listen on unix:/no/such/folder/s: its directory does not exist"),
        (Listen("", 0, "/tmp/" + "x" * 120), "AF_UNIX path too long"),
        (Listen("", 0, "/proc/s"), "cannot listen on unix:/proc/s"),
    ],
)
def test_an_address_that_is_not_ours_is_one_sentence(app: App, listen: Listen, says: str) -> None:
    assert says in refused(HttpServer(app, listen)).message


def test_a_port_below_1024_without_the_right_is_one_sentence() -> None:
    """As another user, in a process of its own; the kernel decides."""
    limit = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    assert limit > 1, "this machine lets everybody listen everywhere: sysctl net.ipv4.ip_unprivileged_port_start=1024"
    program = (
        "import os, encodings.idna\n"
        "from sidecar.adapters.http_server import HttpServer\n"
        "from sidecar.core.settings_model import Listen\n"
        "if os.geteuid() == 0: os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "try: HttpServer(None, Listen('127.0.0.1', 1)).start()\n"
        "except Exception as error: print(type(error).__name__, error, '|', error.hint)\n"
    )
    root = Path(http_server.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-B", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
        env={"PATH": "/bin"},
    )
    assert done.stdout.startswith("EnvironmentProblem cannot listen on 127.0.0.1:1: permission denied | choose a port")


def test_a_unix_socket_is_for_user_and_group_and_leaves_with_us(
    serve: Callable[..., HttpServer], tmp_path: Path
) -> None:
    path = tmp_path / "s"
    server = serve(Listen("", 0, str(path)))
    assert server.url == f"unix:{path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://sidecar") as client:
        assert client.get("/ready").status_code == 200
        assert client.post("/drills", json={"db": "app"}).status_code == 202  # no Host of ours is asked for
    server.stop()
    assert not path.exists()


def test_a_socket_file_that_a_killed_process_left_is_taken_over(
    serve: Callable[..., HttpServer], tmp_path: Path
) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert path.exists()
    serve(Listen("", 0, str(path)))


def test_a_socket_that_somebody_answers_on_and_a_file_are_left_alone(
    serve: Callable[..., HttpServer], app: App, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    serve(Listen("", 0, str(path)))
    inode = path.stat().st_ino
    assert refused(HttpServer(app, Listen("", 0, str(path)))).message == f"another program answers on {path}"
    assert path.stat().st_ino == inode
    file = tmp_path / "precious"
    file.write_text("kept")
    assert refused(HttpServer(app, Listen("", 0, str(file)))).message == f"{file} exists and is no socket"
    assert file.read_text() == "kept"


def test_a_socket_of_our_successor_is_left_alone(serve: Callable[..., HttpServer], tmp_path: Path) -> None:
    path = tmp_path / "s"
    server = serve(Listen("", 0, str(path)))
    path.rename(tmp_path / "old")
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(str(path))
        server.stop()
        assert path.exists()


def test_nothing_of_uvicorn_is_loaded_before_it_is_needed() -> None:
    root = Path(http_server.__file__).parents[2]
    program = "import sys, sidecar.adapters.http_server; print([m for m in ('uvicorn', 'h11') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-B", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
        env=dict(os.environ),
    )
    assert done.stdout == "[]\n"
