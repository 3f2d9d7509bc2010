"""The shipped units as text: systemd finds nothing to say about them, every line has its reason, every command is one of ours."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import click
import pytest
import yaml

from sidecar.cli import cli
from sidecar.cli_options import COMMAND, env_of
from sidecar.settings import read
from tests.faces.commands import Ran
from tests.ops.server import UNITS, blocks
from tests.recipes.snippets import snippets
from tests.recipes.tools import need

DAEMON, VERIFY = "litestream-sidecar.service", "litestream-sidecar-verify@.service"
EXPOSURE_MAX = 1.5
INSTALLED = {"10-app.conf", "20-tell.conf"}  # drop-ins of both
STRANGERS = {
    "app.service": "[Service]\nExecStart=/bin/true\n",
    "litestream.service": "[Service]\nExecStart=/bin/true\n",
}
UNIT_FILES = sorted(each.name for each in UNITS.iterdir() if each.suffix in {".service", ".timer"})
WITH_LINES = sorted(
    each for each in UNITS.rglob("*") if each.suffix in {".service", ".timer", ".conf"} and each.is_file()
)
OURS = "/usr/local/bin/litestream-sidecar"
# Nobody asks why a unit has a description, and [Install] is what `enable` is for.
SELF_EXPLAINING = {"Description", "Documentation", "ExecStart", "WantedBy"}
# What the score still counts, each for a reason that stands in the unit.
STILL_OPEN = {
    "AF_(INET|INET6)", "AF_UNIX", "DeviceAllow=", "IPAddressDeny=", "PrivateNetwork=", "ProcSubset=", "RemoveIPC=", "RootDirectory=",
    "SystemCallFilter=~@resources",
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    key: str
    value: str
    explained: bool  # a comment stands above it, or above the lines that it goes with


def lines(file: Path) -> list[Line]:
    """Settings of a unit. A comment explains what follows it up to the next comment or empty line."""
    found, explained = [], False
    for text in file.read_text().replace("\\\n", " ").splitlines():
        if text.startswith("#"):
            explained = True
        elif not text or text.startswith("["):
            explained = False
        else:
            key, value = text.split("=", 1)
            found.append(Line(key, value, explained))
    return found


@pytest.fixture
def laid_out(tmp_path: Path) -> Path:
    """The units as they are installed, with programs that this machine has."""
    for name, text in STRANGERS.items():
        (tmp_path / name).write_text(text)
    shutil.copytree(UNITS, tmp_path, dirs_exist_ok=True)
    for unit in (DAEMON, VERIFY):
        (tmp_path / f"{unit}.d").mkdir()
        for drop_in in INSTALLED:
            shutil.copy(UNITS / drop_in, tmp_path / f"{unit}.d")
    for file in tmp_path.rglob("*"):
        if file.is_file():
            text = file.read_text().replace(OURS, need("litestream-sidecar"))
            file.write_text(re.sub(r"/opt/app/migrate\b", "/bin/true", text).replace("/opt/app", "/"))
    return tmp_path


def analyze(folder: Path, *arguments: object) -> Ran:
    done = subprocess.run(
        [need("systemd-analyze"), *map(str, arguments)], capture_output=True, text=True, check=False, timeout=30,
        env={"SYSTEMD_UNIT_PATH": f"{folder}:", "PATH": "/usr/bin:/bin", "LC_ALL": "C"},
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr)


def instance(name: str) -> str:
    return name.replace("@.", "@app.")


@pytest.mark.parametrize("name", [*UNIT_FILES, *STRANGERS])
def test_systemd_has_nothing_to_say(name: str, laid_out: Path) -> None:
    ran = analyze(laid_out, "verify", "--man=no", laid_out / instance(name))
    assert (ran.code, ran.out, ran.err) == (0, "", "")


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        (f"{DAEMON}", "WatchdogSec", "WatchdgSec"),
        (f"{DAEMON}.d/10-app.conf", "ReadWritePaths=", "ReadWritPaths="),
        (f"{VERIFY}", "OOMPolicy=continue", "OOMPolicy=go-on"),
        ("litestream-sidecar-verify@.timer", "Sun 03:17", "Son 03:17"),
        ("app.service.d/10-gate.conf", "After=", "Afer="),
    ],
)
def test_what_is_misspelt_is_seen_although_the_exit_code_is_0(
    file: str, right: str, wrong: str, laid_out: Path
) -> None:
    text = (laid_out / file).read_text()
    assert right in text
    (laid_out / file).write_text(text.replace(right, wrong, 1))
    unit = instance(file.partition(".d/")[0])
    ran = analyze(laid_out, "verify", "--man=no", laid_out / unit)
    assert ran.out + ran.err != ""


@pytest.mark.parametrize("name", [DAEMON, VERIFY])
def test_the_exposure_is_small_and_what_is_left_is_known(name: str, laid_out: Path) -> None:
    unit = laid_out / instance(name)
    report = json.loads(analyze(laid_out, "security", "--offline=yes", "--json=short", unit).out)
    left = {each["name"]: float(each["exposure"]) for each in report if each["exposure"] not in {None, "0", "0.0"}}
    assert [known for known in left if not any(each in known for each in STILL_OPEN)] == []
    assert all(any(each in known for known in left) for each in STILL_OPEN), left
    said = re.search(r"exposure level for \S+: (\d+\.\d)", analyze(laid_out, "security", "--offline=yes", unit).out)
    assert said is not None
    assert float(said[1]) <= EXPOSURE_MAX
    assert analyze(laid_out, "security", "--offline=yes", f"--threshold={EXPOSURE_MAX * 10:.0f}", unit).code == 0
    file = laid_out / name
    file.write_text(re.sub("^(SystemCall|Protect|Private|Restrict).*", "", file.read_text(), flags=re.MULTILINE))
    assert analyze(laid_out, "security", "--offline=yes", f"--threshold={EXPOSURE_MAX * 10:.0f}", unit).code == 1


@pytest.mark.parametrize(
    "file",
    [each for each in WITH_LINES if each.name != "app-migrate.service"],  # README's recipe, whose text explains it
    ids=lambda each: str(each.relative_to(UNITS)),
)
def test_every_line_has_its_reason(file: Path) -> None:
    assert [each for each in lines(file) if not each.explained and each.key not in SELF_EXPLAINING] == []


def test_the_one_shot_is_confined_as_the_daemon_is() -> None:
    """Its own file says that the reasons stand in the daemon's: so the lines must be the same."""
    own = {"Type", "ExecStart", "TimeoutStartSec", "Description", "After", "Wants", "Documentation"}
    daemon = {(each.key, each.value) for each in lines(UNITS / DAEMON)}
    verify = {(each.key, each.value) for each in lines(UNITS / VERIFY)}
    assert {each for each in verify - daemon if each[0] not in own} == set()
    assert {key for key, _ in daemon - verify} - own == {
        "ExecReload", "Restart", "RestartSec", "RestartPreventExitStatus", "WatchdogSec", "RuntimeDirectory",
        "RuntimeDirectoryMode", "WantedBy",
    }  # fmt: skip


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command line of ours in a unit, without the program."""
    for file in WITH_LINES:
        for each in lines(file):
            if each.key.startswith("Exec") and OURS in each.value:
                words = shlex.split(each.value.partition(f"{OURS} ")[2].rstrip("'"))
                yield f"{file.name} {each.key}", [instance_name(word) for word in words]


def instance_name(word: str) -> str:
    return word.replace("%i", "app")


@pytest.mark.parametrize(("where", "words"), [pytest.param(*each, id=each[0]) for each in commands()])
def test_every_command_line_is_one_that_we_understand(where: str, words: list[str]) -> None:
    name, *arguments = words
    command = cli.commands[name]
    context = command.make_context(name, list(arguments), resilient_parsing=False)
    assert context.params, where
    if "--" in arguments:
        assert context.meta[COMMAND] == tuple(arguments[arguments.index("--") + 1 :])


def test_a_misspelt_option_would_be_seen() -> None:
    with pytest.raises(click.NoSuchOption):
        cli.commands["verify"].make_context("verify", ["--ful", "app"])


def test_every_variable_of_ours_is_one_of_an_option() -> None:
    known = {
        env_of(name.removeprefix("--"))
        for command in cli.commands.values()
        for each in command.params
        for name in each.opts
    }
    used = {each.value.partition("=")[0] for file in WITH_LINES for each in lines(file) if each.key == "Environment"}
    assert {each for each in used if each.startswith("LITESTREAM_SIDECAR")} <= known
    assert env_of("state-dir") in used


def test_the_watchdog_waits_longer_than_livez() -> None:
    """/livez is red first; and TERM has its time before KILL."""
    from sidecar.adapters.process import GRACE_S  # noqa: PLC0415 - the figures that the comments speak of
    from sidecar.daemon import ALIVE_S  # noqa: PLC0415

    said = {each.key: each.value for each in lines(UNITS / DAEMON)}
    assert float(said["WatchdogSec"].rstrip("s")) == 3 * ALIVE_S
    assert float(said["TimeoutStopSec"].rstrip("s")) >= 2 * GRACE_S


def test_the_recipe_and_the_shipped_unit_are_one_text() -> None:
    (recipe,) = snippets("systemd", "ini")
    assert (UNITS / "app-migrate.service").read_text() == recipe


def test_the_gate_takes_the_units_own_migration_back_first() -> None:
    before = [each.value for each in lines(UNITS / "app.service.d" / "10-gate.conf") if each.key == "ExecStartPre"]
    assert before[0] == ""
    assert [("gate" in one, "gate" in two) for one, two in pairwise(before)] == [(False, True)]


def test_the_example_settings_are_good() -> None:
    settings = read(UNITS / "sidecar.yml", {"LITESTREAM_SIDECAR_STATE_DIR": "/var/lib/litestream-sidecar"})
    assert str(settings.scratch) == "/var/cache/litestream-sidecar"
    litestream = yaml.safe_load((UNITS / "litestream.yml").read_text())
    runtime = {each.key: each.value for each in lines(UNITS / "litestream.service.d" / "10-app.conf")}[
        "RuntimeDirectory"
    ]
    assert litestream["socket"] == {"enabled": True, "path": f"/run/{runtime}/litestream.sock"}
    assert str(Path(litestream["dbs"][0]["path"]).parent) in (UNITS / "10-app.conf").read_text()


def test_the_weekly_time_is_one() -> None:
    (when,) = [each.value for each in lines(UNITS / "litestream-sidecar-verify@.timer") if each.key == "OnCalendar"]
    assert "Normalized form: Sun *-*-* 03:17:00" in analyze(UNITS, "calendar", when).out


def test_readme_installs_files_that_there_are() -> None:
    words = [
        word for block in blocks() for line in block.splitlines() if line.startswith("install") for word in line.split()
    ]
    files = [word for word in words if re.search(r"\.(service|timer|conf|yml)$", word)]
    assert len(files) >= 7
    assert [each for each in files if not (UNITS / each).is_file()] == []
