"""Off the machine: a second daemon with the bucket and nothing else drills, and the sidecar beside the app takes its drills over."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.stage import POLICY, Sidecar, stage, tune
from tests.faces.commands import run
from tests.litestreams import binary, rclone_s3, until

DRILL_EVERY_S = 12


def far_daemon(folder: Path, replica: str) -> Sidecar:
    """A daemon whose litestream.yml names a file that is not there, and the replica that is."""
    folder.mkdir()
    yml, ours = folder / "litestream.yml", folder / "sidecar.yml"
    # The socket is the app's Litestream's; nobody asks it, since nothing of production is asked.
    yml.write_text(
        f"socket: {{enabled: true, path: {folder / 'no.sock'}}}\ndbs:\n  - path: {folder / 'nowhere' / 'app.db'}\n    replica: {replica}\n"
    )
    ours.write_text(
        POLICY.format(binary=binary(), more="  production: false", rest="").replace(
            "drill-every: 1h", "drill-every: 30s"
        )
    )
    return Sidecar(yml, ours, folder / "state")


def newest(sidecar: Sidecar) -> dict[str, Any]:
    drill: dict[str, Any] = sidecar.ready().json()["databases"][0]["last_drill"] or {}
    return drill


def test_drills_are_made_off_the_machine_and_count_here(tmp_path: Path) -> None:
    with (
        rclone_s3(tmp_path / "s3") as s3,
        stage(tmp_path / "here", replica=s3.replica(), bucket=tmp_path / "s3" / "bkt" / "app") as here,
    ):
        far = far_daemon(tmp_path / "far", s3.replica())
        try:
            tune(here, more="  parity: false", rest=f"verifier: {{url: '{far.url}'}}", drill_every=f"{DRILL_EVERY_S}s")
            here.app.write(50)
            here.litestream.start()
            until(lambda: list(here.replica.rglob("*.ltx")), say="a backup in the bucket")
            here.synced()
            far.start()
            the_verifier_judges_the_backup_alone(far)
            here.sidecar.start()
            the_sidecar_is_ready_by_the_verifiers_drill(here.sidecar, far)
            sound = {each: each.read_bytes() for each in here.replica.rglob("*.ltx")}
            for each, data in sound.items():
                each.write_bytes(data[: len(data) // 2])
            assert far.drill()["outcome"] == "failed"
            red = here.sidecar.until_check("drill", "fail", within=30)
            assert (red["reason"], here.sidecar.metric("verifier_up")) == ("file_corrupt", 1)
            assert newest(here.sidecar)["verifier"] == f"127.0.0.1:{far.port}"
            for each, data in sound.items():
                each.write_bytes(data)
            assert far.drill()["outcome"] == "passed"
            here.sidecar.until_ready(within=30)
            asks_the_verifier(here.sidecar, far, known=True)
            far.stop(signal.SIGKILL)
            here.app.write()  # else there is nothing to restore that the verifier has not restored
            until(lambda: newest(here.sidecar)["verifier"] is None, within=60, say="the sidecar drills itself")
            assert here.sidecar.metric("drills_total", outcome="passed") == 1
            until(lambda: here.sidecar.metric("verifier_up") == 0, within=20, say="it is seen that nobody answers")
            assert here.sidecar.log.count("until it can be asked again, drills become due here") == 1
            here.sidecar.until_ready()
            asks_the_verifier(here.sidecar, far, known=False)
        finally:
            if far.process is not None:
                far.stop(signal.SIGKILL)


def the_verifier_judges_the_backup_alone(far: Sidecar) -> None:
    said = far.until_ready(within=40)
    (app,) = said["databases"]
    assert [each["name"] for each in app["checks"]] == ["replica", "snapshot", "chain", "drill", "identity", "scratch"]
    assert (app["production"], app["position"]["lag_seconds"]) == (False, None)
    assert said["reason"].endswith("of them only the backup was judged, production is not in reach")
    assert far.metric("litestream_up") is None
    assert "no database file" not in far.log
    ran = run("doctor", *far.options, within=60)
    assert ran.code == 0, ran
    assert "production is not in reach" in ran.out
    assert " warning " not in far.log
    gated = run("gate", "app", "--receipt", far.state_dir.parent / "receipt.json", *far.options[:-2], within=60)
    assert gated.code not in {0, 1}, gated
    assert "production of app is not in reach of this daemon" in gated.err


def the_sidecar_is_ready_by_the_verifiers_drill(sidecar: Sidecar, far: Sidecar) -> None:
    sidecar.until_ready(within=40)
    assert newest(sidecar)["verifier"] == f"127.0.0.1:{far.port}"
    assert not any(sidecar.metric("drills_total", outcome=each) for each in ("passed", "failed", "inconclusive"))
    page = httpx.get(f"{sidecar.url}/", headers={"Accept": "text/html"}, timeout=10).text
    assert f"made by 127.0.0.1:{far.port}" in page
    assert f"made by 127.0.0.1:{far.port}" in run("history", *sidecar.options).out


def asks_the_verifier(sidecar: Sidecar, far: Sidecar, *, known: bool) -> None:
    ran = run("doctor", *sidecar.options, within=60)
    told = f"127.0.0.1:{far.port} answers and knows 1 of 1 databases"
    assert (told in ran.out) is known, ran
    assert ran.code == (0 if known else 3), ran
