"""The alert rules: lint, words, runbooks, and for every alert a case in which it fires and one in which it must not."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from k8s.monitoring.generate import RESERVED, main, prometheusrule
from sidecar.core.finding import Reason
from sidecar.core.policy import Policy
from sidecar.core.units import duration, share
from tests.litestreams import ROOT
from tests.ops.monitoring import (
    DASHBOARD,
    MONITORING,
    RULES,
    RULES_TESTS,
    alerts,
    documentation,
    kebab,
    names_in,
    need,
    promtool,
    recorded_in,
    rules,
    sections,
)
from tests.test_shipped import metric_names

ALERTS = alerts()
TESTS: list[dict[str, Any]] = [yaml.safe_load(each.read_text()) for each in RULES_TESTS]
CASES: list[dict[str, Any]] = [case for each in TESTS for case in each["tests"]]
DAEMON = {
    "SidecarDown", "SidecarAbsent", "SidecarLoopStuck", "SidecarWatchesNothing", "ConfigReloadFailed", "EvidenceNotWritten", "GateOverridden", "NotificationFailed",
    "VerifierDown",
}  # fmt: skip

# Reasons that no alert of their own names.
BY_READY_ONLY = {
    Reason.VERSION_UNKNOWN: "BackupNotReady: the backup may be sound, but a deploy would be blind",
    Reason.VERSION_DIFFERS: "BackupNotReady: the next drill settles it within look-every",
}
BY_AGE = {
    Reason.NEVER_DRILLED: "BackupNeverVerified asks for the absence of a proof",
    Reason.RESTORE_FAILED: "DrillFailed takes every reason of a failed drill",
    Reason.FILE_CORRUPT: "DrillFailed",
    Reason.FILE_MISSING: "DrillFailed",
    Reason.ASSERTION_FAILED: "DrillFailed",
    Reason.SCRATCH_FULL: "the proof's age: BackupNotVerified, and ScratchLow before it",
    Reason.ABORTED: "the proof's age",
    Reason.RACED: "the proof's age",
}
HARMLESS = {
    Reason.NO_SOCKET: "a warning about the set-up, in doctor and /ready",
    Reason.CHAIN_OVERLAP: "a warning in /ready; a compaction may end it",
    Reason.NO_BACKUP: "ReplicaEmpty asks the check snapshot, which then says no_snapshot",
}


def test_promtool_has_nothing_to_say_of_the_rules(tmp_path: Path) -> None:
    inside = tmp_path / "inside.yml"
    inside.write_text(yaml.safe_dump(yaml.safe_load((MONITORING / "prometheusrule.yaml").read_text())["spec"]))
    for file in (RULES, inside):
        done = promtool("check", "rules", "--lint=all", "--lint-fatal", file)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{len(rules())} rules found" in done.stdout
    twice = tmp_path / "twice.yml"
    twice.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [rules()[0], rules()[0]]}]}))
    assert promtool("check", "rules", "--lint=all", "--lint-fatal", twice).returncode != 0


def test_the_operators_resource_is_made_of_the_rules_file() -> None:
    text = (MONITORING / "prometheusrule.yaml").read_text()
    assert text == prometheusrule(), "run: python -m k8s.monitoring.generate"
    document = yaml.safe_load(text)
    assert document["kind"] == "PrometheusRule"
    assert document["spec"] == yaml.safe_load(RULES.read_text())


def test_every_case_holds() -> None:
    done = promtool("test", "rules", *RULES_TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_in_one_case_and_must_not_in_another() -> None:
    fires: defaultdict[str, list[str]] = defaultdict(list)
    silent: defaultdict[str, list[str]] = defaultdict(list)
    for case in CASES:
        for each in case.get("alert_rule_test", []):
            assert case["name"].startswith(each["alertname"]), case["name"]
            (fires if each["exp_alerts"] else silent)[each["alertname"]].append(case["name"])
            for alert in each["exp_alerts"]:
                assert alert["exp_labels"]["severity"] == ALERTS[each["alertname"]]["labels"]["severity"]
                assert set(alert["exp_annotations"]) == {"summary", "description", "runbook_url"}
    assert set(fires) == set(silent) == set(ALERTS)
    assert all(" fires: " in name for names in fires.values() for name in names)
    assert all(" stays silent: " in name for names in silent.values() for name in names)


def test_every_recording_rule_has_a_case() -> None:
    tested = {each["expr"] for case in CASES for each in case.get("promql_expr_test", [])}
    assert tested == {rule["record"] for rule in rules() if "record" in rule}


def mutants() -> dict[str, tuple[str, str]]:
    """Every `for` taken out, and every clause that holds an alert back: (what stands there, what stands there instead)."""
    found = {}
    for name, rule in ALERTS.items():
        text = RULES.read_text()
        block = text[text.index(f"alert: {name}\n") :]
        block = block[: block.index("runbook_url")]
        if "for" in rule:
            found[f"{name} without for"] = (block, re.sub(r"\n +for: .*", "", block))
        for clause in re.findall(r"\n +(?:and|unless|or) (?:on )?.*", block[: block.index("labels:")]):
            found[f"{name} without{clause.strip()[:40]}"] = (block, block.replace(clause, ""))
    return found


@pytest.mark.parametrize("name", mutants())
def test_nothing_in_a_rule_can_be_taken_out_unnoticed(name: str, tmp_path: Path) -> None:
    block, instead = mutants()[name]
    assert block != instead
    (tmp_path / "rules.yml").write_text(RULES.read_text().replace(block, instead))
    files = []
    for number, each in enumerate(TESTS):
        own = [case for case in each["tests"] if case["name"].startswith(f"{name.partition(' ')[0]} ")]
        if own:
            files.append(tmp_path / f"rules_test_{number}.yml")
            files[-1].write_text(yaml.safe_dump(each | {"tests": own}))
    assert promtool("check", "rules", tmp_path / "rules.yml").returncode == 0
    done = promtool("test", "rules", *files)
    assert done.returncode != 0
    assert "FAILED" in done.stdout + done.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_is_wrong_where_and_what_to_do(name: str) -> None:
    rule = ALERTS[name]
    words = rule["annotations"]
    assert set(rule["labels"]) == {"severity"}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(words) == {"summary", "description", "runbook_url"}
    assert ("$labels.db" in words["description"]) == (name not in DAEMON)
    assert re.search(r"\$value|\$labels\.(reason|status|version)", words["description"])
    assert "\n" not in words["description"]
    assert urlsplit(words["runbook_url"]).fragment == f"alert-{kebab(name)}"


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    runbooks = {name: text for name, text in sections().items() if name.startswith("alert-")}
    assert list(runbooks) == [f"alert-{kebab(name)}" for name in ALERTS]
    for name, text in runbooks.items():
        for part in ("**Means:**", "**Look at:**", "**Do:**"):
            assert part in text, (name, part)
    for name, rule in ALERTS.items():
        assert f"`{rule['labels']['severity']}`" in runbooks[f"alert-{kebab(name)}"].splitlines()[0:2][-1], name


def test_every_reason_that_blocks_is_named_by_an_alert() -> None:
    text = " ".join(rule["expr"] for rule in ALERTS.values())
    named = {each for each in Reason if re.search(rf'reason=~?"(?:\w+\|)*{each.value}(?:\|\w+)*"', text)}
    assert named | set(BY_READY_ONLY) | set(BY_AGE) | set(HARMLESS) == set(Reason)
    assert not named & (set(BY_READY_ONLY) | set(BY_AGE) | set(HARMLESS))


def test_thresholds_named_in_words_are_the_policys_defaults() -> None:
    said = re.findall(
        r"policy\.([a-z-]+)\W[^.(]*?\((\w+%?) by default",
        " ".join(r["annotations"]["description"] for r in ALERTS.values()),
    )
    said += re.findall(r"policy\.([a-z-]+), (\w+%?) by default", RULES.read_text())
    assert {key for key, _ in said} >= {
        "drill-max-age",
        "max-lag",
        "max-snapshot-age",
        "max-shrink",
        "database-check-every",
    }
    for key, value in said:
        default = getattr(Policy(), key.replace("-", "_"))
        assert default == (share(value) if key == "max-shrink" else duration(value)), key


def test_only_the_rules_about_targets_need_a_jobs_name() -> None:
    assert {name for name, rule in ALERTS.items() if "job=" in rule["expr"]} == {"SidecarDown", "SidecarAbsent"}


def test_rules_and_documentation_name_metrics_that_exist() -> None:
    known = metric_names()
    assert names_in(RULES.read_text()) <= known
    assert all(names_in(each.read_text()) <= known for each in RULES_TESTS)
    assert names_in(documentation()) <= known | {""}
    records = {rule["record"] for rule in rules() if "record" in rule}
    assert recorded_in(documentation()) == records


def test_the_documented_configuration_is_one(tmp_path: Path) -> None:
    (snippet,) = re.findall(r"^```yaml\n# prometheus\.yml\n(.*?)^```", documentation(), re.MULTILINE | re.DOTALL)
    (tmp_path / "prometheus.yml").write_text(snippet)
    (tmp_path / "rules.yml").write_text(RULES.read_text())
    done = promtool("check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    job = yaml.safe_load(snippet)["scrape_configs"][0]["job_name"]
    assert f'job="{job}"' in ALERTS["SidecarDown"]["expr"]


def test_kustomize_brings_rules_scrape_and_dashboard() -> None:
    done = subprocess.run(
        [need("kubectl"), "kustomize", MONITORING], capture_output=True, text=True, check=True, timeout=30
    )
    found = {each["kind"]: each for each in yaml.safe_load_all(done.stdout)}
    assert set(found) == {"PrometheusRule", "ServiceMonitor", "ConfigMap"}
    assert found["PrometheusRule"]["spec"] == yaml.safe_load(RULES.read_text())
    assert found["ConfigMap"]["data"] == {DASHBOARD.name: DASHBOARD.read_text()}
    assert found["ConfigMap"]["metadata"]["labels"] == {"grafana_dashboard": "1"}


def test_links_to_an_address_of_ones_own_as_the_readme_has_it(tmp_path: Path) -> None:
    (line,) = re.findall(r"^python3 -m k8s\.monitoring\.generate (.+)$", documentation(), re.MULTILINE)
    shipped = {each.name: each.read_bytes() for each in MONITORING.iterdir() if each.is_file()}
    there = tmp_path / "made" / "here"
    words = line.replace("/etc/prometheus/litestream-sidecar", str(there)).split()
    subprocess.run([sys.executable, "-m", "k8s.monitoring.generate", *words], cwd=ROOT, check=True, timeout=30)
    assert {each.name: each.read_bytes() for each in MONITORING.iterdir() if each.is_file()} == shipped
    address = words[words.index("--runbooks") + 1]
    for each in there.iterdir():
        assert each.read_text().replace(f"{address}#", f"{RESERVED}#").encode() == shipped[each.name], each.name
        assert RESERVED not in each.read_text(), each.name
    for name in ("rules.yml", "prometheusrule.yaml", "dashboard.json"):
        assert f"{address}#alert-drill-failed" in (there / name).read_text(), name
    assert promtool("check", "rules", there / "rules.yml").returncode == 0
    subprocess.run(
        [need("amtool"), "check-config", there / "alertmanager.yml"], check=True, capture_output=True, timeout=30
    )
    brought = subprocess.run(
        [need("kubectl"), "kustomize", there], capture_output=True, text=True, check=True, timeout=30
    )
    assert brought.stdout.count(f"{address}#alert-") == RULES.read_text().count(
        "#alert-"
    ) + DASHBOARD.read_text().count("#alert-")


@pytest.mark.parametrize(
    "words",
    [
        ["--runbooks", "https://wiki.example/x"],
        ["--to", "somewhere"],
        ["--runbooks", "wiki.example", "--to", "somewhere"],
        ["--runbooks", "https://wiki.example/#x", "--to", "somewhere"],
        ["--runbooks", "https://wiki.example/{{ x }}", "--to", "somewhere"],
        ["--runbooks", "https://wiki.example/x", "--to", str(MONITORING)],
    ],
)
def test_an_address_that_would_break_a_file_or_what_is_shipped_is_refused(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert list(tmp_path.iterdir()) == []


def test_the_servicemonitor_finds_the_sidecars_service_and_gives_the_job_its_name() -> None:
    monitor = yaml.safe_load((MONITORING / "servicemonitor.yaml").read_text())["spec"]
    services = list(yaml.safe_load_all((MONITORING.parent / "base" / "services.yaml").read_text()))
    wanted = monitor["selector"]["matchLabels"]
    (service,) = [each for each in services if wanted.items() <= each["metadata"]["labels"].items()]
    job = service["metadata"]["labels"][monitor["jobLabel"]]
    assert f'job="{job}"' in ALERTS["SidecarDown"]["expr"]
    assert {each["port"] for each in monitor["endpoints"]} <= {each["name"] for each in service["spec"]["ports"]}
