"""Lists of changed pages, gathered from files that the real Litestream writes and takes away, and from folders made by hand."""

from __future__ import annotations

import os
import shutil
import struct
import threading
from array import array
from dataclasses import replace
from pathlib import Path

from sidecar.adapters.local_changes import STRETCHES_MAX, LocalChanges
from sidecar.core.changes import Bounds, Changes
from sidecar.core.ltx import HEADER_BYTES
from sidecar.core.model import Database, Position, Replica
from sidecar.core.wal import FRAME_HEADER_BYTES, WAL_HEADER_BYTES
from tests.litestreams import until
from tests.ltx_writer import LtxFile, decode, encode
from tests.parity_stage import V3, Scene, playing

PAGE = 512
FRAME = FRAME_HEADER_BYTES + PAGE
GENERATION = "0123456789abcdef"


def database(folder: Path) -> Database:
    return Database("app", str(folder / "app.db"), str(folder / "meta"), Replica("file", "file"))


def listed(changes: Changes) -> list[tuple[int, int, list[int] | None]]:
    return [
        (each.after.index, each.upto.index, None if each.pages is None else list(each.pages)) for each in changes.all
    ]


# Level-0 files


def level0(folder: Path, first: int, last: int, *pages: int, page_count: int = 100) -> Path:
    """A sound file with these pages, put into Litestream's folder."""
    head = struct.pack(
        ">4sIIIQQqQqq8s",
        b"LTX1",
        2,
        PAGE,
        page_count,
        first,
        last,
        1_795_440_536_846,
        0,
        32,
        FRAME * len(pages),
        b"saltsalt",
    )
    file = LtxFile(head.ljust(HEADER_BYTES, b"\0"), {page: bytes([page % 256]) * PAGE for page in pages})
    path = folder / "meta" / "ltx" / "0" / f"{first:016x}-{last:016x}.ltx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(file))
    return path


def test_it_begins_at_the_newest_and_follows(tmp_path: Path) -> None:
    for txid in (1, 2, 3):
        level0(tmp_path, txid, txid, txid, 50)
    log = LocalChanges(database(tmp_path))
    assert listed(log.gather()) == [(2, 3, [3, 50])]
    level0(tmp_path, 4, 6, 7)
    level0(tmp_path, 7, 7, 1, 2)
    assert listed(log.gather()) == [(2, 3, [3, 50]), (3, 6, [7]), (6, 7, [1, 2])]


def test_what_was_gathered_stays_when_its_file_is_gone(tmp_path: Path) -> None:
    log = LocalChanges(database(tmp_path))
    for txid in (1, 2, 3):
        path = level0(tmp_path, txid, txid, txid)
        log.gather()
        path.unlink()
    found = log.gather()
    assert listed(found) == [(0, 1, [1]), (1, 2, [2]), (2, 3, [3])]
    between = found.between(Bounds.at(Position.of_txid(0)), Bounds.at(Position.of_txid(3)))
    assert between == found.all


def test_it_goes_back_as_far_as_it_is_asked_to(tmp_path: Path) -> None:
    for txid in range(1, 8):
        level0(tmp_path, txid, txid, txid)
    log = LocalChanges(database(tmp_path))
    log.gather()
    assert [each[1] for each in listed(log.gather(since=Position.of_txid(4)))] == [5, 6, 7]
    assert [each[1] for each in listed(log.gather(since=Position.of_txid(0)))] == [1, 2, 3, 4, 5, 6, 7]


def test_a_header_says_where_in_the_wal_it_stands(tmp_path: Path) -> None:
    level0(tmp_path, 5, 6, 3, 9, page_count=77)
    (found,) = LocalChanges(database(tmp_path)).gather().all
    assert (found.after, found.upto) == (Position.of_txid(4), Position.of_txid(6))
    assert (found.salts, found.wal_start, found.wal_end) == (b"saltsalt", 32, 32 + 2 * FRAME)
    assert (found.page_size, found.page_count, found.limit_frame()) == (PAGE, 77, 2)


def test_foreign_temporary_and_damaged_files_are_not_listed(tmp_path: Path) -> None:
    whole = level0(tmp_path, 1, 1, 5)
    data, folder = whole.read_bytes(), whole.parent
    (folder / "0000000000000002-0000000000000002.ltx.tmp").write_bytes(data)
    (folder / "notes.txt").write_bytes(data)
    tail = data[-24:-16]
    for txid, broken in enumerate(
        (
            b"",
            data[:50],
            data[:HEADER_BYTES],
            b"XXXX" + data[4:],
            data.replace(tail, b"\xff" * 8),
            data[:-40] + data[-24:],
        ),
        2,
    ):
        (folder / f"{txid:016x}-{txid:016x}.ltx").write_bytes(broken)
    (folder / "000000000000000a-000000000000000a.ltx").mkdir()
    found = LocalChanges(database(tmp_path)).gather(since=Position.of_txid(0))
    assert 1 in [each.upto.index for each in found.all]
    assert [each.upto.index for each in found.all if each.upto.index in {2, 3, 5, 6, 10}] == []


def test_beyond_its_limit_everything_may_have_changed(tmp_path: Path) -> None:
    for txid in range(1, 4):
        level0(tmp_path, txid, txid, 1, 2, 3)
    log = LocalChanges(database(tmp_path), listed_max=7)
    assert listed(log.gather(since=Position.of_txid(0))) == [(0, 1, [1, 2, 3]), (1, 2, [1, 2, 3]), (2, 3, None)]


def test_a_full_copy_is_said_to_hold_everything(tmp_path: Path) -> None:
    level0(tmp_path, 1, 1, *range(1, 101), page_count=100)
    assert listed(LocalChanges(database(tmp_path)).gather()) == [(0, 1, None)]


def test_no_folder_is_no_list_and_no_error(tmp_path: Path) -> None:
    log = LocalChanges(database(tmp_path))
    assert log.gather() == Changes()
    (tmp_path / "meta").write_text("a file")
    assert log.gather(since=Position.of_txid(3)) == Changes()
    (tmp_path / "meta").unlink()
    level0(tmp_path, 1, 1, 4)
    assert listed(log.gather()) == [(0, 1, [4])]
    shutil.rmtree(tmp_path / "meta")
    assert listed(log.gather()) == [(0, 1, [4])]


def test_of_the_real_litestream_every_page_of_every_file(tmp_path: Path) -> None:
    with playing(tmp_path, rows=2000) as scene:
        log = LocalChanges(scene.database)
        log.gather(since=Position.of_txid(0))
        scene.app.go("small", pause=0.01)
        until(lambda: len(log.gather().all) > 5, say="files appear")
        scene.app.rest()
        scene.synced()
        found = log.gather()
        files = [decode(path.read_bytes()) for path in scene.level0()]
    assert [each.upto.index for each in found.all] == [each.told.last_txid for each in files]
    for change, file in zip(found.all, files, strict=True):
        full = len(file.pages) == file.told.page_count
        assert change.pages is None if full else change.pages == array("I", file.pages)
        assert (change.salts, change.wal_end, change.page_count) == (
            file.told.salts,
            file.told.wal_end,
            file.told.page_count,
        )
    ends = Bounds.at(found.all[0].after), Bounds.at(found.all[-1].upto)
    assert found.between(*ends) == found.all


# Litestream 0.3's shadow


def shadow(folder: Path, index: int, *commits: tuple[int, ...], generation: str = GENERATION) -> Path:
    """A shadow WAL file of these transactions; what is in the frames does not matter. A last commit of () is one under way."""
    meta = folder / "meta"
    wal = meta / "generations" / generation / "wal"
    wal.mkdir(parents=True, exist_ok=True)
    (meta / "generation").write_text(f"{generation}\n")
    data = struct.pack(">IIII8s", 0x377F0682, 3007000, PAGE, index, f"salts{index:03}".encode()).ljust(
        WAL_HEADER_BYTES, b"\0"
    )
    for pages in commits:
        for place, page in enumerate(pages, 1):
            count = 40 + index if place == len(pages) else 0
            data += struct.pack(">II", page, count).ljust(FRAME_HEADER_BYTES, b"\0") + bytes(PAGE)
    path = wal / f"{index:08x}.wal"
    path.write_bytes(data)
    return path


def at(index: int, frames: int, generation: str = GENERATION) -> Position:
    return Position(generation, index, WAL_HEADER_BYTES + frames * FRAME)


def test_a_shadow_grows_and_is_read_to_its_last_commit(tmp_path: Path) -> None:
    log = LocalChanges(database(tmp_path))
    path = shadow(tmp_path, 3, (1, 2), (2,))
    found = log.gather()
    assert [(each.after, each.upto, list(each.pages or ())) for each in found.all] == [
        (at(3, 0), at(3, 2), [1, 2]),
        (at(3, 2), at(3, 3), [2]),
    ]
    assert found.growing == at(3, 3)
    path = shadow(tmp_path, 3, (1, 2), (2,), (7, 9), (5,))
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    found = log.gather()
    assert [(each.upto, list(each.pages or ())) for each in found.all[2:]] == [(at(3, 5), [7, 9])]
    assert found.growing == at(3, 5), "the last frame is not whole"
    path.write_bytes(whole)
    assert log.gather().growing == at(3, 6)
    assert log.gather().all[-1].page_count == 43
    assert log.gather() == log.gather()


def test_many_transactions_are_listed_together_and_none_is_left_out(tmp_path: Path) -> None:
    commits = [(number + 1, number + 2) for number in range(STRETCHES_MAX * 3 + 5)]
    shadow(tmp_path, 0, *commits)
    found = LocalChanges(database(tmp_path)).gather()
    assert STRETCHES_MAX // 2 < len(found.all) <= STRETCHES_MAX
    assert found.between(Bounds.at(at(0, 0)), Bounds.at(at(0, 2 * len(commits)))) == found.all
    for number, pages in enumerate(commits):
        between = found.between(Bounds.at(at(0, 2 * number)), Bounds.at(at(0, 2 * number + 2)))
        assert between is not None
        assert set(pages) <= {page for each in between for page in each.pages or ()}


def test_a_shadow_that_ended_leads_to_the_next_also_when_it_is_gone(tmp_path: Path) -> None:
    log = LocalChanges(database(tmp_path))
    first = shadow(tmp_path, 3, (1, 2))
    log.gather()
    shadow(tmp_path, 3, (1, 2), (8,))
    shadow(tmp_path, 4)
    found = log.gather()
    assert [(each.after, each.upto) for each in found.all] == [(at(3, 0), at(3, 2)), (at(3, 2), at(4, 0))]
    assert found.growing == at(4, 0), "begun, and nothing in it yet"
    first.unlink()
    shadow(tmp_path, 4, (6,))
    found = log.gather()
    assert found.between(Bounds.at(at(3, 0)), Bounds.at(at(4, 1))) == found.all
    assert found.growing == at(4, 1)


def test_a_shadow_that_went_before_its_end_was_read_leaves_a_gap(tmp_path: Path) -> None:
    log = LocalChanges(database(tmp_path))
    shadow(tmp_path, 3, (1, 2))
    log.gather()
    shadow(tmp_path, 3, (1, 2), (8,)).unlink()
    shadow(tmp_path, 4, (6,))
    found = log.gather()
    assert found.between(Bounds.at(at(3, 2)), Bounds.at(at(4, 1))) is None
    assert found.between(Bounds.at(at(3, 0)), Bounds.at(at(3, 2))) is not None
    assert found.growing == at(4, 1)


def test_another_generation_is_another_history(tmp_path: Path) -> None:
    log = LocalChanges(database(tmp_path))
    shadow(tmp_path, 0, (1, 2), generation="f" * 16)
    log.gather()
    shadow(tmp_path, 0, (1, 2), generation=GENERATION)
    found = log.gather()
    assert found.between(Bounds.at(at(0, 2, "f" * 16)), Bounds.at(at(0, 2))) is None
    assert found.growing == at(0, 2)


def test_a_shadow_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    log = LocalChanges(database(tmp_path))
    path = shadow(tmp_path, 3, (1, 2))
    assert log.gather().growing == at(3, 2)
    path.write_bytes(b"no WAL")
    assert log.gather().growing is None
    shutil.rmtree(tmp_path / "meta")
    assert (log.gather().growing, len(log.gather().all)) == (None, 1)


def test_of_the_real_litestream_03_every_frame_of_the_wal(tmp_path: Path) -> None:
    with playing(tmp_path, version=V3, rows=100) as scene:
        log = LocalChanges(scene.database)
        log.gather()
        for _ in range(4):
            scene.app.write(30)
            threading.Event().wait(0.5)
            log.gather()
        scene.synced()
        found = log.gather()
        frames = frames_of(scene)
    pages = {page for each in found.all for page in each.pages or ()}
    assert len(found.all) > 1
    assert pages == {page for page, _ in frames}
    assert found.all[-1].limit_frame() == len(frames) == (found.growing or at(0, 0)).offset // (4096 + 24)


def frames_of(scene: Scene) -> list[tuple[int, int]]:
    """Read in the test's process only after the app has gone, which keeps its WAL because Litestream has it open."""
    descriptor = os.open(f"{scene.app.path}-wal", os.O_RDONLY)
    data = os.pread(descriptor, 1 << 24, WAL_HEADER_BYTES)
    os.close(descriptor)
    size = 4096 + FRAME_HEADER_BYTES
    return [struct.unpack_from(">II", data, place) for place in range(0, len(data) - size + 1, size)]


def test_what_the_app_wrote_is_what_the_encoder_reads(tmp_path: Path) -> None:
    """The encoder's own proof: a file in, the same pages out, also with one lost."""
    with playing(tmp_path) as scene:
        file = decode(scene.level0()[0].read_bytes())
        again = decode(encode(file))
        assert again == file
        lost = decode(encode(file.without(2)))
        assert lost == replace(file, pages={page: data for page, data in file.pages.items() if page != 2})
