"""Reads how much memory a child of this process may take: what the machine and every control group above it leave free.

Sources: proc(5) `MemAvailable`; the kernel's cgroup-v2 (`memory.max`, `memory.current`) and cgroup-v1 (`memory.limit_in_bytes`,
`memory.usage_in_bytes`). What a group holds of files counts as free, since the kernel takes it back before it kills. A limit that
is not there or cannot be read is none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KIB = 1024
# Below the root: where the controller is mounted, its limit, its use, and the lines of memory.stat that can be taken back.
_V2 = ("memory.max", "memory.current", ("active_file", "inactive_file"))
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file"))


@dataclass(frozen=True, slots=True)
class FreeMemory:
    """Safe to share between threads: it keeps nothing.

    Args:
        root: `/`; a test's folder holds the same files.
    """

    root: Path = Path("/")

    def bytes(self) -> int | None:
        """The smallest of what is free by the machine and by each group; None where none of them can be read. Never raises."""
        return min((max(each, 0) for each in self._all()), default=None)

    def _all(self) -> Iterator[int]:
        for line in _lines(self.root / "proc/meminfo"):
            if line.startswith("MemAvailable:"):
                with contextlib.suppress(ValueError, IndexError):
                    yield int(line.split()[1]) * KIB
        groups = self.root / "sys/fs/cgroup"
        for line in _lines(self.root / "proc/self/cgroup"):
            number, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            if number == "0":
                for mounted in (groups, groups / "unified"):
                    yield from _free(mounted, path, *_V2)
            elif "memory" in controllers.split(","):
                yield from _free(groups / "memory", path, *_V1)


def _free(mounted: Path, path: str, limit: str, used: str, reclaimable: tuple[str, ...]) -> Iterator[int]:
    """What each group from ours up to the mounted one leaves. In a container our path may be the machine's, and not be there."""
    parts = [part for part in path.split("/") if part not in {"", ".."}]
    for depth in range(len(parts), -1, -1):
        folder = mounted.joinpath(*parts[:depth])
        limit_bytes, used_bytes = _number(folder / limit), _number(folder / used)
        if limit_bytes is not None and used_bytes is not None:  # v2 says `max` where there is no limit
            files = sum(
                int(value)
                for name, _, value in (line.partition(" ") for line in _lines(folder / "memory.stat"))
                if name in reclaimable and value.isdigit()
            )
            yield limit_bytes - max(used_bytes - files, 0)


def _number(file: Path) -> int | None:
    lines = _lines(file)
    return int(lines[0]) if lines and lines[0].isdigit() else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").splitlines()
    except OSError:
        return []
