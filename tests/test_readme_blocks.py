"""Blocks of README.md that are run here: the newcomer's first command, the program's place on a server, the drawing of the house."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.faces.commands import Ran, clean
from tests.recipes.snippets import README, ROOT, blocks, blocks_below

UNITS = ROOT / "systemd" / "README.md"
PACKAGED = ("pyproject.toml", "README.md", "sidecar")


def sh(folder: Path, text: str) -> Ran:
    """In a folder, without our own environment; bytecode is left out, which is half of an installation's time."""
    env = clean({"PIP_NO_COMPILE": "1", "PIP_QUIET": "1", "TMPDIR": str(folder), "PYTHONPATH": ""})
    env = {name: value for name, value in env.items() if name != "VIRTUAL_ENV"}
    done = subprocess.run(
        ["sh", "-ec", text], cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=115, check=False,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an installation needs of a checkout."""
    folder = tmp_path_factory.mktemp("checkout")
    for each in PACKAGED:
        if (ROOT / each).is_dir():
            shutil.copytree(ROOT / each, folder / each, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / each, folder)
    return folder


def test_the_first_command_from_nothing_to_a_ready_answer(checkout: Path) -> None:
    command = blocks_below("Two commands", "sh")[0].strip()
    assert command.endswith("/litestream-sidecar demo")
    ran = sh(checkout, f"{command} --once --listen 127.0.0.1:0")
    assert ran.code == 0, ran
    document = json.loads(ran.out[ran.out.index("{") :])
    assert document["ready"] is True


def test_the_program_in_a_place_of_its_own(checkout: Path) -> None:
    """The environment of the first command stands for a new one, so that nothing is fetched twice."""
    (checkout / "bin").mkdir()
    text = blocks_below("Ten minutes with systemd", "sh", UNITS)[0]
    place = "/opt/litestream-sidecar"
    assert text.count(place) == 3
    text = text.replace(place, f"{checkout}/.venv").replace("/usr/local/bin/", f"{checkout}/bin/")
    ran = sh(checkout, text)
    assert ran.code == 0, ran
    said = sh(checkout, "bin/litestream-sidecar --version")
    assert said.code == 0, said
    assert said.out


def test_the_short_road_is_the_long_ones_own_lines() -> None:
    """What a booted systemd runs of systemd/README.md is what README.md shows."""
    short, long = (blocks_below("Ten minutes with systemd", "sh", each) for each in (README, UNITS))
    assert "".join(short) == "".join(long)
    assert len(short) < len(long)


def test_the_house_is_drawn_as_it_stands() -> None:
    (drawing,) = [each.text for each in blocks() if each.heading == "Development"]
    folders = re.findall(r"(?:^|  )((?:sidecar|tests|k8s)/[a-z0-9]+)/", drawing, re.MULTILINE)
    assert len(folders) >= 8
    assert all((ROOT / each).is_dir() for each in folders)
    modules = {each.stem for top in ("sidecar", "tests", "k8s") for each in (ROOT / top).rglob("*.py")}
    assert set(re.findall(r"\b(\w+)\.py\b", drawing)) <= modules
    packages = {each.parent.name for each in (ROOT / "sidecar").glob("*/__init__.py")}
    assert packages <= {each.split("/")[1] for each in folders}


def test_what_a_change_must_pass_is_what_ci_runs() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    for each in (".ci/test", "ruff check", "ruff format --check", ".venv/bin/mypy", "-m build"):
        assert each in script
    assert "strict = true" in (ROOT / "pyproject.toml").read_text()
