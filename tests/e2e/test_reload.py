"""A changed configuration, as it is changed in life, taken over by the running daemon."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stage import POLICY, Sidecar, pause
from tests.litestreams import App, Litestream, binary, until

TAKEN_OVER_S = 2.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sidecar.yml").write_text(POLICY.format(binary=binary(), more="", rest=""))
    return tmp_path


@contextlib.contextmanager
def daemon(folder: Path, litestream_yml: Path) -> Iterator[Sidecar]:
    """A daemon on a configuration; no Litestream runs unless the test starts one."""
    sidecar = Sidecar(litestream_yml, folder / "sidecar.yml", folder / "state")
    sidecar.start()
    try:
        yield sidecar
    finally:
        if sidecar.process is not None:
            sidecar.stop(signal.SIGKILL)


def entry(path: Path, replica: Path) -> str:
    return f"  - {{path: {path}, replica: {{type: file, path: {replica}, sync-interval: 200ms}}}}\n"


def config_of(folder: Path, *names: str) -> str:
    return "dbs:\n" + "".join(entry(folder / "data" / f"{name}.db", folder / "replica" / name) for name in names)


def names(sidecar: Sidecar) -> list[str]:
    return [each["name"] for each in sidecar.ready().json()["databases"]]


def taken_over(sidecar: Sidecar, *expected: str) -> None:
    until(lambda: names(sidecar) == sorted(expected), within=TAKEN_OVER_S, say=f"the fleet is {expected}")


def database(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as made:
        made.execute("pragma journal_mode=wal")
        made.execute("create table t (id integer primary key)")


def test_a_database_is_added_and_becomes_ready(folder: Path) -> None:
    yml = folder / "litestream.yml"
    yml.write_text(config_of(folder, "one"))
    one, two = App(folder / "data" / "one.db"), App(folder / "data" / "two.db")
    with contextlib.closing(one), contextlib.closing(two), daemon(folder, yml) as sidecar:
        litestream = Litestream(yml).start()
        sidecar.until_ready()
        began = sidecar.metric("config_last_reload_timestamp_seconds")
        yml.write_text(config_of(folder, "one", "two"))  # in place, as some editors do
        taken_over(sidecar, "one", "two")
        assert sidecar.ready().status_code == 503, "what nobody has proved is not ready"
        assert sidecar.ready(db="one").status_code == 200
        assert (sidecar.metric("config_last_reload_timestamp_seconds") or 0) > (began or 0)
        litestream.stop()
        litestream.start()
        try:
            sidecar.until_ready()
        finally:
            litestream.kill()


def test_files_swapped_links_turned_and_signals(folder: Path) -> None:
    # As Kubernetes mounts a ConfigMap: litestream.yml -> ..data/litestream.yml, ..data -> a folder that is swapped.
    mount = folder / "config"
    for version, fleet in (("..first", ("one",)), ("..second", ("one", "two"))):
        (mount / version).mkdir(parents=True)
        (mount / version / "litestream.yml").write_text(config_of(folder, *fleet))
    (mount / "..data").symlink_to("..first")
    yml = mount / "litestream.yml"
    yml.symlink_to("..data/litestream.yml")
    with daemon(folder, yml) as sidecar:
        assert names(sidecar) == ["one"]
        (mount / "..new").symlink_to("..second")
        (mount / "..new").rename(mount / "..data")
        taken_over(sidecar, "one", "two")
        edited = mount / "..second" / ".litestream.yml.swp"  # as most editors save
        edited.write_text(config_of(folder, "two"))
        edited.rename(mount / "..second" / "litestream.yml")
        taken_over(sidecar, "two")
        ours = folder / "sidecar.yml"
        ours.write_text(
            POLICY.format(binary=binary(), more="", rest=f"databases: {{zwei: {{path: {folder}/data/two.db}}}}")
        )
        taken_over(sidecar, "zwei")
        said = sidecar.log.count("configuration taken over")
        os.kill(sidecar.pid, signal.SIGHUP)
        until(lambda: sidecar.log.count("configuration taken over") > said, within=TAKEN_OVER_S, say="SIGHUP")
        assert names(sidecar) == ["zwei"]


def test_a_broken_file_keeps_the_old_fleet(folder: Path) -> None:
    yml = folder / "litestream.yml"
    sound = config_of(folder, "one")
    yml.write_text(sound)
    ours = folder / "sidecar.yml"
    policy = ours.read_text()
    with daemon(folder, yml) as sidecar:
        assert sidecar.metric("config_last_reload_successful") == 1
        for file, broken, whole, complaint in (
            (yml, "dbs: [", sound, "litestream.yml"),
            (yml, "dbs: []\n", sound, "litestream.yml"),
            (yml, None, sound, "litestream.yml"),
            (ours, policy.replace("max-lag", "max-leg"), policy, "max-leg"),
        ):
            said = sidecar.log.count("configuration not taken over")
            if broken is None:
                file.unlink()
            else:
                file.write_text(broken)
            until(
                lambda: sidecar.metric("config_last_reload_successful") == 0, within=TAKEN_OVER_S, say=f"said: {broken}"
            )
            until(lambda said=said: sidecar.log.count("configuration not taken over") == said + 1, within=1)  # type: ignore[misc] # bound now
            assert complaint in sidecar.log.rpartition("configuration not taken over")[2]
            for _ in range(4):
                pause(0.3)
                assert names(sidecar) == ["one"]
            assert sidecar.log.count("configuration not taken over") == said + 1, "said once"
            file.write_text(whole)
            until(lambda: sidecar.metric("config_last_reload_successful") == 1, within=TAKEN_OVER_S, say="whole again")


def test_databases_appear_in_and_leave_a_watched_folder(folder: Path) -> None:
    databases = folder / "data"
    database(databases / "first.db")
    yml = folder / "litestream.yml"
    yml.write_text(
        f"socket: {{enabled: true, path: {folder / 'l.sock'}}}\n"
        f"dbs:\n  - dir: {databases}\n    pattern: '*.db'\n    recursive: true\n    watch: true\n"
        f"    replica: {{type: file, path: {folder / 'replica'}, sync-interval: 200ms}}\n"
    )
    with daemon(folder, yml) as sidecar:
        litestream = Litestream(yml).start()
        try:
            sidecar.until_ready()
            database(databases / "deeper" / "second.db")
            (databases / "no-database.db").write_bytes(b"text")
            until(lambda: names(sidecar) == ["first", "second"], within=8, say="it has appeared")
            sidecar.until_ready(within=30)
            for file in (databases / "deeper").glob("second.db*"):
                file.unlink()
            until(lambda: names(sidecar) == ["first"], within=8, say="it has left")
            sidecar.until_ready()
        finally:
            litestream.kill()
