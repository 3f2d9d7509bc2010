"""Production's own content: copy it without keeping a read transaction open for long, check the copy, remove it.

quick_check on the live database would hold a read transaction for as long as the check takes; a check of a copy costs production nothing.
Damage is never said on the word of a copy that we put together ourselves: SQLite's own Backup API makes another one, and that one counts.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from sidecar.core.case import room_for
from sidecar.core.errors import OPEN_FILES_HINT, Overdue, ScratchFull, SidecarError, Stopped
from sidecar.core.finding import Reason
from sidecar.core.live_state import LiveState
from sidecar.core.model import CheckKind, Database, DatabaseCheck
from sidecar.core.policy import Policy
from sidecar.core.ports import Clock, Integrity, Production, Progress, ScratchSpace
from sidecar.pieces import Around
from sidecar.piecewise import Copier, NotCopied

log = logging.getLogger("sidecar.production")

COPY = "production.db"
SHOWN_MAX = 3  # complaints in a sentence
_UNDONE = (ScratchFull, Overdue, Stopped, NotCopied)


@dataclass(frozen=True, slots=True)
class Examiner:
    """Checks one production database at a time per call; safe to share between threads.

    Without a `copier` production is copied within one read transaction, however long that takes.
    """

    production: Production
    integrity: Integrity
    scratch: ScratchSpace
    clock: Clock
    sqlite_version: str
    copier: Copier | None = None

    def run(
        self,
        database: Database,
        policy: Policy,
        live: LiveState,
        *,
        stop: Event,
        progress: Progress,
        on_sound_copy: Callable[[Path], None] | None = None,
    ) -> DatabaseCheck:
        """One check. What kept us from finding out is part of the answer (`sound` None).

        `on_sound_copy` is called with a copy that was found sound, before it is removed; it may move it away, and does not raise.
        """
        began = self.clock.monotonic()
        sound: bool | None = None
        reason: Reason | None = None
        message, hint = "", ""
        check = _Check(self, database, began + policy.drill_timeout.total_seconds(), stop, progress)
        try:
            with self.scratch.room(room_for(live.size_bytes + live.wal_bytes)) as room:
                complaints = check.complaints(room / COPY)
                sound = not complaints
                if sound and on_sound_copy is not None:
                    on_sound_copy(room / COPY)
                if complaints:
                    reason, message = Reason.DB_CORRUPT, _said(complaints)
                    hint = "do not migrate; keep the file, and restore from the last good drill"
        except SidecarError as error:
            reason, message, hint = _reason(error), error.message, error.hint
        except OSError as error:
            reason, message = Reason.CHECK_OLD, f"the scratch directory could not be used: {error.strerror or error}"
            hint = OPEN_FILES_HINT if error.errno == errno.EMFILE else "check scratch-dir and its free space"
        except Exception as error:  # unforeseen: not checked, said, and tried again later
            log.exception("a check of production failed in a way that nobody foresaw")
            reason, message, hint = (
                Reason.CHECK_OLD,
                f"the check itself failed: {type(error).__name__}",
                "look at the sidecar's log",
            )
        if check.doubt and sound is None:
            message = f"{check.doubt}, and a second copy that was to confirm it could not be checked: {message}"
        return DatabaseCheck(
            at=self.clock.now(), sound=sound, reason=reason.value if reason else None, message=message, hint=hint,
            seconds=round(self.clock.monotonic() - began, 4), size_bytes=check.size_bytes, sqlite_version=self.sqlite_version,
        )  # fmt: skip


class _Check:
    """One check under way: a copy, its complaints, and where it has any a second opinion."""

    def __init__(self, house: Examiner, database: Database, ends_s: float, stop: Event, progress: Progress) -> None:
        self._house, self._database, self._ends_s, self._stop, self._progress = house, database, ends_s, stop, progress
        self.size_bytes = 0
        self.doubt = ""  # what a copy in pieces was found to be, until it is confirmed or not

    def complaints(self, copy: Path) -> tuple[str, ...]:
        """() where production is sound, which it is then at `copy`. Raises SidecarError, OSError."""
        in_pieces = self._copied(copy)
        found = self._checked(copy)
        if not found or not in_pieces:
            return found
        name = self._database.name
        self.doubt = f"a copy in pieces was found damaged ({_said(found)})"
        log.warning("%s: %s; copying production whole to confirm it", name, self.doubt)
        copy.unlink()
        self._copied_whole(copy)
        second = self._checked(copy)
        if not second:
            log.warning("%s: production is sound: a copy by SQLite itself passed. Please report this", name)
        self.doubt = ""
        return second

    def _copied(self, copy: Path) -> bool:
        """Whether it was put together by us."""
        if self._house.copier is None:
            self._copied_whole(copy)
            return False
        around = Around(self._house.clock, self._left_s, self._stop, self._progress)
        made = self._house.copier.copy(self._database, copy, around)
        self.size_bytes = made.size_bytes
        log.info(
            "%s: copied %s",
            self._database.name,
            f"in {made.snapshots} read transactions" if made.in_pieces else "whole",
        )
        return made.in_pieces

    def _copied_whole(self, copy: Path) -> None:
        """By SQLite itself, within one read transaction: of a WAL database for as long as it takes, since now it is the truth that counts."""
        self.size_bytes = self._house.production.copy(
            self._database.path, copy, timeout_s=self._left_s(), stop=self._stop, progress=self._progress
        )

    def _checked(self, copy: Path) -> tuple[str, ...]:
        return self._house.integrity.check(
            copy, CheckKind.QUICK, timeout_s=self._left_s(), stop=self._stop, progress=self._progress
        )

    def _left_s(self) -> float:
        left = self._ends_s - self._house.clock.monotonic()
        if left <= 0:
            raise Overdue(
                "the check took longer than policy.drill-timeout", "raise it, or look at why the disk is slow"
            )
        return left


def _said(complaints: tuple[str, ...]) -> str:
    return f"quick_check: {'; '.join(complaints[:SHOWN_MAX])}"


def _reason(error: SidecarError) -> Reason:
    """Too little room, a passed deadline, a stop and a copy that would bind production leave the check undone; all else means it cannot be read."""
    return Reason.CHECK_OLD if isinstance(error, _UNDONE) else Reason.UNREADABLE
