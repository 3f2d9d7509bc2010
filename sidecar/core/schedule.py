"""The planner: which looks, drills and checks of production to begin now. Pure: state in, work out.

Never more than the free seats, the longest waiting first, one piece of heavy work per database at a time. What did not
pass is tried again soon, then ever more slowly, so that one broken backup cannot keep the seats from the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from sidecar.core.evidence import Evidence
from sidecar.core.instants import CLOCK_SLACK
from sidecar.core.model import CheckKind, Drill, LookResult, Outcome
from sidecar.core.policy import Policy

STARTING_FOR = timedelta(minutes=2)  # a database seen for the first time gets its first backup within seconds
STARTING_LOOK = timedelta(seconds=2)
DOUBLINGS_MAX = 10
SOON_SHARE = 0.25  # of database-check-every: so much later production is checked, where a drill does it
REST = 10  # work that is repeated early rests this many times as long as it took: a tenth of the time at most
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class HeavyKind(StrEnum):
    """Work that restores or copies a whole database, and so takes a seat of `resources.drills`."""

    DRILL = "drill"
    DATABASE_CHECK = "database_check"


@dataclass(frozen=True, slots=True)
class Heavy:
    """One piece of heavy work; `check` is the PRAGMA for a drill."""

    path: str
    kind: HeavyKind
    check: CheckKind = CheckKind.QUICK
    due_at: datetime = LONG_AGO
    parity: bool = False


@dataclass(frozen=True, slots=True)
class Subject:
    """A database to plan for."""

    evidence: Evidence
    policy: Policy


@dataclass(frozen=True, slots=True)
class Busy:
    """What runs already, by path."""

    looks: AbstractSet[str]
    heavy: AbstractSet[str]


@dataclass(frozen=True, slots=True)
class Seats:
    """How much may run at once."""

    looks: int
    heavy: int


@dataclass(frozen=True, slots=True)
class Work:
    """What to begin now, and how many drills are due in all (started or not)."""

    looks: tuple[str, ...]
    heavy: tuple[Heavy, ...]
    drills_due: int


def look_due_at(evidence: Evidence, policy: Policy) -> datetime:
    """When this database's replica is to be listed next."""
    sighting = evidence.sighting
    if sighting is None:
        return LONG_AGO
    last = sighting.finished_at or sighting.read_at
    starting = evidence.listing is None and last - evidence.first_seen_at < STARTING_FOR
    if starting and sighting.result in {LookResult.NO_BACKUP, LookResult.UNREACHABLE}:
        return last + min(STARTING_LOOK, policy.look_every)
    interval = policy.look_interval if evidence.changing else policy.look_every
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
    restarted_at, in_turn = evidence.restarted_since(last), _in_turn(evidence, last, policy)
    if restarted_at is None:
        return in_turn
    # Commits made meanwhile may be lost without a word (`core/restarts.py`); or it was the mend.
    took = last.finished_at - last.started_at
    return min(in_turn, max(restarted_at, last.finished_at + min(took * REST, policy.drill_every)))


def _in_turn(evidence: Evidence, last: Drill, policy: Policy) -> datetime:
    took = last.finished_at - last.started_at
    if last.outcome is not Outcome.PASSED:
        first = _early(policy.look_every, took, policy.drill_every)
        return last.finished_at + _back_off(first, policy.drill_every, evidence.not_passed_in_a_row)
    never_compared = policy.parity and last.parity is None and evidence.last_compared is None  # by a sidecar of before
    early = never_compared or (_has_more(evidence, last) and _migrated(evidence, last))
    return last.finished_at + (_early(policy.look_every, took, policy.drill_every) if early else policy.drill_every)


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
    audit_due = audit is None or _past(audit.finished_at + policy.audit_every, policy.audit_every, now) <= now
    return CheckKind.FULL if audit_due else CheckKind.QUICK


def parity_due(evidence: Evidence | None, policy: Policy, now: datetime) -> bool:
    """Whether the next drill is to be compared with production; what a comparison found, only a comparison clears."""
    compared = evidence.last_compared if evidence is not None else None
    if not policy.parity or evidence is None or compared is None or compared.outcome is not Outcome.PASSED:
        return policy.parity
    if evidence.restarted_since(compared) is not None:
        return True
    return _past(compared.finished_at + policy.parity_every, policy.parity_every, now) <= now


def database_check_due_at(evidence: Evidence, policy: Policy) -> datetime | None:
    """When production's own content is to be checked next; None while there is no file."""
    return _check_due_at(evidence, policy, drill_due_at(evidence, policy))


def _check_due_at(evidence: Evidence, policy: Policy, drill_at: datetime | None) -> datetime | None:
    if evidence.live is None or evidence.live.file_id is None:
        return None
    last = evidence.database_check
    if last is None:
        return evidence.first_seen_at + policy.drill_timeout if _drilled_first(evidence, policy) else LONG_AGO
    if last.sound:
        due_at = last.at + policy.database_check_every
        return max(due_at, _checks_it_too(evidence, policy, due_at, drill_at) or due_at)
    first = _early(policy.look_every, timedelta(seconds=last.seconds), policy.database_check_every)
    # Damage is looked at again soon; what cannot be found out is tried ever more slowly.
    return last.at + _back_off(first, policy.database_check_every, evidence.unchecked_in_a_row)


def _drilled_first(evidence: Evidence, policy: Policy) -> bool:
    """Whether a first drill is about to come that says the same by comparing: it reads production a second at a time, a copy in one go."""
    seen = evidence.sighting
    can_be = seen is None or seen.result is LookResult.OK
    return policy.parity and evidence.last_drill is None and can_be


def _checks_it_too(evidence: Evidence, policy: Policy, due_at: datetime, drill_at: datetime | None) -> datetime | None:
    """When a drill comes that will say the same of production by comparing, if that is soon after its check is due."""
    compared = evidence.last_compared.parity if evidence.last_compared is not None else None
    if not policy.parity or compared is None or not compared.strong or drill_at is None:
        return None
    return drill_at if drill_at - due_at <= policy.database_check_every * SOON_SHARE else None


def _past(at: datetime, every: timedelta, now: datetime) -> datetime:
    """`at`, or long ago where it lies farther ahead than one interval: the clock was set back since it was reckoned."""
    return LONG_AGO if at - now > every + CLOCK_SLACK else at


def due(
    fleet: Mapping[str, Subject],
    now: datetime,
    *,
    seats: Seats,
    busy: Busy,
    requested: Iterable[str] = (),
) -> Work:
    """What to begin now. `requested` are paths whose drill somebody asked for, in that order; they come before all that is merely due."""
    wanted: dict[str, int] = {}
    for path in requested:
        if path in fleet:
            wanted.setdefault(path, len(wanted))
    heavy: list[tuple[int, datetime, str, Heavy]] = []
    drills_due = 0
    for path, (evidence, policy) in ((path, (each.evidence, each.policy)) for path, each in fleet.items()):
        drill_at = drill_due_at(evidence, policy)
        check_at = _check_due_at(evidence, policy, drill_at)
        if drill_at is not None:
            drill_at = _past(drill_at, policy.drill_every, now)
        if path in wanted or (drill_at is not None and drill_at <= now):
            drills_due += 1
            at = drill_at or now
            drill = Heavy(
                path, HeavyKind.DRILL, drill_kind(evidence, policy, now), at, parity_due(evidence, policy, now)
            )
            heavy.append((wanted.get(path, len(wanted)), at, path, drill))
        if check_at is not None:
            check_at = _past(check_at, policy.database_check_every * (1 + SOON_SHARE), now)
        if check_at is not None and check_at <= now:
            heavy.append((len(wanted), check_at, path, Heavy(path, HeavyKind.DATABASE_CHECK, due_at=check_at)))
    return Work(_looks(fleet, now, seats.looks, busy.looks), _heavy(heavy, seats.heavy, busy.heavy), drills_due)


def _looks(fleet: Mapping[str, Subject], now: datetime, seats: int, busy: AbstractSet[str]) -> tuple[str, ...]:
    """The most overdue first; stores that are silent take half the seats at most, so that the others are listed in time."""
    waiting = sorted(
        (-_overdue(subject, at, now), path)
        for path, subject in fleet.items()
        if path not in busy
        and (at := _past(look_due_at(subject.evidence, subject.policy), subject.policy.look_every, now)) <= now
    )
    paths = [path for _, path in waiting]
    evidence = {path: fleet[path].evidence for path in (*paths, *busy) if path in fleet}
    return seated(paths, evidence, seats, busy)


def seated(
    waiting: Iterable[str], evidence: Mapping[str, Evidence], seats: int, busy: AbstractSet[str]
) -> tuple[str, ...]:
    """Which of these looks may begin, in their order, while those that are busy have not ended."""
    begin: list[str] = []
    silent = sum(_silent(evidence.get(path)) for path in busy)
    for path in waiting:
        if len(begin) >= seats - len(busy):
            break
        if _silent(evidence.get(path)):
            if silent >= max(seats // 2, 1):
                continue
            silent += 1
        begin.append(path)
    return tuple(begin)


def _overdue(subject: Subject, due_at: datetime, now: datetime) -> float:
    """In intervals of its own: a thousand databases that nobody has looked at yet must not make one red that changes all the time."""
    evidence, policy = subject.evidence, subject.policy
    if evidence.sighting is None:
        return (now - evidence.first_seen_at) / policy.look_every
    return (now - due_at) / (policy.look_interval if evidence.changing else policy.look_every)


def _silent(evidence: Evidence | None) -> bool:
    sighting = evidence.sighting if evidence is not None else None
    return sighting is not None and sighting.result is LookResult.TIMEOUT


def _heavy(waiting: list[tuple[int, datetime, str, Heavy]], seats: int, busy: AbstractSet[str]) -> tuple[Heavy, ...]:
    taken = set(busy)
    begin: list[Heavy] = []
    for _, _, path, work in sorted(waiting, key=lambda each: each[:3]):
        if len(begin) >= seats - len(busy):
            break
        if path not in taken:
            taken.add(path)
            begin.append(work)
    return tuple(begin)
