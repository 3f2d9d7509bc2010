"""What is written directly under /metrics is what prometheus_client prints for the same families, to the byte, in every form it knows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from sidecar.core.model import LookResult, Outcome, SchemaVersion, Sighting
from sidecar.core.policy import Policy
from sidecar.core.verdict import Verdict
from sidecar.metric_facts import Fact, Sample
from sidecar.metric_text import counter_text, facts_text, valid, with_names
from sidecar.metrics import EOF, Metrics
from tests.fakes import NOW, House, content, drill, healthy

NAMES = ["app", 'q"\\\n', "a\udcfe", "a\udcff", "Bücher/ä b", "emoji 🦆", '{x="y"}', "tab\tcr\r", "\u2028", " "]  # fmt: skip
ACCEPTED = (
    "",
    "text/plain",
    "text/plain;version=1.0.0;escaping=allow-utf-8",
    "text/plain;version=1.0.0;escaping=underscores",
    "text/plain;version=1.0.0;escaping=dots",
    "application/openmetrics-text",
    "application/openmetrics-text;version=1.0.0",
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3",
    "application/openmetrics-text;version=2.0.0;escaping=underscores",
    "application/openmetrics-text;version=1.0.0;escaping=dots",
    "application/openmetrics-text;version=1.0.0;escaping=values",
)


@pytest.fixture
def house() -> House:
    """Databases of every kind, and names with everything in them."""
    made = House()
    known = healthy()
    kinds = [
        known,
        None,
        known.after_drill(replace(drill(), outcome=Outcome.FAILED, reason="file_corrupt", restore_seconds=math.inf)),
        known.after_content(replace(content(), schema_version=SchemaVersion('t"\\\n', "v\n" * 100)), None),
        known.after_drill(replace(drill(), restore_seconds=math.nan, check_seconds=-1.5, size_bytes=2**60, plan_seconds=1e-9)),
    ]  # fmt: skip
    assert known.live is not None
    kinds.append(known.after_sighting(known.live, Sighting(NOW, LookResult.NO_BACKUP)))
    for number, name in enumerate(NAMES):
        made.add(name, kinds[number % len(kinds)], Policy(parity=number != 3), path=f"/data/{number}.db")
    made.clock.go(timedelta(seconds=40))
    return made


@pytest.fixture
def metrics(house: House) -> Metrics:
    made = Metrics(
        house.answers, litestream_version="v0.5.17", sqlite_version="3.54.1", decisions=lambda: {"passed": 3},
        notifications=lambda: {('heart"beat', "ok"): 2, ("webhook", "a\nb"): 10**7},
    )  # fmt: skip
    made.due(2)
    made.turned(NOW)
    for name in NAMES:
        made.looked(name, "ok")
        made.drilled(name, replace(drill(), outcome=Outcome.FAILED, reason="file_corrupt"))
    for _ in range(3):
        made.requested("/ready", 503)
    return made


class Given(Collector):
    def __init__(self, *families: Metric) -> None:
        self.families = families

    def collect(self) -> Iterator[Metric]:
        yield from self.families


@pytest.mark.parametrize("accept", ACCEPTED)
def test_a_page_is_what_the_library_prints(metrics: Metrics, accept: str) -> None:
    encode, content_type = choose_encoder(accept)
    wanted = encode(metrics).removesuffix(EOF)
    body, found = metrics.render(accept)
    assert found == content_type
    assert body[: len(wanted)].splitlines() == wanted.splitlines()
    assert body.startswith(wanted)
    rest = body.removeprefix(wanted)
    assert rest.startswith(b"# HELP process")
    assert body.count(EOF) == ("openmetrics" in content_type)


def rows(_: Verdict) -> Iterator[Sample]:
    yield ('a"\\\n', "b"), 1
    yield ("z", "\udcfe"), math.nan
    yield ("left out", ""), None
    yield ("big", ""), 1e9


@pytest.mark.parametrize("openmetrics", [False, True])
@pytest.mark.parametrize("labels", [("check", "status"), ("status", "check"), ("x", "y"), ("a", "b")])
@pytest.mark.parametrize("keyed", [False, True])
def test_labels_stand_in_order_and_help_is_escaped(
    house: House,
    labels: tuple[str, str],
    openmetrics: bool,  # noqa: FBT001 - parameters
    keyed: bool,  # noqa: FBT001 - parameters
) -> None:
    verdicts = house.answers.standing().verdicts
    fact = Fact('it says "\\n" and\n', rows, labels, (lambda _: 1) if keyed else None)
    family = GaugeMetricFamily("odd_name", fact.help, labels=("db", *labels))
    counter = CounterMetricFamily("counted", fact.help, labels=labels)
    for verdict in verdicts:
        for values, value in rows(verdict):
            if value is not None:
                family.add_metric([valid(each) for each in (verdict.database.name, *values)], value)
    counts: dict[tuple[str, ...], int] = {("b\n", '"'): 3, ("a", "\udcfe"): 10**7}
    for key, count in sorted(counts.items()):
        counter.add_metric([valid(each) for each in key], count)
    encode = generate_openmetrics if openmetrics else generate_latest
    written = facts_text("odd_name", fact, with_names(verdicts), openmetrics=openmetrics)
    written += counter_text("counted", fact.help, labels, counts, openmetrics=openmetrics)
    assert written.encode() == encode(Given(family, counter)).removesuffix(EOF)


def test_a_scrape_shows_what_is_known_now(house: House, metrics: Metrics) -> None:
    line = b'litestream_sidecar_check_status{check="lag",db="app",status="fail"} '
    assert line + b"0.0\n" in metrics.render("")[0]
    house.clock.go(timedelta(minutes=3))
    assert line + b"1.0\n" in metrics.render("")[0]
    house.ledger.evidence["/data/0.db"] = healthy(house.clock.at)
    assert line + b"0.0\n" in metrics.render("")[0]
