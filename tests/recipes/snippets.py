"""The recipes as README.md shows them: what is run here is what stands there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.recipes.place import Place

README = Path(__file__).resolve().parents[2] / "README.md"
PORT = "127.0.0.1:9810"  # as the recipes say it


def recipe(title: str) -> str:
    """What stands below a recipe's heading."""
    section = re.search(r"^## Deploy recipes\n(.*?)(?=^## |\Z)", README.read_text(), re.MULTILINE | re.DOTALL)
    assert section is not None
    found = re.search(rf"^### {re.escape(title)}\n(.*?)(?=^### |\Z)", section[1], re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def snippets(title: str, language: str) -> list[str]:
    """A recipe's blocks of one language."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", recipe(title), re.MULTILINE | re.DOTALL)
    assert blocks, (title, language)
    return blocks


def settled(snippet: str, place: Place, url: str = "") -> str:
    """The snippet with the paths of a machine replaced by those of this test's folder, and the daemon's address by its own."""
    for there, here in (
        ("/data/app.db", place.database),
        ("/data/sidecar", place.state),
        ("/etc/litestream.yml", place.litestream_yml),
        ("/opt/app", place.project),
        ("/app/", f"{place.project}/"),
    ):
        snippet = snippet.replace(there, str(here))
    for address in (PORT, "app-sidecar:9810"):
        snippet = snippet.replace(f"http://{address}", url or f"http://{address}")
    return snippet


def script(place: Place, name: str, text: str) -> Path:
    """An executable file in the project."""
    path = place.project / name
    path.write_text(text)
    path.chmod(0o755)
    return path
