"""A real Chromium, driven over CDP by playwright-core from npm (installed once into `.ci-work/`). What is missing fails."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.litestreams import environment
from tests.recipes.tools import need, node_modules

HERE = Path(__file__).parent
END_S = 20


@dataclass(frozen=True)
class Browser:
    """One page at a time."""

    process: subprocess.Popen[str]

    def ask(self, verb: str, **how: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"verb": verb, **how}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the browser's driver has ended"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["found"]

    def open(self, url: str, **how: Any) -> None:
        """A new page. `javascript`, `scheme` (light, dark), `width`, `height`, `scale`."""
        self.ask("open", url=url, **how)

    def says(self, selector: str) -> str:
        """The text that a person sees there; empty where there is no such element."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def evaluate(self, script: str) -> Any:
        return self.ask("evaluate", script=script)

    def violations(self) -> list[dict[str, Any]]:
        """What axe finds that is serious or worse."""
        return [each for each in self.ask("axe") if each["impact"] in {"serious", "critical"}]


@contextmanager
def browser() -> Iterator[Browser]:
    """Start one; it ends with the block."""
    modules, chromium = node_modules(HERE / "package.json"), need("chromium")
    with subprocess.Popen(
        [need("node"), str(HERE / "browser.mjs"), str(modules), chromium],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(),
    ) as process:  # fmt: skip
        try:
            yield Browser(process)
            assert process.stdin is not None
            process.stdin.close()
            process.wait(timeout=END_S)
        finally:
            process.kill()
