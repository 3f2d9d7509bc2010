"""The demo's app: a small shop that takes an order every half second, until it is told to stop.

Run as `python -m sidecar.commands.demo_app FILE`. It opens its database the way apps do: WAL mode, one connection.
"""

from __future__ import annotations

import random
import signal
import sys
import threading

import apsw

PAUSE_S = 0.5
SCHEMA = """
pragma journal_mode = wal;
create table if not exists customers (id integer primary key, name text not null);
create table if not exists orders (
    id integer primary key, customer_id integer not null references customers (id), pence integer not null
);
pragma user_version = 1;
"""


def main(path: str) -> None:
    """Write until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    database = apsw.Connection(path)
    database.set_busy_timeout(5000)
    database.execute(SCHEMA).fetchall()
    if database.execute("select count(*) from customers").get == 0:
        database.executemany(
            "insert into customers (name) values (?)", [(name,) for name in ("Ada", "Grace", "Edsger")]
        )
    while not stop.wait(PAUSE_S):
        order = (random.randint(1, 3), random.randint(100, 9999))  # noqa: S311 - a shop, not a cipher
        database.execute("insert into orders (customer_id, pence) values (?, ?)", order)
    database.close()


if __name__ == "__main__":
    main(sys.argv[1])
