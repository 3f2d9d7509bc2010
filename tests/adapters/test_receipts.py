"""Receipts as files: written whole, never over another, read strictly; keys from files with their rules."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from sidecar.adapters.receipts import KEY_BYTES_MIN, RECEIPT_BYTES_MAX, read_key, read_receipt, write_receipt
from sidecar.core.errors import ReceiptError
from tests.core.receipts import KEY, everything, receipt


@contextlib.contextmanager
def small_disk(at: Path, size: str = "64k") -> Iterator[Path]:
    """A file system that fills up soon."""
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(at)], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", str(at)], check=True)


def refusal(work: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(ReceiptError) as caught:
        work()
    assert caught.value.exit_code == 2
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize("key", [None, KEY])
def test_what_is_written_is_read_again(tmp_path: Path, key: bytes | None) -> None:
    file = tmp_path / "deep" / "naïve 💾" / "r.json"
    write_receipt(everything(), file, key)
    assert read_receipt(file, key) == everything()
    assert json.loads(file.read_text())["receipt_version"] == 1
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert list(file.parent.iterdir()) == [file], "nothing is left beside it"
    assert file.stat().st_nlink == 1


def test_what_stands_there_is_never_replaced(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    write_receipt(receipt(), file, None)
    message, hint = refusal(lambda: write_receipt(receipt(sidecar="9"), file, None))
    assert message == f"{file} exists already"
    assert "--receipt" in hint
    assert read_receipt(file, None) == receipt()
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("make", [Path.mkdir, lambda at: at.symlink_to("/nowhere/r"), os.mkfifo])
def test_folders_links_and_pipes_are_not_replaced_either(tmp_path: Path, make: Callable[[Path], None]) -> None:
    file = tmp_path / "r.json"
    make(file)
    assert "exists already" in refusal(lambda: write_receipt(receipt(), file, None))[0]
    assert list(tmp_path.iterdir()) == [file]


def test_where_it_cannot_be_written_it_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place, why in (("file/r.json", "File exists"), ("file/deep/r.json", "Not a directory")):
        message, hint = refusal(partial(write_receipt, receipt(), tmp_path / place, None))
        assert message == f"the receipt {tmp_path}/{place} cannot be written: {why}"
        assert "--receipt" in hint
    assert "File name too long" in refusal(lambda: write_receipt(receipt(), tmp_path / ("r" * 300), None))[0]
    with small_disk(tmp_path / "full") as disk:
        write_receipt(receipt(), disk / "one.json", None)
        (disk / "rest").write_bytes(b"")
        with contextlib.suppress(OSError), (disk / "rest").open("wb", buffering=0) as rest:
            while rest.write(b"x" * 4096):
                pass
        before = sorted(disk.iterdir())
        assert "No space left on device" in refusal(lambda: write_receipt(everything(), disk / "two.json", None))[0]
        assert sorted(disk.iterdir()) == before, "nothing half done"


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    """Root may write to every folder, so a file system that is mounted read-only stands for it."""
    with small_disk(tmp_path / "ro") as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert "Read-only file system" in refusal(lambda: write_receipt(receipt(), disk / "r.json", None))[0]


def test_a_receipt_that_is_not_there_or_cannot_be_read(tmp_path: Path) -> None:
    message, hint = refusal(lambda: read_receipt(tmp_path / "nope.json", None))
    assert message == f"there is no receipt {tmp_path}/nope.json"
    assert "gate" in hint
    assert "Is a directory" in refusal(lambda: read_receipt(tmp_path, None))[0]
    binary = tmp_path / "app.db"
    binary.write_bytes(b"SQLite format 3\0\xff\xfe")
    assert refusal(lambda: read_receipt(binary, None))[0] == f"{binary} is no receipt: it is not JSON"
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(RECEIPT_BYTES_MAX + 1)
    assert refusal(lambda: read_receipt(huge, None))[0] == f"{huge} is no receipt: it is too large"


def test_a_receipt_that_was_altered_on_disk_is_named_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    write_receipt(receipt(), file, None)
    file.write_text(file.read_text().replace('"users": 100', '"users": 1'))
    assert refusal(lambda: read_receipt(file, None))[0].startswith(f"{file} cannot be trusted: it was altered")


def test_a_key_is_the_file_without_the_space_around_it(tmp_path: Path) -> None:
    assert read_key(None) is None
    file = tmp_path / "key"
    for written in (KEY, KEY + b"\n", b" \t" + KEY + b"\r\n"):
        file.write_bytes(written)
        assert read_key(file) == KEY
    file.write_bytes(bytes(range(128, 160)))
    assert read_key(file) == bytes(range(128, 160)), "a key need not be text"


def test_a_key_that_is_missing_or_too_short_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    assert f"--key-file {file} cannot be read: No such file" in refusal(lambda: read_key(file))[0]
    assert "Is a directory" in refusal(lambda: read_key(tmp_path))[0]
    for written in (b"", b"\n" * 99, b" " + b"k" * (KEY_BYTES_MIN - 1) + b"\n"):
        file.write_bytes(written)
        message, hint = refusal(lambda: read_key(file))
        assert f"a key needs at least {KEY_BYTES_MIN}" in message
        assert f"holds {len(written.strip())} bytes" in message
        assert "/dev/urandom" in hint
    file.write_bytes(b"k" * KEY_BYTES_MIN)
    assert read_key(file) == b"k" * KEY_BYTES_MIN


def test_the_key_stands_in_no_receipt_and_no_error(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    write_receipt(receipt(), file, KEY)
    said = [*refusal(lambda: read_receipt(file, None)), *refusal(lambda: read_receipt(file, b"another key of 16"))]
    assert not any(KEY.decode() in each for each in [file.read_text(), *said])
