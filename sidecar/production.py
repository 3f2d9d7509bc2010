"""Production's own content: copy it within one read transaction, check the copy, remove it.

quick_check on the live database would hold a read transaction for as long as the check takes; a copy holds one for a
sequential read only, and the check then costs production nothing.
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
from sidecar.core.model import CheckKind, Database, DatabaseCheck, LiveState
from sidecar.core.policy import Policy
from sidecar.core.ports import Clock, Integrity, Production, Progress, ScratchSpace

log = logging.getLogger("sidecar.production")


@dataclass(frozen=True, slots=True)
class Examiner:
    """Checks one production database at a time per call; safe to share between threads."""

    production: Production
    integrity: Integrity
    scratch: ScratchSpace
    clock: Clock
    sqlite_version: str

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
        message, hint, size = "", "", 0
        timeout_s = policy.drill_timeout.total_seconds()
        try:
            with self.scratch.room(room_for(live.size_bytes + live.wal_bytes)) as room:
                copy = room / "production.db"
                size = self.production.copy(database.path, copy, timeout_s=timeout_s, stop=stop, progress=progress)
                left = timeout_s - (self.clock.monotonic() - began)
                complaints = self.integrity.check(
                    copy, CheckKind.QUICK, timeout_s=max(left, 0.001), stop=stop, progress=progress
                )
                sound = not complaints
                if sound and on_sound_copy is not None:
                    on_sound_copy(copy)
                if complaints:
                    reason, message = Reason.DB_CORRUPT, f"quick_check: {'; '.join(complaints[:3])}"
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
        return DatabaseCheck(
            at=self.clock.now(), sound=sound, reason=reason.value if reason else None, message=message, hint=hint,
            seconds=round(self.clock.monotonic() - began, 4), size_bytes=size, sqlite_version=self.sqlite_version,
        )  # fmt: skip


def _reason(error: SidecarError) -> Reason:
    """Too little room, a passed deadline and a stop leave the check undone; all else means production cannot be read."""
    return Reason.CHECK_OLD if isinstance(error, (ScratchFull, Overdue, Stopped)) else Reason.UNREADABLE
