"""The tools that recipes run, each installed once: npm's in `.ci-work/`; pip's are development dependencies, Debian's come from `.ci/test`."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from tests.faces.commands import clean
from tests.litestreams import ROOT

PACKAGES = Path(__file__).with_name("package.json")
SCRIPTS = Path(sysconfig.get_path("scripts"))


@contextlib.contextmanager
def one_at_a_time(name: str, folder: Path = ROOT / ".ci-work") -> Iterator[None]:
    """Only one process at a time is in here: xdist's workers share what is expensive."""
    folder.mkdir(exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def need(program: str) -> str:
    """Where a program is. A missing one fails: it must not be skipped."""
    found = shutil.which(program, path=f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}")
    assert found is not None, f"{program} is missing: .ci/test installs it"
    return found


def node_modules(packages: Path = PACKAGES) -> Path:
    """The packages of a package.json, installed once for each version of that file."""
    digest = hashlib.sha256(packages.read_bytes()).hexdigest()[:12]
    folder = ROOT / ".ci-work" / f"npm-{digest}"
    with one_at_a_time("npm"):
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            shutil.copy(packages, folder)
            # Install scripts download or compile: nothing here needs one. Prisma's peers disagree about versions we do not use.
            npm = [need("npm"), "install", "--ignore-scripts", "--legacy-peer-deps", "--no-package-lock", "--no-audit"]
            subprocess.run(npm, cwd=folder, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=110)
            (folder / "done").touch()
    return folder / "node_modules"


def environment(**more: str) -> dict[str, str]:
    """What a shell in a project would have: our command, Python's and npm's on PATH."""
    path = os.pathsep.join([str(SCRIPTS), "node_modules/.bin", os.environ["PATH"]])
    return clean({"PATH": path} | more)
