"""Evidence: all that is known of one database, and the only ways in which it grows.

Nothing here is an opinion: a verdict is computed from evidence and `now` whenever somebody asks (`checks.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sidecar.core import ahead
from sidecar.core.ahead import Ahead
from sidecar.core.coverage import Coverage, coverage, hours_at_rest
from sidecar.core.live_state import FileId, LiveState
from sidecar.core.model import (
    CheckKind,
    Claim,
    ClaimSource,
    Content,
    DatabaseCheck,
    Drill,
    Listing,
    LookResult,
    Outcome,
    Replica,
    Sighting,
)
from sidecar.core.parity import ParityResult
from sidecar.core.replicated import holds, time_of
from sidecar.core.shrinkage import shrinkage

CLAIM_RENEWED = timedelta(seconds=20)  # a third of what a claim may be old; Litestream is asked every 5 to 10 s
JUST_NOW = timedelta(seconds=15)  # local files are read every 5 s, and at once when they change


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All we know of one database.

    `covered_at`: every commit up to this instant is known to have reached the replica. `covered_state` is the
    fingerprint of the live files that were covered then, so that an idle database stays covered without another listing.
    `replaced_at`: when another file was first seen at the database's path, until Litestream has captured that file;
    `replaced_after`: when the file before it was last seen.
    """

    first_seen_at: datetime
    live: LiveState | None = None
    claim: Claim | None = None
    sighting: Sighting | None = None  # the newest attempt to list
    listing: Listing | None = None  # the newest listing that showed a backup
    covered_at: datetime | None = None
    covered_live: LiveState | None = None
    file_id: FileId | None = None
    replaced_at: datetime | None = None
    replaced_after: datetime | None = None
    ahead: Ahead | None = None  # the replica, of production
    content: Content | None = None  # production's, by SQLite
    content_error: str | None = None
    last_drill: Drill | None = None
    last_conclusive: Drill | None = None  # passed or failed
    last_passed: Drill | None = None
    last_restored: Drill | None = (
        None  # the newest passed one that restored the whole, where one by change has passed since
    )
    last_audit: Drill | None = None  # passed with integrity_check
    last_compared: Drill | None = None  # the newest that found out whether the copy was what production held
    proof_stood_at: datetime | None = None  # a restore would have read what `last_passed` had read: no drill was made
    baseline: Content | None = None  # of the last passed drill whose copy had not shrunk
    not_passed_in_a_row: int = 0
    database_check: DatabaseCheck | None = None  # the newest
    unchecked_in_a_row: int = 0  # checks of production that found nothing out
    database_found: DatabaseCheck | None = None  # the newest that found out
    replica: str | None = None  # which replica all of this was seen in
    last_here: Drill | None = None  # the newest drill made here, where a verifier's is newer
    unproved_at: datetime | None = None  # drills that began until then were of another file or replica

    def of_replica(self, replica: Replica) -> Evidence:
        """The same evidence; where the database now goes to another replica, without what was proved of the old one."""
        identity = replica.identity
        if self.replica == identity:
            return self
        if self.replica is None:
            return replace(self, replica=identity)
        return replace(
            self, replica=identity, sighting=None, listing=None, covered_at=None, covered_live=None, ahead=None
        ).unproved()

    def after_live(self, live: LiveState) -> Evidence:
        """What the local files say now. An unchanged, covered database stays covered up to now."""
        told = ahead.positions(live, self.sighting, self.listing)
        grown = replace(self, live=live, ahead=ahead.after(self.ahead, told, live.read_at))
        if live.file_id is not None:
            if self.file_id is None:
                grown = replace(grown, file_id=live.file_id)
            elif self.file_id.inode != live.file_id.inode:  # a device's number may change when it is mounted again
                # What SQLite said was said of another file.
                grown = replace(
                    grown, file_id=live.file_id, replaced_at=live.read_at,
                    replaced_after=self.live.read_at if self.live is not None else self.first_seen_at,
                    content=None, content_error=None, database_check=None, database_found=None,
                ).unproved()  # fmt: skip
        if _captured_since(grown, live):
            # What was drilled meanwhile was still of the file before.
            grown = replace(grown, replaced_at=None, replaced_after=None).unproved()
        idle = self.covered_live is not None and self.covered_live.fingerprint == live.fingerprint
        if idle and live.error is None:
            grown = replace(grown, covered_at=live.read_at)
        return grown

    def unproved(self) -> Evidence:
        """The same evidence without any drill; the baseline stays, so that what was lost still shows."""
        read = [self.live.read_at] if self.live is not None else []
        drilled = [self.last_drill.finished_at] if self.last_drill is not None else []
        return replace(
            self,
            unproved_at=max([*read, *drilled], default=self.unproved_at),
            last_drill=None, last_conclusive=None, last_passed=None, last_restored=None, last_audit=None, last_compared=None,
            last_here=None, proof_stood_at=None, not_passed_in_a_row=0,
        )  # fmt: skip

    @property
    def restored(self) -> Drill | None:
        """The newest passed drill that restored the whole backup."""
        passed = self.last_passed
        return self.last_restored if passed is not None and passed.by_change else passed

    @property
    def last_own(self) -> Drill | None:
        """The newest drill that was made here and not by a verifier."""
        return (
            self.last_here if self.last_drill is not None and self.last_drill.verifier is not None else self.last_drill
        )

    def unseen(self) -> Evidence:
        """The same evidence without the newest sighting: the replica is to be listed again, with what is configured now."""
        return replace(self, sighting=None)

    def lag(self, now: datetime) -> timedelta | None:
        """Age of the oldest commit that the replica may lack; None while nobody knows.

        None are lacking where production still is as it was when the replica held all of it, if that was read just now.
        """
        if self.covered_at is None:
            return None
        age = max(now - self.covered_at, timedelta(0))
        return timedelta(0) if not self.changing and age <= JUST_NOW else age

    def is_news(self, claim: Claim) -> bool:
        """Whether Litestream says something else, or has not been recorded saying this for a while."""
        known = self.claim
        if known is None or not timedelta(0) <= claim.read_at - known.read_at < CLAIM_RENEWED:
            return True
        return replace(claim, read_at=known.read_at, last_sync_at=known.last_sync_at) != known

    def after_claim(self, claim: Claim) -> Evidence:
        """What Litestream says of itself now."""
        return replace(self, claim=claim)

    def after_sighting(self, live: LiveState, sighting: Sighting) -> Evidence:
        """What the replica's listing shows; `live` was read just before the listing began."""
        overtaken = self.live is not None and self.live.read_at > live.read_at  # a listing may take a minute
        grown = replace(self if overtaken else self.after_live(live), sighting=sighting)
        listing = sighting.listing
        if sighting.result is LookResult.NO_BACKUP:
            return replace(grown, covered_at=None, covered_live=None)
        if sighting.result is not LookResult.OK or listing is None:
            return grown
        if not live.in_reach:  # what commits there are is not known, so neither is what the replica lacks of them
            return replace(grown, listing=listing, covered_at=None, covered_live=None)
        grown = replace(grown, listing=listing)
        capture = live.capture
        all_of_it = capture is not None and grown.replaced_at is None and holds(listing, capture)
        covered = all_of_it and coverage(live) is Coverage.COVERED
        covered_at, before = live.read_at if covered else time_of(listing, live), self.listing
        # What was covered stays so while the replica loses nothing: after hours of rest the local file at the listed
        # position is hours old, yet nothing was committed in between. A time from the future proves nothing.
        kept, now = grown.covered_at, sighting.finished_at or live.read_at
        if kept is not None and kept <= now and before is not None and listing.position.covers(before.position):
            covered_at = max(covered_at or kept, kept)
        seen = replace(sighting, rest=hours_at_rest(live) if covered else 1)
        return replace(grown, sighting=seen, covered_at=covered_at, covered_live=live if covered else None)

    def after_content(self, content: Content | None, error: str | None) -> Evidence:
        """What SQLite says of production's schema; on failure the older content stays, beside the error."""
        return replace(self, content=content if content is not None else self.content, content_error=error)

    def after_drill(self, drill: Drill, *, max_shrink: float = 0.5) -> Evidence:
        """A finished drill. A copy that shrank by more than `max_shrink` becomes the new measure only where somebody said so."""
        passed = drill.outcome is Outcome.PASSED
        conclusive = drill.outcome is Outcome.FAILED or (passed and not self._outweighs(drill))
        baseline = self.baseline
        if passed and drill.content is not None:
            meant = drill.accepts_shrink or shrinkage(baseline, drill.content) <= max_shrink
            baseline = drill.content if meant else baseline
        grown = replace(
            self,
            last_drill=drill,
            last_conclusive=drill if conclusive else self.last_conclusive,
            last_passed=drill if passed else self.last_passed,
            last_restored=self.last_restored if not passed else self.restored if drill.by_change else None,
            last_audit=drill if passed and drill.check is CheckKind.FULL else self.last_audit,
            last_compared=drill if _compared(drill) else self.last_compared,
            proof_stood_at=None if passed else self.proof_stood_at,
            baseline=baseline,
            not_passed_in_a_row=0 if passed else self.not_passed_in_a_row + 1,
            last_here=None if drill.verifier is None else self.last_own,
        )
        return _with_production(grown, drill)

    def _outweighs(self, drill: Drill) -> bool:
        """Whether damage stands against a drill that did not ask as much: quick_check misses some, and pages must be compared."""
        known = self.last_conclusive
        if known is None or known.outcome is not Outcome.FAILED:
            return False
        if drill.by_change:  # it has not read what was found damaged
            return True
        if known.reason == "pages_differ":  # where comparing was switched off since, the drill is all that is asked for
            return drill.verifier is not None or (drill.parity is not None and not _compared(drill))
        return known.check is CheckKind.FULL and known.reason == "db_corrupt" and drill.check is CheckKind.QUICK

    def after_database_check(self, check: DatabaseCheck) -> Evidence:
        """A finished check of production's own content."""
        found = check if check.sound is not None else self.database_found
        unchecked = 0 if check.sound is not None else self.unchecked_in_a_row + 1
        return replace(self, database_check=check, database_found=found, unchecked_in_a_row=unchecked)

    @property
    def proved_as_listed(self) -> bool:
        """Whether a restore would read now, file by file, what the newest drill restored and found sound."""
        drill, seen = self.last_drill, self.sighting
        if drill is None or drill.outcome is not Outcome.PASSED or drill != self.last_conclusive:
            return False
        if seen is None or seen.listing is None or seen.listing.plan_digest is None:
            return False
        return (seen.listing.plan_digest, seen.listing.position) == (drill.plan_digest, drill.position)

    def after_standing(self) -> Evidence:
        """No drill was made, since it would have restored what the last one had: the proof stands as of the newest sighting."""
        return replace(self, proof_stood_at=self.sighting.read_at if self.sighting is not None else None)

    def proved_at(self, drill: Drill) -> datetime:
        """As of when a passed drill says what a new one would: when it ended, or when it was last seen to stand."""
        stood_at = self.proof_stood_at
        mine = stood_at is not None and self.last_passed is not None and self.last_passed.id == drill.id
        return max(drill.finished_at, stood_at) if mine and stood_at is not None else drill.finished_at

    def restarted_since(self, drill: Drill | None) -> datetime | None:
        """When the Litestream that runs now was started, if a drill had begun before; None where not, or where it does not say."""
        at = self.claim.started_at if self.claim is not None and self.claim.up else None
        return at if at is not None and drill is not None and at > drill.started_at else None

    @property
    def changing(self) -> bool:
        """Whether production has (or may have) commits that are not known to be in the replica."""
        if self.live is None or self.covered_live is None:
            return True
        return self.live.fingerprint != self.covered_live.fingerprint


def _with_production(evidence: Evidence, drill: Drill) -> Evidence:
    """Where the copy was what production held, its quick_check was one of production.

    Damage that was seen in production itself may stand on a page that could not be compared: then only all of them clear it.
    """
    parity, found, newest = drill.parity, evidence.database_found, evidence.database_check
    if drill.outcome is not Outcome.PASSED or parity is None or not parity.strong:
        return evidence
    if (found is not None and found.sound is False and parity.proven < parity.pages) or (
        newest is not None and newest.at > drill.started_at
    ):
        return evidence
    content = drill.content
    return evidence.after_database_check(
        DatabaseCheck(
            at=drill.started_at, sound=True, reason=None, message=f"by drill {drill.id}: {parity.message}",
            seconds=0.0, size_bytes=drill.size_bytes or 0, sqlite_version=content.sqlite_version if content else "",
        )
    )  # fmt: skip


def _compared(drill: Drill) -> bool:
    return drill.parity is not None and drill.parity.result is not ParityResult.INCONCLUSIVE


def _captured_since(known: Evidence, live: LiveState) -> bool:
    """Whether Litestream has, since the file was replaced, captured from the file that stands at the path now.

    A Litestream that runs on joins the new file's WAL to the old file it has open: all seems covered, and a restore brings
    neither. So a Litestream that can be asked must have started since; otherwise a capture from after the change must do.
    """
    capture, claim = live.capture, known.claim
    if known.replaced_at is None or capture is None or coverage(live) is not Coverage.COVERED:
        return False
    if claim is None:
        return False
    if claim.source is ClaimSource.NONE or (claim.up and claim.started_at is None):
        return capture.at >= known.replaced_at
    since = known.replaced_after or known.replaced_at
    return claim.up and claim.started_at is not None and since < claim.started_at <= capture.at
