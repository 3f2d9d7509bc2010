"""VACUUM INTO: a compact copy of a file that nobody writes, never of production, whose WAL would grow meanwhile."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from threading import Event

import apsw

from sidecar.adapters.sqlite_content import connect, watched
from sidecar.core.errors import ScratchFull, SidecarError


def vacuum_into(source: Path, target: Path, *, timeout_s: float, stop: Event) -> None:
    """Write the content of `source` to `target` (new, mode 0600), without free pages, journal mode `delete`.

    Raises:
        ScratchFull: no room for it.
        Overdue, Stopped: as their names say.
        SidecarError: SQLite says no, as where a collation is missing that an index needs.
    """
    target.touch(mode=0o600, exist_ok=False)  # VACUUM INTO takes an empty file for none
    try:
        with (
            closing(connect(source, immutable=True)) as connection,
            watched(connection, f"VACUUM INTO {target.name}", timeout_s=timeout_s, stop=stop),
        ):
            connection.pragma("query_only", False)  # it would refuse; the source is opened read-only all the same
            connection.execute("vacuum into ?", (str(target),))
    except apsw.FullError as error:
        raise ScratchFull(f"no room for {target.name}: {error}", "free some space") from None
    except apsw.Error as error:
        raise SidecarError(f"VACUUM INTO failed: {error}", "make the backup without --vacuum") from None
