"""Reads what the local files say of a database: where production's last commit ends, and how far Litestream has captured.

A reading is a few stats, 96 bytes of `-shm` and the headers of Litestream's newest local files, each header read once. SQLite is
not involved and nothing is locked. Production is read before Litestream's files, so a capture that reaches the committed end
proves that everything committed before `read_at` is captured.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sidecar.adapters.local_folder import current_generation, regular
from sidecar.core import ltx, wal
from sidecar.core.errors import SidecarError
from sidecar.core.instants import SETTLED
from sidecar.core.live_state import Capture, FileId, LiveState, WalIndex
from sidecar.core.model import Database, Position
from sidecar.core.ports import Clock

Read = Callable[[Path, int, int], bytes]
"""`(path, size, offset)` to at most `size` bytes. Raises OSError. Production's files go through it, since closing a descriptor
of theirs drops the locks of every SQLite connection in this process."""

INDEX_TRIES = 5  # a writer replaces the index's header within microseconds
FRAMES_MAX = 65_536  # of one transaction in 0.3's shadow WAL: 256 MB of pages, a tenth of a second of reading, once
DENSE = 16  # of the newest captures every one is kept, of older ones every second, fourth, eighth, …
DATABASES_MAX = 10_000  # what is remembered of databases that left the fleet is bounded too
MTIME_MIN, MTIME_MAX = 0, 32_503_680_000 * 10**9  # 1970 and 3000: what `touch` can say beyond is no time of a commit's

_DIGITS = "0123456789abcdef"
_MULTIPLES = {step: "".join(each for each in _DIGITS if int(each, 16) % step == 0) for step in (2, 4, 8, 16)}

_Stamp = tuple[int, int, int, int]  # device, inode, mtime (ns), size: equal as long as a file is the same and unchanged


@dataclass(frozen=True, slots=True)
class _Local:
    """What was found in Litestream's folder: reused while `folder` is unchanged, header by header otherwise."""

    folder: _Stamp
    settled: bool
    captures: tuple[Capture, ...] = ()
    stamps: tuple[_Stamp, ...] = ()


@dataclass(frozen=True, slots=True)
class _Known:
    """What a reading found. A part is used again where its file's stamp, or its bytes, are the same."""

    main: _Stamp | None
    log: _Stamp | None
    index_file: Path
    index_bytes: bytes
    state: LiveState
    local: _Local | None


class LiveFiles:
    """Satisfies `ports.LiveReader`. Safe to share between threads: what it remembers is replaced, never changed."""

    def __init__(self, read: Read, clock: Clock) -> None:
        self._read, self._clock = read, clock
        self._known: dict[str, _Known] = {}

    def read(self, database: Database) -> LiveState:
        """One reading, dated by the clock at its start. Never raises: `error` names each file that could not be read.

        Of a database that is not in reach nothing is read, also where a file stands at its path.
        """
        if not database.in_reach:
            return LiveState(self._clock.now(), None, 0, 0, None, None, (), in_reach=False)
        read_at, known = self._clock.now(), self._known.get(database.path)
        errors: list[str] = []
        main = _stat(database.path, errors)
        log = _stat(f"{database.path}-wal", errors)
        index_file = known.index_file if known is not None else Path(f"{database.path}-shm")
        data, index = self._index(index_file, known, errors) if main is not None else (b"", None)
        local = _local(database, known.local if known is not None else None, read_at, errors)
        file_id, modified_at = _dated(main, log, known)
        state = LiveState(
            read_at=read_at,
            file_id=file_id,
            size_bytes=main[3] if main is not None else 0,
            wal_bytes=log[3] if log is not None else 0,
            modified_at=modified_at,
            wal_index=index,
            captures=local.captures if local is not None else (),
            error="; ".join(errors) or None,
        )
        if known is None and len(self._known) >= DATABASES_MAX:
            self._known.clear()
        self._known[database.path] = _Known(main, log, index_file, data, state, local)
        return state

    def changed(self, database: Database) -> bool:
        """Whether a reading may find something else than the last one: three stats. What they cannot tell is said to have changed.

        They do not tell of a WAL index that was built anew over the same WAL; that is found whenever all is read.
        """
        if not database.in_reach:
            return False
        known = self._known.get(database.path)
        if known is None or known.state.error is not None or known.local is None or not known.local.settled:
            return True
        at = known.state.modified_at
        if at is None or known.state.read_at - at <= SETTLED:
            return True
        try:
            return (
                _stamp(os.stat(database.path)) != known.main  # noqa: PTH116 - as below
                or _stat(f"{database.path}-wal", []) != known.log
                or _stamp(os.stat(_level0_of(database))) != known.local.folder  # noqa: PTH116 - as below
            )
        except OSError:
            return True

    def _index(self, name: Path, known: _Known | None, errors: list[str]) -> tuple[bytes, WalIndex | None]:
        try:
            for _ in range(INDEX_TRIES):
                data = self._read(name, wal.INDEX_BYTES, 0)
                if known is not None and known.state.wal_index is not None and data == known.index_bytes:
                    return data, known.state.wal_index
                index = wal.parse_index(data)
                if index is not None or not any(data):
                    return data, index  # empty or all zeros: nobody has read or written through it yet
        except FileNotFoundError:
            return b"", None
        except (OSError, SidecarError) as error:
            errors.append(_sentence(name, error))
            return b"", None
        errors.append(f"{name}: holds no complete WAL index")
        return b"", None


def _dated(main: _Stamp | None, log: _Stamp | None, known: _Known | None) -> tuple[FileId | None, datetime | None]:
    """Which file it is, and the later mtime of it and its WAL."""
    if main is None:
        return None, None
    if known is not None and known.main == main and known.log == log:
        return known.state.file_id, known.state.modified_at
    return FileId(main[0], main[1]), _instant(max(main[2], log[2]) if log is not None else main[2])


def _level0_of(database: Database) -> str:
    return f"{database.meta_path}/ltx/0"


def _local(database: Database, known: _Local | None, read_at: datetime, errors: list[str]) -> _Local | None:
    """What stands in Litestream's folder; None where there is nothing of its."""
    try:
        return _level0(_level0_of(database), known, read_at)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        pass  # not 0.5's
    except OSError as error:
        errors.append(_sentence(Path(error.filename or database.meta_path), error))
        return None
    try:
        return _shadow(Path(database.meta_path), known)
    except (FileNotFoundError, ValueError):
        # Litestream has not begun, or is just beginning anew, or what stands there is none of its files.
        return None
    except OSError as error:
        errors.append(_sentence(Path(error.filename or database.meta_path), error))
        return None


def _level0(folder: str, known: _Local | None, now: datetime) -> _Local:
    """Litestream 0.5: headers of level-0 files, newest first. Raises OSError."""
    mark = _stamp(os.stat(folder))  # noqa: PTH116 - Path.stat costs twice as much, a thousand times a pulse
    if known is not None and known.settled and known.folder == mark:
        return known
    before = dict(zip(known.stamps, known.captures, strict=True)) if known is not None else {}
    captures: list[Capture] = []
    stamps: list[_Stamp] = []
    for path in _sample(folder):
        with suppress(FileNotFoundError, ValueError):  # removed by retention since, or damaged: a drill's business
            stamp = _stamp(os.stat(path))  # noqa: PTH116 - as above
            captures.append(before.get(stamp) or _capture(path))
            stamps.append(stamp)
    settled = now - _instant(mark[2]) > SETTLED
    return _Local(mark, settled, tuple(captures), tuple(stamps))


def _capture(path: str) -> Capture:
    with regular(path) as file:
        return ltx.parse_header(file.read(ltx.HEADER_BYTES)).capture


def _sample(folder: str) -> Iterable[str]:
    """The newest files, ever fewer of the older ones, and the oldest; newest first.

    However far behind a replica is, a file stands near its position, and the same files are chosen again next time.
    """
    names = sorted((each for each in os.listdir(folder) if each.endswith(".ltx")), reverse=True)  # noqa: PTH208 - as above
    for age, name in enumerate(names):
        step = 1 if age < DENSE else 1 << ((age * 2 // DENSE).bit_length() - 1)
        if step > 1 and age < len(names) - 1 and name[32:33] not in _MULTIPLES.get(step, "0"):
            continue  # by its last digit alone, since most of hundreds are passed over
        txids = ltx.parse_name(name)
        if txids is not None and (txids[1] % step == 0 or age == len(names) - 1):
            yield f"{folder}/{name}"


def _shadow(meta: Path, known: _Local | None) -> _Local | None:
    """Litestream 0.3: the current generation's shadow WAL, and the ends it was seen to have before. Raises OSError."""
    generation = current_generation(meta)
    if generation is None:
        return None
    folder = meta / "generations" / generation / "wal"
    with os.scandir(folder) as entries:
        indexes = sorted((i, each.path) for each in entries if (i := wal.parse_shadow_name(each.name)) is not None)
    seen = known.captures if known is not None else ()
    before = {(each.position.index, each.salts, each.wal_end): each for each in seen}
    found: list[Capture] = []
    for index, path in indexes[-DENSE:]:
        with suppress(FileNotFoundError, ValueError), regular(path) as file:
            header = wal.parse_wal_header(file.read(wal.WAL_HEADER_BYTES))
            status = os.fstat(file.fileno())
            if header is not None:
                same = before.get((index, header.salts, status.st_size))
                start = same.position.offset if same else _last_commit(file.fileno(), status.st_size, header.page_size)
                position = Position(generation, index, start)
                found.append(Capture(position, _instant(status.st_mtime_ns), header.salts, status.st_size, None))
    newest = max((each.position.index for each in found), default=0)
    # A shadow WAL file keeps only its newest end; the ends seen earlier date the positions in between.
    ends = {each.position: each for each in seen if each.position.generation == generation}
    ends |= {each.position: each for each in found}
    history = sorted(
        (each for each in ends.values() if each.position.index <= newest),
        key=lambda each: (each.position.index, each.position.offset),
        reverse=True,
    )
    if len(history) > DENSE * 4:
        history = history[: DENSE * 2] + history[DENSE * 2 :: 2]
    return _Local((0, 0, 0, 0), settled=False, captures=tuple(history), stamps=((0, 0, 0, 0),) * len(history))


def _last_commit(descriptor: int, size: int, page_size: int) -> int:
    """Where the last transaction of a shadow WAL begins: by then a replica's newest segment begins where it holds all of it.

    A listing of 0.3's names segments by where they begin, and a segment holds at least one whole transaction. Of a transaction
    larger than `FRAMES_MAX` a later offset is taken, which a replica is only seen to cover with the next commit.
    """
    frame = wal.FRAME_HEADER_BYTES + page_size
    count = (size - wal.WAL_HEADER_BYTES) // frame
    if count <= 0:
        return 0
    first = count - 1
    while first > max(count - FRAMES_MAX, 0):
        at = wal.WAL_HEADER_BYTES + (first - 1) * frame
        if wal.is_commit(os.pread(descriptor, wal.FRAME_HEADER_BYTES, at)):
            break
        first -= 1
    return wal.WAL_HEADER_BYTES + first * frame


def _stat(path: str, errors: list[str]) -> _Stamp | None:
    try:
        return _stamp(os.stat(path))  # noqa: PTH116 - as above
    except FileNotFoundError:
        return None
    except OSError as error:
        errors.append(_sentence(Path(path), error))
        return None


def _stamp(status: os.stat_result) -> _Stamp:
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)


def _instant(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(min(max(nanoseconds, MTIME_MIN), MTIME_MAX) // 1000 / 1_000_000, UTC)


def _sentence(path: Path, error: OSError | SidecarError) -> str:
    """One plain sentence; the adapter that read for us may have made one already."""
    if isinstance(error, SidecarError):
        return error.message
    return f"{path}: {(error.strerror or str(error)).lower()}"
