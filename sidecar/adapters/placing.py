"""Puts a finished, checked database file in place: whole or not at all, with nothing stale beside it.

A `-wal` that is left beside another database is replayed into it, silently and with every check green; and a database
without its `-wal` lacks its last commits, as silently. So what stands at the destination goes aside as one set, the database first:
whenever we are killed there is either the old set, or the new file alone, or no database at all, which everybody notices.
The folder they go to is named for the destination, so that the next run finds it and puts the set back.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sidecar.core.errors import EnvironmentProblem, SidecarError
from sidecar.core.occupancy import InUse, Occupancy
from sidecar.core.ports import Clock

SUFFIXES = ("", "-wal", "-shm", "-journal")  # the database first
UNDER_WAY, KEPT = ".replacing", ".replaced-"
OLD = ".old"  # what goes aside bears it, since Litestream's `dir:` would replicate every `*.db` that it finds, in hidden folders too
MODE = 0o600  # where there is no file whose mode could be kept: it is production's content


@dataclass(frozen=True, slots=True)
class Spot:
    """A destination that may be used: where it really is, whose the file will be, what stands there now."""

    path: Path
    uid: int
    gid: int
    mode: int
    replaces: bool
    stale: tuple[Path, ...]  # files that belonged to a database that is not there any more
    unseen: bool  # whether some processes could not be looked into


@dataclass(frozen=True, slots=True)
class Placed:
    """A file that was put in place; `aside` is the folder with what it replaced, where that was to be kept."""

    path: Path
    aside: Path | None


@dataclass(frozen=True, slots=True)
class Placing:
    """Looks at destinations and puts files there. `occupancy` tells who has a database open."""

    occupancy: Callable[[Path], Occupancy]
    clock: Clock

    def look(self, destination: Path, *, force: bool) -> Spot:
        """Whether a file may be put there. A symbolic link is followed, as SQLite follows it: the link itself stays.

        Raises:
            EnvironmentProblem: it may not: something stands there and `force` is not given, it is a folder, has no parent, …
            InUse: a process has it open, `force` or not.
        """
        path = Path(os.path.realpath(destination))
        try:
            found = path.lstat() if os.path.lexists(path) else None
            folder = path.parent.stat()
        except FileNotFoundError:
            raise EnvironmentProblem(f"there is no folder {path.parent}", f"mkdir -p {path.parent}") from None
        except OSError as error:
            raise EnvironmentProblem(f"{path} cannot be used: {error.strerror}", "name another file") from None
        _refuse(path, found, folder, force=force)
        seen = self.occupancy(path)
        seen.refuse(str(path))
        uid, gid, mode = _owner(path, found, folder)
        stale = () if found is not None else tuple(each for each in _set_of(path) if os.path.lexists(each))
        return Spot(path, uid, gid, mode, found is not None, stale, seen.unseen)

    def recover(self, destination: Path) -> str | None:
        """Put right what a killed run left; one sentence about it, None where there was nothing.

        Raises:
            InUse: another run is putting a file there right now.
        """
        path = Path(os.path.realpath(destination))
        aside = _under_way(path)
        if not aside.is_dir():
            return None
        with _locked(aside):
            if not any(aside.iterdir()):
                aside.rmdir()
                return None
            if not os.path.lexists(path):
                _put_back(aside, path)
                return f"a run that was killed had moved {path} aside: it was put back"
            kept = self._keep(aside, path)
            return f"a run that was killed had replaced {path}: what stood there is in {kept}"

    def put(self, copy: Path, spot: Spot, *, keep: bool, check: Callable[[Path], None] | None = None) -> Placed:
        """Rename `copy`, on the same file system and nobody else's, to the spot; what it replaces is removed, or kept in a folder.

        Args:
            copy: finished and checked.
            spot: what `look` said; it is looked at again.
            keep: keep what is replaced.
            check: called once the file stands there; what it raises puts everything back.

        Raises:
            InUse, EnvironmentProblem: as `look`, since it may have changed.
            SidecarError: something failed midway; everything is as before.
        """
        _settle(copy, spot)
        self.look(spot.path, force=spot.replaces)
        aside = _under_way(spot.path)
        try:
            aside.mkdir(mode=0o700)
        except FileExistsError:
            raise InUse(f"another run is putting a file at {spot.path}", "wait for its end, and look") from None
        with _locked(aside):
            try:
                self._swap(copy, spot.path, aside, check)
            except BaseException as error:
                _put_back(aside, spot.path, arrived=not os.path.lexists(copy))
                if isinstance(error, OSError):
                    raise SidecarError(
                        f"{spot.path} could not be replaced: {error.strerror or error}; it is as it was before",
                        "check the disk (`dmesg`), and who may write to the folder",
                    ) from error
                raise
            return self._finished(spot, aside, keep=keep)

    def take_back(self, placed: Placed) -> None:
        """Undo a `put` whose replaced files were kept. Raises OSError."""
        if placed.aside is not None:
            _put_back(placed.aside, placed.path, arrived=True)
        else:
            placed.path.unlink()
            _sync(placed.path.parent)

    def _swap(self, copy: Path, path: Path, aside: Path, check: Callable[[Path], None] | None) -> None:
        for each, moved in zip(_set_of(path), _moved(aside, path), strict=True):
            if os.path.lexists(each):
                each.rename(moved)
        _sync(aside)
        _sync(path.parent)
        self.occupancy(_moved(aside, path)[0]).refuse(str(path))  # whoever opened it since we looked has it open now
        if os.path.lexists(path):
            raise InUse(f"somebody made a new {path} while it was being replaced", "stop the app first")
        copy.rename(path)
        _sync(path.parent)
        if check is not None:
            check(path)

    def _finished(self, spot: Spot, aside: Path, *, keep: bool) -> Placed:
        if keep and any(aside.iterdir()):
            return Placed(spot.path, self._keep(aside, spot.path))
        shutil.rmtree(aside)
        _sync(spot.path.parent)
        return Placed(spot.path, None)

    def _keep(self, aside: Path, path: Path) -> Path:
        """Give the folder its lasting name."""
        kept = kept_name(path, self.clock.now().strftime("%Y%m%dT%H%M%SZ"))
        while kept.exists():
            kept = kept.with_name(f"{kept.name}-again")
        aside.rename(kept)
        _sync(path.parent)
        return kept


def kept_name(path: Path, stamp: str) -> Path:
    """The folder beside a database that holds what was replaced at that time."""
    return path.with_name(f"{path.name}{KEPT}{stamp}")


def _under_way(path: Path) -> Path:
    return path.with_name(f"{path.name}{UNDER_WAY}")


def _set_of(path: Path) -> list[Path]:
    return [path.with_name(f"{path.name}{suffix}") for suffix in SUFFIXES]


def _moved(aside: Path, path: Path) -> list[Path]:
    """Where each of the set goes: still a database and its WAL by their names, so that it can be opened there."""
    return [aside / f"{path.name}{OLD}{suffix}" for suffix in SUFFIXES]


def _refuse(path: Path, found: os.stat_result | None, folder: os.stat_result, *, force: bool) -> None:
    if not stat.S_ISDIR(folder.st_mode):
        raise EnvironmentProblem(f"{path.parent} is no folder", "name a file in a folder")
    if path.name.endswith(SUFFIXES[1:]):
        raise EnvironmentProblem(
            f"{path} bears the name of a file that SQLite keeps beside a database", "name another file"
        )
    if found is not None and not stat.S_ISREG(found.st_mode):
        raise EnvironmentProblem(
            f"{path} is a folder" if stat.S_ISDIR(found.st_mode) else f"{path} is no file", "name a file"
        )
    if found is not None and not force:
        raise EnvironmentProblem(f"{path} exists already", "--force replaces it; or name another file")
    if not os.access(path.parent, os.W_OK | os.X_OK, effective_ids=True):
        raise EnvironmentProblem(
            f"nothing can be written to {path.parent} (as uid {os.geteuid()}), where a file has to be made and renamed",
            "run as a user that may write there, and not on a read-only mount",
        )


def _owner(path: Path, found: os.stat_result | None, folder: os.stat_result) -> tuple[int, int, int]:
    """Owner, group and mode for the file: those of what stands there, else the folder's owner, as far as we may give it away."""
    ours = os.geteuid()
    if found is not None:
        if ours not in {0, found.st_uid}:
            raise _foreign(path, found.st_uid, found.st_gid)
        return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)
    if ours == 0:
        return folder.st_uid, folder.st_gid, MODE
    return ours, -1, MODE


def _foreign(path: Path, uid: int, gid: int) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"{path} belongs to {uid}:{gid}, and what we put there would belong to {os.geteuid()}:{os.getegid()}",
        f"run as uid {uid}, or as root",
    )


def _settle(copy: Path, spot: Spot) -> None:
    """Give the file its owner and mode, and have it survive a power cut."""
    descriptor = os.open(copy, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        made = os.fstat(descriptor)
        if made.st_uid != spot.uid or spot.gid not in {made.st_gid, -1}:
            os.fchown(descriptor, spot.uid, spot.gid)
        os.fchmod(descriptor, spot.mode)
        os.fsync(descriptor)
    except PermissionError:
        raise _foreign(spot.path, spot.uid, spot.gid) from None
    finally:
        os.close(descriptor)


def _put_back(aside: Path, path: Path, *, arrived: bool = False) -> None:
    """Undo what was moved, the database last; `arrived`: what stands at the path is ours, and goes."""
    if arrived:
        path.unlink(missing_ok=True)
    for each, moved in reversed(list(zip(_set_of(path), _moved(aside, path), strict=True))):
        if os.path.lexists(moved):
            moved.rename(each)
    with contextlib.suppress(FileNotFoundError):
        aside.rmdir()
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(aside: Path) -> Iterator[None]:
    """Held by the run that is putting a file in place, so that its folder is not taken for a killed one's."""
    descriptor = os.open(aside, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(f"another run is putting a file at {aside.parent}", "wait for its end, and look") from None
        yield
    finally:
        os.close(descriptor)
