"""The commands that README.md shows outside its recipes: those of the section Commands, and those of the runbooks."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.e2e.stage import Sidecar
from tests.faces.commands import Ran
from tests.litestreams import free_port, until
from tests.recipes.place import Place
from tests.recipes.snippets import README, blocks_below, recipe, script, settled
from tests.recipes.tools import need

BESIDE, AROUND = blocks_below("Commands", "sh")
(DEPLOY,) = blocks_below("A deploy, from the gate to the way back", "sh")
(REHEARSE,) = blocks_below("Rehearse it first", "sh")
(WAY_BACK,) = blocks_below("The way back", "sh")
# In a rehearsal it finds the copy where the sidecar says that it is.
MANAGE = """#!/bin/sh
exec sh migrate.sh "${{LITESTREAM_SIDECAR_REHEARSAL_DB:-{database}}}"
"""
# Names of commands, which need more words to be run.
NAMED_ONLY = {"litestream-sidecar rollback", "litestream-sidecar postcheck", "litestream-sidecar backup"}
ELSEWHERE = {"litestream-sidecar selftest"}  # run whole by test_selftest.py, which takes a minute and a half


def sh(place: Place, text: str, url: str = "") -> Ran:
    """As somebody who copies it, in the project's folder; ended by the first line that fails."""
    (place.folder / "safe").mkdir(exist_ok=True)
    (place.folder / "elsewhere").mkdir(exist_ok=True)
    text = re.sub(r"/(safe|elsewhere)\b", rf"{place.folder}/\1", settled(text, place, url))
    env = place.environment | ({"LITESTREAM_SIDECAR_URL": url} if url else {})
    return place.run("sh", "-ec", text, env=env)


def manage(place: Place) -> None:
    script(place, "manage.py", MANAGE.format(database=place.database))


def test_beside_your_own_app(shop: Place) -> None:
    doctor, verify, run, curl = BESIDE.splitlines()
    for line in (doctor, verify):
        assert sh(shop, line).code == 0, line
    port = free_port()
    env = shop.environment | {"LITESTREAM_SIDECAR_LISTEN": f"127.0.0.1:{port}"}
    daemon = subprocess.Popen(
        ["sh", "-c", f"exec {settled(run, shop)}"], env=env, cwd=shop.project, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        answer = until(lambda: (ran := sh(shop, curl, f"http://127.0.0.1:{port}")).code == 0 and ran, say="ready")
        assert answer
        assert answer.document["ready"] is True
    finally:
        daemon.terminate()
        assert daemon.wait(timeout=20) == 0


def test_around_a_migration(shop: Place) -> None:
    manage(shop)
    rehearse, gate = AROUND.splitlines()
    assert sh(shop, rehearse).code == 0
    assert shop.version() == 1
    ran = sh(shop, gate)
    assert ran.code == 0, ran
    assert shop.version() == 2


def test_a_deploy_from_the_gate_to_the_way_back(shop: Place) -> None:
    manage(shop)
    ran = sh(shop, DEPLOY)
    assert ran.code == 0, ran
    for each in ("PASSED", "HELD", "the way back"):
        assert each in ran.out
    assert shop.version() == 2
    printed, executed = WAY_BACK.splitlines()
    assert sh(shop, printed).code == 0
    refused = sh(shop, executed)
    assert refused.code != 0, "the app runs"
    shop.stop()
    ran = sh(shop, executed)
    assert ran.code == 0, ran
    shop.start()
    assert shop.version() == 1


def test_rehearsals(shop: Place) -> None:
    manage(shop)
    (shop.project / "0042.sql").write_text((shop.project / "migrations" / "0002_coupons.sql").read_text())
    by_variable, by_argument, by_url = REHEARSE.splitlines()
    for line in (by_variable, by_argument):
        ran = sh(shop, line)
        assert ran.code == 0, ran
    assert shop.version() == 1
    # Run by test_frameworks.py, with the real Alembic.
    assert f"| `{by_url.removeprefix('litestream-sidecar ')}` |" in recipe("Migration frameworks")


def spoken() -> list[str]:
    """Whole commands that stand inside sentences: runbooks, hints and the like."""
    text = re.sub(r"^```.*?^```$", "", README.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"`((?:litestream-sidecar|curl|df|ls) [^`\n]+)`", text)
    return sorted(set(found) - NAMED_ONLY - ELSEWHERE)


@pytest.mark.timeout(300)
def test_what_runbooks_tell_to_type(shop: Place, daemon: Sidecar) -> None:
    manage(shop)
    daemon.start()
    daemon.until_ready()
    found = spoken()
    assert len(found) >= 12
    for each in found:
        ran = sh(shop, each, daemon.url)
        assert ran.code == 0, (each, ran)
        assert ran.out, each
        for made in ("safe", "elsewhere"):
            (shop.folder / made / "app.db").unlink(missing_ok=True)
    assert shop.version() == 2, "one of them is a gate with a migration"


@pytest.mark.timeout(300)
def test_the_scripts_that_print_figures_run(shop: Place) -> None:
    """On next to nothing: the figures in README.md are of a gigabyte and a minute."""
    text = README.read_text()
    for name, small in (
        ("drill", "SIZE_MB=10 ROUNDS=1"),
        ("parity", "SIZE_MB=10 ROUNDS=1 REST_S=0.5"),
        ("rest", "REST_S=0.5 LOAD_S=0.2 STARTS=1"),
        ("app", "SIZE_MB=10 ROUNDS=1 PHASE_S=3"),
        ("http", "LOAD_S=1 CROWD_S=1 RATE=50 HALVES=20 SLOW=2"),
        ("pieces", "SIZE_MB=10 ROUNDS=1"),
        ("fleet", "COUNTS=2 REST_S=2 SETTLE_S=60 QUIET_S=1 ASKED_S=1 VICTIM_LAG_S=5"),
        ("answers", "COUNTS=3 ROUNDS=1"),
        ("month", "DATABASES=50 DAYS=2"),
        ("listing", "DATABASES=2 ROUNDS=1"),
        ("skipped", "SIZES_MB=0.1 ROUNDS=1"),
        ("forecast", "SIZES_MB=2,4"),
        ("by_change", "SIZES_MB=2 ROUNDS=1"),
    ):
        assert f"`python -m tests.bench.{name}`" in text
        ran = shop.run("sh", "-c", f"{small} exec {need('python')} -m tests.bench.{name}", cwd=README.parent)
        assert ran.code == 0, ran
        assert f'"bench": "{name}"' in ran.out, ran
