"""Large files read once from end to end: their sha256, and a copy of which we know that it is the same."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from threading import Event

from sidecar.core.errors import Stopped
from sidecar.core.ports import Progress

CHUNK_BYTES = 1024 * 1024


def sha256_of(file: Path, *, stop: Event, progress: Progress) -> str:
    """In hex. Raises Stopped, OSError."""
    return _read(file, None, stop, progress)


def copy_hashed(file: Path, target: Path, *, stop: Event, progress: Progress) -> str:
    """Copy to `target`, which does not exist yet (mode 0600); the sha256 of what was copied. Raises Stopped, OSError."""
    descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        return _read(file, descriptor, stop, progress)
    finally:
        os.close(descriptor)


def _read(file: Path, into: int | None, stop: Event, progress: Progress) -> str:
    digest, done = hashlib.sha256(), 0
    with file.open("rb", buffering=0) as opened:
        total = os.fstat(opened.fileno()).st_size
        while chunk := opened.read(CHUNK_BYTES):
            if stop.is_set():
                raise Stopped(f"told to stop while {file} was read")
            digest.update(chunk)
            if into is not None:
                _write(into, chunk)
            done += len(chunk)
            progress("copy" if into is not None else "hash", done, total)
    return digest.hexdigest()


def _write(descriptor: int, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
