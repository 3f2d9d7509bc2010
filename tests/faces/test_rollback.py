"""`rollback`: the plan acts on nothing and its commands work; `--execute` brings the old file back byte for byte, or nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from sidecar.adapters.receipts import read_receipt, write_receipt
from sidecar.assembly_files import file_tools
from sidecar.commands import rollback as command
from sidecar.commands.progress import unseen
from sidecar.commands.rollback import plan_text
from sidecar.core.errors import ProvedBad
from sidecar.core.receipt import Entry, Override, Receipt, Rollback
from sidecar.options import Options
from tests.faces.commands import Ran, Scene, clean, copy_of
from tests.litestreams import App, Litestream, binary_of, rows_in_replica, until

ID = "20261123T030000Z-abcdef"


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def query(path: Path, sql: str = "select count(*) from t") -> Any:
    """One value, as an app sees it that opens the database."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchone()[0]


def everything(folder: Path) -> dict[str, str]:
    """Every file below a folder and its content."""
    return {str(each.relative_to(folder)): digest(each) for each in sorted(folder.rglob("*")) if each.is_file()}


@dataclass
class Deploy:
    """A scene whose gate has passed, and whose deploy has written since."""

    scene: Scene
    names: tuple[str, ...] = ("app",)
    key: bytes | None = None
    valid_for: timedelta = timedelta(hours=1)
    override: bool = False

    @property
    def receipt(self) -> Path:
        return self.scene.folder / "receipt.json"

    def artifact(self, name: str = "app") -> Path:
        return self.scene.folder / "keep" / f"{name}.db"

    def gate(self) -> None:
        """Keep what the replica holds now, and write the receipt over it."""
        self.artifact().parent.mkdir(exist_ok=True)
        self.write(*(self.kept(name) for name in self.names))

    def kept(self, name: str) -> Entry:
        """The artifact, unless it was made already, and its entry."""
        said = self.artifact(name).with_suffix(".json")
        if not said.exists():
            ran = self.scene.run("restore", name, "--to", self.artifact(name), "--json")
            assert ran.code == 0, ran
            said.write_text(ran.out)
        self.artifact(name).chmod(0o400)
        return self.entry(name, json.loads(said.read_text()))

    def entry(self, name: str, restored: dict[str, Any]) -> Entry:
        way = Rollback(
            position=restored["position"], created_at=datetime.now(UTC) - timedelta(seconds=90),
            artifact=None if self.override else str(self.artifact(name)),
            artifact_sha256=None if self.override else digest(self.artifact(name)),
            size_bytes=restored["size_bytes"], command=f"litestream-sidecar rollback --receipt {self.receipt}",
        )  # fmt: skip
        drill = {"restore_seconds": restored["restore_seconds"], "check_seconds": restored["check_seconds"]}
        path = str(self.scene.database(name))
        return Entry(name=name, path=path, census=None, drill=drill, rollback=way, checks=())

    def write(self, *entries: Entry) -> None:
        issued = datetime.now(UTC) - timedelta(seconds=90)
        receipt = Receipt(
            id=ID, issued_at=issued, expires_at=issued + self.valid_for, sidecar="1", litestream="0.5.17",
            databases=entries, override=Override(reason="it burns", refused="no") if self.override else None,
        )  # fmt: skip
        self.receipt.unlink(missing_ok=True)
        write_receipt(receipt, self.receipt, self.key)

    def deploy(self) -> None:
        """The migration that should not have been."""
        for name in self.names:
            with closing(sqlite3.connect(self.scene.database(name), isolation_level=None)) as app:
                app.execute("delete from t where id > 10")
                app.execute("create table new (a)")

    def die(self) -> None:
        """The app dies with a WAL that holds its last commits."""
        app = App(self.scene.database())
        app.execute("insert into t (v) values ('only in the wal')")
        wal = Path(f"{self.scene.database()}-wal").read_bytes()
        main = self.scene.database().read_bytes()
        app.close()
        self.scene.database().write_bytes(main)
        Path(f"{self.scene.database()}-wal").write_bytes(wal)

    def run(self, *more: object) -> Ran:
        return self.scene.run("rollback", "--receipt", self.receipt, *more)

    def is_back(self, name: str = "app") -> bool:
        return digest(self.scene.database(name)) == digest(self.artifact(name))


@pytest.fixture(scope="module")
def kept_once(replicated_once: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both databases' artifacts, made once; tests work on copies."""
    made = copy_of(replicated_once, tmp_path_factory.mktemp("kept"))
    Deploy(made, names=("app", "users")).gate()
    return made.folder / "keep"


@pytest.fixture
def scene(replicated_once: Scene, kept_once: Path, tmp_path: Path) -> Scene:
    made = copy_of(replicated_once, tmp_path)
    shutil.copytree(kept_once, tmp_path / "keep")
    return made


@pytest.fixture
def deploy(scene: Scene) -> Deploy:
    made = Deploy(scene)
    made.gate()
    made.deploy()
    return made


def shell(script: str) -> None:
    """Run what a plan printed, as a person would who pastes it."""
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    subprocess.run(["sh", "-ec", script], check=True, env=clean({"PATH": path}), capture_output=True, timeout=60)


def without_verify(plan: str) -> str:
    """Litestream has not carried the rollback to the replica in these tests, so the last step cannot pass."""
    return "\n".join(line for line in plan.splitlines() if not line.startswith("litestream-sidecar verify"))


def test_the_plan_says_all_and_does_nothing(deploy: Deploy) -> None:
    before = everything(deploy.scene.folder)
    ran = deploy.run()
    assert (ran.code, ran.err) == (0, "")
    for each in (
        f"# the way back by receipt {ID}", f"{deploy.artifact()} is there, its sha256 is the receipt's",
        "0000000000000001 can be restored from the replica", "# 1. stop the app", "# 2. stop Litestream",
        "everything committed since ", "; Litestream has captured production up to 0000000000000001", "about 1 s for the files",
        f"cp {deploy.artifact()}", f"--receipt {deploy.receipt} --execute", "litestream-sidecar verify app",
    ):  # fmt: skip
        assert each in ran.out, (each, ran.out)
    assert everything(deploy.scene.folder) == before
    said = deploy.run("--json").document
    assert (said["possible"], said["databases"][0]["way"]) == (True, "artifact")
    assert 90 <= said["databases"][0]["lost"]["seconds"] < 200
    assert everything(deploy.scene.folder) == before
    assert not deploy.scene.state.exists()


def test_the_gate_prints_the_same_plan(deploy: Deploy) -> None:
    scene = deploy.scene
    options = Options(litestream_config=scene.litestream_yml, config=scene.sidecar_yml, state_dir=scene.state)
    said = plan_text(read_receipt(deploy.receipt, None), deploy.receipt, options, stop=Event())
    titles = [line for line in said.splitlines() if line.startswith("# 1") or not line.startswith("#")]
    printed = [line for line in deploy.run().out.splitlines() if line.startswith("# 1") or not line.startswith("#")]
    assert [each.partition(".replaced-")[0] for each in titles] == [each.partition(".replaced-")[0] for each in printed]


def test_the_printed_commands_bring_the_old_file_back_byte_for_byte(deploy: Deploy) -> None:
    deploy.die()
    os.chown(deploy.scene.database(), 4711, 4712)
    deploy.scene.database().chmod(0o640)
    new = digest(deploy.scene.database())
    shell(without_verify(deploy.run().out))
    assert deploy.is_back()
    found = deploy.scene.database().stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (4711, 4712, 0o640)
    assert query(deploy.scene.database()) == 200
    (aside,) = deploy.scene.database().parent.glob("app.db.replaced-*")
    assert digest(aside / "app.db.old") == new
    assert query(aside / "app.db.old") == 11


def test_the_printed_commands_stop_at_an_artifact_that_is_altered_meanwhile(deploy: Deploy) -> None:
    plan = without_verify(deploy.run().out)
    deploy.artifact().chmod(0o600)
    with deploy.artifact().open("ab") as file:
        file.write(b"x")
    with pytest.raises(subprocess.CalledProcessError):
        shell(plan)
    assert not deploy.scene.database().exists()  # loudly nothing; what stood there is in the folder


def test_executed_it_is_back_byte_for_byte_and_what_it_replaced_is_kept(deploy: Deploy) -> None:
    deploy.die()
    os.chown(deploy.scene.database(), 4711, 4712)
    deploy.scene.database().chmod(0o640)
    deploy.scene.state.mkdir(mode=0o700)
    ran = deploy.run("--execute")
    assert (ran.code, ran.err) == (0, "")
    assert deploy.is_back()
    found = deploy.scene.database().stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (4711, 4712, 0o640)
    (aside,) = deploy.scene.database().parent.glob("app.db.replaced-*")
    assert f"what it replaced is in {aside}" in ran.out
    assert "# 1. start Litestream" in ran.out
    assert not list(aside.glob("*.db")), "Litestream's `dir:` would replicate it"
    assert {"app.db.old", "app.db.old-wal"} <= {each.name for each in aside.iterdir()}
    assert query(aside / "app.db.old", "select v from t where id > 10") == "only in the wal"
    names = {each.name for each in deploy.scene.database().parent.iterdir()}
    assert not {each for each in names if each.startswith((".litestream-sidecar", "app.db-", "app.db.replacing"))}
    assert query(deploy.scene.database()) == 200


def test_executed_as_json_and_recorded(deploy: Deploy) -> None:
    deploy.scene.state.mkdir(mode=0o700)
    said = deploy.run("--execute", "--json").document
    (aside,) = deploy.scene.database().parent.glob("app.db.replaced-*")
    assert said["databases"] == [{"name": "app", "path": str(deploy.scene.database()), "replaced": str(aside)}]
    assert said["steps"][0]["title"].startswith("start Litestream")
    assert said["notes"] == []
    with closing(sqlite3.connect(deploy.scene.state / "deploys.db")) as book:
        (document,) = book.execute("select document from decisions").fetchone()
    assert (json.loads(document)["kind"], json.loads(document)["receipt"]) == ("rollback", ID)


def test_twice_is_once_more_and_keeps_both(deploy: Deploy) -> None:
    assert deploy.run("--execute").code == 0
    assert deploy.run("--execute").code == 0
    assert deploy.is_back()
    assert len(list(deploy.scene.database().parent.glob("app.db.replaced-*"))) == 2


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_while_a_process_has_it_open_it_is_named_and_nothing_is_done(deploy: Deploy, mode: str) -> None:
    with closing(sqlite3.connect(deploy.scene.database(), isolation_level=None)) as app:
        app.execute(f"pragma journal_mode={mode}")
        app.execute("select * from t").fetchall()
        before = everything(deploy.scene.database().parent)
        deploy.run("--execute").refused(
            3, f"{deploy.scene.database()} is in use by", f"pid {os.getpid()}", "stop it first"
        )
        plan = deploy.run().out
        assert f"\nkill {os.getpid()}  # " in plan
        assert everything(deploy.scene.database().parent) == before


def test_a_running_litestream_is_stopped_apart_from_the_app(
    deploy: Deploy, litestream: Callable[..., Litestream]
) -> None:
    running = litestream(deploy.scene.litestream_yml).start()
    assert running.process is not None
    pid = running.process.pid
    until(lambda: deploy.run("--execute").code == 3)
    plan = deploy.run().out
    assert plan.index("# 2. stop Litestream") < plan.index(f"\nkill {pid}  # ") < plan.index("# 3. move app aside")
    assert "it ran as: " in plan


def test_an_altered_artifact_leaves_the_position(deploy: Deploy) -> None:
    deploy.artifact().chmod(0o600)
    with deploy.artifact().open("r+b") as file:
        file.seek(5000)
        file.write(b"!")
    ran = deploy.run()
    assert (ran.code, "was altered: its sha256 is not the receipt's" in ran.out) == (0, True)
    before = everything(deploy.scene.database().parent)
    deploy.run("--execute").refused(3, "no kept copy to put in place (altered)", "follow the printed plan")
    assert everything(deploy.scene.database().parent) == before
    shell(without_verify(ran.out))
    assert query(deploy.scene.database()) == 200


def test_no_way_back_at_all_is_a_proved_no(deploy: Deploy) -> None:
    deploy.artifact().unlink()
    shutil.rmtree(deploy.scene.replica())
    ran = deploy.run()
    assert (ran.code, ran.err) == (1, "")
    assert "there is no way back by this receipt" in ran.out
    assert f"{deploy.artifact()} is gone" in ran.out
    assert deploy.run("--json").document["possible"] is False
    deploy.run("--execute").refused(1, "no kept copy to put in place (missing)")


def test_without_litestreams_configuration_the_artifact_is_enough_and_the_rest_not_known(deploy: Deploy) -> None:
    deploy.scene.litestream_yml.unlink()
    ran = deploy.run()
    assert (ran.code, "position  0000000000000001 not known (" in ran.out) == (0, True)
    assert deploy.run("--execute").code == 0
    assert deploy.is_back()
    deploy.artifact().unlink()
    assert deploy.run().code == 3


def test_an_artifact_that_was_damaged_before_it_was_signed_is_not_put_in_place(deploy: Deploy) -> None:
    deploy.artifact().chmod(0o600)
    content = bytearray(deploy.artifact().read_bytes())
    content[4096 * 2 : 4096 * 3] = bytes(4096)
    deploy.artifact().write_bytes(content)
    deploy.write(deploy.entry("app", {"position": None, "size_bytes": 1, "restore_seconds": 1, "check_seconds": 1}))
    before = everything(deploy.scene.database().parent)
    deploy.run("--execute").refused(1, f"quick_check of the artifact {deploy.artifact()}: ")
    assert everything(deploy.scene.database().parent) == before


def test_what_stands_there_in_the_end_is_held_against_the_receipt(deploy: Deploy) -> None:
    """As where the disk writes other than it was told: a sound database, and not the artifact."""
    kit, place = file_tools(), deploy.scene.database()
    before = everything(place.parent)
    other = place.with_name("room")
    shutil.copy(deploy.artifact("users"), other)
    entry = deploy.kept("app")
    ready = command._Ready(other, kit.placing.look(place, force=True), entry)  # noqa: SLF001 - no disk of ours fails on demand
    with pytest.raises(ProvedBad, match="is not what was put there"):
        command._put(kit, ready, Event(), unseen)  # noqa: SLF001 - same
    assert everything(place.parent) == before


def test_after_an_override_the_position_is_all_there_is(scene: Scene) -> None:
    deploy = Deploy(scene, override=True)
    deploy.gate()
    deploy.deploy()
    ran = deploy.run()
    assert ran.code == 0
    assert "the gate was overridden (it burns)" in ran.out
    assert "artifact  none was made" in ran.out
    shell(without_verify(ran.out))
    assert query(scene.database()) == 200
    deploy.run("--execute").refused(3, "no kept copy to put in place (never made)")


def test_expired_is_no_hindrance_and_the_key_is(scene: Scene) -> None:
    deploy = Deploy(scene, key=b"0123456789abcdef", valid_for=timedelta(seconds=1))
    deploy.gate()
    deploy.deploy()
    deploy.run().refused(2, "is signed, and there is no key")
    key = scene.folder / "key"
    key.write_text("0123456789abcdeg")
    deploy.run("--key-file", key).refused(2, "cannot be trusted")
    key.write_text("0123456789abcdef")
    ran = deploy.run("--key-file", key)
    assert (ran.code, "# it expired " in ran.out) == (0, True)
    assert f"--key-file {key} --execute" in ran.out
    scene.run("rollback", "--receipt", scene.folder / "none").refused(2, "there is no receipt")


def test_all_databases_or_none(scene: Scene) -> None:
    deploy = Deploy(scene, names=("app", "users"))
    deploy.gate()
    deploy.deploy()
    deploy.artifact("users").unlink()
    before = everything(scene.database().parent)
    assert deploy.run("--execute").code == 3
    assert everything(scene.database().parent) == before


@pytest.fixture
def immovable(scene: Scene) -> Iterator[Path]:
    """A database that is a mount point of its own, as a file given to a container may be: it cannot be renamed."""
    real = scene.folder / "users-real.db"
    shutil.copy(scene.database("users"), real)
    subprocess.run(["mount", "--bind", str(real), str(scene.database("users"))], check=True)
    yield scene.database("users")
    subprocess.run(["umount", str(scene.database("users"))], check=True)


def test_where_the_second_cannot_be_put_the_first_is_taken_back(scene: Scene, immovable: Path) -> None:
    deploy = Deploy(scene, names=("app", "users"))
    deploy.gate()
    deploy.deploy()
    before = everything(scene.database().parent)
    deploy.run("--execute").refused(3, f"{immovable} could not be replaced", "it is as it was before")
    assert everything(scene.database().parent) == before


def test_where_the_database_is_gone_it_comes_back(deploy: Deploy) -> None:
    for each in deploy.scene.database().parent.glob("app.db*"):
        each.unlink()
    ran = deploy.run("--execute")
    assert ran.code == 0
    assert deploy.is_back()


@pytest.mark.parametrize("version", ["0.5.17", "0.3.13"])
def test_litestream_goes_on_from_the_old_file_without_a_reset(
    tmp_path: Path, litestream: Callable[..., Litestream], version: str
) -> None:
    """Measured: with everything stopped meanwhile, its local folder may stay as it is."""
    scene = Scene(tmp_path)
    more: dict[str, Any] = {}
    if version == "0.3.13":
        scene.write_sidecar_yml(executable=binary_of(version))
        block = f"{{type: file, path: {scene.replica()}, sync-interval: 100ms}}"
        scene.litestream_yml.write_text(f"dbs:\n  - path: {scene.database()}\n    replicas: [{block}]\n")
        more["executable"] = binary_of(version)
    else:
        scene.write_litestream_yml(names=("app",))
    app = App(scene.database())
    app.write(200)
    restored = partial(rows_in_replica, scene.litestream_yml, scene.database(), more.get("executable"))
    running = litestream(scene.litestream_yml, **more).start()
    until(lambda: restored() == 200)
    deploy = Deploy(scene)
    deploy.gate()
    app.write(50)
    until(lambda: restored() == 250)
    app.close()
    (running.stop if version == "0.5.17" else running.kill)()
    assert deploy.run("--execute").code == 0
    running = litestream(scene.litestream_yml, **more).start()
    app = App(scene.database())
    app.write(1)
    until(lambda: restored() == 201, say="a restore brings the old content and what was written since")
    app.close()
    ran = scene.run("verify", "app")
    assert ran.code == 0, ran
