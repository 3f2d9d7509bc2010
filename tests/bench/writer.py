"""The app of `tests.bench.parity`: random updates and inserts at a given rate, 0 as fast as it can; counts its commits in a file.

python -m tests.bench.writer DATABASE COMMITS_PER_SECOND COUNT_FILE
"""

from __future__ import annotations

import os
import random
import sqlite3
import sys
import time


def main() -> None:
    path, rate, counts = sys.argv[1], float(sys.argv[2]), sys.argv[3]
    database = sqlite3.connect(path, isolation_level=None, timeout=30)
    database.execute("pragma synchronous = normal")
    database.execute("pragma wal_autocheckpoint = 0")  # as Litestream advises: it checkpoints itself
    rows = int(database.execute("select max(id) from t").fetchone()[0])
    done, slowest, began = 0, 0.0, time.monotonic()
    with open(counts, "w") as file:  # noqa: PTH123 - rewritten in place, many times a second
        while True:
            start = time.monotonic()
            database.execute("begin immediate")
            for _ in range(2):
                database.execute("update t set v = hex(randomblob(450)) where id = ?", (random.randint(1, rows),))
            database.execute("insert into t (v) values (hex(randomblob(450)))")
            database.execute("commit")
            done += 1
            slowest = max(slowest, time.monotonic() - start)
            os.pwrite(file.fileno(), f"{done} {slowest:.6f}\n".encode(), 0)
            if rate:
                time.sleep(max(began + done / rate - time.monotonic(), 0))


if __name__ == "__main__":
    main()
