"""Thresholds: what counts as fresh enough, often enough and whole enough. Defaults live here, once, with reasons."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

DATABASE_CHECKS_MISSED_MAX = 2  # production's check may be this many intervals old before it is `check_old`


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """SQL run on the restored copy; it returns one row of one value, held against the bounds that are given."""

    name: str
    sql: str
    min: float | None = None
    max: float | None = None
    equals: str | float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The thresholds of one database (CONTRACT 2, `policy`)."""

    production: bool = True  # False: a daemon elsewhere, which has the replica and nothing else
    look_every: timedelta = timedelta(minutes=1)  # ten LISTs on S3: a minute is about 3 USD a month
    look_at_rest_every: timedelta = timedelta(
        minutes=10
    )  # at most: a gone replica of what nobody writes is seen so late
    max_lag: timedelta = timedelta(minutes=2)  # Litestream syncs every second; two minutes is an outage
    max_snapshot_age: timedelta = timedelta(hours=30)  # Litestream's daily snapshot and a quarter of a day
    drill_every: timedelta = timedelta(hours=6)
    drill_max_age: timedelta = timedelta(hours=24)  # four drills in a row may fail to happen
    drill_timeout: timedelta = timedelta(minutes=30)
    audit_every: timedelta = timedelta(days=7)
    # Databases this large keep their restored copy, and drills bring it forward; None: no copy is kept, since it takes its room for good.
    drill_by_change_from: int | None = None  # bytes
    skip_proved: bool = True  # no drill where it would restore, file by file, what the last one did
    database_check_every: timedelta = timedelta(hours=6)
    parity: bool = True
    parity_every: timedelta = timedelta(0)  # with every drill: reading production once costs less than the restore
    max_shrink: float = 0.5  # share of rows, tables or pages lost since the last passed drill
    schema_version: str = "auto"  # auto | user_version | SQL returning one value
    assertions: tuple[Assertion, ...] = ()

    @property
    def look_interval(self) -> timedelta:
        """How often a database that changes is listed: often enough that `max_lag` can be met at all, where that is asked."""
        if not self.production:
            return self.look_every
        return min(self.look_every, max(self.max_lag / 3, timedelta(seconds=1)))

    def look_every_at_rest(self, rest: int) -> timedelta:
        """How often one is listed that has rested for so many hours: `look_every` for each of them, up to `look_at_rest_every`."""
        return min(self.look_every * rest, max(self.look_every, self.look_at_rest_every))

    @property
    def compares(self) -> bool:
        """Whether restored copies are to be compared with production, page by page."""
        return self.parity and self.production

    @property
    def database_check_max_age(self) -> timedelta:
        """Age at which production's own check stops counting."""
        return self.database_check_every * DATABASE_CHECKS_MISSED_MAX

    @property
    def restore_max_age(self) -> timedelta:
        """Age at which a restore stops counting, though what came after is proved too: the audit that renews it is overdue."""
        renewed = self.skip_proved or self.counts_by_change
        return self.audit_every + self.drill_max_age if renewed else self.drill_max_age

    @property
    def counts_by_change(self) -> bool:
        """Whether a drill that brought a kept copy forward renews the proof, between two restores."""
        return self.drill_by_change_from is not None

    @property
    def parity_max_age(self) -> timedelta:
        """Age at which a comparison stops counting: as old as the drill that was due to make it may be."""
        return self.parity_every + self.drill_max_age

    @property
    def comparison_every(self) -> timedelta:
        """How long after a comparison the next one is due where a verifier makes the drills."""
        return max(self.parity_every, self.drill_every)

    def tightened(self, *, max_age: timedelta | None = None, max_lag: timedelta | None = None) -> Policy:
        """The same policy with a stricter proof age or lag; what is looser than the policy is ignored.

        Whoever asks for a proof no older than that asks for a restore: that its files are still the same, or that a kept copy could
        be brought forward, is not enough.
        """
        younger = max_age is not None and max_age < self.drill_max_age
        return replace(
            self,
            drill_max_age=max_age if younger and max_age is not None else self.drill_max_age,
            skip_proved=self.skip_proved and not younger,
            drill_by_change_from=None if younger else self.drill_by_change_from,
            max_lag=min(self.max_lag, max_lag) if max_lag is not None else self.max_lag,
        )
