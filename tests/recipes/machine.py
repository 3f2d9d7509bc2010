"""A machine with the real systemd: systemd-nspawn over this machine's own files, changes kept in memory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faces.commands import Ran
from tests.litestreams import ROOT, until
from tests.recipes.tools import SCRIPTS, need

BOOT_S = 60.0
NAMESPACES = ("pid", "mnt", "uts", "net")


@dataclass
class Machine:
    """Its root, and the process that systemd is here."""

    root: Path
    nspawn: int = 0

    @property
    def leader(self) -> int:
        """The container's PID 1 as it is numbered out here; 0 while there is none. Never a process of our own namespaces:
        what is run beside it would reach this machine's systemd."""
        try:
            children = Path(f"/proc/{self.nspawn}/task/{self.nspawn}/children").read_text().split()
            child = int(children[0]) if children else 0
            numbers = re.search(r"^NSpid:\t(.*)$", Path(f"/proc/{child}/status").read_text(), re.MULTILINE)
            ours, its = Path("/proc/self/ns"), Path(f"/proc/{child}/ns")
            apart = all((ours / each).readlink() != (its / each).readlink() for each in NAMESPACES)
        except OSError:
            return 0
        return child if apart and numbers is not None and numbers[1].split()[-1] == "1" else 0

    def run(self, *arguments: object, within: float = 60) -> Ran:
        leader = self.leader
        assert leader, "the machine does not run"
        done = subprocess.run(
            [need("nsenter"), "-t", str(leader), "-a", *map(str, arguments)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=within, check=False,
        )  # fmt: skip
        return Ran(done.returncode, done.stdout, done.stderr)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        file = self.root / path.removeprefix("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def up(self) -> bool:
        return self.leader > 0 and self.run("systemctl", "is-system-running").out.strip() in {"running", "degraded"}


@contextmanager
def machine(folder: Path, *shared: Path, shown: Mapping[str, Path] | None = None) -> Iterator[Machine]:
    """Boot one; `shared` folders are the host's own, `shown` ones too, read-only and at the paths given. It has no network but
    loopback."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], check=True)
    try:
        for each in ("upper", "work", "root"):
            (folder / each).mkdir()
        layers = f"lowerdir=/,upperdir={folder}/upper,workdir={folder}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, str(folder / "root")], check=True)
        made = Machine(folder / "root")
        (made.root / "etc" / "machine-id").unlink(missing_ok=True)
        made.root.joinpath("root").chmod(0o755)  # a Python below it must be the app's to run as well
        link = made.root / "usr" / "local" / "bin" / "litestream-sidecar"
        link.unlink(missing_ok=True)
        link.symlink_to(SCRIPTS / "litestream-sidecar")
        # The project is bound too: where it lies below /tmp, systemd-nspawn's own /tmp would hide it.
        binds = [f"--bind-ro={ROOT}", *(f"--bind={each}" for each in shared)]
        binds += [f"--bind-ro={here}:{there}" for there, here in (shown or {}).items()]
        with (folder / "console").open("wb") as console:
            boot = subprocess.Popen(
                [need("systemd-nspawn"), "-q", "-D", str(made.root), "--register=no", "--keep-unit", "--private-network", *binds,
                 "--console=read-only", "--boot", "systemd.unit=basic.target"],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
            )  # fmt: skip
        try:
            made.nspawn = boot.pid
            until(made.up, within=BOOT_S, say=f"systemd is up; see {folder}/console")
            yield made
        finally:
            boot.terminate()  # systemd-nspawn then has its systemd shut down
            try:
                boot.wait(timeout=20)
            except subprocess.TimeoutExpired:
                boot.kill()
                boot.wait()
            subprocess.run(["umount", "-l", str(folder / "root")], check=True)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def chown(place: Path, user: int) -> None:
    """Give a folder and all that is in it to a user."""
    for folder, _, files in os.walk(place):
        os.chown(folder, user, user)
        for each in files:
            os.chown(Path(folder) / each, user, user, follow_symlinks=False)
