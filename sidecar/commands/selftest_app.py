"""The selftest's app: does one thing to one database and ends, in a process of its own as every app is.

Run as `python -P selftest_app.py FILE sql STATEMENTS`, `… FILE hold` to keep it open until it is ended, as apps do (whoever closes a database as
the last one removes its WAL), or `… FILE write OLD NEW` to change bytes in the file past SQLite.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import apsw

HELD = "held"


def main(path: str, what: str, *words: str) -> None:
    """`sql`: run the statements; `hold`: say `HELD`, and wait; `write`: the first place where OLD stands becomes NEW."""
    if what in {"sql", "hold"}:
        database = apsw.Connection(path)
        database.set_busy_timeout(10_000)
        database.execute(words[0] if words else "select count(*) from sqlite_schema").fetchall()
        if what == "hold":
            sys.stdout.write(HELD)
            sys.stdout.flush()
            signal.pause()
        database.close()
        return
    old, new = map(os.fsencode, words)
    with Path(path).open("r+b") as file:
        at = file.read().index(old)
        os.pwrite(file.fileno(), new, at)


if __name__ == "__main__":
    main(*sys.argv[1:])
