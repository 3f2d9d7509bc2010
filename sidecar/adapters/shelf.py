"""The shelf: rollback artifacts, one folder for each receipt, bounded in number and size.

Receipt ids begin with the second they were made in; within one, the artifacts' times are the order. What was kept before the newest deploy that was
proved good may go when room is needed, the oldest first; nothing else is ever removed, since it may be the only way back.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sidecar.core.errors import EnvironmentProblem, ScratchFull
from sidecar.core.receipt import Kept

PROVED = "deploy-proved-good"  # a file in the folder of such a receipt
ARTIFACT_SUFFIX = ".artifact"  # of `walk.ARTIFACT`: NAME-DRILL.artifact
CHUNK_BYTES = 1024 * 1024
MEGABYTE = 1_000_000
_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6,32}")


@dataclass(frozen=True, slots=True)
class Shelf:
    """Satisfies `ports.Shelf`; safe to share between threads and processes of one user.

    Args:
        directory: made with mode 0700 where it does not exist.
        count_max: receipts whose artifacts are kept.
        bytes_max: what all artifacts together may hold.
    """

    directory: Path
    count_max: int
    bytes_max: int

    def require(self, receipt_id: str, need_bytes: int) -> None:
        """Make room for one more artifact of this receipt, by removing the oldest that may go.

        Raises:
            ScratchFull: there is none, within the bounds or on the disk.
            EnvironmentProblem: the folder cannot be made.
        """
        with _usable(self.directory):
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            going: list[Path] = []
            removable = self._removable(receipt_id)
            while (why := self._short(receipt_id, need_bytes, going)) is not None:
                oldest = next(removable, None)
                if oldest is None:
                    kept = [each.name for each in self._kept() if each.name != receipt_id]
                    hint = (
                        f"raise rollback.keep-count and rollback.keep-max, or remove the oldest by hand: rm -r {self.directory / kept[0]}"
                        if kept
                        else "free some space, raise rollback.keep-max, or name another folder with --keep"
                    )
                    raise ScratchFull(f"there is no room for the rollback artifact: {why}", hint)
                going.append(oldest)
            for each in going:  # only now: nothing is removed for what does not fit anyway
                shutil.rmtree(each)

    def folder(self, receipt_id: str) -> Path:
        """The receipt's folder, made if need be. Raises EnvironmentProblem."""
        folder = self.directory / _checked(receipt_id)
        with _usable(self.directory):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def settle(self, copy: Path) -> str:
        """Have it survive a power cut, read-only; its sha256 in hex. Raises EnvironmentProblem."""
        digest = hashlib.sha256()
        with _usable(self.directory):
            copy.chmod(0o400)
            with copy.open("rb", buffering=0) as file:
                while chunk := file.read(CHUNK_BYTES):
                    digest.update(chunk)
                os.fsync(file.fileno())
            for folder in (copy.parent, copy.parent.parent):
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        return digest.hexdigest()

    def discard(self, receipt_id: str) -> None:
        """Remove what was kept for a receipt that was never issued; what resists stays."""
        shutil.rmtree(self.directory / _checked(receipt_id), ignore_errors=True)

    def proved(self, receipt_id: str) -> None:
        """Note that the deploy of this receipt was proved good. Raises EnvironmentProblem."""
        folder = self.directory / _checked(receipt_id)
        with _usable(self.directory):
            if folder.is_dir():
                (folder / PROVED).touch(mode=0o600)

    def kept(self) -> list[Kept]:
        """All artifacts, oldest receipt first. Raises EnvironmentProblem."""
        found = []
        with _usable(self.directory):
            for folder in self._kept() if self.directory.is_dir() else ():
                proved = (folder / PROVED).exists()
                for each in sorted(folder.rglob(f"*{ARTIFACT_SUFFIX}")):
                    name = str(each.relative_to(folder)).removesuffix(ARTIFACT_SUFFIX).rpartition("-")[0]
                    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                        size = each.stat().st_size
                        found.append(
                            Kept(name=name, receipt_id=folder.name, artifact=str(each), size_bytes=size, proved=proved)
                        )
        return found

    def _kept(self) -> list[Path]:
        """The receipts' folders, oldest first."""
        found = [each for each in self.directory.iterdir() if _ID.fullmatch(each.name) and each.is_dir()]
        return sorted(found, key=_made)

    def _removable(self, receipt_id: str) -> Iterator[Path]:
        kept = [each for each in self._kept() if each.name != receipt_id]
        good = [at for at, each in enumerate(kept) if (each / PROVED).exists()]
        return iter(kept[: good[-1]] if good else ())

    def _short(self, receipt_id: str, need_bytes: int, going: Sequence[Path]) -> str | None:
        """Why one more artifact does not fit once those that are `going` are gone; None where it does."""
        kept = [each for each in self._kept() if each not in going]
        others = sum(each.name != receipt_id for each in kept)
        if others >= self.count_max:
            return f"{others} deploys' artifacts are kept in {self.directory} (limit {self.count_max}), and none is older than a deploy that was proved good"
        used = sum(_size(each) for each in kept)
        if used + need_bytes > self.bytes_max:
            return f"it needs {need_bytes / MEGABYTE:.1f} MB, {used / MEGABYTE:.1f} MB of {self.bytes_max / MEGABYTE:.1f} MB are used"
        free = shutil.disk_usage(self.directory).free + sum(map(_size, going))
        if free < need_bytes:
            return f"it needs {need_bytes / MEGABYTE:.1f} MB, the disk of {self.directory} has {free / MEGABYTE:.1f} MB"
        return None


def _made(folder: Path) -> tuple[str, int, str]:
    """When: the second stands in the name, and what came within one is told by the artifacts."""
    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
        times = [each.stat().st_mtime_ns for each in folder.rglob(f"*{ARTIFACT_SUFFIX}")]
        return folder.name.partition("-")[0], max(times, default=0), folder.name
    return folder.name.partition("-")[0], 0, folder.name


def _size(folder: Path) -> int:
    """Bytes in a folder; what another process removes meanwhile counts nothing."""
    size = 0
    for each in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            size += each.stat().st_size if each.is_file() else 0
    return size


def _checked(receipt_id: str) -> str:
    """The id, which becomes a folder's name: it may come from another machine, and must not name a place elsewhere."""
    if not _ID.fullmatch(receipt_id):
        raise EnvironmentProblem(f"{receipt_id!r:.60} is no receipt's id", "gate again")
    return receipt_id


@contextlib.contextmanager
def _usable(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EnvironmentProblem(
            f"rollback artifacts cannot be kept in {directory}: {error.strerror or error}",
            "name a folder that you may write to: --keep, or rollback.keep-dir in sidecar.yml",
        ) from error
