"""One look: read production's local files, list the replica, read the files again.

The order is the proof: what was committed before the local files were read and is in the listing has been replicated; what the
listing shows beyond the files read after it ended, production never had.

A listing that serves many databases may have begun before the local files were read. It can only lack what came since, and is
taken only where Litestream's local files hold all that was committed and the listing shows all that those hold.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from threading import Event
from typing import Protocol

from sidecar.core.coverage import Coverage, coverage
from sidecar.core.errors import LitestreamError, Overdue, SidecarError, Stopped
from sidecar.core.evidence import Evidence
from sidecar.core.listed import Listed
from sidecar.core.listing import reduce
from sidecar.core.live_state import LiveState
from sidecar.core.model import Content, Database, LookResult, Position, Sighting
from sidecar.core.policy import Policy
from sidecar.core.ports import Clock, LiveReader, Production

log = logging.getLogger("sidecar.look")
_RESULTS = {each.value: each for each in LookResult}


class Lister(Protocol):
    """Lists a replica for a look. Raises `LitestreamError` as Litestream's command would, and `Stopped`."""

    def listed(self, database: Database, *, holds: Position | None, timeout_s: float, stop: Event) -> Listed:
        """All files of the replica that a restore could use; none = no backup, and then Litestream itself has said so.

        `holds`: the position of Litestream's newest local file, where that holds all that production has committed. Only a
        listing that shows it may have begun before this was asked; None asks for one that begins now.
        """
        ...


@dataclass(frozen=True, slots=True)
class Looked:
    """What one look brought: the states before and after the listing, the sighting, production's schema if it was read."""

    before: LiveState
    sighting: Sighting
    after: LiveState
    content: Content | None
    content_error: str | None
    read_content: bool

    def applied(self, evidence: Evidence) -> Evidence:
        """The evidence with all of this in it, in the order in which it was seen."""
        grown = evidence.after_sighting(self.before, self.sighting).after_live(self.after)
        return grown.after_content(self.content, self.content_error) if self.read_content else grown


@dataclass(frozen=True, slots=True)
class Looker:
    """Looks at one database at a time; safe to share between threads."""

    live: LiveReader
    replica: Lister
    production: Production
    clock: Clock

    def look(self, database: Database, known: Evidence | None, policy: Policy, timeout_s: float, stop: Event) -> Looked:
        """One look. Raises `Stopped` only; everything else that goes wrong is part of what was seen."""
        before = self.live.read(database)
        content, content_error, read_content = None, None, False
        if before.file_id is not None and _schema_may_differ(before, known):
            read_content = True
            try:
                content = self.production.content(
                    database.path, schema_version=policy.schema_version, now=self.clock.now()
                )
            except Stopped:
                raise
            except SidecarError as error:
                content_error = f"{error.message}" + (f" ({error.hint})" if error.hint else "")
        sighting = self.sight(database, timeout_s, stop, holds=_captured(before))
        return Looked(before, sighting, self.live.read(database), content, content_error, read_content)

    def sight(self, database: Database, timeout_s: float, stop: Event, *, holds: Position | None = None) -> Sighting:
        """List the replica once; `holds` as `Lister.listed` has it."""
        began = self.clock.now()
        try:
            listed = self.replica.listed(database, holds=holds, timeout_s=timeout_s, stop=stop)
        except Stopped:
            raise
        except SidecarError as error:
            return self._failed(began, error)
        except Exception as error:  # unforeseen: the listing failed, and that is what is said
            log.exception("a look failed in a way that nobody foresaw")
            return self._failed(
                began, SidecarError(f"the look itself failed: {type(error).__name__}", "look at the sidecar's log")
            )
        if not listed.files:
            return Sighting(
                listed.read_at,
                LookResult.NO_BACKUP,
                f"the replica {database.replica.label} holds no backup",
                finished_at=self.clock.now(),
            )
        listing = reduce(listed.files, listed.read_at)
        return Sighting(listed.read_at, LookResult.OK, "", "", listing, self.clock.now())

    def _failed(self, began: datetime, error: SidecarError) -> Sighting:
        reason = error.reason if isinstance(error, LitestreamError) else ""
        reason = LookResult.TIMEOUT.value if isinstance(error, Overdue) else reason
        # A text that nobody knows says only that the listing failed; that is what `unreachable` asks people to look into.
        result = _RESULTS.get(reason, LookResult.UNREACHABLE)
        return Sighting(began, result, error.message, error.hint, None, self.clock.now())


def _captured(live: LiveState) -> Position | None:
    """The position of Litestream's newest local file, where that holds everything committed; None where not, or nobody knows."""
    return live.capture.position if live.capture is not None and coverage(live) is Coverage.COVERED else None


def _schema_may_differ(live: LiveState, known: Evidence | None) -> bool:
    """Whether production was written since its schema was last read (mtimes are coarse: the same second counts)."""
    if known is None or known.content is None or known.content_error is not None or live.modified_at is None:
        return True
    if known.content.read_at > live.read_at:
        return True  # the clock was set back: mtimes say nothing until it has caught up
    return live.file_id != known.file_id or live.modified_at.replace(microsecond=0) >= known.content.read_at.replace(
        microsecond=0
    )
