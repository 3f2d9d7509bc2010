"""Litestream 0.3's commands against the real 0.3.13: generations, snapshots, WAL segments, and how they fail."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sidecar.adapters.litestream_v3 import LitestreamV3, PlanV3
from sidecar.core.errors import LitestreamError
from sidecar.core.listing import digest, reduce
from sidecar.core.litestream_errors import UnknownFailure
from sidecar.core.model import Database, Position, Replica
from sidecar.core.wal import WAL_HEADER_BYTES
from tests.litestreams import S3, App, Litestream, binary_of, environment, free_port, rclone_s3, until

STUBS = Path(__file__).resolve().parent.parent / "stubs"
NEVER = threading.Event()
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = 6


def quiet(stage: str, done: int, total: int | None) -> None:
    """No progress wanted."""
    del stage, done, total


def reader(**env: str) -> LitestreamV3:
    return LitestreamV3(binary_of("0.3.13"), "0.3.13", environment(**env))


def database(path: Path, replica: str, *, kind: str = "file", endpoint: tuple[str, int] | None = None) -> Database:
    config = f"dbs:\n  - path: {path}\n    replicas: [{replica}]\n"
    return Database("app", str(path), "", Replica(kind, "label", endpoint=endpoint, config=config))


def of_folder(folder: Path) -> Database:
    return database(folder / "app.db", f"{{type: file, path: {folder / 'rep'}}}")


def of_s3(server: S3, path: str = "app", *, secret: str | None = None) -> Database:
    return database(
        Path("/nonexistent/app.db"),
        server.replica(path, secret=secret),
        kind="s3",
        endpoint=("127.0.0.1", server.port),
    )


def fill(folder: Path, replica: str, segments: Callable[[], int], db: Database) -> None:
    """A database of several WAL indexes (one per checkpoint), replicated by the real 0.3.13.

    It is killed once all of it can be restored: told to stop while it uploads, 0.3.13 may never end.
    """

    def complete() -> bool:
        probe = folder / "probe.db"
        try:
            restore_it(db, plan_it(db), probe)
        except LitestreamError:
            return False
        found = rows_of(probe)
        probe.unlink()
        return found == ROWS

    config = folder / "litestream.yml"
    config.write_text(f"dbs:\n  - path: {folder / 'app.db'}\n    replicas: [{replica}]\n")
    app = App(folder / "app.db")
    running = Litestream(config, executable=binary_of("0.3.13")).start()
    try:
        until(lambda: segments() > 0)
        for _ in range(ROWS // 2):
            for size in (1, 2500):  # the second fills the WAL past 0.3's checkpoint threshold: a new index begins
                before = segments()
                app.write(1, text="x" * size * 2000)
                until(lambda seen=before: segments() > seen, every=0.02)  # type: ignore[misc] # mypy cannot infer it
        until(complete, say="every row can be restored")
    finally:
        running.kill()
        app.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    rep = folder / "rep"
    fill(
        folder,
        f"{{type: file, path: {rep}, sync-interval: 50ms}}",
        lambda: len(list(rep.rglob("*.wal.lz4"))),
        of_folder(folder),
    )
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "rep", tmp_path / "rep", copy_function=shutil.copy2)
    shutil.copy2(made / "app.db", tmp_path / "app.db")
    (tmp_path / "room").mkdir()
    return tmp_path


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    home = tmp_path_factory.mktemp("s3")
    with rclone_s3(home / "store") as server:
        store = home / "store"
        fill(
            home, server.replica().replace("200ms", "50ms"), lambda: len(list(store.rglob("*.wal.lz4"))), of_s3(server)
        )
        yield server


def segments_of(folder: Path) -> list[Path]:
    return sorted((folder / "rep").rglob("*.wal.lz4"))


def failing(do: Callable[[], object]) -> LitestreamError:
    with pytest.raises(LitestreamError) as caught:
        do()
    return caught.value


def list_it(db: Database) -> tuple[object, ...]:
    return reader().list_files(db, timeout_s=20, stop=NEVER)


def plan_it(db: Database) -> PlanV3:
    return reader().plan(db, timeout_s=20, stop=NEVER)


def restore_it(db: Database, plan: PlanV3, target: Path) -> None:
    reader().restore(db, plan, target, timeout_s=20, stop=NEVER, progress=quiet)


def rows_of(target: Path) -> int:
    copy = sqlite3.connect(f"file:{target}?immutable=1", uri=True)
    found = copy.execute("select count(*) from t").fetchone()[0]
    copy.close()
    return int(found)


# What it lists, plans and restores


def test_the_listing_holds_every_file(folder: Path) -> None:
    files = reader().list_files(of_folder(folder), timeout_s=20, stop=NEVER)
    on_disk = {
        (0, *(int(each, 16) for each in path.name.split(".")[0].split("_")), path.stat().st_size)
        for path in segments_of(folder)
    } | {(9, int(path.name[:8], 16), 0, path.stat().st_size) for path in (folder / "rep").rglob("*.snapshot.lz4")}
    assert {(f.level, f.first.index, f.first.offset, f.size_bytes) for f in files} == on_disk
    assert len({f.first.index for f in files}) > 1
    assert all(f.first.generation and f.at.tzinfo is UTC for f in files)
    # A first segment holds the WAL's header at least: it ends past a snapshot of the same index.
    assert {f.last.offset - f.first.offset for f in files if f.level == 9 or f.first.offset} == {0}
    assert {f.last.offset for f in files if f.level == 0 and not f.first.offset} == {WAL_HEADER_BYTES}


def test_an_empty_replica(tmp_path: Path) -> None:
    assert list_it(of_folder(tmp_path)) == ()
    assert failing(lambda: plan_it(of_folder(tmp_path))).reason == "no_backup"


def test_a_restore_brings_the_plans_position_and_nothing_else(folder: Path) -> None:
    db, target = of_folder(folder), folder / "room" / "copy.db"
    for suffix in ("-wal", "-shm", "-journal"):
        Path(f"{target}{suffix}").write_text("stale")
    plan = plan_it(db)
    assert plan.position == reduce(reader().list_files(db, timeout_s=20, stop=NEVER), NOW).reachable
    assert plan.size_bytes == sum(each.size_bytes for each in plan.files)
    assert digest(plan.files) == reduce(reader().list_files(db, timeout_s=20, stop=NEVER), NOW).plan_digest
    restore_it(db, plan, target)
    assert rows_of(target) == ROWS
    assert [each.name for each in target.parent.iterdir()] == ["copy.db"]


def test_a_position_is_restorable_where_its_index_ends_there(folder: Path) -> None:
    """0.3 restores whole indexes: the end of one can be had, what lies inside one cannot."""
    db = of_folder(folder)
    segments = [each for each in reader().list_files(db, timeout_s=10, stop=NEVER) if each.level == 0]
    ends = {
        each.last.index: each.last for each in sorted(segments, key=lambda each: (each.last.index, each.last.offset))
    }
    inside = [each.last for each in segments if each.last not in ends.values()]
    snapshot = plan_it(db).files[0].last.index
    assert inside
    for position in inside:
        assert failing(lambda at=position: reader().plan_at(db, at, timeout_s=10, stop=NEVER)).reason == "file_missing"  # type: ignore[misc] # bound now
    last, rows = max(ends), []
    for index in range(snapshot, last + 1):
        plan = reader().plan_at(db, ends[index], timeout_s=10, stop=NEVER)
        restore_it(db, plan, folder / "room" / f"{index}.db")
        rows.append(rows_of(folder / "room" / f"{index}.db"))
    assert rows == sorted(rows)
    assert rows[0] < rows[-1] == ROWS
    other = replace(ends[last], generation="0" * 16)
    assert failing(lambda: reader().plan_at(db, other, timeout_s=10, stop=NEVER)).reason == "no_backup"


def test_only_the_generation_with_the_newest_file_counts(folder: Path) -> None:
    """Made as in life: Litestream stopped, the WAL checkpointed away by somebody else, Litestream started."""
    old = plan_it(of_folder(folder)).position.generation
    config = folder / "litestream.yml"
    config.write_text(of_folder(folder).replica.config)
    app = App(folder / "app.db")
    app.write(3)
    app.execute("pragma wal_checkpoint(truncate)")
    running = Litestream(config, executable=binary_of("0.3.13")).start()
    try:
        until(lambda: plan_it(of_folder(folder)).position.generation != old)
    finally:
        running.kill()
        app.close()
    plan = plan_it(of_folder(folder))
    assert {each.first.generation for each in plan.files} == {plan.position.generation}
    assert len(list((folder / "rep" / "generations").iterdir())) == 2
    restore_it(of_folder(folder), plan, folder / "room" / "copy.db")
    assert rows_of(folder / "room" / "copy.db") == ROWS + 3


# How it fails: every fault is made


def test_a_missing_index_is_file_missing_for_us_and_for_litestream(folder: Path) -> None:
    db, target = of_folder(folder), folder / "room" / "copy.db"
    plan = plan_it(db)
    for path in segments_of(folder):
        if path.name.startswith("00000001_"):
            path.unlink()
    error = failing(lambda: plan_it(db))
    assert (error.reason, "WAL index 00000001" in error.message) == ("file_missing", True)
    assert failing(lambda: restore_it(db, plan, target)).reason == "file_missing"
    assert list(target.parent.iterdir()) == []


def test_a_missing_first_segment_is_file_missing_for_us_and_for_litestream(folder: Path) -> None:
    db, target = of_folder(folder), folder / "room" / "copy.db"
    plan = plan_it(db)
    headed = next(each for each in segments_of(folder) if each.name.endswith("_00000000.wal.lz4"))
    assert any(each.name[:9] == headed.name[:9] for each in segments_of(folder) if each != headed)
    headed.unlink()
    error = failing(lambda: plan_it(db))
    assert (error.reason, "lacks its first segment" in error.message) == ("file_missing", True)
    assert failing(lambda: restore_it(db, plan, target)).reason == "file_missing"


def test_a_segment_missing_inside_the_newest_index_is_seen_by_nobody(folder: Path) -> None:
    """Measured: 0.3.13 restores an older state and exits 0; only a comparison of content can tell.

    Where a later index follows, its pages land on that older state, and 0.3 says "malformed" (file_corrupt).
    """
    db, target = of_folder(folder), folder / "room" / "copy.db"
    by_index: dict[str, list[Path]] = {}
    for each in segments_of(folder):
        by_index.setdefault(each.name[:8], []).append(each)
    newest = max(index for index, found in by_index.items() if len(found) > 2)
    for each in segments_of(folder):
        if each.name[:8] > newest:
            each.unlink()
    by_index[newest][1].unlink()
    plan = plan_it(db)
    restore_it(db, plan, target)
    assert rows_of(target) < ROWS


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage", [_truncate, _flip, lambda path: path.write_bytes(b"x" * 500)], ids=["cut", "flip", "junk"]
)
@pytest.mark.parametrize("what", ["*.snapshot.lz4", "*.wal.lz4"])
def test_a_damaged_file_is_file_corrupt(folder: Path, what: str, damage: Callable[[Path], object]) -> None:
    db, target = of_folder(folder), folder / "room" / "copy.db"
    plan = plan_it(db)
    damage(max((folder / "rep").rglob(what), key=lambda each: each.stat().st_size))
    error = failing(lambda: restore_it(db, plan, target))
    assert error.reason == "file_corrupt", error.message
    assert list(target.parent.iterdir()) == []


def test_a_snapshot_that_retention_replaced_is_a_race(folder: Path) -> None:
    db, target = of_folder(folder), folder / "room" / "copy.db"
    plan = plan_it(db)
    generation = folder / "rep" / "generations" / plan.position.generation
    newer = generation.with_name("f" * 16)
    shutil.copytree(generation, newer)  # fresh times: the newer generation, with the older one taken away
    shutil.rmtree(generation)
    assert failing(lambda: restore_it(db, plan, target)).reason == "raced"


def test_a_full_scratch_disk_is_scratch_full(folder: Path) -> None:
    db, room = of_folder(folder), folder / "room"
    plan = plan_it(db)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(room)], check=True)
    try:
        error = failing(lambda: restore_it(db, plan, room / "copy.db"))
        assert list(room.iterdir()) == []
    finally:
        subprocess.run(["umount", str(room)], check=True)
    assert error.reason == "scratch_full", error.message


def test_a_file_where_the_replicas_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "rep").write_text("not a folder")
    assert failing(lambda: list_it(of_folder(tmp_path))).reason == "unreachable"


def test_a_broken_configuration_is_said_as_such(tmp_path: Path) -> None:
    db = of_folder(tmp_path)
    error = failing(lambda: list_it(replace(db, replica=replace(db.replica, config="{ broken"))))
    assert (error.reason, "does not accept its configuration" in error.message) == ("restore_failed", True)


# S3: the listing commands exit 0 whatever happens


def test_s3_lists_plans_and_restores(s3: S3, tmp_path: Path) -> None:
    plan = plan_it(of_s3(s3))
    restore_it(of_s3(s3), plan, tmp_path / "copy.db")
    assert rows_of(tmp_path / "copy.db") == ROWS


def test_s3_wrong_credentials_are_auth_although_litestream_exits_0(s3: S3) -> None:
    for call in (list_it, plan_it):
        error = failing(lambda call=call: call(of_s3(s3, secret="WRONGSECRET")))  # type: ignore[misc] # mypy cannot infer it
        assert error.reason == "auth", error.message
        assert "WRONGSECRET" not in error.message


def test_s3_wrong_bucket_wrong_path_and_refused_port(s3: S3) -> None:
    db = of_s3(s3)
    wrong = replace(db, replica=replace(db.replica, config=db.replica.config.replace("bkt", "nobucket")))
    assert failing(lambda: list_it(wrong)).reason == "no_backup"
    assert list_it(of_s3(s3, "elsewhere")) == ()
    began = time.monotonic()
    error = failing(lambda: list_it(of_s3(replace(s3, port=free_port()))))
    assert error.reason == "unreachable", error.message
    assert time.monotonic() - began < 5


def test_s3_a_silent_server_is_a_timeout(s3: S3) -> None:
    s3.pause()
    try:
        error = failing(lambda: reader().list_files(of_s3(s3), timeout_s=1, stop=NEVER))
    finally:
        s3.resume()
    assert error.reason == "timeout"


def test_s3_a_damaged_object_is_damaged_twice(s3: S3, tmp_path: Path) -> None:
    """Over a network 0.3 cannot tell a cut connection from a short file, so we let it try again."""
    store = s3.folder / "bkt"
    shutil.copytree(store / "app", store / "torn", copy_function=shutil.copy2)
    db = of_s3(s3, "torn")
    plan = plan_it(db)
    _truncate(max((store / "torn").rglob("*.wal.lz4"), key=lambda each: each.stat().st_size))
    error = failing(lambda: restore_it(db, plan, tmp_path / "copy.db"))
    assert error.reason == "file_corrupt", error.message
    assert list(tmp_path.iterdir()) == []


# Answers that are none


@pytest.mark.parametrize("kind", ["text", "json", "done", "words", "year"])
def test_an_answer_that_is_none_is_unknown(kind: str, tmp_path: Path) -> None:
    odd = LitestreamV3(str(STUBS / "odd"), "0.3.13", environment(ODD=kind))
    with pytest.raises(UnknownFailure) as caught:
        odd.list_files(of_folder(tmp_path), timeout_s=5, stop=NEVER)
    assert "SEKRET" not in caught.value.message


def test_exit_0_without_a_copy_is_no_restore(tmp_path: Path) -> None:
    odd = LitestreamV3(str(STUBS / "odd"), "0.3.13", environment(ODD="done"))
    plan = PlanV3(Position("0" * 16, 0, 0), 1, ())
    with pytest.raises(UnknownFailure, match="wrote nothing"):
        odd.restore(of_folder(tmp_path), plan, tmp_path / "copy.db", timeout_s=5, stop=NEVER, progress=quiet)
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - names are what is asked for
