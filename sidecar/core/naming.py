"""Names: every database gets a short one that no other has, and that does not depend on the order of the file."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable, Mapping


def names(paths: Iterable[str], aliases: Mapping[str, str]) -> dict[str, str]:
    """A unique name for each absolute path (CONTRACT 2): its alias, else the file name without suffix.

    Where that is another's as well: with suffix (`app.sqlite`), else with folders in front (`eu/app`), as few as make
    it the only one. At last the whole path.
    """
    every = list(dict.fromkeys(paths))
    named = {path: aliases[path] for path in every if path in aliases}
    taken = set(named.values())
    unnamed = {path: _tails(path) for path in every if path not in named}
    count = Counter(tail for tails in unnamed.values() for tail in tails)
    for path, tails in unnamed.items():
        named[path] = next((tail for tail in tails if count[tail] == 1 and tail not in taken), path)
    return named


def _tails(path: str) -> list[str]:
    """`app`, `app.db`, `data/app`, `data/app.db`, and so on, at last the whole path; a dot file keeps its name."""
    parts = path.strip("/").split("/")
    whole = [*("/".join(parts[-count:]) for count in range(1, len(parts) + 1)), path]
    both = [form for tail in whole for form in (posixpath.splitext(tail)[0], tail)]
    return list(dict.fromkeys(both))
