"""The blocks as README.md and systemd/README.md show them: what is run is what stands there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.recipes.place import Place

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PORT = "127.0.0.1:9810"  # as the recipes say it


@dataclass(frozen=True)
class Block:
    """A fenced block: the heading it stands below, and which one it is there."""

    heading: str
    number: int
    language: str
    text: str


def blocks(file: Path = README) -> list[Block]:
    """Every fenced block of a file, in order."""
    found: list[Block] = []
    heading, inside, language = "", False, ""
    lines: list[str] = []
    for line in file.read_text().splitlines():
        if line.startswith("```"):
            if inside:
                number = sum(each.heading == heading for each in found)
                found.append(Block(heading, number, language, "".join(f"{each}\n" for each in lines)))
            inside, language, lines = not inside, line[3:].strip(), []
        elif inside:
            lines.append(line)
        elif named := re.fullmatch(r"#{1,6} (.+)", line):
            heading = named[1]
    assert not inside, f"{file}: a block has no end"
    return found


def blocks_below(heading: str, language: str, file: Path = README) -> list[str]:
    """The blocks of one language below a heading."""
    found = [each.text for each in blocks(file) if (each.heading, each.language) == (heading, language)]
    assert found, (heading, language)
    return found


def recipe(title: str) -> str:
    """What stands below a recipe's heading."""
    section = re.search(r"^## Deploy recipes\n(.*?)(?=^## |\Z)", README.read_text(), re.MULTILINE | re.DOTALL)
    assert section is not None
    found = re.search(rf"^### {re.escape(title)}\n(.*?)(?=^### |\Z)", section[1], re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def snippets(title: str, language: str) -> list[str]:
    """A recipe's blocks of one language."""
    found = re.findall(rf"^```{language}\n(.*?)^```", recipe(title), re.MULTILINE | re.DOTALL)
    assert found, (title, language)
    return found


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
