"""Which texts name production, and a rehearsal on a disk that has no room for a second copy."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from sidecar.adapters.sqlite_rehearsal import RehearsalCopy
from sidecar.core.errors import EnvironmentProblem
from sidecar.deploy.rehearsal import Rehearser, Script, Show, refuse_production


@pytest.fixture
def production(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database two folders below the working directory, with a link to it and a stranger beside it."""
    file = tmp_path / "srv" / "data" / "app.db"
    file.parent.mkdir(parents=True)
    for name in ("app.db", "app.db-wal", "app.db.bak", "other.db"):
        file.with_name(name).write_bytes(b"")
    (tmp_path / "link.db").symlink_to(file)
    monkeypatch.chdir(tmp_path / "srv")
    return file


def script(*argv: str, variables: dict[str, str] | None = None, **env: str) -> Script:
    return Script(argv=argv, env=env, variables=variables or {}, timeout_s=1)


NAMES = [
    "{path}", "{path}-wal", "data/app.db", "./data/../data/app.db", "../link.db", "sqlite:///{path}", "sqlite:////{bare}?mode=rw",
    "sqlite3:{path}", "sqlite:///data/app.db", "file:{path}", "file:./data/app.db?cache=shared", "file:///{folder}/%61pp.db",
    "--db={path}", "a=b;Data Source={path};x=y", "cp '{path}' x", "sqlite3 {path} 'drop table t'", "{folder}/other.db:{path}",
]  # fmt: skip


@pytest.mark.parametrize("form", NAMES)
def test_production_is_known_in_every_dress(production: Path, form: str) -> None:
    text = form.format(path=production, folder=production.parent, bare=str(production).lstrip("/"))
    with pytest.raises(EnvironmentProblem, match="the command names production"):
        refuse_production(script("migrate", text), production)
    with pytest.raises(EnvironmentProblem, match="the environment variable DB names production") as refused:
        refuse_production(script("migrate", DB=f"{text}"), production)
    assert text not in refused.value.message + refused.value.hint
    with pytest.raises(EnvironmentProblem, match="the environment variable DB"):
        refuse_production(script("migrate", variables={"DB": text}), production)
    refuse_production(script("migrate", variables={"DB": "{db}"}, DB=text), production)


@pytest.mark.parametrize(
    "form", ["", "{path}.bak", "{folder}", "{folder}/other.db", "app.db", "/x{path}", "a\0b", "{db}", "sqlite:///{db}"]
)
def test_what_is_not_production_may_be_named(production: Path, form: str) -> None:
    text = form.replace("{path}", str(production)).replace("{folder}", str(production.parent))
    refuse_production(script("migrate", text, DB=text), production)


def test_the_place_is_taken_by_the_copy_wherever_it_stands() -> None:
    argv, env = script("a", "--x={db}", "{db}{db}", variables={"B": "s:{db}"}, A="{db}", B="old").on(Path("/c/app.db"))
    assert argv == ["a", "--x=/c/app.db", "/c/app.db/c/app.db"]
    assert env == {"A": "{db}", "B": "s:/c/app.db", "LITESTREAM_SIDECAR_REHEARSAL_DB": "/c/app.db"}


class FullDisk(RehearsalCopy):
    """A disk that runs full while the second copy is made."""

    def duplicate(self, file: Path, target: Path, *, stop: Event) -> None:  # noqa: ARG002 - the port's arguments
        target.write_bytes(b"half")
        raise OSError(28, os.strerror(28))


def test_a_second_copy_that_does_not_fit_leaves_nothing_behind(tmp_path: Path) -> None:
    nobody: Any = None
    house = Rehearser(FullDisk(), nobody, nobody, nobody, nobody, nobody)
    show = Show(house, nobody, nobody, nobody, script("x"), Event())
    show.copy = tmp_path / "app.db"
    assert show.second_copy(tmp_path / "pristine.db", lambda *_: None) is None
    assert list(tmp_path.iterdir()) == []
