"""Progress of long work for a person at a terminal: restore bytes, checked pages. Silent anywhere else."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from sidecar.core.ports import Progress


def unseen(stage: str, done: int, total: int | None) -> None:
    """Progress that nobody watches."""


@contextlib.contextmanager
def shown(name: str) -> Iterator[Progress]:
    """A progress line on stderr while the block runs, if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield unseen
        return
    from rich.console import Console  # noqa: PLC0415 - only where a person looks
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415
    from rich.progress import Progress as Bars  # noqa: PLC0415

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(name, total=None)

        def report(stage: str, done: int, total: int | None) -> None:
            bars.update(task, description=f"{name}: {stage}", completed=done, total=total)

        yield report
