"""A month of ten thousand databases by the real planner, in seconds: what is proved how often, found how late, and asked how much.

python -m tests.bench.month [figures.json]     (DATABASES=10000 DAYS=30 DRILL_EVERY_H=24 LOOK_EVERY_M=60 HEAVY=2 LOOKS=4
STORES=20 HANGING=0.0005 BROKEN=0.01 WORK_S=1.5 SEED=1; QUIET=0 lives every look; AT_REST=1: the backups of databases that do not change stay as they are)
"""

from __future__ import annotations

import gc
import os
import time
from datetime import UTC, datetime, timedelta

from sidecar.core.policy import Policy
from sidecar.core.schedule import Seats
from tests.bench.figures import keep, middle, say
from tests.simulation import Life
from tests.simulation_world import DAY, HOUR, LISTS_A_LOOK, Tally, World

BEGAN_AT = datetime(2026, 11, 1, 3, 0, tzinfo=UTC)
USD_A_MILLION_LISTS = 5.0  # S3 Standard, us-east-1


def number(name: str, usual: float) -> float:
    return float(os.environ.get(name, str(usual)))


def world() -> World:
    """As somebody would configure ten thousand: a drill a day, a look an hour, everything else in proportion."""
    drill_every, look_every = number("DRILL_EVERY_H", 24) * HOUR, timedelta(minutes=number("LOOK_EVERY_M", 60))
    policy = Policy(
        look_every=look_every,
        max_lag=3 * look_every,
        drill_every=drill_every,
        drill_max_age=3 * drill_every,
        database_check_every=drill_every,
    )
    return World(
        databases=int(number("DATABASES", 10_000)),
        days=number("DAYS", 30),
        policy=policy,
        seats=Seats(int(number("LOOKS", 4)), int(number("HEAVY", 2))),
        seed=int(number("SEED", 1)),
        stores=int(number("STORES", 20)),
        hanging=number("HANGING", 0.0005),
        broken=number("BROKEN", 0.01),
        work_s=(number("WORK_S", 1.5), 1.2),
        quiet_looks=bool(number("QUIET", 1)),
        at_rest=bool(number("AT_REST", 0)),
    )


def hours(length: timedelta) -> float:
    return round(length / HOUR, 2)


def figures_of(lived: World, tally: Tally, cpu_s: float) -> dict[str, object]:
    looks_a_day = (tally.looks + tally.looks_quiet) / lived.days
    lists_a_day = looks_a_day * LISTS_A_LOOK
    steady = [count for hour, count in sorted(tally.drills_by_hour.items())[:-1] if hour * HOUR > 2 * DAY] or [0]
    delays = sorted(tally.delays)
    return {
        "databases": lived.databases,
        "days": lived.days,
        "drills": sum(tally.drills.values()),
        "drills_by_outcome": dict(sorted(tally.drills.items())),
        "drills_skipped": tally.skipped,
        "database_checks": tally.checks,
        "heavy_seats_used": round(tally.heavy_s / (lived.seats.heavy * lived.days * DAY.total_seconds()), 3),
        "drill_every_h": hours(lived.policy.drill_every),
        "drill_max_age_h": hours(lived.policy.drill_max_age),
        "longest_unproved_h": hours(tally.longest_gap),
        "longest_unproved_with_outages_h": hours(tally.longest_gap_in_all),
        "overdue_most": tally.overdue_most,
        "corrupt_found": len(delays),
        "corrupt_found_median_h": hours(delays[len(delays) // 2]) if delays else None,
        "corrupt_found_worst_h": hours(delays[-1]) if delays else None,
        "asked_for": len(tally.waits),
        "asked_for_worst_wait_s": round(max(tally.waits, default=timedelta(0)).total_seconds(), 1),
        "looks_a_day": round(looks_a_day),
        "look_seats_needed": round(looks_a_day * 0.5 / DAY.total_seconds(), 2),
        "list_requests_a_day": round(lists_a_day),
        "list_usd_a_month": round(lists_a_day * 30 / 1e6 * USD_A_MILLION_LISTS, 2),
        "drills_due_at_once_first": tally.due_at_first,
        "drills_due_at_once_later": tally.due_later,
        "drills_an_hour_mean": round(sum(steady) / len(steady), 1),
        "drills_an_hour_least_most": [min(steady), max(steady)],
        "audits_by_day": [tally.audits_by_day[day] for day in range(int(lived.days))],
        "cpu_s": round(cpu_s, 1),
        "planner_calls": tally.planner_calls,
        "planner_whole_fleet_us": round(middle(tally.planned_us)),
    }


def main() -> None:
    lived = world()
    gc.disable()  # nothing here goes in circles, and each full collection would walk the whole fleet
    began, cpu = time.monotonic(), time.process_time()
    tally = Life(lived, BEGAN_AT).run()
    figures = figures_of(lived, tally, time.process_time() - cpu)
    for name, figure in figures.items():
        say(f"{name}: {figure}")
    say(f"{time.monotonic() - began:.1f} s")
    keep("month", figures)


if __name__ == "__main__":
    main()
