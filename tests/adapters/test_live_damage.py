"""WAL and WAL index of a live database cut off, overwritten or blown up, as each way of looking at production meets them.

Each ends in a sentence or in what SQLite itself reads there, never in an error that nobody foresaw, and never in a pass for rows that the
app did not commit. Production's files stay byte for byte as they were; a WAL index that says nothing SQLite makes anew from the WAL, for every reader.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import pytest

from sidecar.adapters.live_descriptors import LiveDescriptors
from sidecar.adapters.sqlite_live import LiveSqlite
from sidecar.adapters.sqlite_pages import LivePages
from sidecar.core.errors import Unreadable
from sidecar.core.wal import BLOCK_BYTES, INDEX_BYTES
from tests.litestreams import ROOT
from tests.page_reading import read
from tests.parity_app import Process

PAGE, ROWS, COMMITS = 512, 1000, 20
STATE = "select count(*), sum(length(v)), max(id) from t"
Damage = Callable[[Path, Path], None]


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)  # the same each time


def overwritten(which: int, begin: int, size: int | None = None) -> Damage:
    def damage(*files: Path) -> None:
        length = files[which].stat().st_size - begin if size is None else size
        with files[which].open("r+b") as file:
            file.seek(begin)
            file.write(noise(length))

    return damage


def cut(which: int, keep: float) -> Damage:
    """To so many bytes, or to a share of them."""
    return lambda *files: os.truncate(
        files[which], int(keep if keep > 1 or keep == 0 else files[which].stat().st_size * keep)
    )


def grown(which: int) -> Damage:
    return lambda *files: os.truncate(files[which], 1 << 40)


WAL, SHM = 0, 1
DAMAGES: dict[str, Damage] = {
    "nothing": lambda *_: None,
    **{f"wal cut to {keep}": cut(WAL, keep) for keep in (0, 17, 4000, 0.5, 0.999)},
    "wal random": overwritten(WAL, 0), "wal header random": overwritten(WAL, 0, 32), "wal frames random": overwritten(WAL, 32),
    "wal end random": overwritten(WAL, 100_000), "wal huge": grown(WAL), "wal gone": lambda wal, _: wal.unlink(),
    **{f"shm cut to {keep}": cut(SHM, keep) for keep in (0, 95, 137, BLOCK_BYTES, BLOCK_BYTES + 7)},
    "shm random": overwritten(SHM, 0), "shm header random": overwritten(SHM, 0, INDEX_BYTES),
    "shm checkpoint random": overwritten(SHM, INDEX_BYTES, 40), "shm numbers random": overwritten(SHM, INDEX_BYTES + 40),
    "shm huge": grown(SHM), "shm gone": lambda _, shm: shm.unlink(),
    "both random": lambda wal, shm: (overwritten(WAL, 0)(wal, shm), overwritten(SHM, 0)(wal, shm), None)[-1],
    "both cut": lambda wal, shm: (cut(WAL, 0.3)(wal, shm), cut(SHM, 0.3)(wal, shm), None)[-1],
}  # fmt: skip


@dataclass(frozen=True)
class Good:
    """A database, its WAL with the last commits, and its index, as they stand while the app runs; and every state it committed."""

    folder: Path
    states: frozenset[str]

    def copied(self, folder: Path) -> Path:
        shutil.copytree(self.folder, folder)
        return folder / "app.db"


# Where the app runs on a WAL that is not the one of the index any more: after its end SQLite would find the last whole commit instead.
SEEN = {
    each for each in DAMAGES if each.startswith(("wal cut", "wal gone", "wal frames", "wal end", "shm numbers"))
} | {"wal random"}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Good:
    folder = tmp_path_factory.mktemp("good")
    with Process(folder / "app.db", page_size=PAGE) as app:
        app.write(ROWS)
        app.sql("pragma wal_checkpoint(truncate)")
        states = {str(tuple(app.sql(STATE)[0]))}
        for _ in range(COMMITS):  # so many that the page numbers of their frames fill more than one block of the index
            app.sql("update t set v = v || 'x'")
            states.add(str(tuple(app.sql(STATE)[0])))
        for each in ("", "-wal", "-shm"):
            (folder / "kept").mkdir(exist_ok=True)
            shutil.copy(f"{app.path}{each}", folder / "kept")
    assert (folder / "kept" / "app.db-shm").stat().st_size > BLOCK_BYTES
    return Good(folder / "kept", frozenset(states))


class Examiner:
    """The sidecar's eyes, in a process that a test may lose."""

    def __init__(self) -> None:
        self.child = subprocess.Popen([sys.executable, "-m", "tests.examiner"], cwd=ROOT, text=True,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip

    def look(self, path: Path) -> dict[str, str]:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(f"{path}\n")
        self.child.stdin.flush()
        line = self.child.stdout.readline()
        assert line, f"it died: {self.child.wait(5)}"
        found: dict[str, str] = json.loads(line)
        return found


@pytest.fixture(scope="module")
def examiner() -> Iterator[Examiner]:
    made = Examiner()
    yield made
    made.child.kill()
    made.child.communicate()


def state(path: Path) -> Any:
    """What stands there; of a sparse terabyte, that it is the same one. A WAL that is not there SQLite makes, empty, for every reader."""
    if not path.exists():
        return hashlib.sha256(b"").digest()
    known = path.stat()
    return (
        hashlib.sha256(path.read_bytes()).digest()
        if known.st_size < 1 << 32
        else (known.st_size, known.st_blocks, known.st_mtime_ns)
    )


@contextmanager
def running(path: Path) -> Iterator[None]:
    """An app that has the database open and is idle; killed in the end, since what was done to its files may be the end of it too."""
    app = Process(path)
    app.start()
    try:
        app.sql("select count(*) from t")
        yield
    finally:
        app.kill()


@pytest.mark.parametrize("alive", [True, False], ids=["running", "killed"])
@pytest.mark.parametrize("what", DAMAGES)
def test_whatever_is_done_to_them(tmp_path: Path, good: Good, examiner: Examiner, what: str, alive: bool) -> None:  # noqa: FBT001 - a column
    path = good.copied(tmp_path / "data")
    wal, shm = path.with_name("app.db-wal"), path.with_name("app.db-shm")
    with running(path) if alive else nullcontext():
        DAMAGES[what](wal, shm)
        before = state(path), state(wal)
        found = examiner.look(path)
        assert (state(path), state(wal)) == before
    assert not [each for each in found.values() if each.startswith("UNFORESEEN")]
    assert found["pages"] != "not as SQLite reads them"
    kind, _, rows = found["check"].partition(": ")
    assert kind != "sound" or rows in good.states
    pieces, _, in_them = found["pieces"].partition(": ")
    assert pieces != "sound" or in_them in good.states
    if alive and what in SEEN:
        assert (kind, found["pages"].partition(":")[0]) == ("Unreadable", "Unreadable")
        assert "not an error" not in found["check"]
    if what == "nothing":
        assert found["look"] == "index"
        assert found["pages"] == "as SQLite reads them"
        assert (kind, pieces) == ("sound", "sound")


@dataclass(frozen=True, slots=True)
class CutMeanwhile:
    """Production, of whose files one is cut off while it is being read: later than SQLite could see it."""

    live: LiveSqlite
    suffix: str
    keep: int

    def opened(self, path: str) -> AbstractContextManager[apsw.Connection]:
        return self.live.opened(path)

    def read(self, path: Path | str, size: int, offset: int) -> bytes:
        data = self.live.read(path, size, offset)
        return data[: max(self.keep - offset, 0)] if str(path).endswith(self.suffix) else data

    def read_each(self, path: Path | str, size: int, offsets: Sequence[int]) -> list[bytes]:
        return [self.read(path, size, offset) for offset in offsets]


@pytest.mark.parametrize(
    ("suffix", "keep", "says"),
    [
        ("-shm", 1001, "app.db-shm ends before the frames that it counts"),
        ("-shm", BLOCK_BYTES + 2, "app.db-shm ends before the frames that it counts"),
        ("-wal", 5000, "app.db-wal ends before the commits that its index counts"),
    ],
)
def test_a_file_that_is_cut_off_while_it_is_read(tmp_path: Path, good: Good, suffix: str, keep: int, says: str) -> None:
    live = CutMeanwhile(LiveSqlite(LiveDescriptors()), suffix, keep)
    path = str(good.copied(tmp_path / "data"))
    with pytest.raises(Unreadable, match=says), LivePages(live).opened(path) as reader, reader.snapshot() as snapshot:
        read(snapshot)
    whole = LivePages(CutMeanwhile(live.live, suffix, 1 << 40))
    with whole.opened(path) as reader, reader.snapshot() as snapshot:
        assert len(read(snapshot)) == snapshot.page_count
