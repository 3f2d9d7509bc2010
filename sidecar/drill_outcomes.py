"""Outcomes: the one table from what happened in a drill to what it means.

Damage is failed. Anything that kept us from finding out is inconclusive, which neither refreshes the proof nor claims damage; being
told to stop is aborted.
"""

from __future__ import annotations

import errno
from dataclasses import replace

from sidecar.core.errors import (
    OPEN_FILES_HINT,
    LitestreamError,
    Overdue,
    ScratchFull,
    SidecarError,
    Stopped,
    UnsoundCopy,
)
from sidecar.core.finding import Reason
from sidecar.core.model import Drill, Outcome

# What a restore says about the backup itself. Every other reason says only that we could not find out.
_PROVES_DAMAGE = {
    "file_corrupt": Reason.FILE_CORRUPT,
    "file_missing": Reason.FILE_MISSING,
    "no_backup": Reason.FILE_MISSING,
}
_KEPT_US_OUT = {
    "timeout": Reason.TIMEOUT,
    "scratch_full": Reason.SCRATCH_FULL,
    "raced": Reason.RACED,
}


class Found(Exception):
    """The copy is not good: what the drill was sent to find."""

    def __init__(self, reason: Reason, message: str, hint: str) -> None:
        super().__init__(message)
        self.reason, self.message, self.hint = reason, message, hint


def kept_out(drill: Drill, error: OSError) -> Drill:
    """The machine, not the backup, stood in the way."""
    if error.errno == errno.EMFILE:
        return replace(
            drill, reason=Reason.RESTORE_FAILED.value, hint=OPEN_FILES_HINT,
            message=f"the sidecar ran out of file descriptors: {error.strerror}",
        )  # fmt: skip
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    return replace(
        drill,
        reason=(Reason.SCRATCH_FULL if full else Reason.RESTORE_FAILED).value,
        message=f"the drill could not use its scratch directory: {error.strerror or error}",
        hint="free some space, or move scratch-dir" if full else "check scratch-dir and the sidecar's log",
    )


def concluded(drill: Drill, error: Found | SidecarError) -> Drill:
    """The one table from what happened to what it means."""
    outcome, reason = Outcome.INCONCLUSIVE, Reason.RESTORE_FAILED
    if isinstance(error, Found):
        outcome, reason = Outcome.FAILED, error.reason
    elif isinstance(error, Stopped):
        outcome, reason = Outcome.ABORTED, Reason.ABORTED
    elif isinstance(error, UnsoundCopy):
        outcome, reason = Outcome.FAILED, Reason.DB_CORRUPT
    elif isinstance(error, ScratchFull):
        reason = Reason.SCRATCH_FULL
    elif isinstance(error, Overdue):
        reason = Reason.TIMEOUT
    elif isinstance(error, LitestreamError):
        if error.reason in _PROVES_DAMAGE:
            outcome, reason = Outcome.FAILED, _PROVES_DAMAGE[error.reason]
        else:
            reason = _KEPT_US_OUT.get(error.reason, Reason.RESTORE_FAILED)
    return replace(drill, outcome=outcome, reason=reason.value, message=error.message, hint=error.hint)
