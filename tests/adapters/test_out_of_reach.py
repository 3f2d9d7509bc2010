"""`policy.production: false`: nothing of production is read and nobody is asked about it, also where a file stands at its path."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from sidecar.adapters.claims import LitestreamClaims
from sidecar.adapters.live_files import LiveFiles
from sidecar.assembly_tools import load_fleet
from sidecar.core.live_state import LiveState
from sidecar.core.model import Claim, ClaimSource, Database
from sidecar.options import Options
from tests.fakes import NOW, FakeClock, database
from tests.litestreams import App


def never(*_: object) -> NoReturn:
    raise AssertionError("production was opened")


def test_a_file_that_is_there_is_not_read(tmp_path: Path) -> None:
    app = App(tmp_path / "app.db")
    app.write()
    here = database("app", str(app.path))
    files, far = LiveFiles(never, FakeClock()), replace(here, in_reach=False)
    assert files.read(far) == LiveState(NOW, None, 0, 0, None, None, (), in_reach=False)
    assert not files.changed(far)
    app.close()


class Witness:
    """Litestream, which says all is well of whatever it is asked about."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def read(self, databases: tuple[Database, ...]) -> dict[str, Claim]:
        self.asked += [each.path for each in databases]
        return {each.path: Claim(NOW, ClaimSource.SOCKET, up=True, managed=True) for each in databases}

    def close(self) -> None:
        """Nothing is open."""


def test_nobody_is_asked_about_it() -> None:
    near, far, witness = database("near"), replace(database("far"), in_reach=False), Witness()
    claims = LitestreamClaims(socket=witness, metrics=None, clock=FakeClock())
    assert list(claims.read((near, far))) == [near.path]
    assert witness.asked == [near.path]
    assert list(LitestreamClaims(socket=None, metrics=None, clock=FakeClock()).read((near, far))) == [near.path]


def test_it_is_said_for_all_or_for_one_database(tmp_path: Path) -> None:
    yml, ours = tmp_path / "litestream.yml", tmp_path / "sidecar.yml"
    entry = "  - {{path: {0}/{1}.db, replica: {{type: file, path: {0}/r/{1}}}}}\n"
    yml.write_text("dbs:\n" + "".join(entry.format(tmp_path, name) for name in ("near", "far")))
    ours.write_text("databases: {far: {policy: {production: false}}}\n")
    load = load_fleet(Options(litestream_config=yml, config=ours, state_dir=tmp_path / "state"), "0.5")
    fleet = load()
    assert {each.name: each.in_reach for each in fleet.databases.values()} == {"near": True, "far": False}
    ours.write_text("policy: {production: false}\n")
    assert {each.in_reach for each in load().databases.values()} == {False}
