"""One database of the fault gallery: what stands in it, where its backup lies, and who acts on it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

ROWS = 400
NEEDLE = "needle-in-a-row"
SNAPSHOTS = "9"  # Litestream's level of full copies; the others hold changes
USERS = (
    f"insert or ignore into users with recursive n (i) as (select 1 union all select i + 1 from n where i < {ROWS}) "  # noqa: S608 - constants
    "select i, 'user ' || i, 'user' || i || '@example.com' from n"
)
SCHEMA = f"""
pragma journal_mode = wal;
create table users (id integer primary key, name text not null, email text);
create index users_by_name on users (name);
create table notes (id integer primary key, text text);
{USERS};
insert into notes (text) values ('{NEEDLE}');
pragma user_version = 1;
"""  # noqa: S608 - constants
# Twenty of them fill a page.
NOTE = "insert into notes (text) values (hex(randomblob(100)))"
MORE = "insert into users (name, email) values ('one more', 'more@example.com')"


class Replicating(Protocol):
    """Litestream, which replicates all of them."""

    def start(self) -> None:
        """Until it is stopped."""
        ...

    def stop(self) -> None:
        """As it ends by itself."""
        ...


@dataclass(frozen=True, slots=True)
class Patient:
    """One database of the gallery. `sql` and `write` act as its app; `aside` is a folder for what is taken away."""

    litestream: Replicating

    database: Path
    replica: Path
    aside: Path
    other: Path  # another database's replica
    sql: Callable[[str], None]
    held: Callable[[], AbstractContextManager[None]]  # its app has it open meanwhile
    write: Callable[[str, str], None]

    def files(self, level: str | None = None) -> list[Path]:
        """The replica's files, oldest first: of one level, or of all."""
        return sorted((self.replica / "ltx").glob(f"{level or '*'}/*.ltx"), key=last_txid)

    def keep(self) -> None:
        """Put a copy of the replica aside."""
        shutil.copytree(self.replica, self.aside / "replica", copy_function=shutil.copy2)

    def put_back(self) -> None:
        """The replica as it was, with what has come since."""
        shutil.copytree(self.aside / "replica", self.replica, copy_function=shutil.copy2, dirs_exist_ok=True)

    def newest(self) -> Path:
        """A file that every restore needs: the newest snapshot."""
        return self.files(SNAPSHOTS)[-1]


def last_txid(file: Path) -> int:
    """The newest TXID that a file of a replica holds, by its name `min-max.ltx`."""
    return int(file.stem.split("-")[1], 16)
