"""Litestream's own folder beside a database: its files are read at once or not at all, whatever stands in their place."""

from __future__ import annotations

import os
import re
import stat
from io import FileIO
from pathlib import Path

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_GENERATION = re.compile(r"[0-9a-f]{16}")
_GENERATION_BYTES_MAX = 64  # of the file that names it


def regular(path: Path | str) -> FileIO:
    """A file that is none of SQLite's, opened for reading. Raises OSError, ValueError where no regular file stands there."""
    descriptor = os.open(path, _FLAGS)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{path} is no file")  # a pipe would keep us waiting for ever
    return FileIO(descriptor, "rb")


def current_generation(meta: Path) -> str | None:
    """The generation that Litestream 0.3 writes to; None where its file names none. Raises OSError, ValueError."""
    with regular(meta / "generation") as file:
        named = file.read(_GENERATION_BYTES_MAX).decode(errors="replace").strip()
    return named if _GENERATION.fullmatch(named) else None
