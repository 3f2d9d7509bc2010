"""Evidence survives restarts, kill -9, damage, full and read-only disks, and other processes; and stays small."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest

from sidecar.adapters.ledger import Ledger
from sidecar.adapters.ledger.behind import DATABASES_MAX
from sidecar.adapters.ledger.codec import FACTS
from sidecar.adapters.ledger.file import DRILLS_KEPT_MAX, FAILED_KEPT_MAX, EvidenceFile, new_drill
from sidecar.core.ahead import Ahead
from sidecar.core.errors import EnvironmentProblem
from sidecar.core.evidence import Evidence
from sidecar.core.live_state import Capture, FileId, LiveState, WalIndex
from sidecar.core.model import (
    CheckKind,
    Claim,
    ClaimSource,
    Content,
    Database,
    DatabaseCheck,
    Drill,
    Listing,
    LookResult,
    Outcome,
    Position,
    Replica,
    SchemaVersion,
    Sighting,
)
from sidecar.core.parity import Parity, ParityResult
from tests.litestreams import ROOT

T0 = datetime(2026, 11, 23, 3, 0, 0, 123456, tzinfo=UTC)
NOBODY = 65534


@dataclass
class HandClock:
    """Both clocks as the test sets them."""

    at: datetime = T0
    seconds: float = 1000.0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.seconds

    def pass_by(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        self.seconds += seconds


def database(path: str = "/data/app.db") -> Database:
    return Database(Path(path).stem, path, f"{path}-litestream", Replica("file", "file"))


CONTENT = Content(
    T0, 1, 2, 4096, 10, "d" * 64, SchemaVersion("django_migrations", "0042_auto"), {"a": 1, "b": -1}, "3.54.1"
)
PARITY = Parity(ParityResult.DIFFERENT, 10, 8, 1, "m", "h", (3, 4), 2, ("t", "i"), "/state/pages/d")


def drill(number: int, outcome: Outcome = Outcome.PASSED, *, at: datetime | None = None) -> Drill:
    ended = at if at is not None else T0 + timedelta(hours=number)
    reason = None if outcome is Outcome.PASSED else "file_corrupt"
    return Drill(
        f"id-{number}", outcome, reason, "said", "do", Position.of_txid(number), ended - timedelta(seconds=3), ended,
        CheckKind.FULL, 0.1, 1.5, 0.25, 40960, CONTENT, "0.5.17", PARITY, 0.5,
    )  # fmt: skip


def full_evidence() -> Evidence:
    """Every fact there is."""
    capture = Capture(Position("5cd8f7d600cfdc59", 3, 4120), T0, b"\x00\xff\x01", 16512, None)
    live = LiveState(T0, FileId(1, 2), 4096, 32, T0, WalIndex(b"\x01\x02", 3, 4096), (capture, capture), "half")
    listing = Listing(
        T0,
        Position.of_txid(7),
        T0,
        Position.of_txid(5),
        "gap",
        None,
        Position.of_txid(1),
        T0,
        None,
        T0,
        {9: 1, 0: 6},
        99,
    )
    check = DatabaseCheck(T0, None, "unreadable", "m", "h", 0.5, 10, "3.54.1")
    made = Evidence(first_seen_at=T0).after_sighting(live, Sighting(T0, LookResult.OK, "", "", listing, T0))
    made = made.after_claim(Claim(T0, ClaimSource.SOCKET, True, True, "0.5.17", 7, T0, T0, 9, "bad", "none"))
    made = made.after_content(CONTENT, "why").after_database_check(replace(check, sound=True, reason=None))
    made = made.after_drill(drill(1)).after_drill(drill(2, Outcome.FAILED)).after_database_check(check)
    made = replace(
        made.of_replica(database().replica), covered_live=live, covered_at=T0, replaced_at=T0, replaced_after=T0,
        ahead=Ahead(2, T0, still=True), proof_stood_at=T0, last_here=drill(3), unproved_at=T0,
        last_restored=drill(4),
    )  # fmt: skip
    unset = [fact for fact in FACTS if getattr(made, fact) is None]
    assert not unset, "a fact that this test does not know"
    return made


@contextlib.contextmanager
def opened(folder: Path, clock: HandClock | None = None, *, exclusive: bool = True) -> Iterator[Ledger]:
    ledger = Ledger.open(folder, clock=clock or HandClock(), exclusive=exclusive)
    try:
        yield ledger
    finally:
        ledger.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


def test_every_fact_comes_back(folder: Path) -> None:
    evidence = full_evidence()
    with opened(folder) as ledger:
        ledger.record("/data/app.db", lambda _: evidence)
        ledger.record("/data/naïve 💾.db", lambda new: new)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "evidence.db").stat().st_mode & 0o777 == 0o600
    with opened(folder) as ledger:
        found = ledger.snapshot()
        assert found["/data/app.db"] == evidence
        assert found["/data/naïve 💾.db"] == Evidence(first_seen_at=T0)
        assert found["/data/app.db"].last_passed is found["/data/app.db"].last_audit  # one object, not four copies
        assert (ledger.notes, ledger.error) == ([], None)


def test_a_snapshot_stays_as_it_was(folder: Path) -> None:
    with opened(folder) as ledger:
        ledger.record("/a", lambda new: new)
        before = ledger.snapshot()
        ledger.record("/b", lambda new: new)
        assert (list(before), list(ledger.snapshot())) == (["/a"], ["/a", "/b"])
        with pytest.raises(TypeError):
            before["/c"] = before["/a"]  # type: ignore[index] # that is the point


def stored(folder: Path) -> dict[str, str]:
    """What stands on disk, seen by somebody else."""
    other = apsw.Connection(str(folder / "evidence.db"))
    try:
        return {str(fact): str(text) for fact, text in other.execute("select fact, document from facts")}
    finally:
        other.close()


def test_what_is_read_anew_anyway_is_written_once_a_minute(folder: Path) -> None:
    clock, evidence = HandClock(), full_evidence()
    assert evidence.live is not None
    live = evidence.live
    with opened(folder, clock) as ledger:
        ledger.record("/data/app.db", lambda _: evidence)
        ledger.flush()
        first = stored(folder)
        assert '"2026-11-23T03:00:00.123456Z"' in first["live"]
        assert first["covered_live"].count('"00ff01"') == 2
        assert first["last_drill"].count('"file_corrupt"') == 1

        def look() -> None:
            clock.pass_by(5)
            ledger.record("/data/app.db", lambda e: looked_again(replace(e, content_error="new"), clock.now()))
            ledger.flush()

        def looked_again(evidence: Evidence, at: datetime) -> Evidence:
            seen, listing = evidence.sighting, evidence.listing
            assert seen is not None
            assert listing is not None
            listing = replace(listing, read_at=at)
            seen = replace(seen, read_at=at, finished_at=at, listing=listing)
            return replace(evidence, live=replace(live, read_at=at), sighting=seen, listing=listing)

        look()
        assert stored(folder) == first | {"content_error": '"new"'}
        for _ in range(11):
            look()
        assert all("03:01:00" in stored(folder)[fact] for fact in ("live", "sighting", "listing"))
        look()
        assert "03:01:00" in stored(folder)["live"]
        ledger.record("/data/app.db", lambda e: replace(e, replaced_at=None), durable=True)
        ledger.record(
            "/data/app.db", lambda e: replace(e, sighting=Sighting(T0, LookResult.TIMEOUT, "", "")), durable=True
        )
        assert "timeout" in stored(folder)["sighting"], "what it says anew is written at once"
        assert stored(folder)["replaced_at"] == "null"
    assert "03:01:05" in stored(folder)["live"]  # closing writes everything


@contextlib.contextmanager
def as_user(uid: int) -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.fail("only root can become somebody else: run the tests as root")
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public(tmp_path: Path) -> Iterator[Path]:
    """A folder that everybody can reach."""
    made = Path(f"/tmp/sidecar-ledger-{os.getpid()}-{tmp_path.name}")
    made.mkdir()
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def test_a_state_directory_of_somebody_else(public: Path) -> None:
    theirs = public / "theirs"
    theirs.mkdir(mode=0o777)
    theirs.chmod(0o777)
    if os.geteuid() == 0:
        os.chown(theirs, 2001, 2001)
    with as_user(NOBODY), pytest.raises(EnvironmentProblem) as refused:
        Ledger.open(theirs, clock=HandClock(), exclusive=True)
    assert refused.value.message == f"the state directory {theirs} belongs to user 2001, and this is user {NOBODY}"
    with opened(theirs):  # root may, and leaves files that their owner can use
        pass
    assert {each.stat().st_uid for each in theirs.iterdir()} == {2001}


def test_a_state_directory_that_cannot_be_written(public: Path) -> None:
    with as_user(NOBODY), pytest.raises(EnvironmentProblem) as refused:
        Ledger.open(public, clock=HandClock(), exclusive=True)  # root's, 0755
    assert refused.value.message == f"the state directory {public} cannot be written: permission denied"
    public.chmod(0o1777)
    with as_user(NOBODY), opened(public):  # root's, but writable: a Kubernetes volume
        pass
    blocked = public / "file"
    blocked.write_text("")
    with pytest.raises(EnvironmentProblem, match="cannot be written: file exists"):
        Ledger.open(blocked, clock=HandClock(), exclusive=True)


@pytest.mark.parametrize("damage", ["not a database", "pages overwritten", "tail cut", "another program's database"])
def test_a_damaged_file_is_moved_aside(folder: Path, damage: str) -> None:
    with opened(folder) as ledger:
        for number in range(40):
            ledger.record(f"/data/{number}.db", lambda _: full_evidence())
    file = folder / "evidence.db"
    raw = bytearray(file.read_bytes())
    if damage == "not a database":
        raw[:] = b"rubbish" * 1000
    elif damage == "pages overwritten":
        raw[8192:40960] = random.Random(1).randbytes(32768)
    elif damage == "tail cut":
        del raw[len(raw) // 2 :]
    file.write_bytes(raw)
    if damage == "another program's database":
        file.unlink()
        other = apsw.Connection(str(file))
        other.execute("create table theirs (x)")
        other.close()
    aside = folder / "evidence.db.damaged-20261123T030000"
    with opened(folder) as ledger:
        assert len(ledger.notes) == 1
        assert ledger.notes[0].startswith(f"{file} was damaged (")
        assert ledger.notes[0].endswith(f"it was moved to {aside}, and evidence begins anew")
        assert ledger.snapshot() == {}
        ledger.record("/data/app.db", lambda new: new)
    assert aside.exists()
    with opened(folder) as ledger:
        assert (ledger.notes, list(ledger.snapshot())) == ([], ["/data/app.db"])


def test_few_damaged_files_are_kept(folder: Path) -> None:
    clock = HandClock()
    for _ in range(5):
        clock.pass_by(60)
        folder.mkdir(exist_ok=True)
        (folder / "evidence.db").write_bytes(b"rubbish" * 1000)
        (folder / "evidence.db-journal").write_bytes(b"")
        with opened(folder, clock):
            pass
    assert len(list(folder.glob("*.damaged-*[0-9]"))) == 3


def test_damage_beside_a_daemon_is_the_daemons_to_move(folder: Path) -> None:
    with opened(folder):
        raw = folder / "evidence.db"
        descriptor = os.open(raw, os.O_WRONLY)  # kept open: closing it would drop the daemon's own locks
        os.pwrite(descriptor, b"rubbish" * 1000, 0)
        with pytest.raises(EnvironmentProblem, match=r"is damaged .* and a daemon uses it"):
            Ledger.open(folder, clock=HandClock(), exclusive=False)
    os.close(descriptor)


def test_a_newer_format_is_refused(folder: Path) -> None:
    with opened(folder):
        pass
    other = apsw.Connection(str(folder / "evidence.db"))
    other.execute("pragma user_version = 9")
    other.close()
    with pytest.raises(EnvironmentProblem, match=r"written by a newer sidecar \(format 9, this one knows 1\)"):
        Ledger.open(folder, clock=HandClock(), exclusive=True)


def test_what_cannot_be_read_is_dropped_and_said(folder: Path) -> None:
    with opened(folder) as ledger:
        ledger.record("/data/app.db", lambda _: full_evidence())
        ledger.add_drill(database(), drill(3))
        ledger.add_drill(database(), drill(4))
    other = apsw.Connection(str(folder / "evidence.db"))
    for fact, document in [
        ("claim", '{"read_at": "yesterday"}'), ("listing", "[1, 2"), ("live", "null"), ("from_the_future", '{"x": 1}'),
        ("content", '{"read_at": 1}'), ("file_id", '{"device": 5, "inode": 6, "shelf": 7}'), ("file_id2", "}"),
    ]:  # fmt: skip
        other.execute("insert or replace into facts values ('/data/app.db', ?, ?)", (fact, document))
    other.execute("update drills set document = '{}' where id = 'id-3'")
    other.close()
    with opened(folder) as ledger:
        evidence = ledger.snapshot()["/data/app.db"]
        dropped = (evidence.claim, evidence.listing, evidence.live, evidence.content, evidence.sighting)
        assert dropped == (None,) * 5  # without its listing a sighting says nothing
        assert evidence.file_id == FileId(5, 6)
        assert evidence.last_drill == drill(4)
        assert [each.id for _, each in ledger.history(None, 10)] == ["id-4"]
        said = "\n".join(ledger.notes)
    assert "/data/app.db: the stored fact claim cannot be read" in said
    assert "the stored fact listing" in said
    assert "/data/app.db: a stored drill cannot be read" in said
    assert "future" not in said


def test_a_drill_in_the_foreground_reaches_the_daemon(folder: Path) -> None:
    with opened(folder) as daemon, opened(folder, exclusive=False) as verify:
        daemon.add_drill(database(), drill(1))
        verify.refresh()
        assert verify.snapshot()["/data/app.db"].last_drill == drill(1)
        verify.add_drill(database(), drill(2, Outcome.FAILED))
        assert daemon.snapshot()["/data/app.db"].last_drill == drill(1)
        daemon.refresh()
        seen = daemon.snapshot()["/data/app.db"]
        assert (seen.last_drill, seen.not_passed_in_a_row) == (drill(2, Outcome.FAILED), 1)
        daemon.refresh()
        assert daemon.snapshot()["/data/app.db"] is seen
        verify.record("/data/app.db", lambda e: replace(e, content_error="from the foreground"), durable=True)
        assert "content_error" not in stored(folder)  # beside a daemon the facts are the daemon's
    with opened(folder) as daemon:
        assert daemon.snapshot()["/data/app.db"] == seen  # folded in once, not twice
        assert [each.id for _, each in daemon.history("/data/app.db", 10)] == ["id-2", "id-1"]
        assert daemon.history("/data/other.db", 10) == []
        assert daemon.drill("id-1") == ("app", drill(1))
        assert daemon.drill("id-9") is None


def test_without_a_daemon_the_foreground_writes_all(folder: Path) -> None:
    with opened(folder, exclusive=False) as verify:
        verify.record("/data/app.db", lambda _: full_evidence())
        verify.add_drill(database(), drill(3))
        with opened(folder) as daemon:
            assert daemon.snapshot()["/data/app.db"] == full_evidence().after_drill(drill(3))


def test_drills_of_two_processes_fall_into_order(folder: Path) -> None:
    """The other's drill ended earlier, and is seen only when ours has been recorded."""
    clock = HandClock(T0 + timedelta(hours=5))
    with opened(folder, clock) as daemon, opened(folder, clock, exclusive=False) as verify:
        ours, theirs = drill(5, Outcome.INCONCLUSIVE), drill(4, Outcome.FAILED)
        daemon.add_drill(database(), drill(1))
        daemon.add_drill(database(), ours)
        verify.add_drill(database(), theirs)
        daemon.refresh()
        seen = daemon.snapshot()["/data/app.db"]
        assert (seen.last_drill, seen.last_conclusive, seen.last_passed) == (ours, theirs, drill(1))


def test_a_drill_from_before_the_clock_was_set_back_does_not_outweigh_newer_ones(folder: Path) -> None:
    """It would stand for hours as the newest, while drills that nobody counts follow each other."""
    clock = HandClock(T0 + timedelta(hours=5))
    with opened(folder, clock) as daemon:
        daemon.add_drill(database(), drill(5))
        clock.at = T0
        now = drill(6, Outcome.FAILED, at=T0)
        daemon.add_drill(database(), now)
        seen = daemon.snapshot()["/data/app.db"]
        assert (seen.last_drill, seen.last_conclusive) == (now, now)
        proof = drill(7, at=T0)
        daemon.add_drill(database(), proof)
        seen = daemon.snapshot()["/data/app.db"]
        assert (seen.last_drill, seen.last_conclusive, seen.last_passed) == (proof, proof, proof)
        assert seen.not_passed_in_a_row == 0


def test_history_is_bounded_and_failures_outlive_successes(folder: Path) -> None:
    with opened(folder) as ledger:
        ledger.add_drill(database("/data/other.db"), drill(-1))
    file = EvidenceFile(folder / "evidence.db")
    with file.transaction():
        for number in range(FAILED_KEPT_MAX + 20):
            file.add_drill(new_drill("/data/app.db", "app", drill(number, Outcome.FAILED), 0.5))
        for number in range(1000, 1000 + DRILLS_KEPT_MAX + 30):
            file.add_drill(new_drill("/data/app.db", "app", drill(number), 0.5))
    file.close()
    with opened(folder) as ledger:
        kept = [each for _, each in ledger.history("/data/app.db", 10_000)]
        assert len(kept) == FAILED_KEPT_MAX + DRILLS_KEPT_MAX
        assert [each.id for each in kept[:2]] == ["id-1229", "id-1228"]
        assert kept[-1].id == "id-20"
        assert len(ledger.history(None, 10)) == 10
        assert ledger.drill("id--1") is not None


def test_databases_that_left_long_ago_are_forgotten(folder: Path) -> None:
    clock = HandClock()
    with opened(folder, clock) as ledger:
        for path in ("/gone", "/stays"):
            ledger.record(path, lambda new: new)
            ledger.add_drill(database(path), drill(0, at=T0 if path == "/gone" else T0 + timedelta(seconds=1)))
        clock.pass_by(6 * 86400)
        assert ledger.forget({"/stays"}) == 0
        clock.pass_by(2 * 86400)
        assert ledger.forget({"/stays"}) == 1
        assert list(ledger.snapshot()) == ["/stays"]
    with opened(folder) as ledger:
        assert list(ledger.snapshot()) == ["/stays"]
        assert ledger.history("/gone", 10) == []


BUSY = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from sidecar.adapters.ledger import Ledger
from tests.adapters.test_ledger import HandClock, database, drill, full_evidence

ledger = Ledger.open(Path(sys.argv[1]), clock=HandClock(datetime.now(UTC)), exclusive=True)
start = int(sys.argv[2])
ledger.begin_drill(database(), f"lost-{start}")
for number in range(start, start + 100_000):
    ledger.record(f"/data/{number % 50}.db", lambda _: full_evidence())
    ledger.add_drill(database(), drill(number % 90_000))
    print(f"id-{number % 90_000}", flush=True)
"""


def busy(folder: Path, start: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUSY, str(folder), str(start)], cwd=ROOT, text=True, stdout=subprocess.PIPE
    )


def test_kill_at_any_instant_loses_no_drill(folder: Path) -> None:
    """Three lives, each killed somewhere in the middle of its writing."""
    written: list[str] = []
    later = HandClock(T0 + timedelta(days=10_000))
    for life in range(3):
        process = busy(folder, 1000 * life)
        assert process.stdout is not None
        written += [process.stdout.readline().strip() for _ in range(random.Random(life).randrange(10, 40))]
        process.send_signal(signal.SIGKILL)
        written += process.stdout.read().split()
        process.stdout.close()
        process.wait()
        with opened(folder, later) as ledger:
            assert ledger.notes == []
            found = ledger.history("/data/app.db", 10_000)
            assert found[0][1].id == f"lost-{1000 * life}"
            aborted = ledger.snapshot()["/data/app.db"].last_drill
            assert aborted is not None
            assert (aborted.outcome, aborted.reason) == (Outcome.ABORTED, "aborted")
            assert aborted.message == "the process that ran this drill ended before the drill did"
            newest = {each.id for _, each in found}
            assert set(written[-150:]) <= newest
            assert len(ledger.snapshot()) > 1
        with opened(folder) as ledger:
            assert ledger.history("/data/app.db", 1) == found[:1]  # aborted once, not at every start


def test_a_flush_is_bounded(folder: Path) -> None:
    with opened(folder) as ledger:
        for number in range(DATABASES_MAX + 5):
            ledger.record(f"/data/{number}.db", lambda new: new)
        for expected in (DATABASES_MAX, DATABASES_MAX + 5):
            ledger.flush()
            other = apsw.Connection(str(folder / "evidence.db"))
            assert other.execute("select count(distinct path) from facts").fetchall() == [(expected,)]
            other.close()


def test_a_second_daemon_names_the_first(folder: Path) -> None:
    process = busy(folder, 0)
    assert process.stdout is not None
    try:
        process.stdout.readline()
        with pytest.raises(EnvironmentProblem) as refused:
            Ledger.open(folder, clock=HandClock(), exclusive=True)
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
    said = f"another daemon (pid {process.pid}) already uses the state directory {folder}"
    assert (refused.value.message, refused.value.exit_code) == (said, 2)
    assert "--state-dir" in refused.value.hint
    with opened(folder):
        pass  # the lock went with its holder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 KiB of its own."""
    made = tmp_path / "disk"
    made.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k,mode=0700", "tmpfs", str(made)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.fail("mounting a disk of our own needs root with CAP_SYS_ADMIN")
    yield made
    subprocess.run(["umount", str(made)], check=True)


def test_a_full_disk_keeps_evidence_in_memory(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    with opened(small_disk) as ledger:
        ledger.add_drill(database(), drill(1))
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 4096)
        for number in range(2, 8):
            ledger.record(f"/data/{number}.db", lambda _: full_evidence())
            assert ledger.add_drill(database(), drill(number)).last_drill == drill(number)
        ledger.flush()
        assert ledger.error is not None
        assert "there is no room left in the state directory" in ledger.error
        assert ledger.snapshot()["/data/app.db"].last_drill == drill(7)
        assert [each.id for _, each in ledger.history("/data/app.db", 3)] == ["id-7", "id-6", "id-5"]
        assert ledger.drill("id-7") == ("app", drill(7))
        assert ledger.error is not None  # reading still works, writing does not
        ballast.unlink()
        ledger.flush()
        assert ledger.error is None
        found = ledger.history(None, 10)
    with opened(small_disk) as ledger:
        assert ledger.history(None, 10) == found
        assert len(found) == 7
        assert ledger.snapshot()["/data/app.db"].last_drill == drill(7)
        assert ledger.snapshot()["/data/5.db"] == full_evidence()


def test_a_directory_that_turns_read_only(public: Path) -> None:
    """The journal can no longer be made beside the file; then it can again."""
    state = public / "state"
    state.mkdir()
    if os.geteuid() == 0:
        os.chown(state, NOBODY, NOBODY)
    with as_user(NOBODY), opened(state) as ledger:
        state.chmod(0o500)
        ledger.begin_drill(database(), "id-1")
        ledger.add_drill(database(), drill(1))
        assert ledger.error is not None
        assert ledger.error.startswith(f"{state / 'evidence.db'}: ")
        assert ledger.error.endswith("evidence is kept in memory until it can be written")
        assert ledger.snapshot()["/data/app.db"].last_drill == drill(1)
        state.chmod(0o700)
        ledger.flush()
        assert ledger.error is None
        assert stored(state)["last_drill"].startswith('{"id":"id-1"')


def test_a_read_only_disk_is_refused(small_disk: Path) -> None:
    with opened(small_disk):
        pass
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(EnvironmentProblem) as refused:
        Ledger.open(small_disk, clock=HandClock(), exclusive=True)
    assert refused.value.message == f"the state directory {small_disk} cannot be written: read-only file system"
