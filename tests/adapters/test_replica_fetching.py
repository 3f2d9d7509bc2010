"""Single backup files, fetched as they lie in a folder and in a real store; what cannot be had is said without a secret."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from sidecar.adapters.replica_listing import Fetcher
from sidecar.adapters.replica_listing.fetching import NotFetched
from sidecar.core.errors import Overdue, SidecarError, Stopped
from sidecar.core.model import Database, ReplicaFile
from tests.adapters.test_replica_listing import made, s3  # noqa: F401 - a fixture
from tests.litestreams import free_port
from tests.replica_stage import NEVER, databases, lister, of_command
from tests.stores import S3


def fetcher() -> Fetcher:
    return Fetcher(lister(), time.monotonic)


def fetched(
    database: Database, files: tuple[ReplicaFile, ...], folder: Path, *, timeout_s: float = 20, stop: Event = NEVER
) -> list[bytes]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return [each.read_bytes() for each in fetcher().fetch(database, files, folder, timeout_s=timeout_s, stop=stop)]


@pytest.fixture(params=["file", "s3"])
def stored(request: pytest.FixtureRequest, tmp_path: Path, s3: S3) -> tuple[Database, Path]:  # noqa: F811 - the fixture
    """A database with a backup, and the folder in which its files lie."""
    if request.param == "file":
        return made(tmp_path, f"{{path: {tmp_path}/replica}}")[0], tmp_path / "replica" / "ltx"
    return made(tmp_path, s3.replica())[0], s3.folder / "bkt" / "app"


def lies(folder: Path, file: ReplicaFile) -> Path:
    name = f"{file.first.index:016x}-{file.last.index:016x}.ltx"
    return next(each for each in folder.rglob(name) if int(each.parent.name, 16) == file.level)


def test_files_of_every_level_come_as_they_are(stored: tuple[Database, Path], tmp_path: Path) -> None:
    database, folder = stored
    files = of_command(database)
    assert fetcher().understands(database)
    assert fetched(database, files, tmp_path / "out") == [lies(folder, each).read_bytes() for each in files]
    assert fetched(database, (), tmp_path / "out") == []


def test_a_file_that_went_or_changed_is_said(stored: tuple[Database, Path], tmp_path: Path) -> None:
    database, folder = stored
    files = of_command(database)
    with pytest.raises(NotFetched, match="another size"):
        fetched(database, (replace(files[0], size_bytes=files[0].size_bytes + 1),), tmp_path / "out")
    lies(folder, files[-1]).unlink()
    with pytest.raises(NotFetched) as caught:
        fetched(database, files, tmp_path / "out")
    assert "SECRETEXAMPLE" not in caught.value.message


def test_a_store_that_refuses_or_is_gone_is_said_without_a_secret(tmp_path: Path, s3: S3) -> None:  # noqa: F811
    (database,) = made(tmp_path, s3.replica())
    files = of_command(database)
    wrong = replace(s3, password="another-secret")
    (stranger,) = databases(tmp_path, wrong.replica())
    (nobody,) = databases(tmp_path, replace(s3, port=free_port()).replica())
    for each in (stranger, nobody):
        with pytest.raises(NotFetched) as caught:
            fetched(each, files, tmp_path / "out")
        assert "the store did not give a file" in caught.value.message
        for secret in ("another-secret", "SECRETEXAMPLE", "AKIDEXAMPLE"):
            assert secret not in caught.value.message


@pytest.fixture
def hanging(tmp_path: Path, s3: S3) -> Iterator[tuple[Database, tuple[ReplicaFile, ...]]]:  # noqa: F811
    (database,) = made(tmp_path, s3.replica())
    files = of_command(database)
    assert s3.process is not None
    s3.process.send_signal(signal.SIGSTOP)
    try:
        yield database, files
    finally:
        s3.process.send_signal(signal.SIGCONT)


def test_a_store_that_hangs_keeps_nobody(hanging: tuple[Database, tuple[ReplicaFile, ...]], tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(Overdue):
        fetched(*hanging, tmp_path / "out", timeout_s=0.5)
    stop = Event()
    stop.set()
    with pytest.raises(Stopped):
        fetched(*hanging, tmp_path / "out", stop=stop)
    assert time.monotonic() - began < 5


def test_what_is_not_understood_is_not_fetched(tmp_path: Path) -> None:
    (database,) = databases(tmp_path, "{type: sftp, host: example.org, user: u, password: p, path: /r}")
    assert not fetcher().understands(database)
    with pytest.raises(SidecarError, match="not one that is read directly"):
        fetched(database, (), tmp_path / "out")
