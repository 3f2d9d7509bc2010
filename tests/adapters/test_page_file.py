"""A database file that is written page by page."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest

from sidecar.adapters.page_file import page_file


def test_pages_come_in_any_order_and_the_newest_stands(tmp_path: Path) -> None:
    path = tmp_path / "copy"
    with page_file(path, 4) as file:
        file.put(3, memoryview(b"ccccdddd"), 1)
        file.put(1, memoryview(b"aaaabbbb"), 2)
        file.put(4, memoryview(b"DDDD"), 3)
        file.finish(4)
    assert path.read_bytes() == b"aaaabbbbccccDDDD"
    assert path.stat().st_mode & 0o777 == 0o600


def test_it_is_as_long_as_the_database(tmp_path: Path) -> None:
    """What was cut off meanwhile goes; what nobody ever wrote is zeros."""
    for pages, expected in ((1, b"aaaa"), (3, b"aaaabbbb\0\0\0\0"), (0, b"")):
        with page_file(tmp_path / str(pages), 4) as file:
            file.put(1, memoryview(b"aaaabbbb"), 1)
            file.finish(pages)
        assert (tmp_path / str(pages)).read_bytes() == expected


def test_what_was_not_finished_is_gone_and_what_was_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "copy"

    def fails() -> None:
        with page_file(path, 4) as file:
            file.put(1, memoryview(b"aaaa"), 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    assert not path.exists()
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError), page_file(path, 4):
        pass
    assert path.read_bytes() == b"mine"


def test_a_file_system_that_takes_only_a_part_says_so(tmp_path: Path) -> None:
    """The kernel writes what there is room for and says how much; only the next write is refused."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
        with pytest.raises(OSError, match="File too large"), page_file(tmp_path / "copy", 4) as file:
            file.put(1, memoryview(bytes(16)), 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not (tmp_path / "copy").exists()
