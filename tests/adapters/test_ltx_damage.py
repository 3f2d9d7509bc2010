"""Litestream's files as nobody wrote them, in its local folder and in a replica: a sentence or what is left, at once, and nothing else.

In the local folder a file that is none is passed over, since a drill is what proves damage; in the replica it is what the drill finds.
"""

from __future__ import annotations

import os
import shutil
import struct
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.ledger.codec import FACTS, evidence_of_texts, text_of_fact
from sidecar.adapters.live_descriptors import LiveDescriptors
from sidecar.adapters.live_files import LiveFiles
from sidecar.adapters.local_changes import LocalChanges
from sidecar.core.errors import LitestreamError
from sidecar.core.evidence import Evidence
from sidecar.core.live_state import LiveState
from sidecar.core.ltx import HEADER_BYTES, TAIL_BYTES
from sidecar.core.model import Database, Position, Replica
from sidecar.core.policy import Policy
from sidecar.core.verdict import FleetVerdict, fleet_document, verdict_of
from tests.adapters.test_litestream_v5 import NEVER, of_folder, quiet, reader, replicate
from tests.fakes import healthy
from tests.litestreams import App
from tests.ltx_writer import LtxFile, encode

T = TypeVar("T")
PAGE = 512
GENERATION = "0123456789abcdef"
FEW = settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def at_once(work: Callable[[], T], seconds: float = 5.0) -> T:
    """What it returns; a test that hangs would say nothing."""
    done: list[T] = []
    thread = threading.Thread(target=lambda: done.append(work()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert done, "it hangs, or it raised"
    return done[0]


def name(first: int, last: int | None = None) -> str:
    return f"{first:016x}-{last or first:016x}.ltx"


def header(txid: int, milliseconds: int = 1_795_440_536_846) -> bytes:
    made = struct.pack(">4sIIIQQqQqq8s", b"LTX1", 2, PAGE, 9, txid, txid, milliseconds, 0, 32, 536, b"saltsalt")
    return made.ljust(HEADER_BYTES, b"\0")


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """A database, and a local folder of Litestream's with files of three transactions."""
    App(tmp_path / "app.db").close()
    level0 = tmp_path / "meta" / "ltx" / "0"
    level0.mkdir(parents=True)
    for txid in (1, 2, 3):
        (level0 / name(txid)).write_bytes(encode(LtxFile(header(txid), {txid: bytes(PAGE)})))
    return Database("app", str(tmp_path / "app.db"), str(tmp_path / "meta"), Replica("file", "file"))


def level0(database: Database) -> Path:
    return Path(database.meta_path) / "ltx" / "0"


def live(database: Database) -> LiveState:
    return at_once(lambda: LiveFiles(LiveDescriptors().read, SystemClock()).read(database))


def captured(database: Database) -> list[int]:
    """TXIDs that a look takes for captured, newest first."""
    return [each.position.index for each in live(database).captures]


def listed(database: Database) -> list[int]:
    """TXIDs that a comparison has lists of, oldest first."""
    changes = at_once(lambda: LocalChanges(database).gather(since=Position.of_txid(0)))
    return [each.upto.index for each in changes.all]


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link(to: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.unlink()
        path.symlink_to(to.format(path.name))

    return damage


def rewritten(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(change(path.read_bytes()))


# What stands in the place of the newest file; none of it is a capture.
IN_ITS_PLACE: dict[str, Callable[[Path], object]] = {
    "pipe": pipe, "folder": folder, "link to a device": link("/dev/zero"), "link to a file": link("/etc/passwd"),
    "link to nothing": link("{0}.gone"), "nothing": rewritten(lambda _: b""), "cut": rewritten(lambda data: data[: HEADER_BYTES - 1]),
    "noise": rewritten(lambda data: os.urandom(len(data))), "time beyond time": rewritten(lambda data: header(3, 1 << 62) + data[HEADER_BYTES:]),
}  # fmt: skip


@pytest.mark.parametrize("what", IN_ITS_PLACE)
def test_what_stands_in_the_place_of_a_file_is_passed_over(database: Database, what: str) -> None:
    assert (captured(database), listed(database)) == ([3, 2, 1], [1, 2, 3])
    IN_ITS_PLACE[what](level0(database) / name(3))
    assert (captured(database), listed(database)) == ([2, 1], [1, 2])


def test_foreign_names_are_passed_over_and_a_loop_is_named(database: Database) -> None:
    files = level0(database)
    for each in (b"a b\n.ltx", b"\xff\xfe.ltx", b".ltx", b"..ltx", b"0000000000000004.ltx", b"-0000000000000004.ltx"):
        (files / os.fsdecode(each)).write_bytes(header(4))
    (files / "up").symlink_to("..")
    assert (captured(database), listed(database)) == ([3, 2, 1], [1, 2, 3])
    link("{0}")(files / name(3))
    assert "too many levels of symbolic links" in (live(database).error or "")
    shutil.rmtree(files)
    files.symlink_to("0")
    assert (captured(database), listed(database)) == ([], [])  # as before Litestream has begun: nothing is known


def test_an_index_without_an_end_costs_no_time(database: Database) -> None:
    """A number of a million bytes took most of a minute to read, one of ten an hour."""
    entries = b"\xff" * 1_000_000
    tail = struct.pack(">Q", len(entries)).ljust(TAIL_BYTES, b"\0")
    (level0(database) / name(4)).write_bytes(header(4) + entries + tail)
    assert listed(database) == [1, 2, 3]


@pytest.mark.parametrize("damage", [pipe, folder, link("/dev/zero"), rewritten(lambda _: b"../../x\n"), rewritten(lambda _: b"\xff" * 99)],
                         ids=["pipe", "folder", "device", "path", "noise"])  # fmt: skip
def test_a_generation_of_03_that_is_none(database: Database, damage: Callable[[Path], object]) -> None:
    meta = Path(database.meta_path)
    shutil.rmtree(meta / "ltx")
    (meta / "generation").write_text(GENERATION)
    shadow = meta / "generations" / GENERATION / "wal"
    shadow.mkdir(parents=True)
    os.mkfifo(shadow / "00000000.wal")
    (shadow / "00000001.wal").mkdir()
    assert (captured(database), listed(database)) == ([], [])
    damage(meta / "generation")
    assert (captured(database), listed(database)) == ([], [])


def kept(evidence: Evidence) -> Evidence:
    """As it comes back from the ledger."""
    notes: list[str] = []
    texts = {fact: text_of_fact(fact, getattr(evidence, fact)) for fact in FACTS}
    back = evidence_of_texts("app", texts, evidence.first_seen_at, notes.append)
    assert notes == []
    return back


@FEW
@given(
    head=st.binary(min_size=HEADER_BYTES - 8, max_size=HEADER_BYTES - 4),
    rest=st.binary(max_size=64)
    | st.integers(0, 1 << 64).map(lambda size: b"\1\1\1" + (size % (1 << 64)).to_bytes(8) + bytes(16)),
    txid=st.integers(0, (1 << 64) - 1),
)
@example(head=bytes(HEADER_BYTES - 4), rest=b"", txid=(1 << 64) - 1)
@example(head=b"\xff" * (HEADER_BYTES - 4), rest=b"", txid=1)
@example(head=header(9, 253_402_300_799_999)[4:], rest=b"", txid=9)  # the last instant of the year 9999
@example(head=header(9, -62_135_596_800_000)[4:], rest=b"", txid=9)  # the first of the year 1
def test_a_header_of_anything_is_evidence_that_can_be_judged(
    database: Database, head: bytes, rest: bytes, txid: int
) -> None:
    path = level0(database) / name(txid)
    path.write_bytes(b"LTX1" + head + rest)
    try:
        state = live(database)
        listed(database)
    finally:
        path.unlink()
    known = healthy(state.read_at - timedelta(seconds=1))
    for before in (known, Evidence(first_seen_at=state.read_at)):
        evidence = kept(before.after_live(state))
        verdict = verdict_of(database, evidence, Policy(), None, state.read_at)
        fleet_document(FleetVerdict((verdict,), state.read_at), "1")


def test_times_of_files_beyond_all_calendars(database: Database) -> None:
    """tmpfs and XFS keep what `touch` says; ext4 does not, so this one is on a tmpfs."""
    shared = Path("/dev/shm") / f"sidecar-{os.getpid()}"
    shared.mkdir()
    try:
        for seconds in (1 << 40, -(1 << 40)):
            (shared / "app.db").touch()
            os.utime(shared / "app.db", (seconds, seconds))
            assert abs((shared / "app.db").stat().st_mtime) > 1 << 39
            moved = Database("app", str(shared / "app.db"), database.meta_path, database.replica)
            assert live(moved).modified_at is not None
    finally:
        shutil.rmtree(shared)


# In a file replica, with the real Litestream


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("made")
    levels = made / "rep" / "ltx"
    replicate(made, f"{{type: file, path: {made / 'rep'}, sync-interval: 100ms}}", txids=2,
              settle=lambda: all(list(levels.glob(f"{level}/*.ltx")) for level in (0, 9)))  # fmt: skip
    return made


def newest(there: Path) -> Path:
    """The file that a restore needs last."""
    last = reader().plan(of_folder(there.parent), timeout_s=20, stop=NEVER).files[-1]
    return there / "ltx" / str(last.level) / name(last.first.index, last.last.index)


def level(number: int, damage: Callable[[Path], object]) -> Callable[[Path], object]:
    def do(there: Path) -> None:
        path = there / "ltx" / str(number)
        shutil.rmtree(path, ignore_errors=True)
        path.touch()
        damage(path)

    return do


def strangers(there: Path) -> None:
    """Names that are none of Litestream's, in all folders."""
    for each in (b"x.ltx", b"a b\n.ltx", b"\xff\xfe.ltx", b".ltx", b"-1.ltx"):
        (there / "ltx" / "0" / os.fsdecode(each)).write_bytes(os.urandom(300))
    (there / "ltx" / "77").mkdir()
    (there / "ltx" / "0" / "up").symlink_to("../..")


def beyond(there: Path) -> None:
    (there / "ltx" / "0" / name((1 << 64) - 2, (1 << 64) - 1)).write_bytes(os.urandom(300))


def in_place(damage: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda there: damage(newest(there))


FAULTS: dict[str, tuple[Callable[[Path], object], str | None]] = {
    **{what: (in_place(damage), "file_corrupt")
       for what, damage in IN_ITS_PLACE.items() if what not in {"link to nothing", "time beyond time"}},
    "link to itself": (in_place(link("{0}")), "file_corrupt"),
    "terabyte": (in_place(lambda path: os.truncate(path, 1 << 40)), "timeout"),
    "strangers": (strangers, None), "beyond": (beyond, "file_missing"),
    "level that is a loop": (level(1, link("1")), "unreachable"), "level that is a file": (level(0, lambda _: None), "unreachable"),
    "level that is a pipe": (level(1, pipe), "timeout"),  # Litestream waits for a writer, and we end it
}  # fmt: skip


@pytest.mark.parametrize("what", FAULTS)
def test_a_replica_that_somebody_put_things_into(replica: Path, tmp_path: Path, what: str) -> None:
    there, target = tmp_path / "rep", tmp_path / "room" / "copy.db"
    shutil.copytree(replica / "rep", there, copy_function=shutil.copy2)
    target.parent.mkdir()
    fault, reason = FAULTS[what]
    fault(there)
    said: str | None = None

    def drilled() -> bool:
        nonlocal said
        try:
            reader().list_files(of_folder(tmp_path), timeout_s=2, stop=NEVER)
            plan = reader().plan(of_folder(tmp_path), timeout_s=2, stop=NEVER)
            reader().restore(of_folder(tmp_path), plan, target, timeout_s=2, stop=NEVER, progress=quiet)
        except LitestreamError as error:
            said = error.reason
        return True

    at_once(drilled, 20)
    assert said == reason
    assert list(target.parent.iterdir()) == ([] if reason else [target])
