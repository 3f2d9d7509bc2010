"""/metrics: names and labels of the contract, judged by promtool and by the strict OpenMetrics parser."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client import openmetrics, parser
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from sidecar.core.budget import Pace
from sidecar.core.finding import Status
from sidecar.core.model import ClaimSource, LookResult, Outcome, Sighting
from sidecar.metrics import PREFIX, Metrics
from tests.fakes import NOW, House, drill, healthy

OPENMETRICS = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3"

CONTRACT = """
build_info{version,python,sqlite,litestream} ready{db} check_status{db,check,status} check_reason{db,check,reason}
lag_seconds{db} live_position{db} replica_position{db} replica_sync_timestamp_seconds{db}
snapshot_timestamp_seconds{db} replica_files{db,level} replica_bytes{db} oldest_restorable_timestamp_seconds{db}
drills_total{db,outcome} drills_skipped_total{db} drill_failures_total{db,reason} drill_passed_timestamp_seconds{db} proof_timestamp_seconds{db} restored_timestamp_seconds{db}
drill_finished_timestamp_seconds{db} drill_stage_seconds{db,stage} drill_duration_seconds restored_bytes{db}
pages_proven_ratio{db} rto_seconds{db} rto_predicted_seconds{db} drill_predicted_seconds{db} drill_memory_bytes{db} database_bytes{db} wal_bytes{db} database_check_timestamp_seconds{db}
schema_version_info{db,source,value} drills_due drills_running looks_total{db,result} loop_turned_timestamp_seconds
evidence_write_successful scratch_free_bytes litestream_up config_last_reload_successful config_last_reload_timestamp_seconds gate_decisions_total{decision}
http_requests_total{route,code} replica_requests_total{way} replica_requests_per_day replica_requests_per_day_limit look_stretch_ratio
"""


@pytest.fixture
def house() -> House:
    made = House()
    made.add("app", healthy())
    return made


@pytest.fixture
def metrics(house: House) -> Metrics:
    return Metrics(
        house.answers,
        litestream_version="v0.5.17",
        sqlite_version="3.54.1",
        requests=lambda: {"direct": 5, "litestream": 20},
        pace=lambda: Pace(2, 7200.4, 10_000),
    )


def busy(metrics: Metrics) -> Metrics:
    """After some work, so that every series that can exist does."""
    metrics.due(2)
    metrics.turned(NOW)
    metrics.looked("app", "ok")
    metrics.drilled("app", drill())
    metrics.drilled("app", replace(drill(), outcome=Outcome.FAILED, reason="file_corrupt"))
    metrics.requested("/ready", 503)
    metrics.stood("app")
    metrics.stood("app")
    return metrics


def samples(metrics: Metrics) -> list[Sample]:
    text = metrics.render(OPENMETRICS)[0].decode()
    families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call] # prometheus_client's
    return [sample for family in families for sample in family.samples]


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """The one series of this name and these labels; None where it is absent."""
    found = [each.value for each in samples(metrics) if each.name == PREFIX + name and each.labels == labels]
    assert len(found) <= 1
    return found[0] if found else None


def labelled(found: Iterable[Sample], db: str) -> list[Sample]:
    return [each for each in found if each.labels.get("db") == db]


def test_every_metric_of_the_contract_and_no_other(house: House, metrics: Metrics) -> None:
    house.add("new")  # nothing is known of it, and its checks say so
    wanted = {
        name: set(labels.split(",")) if labels else set()
        for name, labels in re.findall(r"(\w+)(?:\{([\w,]+)\})?", CONTRACT)
    }
    found: dict[str, set[str]] = {}
    for sample in samples(busy(metrics)):
        if sample.name.startswith(PREFIX):
            name = re.sub(r"(?<=drill_duration_seconds)_(bucket|sum|count)$", "", sample.name.removeprefix(PREFIX))
            found.setdefault(name, set()).update(set(sample.labels) - {"le"})
        else:
            assert sample.name.startswith("process_")
    assert found == wanted


def test_values_are_what_is_known(metrics: Metrics) -> None:
    now = NOW.timestamp()
    busy(metrics)
    assert value(metrics, "build_info", version="1.2.3", python=platform.python_version(),
                 sqlite="3.54.1", litestream="0.5.17") == 1  # fmt: skip
    expected = {
        "ready": 1, "lag_seconds": 0, "live_position": 42, "replica_position": 42,
        "replica_sync_timestamp_seconds": now, "snapshot_timestamp_seconds": now - 3600, "replica_bytes": 2_000_000,
        "oldest_restorable_timestamp_seconds": now - 3600, "drill_passed_timestamp_seconds": now,
        "proof_timestamp_seconds": now, "restored_timestamp_seconds": now,
        "drill_finished_timestamp_seconds": now, "restored_bytes": 4194304, "rto_seconds": 1.25,
        "rto_predicted_seconds": 1.25, "drill_predicted_seconds": 1.25 + 0.4 + 0.3, "drill_memory_bytes": 40_000_000,
        "database_bytes": 4194304, "wal_bytes": 4152, "database_check_timestamp_seconds": now,
    }  # fmt: skip
    assert {name: value(metrics, name, db="app") for name in expected} == expected
    assert value(metrics, "replica_files", db="app", level="9") == 1
    assert value(metrics, "drill_stage_seconds", db="app", stage="plan") == 0.05
    assert value(metrics, "schema_version_info", db="app", source="user_version", value="7") == 1
    assert value(metrics, "drills_total", db="app", outcome="passed") == 1
    assert value(metrics, "drills_skipped_total", db="app") == 2
    assert value(metrics, "replica_requests_total", way="litestream") == 20
    paces = ("replica_requests_per_day", "replica_requests_per_day_limit", "look_stretch_ratio")
    assert [value(metrics, each) for each in paces] == [7200, 10_000, 2]
    assert value(metrics, "drills_total", db="app", outcome="aborted") == 0
    assert value(metrics, "drill_failures_total", db="app", reason="file_corrupt") == 1
    assert value(metrics, "looks_total", db="app", result="ok") == 1
    assert value(metrics, "http_requests_total", route="/ready", code="503") == 1
    assert value(metrics, "drills_due") == 2
    assert value(metrics, "loop_turned_timestamp_seconds") == now
    assert value(metrics, "config_last_reload_successful") == 1
    assert value(metrics, "evidence_write_successful") == 1
    assert value(metrics, "config_last_reload_timestamp_seconds") == now
    assert value(metrics, "litestream_up") == 1
    assert value(metrics, "scratch_free_bytes") == 10**12


def test_evidence_that_cannot_be_written_shows(house: House) -> None:
    lost = Metrics(house.answers, litestream_version="v0.5.17", sqlite_version="3.54.1", kept=lambda: False)
    assert value(lost, "evidence_write_successful") == 0


def test_the_histogram_counts_each_drill_once(metrics: Metrics) -> None:
    for took in (0.5, 1.0, 3.0, 5000.0):
        metrics.drilled("app", replace(drill(), started_at=NOW - timedelta(seconds=took)))
    buckets = {
        each.labels["le"]: each.value
        for each in samples(metrics) if each.name == f"{PREFIX}drill_duration_seconds_bucket"
    }  # fmt: skip
    assert (buckets["1.0"], buckets["5.0"], buckets["3600.0"], buckets["+Inf"]) == (2, 3, 3, 4)
    assert value(metrics, "drill_duration_seconds_sum") == 5004.5


def test_check_status_is_one_hot(house: House, metrics: Metrics) -> None:
    house.clock.go(timedelta(minutes=3))
    found = [each for each in samples(metrics) if each.name == f"{PREFIX}check_status"]
    by_check: dict[str, dict[str, float]] = {}
    for each in found:
        by_check.setdefault(each.labels["check"], {})[each.labels["status"]] = each.value
    assert by_check["lag"] == {"pass": 0, "warn": 0, "unknown": 0, "fail": 1}
    for statuses in by_check.values():
        assert set(statuses) == set(Status)
        assert sum(statuses.values()) == 1


def test_every_check_that_does_not_pass_says_why_and_no_other(house: House, metrics: Metrics) -> None:
    assert [each for each in samples(metrics) if each.name == f"{PREFIX}check_reason"] == []
    house.clock.go(timedelta(minutes=3))
    reasons = {
        (each.labels["check"], each.labels["reason"])
        for each in samples(metrics) if each.name == f"{PREFIX}check_reason"
    }  # fmt: skip
    assert reasons == {("litestream", "litestream_down"), ("lag", "lagging")}


def test_a_fact_nobody_has_is_absent_and_never_nought(house: House, metrics: Metrics) -> None:
    house.add("new")
    house.room = None
    found = samples(metrics)
    about_new = {each.name.removeprefix(PREFIX) for each in labelled(found, "new")}
    assert about_new == {"ready", "check_status", "check_reason", "drills_total", "drills_skipped_total"}
    assert value(metrics, "ready", db="new") == 0
    absent = ("drills_due", "loop_turned_timestamp_seconds", "scratch_free_bytes")
    assert {value(metrics, name) for name in absent} == {None}


def test_a_database_that_left_takes_all_its_series_with_it(house: House, metrics: Metrics) -> None:
    house.add("gone", healthy())
    metrics.looked("gone", "ok")
    metrics.drilled("gone", replace(drill(), outcome=Outcome.FAILED, reason="db_corrupt"))
    assert len(labelled(samples(metrics), "gone")) > 20
    house.remove("gone")
    assert labelled(samples(metrics), "gone") == []
    metrics.due(0)
    house.add("gone", healthy())
    assert value(metrics, "drills_total", db="gone", outcome="failed") == 0
    assert value(metrics, "looks_total", db="gone", result="ok") is None
    assert value(metrics, "drills_total", db="app", outcome="failed") == 0


def test_an_emptied_replica_keeps_no_old_facts(house: House, metrics: Metrics) -> None:
    known = house.ledger.evidence["/data/app.db"]
    assert known.live is not None
    house.ledger.evidence["/data/app.db"] = known.after_sighting(known.live, Sighting(NOW, LookResult.NO_BACKUP))
    assert value(metrics, "replica_bytes", db="app") == 0
    for name in (
        "replica_position",
        "snapshot_timestamp_seconds",
        "oldest_restorable_timestamp_seconds",
        "lag_seconds",
    ):
        assert value(metrics, name, db="app") is None


def test_litestream_up_is_absent_where_it_cannot_be_asked(house: House, metrics: Metrics) -> None:
    known = house.ledger.evidence["/data/app.db"]
    assert known.claim is not None
    for change, expected in (
        ({"up": False, "error": "refused"}, 0),
        ({"source": ClaimSource.NONE, "up": False}, None),
        ({"read_at": NOW - timedelta(minutes=5)}, None),
    ):
        house.ledger.evidence["/data/app.db"] = replace(known, claim=replace(known.claim, **change))
        assert value(metrics, "litestream_up") == expected


def test_a_scrape_reads_and_changes_nothing(house: House, metrics: Metrics) -> None:
    before = (dict(house.ledger.evidence), house.desk.queued(), house.made)
    assert metrics.render("")[0].splitlines()[:40] == metrics.render("")[0].splitlines()[:40]
    assert (dict(house.ledger.evidence), house.desk.queued(), house.made) == before


def test_names_in_no_encoding_and_with_every_quote_stay_two_and_valid(house: House, metrics: Metrics) -> None:
    for name in ("a\udcfe", "a\udcff", 'q"\\\n'):
        house.add(name, healthy())
    names = {each.labels["db"] for each in samples(metrics) if each.name == f"{PREFIX}ready"}
    assert names == {"app", "a\\udcfe", "a\\udcff", 'q"\\\n'}


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text", openmetrics.exposition.CONTENT_TYPE_LATEST),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8"),
        ("application/openmetrics-text; version=new", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
def test_the_accept_header_chooses(metrics: Metrics, accept: str, content_type: str) -> None:
    body, found = metrics.render(accept)
    assert found == content_type
    parse = text_string_to_metric_families if "openmetrics" in found else parser.text_string_to_metric_families
    assert len(list(parse(body.decode()))) > 30
    assert body.endswith(b"# EOF\n") == ("openmetrics" in found)


def test_promtool_finds_nothing_to_say(metrics: Metrics) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: apt-get install -y prometheus"
    body, _ = busy(metrics).render("")
    done = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    broken = body.replace(b"# HELP litestream_sidecar_ready", b"# HELP litestream_sidecar_other")
    wrong = subprocess.run([promtool, "check", "metrics"], input=broken, capture_output=True, check=False)
    assert wrong.returncode != 0


def test_decisions_of_deploy_gates_are_counted_and_those_that_never_were_are_zero(house: House) -> None:
    counts = {"passed": 3, "overridden": 1}
    metrics = Metrics(
        house.answers, litestream_version="0.5.17", sqlite_version="3.54.1", decisions=lambda: counts
    )  # fmt: skip
    words = ("passed", "overridden", "refused", "unknown")
    assert [value(metrics, "gate_decisions_total", decision=each) for each in words] == [3, 1, 0, 0]
    counts["refused"] = 1
    assert value(metrics, "gate_decisions_total", decision="refused") == 1
