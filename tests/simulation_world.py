"""The world in which a simulated fleet lives: how much of it goes wrong, what is so, and what came of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sidecar.core.policy import Policy
from sidecar.core.schedule import Seats

PAGE = 4096
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LISTS_A_LOOK = 10  # a look lists ten folders of the replica
# A store that is down says so at once, or keeps us waiting for the whole command-timeout.
REFUSED_S, SILENT_S = 1.0, 60.0
LOOK_S = (0.2, 0.8)
# Of a drill's time: a check of production restores nothing, integrity_check reads more.
CHECK_SHARE, AUDIT_SHARE = 0.5, 2.0
REPAIR = timedelta(hours=12)  # from the drill that found it until somebody has begun a new backup


@dataclass(frozen=True, kw_only=True)
class World:
    """How many, how long, and how much of it goes wrong; shares are 0-1."""

    databases: int
    days: float
    policy: Policy
    seats: Seats = field(default_factory=lambda: Seats(4, 2))
    seed: int = 1
    stores: int = 20  # outages come by store
    outages_a_month: float = 1.0  # of each store, 1-8 hours each
    silent: float = 0.25  # of the outages
    corrupt: float = 0.01  # of the backups, some time
    hanging: float = 0.0005  # a restore that takes all of drill-timeout, every time
    broken: float = 0.01  # a restore that fails within seconds, every time
    changing: float = 0.3  # of the databases, all the time
    at_rest: bool = False  # the others' backup files stay what they are, and damage to them shows in no listing
    unreadable: float = 0.002  # production's own content
    requests_a_day: float = 20.0
    work_s: tuple[float, float] = (1.5, 1.2)  # a drill: median, and sigma of its logarithm
    quiet_looks: bool = True  # a look that tells nothing new is counted and not lived
    whole_every: timedelta = timedelta(
        hours=20
    )  # how often the whole fleet is planned, to compare; at another hour each day


@dataclass(slots=True)
class Store:
    """Where backups lie; `troubled_until` is the end of its newest outage."""

    troubled_until: datetime
    silent: bool = False

    def down(self, now: datetime) -> bool:
        return now < self.troubled_until


@dataclass(slots=True)
class Truth:
    """What is so of a database, whether or not the daemon knows it."""

    store: Store
    inode: int
    work_s: float
    passed_at: datetime  # or the beginning
    changing: bool = False
    at_rest: bool = False
    unreadable: bool = False
    never_passes_s: float | None = None  # fails every time, after so long
    corrupt_at: datetime | None = None
    found: bool = False
    quiet_since: datetime | None = None  # looks go on as ever, and tell nothing

    @property
    def sound(self) -> bool:
        return self.never_passes_s is None and self.corrupt_at is None


@dataclass
class Tally:
    """What came of it."""

    drills: Counter[str] = field(default_factory=Counter)  # by outcome
    audits_by_day: Counter[int] = field(default_factory=Counter)
    drills_by_hour: Counter[int] = field(default_factory=Counter)
    of_broken: Counter[str] = field(default_factory=Counter)  # drills of databases that never pass, by path
    checks: int = 0
    skipped: int = 0  # drills that were due and not made
    looks: int = 0
    looks_quiet: float = 0.0
    heavy_s: float = 0.0
    longest_gap: timedelta = timedelta(0)  # of a sound backup in a store that was up
    longest_gap_in_all: timedelta = timedelta(0)  # of a sound backup
    delays: list[timedelta] = field(default_factory=list)  # from corrupt to found
    waits: list[timedelta] = field(default_factory=list)  # from asked for to begun
    overdue_most: int = 0  # databases with a sound backup and a proof older than drill-max-age
    due_at_first: int = 0  # drills due at one instant, within the first drill-every
    due_later: int = 0  # and after the second
    planner_calls: int = 0
    planned_us: list[float] = field(default_factory=list)  # a planner call over the whole fleet
