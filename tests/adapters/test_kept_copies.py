"""Copies that are kept in scratch for the next drill: moved whole, found again, and gone when room is needed."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sidecar.adapters.kept_copies import FOLDER, KeptCopies
from sidecar.adapters.scratch import Scratch
from sidecar.core.errors import ScratchFull
from sidecar.core.forward import KeptCopy
from sidecar.core.model import Database, Position
from tests.core.evidences import database

APP = database()
OTHER = replace(APP, path="/data/other.db")
MOVED = replace(APP, replica=replace(APP.replica, label="s3://elsewhere/app"))
AT = Position.of_txid(42)
MB = 1_000_000


@pytest.fixture
def kept(tmp_path: Path) -> KeptCopies:
    (tmp_path / "scratch").mkdir(mode=0o700)
    return KeptCopies(tmp_path / "scratch")


def stands_at(kept: KeptCopies, whose: Database) -> Position | None:
    known = kept.known(whose)
    return known.position if known is not None else None


def copy_of(kept: KeptCopies, content: bytes = b"pages") -> Path:
    file = kept.scratch / "copy"
    file.write_bytes(content)
    return file


def test_a_copy_is_moved_there_and_back(kept: KeptCopies) -> None:
    assert stands_at(kept, APP) is None
    with pytest.raises(FileNotFoundError):
        kept.take(APP, kept.scratch / "out")
    copy = copy_of(kept)
    os.utime(copy, (1000, 1000))
    kept.put(APP, AT, copy)
    assert kept.known(APP) == KeptCopy(AT, datetime.fromtimestamp(1000, UTC))
    assert (stands_at(kept, APP), copy.exists()) == (AT, False)
    (file,) = (kept.scratch / FOLDER).iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600, "it is production's content"
    assert not file.suffix, "Litestream's `dir:` takes every *.db for a database to replicate"
    assert stands_at(KeptCopies(kept.scratch), APP) == AT, "a daemon that starts again finds it"
    assert kept.take(APP, kept.scratch / "out") == AT
    assert (kept.scratch / "out").read_bytes() == b"pages"
    assert stands_at(kept, APP) is None, "whatever happens to the drill, nothing half done lies here"


def test_a_newer_copy_takes_the_place_of_the_older(kept: KeptCopies) -> None:
    for txid in (42, 7, 99):  # 7: the replica was begun anew
        kept.put(APP, Position.of_txid(txid), copy_of(kept, str(txid).encode()))
        assert stands_at(kept, APP) == Position.of_txid(txid)
    kept.put(APP, Position.of_txid(99), copy_of(kept, b"again"))
    assert len(list((kept.scratch / FOLDER).iterdir())) == 1
    kept.take(APP, kept.scratch / "out")
    assert (kept.scratch / "out").read_bytes() == b"again"


def test_each_database_and_each_replica_has_its_own(kept: KeptCopies) -> None:
    kept.put(APP, AT, copy_of(kept))
    assert stands_at(kept, OTHER) is None
    assert stands_at(kept, MOVED) is None, "of another replica it says nothing"
    kept.put(OTHER, Position.of_txid(1), copy_of(kept))
    assert (stands_at(kept, APP), stands_at(kept, OTHER)) == (AT, Position.of_txid(1))


def test_what_no_database_is_drilled_with_goes(kept: KeptCopies) -> None:
    assert kept.only([APP]) == 0, "there is no folder yet"
    kept.put(APP, AT, copy_of(kept))
    kept.put(OTHER, AT, copy_of(kept))
    (kept.scratch / FOLDER / "what is this").touch()
    assert kept.only([APP]) == 2
    assert (stands_at(kept, APP), stands_at(kept, OTHER)) == (AT, None)
    assert kept.only([]) == 1


def test_it_counts_as_free_and_gives_way(kept: KeptCopies) -> None:
    scratch = Scratch(kept.scratch, 10 * MB, kept)
    empty = scratch.free_bytes()
    for age, each in ((20, OTHER), (10, APP)):
        kept.put(each, AT, copy_of(kept, os.urandom(4 * MB)))
        newest = max((kept.scratch / FOLDER).iterdir(), key=lambda file: file.stat().st_ctime_ns)
        os.utime(newest, (newest.stat().st_mtime - age,) * 2)
    assert kept.size_bytes() >= 8 * MB
    assert abs(scratch.free_bytes() - empty) < MB // 10
    with scratch.room(1 * MB):
        assert stands_at(kept, OTHER) == AT, "there is room for that beside it"
    with scratch.room(5 * MB):
        assert (stands_at(kept, OTHER), stands_at(kept, APP)) == (None, AT), "the oldest goes, and no more than needed"
    with scratch.room(9 * MB):
        assert stands_at(kept, APP) is None
    kept.put(APP, AT, copy_of(kept, os.urandom(4 * MB)))
    with pytest.raises(ScratchFull), scratch.room(11 * MB):
        pass
    assert stands_at(kept, APP) == AT, "it is not removed in vain"


def test_a_folder_that_is_none_keeps_nobody_from_drilling(kept: KeptCopies) -> None:
    (kept.scratch / FOLDER).touch()
    assert (stands_at(kept, APP), kept.size_bytes()) == (None, 0)
    with pytest.raises(FileExistsError):
        kept.put(APP, AT, copy_of(kept))
    with Scratch(kept.scratch, 10 * MB, kept).room(MB):
        pass
