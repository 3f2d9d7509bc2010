"""`doctor`: every diagnosis seen against a set-up that is really wrong in that way."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faces.commands import NOBODY, Ran, Scene, run_as_nobody
from tests.litestreams import Litestream, binary_of, free_port, until


@pytest.fixture
def up(scene: Scene, litestream: Callable[..., Litestream]) -> Scene:
    """Litestream runs and its control socket answers."""
    litestream(scene.litestream_yml).start()
    until((scene.folder / "l.sock").exists, say="the control socket")
    return scene


def says(ran: Ran, *answers: str) -> None:
    """Each of these stands in the answers; no answer is an error of the program."""
    assert ran.err == "", ran
    for each in answers:
        assert each in ran.out, ran.out


def test_a_sound_set_up_is_fine(up: Scene) -> None:
    until(lambda: up.run("doctor").code == 0, say="doctor finds nothing wrong")
    ran = up.run("doctor")
    says(
        ran,
        f"ok      sidecar.yml: {up.sidecar_yml}",
        "ok      binary: Litestream 0.5.17 at ",
        f"ok      litestream.yml: {up.litestream_yml}: 2 databases",
        f"ok      state: {up.state} will be made when the sidecar first runs",
        "ok      app: Litestream runs and knows it",
        "ok      users: can be read; schema version 7 (user_version)",
        f"ok      app: file://{up.replica()} can be listed; newest position 00000000000000",
    )
    assert "bad" not in ran.out
    assert not up.state.exists(), "a folder made by `sudo … doctor` would not be the daemon's"


def test_litestream_down(scene: Scene) -> None:
    ran = scene.run("doctor")
    assert ran.code == 1
    says(ran, "bad     litestream: does not answer: ", "try: start Litestream")
    assert ran.out.count("does not answer") == 1, "what concerns Litestream as a whole is said once"


def test_no_control_socket_prints_the_lines_to_add(scene: Scene) -> None:
    scene.write_litestream_yml(control=False)
    ran = scene.run("doctor")
    assert ran.code == 0
    says(
        ran,
        "warn    litestream: neither its control socket nor its metrics are enabled, so it cannot be asked",
        "        try: add these two lines to litestream.yml and restart Litestream:\n"
        "               socket:\n"
        "                 enabled: true\n",
    )


def test_a_running_litestream_that_does_not_know_a_database(
    scene: Scene, litestream: Callable[..., Litestream]
) -> None:
    scene.write_litestream_yml(names=["app"])
    litestream(scene.litestream_yml).start()
    until((scene.folder / "l.sock").exists)
    scene.write_litestream_yml()
    until(lambda: "bad     users: Litestream runs and does not know this database" in scene.run("doctor").out)


def test_the_environment(scene: Scene) -> None:
    scene.write_litestream_yml(top="access-key-id: $THE_KEY_NOBODY_SET")
    ran = scene.run("doctor", env={"AWS_CA_BUNDLE": "/etc/ssl/ca.pem"})
    says(
        ran,
        "warn    environment: AWS_CA_BUNDLE is set",
        "warn    litestream.yml: `$THE_KEY_NOBODY_SET` is not set; Litestream reads nothing in its place",
    )


def test_snapshots_that_go_before_the_next_one_comes(scene: Scene) -> None:
    scene.write_litestream_yml(top="snapshot: {interval: 24h, retention: 6h}")
    ran = scene.run("doctor")
    assert ran.code == 1
    says(
        ran,
        "bad     app: snapshots are kept for 6h and made every 1d: between them there may be none",
        "try: make the snapshot retention",
    )


def test_every_mistake_of_both_files_and_still_the_other_questions(scene: Scene) -> None:
    scene.litestream_yml.write_text("dbs:\n  - replica: {type: file, path: /a}\n  - path: /b.db\n")
    scene.sidecar_yml.write_text("policy:\n  max-lagg: 3s\n  drill-every: 5x\n")
    ran = scene.run("doctor")
    assert ran.code == 2
    says(
        ran,
        "bad     sidecar.yml: policy.max-lagg: is not a setting; did you mean `max-lag`? (line 2)",
        "bad     sidecar.yml: policy.drill-every: `5x` is not a duration",
        "ok      binary: ",
        "bad     litestream.yml: dbs[0]",
        "bad     litestream.yml: dbs[1]",
        "ok      scratch: ",
    )


def test_no_binary_and_still_the_other_questions(scene: Scene) -> None:
    scene.write_sidecar_yml(executable="/no/such/litestream")
    ran = scene.run("doctor")
    assert ran.code == 2
    says(
        ran,
        "bad     binary: there is no Litestream at /no/such/litestream",
        "try: install Litestream",
        "ok      litestream.yml: ",
    )


def test_the_database_file_is_missing(scene: Scene) -> None:
    for each in scene.database().parent.glob("app.db*"):
        each.unlink()
    ran = scene.run("doctor")
    assert ran.code == 1
    says(
        ran,
        f"bad     app: {scene.database()}: there is no database file",
        "try: check the mount and the path in litestream.yml",
    )
    assert "bad     users" not in ran.out


def test_litestreams_local_folder_is_out_of_reach(scene: Scene) -> None:
    meta = scene.database().parent / ".app.db-litestream"
    shutil.rmtree(meta)
    meta.write_text("no folder")
    says(
        scene.run("doctor"),
        f"warn    app: nothing to read in Litestream's local folder {meta}",
        "without it lag cannot be told",
    )


def test_an_empty_replica_and_a_gap(scene: Scene) -> None:
    shutil.rmtree(scene.replica("app"))
    snapshot = next(iter(sorted(scene.replica("users").rglob("*.ltx"))))
    for each in scene.replica("users").rglob("*.ltx"):
        if each != snapshot:
            each.unlink()
    snapshot.rename(snapshot.with_name("0000000000000002-0000000000000002.ltx"))
    ran = scene.run("doctor")
    assert ran.code == 1
    says(
        ran,
        f"bad     app: the replica file://{scene.replica('app')} holds no backup",
        "bad     users: there is no snapshot, and the oldest file",
    )


def test_a_store_that_cannot_be_reached_is_not_known(scene: Scene) -> None:
    scene.write_litestream_yml(control=False)
    text = scene.litestream_yml.read_text()
    away = (
        f"{{type: s3, bucket: bkt, path: app, endpoint: 'http://127.0.0.1:{free_port()}', region: us-east-1, "
        "access-key-id: A, secret-access-key: hushhush, force-path-style: true}"
    )
    scene.litestream_yml.write_text(
        text.replace(f"{{type: file, path: {scene.replica()}, sync-interval: 200ms}}", away)
    )
    ran = scene.run("doctor")
    assert ran.code == 3
    says(ran, "unknown app: nobody answers at 127.0.0.1:", "ok      users: file://")
    assert "hushhush" not in ran.out


def test_a_clock_that_is_ahead(scene: Scene) -> None:
    then = time.time() + 3600
    for each in scene.replica().rglob("*.ltx"):
        os.utime(each, (then, then))
    ran = scene.run("doctor")
    says(
        ran,
        "warn    app: its newest file is dated 3",
        " s in the future",
        "try: set the clocks of this machine and of the store right (NTP)",
    )


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    assert os.geteuid() == 0, "this test mounts a file system: run the tests as root"
    folder = tmp_path / "tiny"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_too_little_scratch_and_scratch_beside_the_data(scene: Scene, tiny: Path) -> None:
    says(
        scene.run("doctor"),
        "ok      scratch: ",
        "warn    scratch: scratch lies on the same volume as a database: a drill takes room from production",
    )
    scene.write_sidecar_yml(f"scratch-dir: {tiny}\n")
    ran = scene.run("doctor")
    assert ran.code == 1
    says(ran, f"bad     scratch: 2 MB free in {tiny}, a drill needs 17 MB", "try: free some, or move scratch-dir")
    assert "same volume" not in ran.out


def test_a_state_directory_that_is_not_ours_and_still_the_other_questions(scene: Scene) -> None:
    """As another user, whom the databases' folder is open to."""
    assert os.geteuid() == 0, "this test becomes another user: run the tests as root"
    scene.state.mkdir(mode=0o700)
    os.chown(scene.state, NOBODY - 1, NOBODY - 1)
    scene.open_to_others()
    ran = run_as_nobody("doctor", *scene.options)
    assert ran.code == 2
    says(
        ran,
        f"bad     state: the state directory {scene.state} belongs to user {NOBODY - 1}, and this is user {NOBODY}",
        "try: run the sidecar as user",
        "can be listed; newest position",
    )
    ran = run_as_nobody("doctor", *scene.options, "--state-dir", "/proc/nowhere")
    assert ran.code == 2
    says(ran, "bad     state: the state directory /proc/nowhere cannot be made by user")


def test_production_that_this_user_may_not_open(scene: Scene) -> None:
    assert os.geteuid() == 0, "this test becomes another user: run the tests as root"
    scene.open_to_others()
    scene.database().chmod(0o600)
    before = sorted(each.name for each in scene.database().parent.glob("*.db*"))
    (scene.folder / "mine").mkdir()
    os.chown(scene.folder / "mine", NOBODY, NOBODY)
    ran = run_as_nobody("doctor", *scene.options, "--state-dir", scene.folder / "mine" / "state")
    says(
        ran,
        f"bad     app: {scene.database()} cannot be read: Permission denied",
        "try: run the sidecar as the app's user",
        "bad     users: ",  # it may be read, and SQLite opens a WAL database only where the folder may be written
        "ok      users: file://",
    )
    assert ran.code == 1
    assert sorted(each.name for each in scene.database().parent.glob("*.db*")) == before


def test_several_replicas_of_03(scene: Scene) -> None:
    scene.litestream_yml.write_text(
        f"dbs:\n  - path: {scene.database()}\n    replicas:\n"
        f"      - {{type: file, path: {scene.folder}/a}}\n      - {{type: file, path: {scene.folder}/b}}\n"
    )
    scene.write_sidecar_yml(executable=binary_of("0.3.13"))
    ran = scene.run("doctor")
    says(
        ran,
        "ok      binary: Litestream 0.3.13 at ",
        "warn    litestream.yml: dbs[0] has 2 replicas; only the first is watched",
        "warn    litestream: its metrics are not enabled, so it cannot be asked",
        "               addr: 127.0.0.1:9090\n",
    )


def test_a_token_that_others_would_need(scene: Scene) -> None:
    scene.write_sidecar_yml("http: {listen: 0.0.0.0:9810}\n")
    says(scene.run("doctor"), "warn    http: others can reach 0.0.0.0:9810, so POST /drills is refused without a token")
    scene.write_sidecar_yml("http: {token-file: /no/such/token}\n")
    ran = scene.run("doctor")
    assert ran.code == 2
    says(ran, "bad     http: http.token-file /no/such/token cannot be read")


def test_what_the_running_daemon_did_not_take_over(up: Scene) -> None:
    """The daemon keeps the old fleet where a file is broken; doctor reads the same files and says what is wrong."""
    up.litestream_yml.write_text("dbs:\n  - path: [\n")
    ran = up.run("doctor")
    assert ran.code == 2
    says(ran, "bad     litestream.yml: is not valid YAML: ", "(line 3)")


def test_settings_that_are_for_nobody_and_a_limit_that_flaps(scene: Scene) -> None:
    scene.write_sidecar_yml("databases: {aap: {policy: {drill-every: 3h}}, app: {policy: {max-lag: 2s}}}\n")
    ran = scene.run("doctor")
    says(ran, "warn    sidecar.yml: sidecar.yml sets databases.aap, and no database has that name; app?")
    says(ran, "warn    app: max-lag is 2 s: it flaps while the app writes", "try: set max-lag to 5s or more")


def test_a_setting_that_does_nothing(tmp_path: Path) -> None:
    sftp = "{type: sftp, host: '127.0.0.1:1', user: u, password: p, path: /r}"
    scene = Scene(tmp_path, {"users": sftp})
    scene.sidecar_yml.write_text("policy: {drill-by-change-from: 1GB}\n")
    ran = scene.run("doctor")
    says(
        ran,
        "warn    users: drill-by-change-from is set, and its replica is not one that is read directly",
        "try: only file and S3 replicas",
    )
    assert "app: drill-by-change-from" not in ran.out, "a folder is"
