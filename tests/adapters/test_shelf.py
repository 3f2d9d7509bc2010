"""The shelf keeps rollback artifacts within its bounds, and never gives up what may be the only way back."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.adapters.shelf import ARTIFACT_SUFFIX, PROVED, Shelf
from sidecar.core.errors import EnvironmentProblem, ScratchFull
from sidecar.core.receipt import Kept

MB = 1_000_000


def receipt_id(day: int) -> str:
    return f"202611{day:02}T030000Z-0123abcd"


def keep(shelf: Shelf, day: int, size: int = MB, *, proved: bool = False) -> Path:
    """An artifact as a deploy of that day leaves it."""
    shelf.require(receipt_id(day), size)
    copy = shelf.folder(receipt_id(day)) / f"app-{day}.db"
    with copy.open("wb") as file:
        file.truncate(size)
    shelf.settle(copy)
    if proved:
        shelf.proved(receipt_id(day))
    return copy


def kept(shelf: Shelf) -> list[int]:
    """The days whose artifacts are there."""
    return sorted(int(each.parent.name[6:8]) for each in shelf.directory.glob("2*Z-0123abcd/*.db"))


def no_room(shelf: Shelf, day: int, size: int = MB) -> tuple[str, str]:
    before = kept(shelf)
    with pytest.raises(ScratchFull) as caught:
        shelf.require(receipt_id(day), size)
    assert kept(shelf) == before, "nothing is removed for what does not fit anyway"
    return caught.value.message, caught.value.hint


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "state" / "keep", count_max=3, bytes_max=10 * MB)


@contextlib.contextmanager
def small_disk(at: Path) -> Iterator[Path]:
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(at)], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", str(at)], check=True)


def test_an_artifact_is_settled_read_only_with_its_hash(shelf: Shelf) -> None:
    shelf.require(receipt_id(1), 100)
    copy = shelf.folder(receipt_id(1)) / "app-d1.db"
    copy.write_bytes(b"SQLite format 3\0" * 100_000)
    assert shelf.settle(copy) == hashlib.sha256(copy.read_bytes()).hexdigest()
    assert copy.stat().st_mode & 0o777 == 0o400
    assert {each.stat().st_mode & 0o777 for each in (copy.parent, shelf.directory)} == {0o700}
    assert copy.parent == shelf.folder(receipt_id(1)), "asking again makes nothing anew"
    assert copy.exists()


def test_what_was_never_proved_good_is_never_removed(shelf: Shelf) -> None:
    for day in (1, 2, 3):
        keep(shelf, day)
    message, hint = no_room(shelf, 4)
    assert f"3 deploys' artifacts are kept in {shelf.directory} (limit 3)" in message
    assert "none is older than a deploy that was proved good" in message
    assert f"rm -r {shelf.directory}/{receipt_id(1)}" in hint
    assert "rollback.keep-count" in hint


def test_the_oldest_goes_once_a_newer_deploy_was_proved_good(shelf: Shelf) -> None:
    keep(shelf, 1)
    keep(shelf, 2)
    keep(shelf, 3, proved=True)
    keep(shelf, 4)
    assert kept(shelf) == [2, 3, 4]
    keep(shelf, 5)
    assert kept(shelf) == [3, 4, 5], "one goes for one that comes"
    no_room(shelf, 6)
    assert kept(shelf) == [3, 4, 5], "the deploy that was proved good is itself the newest that is known to be"


def test_of_one_second_the_artifacts_tell_which_deploy_came_first(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "keep", count_max=2, bytes_max=10 * MB)
    first, second, third = (f"20261101T030000Z-{random}" for random in ("ffffffff", "aaaaaaaa", "cccccccc"))
    for number, each in enumerate((first, second)):
        shelf.require(each, MB)
        copy = shelf.folder(each) / f"app-d1{ARTIFACT_SUFFIX}"
        copy.write_bytes(b"x" * MB)
        os.utime(copy, ns=(number, 10**18 + number))
        shelf.proved(each)
    shelf.require(third, MB)
    assert [each.name for each in shelf.directory.iterdir()] == [second]


def test_nothing_goes_before_room_is_needed(shelf: Shelf) -> None:
    for day in (1, 2, 3):
        keep(shelf, day, proved=True)
    assert kept(shelf) == [1, 2, 3]


def test_all_artifacts_together_are_bounded(shelf: Shelf) -> None:
    keep(shelf, 1, 4 * MB)
    keep(shelf, 2, 4 * MB)
    message, hint = no_room(shelf, 3, 3 * MB)
    assert "it needs 3.0 MB, 8.0 MB of 10.0 MB are used" in message
    assert receipt_id(1) in hint
    shelf.proved(receipt_id(2))
    keep(shelf, 3, 6 * MB)
    assert kept(shelf) == [2, 3]


def test_one_that_is_too_large_for_the_shelf_at_all_names_no_other(shelf: Shelf) -> None:
    assert (
        no_room(shelf, 1, 11 * MB)[1] == "free some space, raise rollback.keep-max, or name another folder with --keep"
    )


def test_a_receipts_own_artifacts_count_in_bytes_and_not_as_another_deploy(shelf: Shelf) -> None:
    for day in (1, 2, 3):
        keep(shelf, day)
    shelf.require(receipt_id(3), 5 * MB)
    message, _ = no_room(shelf, 3, 8 * MB)
    assert "3.0 MB of 10.0 MB are used" in message


def test_a_receipt_does_not_push_its_own_artifacts_out(shelf: Shelf) -> None:
    keep(shelf, 1)
    keep(shelf, 2, 6 * MB, proved=True)
    no_room(shelf, 2, 5 * MB)
    assert kept(shelf) == [1, 2]


def test_nothing_is_removed_for_what_does_not_fit_anyway(shelf: Shelf) -> None:
    keep(shelf, 1)
    keep(shelf, 2, proved=True)
    no_room(shelf, 3, 11 * MB)
    no_room(shelf, 3, 9_500_000)
    assert kept(shelf) == [1, 2]
    shelf.require(receipt_id(3), 9 * MB)
    assert kept(shelf) == [2]


def test_a_disk_that_is_full_is_no_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        shelf = Shelf(disk / "keep", count_max=9, bytes_max=10**9)
        copy = shelf.folder(receipt_id(1)) / "app.db"
        copy.write_bytes(b"x" * 1_500_000)
        message, hint = no_room(shelf, 2, MB)
        assert f"it needs 1.0 MB, the disk of {shelf.directory} has 0." in message
        assert receipt_id(1) in hint
        keep(shelf, 2, 100_000, proved=True)
        shelf.require(receipt_id(3), MB)
        assert kept(shelf) == [2]


def test_what_a_person_put_there_is_neither_counted_nor_removed(shelf: Shelf) -> None:
    shelf.folder(receipt_id(1))
    (shelf.directory / "README").write_text("mine")
    (shelf.directory / "20261101T030000Z-mine").mkdir()
    (shelf.directory / receipt_id(2)).write_text("a file of that name")
    for day in (5, 6, 7):
        keep(shelf, day, proved=True)
    assert {each.name for each in shelf.directory.iterdir()} >= {"README", "20261101T030000Z-mine", receipt_id(2)}


def test_what_was_kept_for_nothing_is_discarded(shelf: Shelf) -> None:
    copy, other = keep(shelf, 1), keep(shelf, 2)
    assert kept(shelf) == [1, 2]
    shelf.discard(receipt_id(1))
    shelf.discard(receipt_id(9))  # was never there
    assert (copy.parent.exists(), other.exists()) == (False, True)


def test_a_deploy_that_kept_nothing_can_be_proved_good_too(shelf: Shelf) -> None:
    shelf.proved(receipt_id(1))
    assert not shelf.directory.exists()
    keep(shelf, 1, proved=True)
    assert (shelf.directory / receipt_id(1) / PROVED).stat().st_mode & 0o777 == 0o600


ELSEWHERE = [
    "", ".", "..", "../other", "/etc", "20261101T030000Z-0123abcd/..", "20261101T030000Z-0123abcd\n", "a" * 999,
    "20261101T030000Z-", "20261101T030000Z-0123ABCD", "٢0261101T030000Z-0123abcd", "20261101T030000Z-0123abcd\0",
]  # fmt: skip


@pytest.mark.parametrize("name", ELSEWHERE)
def test_an_id_that_names_another_place_is_refused(shelf: Shelf, name: str) -> None:
    shelf.directory.mkdir(parents=True)
    beside = shelf.directory.parent / "other"
    beside.mkdir()
    for work in (shelf.folder, shelf.discard, shelf.proved):
        with pytest.raises(EnvironmentProblem, match="is no receipt's id") as caught:
            work(name)
        assert len(caught.value.message) < 100
    assert beside.exists()
    assert list(shelf.directory.iterdir()) == []


def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    shelf = Shelf(tmp_path / "file" / "keep", 3, MB)
    for work in (lambda: shelf.require(receipt_id(1), 1), lambda: shelf.folder(receipt_id(1))):
        with pytest.raises(EnvironmentProblem) as caught:
            work()
        assert caught.value.message == f"rollback artifacts cannot be kept in {shelf.directory}: Not a directory"
        assert "--keep" in caught.value.hint
    with small_disk(tmp_path / "ro") as disk:
        shelf = Shelf(disk, 3, MB)
        copy = keep(shelf, 1, 100)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for work in (lambda: shelf.proved(receipt_id(1)), lambda: shelf.folder(receipt_id(2))):
            with pytest.raises(EnvironmentProblem, match="Read-only file system"):
                work()
        shelf.discard(receipt_id(1))
        assert copy.exists(), "what resists stays"


def test_a_copy_that_is_gone_cannot_be_settled(shelf: Shelf) -> None:
    with pytest.raises(EnvironmentProblem, match="No such file"):
        shelf.settle(shelf.folder(receipt_id(1)) / "gone.db")


def test_what_is_kept_is_listed_with_its_database_oldest_first(shelf: Shelf) -> None:
    assert shelf.kept() == [], "there is no folder yet"
    for day, names in ((2, ("app-4bce1a02f7d1", "b/my-app-production")), (1, ("app-000000000000",))):
        for name in names:
            copy = shelf.folder(receipt_id(day)) / f"{name}.artifact"
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(b"x" * day)
    shelf.proved(receipt_id(1))
    found = shelf.kept()
    assert [(each.receipt_id, each.name, each.size_bytes, each.proved) for each in found] == [
        (receipt_id(1), "app", 1, True), (receipt_id(2), "app", 2, False), (receipt_id(2), "b/my-app", 2, False),
    ]  # fmt: skip
    assert isinstance(found[0], Kept)
    assert Path(found[0].artifact).read_bytes() == b"x"


def test_a_shelf_that_cannot_be_read_says_so(shelf: Shelf) -> None:
    shelf.directory.parent.mkdir()
    shelf.directory.write_text("no folder")
    assert shelf.kept() == []
