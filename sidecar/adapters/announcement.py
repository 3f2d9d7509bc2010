"""Where the daemon of a state directory can be asked: written while it runs, so that commands on the same directory find it."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

FILE, LOCK = "url", "lock"


@contextlib.contextmanager
def announced(state_dir: Path, url: str) -> Iterator[None]:
    """Say so for as long as the block lasts. A directory that cannot be written is no reason not to run."""
    file = state_dir / FILE
    with contextlib.suppress(OSError):
        file.write_text(f"{url}\n")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            file.unlink()


def running_at(state_dir: Path) -> str | None:
    """The address of the daemon that holds this state directory; None where none runs, or it cannot be told."""
    try:
        with (state_dir / LOCK).open("rb") as lock:
            fcntl.flock(
                lock, fcntl.LOCK_SH | fcntl.LOCK_NB
            )  # nobody holds it: what is written there was left by a killed one
    except BlockingIOError:
        with contextlib.suppress(OSError):
            return (state_dir / FILE).read_text().strip() or None
    except OSError:
        pass
    return None
