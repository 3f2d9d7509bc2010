"""Plain shell, Kamal, GitHub Actions, Fly and Docker: the scripts of the recipes, run by the shell that would run them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.stage import Sidecar
from tests.faces.commands import Ran
from tests.litestreams import free_port, until
from tests.recipes.place import App, Place
from tests.recipes.snippets import script, settled, snippets
from tests.recipes.tools import need

WAITING, GATED, THREE_LINES = snippets("Plain shell", "sh")
(DRILL,) = snippets("A drill on demand", "sh")
ENTRYPOINT, START = snippets("Fly, Docker", "sh")
(HOOK,) = snippets("Kamal", "sh")
(WORKFLOW,) = snippets("GitHub Actions", "yaml")


def sh(place: Place, text: str, **env: str) -> Ran:
    return place.run("sh", "-c", text, env=place.environment | env)


# Plain shell


def test_the_shell_waits_while_the_answer_is_no_and_goes_on_when_it_is_yes(shop: Place, daemon: Sidecar) -> None:
    shop.stop_litestream()
    daemon.start()
    said = shop.folder / "said"
    with said.open("wb") as out:
        waiting = subprocess.Popen(
            ["sh", "-c", settled(WAITING, shop, daemon.url)], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            cwd=shop.project, env=shop.environment, start_new_session=True,
        )  # fmt: skip
    try:
        until(lambda: "503" in said.read_text(), say="it was told to wait")
        assert (shop.version(), waiting.poll()) == (1, None)
        shop.replicate()
        assert waiting.wait(timeout=30) == 0, said.read_text()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(waiting.pid, signal.SIGKILL)
    assert shop.version() == 2


def test_the_shell_does_not_wait_for_ever(shop: Place, daemon: Sidecar) -> None:
    shop.break_backup()
    daemon.start()
    daemon.until_check("drill", "fail", "file_corrupt", within=30)
    ran = sh(shop, settled(WAITING, shop, daemon.url), WAIT="3")
    assert ran.code == 124, ran
    assert shop.version() == 1


@pytest.mark.parametrize("snippet", [GATED, THREE_LINES], ids=["one command", "three lines"])
def test_the_gate_in_a_shell(shop: Place, snippet: str) -> None:
    ran = sh(shop, snippet)
    assert ran.code == 0, ran
    assert "HELD" in ran.out
    assert shop.version() == 2


@pytest.mark.parametrize("snippet", [GATED, THREE_LINES], ids=["one command", "three lines"])
def test_the_gate_in_a_shell_refuses(shop: Place, snippet: str) -> None:
    shop.break_backup()
    ran = sh(shop, snippet)
    assert ran.code == 1, ran
    assert ran.out.startswith("REFUSED"), ran
    assert shop.version() == 1


# A drill on demand


@pytest.mark.parametrize("broken", [False, True], ids=["healthy", "broken"])
def test_a_drill_is_asked_for_and_waited_for(shop: Place, daemon: Sidecar, *, broken: bool) -> None:
    daemon.start()
    daemon.until_ready()
    if broken:
        shop.break_backup()
    ran = sh(shop, settled(DRILL, shop, daemon.url))
    assert ran.code == (1 if broken else 0), ran
    assert shop.version() == (1 if broken else 2)


# Kamal


@contextmanager
def sshd(folder: Path, environment: dict[str, str]) -> Iterator[Path]:
    """A real OpenSSH server; a folder with an `ssh` that knows its port and key."""
    (folder / "bin").mkdir(parents=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    for key in ("host", "user"):
        subprocess.run([need("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    port = free_port()
    variables = " ".join(f'"{name}={value}"' for name, value in environment.items())
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nSetEnv {variables}\n"
    )
    (folder / "ssh_config").write_text(
        f"Host *\n  Port {port}\n  IdentityFile {folder}/user\n  UserKnownHostsFile {folder}/known\n"
        "  StrictHostKeyChecking accept-new\n  LogLevel ERROR\n"
    )
    ssh = folder / "bin" / "ssh"
    ssh.write_text(f'#!/bin/sh\nexec {need("ssh")} -F {folder}/ssh_config "$@"\n')
    ssh.chmod(0o755)
    server = subprocess.Popen(
        [shutil.which("sshd", path="/usr/sbin:/usr/bin") or "/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "sshd_config")],
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert server.stderr is not None
        assert any(b"listening" in line for line in server.stderr)
        yield folder / "bin"
    finally:
        server.terminate()
        server.communicate()


@pytest.mark.parametrize("broken", [False, True], ids=["healthy", "broken"])
def test_kamals_hook_asks_on_every_host(shop: Place, *, broken: bool) -> None:
    hook = script(shop, "pre-deploy", HOOK)
    if broken:
        shop.break_backup()
    there = {name: value for name, value in shop.environment.items() if name.startswith("LITESTREAM_SIDECAR_")}
    with sshd(shop.folder / "ssh", there | {"PATH": shop.environment["PATH"]}) as programs:
        path = f"{programs}{os.pathsep}{shop.environment['PATH']}"
        ran = shop.run(str(hook), env={"PATH": path, "KAMAL_HOSTS": "127.0.0.1,localhost"})
    assert ran.code == (1 if broken else 0), ran
    assert ran.out.count("REFUSED" if broken else "PASSED") == (1 if broken else 2), ran


# GitHub Actions


def run_job(place: Place, job: dict[str, Any], env: dict[str, str]) -> tuple[dict[str, int], str]:
    """The `run:` steps as the runner does them: one file each, `bash -eo pipefail`, and `failure()` steps only after a failure."""
    codes: dict[str, int] = {}
    for number, step in enumerate(each for each in job["steps"] if "run" in each):
        failed = any(codes.values())
        if failed != (step.get("if") == "failure()"):
            continue
        file = script(place, f"step-{number}.sh", step["run"])
        ran = place.run("bash", "--noprofile", "--norc", "-eo", "pipefail", str(file), env=env)
        codes[step["name"]] = ran.code
    return codes, Path(env["GITHUB_STEP_SUMMARY"]).read_text()


@pytest.mark.parametrize(
    ("trouble", "expected", "said"),
    [
        ("", {"May we migrate?": 0, "Migrate": 0, "Did it hold?": 0}, "HELD"),
        ("broken", {"May we migrate?": 1, "The way back": 0}, "REFUSED"),
        (
            "losing",
            {"May we migrate?": 0, "Migrate": 0, "Did it hold?": 1, "The way back": 0},
            "the way back by receipt",
        ),
    ],
    ids=["healthy", "broken", "losing"],
)
def test_github_actions(shop: Place, trouble: str, expected: dict[str, int], said: str) -> None:
    workflow = yaml.safe_load(WORKFLOW)
    assert workflow["defaults"]["run"]["shell"] == "bash"
    (job,) = workflow["jobs"].values()
    temp = shop.folder / "runner"
    temp.mkdir()
    values = {name: value.replace("${{ runner.temp }}", str(temp)) for name, value in job["env"].items()}
    if trouble == "broken":
        shop.break_backup()
    elif trouble == "losing":
        (shop.project / "migrations" / "0003_loss.sql").write_text("delete from items;\npragma user_version = 3;\n")
    codes, summary = run_job(
        shop,
        job,
        shop.environment | values | {"GITHUB_STEP_SUMMARY": str(temp / "summary.md"), "RUNNER_TEMP": str(temp)},
    )
    assert codes == expected
    assert said in summary
    assert shop.version() == {"": 2, "broken": 1, "losing": 3}[trouble]


# Fly, Docker

SERVE = """#!/bin/sh
sqlite3 {database} 'pragma user_version' >{project}/served
exec sleep 60
"""


class Container:
    """The image's entrypoint as a container runs it, with its files where the snippet says they are."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.served = place.project / "served"
        script(place, "serve", SERVE.format(database=place.database, project=place.project))
        script(place, "start.sh", settled(START, place))
        # A container's litestream.yml lies where Litestream looks for it; here it has to be told.
        lines = settled(ENTRYPOINT, place).replace("/app/start.sh", str(place.project / "start.sh"))
        for verb in ("restore", "replicate"):
            lines = lines.replace(f"litestream {verb}", f"litestream {verb} -config {place.litestream_yml}")
        self.process = subprocess.Popen(
            [str(script(place, "entrypoint.sh", lines))], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, cwd=place.project, env=place.environment, text=True, start_new_session=True,
        )  # fmt: skip

    def serves(self) -> str:
        """Wait until the app serves; the version it serves."""
        until(lambda: self.served.exists() and self.served.read_text(), within=30, say="the app serves")
        return self.served.read_text().strip()

    def ended(self) -> tuple[int, str]:
        out, _ = self.process.communicate(timeout=60)
        return self.process.returncode, out

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=15)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@contextmanager
def container(place: Place) -> Iterator[Container]:
    made = Container(place)
    try:
        yield made
    finally:
        made.stop()


@pytest.mark.parametrize("volume", ["kept", "new", "first"])
def test_a_container_starts_behind_the_gate(shop: Place, volume: str) -> None:
    """A volume from the last release, a new one whose backup exists, and the very first start."""
    shop.stop()
    if volume != "kept":
        shutil.rmtree(shop.database.parent)
        shop.database.parent.mkdir()
    if volume == "first":
        shutil.rmtree(shop.replica)
    with container(shop) as running:
        assert running.serves() == "2"
    app = App(shop.database)
    assert app.execute("select count(*) from items") == [[360]]
    app.stop()


def test_a_container_does_not_start_on_a_backup_that_is_broken(shop: Place) -> None:
    shop.stop()
    shop.break_backup()
    with container(shop) as running:
        code, out = running.ended()
        assert code != 0, out
        assert "REFUSED" in out
        assert not running.served.exists()
    shop.app = App(shop.database)
    assert shop.version() == 1
