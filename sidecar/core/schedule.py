"""The planner: which looks, drills and checks of production to begin now. Pure: state in, work out.

Never more than the free seats, the longest waiting first, one piece of heavy work per database at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from operator import attrgetter, is_not

from sidecar.core.evidence import Evidence
from sidecar.core.model import CheckKind, LookResult
from sidecar.core.policy import Policy
from sidecar.core.turns import (
    LONG_AGO,
    SOON_SHARE,
    HeavyKind,
    believed_from,
    check_due_after,
    drill_due_at,
    drill_interval,
    drill_kind,
    look_due_at,
    look_interval,
    may_be_by_change,
    not_ahead,
    parity_due,
    queues_from,
    stands,
)


@dataclass(frozen=True, slots=True)
class Heavy:
    """One piece of heavy work; `check` is the PRAGMA for a drill."""

    path: str
    kind: HeavyKind
    check: CheckKind = CheckKind.QUICK
    due_at: datetime = LONG_AGO
    parity: bool = False
    by_change: bool = False  # a kept copy, where there is one, may be brought forward instead


@dataclass(frozen=True, slots=True)
class Dues:
    """When a database's work is due; nothing of it at an instant from `believed_from` on and before `next_at`.

    Before `believed_from` the clock was set back.
    """

    look_at: datetime
    drill_at: datetime | None
    check_at: datetime | None
    next_at: datetime
    believed_from: datetime


def dues_of(evidence: Evidence, policy: Policy) -> Dues:
    """What evidence says of it."""
    look_at, drill_at = look_due_at(evidence, policy), drill_due_at(evidence, policy)
    check_at = check_due_after(evidence, policy, drill_at)
    dues = [(look_at, _look_every(evidence, policy))]
    if drill_at is not None:
        dues.append((drill_at, drill_interval(evidence, policy)))
    if check_at is not None:
        dues.append((check_at, policy.database_check_every * (1 + SOON_SHARE)))
    return Dues(
        look_at, drill_at, check_at, min(at for at, _ in dues), max(believed_from(at, every) for at, every in dues)
    )


@dataclass(frozen=True, slots=True)
class Subject:
    """A database to plan for, with when its work is due.

    That is reckoned anew only where something was learnt that it depends on: a thousand databases are planned for every second, and of
    most of them there is nothing new but that their files, and Litestream, say what they said.
    """

    evidence: Evidence
    policy: Policy
    dues: Dues

    @classmethod
    def of(cls, evidence: Evidence, policy: Policy, before: Subject | None = None) -> Subject:
        """`before`: the same database's, of an earlier plan."""
        if before is not None and before.policy is policy:
            if before.evidence is evidence:
                return before
            if _bearing(before.evidence) == _bearing(evidence) and not any(
                map(is_not, _bearing_facts(before.evidence), _bearing_facts(evidence))
            ):
                return cls(evidence, policy, before.dues)
        return cls(evidence, policy, dues_of(evidence, policy))

    def rests(self, now: datetime) -> bool:
        """Whether nothing is due at this instant."""
        return self.dues.believed_from <= now < self.dues.next_at


# What of the evidence `turns.py` may reckon with, compared by identity; of what is learnt anew every few seconds, `_bearing` says it.
_NEW_ALL_THE_TIME = {"live", "claim", "covered_at", "covered_live", "ahead"}
_bearing_facts = attrgetter(*(each.name for each in fields(Evidence) if each.name not in _NEW_ALL_THE_TIME))


def _bearing(evidence: Evidence) -> tuple[object, ...]:
    live, claim = evidence.live, evidence.claim
    started_at = claim.started_at if claim is not None and claim.up else None
    return evidence.changing, live is None or live.file_id is None, started_at


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
    """What to begin now, and how many drills are due in all (started or not).

    `standing`: paths whose drill is due and would restore what the last one did, so that it is not made.
    """

    looks: tuple[str, ...]
    heavy: tuple[Heavy, ...]
    drills_due: int
    standing: tuple[str, ...] = ()


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
    standing: list[str] = []
    drills_due = 0
    awake = {path: each for path, each in fleet.items() if not each.rests(now) or path in wanted}
    for path, subject in awake.items():
        evidence, policy = subject.evidence, subject.policy
        drill_at, check_at = subject.dues.drill_at, subject.dues.check_at
        if drill_at is not None:
            drill_at = not_ahead(drill_at, drill_interval(evidence, policy), now)
        idle = path not in wanted and path not in busy.heavy
        if idle and drill_at is not None and drill_at <= now and stands(evidence, policy, now):
            standing.append(path)
        elif path in wanted or (drill_at is not None and drill_at <= now):
            drills_due += 1
            at = drill_at or now
            check, compare = drill_kind(evidence, policy, now), parity_due(evidence, policy, now)
            drill = Heavy(path, HeavyKind.DRILL, check, at, compare, may_be_by_change(evidence, policy, check))
            since = queues_from(evidence, policy, HeavyKind.DRILL, at)
            heavy.append((wanted.get(path, len(wanted)), since, path, drill))
        if check_at is not None:
            check_at = not_ahead(check_at, policy.database_check_every * (1 + SOON_SHARE), now)
        if check_at is not None and check_at <= now:
            since = queues_from(evidence, policy, HeavyKind.DATABASE_CHECK, check_at)
            heavy.append((len(wanted), since, path, Heavy(path, HeavyKind.DATABASE_CHECK, due_at=check_at)))
    looks = _looks(fleet, awake, now, seats.looks, busy.looks)
    return Work(looks, _heavy(heavy, seats.heavy, busy.heavy), drills_due, tuple(standing))


def _looks(
    fleet: Mapping[str, Subject], awake: Mapping[str, Subject], now: datetime, seats: int, busy: AbstractSet[str]
) -> tuple[str, ...]:
    """The most overdue first; stores that are silent take half the seats at most, so that the others are listed in time."""
    waiting = sorted(
        (-_overdue(subject, at, now), path)
        for path, subject in awake.items()
        if path not in busy
        and (at := not_ahead(subject.dues.look_at, _look_every(subject.evidence, subject.policy), now)) <= now
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
    return (now - due_at) / look_interval(evidence, policy)


def _look_every(evidence: Evidence, policy: Policy) -> timedelta:
    """The longest that the next look can be ahead."""
    return max(policy.look_every, look_interval(evidence, policy))


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
