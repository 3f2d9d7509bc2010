"""Progress of long work for a person at a terminal: restore bytes, checked pages. Silent anywhere else."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

CANNOT_ERASE = frozenset({"dumb", "unknown"})  # terminals, by $TERM


def unseen(stage: str, done: int, total: int | None) -> None:
    """Progress that nobody watches."""


class Line:
    """A progress line on stderr. Satisfies `ports.Progress`; nobody sees it where there are no bars."""

    def __init__(self, name: str, bars: Bars | None = None) -> None:
        self._name, self._bars = name, bars
        self._task = bars.add_task(name, total=None) if bars is not None else None

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """So much of this stage is done. A line that rests is drawn again."""
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, description=f"{self._name}: {stage}", completed=done, total=total)
            self._bars.start()

    def rest(self) -> None:
        """Take it away: an answer is to be printed, or somebody else's command gets the terminal."""
        if self._bars is not None:
            self._bars.stop()


@contextlib.contextmanager
def shown(name: str) -> Iterator[Line]:
    """A progress line on stderr while the block runs, if stderr is a terminal that can take it away again."""
    if not sys.stderr.isatty() or os.environ.get("TERM", "dumb") in CANNOT_ERASE:
        yield Line(name)
        return
    from rich.console import Console  # noqa: PLC0415 - only where a person looks
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        yield Line(name, bars)
