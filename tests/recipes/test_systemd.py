"""The unit of the recipe under the real systemd, beside Litestream and an app that are units too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.litestreams import binary, until
from tests.recipes.machine import Machine, chown, machine
from tests.recipes.place import Place
from tests.recipes.snippets import settled, snippets
from tests.recipes.tools import SCRIPTS, need

(UNIT,) = snippets("systemd", "ini")
(DEPLOY,) = snippets("systemd", "sh")
USER = 4242
LITESTREAM = """[Service]
User=app
ExecStart={binary} replicate -config {yml}
"""
APP = """[Service]
User=app
ExecStart={project}/serve
"""
SERVE = """#!/usr/bin/env python3
import sqlite3, time
connection = sqlite3.connect("{database}")
print("serving version", connection.execute("pragma user_version").fetchone()[0], flush=True)
while True:
    time.sleep(60)
"""


@pytest.fixture
def server(shop: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A server on which the old release runs."""
    shop.stop()
    with machine(tmp_path_factory.mktemp("server") / "machine", shop.folder) as made:
        made.write(
            "/etc/systemd/system/litestream.service", LITESTREAM.format(binary=binary(), yml=shop.litestream_yml)
        )
        made.write("/etc/systemd/system/app.service", APP.format(project=shop.project))
        made.write("/etc/systemd/system/app-migrate.service", settled(UNIT, shop))
        serve = shop.project / "serve"
        serve.write_text(SERVE.format(database=shop.database))
        serve.chmod(0o755)
        for each in (shop.folder, SCRIPTS):
            reach(made, each)
        assert made.run("useradd", "-M", "-u", USER, "app").code == 0
        chown(shop.folder, USER)
        assert made.run("systemctl", "daemon-reload").code == 0
        assert made.run("systemctl", "start", "litestream", "app").code == 0
        until(lambda: "serving version 1" in made.run("journalctl", "-u", "app").out, say="the old release serves")
        until((shop.folder / "l.sock").exists, say="Litestream listens")
        yield made


def reach(made: Machine, folder: Path) -> None:
    """Folders on the way may be root's alone; in the machine the app's user must get through."""
    for each in (*reversed(folder.parents), folder):
        made.run("chmod", "a+x", each)


def started(made: Machine, unit: str) -> str:
    return made.run("systemctl", "show", "-P", "ActiveEnterTimestampMonotonic", unit).out.strip()


def test_the_unit_is_well_written(shop: Place) -> None:
    """systemd-analyze says of misspelt keys that it ignores them, and ends with 0: any word of it is a fault."""
    unit = shop.folder / "app-migrate.service"
    known = settled(UNIT, shop).replace("/usr/local/bin/litestream-sidecar", need("litestream-sidecar"))
    unit.write_text(known.replace("litestream.service", "basic.target"))
    ran = shop.run("systemd-analyze", "verify", unit)
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    unit.write_text(unit.read_text().replace("TimeoutStartSec", "TimeoutStarSec"))
    assert "TimeoutStarSec" in shop.run("systemd-analyze", "verify", unit).err


def test_systemd_migrates_behind_the_gate_and_starts_the_new_release(shop: Place, server: Machine) -> None:
    ran = server.run("sh", "-c", DEPLOY)
    journal = server.run("journalctl", "-u", "app-migrate", "-o", "cat").out
    assert ran.code == 0, journal
    assert "HELD  deployed, intact, and covered by the backup again" in journal
    until(lambda: "serving version 2" in server.run("journalctl", "-u", "app").out, say="the new release serves")
    (receipt,) = server.root.glob("var/lib/litestream-sidecar/*.json")
    assert receipt.stat().st_uid == USER
    assert str(shop.database) in receipt.read_text()


@pytest.mark.parametrize("trouble", ["broken", "losing"])
def test_systemd_refuses_and_the_old_release_goes_on(shop: Place, server: Machine, trouble: str) -> None:
    until(lambda: any((shop.replica / "ltx" / "9").glob("*.ltx")), say="there is a snapshot")
    if trouble == "broken":
        shop.break_backup()
    else:
        (shop.project / "migrations" / "0003_loss.sql").write_text("delete from items;\npragma user_version = 3;\n")
    since = started(server, "app")
    ran = server.run("sh", "-c", DEPLOY)
    journal = server.run("journalctl", "-u", "app-migrate", "-o", "cat").out
    assert ran.code != 0, journal
    assert ("REFUSED" if trouble == "broken" else "table items has 0 rows of 360") in journal
    assert server.run("systemctl", "is-active", "app").out.strip() == "active"
    assert started(server, "app") == since
