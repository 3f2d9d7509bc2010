"""The selftest's app: does one thing to one database and ends, in a process of its own as every app is.

Run as `python -m sidecar.commands.selftest_app FILE sql STATEMENTS`, or `… FILE write OLD NEW` to change bytes in the file past SQLite.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import apsw


def main(path: str, what: str, *words: str) -> None:
    """`sql`: run the statements; `write`: the first place where OLD stands becomes NEW."""
    if what == "sql":
        database = apsw.Connection(path)
        database.set_busy_timeout(10_000)
        database.execute(words[0]).fetchall()
        database.close()
        return
    old, new = map(os.fsencode, words)
    with Path(path).open("r+b") as file:
        at = file.read().index(old)
        os.pwrite(file.fileno(), new, at)


if __name__ == "__main__":
    main(*sys.argv[1:])
