"""Metrics: what evidence says at the moment of a scrape, and what was counted since the daemon started.

Read at each scrape and not kept as gauges: nothing has to be kept up to date, a fact nobody has is an absent series, and a
database that left the fleet takes its series with it. Counters are plain numbers under one lock for the same reason.
What there is of each database is written by `metric_text.py`, the rest by prometheus_client, which could print all of it.
"""

from __future__ import annotations

import platform
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from threading import Lock

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from sidecar.answers import Answers
from sidecar.core.budget import Pace
from sidecar.core.decision import Word
from sidecar.core.model import Drill, Outcome
from sidecar.core.verdict import Verdict
from sidecar.metric_facts import FACTS, litestream_up
from sidecar.metric_text import counter_text, facts_text, valid, with_names

PREFIX = "litestream_sidecar_"
BUCKETS_S = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0)  # drill-timeout is 1800

# Names are written with underscores, as they are, unless somebody asks for dots or for code points.
FOREIGN_ESCAPING = r"escaping=(?!allow-utf-8|underscores)"
EOF = b"# EOF\n"

Count = Counter[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Counted:
    """One family of counters."""

    name: str
    help: str
    labels: tuple[str, ...]
    counted: Count


class _Given(Collector):
    """Families that are at hand."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Sequence[Metric]:
        """They."""
        return self._families


class Metrics(Collector):
    """Everything under `/metrics`; also counts (`daemon.Telemetry`). Thread-safe.

    Args:
        answers: the read side of the daemon; a scrape asks it and causes no work.
        litestream_version: of the binary that drills.
        sqlite_version: of the library that checks.
        decisions: what deploy gates decided, as last read from the book that daemon and commands share.
        notifications: (to, result) to what became of pings and messages.
        kept: whether evidence could be written when that was last tried.
        requests: how many looks have made of the stores, by way.
        pace: how many that makes a day, and how many were allowed.
        verifier: whether it answers; None where none is configured or it has not been asked yet.
    """

    def __init__(  # noqa: PLR0913 - one argument for each thing it reads
        self,
        answers: Answers,
        *,
        litestream_version: str,
        sqlite_version: str,
        decisions: Callable[[], Mapping[str, int]] = dict,
        notifications: Callable[[], Mapping[tuple[str, str], int]] = dict,
        kept: Callable[[], bool] = lambda: True,
        requests: Callable[[], Mapping[str, int]] = dict,
        pace: Callable[[], Pace | None] = lambda: None,
        verifier: Callable[[], bool | None] = lambda: None,
    ) -> None:
        self._answers, self._lock = answers, Lock()
        self._decisions, self._notifications, self._kept, self._verifier = decisions, notifications, kept, verifier
        self._spent, self._pace = requests, pace
        self._about = {
            "version": answers.version,
            "python": platform.python_version(),
            "sqlite": sqlite_version,
            "litestream": litestream_version.removeprefix("v"),
        }
        self._drills, self._failures, self._looks, self._requests = Count(), Count(), Count(), Count()
        self._stood = Count()
        self._durations = [0] * (len(BUCKETS_S) + 1)
        self._durations_sum = 0.0
        self._drills_due: int | None = None
        self._turned_at: datetime | None = None
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)

    def render(self, accept: str) -> tuple[bytes, str]:
        """The body and its content type: Prometheus text or OpenMetrics, by the `Accept` header."""
        try:
            encode, content_type = choose_encoder(accept)
        except TypeError:  # the library cannot compare a version that is no number
            encode, content_type = choose_encoder("")
        if re.search(FOREIGN_ESCAPING, content_type) is not None:
            return encode(_Given([*self.collect(), *self._process.collect()])), content_type
        openmetrics = content_type.startswith("application/openmetrics-text")
        verdicts = self._answers.standing().verdicts
        named = with_names(verdicts)
        page = [encode(_Given([self._build()])).removesuffix(EOF)]
        for name, fact in FACTS.items():
            page.append(facts_text(PREFIX + name, fact, named, openmetrics=openmetrics).encode())
        page += [
            counter_text(PREFIX + each.name, each.help, each.labels, each.counted, openmetrics=openmetrics).encode()
            for each in self._counted(verdicts)
        ]
        page.append(encode(_Given([self._took(), *self._daemon(verdicts), *self._process.collect()])))
        return b"".join(page), content_type

    def looked(self, name: str, result: str) -> None:
        """A look ended."""
        with self._lock:
            self._looks[name, result] += 1

    def drilled(self, name: str, drill: Drill) -> None:
        """A drill ended."""
        took_s = drill.took.total_seconds()
        with self._lock:
            self._drills[name, drill.outcome.value] += 1
            if drill.reason is not None:
                self._failures[name, drill.reason] += 1
            self._durations[bisect_left(BUCKETS_S, took_s)] += 1
            self._durations_sum += took_s

    def stood(self, name: str) -> None:
        """A drill was due and not made."""
        with self._lock:
            self._stood[name,] += 1

    def due(self, drills: int) -> None:
        """So many drills are due now, begun or not. Called at every turn, so counts of lost databases are dropped here."""
        names = {each.name for each in self._answers.keeper.fleet.databases.values()}
        with self._lock:
            self._drills_due = drills
            for counted in (self._drills, self._failures, self._looks, self._stood):
                for key in [key for key in counted if key[0] not in names]:
                    del counted[key]

    def turned(self, at: datetime) -> None:
        """The daemon's loop has turned: a loop that is stuck shows in a time that stands still."""
        with self._lock:
            self._turned_at = at

    def requested(self, route: str, code: int) -> None:
        """A request was answered; `route` is the route's template."""
        with self._lock:
            self._requests[route, str(code)] += 1

    def collect(self) -> Iterator[Metric]:
        """All families but the process's, as prometheus_client has them."""
        verdicts = self._answers.standing().verdicts
        yield self._build()
        for name, fact in FACTS.items():
            gauge = GaugeMetricFamily(PREFIX + name, fact.help, labels=("db", *fact.labels))
            for verdict in verdicts:
                for labels, value in fact.read(verdict):
                    if value is not None:
                        gauge.add_metric([valid(each) for each in (verdict.database.name, *labels)], value)
            yield gauge
        for each in self._counted(verdicts):
            counter = CounterMetricFamily(PREFIX + each.name, each.help, labels=each.labels)
            for key, count in sorted(each.counted.items()):
                counter.add_metric([valid(value) for value in key], count)
            yield counter
        yield self._took()
        yield from self._daemon(verdicts)

    def _build(self) -> Metric:
        build = InfoMetricFamily(f"{PREFIX}build", "Versions of the sidecar, Python, SQLite and Litestream.")
        build.add_metric([], self._about)
        return build

    def _counted(self, verdicts: Sequence[Verdict]) -> Iterator[Counted]:
        names = {verdict.database.name for verdict in verdicts}
        with self._lock:
            drills, failures = Count(self._drills), Count(self._failures)
            looks, requests, stood = Count(self._looks), Count(self._requests), Count(self._stood)
        for name in names:  # from 0, so that the first drill is an increase
            for outcome in Outcome:
                drills[name, outcome.value] += 0
            stood[name,] += 0
        for counted in (drills, failures, looks, stood):
            for key in [key for key in counted if key[0] not in names]:
                del counted[key]
        yield Counted("drills", "Drills that ended, by outcome.", ("db", "outcome"), drills)
        yield Counted("drill_failures", "Drills that did not pass, by reason.", ("db", "reason"), failures)
        what = "Drills that were due and not made: they would have restored what the last one did."
        yield Counted("drills_skipped", what, ("db",), stood)
        yield Counted("looks", "Attempts to list the replica, by result.", ("db", "result"), looks)
        yield Counted("http_requests", "HTTP requests answered, by route.", ("route", "code"), requests)
        spent = Count({(way,): count for way, count in self._spent().items()})
        yield Counted("replica_requests", "Listing requests that looks sent, by way.", ("way",), spent)
        decisions = Count({(word.value,): self._decisions().get(word.value, 0) for word in Word})
        yield Counted("gate_decisions", "Decisions of the deploy gate.", ("decision",), decisions)
        told = Count(self._notifications())
        yield Counted("notifications", "Pings and messages to others, by what became of them.", ("to", "result"), told)

    def _took(self) -> Metric:
        with self._lock:
            cumulative, total_s = list(accumulate(self._durations)), self._durations_sum
        bounds = [*(str(bound) for bound in BUCKETS_S), "+Inf"]
        took = HistogramMetricFamily(f"{PREFIX}drill_duration_seconds", "How long drills took from start to end.")
        took.add_metric([], list(zip(bounds, cumulative, strict=True)), total_s)
        return took

    def _daemon(self, verdicts: tuple[Verdict, ...]) -> Iterator[Metric]:
        keeper, room = self._answers.keeper, self._answers.scratch()
        with self._lock:
            due, turned_at = self._drills_due, self._turned_at
        pace = self._pace()
        for name, help_text, value in (
            ("drills_due", "Drills that are due, begun or not.", due),
            ("drills_running", "Drills under way.", self._answers.desk.running),
            (
                "replica_requests_per_day",
                "Requests a day that looks at object stores and servers make at the present pace.",
                round(pace.requests) if pace is not None else None,
            ),
            (
                "replica_requests_per_day_limit",
                "resources.requests-per-day; absent where there is none.",
                pace.budget if pace is not None else None,
            ),
            (
                "look_stretch_ratio",
                "How many times farther apart than look-every looks at databases at rest are put to keep the budget.",
                pace.stretch if pace is not None else None,
            ),
            (
                "loop_turned_timestamp_seconds",
                "When the daemon's loop last turned.",
                turned_at.timestamp() if turned_at is not None else None,
            ),
            ("scratch_free_bytes", "Free room for drills.", room.free_bytes if room is not None else None),
            ("litestream_up", "Whether Litestream answers; absent where it cannot be asked.", litestream_up(verdicts)),
            ("verifier_up", "Whether the verifier answers; absent where none is configured.", self._verifier()),
            (
                "evidence_write_successful",
                "Whether evidence could be written to the state directory when that was last tried.",
                float(self._kept()),
            ),
            (
                "config_last_reload_successful",
                "Whether what the configuration files say now is in force.",
                float(keeper.reload_successful),
            ),
            (
                "config_last_reload_timestamp_seconds",
                "When a configuration was last taken over.",
                keeper.reloaded_at.timestamp(),
            ),
        ):
            family = GaugeMetricFamily(PREFIX + name, help_text)
            if value is not None:
                family.add_metric([], float(value))
            yield family
