"""Turns: when each piece of work on one database is due, of which kind, and when it need not be done. Pure functions of evidence and policy.

What did not pass is tried again soon, then ever more slowly, so that one broken backup cannot keep the seats from the others.
"""

from __future__ import annotations

import zlib
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from sidecar.core.evidence import Evidence
from sidecar.core.instants import CLOCK_SLACK, from_the_future
from sidecar.core.model import CheckKind, Drill, LookResult, Outcome
from sidecar.core.policy import Policy

# Of drill-every: so much longer a verifier's next drill is waited for, which has to be made and fetched.
LATE_SHARE = 0.1
STARTING_FOR = timedelta(minutes=2)  # a database seen for the first time gets its first backup within seconds
STARTING_LOOK = timedelta(seconds=2)
DOUBLINGS_MAX = 10
CRC_MAX = 2**32 - 1
SOON_SHARE = 0.25  # of database-check-every: so much later production is checked, where a drill does it
REST = 10  # work that is repeated early rests this many times as long as it took: a tenth of the time at most
TRIES_BEFORE_YIELDING = 2
SPREAD_SHARE = 0.1  # of an interval: so much earlier, at most, work comes that has gone well
AUDIT_SPREAD_SHARE = 0.25  # the same of audits: they take twice as long, and only what is drilled anyway can be audited
FIRST_SPREAD_SHARE = 0.5  # the same after the first drill: what was all seen at one start is spread at once
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class HeavyKind(StrEnum):
    """Work that restores or copies a whole database, and so takes a seat of `resources.drills`."""

    DRILL = "drill"
    DATABASE_CHECK = "database_check"


def proved_as_of(evidence: Evidence, drill: Drill, policy: Policy) -> datetime:
    """As of when this drill, the newest that passed, says what the next one would; where one by change does not count, as of the last restore."""
    if drill.by_change and not policy.counts_by_change:
        return evidence.restored.finished_at if evidence.restored is not None else LONG_AGO
    return evidence.proved_at(drill) if policy.skip_proved else drill.finished_at


def look_interval(evidence: Evidence, policy: Policy) -> timedelta:
    """How long after the newest look the next one is due: at once where production was written to meanwhile."""
    if evidence.changing or evidence.sighting is None:
        return policy.look_interval
    return policy.look_every_at_rest(evidence.sighting.rest)


def look_due_at(evidence: Evidence, policy: Policy) -> datetime:
    """When this database's replica is to be listed next."""
    sighting = evidence.sighting
    if sighting is None:
        return LONG_AGO
    last = sighting.finished_at or sighting.read_at
    starting = evidence.listing is None and last - evidence.first_seen_at < STARTING_FOR
    if starting and sighting.result in {LookResult.NO_BACKUP, LookResult.UNREACHABLE}:
        return last + min(STARTING_LOOK, policy.look_every)
    interval = look_interval(evidence, policy)
    # From begin to begin, so that the interval is kept; but a store that answers slowly gets some rest, and a silent one as much as it took.
    rest = interval / 4 if sighting.result is not LookResult.TIMEOUT else max(interval / 4, last - sighting.read_at)
    return max(sighting.read_at + interval, last + rest)


def _back_off(first: timedelta, ceiling: timedelta, failures: int) -> timedelta:
    doubled: timedelta = first * 2 ** min(max(failures - 1, 0), DOUBLINGS_MAX)
    return min(doubled, ceiling)


def drill_due_at(evidence: Evidence, policy: Policy) -> datetime | None:
    """When this database is to be drilled next; None while there is nothing that could be restored."""
    if evidence.sighting is None or evidence.sighting.result is not LookResult.OK:
        return None
    last = evidence.last_drill
    if last is None:
        return LONG_AGO
    if last.verifier is not None:
        in_turn = _beside_a_verifier(evidence, last, policy)
        restarted_at = evidence.restarted_since(evidence.last_own if policy.compares else last)
    else:
        restarted_at, in_turn = evidence.restarted_since(last), _in_turn(evidence, last, policy)
    if restarted_at is None:
        return in_turn
    # Commits made meanwhile may be lost without a word (`core/restarts.py`); or it was the mend.
    took = last.took
    return min(in_turn, max(restarted_at, last.finished_at + min(took * REST, policy.drill_every)))


def _beside_a_verifier(evidence: Evidence, last: Drill, policy: Policy) -> datetime:
    """When a drill is to be made here although a verifier makes them: when it has fallen silent, or for what only we can find out.

    Only here can a copy be compared with production, and only here is cleared what a comparison found. What was tried here for
    either is tried again one `drill-every` later, however many drills the verifier makes meanwhile.
    """
    found, compared, own = evidence.last_conclusive, evidence.last_compared, evidence.last_own
    here = own.finished_at if own is not None and own.outcome is not Outcome.ABORTED else None
    if last.outcome in {Outcome.PASSED, Outcome.FAILED}:
        proved_at = proved_as_of(evidence, last, policy)
        late = policy.drill_every * LATE_SHARE
        due_at = proved_at + policy.drill_every + late + min(last.took, late)
    else:  # it could not find out, and may not be able to for days
        due_at = found.finished_at + policy.drill_every if found is not None else LONG_AGO
        due_at = max(due_at, _again(here, policy.drill_every))
    if found is not None and found.id != last.id and found.outcome is Outcome.FAILED and last.outcome is Outcome.PASSED:
        due_at = min(due_at, _again(here, policy.drill_every))
    if policy.production and _has_more(evidence, last) and _migrated(evidence, last):  # which the verifier cannot see
        due_at = min(due_at, last.finished_at + _early(policy.look_every, last.took, policy.drill_every))
    if policy.compares:
        compared_at = _again(compared.finished_at if compared is not None else None, policy.comparison_every)
        due_at = min(due_at, max(compared_at, _again(here, policy.drill_every)))
    return due_at


def drill_interval(evidence: Evidence, policy: Policy) -> timedelta:
    """The longest time after the newest drill that the next one can be due."""
    beside = evidence.last_drill is not None and evidence.last_drill.verifier is not None
    return policy.drill_every * (1 + 2 * LATE_SHARE) if beside else policy.drill_every


def _again(at: datetime | None, interval: timedelta) -> datetime:
    return at + interval if at is not None else LONG_AGO


def _in_turn(evidence: Evidence, last: Drill, policy: Policy) -> datetime:
    took = last.took
    if last.outcome is not Outcome.PASSED:
        first = _early(policy.look_every, took, policy.drill_every)
        return last.finished_at + _back_off(first, policy.drill_every, evidence.not_passed_in_a_row)
    # By a sidecar of before.
    never_compared = policy.compares and last.parity is None and evidence.last_compared is None
    early = never_compared or (policy.production and _has_more(evidence, last) and _migrated(evidence, last))
    if early:
        return last.finished_at + _early(policy.look_every, took, policy.drill_every)
    proved_at = proved_as_of(evidence, last, policy)
    share = FIRST_SPREAD_SHARE if evidence.last_audit is None else SPREAD_SHARE
    return proved_at + spread(policy.drill_every, last.id, share)


def stands(evidence: Evidence, policy: Policy, now: datetime) -> bool:
    """Whether the newest drill proves what the one that is due would: it read the same files, and no more is asked for.

    An audit is a drill, a comparison that is due too, and so is what a restart of Litestream asks for. The listing must be
    so new that the drill is not due again by it. What was compared must not have been written to since, not even past SQLite.
    """
    drill, seen = evidence.last_drill, evidence.sighting
    if not policy.skip_proved or drill is None or seen is None or not evidence.proved_as_listed:
        return False
    if drill.by_change and not policy.counts_by_change:
        return False
    if from_the_future(seen.read_at, now) or seen.read_at + policy.drill_every <= now:
        return False
    if evidence.restarted_since(drill) is not None or drill_kind(evidence, policy, now) is CheckKind.FULL:
        return False
    compared = evidence.last_compared
    compared_it = compared is not None and compared.id == drill.id and _untouched(evidence, compared)
    return compared_it or not parity_due(evidence, policy, now)


def _untouched(evidence: Evidence, compared: Drill) -> bool:
    """Whether production's files are, as far as they show, as they were when they were read for the comparison."""
    now = evidence.live.digest if evidence.live is not None else None
    return now is not None and now == compared.live_digest


def queues_from(evidence: Evidence, policy: Policy, kind: HeavyKind, due_at: datetime) -> datetime:
    """Since when due work stands in the queue for a seat: what has failed to come to an end again and again lets the others pass.

    It stands there as if it were due one interval later: a hundred restores that hang cannot keep the seats from the rest, and each
    still has its turn.
    """
    tries, interval = (
        (evidence.not_passed_in_a_row, policy.drill_every)
        if kind is HeavyKind.DRILL
        else (evidence.unchecked_in_a_row, policy.database_check_every)
    )
    return due_at + interval if tries >= TRIES_BEFORE_YIELDING else due_at


def spread(interval: timedelta, what: str, share: float = SPREAD_SHARE) -> timedelta:
    """The interval, or up to `share` of it less: a thousand databases, or a thousand sidecars, that begin together do not stay together.

    What is drawn depends on `what` alone, so that asking twice gives one answer.
    """
    return interval * (1 - share * zlib.crc32(what.encode()) / CRC_MAX)


def _early(first: timedelta, took: timedelta, ceiling: timedelta) -> timedelta:
    """How long work rests that is repeated before its time: long work longer, so that it cannot fill a seat."""
    return min(max(first, took * REST), ceiling)


def _migrated(evidence: Evidence, last: Drill) -> bool:
    """Whether production's schema, as far as it can be read, is another than the restored copy's."""
    production, restored = evidence.content, last.content
    if production is None or restored is None or evidence.content_error is not None:
        return False
    return any(
        getattr(production, fact) != getattr(restored, fact)
        for fact in ("schema_digest", "schema_version", "application_id", "page_size")
    )


def _has_more(evidence: Evidence, last: Drill) -> bool:
    """Whether the replica shows a position that the last drill has not restored; the same one would come out the same."""
    return evidence.listing is None or evidence.listing.position != last.position


def drill_kind(evidence: Evidence, policy: Policy, now: datetime) -> CheckKind:
    """quick_check, or integrity_check when the audit is due. The very first drill is quick: proof soon, audit next.

    What integrity_check alone found, only integrity_check can clear. An audit that did not come to an end gives way to a
    quick drill, so that an audit longer than drill-timeout cannot use up the proof.
    """
    last, found, audit = evidence.last_drill, evidence.last_conclusive, evidence.last_audit
    if found is not None and found.outcome is Outcome.FAILED and found.check is CheckKind.FULL:
        return CheckKind.FULL
    cut_short = last is not None and last.check is CheckKind.FULL and last.outcome is not Outcome.PASSED
    if evidence.last_passed is None or cut_short:
        return CheckKind.QUICK
    if audit is None:  # a verifier's second drill is the audit
        return CheckKind.FULL if last is None or last.verifier is None else CheckKind.QUICK
    rest = spread(policy.audit_every, audit.id, AUDIT_SPREAD_SHARE)
    audit_due = not_ahead(audit.finished_at + rest, policy.audit_every, now) <= now
    return CheckKind.FULL if audit_due else CheckKind.QUICK


def may_be_by_change(evidence: Evidence, policy: Policy, check: CheckKind) -> bool:
    """Whether a drill that is merely due may bring a kept copy forward: large enough, restored before, and nothing found damaged."""
    restored, found = evidence.restored, evidence.last_conclusive
    if policy.drill_by_change_from is None or check is not CheckKind.QUICK or restored is None or found is None:
        return False
    return found.outcome is Outcome.PASSED and (restored.size_bytes or 0) >= policy.drill_by_change_from


def parity_due(evidence: Evidence | None, policy: Policy, now: datetime) -> bool:
    """Whether the next drill is to be compared with production; what a comparison found, only a comparison clears."""
    compared = evidence.last_compared if evidence is not None else None
    if not policy.compares or evidence is None or compared is None or compared.outcome is not Outcome.PASSED:
        return policy.compares
    if evidence.restarted_since(compared) is not None:
        return True
    return not_ahead(compared.finished_at + policy.parity_every, policy.parity_every, now) <= now


def database_check_due_at(evidence: Evidence, policy: Policy) -> datetime | None:
    """When production's own content is to be checked next; None while there is no file."""
    return check_due_after(evidence, policy, drill_due_at(evidence, policy))


def check_due_after(evidence: Evidence, policy: Policy, drill_at: datetime | None) -> datetime | None:
    """The same, where it is known already when the next drill is due."""
    if not policy.production or evidence.live is None or evidence.live.file_id is None:
        return None
    last = evidence.database_check
    if last is None:
        return evidence.first_seen_at + policy.drill_timeout if _drilled_first(evidence, policy) else LONG_AGO
    if last.sound:
        due_at = last.at + spread(policy.database_check_every, last.at.isoformat())
        return max(due_at, _checks_it_too(evidence, policy, due_at, drill_at) or due_at)
    first = _early(policy.look_every, timedelta(seconds=last.seconds), policy.database_check_every)
    # Damage is looked at again soon; what cannot be found out is tried ever more slowly.
    return last.at + _back_off(first, policy.database_check_every, evidence.unchecked_in_a_row)


def _drilled_first(evidence: Evidence, policy: Policy) -> bool:
    """Whether a first drill is about to come that says the same by comparing: it reads production a second at a time, a copy in one go."""
    seen = evidence.sighting
    can_be = seen is None or seen.result is LookResult.OK
    return policy.compares and evidence.last_drill is None and can_be


def _checks_it_too(evidence: Evidence, policy: Policy, due_at: datetime, drill_at: datetime | None) -> datetime | None:
    """When a drill comes that will say the same of production by comparing, if that is soon after its check is due."""
    compared = evidence.last_compared.parity if evidence.last_compared is not None else None
    if not policy.compares or compared is None or not compared.strong or drill_at is None:
        return None
    return drill_at if drill_at - due_at <= policy.database_check_every * SOON_SHARE else None


def not_ahead(at: datetime, every: timedelta, now: datetime) -> datetime:
    """`at`, or long ago where it lies farther ahead than one interval: the clock was set back since it was reckoned."""
    return LONG_AGO if now < believed_from(at, every) else at


def believed_from(at: datetime, every: timedelta) -> datetime:
    """From which instant on `at` is no farther ahead than one interval."""
    return at - every - CLOCK_SLACK if at > LONG_AGO + every + CLOCK_SLACK else LONG_AGO
