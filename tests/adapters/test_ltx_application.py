"""A kept copy brought forward: byte for byte what Litestream's own restore gives, and no damaged file leaves one that is trusted."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from fastcrc import crc64
from hypothesis import given
from hypothesis import strategies as st

from sidecar.adapters.ltx_application import PAGES_AT_ONCE, Unsound, forward
from sidecar.core.errors import Stopped
from sidecar.core.ltx import parse_header, parse_name
from tests import ltx_writer
from tests.litestreams import Litestream, binary, environment, until

PAGE_SIZES = [512, 1024, 4096, 16384, 65536] if os.environ.get("ALL_SIZES") else [1024]  # a life takes 20 s
STEPS = 9
LEVELS = "levels: [{interval: 1s}, {interval: 4s}]\nl0-retention: 10m\nsnapshot: {interval: 5s, retention: 1h}\n"


class History:
    """A database with a life, replicated by the real Litestream; the files of its replica, in their order."""

    def __init__(self, folder: Path, page_size: int, auto_vacuum: str, chance: random.Random) -> None:
        self.path, self.ltx, self.chance = folder / "data" / "app.db", folder / "replica" / "ltx", chance
        self.path.parent.mkdir(parents=True)
        self.db = sqlite3.connect(self.path, isolation_level=None, timeout=30)
        for setting in (f"page_size = {page_size}", f"auto_vacuum = {auto_vacuum}", "journal_mode = wal"):
            self.db.execute(f"pragma {setting}")
        self.db.execute("create table t (id integer primary key, v blob)")
        self.config = folder / "litestream.yml"
        self.config.write_text(
            f"{LEVELS}dbs: [{{path: {self.path}, replica: {{type: file, path: {folder / 'replica'}}}}}]\n"
        )
        self.tables = 0

    def act(self) -> None:
        """Something that people do to databases, and a row, so that each act leaves a TXID."""
        self.db.execute("insert into t (v) values (randomblob(9))")
        match self.chance.choice(["grow", "grow", "update", "delete", "vacuum", "schema", "incremental"]):
            case "grow":
                size, rows = self.chance.choice([20, 900, 30_000]), self.chance.randint(1, 60)
                self.db.executemany("insert into t (v) values (randomblob(?))", [(size,)] * rows)
            case "update":
                self.db.execute("update t set v = randomblob(length(v)) where id % 3 = 0")
            case "delete":
                self.db.execute("delete from t where id % 3 > 0")
            case "vacuum":
                self.db.execute("vacuum")
            case "schema":
                self.tables += 1
                self.db.execute(f"create table x{self.tables} (a, b)")
                self.db.execute(f"create index i{self.tables} on x{self.tables} (a)")
            case _:
                self.db.execute("pragma incremental_vacuum(5)")

    def live(self) -> None:
        litestream = Litestream(self.config).start()
        try:
            until(lambda: list((self.ltx / "9").glob("*.ltx")), within=60, say="a first snapshot")
            for _ in range(STEPS):
                before = self.newest()
                self.act()
                until(lambda before=before: self.newest() > before, say="a TXID of its own")  # type: ignore[misc] # bound now
            until(lambda: list((self.ltx / "1").glob("*.ltx")), within=60, say="a compacted file")
        finally:
            litestream.stop()
            self.db.close()

    def newest(self) -> int:
        return max((last for _, last, _ in self.files()), default=0)

    def files(self, level: str = "*") -> list[tuple[int, int, Path]]:
        found = [(parse_name(path.name), path) for path in self.ltx.glob(f"{level}/*.ltx")]
        return sorted(((named[0], named[1], path) for named, path in found if named), key=lambda each: each[:2])

    def restored(self, out: Path, txid: int) -> Path:
        command = [
            binary(),
            "restore",
            "-config",
            str(self.config),
            "-txid",
            f"{txid:016x}",
            "-o",
            str(out),
            str(self.path),
        ]
        done = subprocess.run(command, check=False, env=environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return out


@pytest.fixture(scope="module", params=PAGE_SIZES)
def history(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> History:
    number = request.param.bit_length()
    lived = History(
        tmp_path_factory.mktemp("life"),
        request.param,
        ["none", "full", "incremental"][number % 3],
        random.Random(number),
    )
    lived.live()
    return lived


def test_every_txid_is_what_a_restore_gives(history: History, tmp_path: Path) -> None:
    """One level-0 file after another, from the first state on."""
    files = history.files("0")
    copy = history.restored(tmp_path / "kept", files[0][1])
    at = files[0][1]
    assert len(files) > STEPS / 2
    for _, last, path in files[1:]:
        at = forward(copy, [path], at).txid
        assert at == last
        wanted = history.restored(tmp_path / "wanted", last)
        assert wanted.read_bytes() == copy.read_bytes(), f"TXID {last}"
        wanted.unlink()


def test_files_of_every_level_lead_to_the_same(history: History, tmp_path: Path) -> None:
    """Any file that begins before the copy ends, and ends after it: compacted ones and snapshots too, over what is there already."""
    files, chance = history.files(), random.Random(7)
    newest = max(last for _, last, _ in files)
    wanted = history.restored(tmp_path / "wanted", newest).read_bytes()
    assert {path.parent.name for _, _, path in files} >= {"0", "1", "9"}
    for number in range(8):
        start = chance.choice(history.files("0")[:-1])[1]
        copy = history.restored(tmp_path / f"kept{number}", start)
        chain, at = [], start
        while at < newest:
            first_last_path = chance.choice([each for each in files if each[0] <= at + 1 and each[1] > at])
            at = first_last_path[1]
            chain.append(first_last_path[2])
        assert forward(copy, chain, start).txid == newest
        assert copy.read_bytes() == wanted
        copy.unlink()


def test_what_the_copy_has_already_is_left_out(history: History, tmp_path: Path) -> None:
    files = history.files("0")
    copy = history.restored(tmp_path / "kept", files[2][1])
    before = copy.read_bytes()
    applied = forward(copy, [each[2] for each in files[:3]], files[2][1])
    assert (applied.files, applied.txid, copy.read_bytes()) == (0, files[2][1], before)


def begun(history: History, folder: Path) -> tuple[Path, Path, int]:
    """A copy, a copy of the file that follows, and where the first one stands."""
    pairs = [(a, b) for a, b in pairwise(history.files("0")) if b[2].stat().st_size > 300]
    before, after = pairs[len(pairs) // 2]
    copy = history.restored(folder / "kept", before[1])
    return copy, Path(shutil.copy(after[2], folder / after[2].name)), before[1]


def refused(copy: Path, file: Path, at: int) -> str:
    with pytest.raises(Unsound) as told:
        forward(copy, [file], at)
    return told.value.message


def test_damage_is_refused(history: History, tmp_path: Path) -> None:
    copy, file, at = begun(history, tmp_path)
    whole, chance = file.read_bytes(), random.Random(3)
    flips = [
        *range(4),
        *range(8, 32),
        *range(len(whole) - 32, len(whole)),
        *(chance.randrange(len(whole)) for _ in range(150)),
    ]
    before = copy.read_bytes()
    assert forward(copy, [file], at).txid > at
    wanted, harmless = copy.read_bytes(), 0
    for place in flips:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chance.randrange(8)
        file.write_bytes(damaged)
        copy.write_bytes(before)
        try:
            forward(copy, [file], at)
        except Unsound:
            continue
        else:  # LZ4 says the same in several ways, and the checksum is of what it says
            harmless += 1
            assert copy.read_bytes() == wanted
    assert harmless < len(flips) / 20
    for length in [0, 1, 99, 100, 103, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(40))]:
        file.write_bytes(whole[:length])
        refused(copy, file, at)
    file.write_bytes(whole + b"x")
    refused(copy, file, at)


def test_a_missing_file_is_refused(history: History, tmp_path: Path) -> None:
    files = history.files("0")
    copy = history.restored(tmp_path / "kept", files[0][1])
    assert "a file is missing" in refused(copy, files[2][2], files[0][1])


def test_another_page_size_is_refused(history: History, tmp_path: Path) -> None:
    copy, file, at = begun(history, tmp_path)
    decoded = ltx_writer.decode(file.read_bytes())
    size = parse_header(decoded.header).page_size
    other = size // 2 if size > 512 else size * 2
    header = decoded.header[:8] + other.to_bytes(4) + decoded.header[12:]
    file.write_bytes(ltx_writer.encode(ltx_writer.LtxFile(header, {1: bytes(other)})))
    assert f"pages of {other} bytes" in refused(copy, file, at)


def test_whoever_waits_can_end_it(history: History, tmp_path: Path) -> None:
    copy, file, at = begun(history, tmp_path)
    decoded = ltx_writer.decode(file.read_bytes())
    size = parse_header(decoded.header).page_size
    many = {number: bytes(size) for number in range(1, PAGES_AT_ONCE + 2)}
    header_then = decoded.header[:12] + max(many).to_bytes(4) + decoded.header[16:]
    file.write_bytes(ltx_writer.encode(ltx_writer.LtxFile(header_then, many)))

    def enough() -> None:
        raise Stopped("told to stop")

    before = copy.read_bytes()
    with pytest.raises(Stopped):
        forward(copy, [file], at, enough)
    copy.write_bytes(before)
    assert forward(copy, [file], at).pages == PAGES_AT_ONCE + 1


@given(st.binary(max_size=300), st.binary(max_size=70))
def test_the_checksum_is_gos(data: bytes, more: bytes) -> None:
    """As the eight lines that look up each byte have it, in one piece and in two."""
    found = crc64.go_iso(more, crc64.go_iso(data))
    assert ltx_writer.crc64(data + more) == crc64.go_iso(data + more) == found


def test_the_checksum_of_the_reference() -> None:
    """The catalogue's check value of CRC-64/GO-ISO."""
    assert crc64.go_iso(b"123456789") == 0xB90956C775A41001
