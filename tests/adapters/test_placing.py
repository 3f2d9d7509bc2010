"""A file is put in place whole or not at all: refusals, owners, what is stale, errors and kill -9 at every step."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sidecar.adapters.placing import SUFFIXES, Placing, kept_name
from sidecar.core.errors import EnvironmentProblem, SidecarError
from sidecar.core.occupancy import InUse, Occupancy, Occupant
from tests.fakes import FakeClock

OLD = {"": b"old", "-wal": b"old wal", "-shm": b"old shm", "-journal": b"old journal"}
AT = datetime(2026, 11, 23, 3, 0, 0, tzinfo=UTC)
NOBODY = 65534


@dataclass
class Eyes:
    """Who has the database open, from the n-th look on; may do something else instead."""

    busy_from: int = 1000
    looks: int = 0
    seen: list[Path] = field(default_factory=list)

    def __call__(self, path: Path) -> Occupancy:
        self.looks += 1
        self.seen.append(path)
        return Occupancy(processes=(Occupant(7, "app"),)) if self.looks >= self.busy_from else Occupancy()


def placing(eyes: Callable[[Path], Occupancy] | None = None) -> Placing:
    return Placing(eyes or Eyes(), FakeClock(at=AT))


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "app.db"


@pytest.fixture
def old(destination: Path) -> Path:
    for suffix, content in OLD.items():
        Path(f"{destination}{suffix}").write_bytes(content)
    return destination


@pytest.fixture
def fresh(destination: Path) -> Path:
    room = destination.parent / "room"
    room.mkdir()
    (room / "copy").write_bytes(b"new")
    return room / "copy"


def standing(destination: Path) -> dict[str, bytes]:
    """What stands at the destination, by suffix."""
    files = {suffix: Path(f"{destination}{suffix}") for suffix in SUFFIXES}
    return {suffix: file.read_bytes() for suffix, file in files.items() if file.exists()}


def others(destination: Path) -> list[str]:
    """What else lies in the folder."""
    ours = {f"{destination.name}{suffix}" for suffix in SUFFIXES}
    return sorted(each.name for each in destination.parent.iterdir() if each.name not in ours | {"room"})


def test_to_a_place_where_nothing_stands(destination: Path, fresh: Path) -> None:
    spot = placing().look(destination, force=False)
    placed = placing().put(fresh, spot, keep=True)
    assert (standing(destination), others(destination), placed.aside) == ({"": b"new"}, [], None)
    assert stat.S_IMODE(destination.stat().st_mode) == 0o600
    assert not fresh.exists()


def test_stale_files_without_their_database_are_said_and_removed(destination: Path, fresh: Path) -> None:
    for suffix in SUFFIXES[1:]:
        Path(f"{destination}{suffix}").write_bytes(b"stale")
    spot = placing().look(destination, force=False)
    assert [each.name for each in spot.stale] == ["app.db-wal", "app.db-shm", "app.db-journal"]
    placing().put(fresh, spot, keep=False)
    assert (standing(destination), others(destination)) == ({"": b"new"}, [])


def test_what_stands_there_is_replaced_as_a_set(old: Path, fresh: Path) -> None:
    placing().put(fresh, placing().look(old, force=True), keep=False)
    assert (standing(old), others(old)) == ({"": b"new"}, [])


def test_what_stands_there_is_kept_as_a_set(old: Path, fresh: Path) -> None:
    placed = placing().put(fresh, placing().look(old, force=True), keep=True)
    assert placed.aside == kept_name(old, "20261123T030000Z")
    assert others(old) == ["app.db.replaced-20261123T030000Z"]
    assert standing(placed.aside / "app.db.old") == OLD
    assert stat.S_IMODE(placed.aside.stat().st_mode) == 0o700
    placing().take_back(placed)
    assert (standing(old), others(old)) == (OLD, [])


def test_kept_twice_within_one_second(old: Path, fresh: Path) -> None:
    placing().put(fresh, placing().look(old, force=True), keep=True)
    fresh.write_bytes(b"newer")
    placed = placing().put(fresh, placing().look(old, force=True), keep=True)
    assert placed.aside is not None
    assert placed.aside.name == "app.db.replaced-20261123T030000Z-again"


def test_a_new_file_is_taken_back_too(destination: Path, fresh: Path) -> None:
    placing().take_back(placing().put(fresh, placing().look(destination, force=False), keep=True))
    assert (standing(destination), others(destination)) == ({}, [])


# Refusals


def refused(destination: Path, *says: str, force: bool = False) -> None:
    with pytest.raises(EnvironmentProblem) as error:
        placing().look(destination, force=force)
    assert error.value.exit_code == 2
    assert error.value.hint
    for each in says:
        assert each in error.value.message


def test_something_stands_there(old: Path) -> None:
    refused(old, "exists already")


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_a_pipe_and_no_parent(destination: Path, *, force: bool) -> None:
    refused(destination.parent, "is a folder", force=force)
    os.mkfifo(destination.parent / "pipe")
    refused(destination.parent / "pipe", "is no file", force=force)
    refused(destination.parent / "none" / "app.db", "there is no folder", force=force)
    destination.write_bytes(b"")
    refused(destination / "app.db", "is no folder", force=force)


@pytest.mark.parametrize("suffix", SUFFIXES[1:])
def test_the_name_of_a_file_that_sqlite_keeps_beside_another(destination: Path, suffix: str) -> None:
    refused(Path(f"{destination}{suffix}"), "bears the name", force=True)


def test_links_are_followed_and_stay(old: Path, fresh: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(old)
    refused(link, str(old))
    placing().put(fresh, placing().look(link, force=True), keep=False)
    assert link.is_symlink()
    assert (link.read_bytes(), standing(old)) == (b"new", {"": b"new"})
    (tmp_path / "round").symlink_to(tmp_path / "round")
    refused(tmp_path / "round")


@pytest.mark.parametrize("force", [False, True])
def test_in_use(old: Path, *, force: bool) -> None:
    with pytest.raises(InUse if force else EnvironmentProblem):
        placing(Eyes(busy_from=1)).look(old, force=force)


def as_nobody(code: str, *arguments: object) -> str:
    """Run a look as another user; what it says."""
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from sidecar.adapters.placing import Placing\n"
        "from sidecar.core.occupancy import Occupancy\n"
        f"os.setgroups([]); os.setresgid({NOBODY}, {NOBODY}, {NOBODY}); os.setresuid({NOBODY}, {NOBODY}, {NOBODY})\n"
        "path = Path(sys.argv[2])\n"
        f"try: {code}\n"
        "except Exception as error: print(error)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-B", "-c", program, str(root), *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


@pytest.fixture
def open_to_others(tmp_path: Path) -> None:
    for each in (*tmp_path.parents[:3], tmp_path):
        each.chmod(each.stat().st_mode | 0o011)


@pytest.mark.usefixtures("open_to_others")
def test_a_folder_that_may_not_be_written_and_a_file_of_another_user(old: Path) -> None:
    look = "print(Placing(lambda _: Occupancy(), None).look(path, force=True))"
    assert "nothing can be written to" in as_nobody(look, old)
    old.parent.chmod(0o777)
    assert f"belongs to 0:0, and what we put there would belong to {NOBODY}:{NOBODY}" in as_nobody(look, old)
    os.chown(old, NOBODY, NOBODY)
    assert as_nobody(look, old).startswith("Spot(")


@pytest.mark.parametrize("unseen", [False, True])
def test_what_could_not_be_seen_is_passed_on(old: Path, *, unseen: bool) -> None:
    assert placing(lambda _: Occupancy(unseen=unseen)).look(old, force=True).unseen is unseen


# Owner and mode


def test_the_owner_and_mode_of_what_stood_there_are_kept(old: Path, fresh: Path) -> None:
    os.chown(old, 4711, 4712)
    old.chmod(0o640)
    placing().put(fresh, placing().look(old, force=True), keep=False)
    found = old.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (4711, 4712, 0o640)


def test_on_a_fresh_machine_the_file_belongs_to_whom_its_folder_belongs(destination: Path, fresh: Path) -> None:
    os.chown(destination.parent, 4711, 4712)
    placing().put(fresh, placing().look(destination, force=False), keep=False)
    found = destination.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (4711, 4712, 0o600)


# Midway


class Wrong(SidecarError):
    """What a check finds."""


def test_a_check_that_fails_puts_everything_back(old: Path, fresh: Path) -> None:
    def check(path: Path) -> None:
        assert standing(path) == {"": b"new"}
        raise Wrong("not what it should be")

    with pytest.raises(Wrong):
        placing().put(fresh, placing().look(old, force=True), keep=True, check=check)
    assert (standing(old), others(old)) == (OLD, [])


def test_a_check_that_fails_where_nothing_stood_leaves_nothing(destination: Path, fresh: Path) -> None:
    def check(path: Path) -> None:
        raise OSError(5, f"Input/output error: {path}")

    with pytest.raises(SidecarError, match="it is as it was before"):
        placing().put(fresh, placing().look(destination, force=False), keep=True, check=check)
    assert (standing(destination), others(destination)) == ({}, [])


@pytest.mark.parametrize("looks", [2, 3])
def test_whoever_opens_it_meanwhile_keeps_it(old: Path, fresh: Path, looks: int) -> None:
    """Before anything is moved, and just after it: the process has what was moved aside open then."""
    eyes = Eyes(busy_from=looks)
    with pytest.raises(InUse):
        placing(eyes).put(fresh, placing(eyes).look(old, force=True), keep=False)
    assert eyes.looks == looks
    assert (standing(old), others(old)) == (OLD, [])


def test_whoever_makes_one_meanwhile_keeps_it(destination: Path, fresh: Path) -> None:
    spot = placing().look(destination, force=False)
    destination.write_bytes(b"theirs")
    with pytest.raises(EnvironmentProblem, match="exists already"):
        placing().put(fresh, spot, keep=False)
    assert (standing(destination), others(destination)) == ({"": b"theirs"}, [])


def test_two_runs_at_once(old: Path, fresh: Path) -> None:
    def check(path: Path) -> None:
        other = path.parent / "room" / "other"
        other.write_bytes(b"other")
        with pytest.raises(InUse, match="another run"):
            placing().recover(path)
        with pytest.raises(InUse, match="another run"):
            placing().put(other, placing().look(path, force=True), keep=False)

    placing().put(fresh, placing().look(old, force=True), keep=False, check=check)
    assert (standing(old), others(old)) == ({"": b"new"}, [])


KILLED = (
    "import os, signal, sys; sys.path.insert(0, sys.argv[1])\n"
    "from datetime import UTC, datetime\n"
    "from pathlib import Path\n"
    "from sidecar.adapters.placing import Placing\n"
    "from sidecar.core.occupancy import Occupancy\n"
    "class Clock:\n"
    "    def now(self): return datetime(2026, 11, 23, 3, tzinfo=UTC)\n"
    "placing = Placing(lambda _: Occupancy(), Clock())\n"
    "path, fresh, left, keep = Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == 'keep'\n"
    "spot = placing.look(path, force=True)\n"
    "def step(event, _):\n"
    "    global left\n"
    "    if event in {'os.rename', 'os.remove', 'os.rmdir', 'os.mkdir'}:\n"
    "        left -= 1\n"
    "        if not left: os.kill(os.getpid(), signal.SIGKILL)\n"
    "sys.addaudithook(step)\n"
    "placing.put(fresh, spot, keep=keep)\n"
)


@pytest.mark.parametrize("keep", ["keep", "remove"])
@pytest.mark.parametrize("steps", range(1, 13))
def test_killed_before_any_of_its_steps(old: Path, fresh: Path, steps: int, keep: str) -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(root), str(old), str(fresh), str(steps), keep], check=False
    )
    found = standing(old)
    assert found in (OLD, {"": b"new"}) or "" not in found, "the old set, the new file alone, or loudly nothing"
    arrived = found == {"": b"new"}
    said = placing().recover(old)
    assert standing(old) == ({"": b"new"} if arrived else OLD)
    assert placing().recover(old) is None
    if done.returncode == -signal.SIGKILL and arrived:
        kept = kept_name(old, "20261123T030000Z")
        assert (said is None) is (not kept.exists())
        assert said is None or str(kept) in said
        assert keep == "remove" or standing(kept / "app.db.old") == OLD
    elif done.returncode == -signal.SIGKILL:
        assert others(old) == []
        assert said is None or "was put back" in said
    else:
        assert done.returncode == 0
        assert arrived


def test_the_killing_reaches_the_last_step(old: Path, fresh: Path) -> None:
    """Else the test above would show less than it says."""
    root = Path(__file__).resolve().parents[2]
    codes = []
    for steps in range(1, 13):
        for suffix, content in OLD.items():
            Path(f"{old}{suffix}").write_bytes(content)
        fresh.write_bytes(b"new")
        argv = [sys.executable, "-c", KILLED, str(root), str(old), str(fresh), str(steps), "keep"]
        codes.append(subprocess.run(argv, check=False).returncode)
        placing().recover(old)
    assert codes[:7] == [-signal.SIGKILL] * 7  # a folder, four files aside, the new one, the lasting name
    assert codes[7:] == [0] * 5
