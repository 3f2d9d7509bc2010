"""Litestream 0.5's commands against the real thing: what it lists, plans, restores, and how it fails."""

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
from functools import partial
from pathlib import Path

import pytest

from sidecar.adapters.litestream_binary import detect, find_binary, is_v3
from sidecar.adapters.litestream_v5 import LitestreamV5, PlanV5
from sidecar.core.errors import EnvironmentProblem, LitestreamError, Stopped
from sidecar.core.listing import digest, reduce
from sidecar.core.litestream_errors import UnknownFailure
from sidecar.core.model import Database, Position, Replica
from tests.litestreams import S3, App, Litestream, Writer, binary, binary_of, environment, free_port, rclone_s3, until

STUBS = Path(__file__).resolve().parent.parent / "stubs"
NEVER = threading.Event()
NOW = datetime(2026, 1, 1, tzinfo=UTC)
MAIN_TXIDS = 8


def quiet(stage: str, done: int, total: int | None) -> None:
    """No progress wanted."""
    del stage, done, total


def reader(**env: str) -> LitestreamV5:
    return LitestreamV5(binary(), "0.5.17", environment(**env), nice=5)


def database(path: Path, replica: str, *, kind: str = "file", endpoint: tuple[str, int] | None = None) -> Database:
    config = f"dbs:\n  - path: {path}\n    replica: {replica}\n"
    return Database("app", str(path), "", Replica(kind, "label", endpoint=endpoint, config=config))


def of_folder(folder: Path) -> Database:
    return database(folder / "app.db", f"{{type: file, path: {folder / 'rep'}}}")


def of_s3(server: S3, path: str = "app", **more: str) -> Database:
    block = server.replica(path, **more)
    return database(Path("/nonexistent/app.db"), block, kind="s3", endpoint=("127.0.0.1", server.port))


def replicate(folder: Path, replica: str, *, txids: int, settle: Callable[[], object] = lambda: True) -> None:
    """Let the real Litestream fill a replica: one transaction at a time, with compactions meanwhile."""
    config = folder / "litestream.yml"
    config.write_text(
        f"levels: [{{interval: 1s}}, {{interval: 2s}}]\nsnapshot: {{interval: 3s}}\nl0-retention: 1s\n"
        f"l0-retention-check-interval: 1s\ndbs:\n  - path: {folder / 'app.db'}\n    replica: {replica}\n"
    )
    app = App(folder / "app.db")
    litestream = Litestream(config).start()
    local = folder / ".app.db-litestream" / "ltx" / "0"

    def captured() -> int:
        return max((int(path.name[17:33], 16) for path in local.glob("*.ltx")), default=0)

    try:
        for _ in range(txids):
            before = captured()
            app.write(20, text=os.urandom(300).hex())
            until(lambda seen=before: captured() > seen, every=0.02)  # type: ignore[misc] # mypy cannot infer it
            threading.Event().wait(0.3)
        until(settle)
    finally:
        litestream.stop()
        app.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database and its file replica: several levels, snapshots, compactions."""
    folder = tmp_path_factory.mktemp("made")
    levels = folder / "rep" / "ltx"
    replicate(
        folder,
        f"{{type: file, path: {folder / 'rep'}, sync-interval: 100ms}}",
        txids=MAIN_TXIDS,
        settle=lambda: all(list(levels.glob(f"{level}/*.ltx")) for level in (0, 1, 2, 9)),
    )
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of it, to be broken."""
    shutil.copytree(made / "rep", tmp_path / "rep", copy_function=shutil.copy2)
    shutil.copy2(made / "app.db", tmp_path / "app.db")
    (tmp_path / "room").mkdir()
    return tmp_path


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    home = tmp_path_factory.mktemp("s3")
    with rclone_s3(home / "store") as server:
        replicate(home, server.replica(), txids=3, settle=lambda: list((home / "store").rglob("0009/*.ltx")))
        yield server


def newest_snapshot_first(folder: Path) -> list[Path]:
    return sorted((folder / "rep" / "ltx" / "9").glob("*.ltx"), reverse=True)


def failing(do: Callable[[], object]) -> LitestreamError:
    with pytest.raises(LitestreamError) as caught:
        do()
    return caught.value


# What it lists and plans


def test_the_listing_holds_every_file(folder: Path) -> None:
    files = reader().list_files(of_folder(folder), timeout_s=20, stop=NEVER)
    on_disk = {(int(p.parent.name), p.stem, p.stat().st_size) for p in (folder / "rep").rglob("*.ltx")}
    assert {(f.level, f"{f.first}-{f.last}", f.size_bytes) for f in files} == on_disk
    assert {0, 1, 9} <= {f.level for f in files}
    assert all(f.at.tzinfo is UTC and f.at.year >= 2026 for f in files)


def test_an_empty_replica_lists_nothing_and_cannot_be_planned(tmp_path: Path) -> None:
    assert reader().list_files(of_folder(tmp_path), timeout_s=20, stop=NEVER) == ()
    error = failing(lambda: reader().plan(of_folder(tmp_path), timeout_s=20, stop=NEVER))
    assert error.reason == "no_backup"
    assert "check the replica's path" in error.hint


def test_the_plan_is_what_litestream_would_do(folder: Path) -> None:
    plan = reader().plan(of_folder(folder), timeout_s=20, stop=NEVER)
    listing = reduce(reader().list_files(of_folder(folder), timeout_s=20, stop=NEVER), NOW)
    assert plan.position == listing.position == listing.reachable
    assert plan.files[0].level == 9
    assert plan.size_bytes == sum(each.size_bytes for each in plan.files)


def planned(db: Database) -> tuple[Position | None, str, str | None]:
    """What Litestream would restore, or why it would not, and from which files."""
    try:
        plan = reader().plan(db, timeout_s=20, stop=NEVER)
    except LitestreamError as error:
        return None, error.reason, None
    return plan.position, "", digest(plan.files)


def test_reduce_agrees_with_litestreams_plan_whatever_file_is_missing(folder: Path) -> None:
    """Each file of the replica is taken away in turn, then all of one level, then all that a restore can start from."""
    levels, db = folder / "rep" / "ltx", of_folder(folder)
    cases = [{path} for path in levels.rglob("*.ltx")] + [set(each.glob("*.ltx")) for each in levels.iterdir()]
    cases += [{*levels.glob("9/*.ltx"), *levels.glob("*/0000000000000001-*.ltx")}]
    cases += [{*levels.glob("9/*.ltx"), path} for path in levels.glob("[0-3]/*.ltx")]
    gaps = 0
    for taken in cases:
        for path in taken:
            path.rename(path.with_suffix(".taken"))
        listing = reduce(reader().list_files(db, timeout_s=20, stop=NEVER), NOW)
        if listing.gap is None:
            assert planned(db) == (listing.reachable, "", listing.plan_digest), taken
        else:
            gaps += 1
            assert planned(db) == (None, "file_missing" if listing.reachable else "no_backup", None), taken
        for path in taken:
            path.with_suffix(".taken").rename(path)
    assert gaps > 0


def test_overlapping_files_are_restored_without_a_word_and_so_are_told_by_us(folder: Path) -> None:
    """Two Litestreams on one path, or a folder set back to an older copy, leave such files."""
    db, level_1 = of_folder(folder), folder / "rep" / "ltx" / "1"
    for path in (folder / "rep" / "ltx" / "2").glob("*.ltx"):
        shutil.copy2(path, level_1)
    listing = reduce(reader().list_files(db, timeout_s=20, stop=NEVER), NOW)
    assert listing.overlap is not None
    assert "level-1 files overlap" in listing.overlap
    for each in newest_snapshot_first(folder):
        each.unlink()
    plan = reader().plan(db, timeout_s=20, stop=NEVER)
    reader().restore(db, plan, folder / "room" / "copy.db", timeout_s=20, stop=NEVER, progress=quiet)


# What it restores


def test_a_restore_brings_the_plans_position_and_nothing_else(folder: Path) -> None:
    db, target = of_folder(folder), folder / "room" / "copy.db"
    seen: list[tuple[str, int, int | None]] = []
    plan = reader().plan(db, timeout_s=20, stop=NEVER)
    reader().restore(
        db,
        plan,
        target,
        timeout_s=20,
        stop=NEVER,
        progress=lambda stage, done, total: seen.append((stage, done, total)),
    )
    with sqlite3.connect(f"file:{target}?immutable=1", uri=True) as copy:
        assert copy.execute("select count(*) from t").fetchone() == (MAIN_TXIDS * 20,)
    copy.close()
    assert [each.name for each in target.parent.iterdir()] == ["copy.db"]
    assert seen[-1] == ("restore", target.stat().st_size, target.stat().st_size)


def test_an_older_position_is_restored_when_the_plan_says_so(folder: Path) -> None:
    db, target = of_folder(folder), folder / "room" / "copy.db"
    plan = reader().plan(db, timeout_s=20, stop=NEVER)
    snapshot = plan.files[0]
    older = PlanV5(snapshot.last, snapshot.size_bytes, (snapshot,))
    reader().restore(db, older, target, timeout_s=20, stop=NEVER, progress=quiet)
    with sqlite3.connect(f"file:{target}?immutable=1", uri=True) as copy:
        rows = copy.execute("select count(*) from t").fetchone()[0]
    copy.close()
    assert rows <= MAIN_TXIDS * 20


def retention(folder: Path) -> None:
    """Remove every file whose transactions are all in a larger one that is no snapshot, as Litestream does in time."""

    def span(file: Path) -> set[int]:
        return set(range(int(file.name[:16], 16), int(file.name[17:33], 16) + 1))

    files = [each for each in (folder / "rep" / "ltx").rglob("*.ltx") if each.parent.name != "9"]
    for each in files:
        if any(span(each) < span(other) for other in files):
            each.unlink()


def planned_at(folder: Path, txid: int) -> PlanV5 | None:
    """The plan, None where there is no way to that position; any other failure is a failure."""
    try:
        return reader().plan_at(of_folder(folder), Position.of_txid(txid), timeout_s=10, stop=NEVER)
    except LitestreamError as error:
        if error.reason in {"no_backup", "file_missing"} and f"{txid:016x}" in error.message:
            return None
        raise


def test_a_position_can_be_planned_exactly_when_it_can_be_restored(folder: Path) -> None:
    """What compaction merged away is said to be gone, and nothing is quietly replaced by an older state."""
    retention(folder)
    rows: dict[int, int | None] = {}
    for txid in range(1, MAIN_TXIDS + 3):
        target = folder / "room" / f"{txid}.db"
        plan = planned_at(folder, txid)
        if plan is None:
            command = [binary(), "restore", "-txid", f"{txid:016x}", "-o", str(target), f"file://{folder / 'rep'}"]
            assert subprocess.run(command, check=False, capture_output=True).returncode != 0
            rows[txid] = None
            continue
        assert plan.position == Position.of_txid(txid)
        reader().restore(of_folder(folder), plan, target, timeout_s=10, stop=NEVER, progress=quiet)
        connection = sqlite3.connect(f"file:{target}?immutable=1", uri=True)
        rows[txid] = connection.execute("select count(*) from t").fetchone()[0]
        connection.close()
    assert rows[MAIN_TXIDS + 2] is None  # past the end
    assert None in list(rows.values())[1 : MAIN_TXIDS - 1]  # merged
    known = [each for each in rows.values() if each is not None]
    assert known == sorted(known)
    assert len(known) >= 2


def test_a_position_of_0_3_means_nothing_to_0_5(folder: Path) -> None:
    old = Position("5cd8f7d600cfdc59", 1, 32)
    error = failing(lambda: reader().plan_at(of_folder(folder), old, timeout_s=10, stop=NEVER))
    assert error.reason == "no_backup"


def test_a_stale_wal_beside_the_target_is_removed_before(folder: Path) -> None:
    """Facts, case h2: SQLite would replay it into the fresh copy, with every check still ok."""
    db, target = of_folder(folder), folder / "room" / "copy.db"
    stale = sqlite3.connect(target)
    stale.execute("pragma journal_mode=wal")
    stale.execute("create table stale (v)")
    stale.commit()
    for suffix in ("-wal", "-shm"):
        shutil.copy(f"{target}{suffix}", folder / f"kept{suffix}")
    stale.close()
    target.unlink()
    for suffix in ("-wal", "-shm"):
        shutil.copy(folder / f"kept{suffix}", f"{target}{suffix}")
    for suffix in ("-journal", ".tmp", ".tmp-wal"):
        Path(f"{target}{suffix}").write_text("stale")
    reader().restore(db, reader().plan(db, timeout_s=20, stop=NEVER), target, timeout_s=20, stop=NEVER, progress=quiet)
    assert [each.name for each in target.parent.iterdir()] == ["copy.db"]


def test_an_existing_target_is_refused_and_its_wal_left_alone(folder: Path) -> None:
    db, target = of_folder(folder), folder / "room" / "copy.db"
    target.write_text("somebody's")
    Path(f"{target}-wal").write_text("somebody's too")
    plan = reader().plan(db, timeout_s=20, stop=NEVER)
    error = failing(lambda: reader().restore(db, plan, target, timeout_s=20, stop=NEVER, progress=quiet))
    assert "exists already" in error.message
    assert Path(f"{target}-wal").read_text() == "somebody's too"


# How it fails: every fault is made


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def _flip_header(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 0x10
    path.write_bytes(content)


def _flip_trailer(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 0x10
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [_truncate, _flip, _flip_header, _flip_trailer, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"x" * 5000)],
    ids=["truncated", "bit-flipped", "header", "trailer", "empty", "garbage"],
)  # fmt: skip
def test_a_damaged_file_is_file_corrupt(folder: Path, damage: Callable[[Path], object]) -> None:
    db, target = of_folder(folder), folder / "room" / "copy.db"
    damage(newest_snapshot_first(folder)[0])
    plan = reader().plan(db, timeout_s=20, stop=NEVER)
    error = failing(lambda: reader().restore(db, plan, target, timeout_s=20, stop=NEVER, progress=quiet))
    assert error.reason == "file_corrupt", error.message
    assert "Litestream says" in error.message
    assert list(target.parent.iterdir()) == []


def test_a_gap_is_file_missing(folder: Path) -> None:
    db = of_folder(folder)
    plan = reader().plan(db, timeout_s=20, stop=NEVER)
    last = plan.position.index
    for path in (folder / "rep").rglob("*.ltx"):
        first, end = (int(each, 16) for each in path.stem.split("-"))
        if path.parent.name == "9" or first <= last - 1 <= end:
            path.unlink()
    error = failing(lambda: reader().plan(db, timeout_s=20, stop=NEVER))
    assert error.reason == "file_missing"
    assert "non-contiguous" in error.message


def test_files_that_vanish_between_plan_and_restore_are_a_race(folder: Path) -> None:
    db, target = of_folder(folder), folder / "room" / "copy.db"
    plan = reader().plan(db, timeout_s=20, stop=NEVER)
    gone = replace(plan, position=Position.of_txid(plan.position.index + 5))
    error = failing(lambda: reader().restore(db, gone, target, timeout_s=20, stop=NEVER, progress=quiet))
    assert error.reason == "no_backup"  # a fresh plan reads the same files: nothing was replaced meanwhile
    for path in folder.glob(f"rep/ltx/*/*-{plan.position}.ltx"):
        path.unlink()
    error = failing(lambda: reader().restore(db, plan, target, timeout_s=20, stop=NEVER, progress=quiet))
    assert error.reason == "raced", error.message


def test_everything_vanished_is_not_a_race(folder: Path) -> None:
    db, target = of_folder(folder), folder / "room" / "copy.db"
    plan = reader().plan(db, timeout_s=20, stop=NEVER)
    shutil.rmtree(folder / "rep")
    error = failing(lambda: reader().restore(db, plan, target, timeout_s=20, stop=NEVER, progress=quiet))
    assert error.reason == "no_backup"


def test_a_full_scratch_disk_is_scratch_full(folder: Path) -> None:
    db, room = of_folder(folder), folder / "room"
    plan = reader().plan(db, timeout_s=20, stop=NEVER)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(room)], check=True)
    try:
        error = failing(lambda: reader().restore(db, plan, room / "c.db", timeout_s=20, stop=NEVER, progress=quiet))
        assert list(room.iterdir()) == []
    finally:
        subprocess.run(["umount", str(room)], check=True)
    assert error.reason == "scratch_full"


def test_an_older_litestream_than_the_writer_proves_nothing(folder: Path) -> None:
    older = LitestreamV5(binary_of("0.5.5"), "0.5.5", environment())
    plan = reader().plan(of_folder(folder), timeout_s=20, stop=NEVER)
    error = failing(lambda: older.list_files(of_folder(folder), timeout_s=20, stop=NEVER))
    assert error.reason == "restore_failed"  # flag provided but not defined
    text = subprocess.run(
        [binary_of("0.5.5"), "restore", "-config", "/dev/stdin", "-txid", str(plan.position), "-o",
         str(folder / "room" / "c.db"), str(folder / "app.db")],
        input=of_folder(folder).replica.config.encode(), env=environment(), capture_output=True, check=False,
    )  # fmt: skip
    assert b"no flags allowed, reserved for future use" in text.stdout + text.stderr


def test_a_file_where_the_replicas_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "rep").write_text("not a folder")
    error = failing(lambda: reader().list_files(of_folder(tmp_path), timeout_s=20, stop=NEVER))
    assert error.reason == "unreachable"


def test_a_wrong_configuration_is_said_as_such(tmp_path: Path) -> None:
    wrong = database(tmp_path / "app.db", "{type: floppy, path: /x}")
    error = failing(lambda: reader().list_files(wrong, timeout_s=20, stop=NEVER))
    assert (error.reason, "does not accept its configuration" in error.message) == ("restore_failed", True)


# S3


def test_s3_lists_plans_and_restores(s3: S3, tmp_path: Path) -> None:
    db = of_s3(s3)
    plan = reader(AWS_CA_BUNDLE="/nonexistent").plan(db, timeout_s=20, stop=NEVER)
    listing = reduce(reader().list_files(db, timeout_s=20, stop=NEVER), NOW)
    assert (listing.reachable, listing.plan_digest) == (plan.position, digest(plan.files))
    reader().restore(db, plan, tmp_path / "copy.db", timeout_s=20, stop=NEVER, progress=quiet)
    assert (tmp_path / "copy.db").stat().st_size > 4096


def test_s3_wrong_credentials_are_auth_and_never_shown(s3: S3) -> None:
    for call in (reader().list_files, reader().plan):
        error = failing(partial(call, of_s3(s3, secret="WRONGSECRET"), timeout_s=20, stop=NEVER))
        assert error.reason == "auth", error.message
        assert "SignatureDoesNotMatch" in error.message
        assert not {"WRONGSECRET", s3.key} & set(error.message.replace("'", " ").split())


def test_s3_wrong_path_is_empty(s3: S3) -> None:
    assert reader().list_files(of_s3(s3, "elsewhere"), timeout_s=20, stop=NEVER) == ()


def test_s3_wrong_bucket_is_no_backup(s3: S3) -> None:
    db = of_s3(s3)
    wrong = replace(db, replica=replace(db.replica, config=db.replica.config.replace("bkt", "nobucket")))
    error = failing(lambda: reader().list_files(wrong, timeout_s=20, stop=NEVER))
    assert (error.reason, "bucket does not exist" in error.message) == ("no_backup", True)


def test_s3_a_refused_port_is_said_within_seconds_not_minutes(s3: S3) -> None:
    dead = replace(s3, port=free_port())
    began = time.monotonic()
    error = failing(lambda: reader().list_files(of_s3(dead), timeout_s=60, stop=NEVER))
    assert error.reason == "unreachable"
    assert "Connection refused" in error.message
    assert time.monotonic() - began < 5


def test_s3_a_name_that_does_not_resolve_is_unreachable(s3: S3) -> None:
    config = of_s3(s3).replica.config.replace("127.0.0.1", "store.invalid")
    db = of_s3(s3)
    lost = replace(db, replica=replace(db.replica, config=config, endpoint=("store.invalid", 80)))
    assert failing(lambda: reader().list_files(lost, timeout_s=60, stop=NEVER)).reason == "unreachable"


def test_s3_a_refused_port_at_the_deadline_is_unreachable_too(s3: S3) -> None:
    dead = replace(s3, port=free_port())
    assert failing(lambda: reader().list_files(of_s3(dead), timeout_s=0.6, stop=NEVER)).reason == "unreachable"


def test_s3_a_silent_server_is_a_timeout(s3: S3) -> None:
    s3.pause()
    try:
        error = failing(lambda: reader().list_files(of_s3(s3), timeout_s=1.5, stop=NEVER))
    finally:
        s3.resume()
    assert error.reason == "timeout"


def test_s3_an_object_gone_after_the_plan(s3: S3, tmp_path: Path) -> None:
    """Taken away while the restore reads: the newest file of all, so that a fresh plan reads something else."""
    store = s3.folder / "bkt" / "gone"
    shutil.copytree(s3.folder / "bkt" / "app", store, copy_function=shutil.copy2)
    db = of_s3(s3, "gone")
    plan = reader().plan(db, timeout_s=20, stop=NEVER)
    for each in store.rglob(f"*-{plan.position}.ltx"):
        each.unlink()
    error = failing(lambda: reader().restore(db, plan, tmp_path / "c.db", timeout_s=20, stop=NEVER, progress=quiet))
    assert error.reason in {"raced", "no_backup"}, error.message


# Being told to stop, and answers that are none


def test_stop_during_a_restore_leaves_an_empty_room_and_no_child(tmp_path: Path) -> None:
    """The server answers the plan and then hangs: a restore that would never end."""
    with rclone_s3(tmp_path / "store") as server:
        replicate(tmp_path, server.replica(), txids=1, settle=lambda: list(tmp_path.rglob("0000/*.ltx")))
        db, stop, room = of_s3(server), threading.Event(), tmp_path / "room"
        room.mkdir()
        plan = reader().plan(db, timeout_s=20, stop=NEVER)
        server.pause()
        threading.Timer(0.5, stop.set).start()
        began = time.monotonic()
        with pytest.raises(Stopped):
            reader().restore(db, plan, room / "copy.db", timeout_s=60, stop=stop, progress=quiet)
        assert time.monotonic() - began < 3
        server.resume()
    assert list(room.iterdir()) == []
    assert not _working_in(room)


def test_stop_while_bytes_flow_leaves_an_empty_room_and_no_child(tmp_path: Path) -> None:
    """Stopped at the first progress: the partial copy is removed."""
    home = tmp_path / "home"
    home.mkdir()
    app = App(home / "app.db")
    for _ in range(2):
        app.write(1000, text=os.urandom(8000).hex())
    app.close()
    replicate(home, f"{{type: file, path: {home / 'rep'}}}", txids=1, settle=lambda: list(home.glob("rep/ltx/9/*.ltx")))
    stop, room = threading.Event(), tmp_path / "room"
    room.mkdir()
    seen: list[int] = []

    def progress(stage: str, done: int, total: int | None) -> None:
        assert (stage, total) == ("restore", None)
        seen.append(done)
        if done:
            stop.set()

    plan = reader().plan(of_folder(home), timeout_s=20, stop=NEVER)
    with pytest.raises(Stopped):
        reader().restore(of_folder(home), plan, room / "copy.db", timeout_s=60, stop=stop, progress=progress)
    assert seen[-1] > 0
    assert list(room.iterdir()) == []
    assert not _working_in(room)


def _working_in(room: Path) -> list[str]:
    found = []
    for each in Path("/proc").glob("[0-9]*/cwd"):
        try:
            found += [str(each)] if each.readlink() == room else []
        except OSError:
            continue
    return found


def stub(**env: str) -> LitestreamV5:
    return LitestreamV5(str(STUBS / "odd"), "0.5.17", environment(**env))


@pytest.mark.parametrize("kind", ["text", "json", "deep", "time", "number"])
def test_an_answer_that_is_none_is_unknown(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownFailure, match=r"not what 0\.5 answers"):
        stub(ODD=kind).list_files(of_folder(tmp_path), timeout_s=5, stop=NEVER)


def test_unknown_words_are_unknown_and_masked(tmp_path: Path) -> None:
    with pytest.raises(UnknownFailure, match="flux capacitor") as caught:
        stub(ODD="words").plan(of_folder(tmp_path), timeout_s=5, stop=NEVER)
    assert caught.value.reason == "restore_failed"
    assert "SEKRET" not in caught.value.message


def test_a_killed_litestream_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(UnknownFailure, match="signal 9") as caught:
        stub(ODD="killed").list_files(of_folder(tmp_path), timeout_s=5, stop=NEVER)
    assert "memory" in caught.value.hint


def test_exit_0_without_a_copy_is_no_restore(tmp_path: Path) -> None:
    plan = PlanV5(Position.of_txid(1), 1, ())
    with pytest.raises(UnknownFailure, match="wrote nothing"):
        stub(ODD="done").restore(
            of_folder(tmp_path), plan, tmp_path / "copy.db", timeout_s=5, stop=NEVER, progress=quiet
        )


def test_a_vanished_binary_is_a_litestream_error(tmp_path: Path) -> None:
    gone = LitestreamV5(str(tmp_path / "gone"), "0.5.17", environment())
    with pytest.raises(UnknownFailure, match="cannot start"):
        gone.list_files(of_folder(tmp_path), timeout_s=5, stop=NEVER)


# The binary


def test_the_binary_is_found_and_says_its_version() -> None:
    assert Path(find_binary("litestream")).samefile(binary())
    assert detect(find_binary(binary()), environment()) == "0.5.17"
    assert detect(binary_of("0.3.13"), environment()) == "0.3.13"
    assert (is_v3("0.3.13"), is_v3("0.5.17")) == (True, False)


def test_a_binary_too_old_is_refused_with_the_minimum() -> None:
    with pytest.raises(EnvironmentProblem, match=r"is Litestream 0\.5\.5; the sidecar needs 0\.5\.12") as caught:
        detect(binary_of("0.5.5"), environment())
    assert "newer" in caught.value.hint


def test_missing_unusable_and_foreign_binaries_are_refused(tmp_path: Path) -> None:
    plain = tmp_path / "litestream"
    plain.write_text("#!/bin/sh\n")
    for name, said in (("nosuchprogram", "on PATH"), (str(tmp_path / "none"), "no Litestream at")):
        with pytest.raises(EnvironmentProblem, match=said):
            find_binary(name)
    with pytest.raises(EnvironmentProblem, match="may not be executed"):
        find_binary(str(plain))
    with pytest.raises(EnvironmentProblem, match="is it Litestream"):
        detect(str(STUBS / "odd"), environment(ODD="text"))
    with pytest.raises(EnvironmentProblem, match="cannot start"):
        detect(str(plain), environment())


def test_under_load_a_plan_made_once_can_be_restored(tmp_path: Path) -> None:
    """Retention and compaction run while plans are carried out: each ends well, or as a race that a fresh plan ends."""
    config = tmp_path / "litestream.yml"
    config.write_text(
        f"levels: [{{interval: 1s}}]\nsnapshot: {{interval: 1s, retention: 2s}}\nl0-retention: 1s\n"
        f"l0-retention-check-interval: 1s\ndbs:\n  - path: {tmp_path / 'app.db'}\n"
        f"    replica: {{type: file, path: {tmp_path / 'rep'}, sync-interval: 50ms}}\n"
    )
    app, db = App(tmp_path / "app.db"), of_folder(tmp_path)
    running = Litestream(config).start()
    ends: list[str] = []
    try:
        until(lambda: list((tmp_path / "rep").rglob("9/*.ltx")))
        with Writer(app):
            end = time.monotonic() + 2.5
            while time.monotonic() < end:
                target = tmp_path / f"copy{len(ends)}.db"
                plan = reader().plan(db, timeout_s=20, stop=NEVER)
                try:
                    reader().restore(db, plan, target, timeout_s=20, stop=NEVER, progress=quiet)
                    ends.append("restored")
                except LitestreamError as error:
                    ends.append(error.reason)
    finally:
        running.stop()
        app.close()
    assert set(ends) <= {"restored", "raced"}, ends
    assert ends.count("restored") > 3
