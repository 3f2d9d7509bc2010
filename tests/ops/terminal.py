"""A real terminal: tmux, 80 columns wide. What it shows is read line by line, joined where the terminal broke it."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faces.commands import COMMAND, clean
from tests.litestreams import ROOT, until
from tests.recipes.tools import need

COLUMNS = 80


@dataclass(frozen=True)
class Terminal:
    """One window, one command at a time."""

    folder: Path

    def tmux(self, *arguments: object) -> str:
        command = [need("tmux"), "-S", str(self.folder / "tmux"), "-f", "/dev/null", *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, env=clean({"LC_ALL": "C.UTF-8"}), check=True, timeout=20
        ).stdout

    def run(self, *arguments: object, env: Mapping[str, str] | None = None, within: float = 40) -> list[str]:
        """All that a person sees of this command, and how it ended as the last line."""
        done = self.folder / "done"
        done.unlink(missing_ok=True)
        variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in (env or {}).items())
        words = shlex.join([*COMMAND, *map(str, arguments)])
        script = f'cd {ROOT}; {variables} {words}; echo "exit $?"; touch {done}; exec sleep 60'
        self.tmux("new-session", "-d", "-s", "one", "-x", COLUMNS, "-y", 60, "sh", "-c", script)
        try:
            until(done.exists, within=within, say=f"{arguments[0]} ends")
            until(lambda: "exit " in self._seen(), say="the terminal shows it")
            return self._seen().rstrip("\n").splitlines()
        finally:
            self.tmux("kill-session", "-t", "one")

    def _seen(self) -> str:
        return "\n".join(
            line.rstrip() for line in self.tmux("capture-pane", "-p", "-J", "-S", "-", "-t", "one").splitlines()
        ).rstrip()


@contextmanager
def terminal(folder: Path) -> Iterator[Terminal]:
    """Its server keeps one session open, so that it ends when the block does."""
    made = Terminal(folder)
    made.tmux("new-session", "-d", "-s", "keep", "sleep", 600)
    try:
        yield made
    finally:
        made.tmux("kill-server")
