"""The short way to list a replica says what Litestream's command says, file by file; where it cannot, Litestream is asked in the same look."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from sidecar.adapters.replica_listing import LookLister
from sidecar.adapters.replica_listing.folder import read_folder
from sidecar.adapters.replica_listing.lister import STORES_MAX
from sidecar.core.errors import LitestreamError, Stopped
from sidecar.core.model import Database, ReplicaFile
from tests.fakes import FakeClock
from tests.litestreams import App, Litestream, Writer, environment, free_port, until
from tests.replica_stage import NEVER, QUICK, Moto, command, databases, lister, of_command
from tests.stores import S3

STUBS = Path(__file__).resolve().parent.parent / "stubs"
WATCH_S = 14.0
KINDS: dict[str, Callable[[Path, int], S3]] = {"rclone": S3, "moto": Moto}


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3]:
    with serving("rclone", tmp_path) as server:
        yield server


@contextlib.contextmanager
def serving(kind: str, folder: Path) -> Iterator[S3]:
    server = KINDS[kind](folder / "store", free_port())
    server.start()
    try:
        server.make_bucket()
        yield server
    finally:
        server.stop()


def asked(who: LookLister, database: Database, timeout_s: float = 30) -> tuple[ReplicaFile, ...]:
    return who.listed(database, holds=None, timeout_s=timeout_s, stop=NEVER).files


def by_way(who: LookLister) -> tuple[int, int]:
    """Requests, direct and by Litestream."""
    counted = who.requests.read()
    return counted["direct"], counted["litestream"]


def failing(who: LookLister, database: Database, timeout_s: float = 30) -> LitestreamError:
    with pytest.raises(LitestreamError) as caught:
        asked(who, database, timeout_s)
    assert "SECRETEXAMPLE" not in f"{caught.value.message} {caught.value.hint}"
    return caught.value


# The same files


@pytest.mark.parametrize("kind", ["file", "rclone", "moto"])
def test_it_shows_what_litestream_shows_while_replicas_are_compacted_and_pruned(kind: str, tmp_path: Path) -> None:
    with serving(kind, tmp_path) if kind != "file" else contextlib.nullcontext() as server:
        block = f"{{path: {tmp_path}/replica, sync-interval: 200ms}}" if server is None else server.replica()
        (database,) = databases(tmp_path, block, top=QUICK)
        app = App(Path(database.path))
        running = Litestream(tmp_path / "litestream.yml").start()
        try:
            quiet, seen = watched(database, app)
        finally:
            running.stop()
            app.close()
    assert len(quiet) >= 5, "moments in which nothing changed"
    assert {each.level for each in seen} >= {0, 1, 2, 9}
    assert len(seen) > 2 * max(quiet), "files went while we watched"


def watched(database: Database, app: App) -> tuple[list[int], set[ReplicaFile]]:
    """How many files each quiet moment showed, and every file that was ever seen."""
    who, quiet, seen = lister(), list[int](), set[ReplicaFile]()
    until(lambda: of_command(database), say="a first file")
    began = time.monotonic()
    with Writer(app, pause=0.25):
        while time.monotonic() < began + WATCH_S:
            before, direct, after = of_command(database), asked(who, database), of_command(database)
            seen |= set(direct)
            if before == after:
                assert direct == before
                quiet.append(len(direct))
    looks, commands = by_way(who)
    assert looks >= len(quiet)
    assert commands == 0
    return quiet, seen


def test_no_litestream_is_started(tmp_path: Path, s3: S3) -> None:
    """The command given here would hang."""
    for block in (f"{{path: {tmp_path}/replica}}", s3.replica()):
        (database,) = made(tmp_path, block)
        assert asked(lister(executable=str(STUBS / "hang")), database) == of_command(database) != ()


def made(home: Path, block: str) -> tuple[Database, ...]:
    """A replica that Litestream has made, and left."""
    shutil.rmtree(home / "data", ignore_errors=True)
    found = databases(home, block, top=QUICK)
    app = App(home / "data" / "app.db")
    running = Litestream(home / "litestream.yml").start()
    try:
        app.write()
        until(lambda: any(each.level == 9 for each in of_command(found[0])), say="a snapshot")
    finally:
        running.stop()
        app.close()
    return found


# A folder, and what may stand in it


@pytest.fixture
def folder(tmp_path: Path) -> Database:
    return made(tmp_path, f"{{path: {tmp_path}/replica}}")[0]


def ltx(database: Database, level: int = 0) -> Path:
    return Path(database.replica.label.removeprefix("file://")) / "ltx" / str(level)


@pytest.mark.parametrize("name", ["0000000000000077-0000000000000078.ltx.tmp", ".DS_Store", ".nfs0123", "x.LTX", "sub"])
def test_what_litestream_passes_over_is_passed_over(folder: Database, name: str) -> None:
    (ltx(folder) / name).mkdir() if name == "sub" else (ltx(folder) / name).write_bytes(b"x")
    who = lister(executable=str(STUBS / "hang"))
    assert asked(who, folder) == of_command(folder)


def test_an_empty_file_an_odd_time_and_an_eleventh_level_are_seen_as_litestream_sees_them(folder: Database) -> None:
    (ltx(folder) / "0000000000000001-0000000000000077.ltx").touch()
    old = ltx(folder) / "0000000000000078-000000000000007f.ltx"
    old.write_bytes(b"abc")
    os.utime(old, ns=(1, -315_583_199_500_000_000))  # half a second into a second of 1960
    ltx(folder, 10).mkdir()
    (ltx(folder, 10) / "0000000000000001-00000000000000ff.ltx").touch()
    seen = read_folder(str(ltx(folder).parent.parent))
    assert seen == of_command(folder)
    assert {0, 3} <= {each.size_bytes for each in seen}


NAME = "0000000000000077-0000000000000077.ltx"
ODD: tuple[tuple[str, Callable[[Path], None]], ...] = (
    ("1-2.ltx", Path.touch),
    ("000000000000000A-000000000000000B.ltx", Path.touch),
    ("0000000000000009-0000000000000008.ltx", Path.touch),
    ("0000000000000000-0000000000000000.ltx", Path.touch),
    (NAME, Path.mkdir),
    (NAME, lambda path: path.symlink_to("/etc/passwd")),
    (NAME, lambda path: path.symlink_to("/nonexistent")),
)


@pytest.mark.parametrize(("name", "make"), ODD)
def test_what_is_odd_is_left_to_litestream_and_the_short_way_rests(
    folder: Database, name: str, make: Callable[[Path], None]
) -> None:
    make(ltx(folder) / name)
    clock = FakeClock()
    who = lister(clock)
    for times in (1, 2, 3):
        assert set(asked(who, folder)) == set(of_command(folder))
        assert by_way(who) == (1, times)
    clock.go(timedelta(minutes=11))
    asked(who, folder)
    assert by_way(who) == (2, 4)


def test_a_gap_is_litestreams_to_report(folder: Database) -> None:
    (ltx(folder) / "0000000000000100-0000000000000100.ltx").touch()
    who = lister()
    assert asked(who, folder) == of_command(folder)
    assert by_way(who) == (1, 1)


def test_a_level_that_cannot_be_read_is_litestreams_to_report(folder: Database) -> None:
    ltx(folder, 5).symlink_to(ltx(folder, 5))  # as with no permission, which root does not feel
    assert "too many levels" in failing(who := lister(), folder).message
    assert by_way(who) == (1, 1)


def test_an_empty_folder_is_confirmed_by_litestream(folder: Database) -> None:
    shutil.rmtree(ltx(folder).parent)
    who = lister()
    assert (asked(who, folder), by_way(who)) == ((), (1, 1))
    assert (asked(who, folder), by_way(who)) == ((), (2, 2)), "nothing failed"


# A store, and what may happen to it


@pytest.fixture
def stored(tmp_path: Path, s3: S3) -> Database:
    return made(tmp_path, s3.replica())[0]


@pytest.mark.parametrize("name", ["0000/odd.ltx", "0000/sub/0000000000000077-0000000000000077.ltx"])
def test_an_odd_object_is_left_to_litestream(stored: Database, s3: S3, name: str) -> None:
    (s3.root / "app" / name).parent.mkdir(exist_ok=True)
    (s3.root / "app" / name).write_bytes(b"x")
    who = lister()
    assert set(asked(who, stored)) == set(of_command(stored))
    assert by_way(who) == (1, 10)


def test_what_lies_beside_the_levels_does_not_matter(stored: Database, s3: S3) -> None:
    for name in (
        "generations/0123/wal/x.wal.lz4",
        "000a/0000000000000001-0000000000000077.ltx",
        "0000/x.tmp",
        "readme",
    ):
        (s3.root / "app" / name).parent.mkdir(parents=True, exist_ok=True)
        (s3.root / "app" / name).write_bytes(b"x")
    assert asked(lister(executable=str(STUBS / "hang")), stored) == of_command(stored)


def test_an_empty_prefix_is_confirmed_by_litestream(tmp_path: Path, stored: Database, s3: S3) -> None:
    (elsewhere,) = databases(tmp_path, s3.replica("elsewhere"))
    who = lister()
    assert (asked(who, elsewhere), by_way(who)) == ((), (1, 10))
    del stored


def test_wrong_credentials_are_litestreams_to_report(
    tmp_path: Path, stored: Database, s3: S3, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    (refused,) = databases(tmp_path, s3.replica(password="WRONGSECRET"))
    who = lister()
    assert failing(who, refused).reason == "auth"
    assert by_way(who) == (1, 10)
    assert "directly did not work (the store refused)" in caplog.text
    assert not [word for word in ("WRONGSECRET", "AKIDEXAMPLE", "SECRETEXAMPLE") if word in caplog.text]
    del stored


def test_a_bucket_that_is_not_there_is_litestreams_to_report(tmp_path: Path, s3: S3) -> None:
    (nowhere,) = databases(tmp_path, s3.replica().replace("bkt", "nosuch"))
    assert failing(lister(), nowhere).reason == "no_backup"


def test_a_store_that_hangs_costs_both_timeouts_once(stored: Database, s3: S3) -> None:
    who = lister()
    s3.pause()
    try:
        assert failing(who, stored, timeout_s=3).reason == "timeout"
        assert by_way(who)[1] == 10
        direct, began = by_way(who)[0], time.monotonic()
        config = stored.replica.config.replace(stored.path, "/another.db").replace("app,", "another,")
        other = replace(stored, path="/another.db", replica=replace(stored.replica, config=config))
        for each in (stored, other):
            assert failing(who, each, timeout_s=1).reason == "timeout"
        assert time.monotonic() - began < 2.9, "the whole store rests, whichever database is looked at"
        assert by_way(who)[0] == direct
    finally:
        s3.resume()
    until(lambda: asked(lister(), stored), say="the store answers again")


def test_a_store_that_is_gone_is_unreachable(stored: Database, s3: S3) -> None:
    s3.stop()
    assert failing(lister(), stored, timeout_s=4).reason == "unreachable"


def test_without_obstore_litestream_is_asked(stored: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    who = lister()
    assert set(asked(who, stored)) == set(of_command(stored))
    assert by_way(who) == (0, 10)


def test_other_generations_and_versions_are_asked_by_their_command(folder: Database) -> None:
    clock, files = FakeClock(), of_command(folder)
    for version in ("0.3.13", "0.6.0", "development build"):
        reader = command()
        reader.version = version
        who = LookLister(reader, clock, environment())
        assert set(asked(who, folder)) == set(files)
        assert by_way(who) == (0, 1)


def test_a_look_is_stopped_while_a_store_hangs(stored: Database, s3: S3) -> None:
    stop = threading.Event()
    s3.pause()
    try:
        timer = threading.Timer(0.5, stop.set)
        timer.start()
        began = time.monotonic()
        with pytest.raises(Stopped):
            lister().listed(stored, holds=None, timeout_s=60, stop=stop)
        assert time.monotonic() - began < 3
        timer.join()
    finally:
        s3.resume()


def test_the_listing_is_dated_just_before_it_began(folder: Database) -> None:
    clock = FakeClock()
    assert lister(clock).listed(folder, holds=None, timeout_s=9, stop=NEVER).read_at == clock.at


def test_clients_are_kept_for_a_bounded_number_of_buckets(stored: Database, tmp_path: Path, s3: S3) -> None:
    """A bucket for each tenant: whoever was not asked for longest makes room, and is asked again without harm."""
    who, first = lister(), asked(lister(), stored)
    for number in range(STORES_MAX + 2):
        (tmp_path / "store" / f"tenant{number}").mkdir()
        (other,) = databases(tmp_path, s3.replica().replace("bkt", f"tenant{number}"))
        assert asked(who, other) == ()
    assert asked(who, stored) == first
    assert by_way(who) == (STORES_MAX + 3, 10 * (STORES_MAX + 2))
