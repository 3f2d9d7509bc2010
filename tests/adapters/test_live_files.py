"""What the local files say, with the real Litestream: covered when idle, never while a commit is missing.

The app's connection lives in this process, so production's files are read through descriptors that stay open: closing one
would drop the app's locks.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.live_files import DENSE, LiveFiles
from sidecar.core.coverage import Coverage, coverage
from sidecar.core.evidence import Evidence
from sidecar.core.live_state import LiveState
from sidecar.core.model import Claim, ClaimSource, Database, Replica
from tests.litestreams import App, Litestream, Writer, binary, binary_of, environment, until

CONFIG = """\
dbs:
  - path: {path}
    monitor-interval: 50ms
    checkpoint-interval: 300ms
    min-checkpoint-page-count: 20
    {replica}
"""


@dataclass
class HeldOpen:
    """Reads like `os.pread` and closes nothing until the app has gone."""

    files: dict[tuple[str, int], int] = field(default_factory=dict)
    reads: int = 0

    def __call__(self, path: Path, size: int, offset: int) -> bytes:
        self.reads += 1
        key = (str(path), path.stat().st_ino)
        if key not in self.files:
            self.files[key] = os.open(path, os.O_RDONLY)
        return os.pread(self.files[key], size, offset)


@dataclass
class Scene:
    """An app, Litestream beside it, and the reader."""

    folder: Path
    version: str
    app: App = field(init=False)
    litestream: Litestream = field(init=False)
    held: HeldOpen = field(default_factory=HeldOpen)

    def __post_init__(self) -> None:
        self.app = App(self.folder / "data" / "app.db")
        target = f"{{type: file, path: {self.folder / 'replica'}, sync-interval: 50ms}}"
        block = f"replicas: [{target}]" if self.version.startswith("0.3") else f"replica: {target}"
        config = self.folder / "litestream.yml"
        config.write_text(CONFIG.format(path=self.app.path, replica=block))
        executable = binary() if self.version == "0.5.17" else binary_of(self.version)
        self.litestream = Litestream(config, executable=executable)
        self.reader = LiveFiles(self.held, SystemClock())
        self.database = Database("app", str(self.app.path), str(self.meta), Replica("file", "replica"))

    @property
    def meta(self) -> Path:
        return self.folder / "data" / ".app.db-litestream"

    def read(self) -> LiveState:
        return self.reader.read(self.database)

    def covered(self) -> bool:
        return coverage(self.read()) is Coverage.COVERED

    def settles(self) -> LiveState:
        """Wait until covered, then see that it stays so: through Litestream's next ticks and its own checkpoint."""
        until(self.covered, within=8, say="covered")
        seen: list[Coverage] = []

        def watched() -> bool:
            seen.append(coverage(self.read()))
            return len(seen) == 9

        until(watched, every=0.1)
        # Litestream's checkpoint commits, and captures that commit a moment later; from then on nothing moves.
        assert seen[-3:] == [Coverage.COVERED] * 3, seen
        return self.read()

    def started(self) -> LiveState:
        self.litestream.start()
        until(self.covered, within=8, say="covered after the start")
        return self.read()

    def close(self) -> None:
        self.litestream.kill()
        self.app.close()
        for each in self.held.files.values():
            os.close(each)


@pytest.fixture(params=["0.5.17", "0.3.13"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path, request.param)
    yield made
    made.close()


@pytest.fixture
def scene5(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path, "0.5.17")
    yield made
    made.close()


@pytest.fixture
def scene3(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path, "0.3.13")
    yield made
    made.close()


def test_before_litestream_has_begun_nothing_is_known(scene: Scene) -> None:
    state = scene.read()
    assert (coverage(state), state.captures, state.error) == (Coverage.UNKNOWN, (), None)
    assert state.wal_index is not None
    assert state.wal_index.end == state.wal_bytes


def test_an_idle_database_settles_to_covered_also_after_litestreams_own_checkpoint(scene: Scene) -> None:
    first = scene.started()
    scene.app.write(30, text="y" * 3000)  # more pages than min-checkpoint-page-count
    state = scene.settles()
    assert state.wal_index is not None
    assert first.wal_index is not None
    assert state.wal_index.salts != first.wal_index.salts, "Litestream was meant to checkpoint"
    assert state.fingerprint == scene.settles().fingerprint


@pytest.mark.parametrize("mode", ["PASSIVE", "RESTART", "TRUNCATE"])
def test_the_apps_own_checkpoints_invent_no_lag(scene: Scene, mode: str) -> None:
    scene.app.write(3)
    scene.started()
    scene.app.execute("pragma busy_timeout=50")  # Litestream's read transaction keeps RESTART and TRUNCATE waiting
    scene.app.execute(f"pragma wal_checkpoint({mode})")
    scene.app.write()
    scene.app.execute(f"pragma wal_checkpoint({mode})")
    scene.settles()


def test_automatic_checkpoints_under_load_invent_no_lag_once_idle(scene: Scene) -> None:
    scene.started()
    scene.app.execute("pragma wal_autocheckpoint=10")
    with Writer(scene.app, pause=0.001) as writer:
        until(lambda: writer.commits > 300)
    scene.settles()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_litestream_ends(scene: Scene, how: str) -> None:
    scene.app.write(3)
    scene.started()
    scene.settles()
    getattr(scene.litestream, how)()
    assert scene.covered(), "idle: nothing is missing"
    scene.app.write()
    assert coverage(scene.read()) is Coverage.BEHIND, "the very next commit is missing"
    scene.app.execute("pragma wal_checkpoint(PASSIVE)")
    assert not scene.covered()
    scene.app.execute("pragma wal_checkpoint(TRUNCATE)")
    assert not scene.covered(), "the WAL is empty, its commits are in the database only"
    scene.app.write()
    assert not scene.covered()
    scene.app.close()
    assert not scene.covered(), "the WAL is gone"
    scene.started()
    scene.settles()


def test_all_closed_and_litestream_last(scene: Scene) -> None:
    scene.app.write(3)
    scene.started()
    scene.app.close()
    scene.litestream.stop()
    assert scene.covered(), "Litestream leaves the WAL and its index behind, and they tell"
    scene.app.open()
    assert scene.covered()
    scene.app.write()
    assert not scene.covered()
    scene.started()


def test_all_closed_and_the_app_last_cannot_be_told(scene: Scene) -> None:
    scene.app.write(3)
    scene.started()
    scene.litestream.stop()
    scene.app.close()
    assert coverage(scene.read()) is Coverage.UNKNOWN, (
        "SQLite removed the WAL; a commit before that would look the same"
    )


def test_another_file_is_moved_over_the_database_with_an_old_mtime(scene: Scene) -> None:
    scene.app.write(3)
    scene.started()
    evidence = _unasked().after_live(scene.read())
    scene.app.close()
    _replace(scene, leave_wal=False)
    evidence = evidence.after_live(scene.read())
    assert not scene.covered()
    assert evidence.replaced_at is not None
    scene.litestream.stop()
    scene.app.open()
    scene.app.write()
    assert not scene.covered()
    scene.started()
    assert evidence.after_live(scene.settles()).replaced_at is None


def test_another_file_under_the_old_wal_counts_as_replaced_although_all_seems_covered(scene: Scene) -> None:
    scene.app.write(3)
    scene.started()
    until(lambda: list((scene.folder / "replica").rglob("*.l*")), say="the replica exists")
    evidence = _unasked().after_live(scene.settles())
    scene.litestream.kill()
    _replace(scene, leave_wal=True)
    assert scene.covered(), "the WAL and its index say nothing of the file beside them"
    assert evidence.after_live(scene.read()).after_live(scene.read()).replaced_at is not None


def _unasked() -> Evidence:
    """Evidence where Litestream cannot be asked, so that only files tell."""
    now = SystemClock().now()
    return Evidence(first_seen_at=now).after_claim(Claim(now, ClaimSource.NONE))


def _replace(scene: Scene, *, leave_wal: bool) -> None:
    new = scene.folder / "new.db"
    other = sqlite3.connect(new, isolation_level=None)
    other.execute("create table t (id integer primary key, v text)")
    other.close()
    os.utime(new, (0, 0))
    if not leave_wal:
        for tail in ("-wal", "-shm"):
            Path(f"{scene.app.path}{tail}").unlink(missing_ok=True)
    new.rename(scene.app.path)


def test_litestreams_folder_is_removed(scene: Scene) -> None:
    scene.app.write(3)
    scene.started()
    scene.litestream.stop()
    shutil.rmtree(scene.meta)
    state = scene.read()
    assert (coverage(state), state.captures, state.error) == (Coverage.UNKNOWN, (), None)
    scene.started()
    scene.settles()


def test_what_counts_as_covered_while_the_app_writes_can_be_restored(scene5: Scene) -> None:
    scene5.started()
    with Writer(scene5.app, pause=0.04) as writer:
        for more in (5, 25, 45):
            until(lambda: writer.commits >= more)  # noqa: B023 - waited for here
            found: list[tuple[int, LiveState]] = []

            def looked(found: list[tuple[int, LiveState]] = found) -> bool:
                found[:] = [(writer.commits, scene5.read())]  # commits are counted before the files are read
                return coverage(found[0][1]) is Coverage.COVERED

            until(looked, within=8, every=0.003)
            commits, state = found[0]
            assert commits
            assert state.capture is not None
            txid = str(state.capture.position)
            until(lambda: list((scene5.folder / "replica").rglob(f"*-{txid}.ltx")), say=f"{txid} is uploaded")  # noqa: B023 - waited for here
            assert _rows(scene5, txid) >= commits


def _rows(scene: Scene, txid: str) -> int:
    out = scene.folder / f"{txid}.db"
    command = [scene.litestream.executable, "restore", "-config", str(scene.litestream.config), "-txid", txid]
    done = subprocess.run(
        [*command, "-o", str(out), str(scene.app.path)], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    restored = sqlite3.connect(out)
    rows = int(restored.execute("select count(*) from t").fetchone()[0])
    restored.close()
    return rows


def test_a_level_0_file_says_what_sqlite_says(scene5: Scene) -> None:
    scene5.app.write(40, text="y" * 3000)
    scene5.started()
    state = scene5.settles()
    assert state.capture is not None
    assert state.wal_index is not None
    pages = scene5.app.execute("pragma page_count")[0][0]
    log = Path(f"{scene5.app.path}-wal")
    assert (state.capture.page_count, state.capture.wal_end) == (pages, state.wal_index.end)
    assert state.capture.salts == scene5.held(log, 8, 16)
    assert abs(state.capture.at - SystemClock().now()) < timedelta(seconds=30)


def test_the_shadow_wal_ends_where_production_does_and_its_earlier_ends_are_remembered(scene3: Scene) -> None:
    scene3.started()
    ends = []
    for _ in range(4):
        scene3.app.write()
        ends.append(scene3.settles().captures[0].position)
    captures = scene3.read().captures
    generation = (scene3.meta / "generation").read_text().strip()
    assert {each.generation for each in ends} == {generation}
    assert set(ends) <= {each.position for each in captures}
    assert [each.position for each in captures] == sorted(
        (each.position for each in captures), key=lambda each: (each.index, each.offset), reverse=True
    )


def test_of_many_files_the_newest_and_ever_fewer_older_ones_are_read_and_each_once(scene5: Scene) -> None:
    scene5.started()
    scene5.litestream.kill()
    level0 = scene5.meta / "ltx" / "0"
    pattern = next(level0.glob("*.ltx")).read_bytes()[:100]
    for txid in range(2, 1001):
        both = txid.to_bytes(8, "big") * 2
        (level0 / f"{txid:016x}-{txid:016x}.ltx").write_bytes(pattern[:16] + both + pattern[32:])
    (level0 / f"{1001:016x}-{1001:016x}.ltx.tmp").write_bytes(pattern)
    txids = [each.position.index for each in scene5.read().captures]
    assert txids[:DENSE] == list(range(1000, 1000 - DENSE, -1))
    assert txids[-1] == 1
    assert len(txids) < 80
    for wanted in range(1, 1001):  # the nearest older file is never further away than a quarter of the way back
        nearest = next(each for each in txids if each <= wanted)
        assert wanted - nearest <= (1000 - wanted) / 4 + 1


def test_a_file_that_is_no_ltx_file_is_passed_over(scene5: Scene) -> None:
    known = scene5.started()
    level0 = scene5.meta / "ltx" / "0"
    scene5.litestream.kill()
    (level0 / f"{'f' * 16}-{'f' * 16}.ltx").write_bytes(b"")
    assert scene5.read().captures[-1] == known.captures[-1]


def test_a_folder_that_began_anew_under_the_same_names_is_read_anew(scene5: Scene) -> None:
    scene5.started()
    scene5.litestream.stop()
    shutil.rmtree(scene5.meta)
    shutil.rmtree(scene5.folder / "replica")
    scene5.app.execute("pragma wal_checkpoint(TRUNCATE)")
    scene5.app.write()
    state = scene5.started()
    assert state.wal_index is not None
    assert state.captures[-1].position.txid == 1
    assert state.captures[0].salts == state.wal_index.salts


def test_files_that_cannot_be_read_are_named(scene: Scene) -> None:
    scene.app.write()
    scene.app.close()
    index = Path(f"{scene.app.path}-shm")
    index.mkdir()
    scene.meta.write_text("not a folder")
    state = scene.read()
    assert state.file_id is not None
    assert state.error is not None
    assert f"{index}: is a directory" in state.error
    assert f"{scene.meta / 'generation'}: not a directory" in state.error


def test_an_index_of_garbage_is_named(scene5: Scene) -> None:
    scene5.app.close()
    Path(f"{scene5.app.path}-shm").write_bytes(b"garbage " * 100)
    state = scene5.read()
    assert state.wal_index is None
    assert state.error == f"{scene5.app.path}-shm: holds no complete WAL index"


def test_no_database_file(scene: Scene) -> None:
    scene.app.close()
    for tail in ("", "-wal", "-shm"):
        Path(f"{scene.app.path}{tail}").unlink(missing_ok=True)
    state = scene.read()
    assert (state.file_id, state.modified_at, state.wal_index, state.error) == (None, None, None, None)
