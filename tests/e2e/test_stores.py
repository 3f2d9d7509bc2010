"""Every kind of store beside one daemon: silent, gone, locked, damaged, incomplete, and green again each time; and no secret of any shows."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.e2e.harbour import (
    HOOK,
    PING,
    RIGHT,
    SNAPSHOTS,
    TOKEN,
    WRONG,
    Harbour,
    Watch,
    harbour,
    level_of,
    lose_the_middle,
)
from tests.faces.commands import Ran, run
from tests.litestreams import until

PARTS = ("/", "/ready", "/ready?format=text", "/metrics", "/openapi.json", "/livez", "/drills/nosuch")


def ask(here: Harbour, *arguments: object, within: float = 60) -> Ran:
    """A command beside the daemon, with the same configuration."""
    own = {name: here.sidecar.env[name] for name in ("WEBDAV_PASSWORD", "STORAGE_EMULATOR_HOST")}
    return run(*arguments, env=own, within=within)


def silent(here: Harbour) -> None:
    """Every server stops answering: `timeout`, and the database on a disk is as ready as before."""
    for each in here.stores.values():
        each.pause()
    here.until_all("replica", "fail", dict.fromkeys(here.stores, "timeout"))
    assert here.sidecar.check("replica")["status"] == "pass"
    assert here.sidecar.ready(db="app").status_code == 200
    for each in here.stores.values():
        each.resume()
    here.until_ready()


def gone(here: Harbour) -> None:
    """Every server ends; `verify` says the same as the daemon, and could not tell."""
    for each in here.stores.values():
        each.stop()
    here.until_all("replica", "fail", {name: each.refuses_when_gone for name, each in here.stores.items()})
    ran = ask(here, "verify", "s3", "openssh", "nats", "--json", *here.sidecar.options)
    assert ran.code == 3, ran
    for each in ran.document["databases"]:
        (replica,) = [check for check in each["checks"] if check["name"] == "replica"]
        assert (replica["reason"], bool(replica["hint"])) == ("unreachable", True), each
    for each in here.stores.values():
        each.start()
    here.until_ready()


def locked(here: Harbour) -> None:
    """The passwords in litestream.yml are wrong now, and the daemon reads it again."""
    here.write_litestream_yml(WRONG)
    secured = {name: "auth" for name, each in here.stores.items() if not each.keeps_nobody_out}
    for name, reason in secured.items():
        here.sidecar.until_check("replica", "fail", reason, db=name, within=30)
    here.write_litestream_yml(RIGHT)
    here.until_ready()


def damaged(here: Harbour) -> None:
    """The newest snapshot is cut to its half, which every listing and every plan passes over."""
    for name, store in here.stores.items():
        snapshot = [each for each in store.names() if level_of(each) == SNAPSHOTS][-1]
        sound = store.read(snapshot)
        store.put(snapshot, sound[: len(sound) // 2])
        assert here.drill(name) == ("failed", "file_corrupt"), name
        assert here.sidecar.check("drill", name)["reason"] == "file_corrupt"
        store.put(snapshot, sound)
        assert here.drill(name) == ("passed", None), name
    here.until_ready()


def incomplete(here: Harbour) -> None:
    """Listings lack objects in the middle."""
    lost = {name: lose_the_middle(store) for name, store in here.stores.items()}
    assert all(lost.values())
    here.until_all("chain", "fail", dict.fromkeys(here.stores, "chain_gap"))
    for name, objects in lost.items():
        for each, data in objects.items():
            here.stores[name].put(each, data)
    here.until_ready()


def all_that_is_said(here: Harbour, folder: Path) -> dict[str, str]:
    """Everything that a person, a script or a Prometheus can read of the daemon and the commands."""
    url = here.sidecar.url
    said = {part: httpx.get(f"{url}{part}", timeout=10).text for part in PARTS}
    said |= {f"/databases/{name}": httpx.get(f"{url}/databases/{name}", timeout=10).text for name in here.stores}
    said["openmetrics"] = httpx.get(
        f"{url}/metrics", headers={"Accept": "application/openmetrics-text"}, timeout=10
    ).text
    said["refused"] = httpx.post(
        f"{url}/drills", json={"db": "s3"}, headers={"Authorization": "Bearer no"}, timeout=10
    ).text
    options = here.sidecar.options
    for words in (["doctor", *options], ["status", "--url", url], ["status", "--json", "--url", url], ["history", *options],
                  ["history", "--json", *options], ["gate", "s3", "--receipt", folder / "receipt.json", *options],
                  ["verify", "sftp", "abs", *options], ["rollback", "--receipt", folder / "receipt.json", *options]):  # fmt: skip
        ran = ask(here, *words)
        said[" ".join(map(str, words[:2]))] = ran.out + ran.err
        assert ran.code == 0, (words, ran)
    said["receipt"] = (folder / "receipt.json").read_text()
    said["log"] = here.sidecar.log
    for each in here.sidecar.state_dir.rglob("*"):
        if each.is_file():
            said[str(each)] = each.read_bytes().decode(errors="replace")
    return said


@pytest.mark.timeout(400)
def test_every_store_through_its_troubles_and_no_secret_of_any(tmp_path: Path) -> None:
    with harbour(tmp_path) as here:
        here.until_ready(within=90)
        for _ in range(4):  # so that there is a middle
            for name, app in here.apps.items():
                before = len(here.stores[name].names())
                app.write()
                until(lambda name=name, before=before: len(here.stores[name].names()) > before, within=30)  # type: ignore[misc] # bound now
        here.until_ready()
        with Watch(here) as watch:
            for trouble in (silent, gone, locked, damaged, incomplete):
                trouble(here)
        assert len(watch.waits_s) > 100
        assert sorted(watch.waits_s)[len(watch.waits_s) // 2] < 0.1
        assert max(watch.waits_s) < 2
        assert any("restore" in each for each in watch.seen)
        said = all_that_is_said(here, tmp_path) | {each[:60]: each for each in watch.seen}
        for secret in here.secrets:
            assert [where for where, text in said.items() if secret in text] == []
        # What is looked for does stand where it was put: a sweep over nothing would pass.
        files = (here.acting.litestream.config, here.sidecar.sidecar_yml, tmp_path / "token")
        held = "".join(each.read_text() for each in files)
        assert all(each in held for each in (f"{RIGHT}nats", PING, HOOK, TOKEN, here.secrets[1]))
