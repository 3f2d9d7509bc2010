"""Podman on a storage of its own below `.ci-work/`, and our image on a base that is made on this machine, under the real base's name.

No registry is asked, no network made and nothing outside that folder touched. What is expensive is made once: the base for
each way of making it, the wheels for each lock; podman itself keeps the image's layers.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faces.commands import Ran
from tests.litestreams import ROOT
from tests.recipes.tools import need, one_at_a_time

WORK = ROOT / ".ci-work" / "podman"
K8S = ROOT / "k8s"
IMAGE = "registry.example/litestream-sidecar:1"
APP_IMAGE = "registry.example/app:2"
LOCKS = (K8S / "requirements.txt", K8S / "requirements-build.txt")
APP = Path(__file__).with_name("app")
# The three things without which podman does not run on a machine without systemd and without CAP_SYS_RESOURCE.
CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
tmp_dir = "{work}/tmp"
[network]
network_backend = "netavark"
network_config_dir = "{work}/networks"
"""
STORAGE_CONF = """\
[storage]
driver = "overlay"
graphroot = "{work}/graph"
runroot = "{work}/run"
"""
# Like the official image: Python without the standard library's bytecode, pip in /usr/local, no manual pages.
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
BASE = [
    "--variant=minbase",
    "--include=python3,ca-certificates",
    *(f"--dpkgopt=path-exclude={each}" for each in LEFT_OUT),
    '--customize-hook=find "$1/usr/lib/python3" "$1/usr/lib/python3.11" -name __pycache__ -prune -exec rm -rf {} +',
    '--customize-hook=mkdir -p "$1/usr/local/lib/python3.11/dist-packages"',
    "--customize-hook=copy-in {pip} /usr/local/lib/python3.11/dist-packages",
    "bookworm",
]


def base_name() -> str:
    found = re.search(r"^ARG BASE=(\S+)$", (K8S / "Containerfile").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def podman(*arguments: object, within: float = 60, code: int | None = 0) -> Ran:
    """Run podman; another exit code than `code` fails, None takes any."""
    WORK.mkdir(parents=True, exist_ok=True)
    for name, text in (("containers.conf", CONTAINERS_CONF), ("storage.conf", STORAGE_CONF)):
        _put(WORK / name, text.format(work=WORK))
    env = os.environ | {
        "CONTAINERS_CONF": str(WORK / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(WORK / "storage.conf"),
    }
    done = subprocess.run(
        [need("podman"), *map(str, arguments)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=within, check=False, env=env,
    )  # fmt: skip
    assert code is None or done.returncode == code, (arguments, done)
    return Ran(done.returncode, done.stdout, done.stderr)


def _put(file: Path, text: str) -> None:
    """Whole or not at all: another worker may be reading it."""
    if not file.exists() or file.read_text() != text:
        beside = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        beside.write_text(text)
        beside.rename(file)


def image() -> str:
    """Our image, built by the Containerfile as it is, without a network; and the app's on it."""
    for tool in ("runc", "conmon", "catatonit"):
        need(tool)
    stamp, made_of = WORK / "image", _ingredients()
    with one_at_a_time("podman-image"):
        there = all(podman("image", "exists", each, code=None).code == 0 for each in (base_name(), IMAGE, APP_IMAGE))
        if there and stamp.exists() and stamp.read_text() == made_of:
            return IMAGE
        if podman("image", "exists", base_name(), code=None).code != 0:
            podman("import", "-q", _base(), base_name(), within=120)
        podman(
            "build", "--format", "docker", "--pull=never", "--network=none", "--volume", f"{_wheels()}:/wheels:ro",
            "--build-arg", "PIP_NO_INDEX=1", "--build-arg", "PIP_FIND_LINKS=/wheels",
            "-f", K8S / "Containerfile", "-t", IMAGE, ROOT, within=240,
        )  # fmt: skip
        podman("build", "--format", "docker", "--pull=never", "--network=none", "-t", APP_IMAGE, APP, within=60)
        podman(
            "image", "prune", "-f", "--filter", "until=24h", code=None
        )  # what is younger is the cache of the next build
        stamp.write_text(made_of)
    return IMAGE


def _ingredients() -> str:
    """A digest of all that the two images are built from (.dockerignore names it), and of how the base is made."""
    files = [K8S / "Containerfile", *LOCKS, ROOT / "pyproject.toml", ROOT / "README.md", ROOT / ".dockerignore"]
    files += sorted(APP.iterdir())
    files += sorted(each for each in (ROOT / "sidecar").rglob("*") if each.is_file() and each.suffix != ".pyc")
    digest = hashlib.sha256(repr(BASE).encode())
    for each in files:
        digest.update(f"{each.relative_to(ROOT)}\0".encode() + each.read_bytes() + b"\0")
    return digest.hexdigest()


def _base() -> Path:
    packed = Path(sysconfig.get_path("purelib")) / "pip"
    tar = WORK / f"base-{hashlib.sha256(repr(BASE).encode()).hexdigest()[:12]}.tar"
    if not tar.exists():
        beside = tar.with_suffix(".part.tar")
        command = [need("mmdebstrap"), *(each.replace("{pip}", str(packed)) for each in BASE), str(beside)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
        beside.rename(tar)
    return tar


def _wheels() -> Path:
    digest = hashlib.sha256(b"".join(each.read_bytes() for each in LOCKS)).hexdigest()[:12]
    folder = WORK / f"wheels-{digest}"
    if not folder.exists():
        beside = folder.with_suffix(".part")
        shutil.rmtree(beside, ignore_errors=True)
        for lock in LOCKS:
            pip = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "-q",
                "--no-deps",
                "--only-binary",
                ":all:",
                "--require-hashes",
            ]
            subprocess.run(
                [*pip, "--python-version", "3.11", "-d", str(beside), "-r", str(lock)],
                check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=180,
            )  # fmt: skip
        beside.rename(folder)
    return folder


@contextmanager
def played(manifest: Path, name: str) -> Iterator[None]:
    """The Pod of a manifest, without a network but its own loopback; at the end nothing is left of it, whatever happened."""
    sweep(name)
    try:
        podman("kube", "play", "--network=none", manifest, within=60)
        yield
    finally:
        sweep(name)


def sweep(name: str) -> None:
    """Remove a Pod and its volumes."""
    podman("pod", "rm", "-f", "-t", "0", name, code=None)
    for each in leftovers(name):
        podman("volume", "rm", "-f", each, code=None)


def leftovers(name: str) -> list[str]:
    """Volumes that belong to a Pod: all have its name in front."""
    names = podman("volume", "ls", "-q").out.split()
    return [each for each in names if each.startswith(f"{name}-")]
