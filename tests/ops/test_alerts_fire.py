"""A backup really broken: the alert arrives at a webhook with its runbook, and is taken back when the backup is healed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.stage import Stage, stage
from tests.litestreams import Writer, free_port, until
from tests.ops.monitoring import MONITORING, alerts, need
from tests.ops.stack import Hook, Prometheus, alertmanager, prometheus

WANTED = alerts()
SHORT_WAL = "    min-checkpoint-page-count: 4\n"  # what was synced stands in the database file
OVERWRITE = """
import os, sys
path, before, after = sys.argv[1], *map(str.encode, sys.argv[2:])
file = os.open(path, os.O_RDWR)
os.pwrite(file, after, os.pread(file, 1 << 30, 0).index(before))
"""


@dataclass
class Watched:
    """A stage, who watches it, and who is told."""

    stage: Stage
    prometheus: Prometheus
    alertmanager_port: int
    hook: Hook

    def told(self, *names: str) -> None:
        """Messages about these alerts arrive, as the rules file words them."""
        for name in names:
            message = self.hook.until(name, "firing")
            wanted = WANTED[name]
            assert message["labels"]["severity"] == wanted["labels"]["severity"]
            assert message["labels"]["job"] == "litestream-sidecar"
            assert message["annotations"]["runbook_url"] == wanted["annotations"]["runbook_url"]
            assert "{{" not in message["annotations"]["description"] + message["annotations"]["summary"]
            if "db" in message["labels"]:
                assert message["labels"]["db"] == "app"
                assert "app" in message["annotations"]["summary"]

    def taken_back(self, *names: str) -> None:
        for name in names:
            self.hook.until(name, "resolved", within=40)

    def state(self, name: str) -> str:
        """What Alertmanager makes of an alert: active, suppressed, or nothing."""
        url = f"http://127.0.0.1:{self.alertmanager_port}/api/v2/alerts"
        found: list[dict[str, Any]] = httpx.get(url, params={"filter": f'alertname="{name}"'}, timeout=5).json()
        return found[0]["status"]["state"] if found else ""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    tmp_path = tmp_path_factory.mktemp("watched")
    with stage(tmp_path / "stage", db_settings=SHORT_WAL) as acting, Hook() as hook:
        acting.app.write(50)
        acting.litestream.start()
        acting.sidecar.start()
        acting.sidecar.until_ready()
        with (
            alertmanager(tmp_path / "alertmanager", hook.port) as port,
            prometheus(tmp_path / "prometheus", acting.sidecar.port, alertmanager_port=port) as asked,
        ):
            until(lambda: asked.instant("job:litestream_sidecar_ready:ratio == 1"), say="scraped, recorded, ready")
            # Prometheus takes five seconds to find its targets (and Alertmanager): until then no sidecar is there.
            until(lambda: asked.firing() == set(), say="nothing fires")
            yield Watched(acting, asked, port, hook)


def test_the_example_of_alertmanager_is_valid() -> None:
    subprocess.run([need("amtool"), "check-config", MONITORING / "alertmanager.yml"], check=True, capture_output=True)


def test_nothing_fires_while_all_is_well_and_what_breaks_is_told_and_taken_back(watched: Watched) -> None:
    acting, sidecar = watched.stage, watched.stage.sidecar
    assert {each["labels"]["alertname"] for each in watched.hook.received} <= {"SidecarAbsent"}

    # Litestream ends while the app writes, and somebody saves a broken configuration.
    acting.litestream.stop()
    good = sidecar.sidecar_yml.read_text()
    sidecar.sidecar_yml.write_text("polcy: {}\n")
    with Writer(acting.app):
        watched.told("LitestreamDown", "ConfigReloadFailed")
        until(lambda: {"ReplicaLagging", "BackupNotReady"} <= watched.prometheus.firing(), say="lagging, not ready")
        for name in ("ReplicaLagging", "BackupNotReady"):  # follow from it, so nobody is told again
            until(lambda name=name: watched.state(name) == "suppressed", say=f"{name} is inhibited")  # type: ignore[misc] # bound now
    acting.litestream.start()
    sidecar.sidecar_yml.write_text(good)
    watched.taken_back("LitestreamDown", "ConfigReloadFailed")
    until(lambda: not watched.prometheus.firing(), within=30, say="all is well again")

    # Bits of a backup file flip: nobody notices until it is restored. Healed as the runbook says.
    acting.synced()
    for file in acting.replica.rglob("*.ltx"):
        body = bytearray(file.read_bytes())
        body[len(body) // 2] ^= 0xFF
        file.write_bytes(body)
    assert sidecar.drill()["outcome"] == "failed"
    watched.told("DrillFailed")
    assert "file_corrupt" in watched.hook.of("DrillFailed", "firing")["annotations"]["description"]
    acting.move_replica()
    acting.app.write()
    # The new path counts from the next reading of litestream.yml on, and there is nothing in it at first.
    until(lambda: sidecar.drill()["outcome"] == "passed", within=40, every=0.5, say="a drill of the new path passes")
    watched.taken_back("DrillFailed")

    # The sidecar itself ends: nothing else can fire then.
    sidecar.stop()
    watched.told("SidecarDown")
    sidecar.start()
    watched.taken_back("SidecarDown")
    sidecar.until_ready()


def test_a_replica_that_was_deleted_and_a_database_that_was_emptied(watched: Watched) -> None:
    acting, sidecar = watched.stage, watched.stage.sidecar
    rows = int(str(acting.app.execute("select count(*) from t")[0][0]))
    acting.app.execute("delete from t where id > 5")
    acting.synced()
    assert sidecar.drill()["outcome"] == "passed"
    watched.told("DatabaseShrunk")
    acting.app.write(rows)
    acting.synced()
    sidecar.drill()
    watched.taken_back("DatabaseShrunk")

    def gone() -> bool:  # what a compaction still writes is deleted too
        for folder in acting.folder.glob("replica*"):
            shutil.rmtree(folder, ignore_errors=True)
        return bool(watched.hook.of("ReplicaEmpty", "firing"))

    until(gone, within=40, every=0.5, say="ReplicaEmpty arrives")
    watched.told("ReplicaEmpty")
    acting.litestream.stop()
    acting.litestream.start()
    acting.app.write()
    watched.taken_back("ReplicaEmpty")
    sidecar.until_ready(within=40)
    until(lambda: not watched.prometheus.firing(), within=30, say="all is well again")


def overwritten(path: Path, before: str, after: str) -> None:
    """Bytes of a file become others, past SQLite; in a process of its own, because to close the file here would drop the app's locks."""
    assert len(before) == len(after)
    subprocess.run([sys.executable, "-c", OVERWRITE, path, before, after], check=True, timeout=20)


def test_a_page_of_production_that_nobody_wrote(watched: Watched) -> None:
    acting, sidecar = watched.stage, watched.stage.sidecar
    true, false = "written by the app", "written by no one!"
    acting.app.write(text=true)
    acting.app.write(200)
    acting.synced()
    assert sidecar.drill()["parity"]["result"] == "equal"
    overwritten(acting.app.path, true, false)

    found = sidecar.drill()
    assert (found["outcome"], found["reason"]) == ("failed", "pages_differ")
    parity = found["parity"]
    assert parity["owners"] == ["t"]
    (page,) = parity["different"]
    for version, text in (("production", false), ("restored", true)):
        assert text.encode() in (Path(parity["kept"]) / f"page-{page}.{version}").read_bytes()
    watched.told("PagesDiffer")
    assert "DrillFailed" not in watched.prometheus.firing(), "once is enough"

    overwritten(acting.app.path, false, true)
    until(lambda: sidecar.drill()["parity"]["result"] == "equal", within=40, every=0.5, say="all is equal again")
    watched.taken_back("PagesDiffer")
    sidecar.until_ready()


def test_a_verifier_that_nobody_can_ask(watched: Watched) -> None:
    sidecar = watched.stage.sidecar
    good = sidecar.sidecar_yml.read_text()
    sidecar.stop()
    sidecar.sidecar_yml.write_text(f"{good}verifier: {{url: 'http://127.0.0.1:{free_port()}'}}\n")
    sidecar.start()
    watched.told("VerifierDown")
    sidecar.until_ready(within=40)  # by a drill of its own
    sidecar.stop()
    sidecar.sidecar_yml.write_text(good)
    sidecar.start()
    watched.taken_back("VerifierDown")
    sidecar.until_ready()
