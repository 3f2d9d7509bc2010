"""The tools of the commands that put database files in place. They need no state directory, and for a backup no Litestream that runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.litestream_v3 import LitestreamV3
from sidecar.adapters.litestream_v5 import LitestreamV5
from sidecar.adapters.live_descriptors import LiveDescriptors
from sidecar.adapters.live_files import LiveFiles
from sidecar.adapters.occupants import Occupants
from sidecar.adapters.placing import Placing
from sidecar.adapters.scratch import MEGABYTE, Scratch
from sidecar.adapters.sqlite_copy import CopySqlite
from sidecar.adapters.sqlite_live import LiveSqlite
from sidecar.assembly_tools import Binary, find_litestream, load_fleet, read_settings
from sidecar.core.errors import ScratchFull
from sidecar.core.ports import ReplicaReader
from sidecar.fleet import Fleet
from sidecar.options import Options


@dataclass(frozen=True, slots=True)
class FileTools:
    """What works on files alone, without any configuration."""

    clock: SystemClock
    occupants: Occupants
    placing: Placing
    production: LiveSqlite
    integrity: CopySqlite
    live: LiveFiles


def file_tools() -> FileTools:
    """Build them."""
    clock, descriptors = SystemClock(), LiveDescriptors()
    occupants = Occupants(descriptors.lockers)
    return FileTools(
        clock=clock,
        occupants=occupants,
        placing=Placing(occupants.of, clock),
        production=LiveSqlite(descriptors),
        integrity=CopySqlite(),
        live=LiveFiles(descriptors.read, clock),
    )


@dataclass(frozen=True, slots=True)
class Configured:
    """What both configurations name: the databases, and the Litestream that reads their replicas."""

    fleet: Fleet
    binary: Binary
    replica: ReplicaReader


def configured(options: Options) -> Configured:
    """Read both configurations and find Litestream. Raises ConfigError, EnvironmentProblem."""
    binary = find_litestream(read_settings(options))
    kind = LitestreamV3 if binary.generation == "0.3" else LitestreamV5
    fleet = load_fleet(options, binary.generation)()
    return Configured(fleet, binary, kind(binary.path, binary.version, os.environ))  # a person waits: no niceness


@dataclass(frozen=True, slots=True)
class Beside:
    """Satisfies `ports.ScratchSpace`: private rooms on the file system where a file is to stand, so that a rename brings it there."""

    scratch: Scratch
    folder: Path

    @contextlib.contextmanager
    def room(self, need_bytes: int) -> Iterator[Path]:
        """A fresh 0700 directory, removed with all that is in it. Raises ScratchFull."""
        with contextlib.ExitStack() as stack:
            try:
                room = stack.enter_context(self.scratch.room(need_bytes))
            except ScratchFull:
                raise ScratchFull(
                    f"there is no room in {self.folder}: {self.free_bytes() / MEGABYTE:.1f} MB are free, "
                    f"{need_bytes / MEGABYTE:.1f} MB are needed",
                    "free some space there, or name a file on a larger disk",
                ) from None
            yield room

    def free_bytes(self) -> int:
        """Free room."""
        return self.scratch.free_bytes()


@contextlib.contextmanager
def beside(file: Path) -> Iterator[Beside]:
    """Rooms beside a file that is to be made; what a killed run left of its own is removed first."""
    folder = file.parent / f".litestream-sidecar-{os.geteuid()}"
    scratch = Scratch(folder, None)
    scratch.sweep()
    try:
        yield Beside(scratch, file.parent)
    finally:
        with contextlib.suppress(OSError):  # another run works there, too
            folder.rmdir()
