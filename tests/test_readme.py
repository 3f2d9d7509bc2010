"""README.md as a newcomer's road: its order, its links, its picture, and that every block in it is run by a test.

`RUN` names for each fenced block of README.md and systemd/README.md the test that runs it. There is no block without an
entry, none that is not run, and no entry without a block or a test.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from sidecar import cli
from tests.ops.monitoring import anchor
from tests.recipes.snippets import README, ROOT, blocks

UNITS = ROOT / "systemd" / "README.md"
TEXT = README.read_text()
PROSE = re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL)
SVG = "{http://www.w3.org/2000/svg}"

ROAD = [
    "Two commands", "Ten minutes with systemd", "Ten minutes with Kubernetes", "Settings", "Commands",
    "Checks and what each cannot see", "Metrics", "Alerts", "Deploy recipes", "Comparison with what people do today",
    "Security", "Decisions", "Changes",
]  # fmt: skip

SHELL, KUBERNETES, COMMANDS = (f"tests/recipes/test_{each}.py::test_" for each in ("shell", "kubernetes", "commands"))
TEN, COMPARISON, BOOTED = (
    "tests/recipes/test_ten_minutes.py::test_", "tests/recipes/test_comparison.py::test_",
    "tests/ops/test_systemd_booted.py::test_",
)  # fmt: skip
HERE = "tests/test_readme_blocks.py::test_"
SHIPPED = "tests/test_shipped.py::test_"
UNIT_LINES = f"{HERE}the_short_road_is_the_long_ones_own_lines"

# File, heading and number below that heading: who runs it.
RUN: dict[tuple[Path, str, int], tuple[str, ...]] = {
    (README, "Two commands", 0): (f"{HERE}the_first_command_from_nothing_to_a_ready_answer",),
    # This is what runs the tests, this one among them: here or in .ci/run, which calls it.
    (README, "Two commands", 1): (f"{SHIPPED}readmes_two_commands_are_the_ones_that_are_run",),
    (README, "Ten minutes with systemd", 0): (f"{HERE}the_program_in_a_place_of_its_own", UNIT_LINES),
    (README, "Ten minutes with systemd", 1): (UNIT_LINES, f"{BOOTED}ten_minutes_as_the_readme_has_them"),
    (README, "Ten minutes with systemd", 2): (UNIT_LINES, f"{BOOTED}ten_minutes_as_the_readme_has_them"),
    # The words of a build are held against the one that tests/ops/podman.py does for all of test_pod.py.
    (README, "Ten minutes with Kubernetes", 0): (
        f"{TEN}the_image_is_built_as_the_containerfile_says_and_as_the_manifests_want_it",
        "tests/ops/test_pod.py::test_the_image_says_what_it_is",
    ),
    **{(README, "Ten minutes with Kubernetes", each): (f"{TEN}ten_minutes_with_kubernetes",) for each in range(1, 6)},
    (README, "Settings", 0): (f"{SHIPPED}every_setting_is_documented_with_its_default",),
    (README, "Commands", 0): (f"{COMMANDS}beside_your_own_app",),
    (README, "Commands", 1): (f"{COMMANDS}around_a_migration",),
    (README, "A deploy, from the gate to the way back", 0): (f"{COMMANDS}a_deploy_from_the_gate_to_the_way_back",),
    (README, "Rehearse it first", 0): (
        f"{COMMANDS}rehearsals",
        "tests/recipes/test_frameworks.py::test_a_rehearsal_tells_good_from_bad_and_leaves_production_alone",
    ),
    (README, "The way back", 0): (f"{COMMANDS}a_deploy_from_the_gate_to_the_way_back",),
    (README, "Alerts", 0): ("tests/ops/test_rules.py::test_the_documented_configuration_is_one",),
    (README, "Alerts", 1): ("tests/ops/test_rules.py::test_links_to_an_address_of_ones_own_as_the_readme_has_it",),
    (README, "What you can promise", 0): (
        "tests/ops/test_dashboard.py::test_what_the_documentation_asks_prometheus_is_answered",
    ),
    (README, "Plain shell", 0): (f"{SHELL}the_shell_waits_while_the_answer_is_no_and_goes_on_when_it_is_yes",),
    (README, "Plain shell", 1): (f"{SHELL}the_gate_in_a_shell",),
    (README, "Plain shell", 2): (f"{SHELL}the_gate_in_a_shell",),
    (README, "A drill on demand", 0): (f"{SHELL}a_drill_is_asked_for_and_waited_for",),
    **{
        (README, "systemd", each): (
            "tests/recipes/test_systemd.py::test_systemd_migrates_behind_the_gate_and_starts_the_new_release",
        )
        for each in range(2)
    },
    (README, "Kubernetes", 0): (f"{KUBERNETES}the_job_asks_the_daemon_of_the_running_pod",),
    (README, "Kubernetes", 1): (f"{KUBERNETES}the_init_container_migrates_behind_the_gate",),
    (README, "Argo CD", 0): (f"{KUBERNETES}the_job_asks_the_daemon_of_the_running_pod",),
    (README, "Kamal", 0): (f"{SHELL}kamals_hook_asks_on_every_host",),
    (README, "GitHub Actions", 0): (f"{SHELL}github_actions",),
    **{(README, "Fly, Docker", each): (f"{SHELL}a_container_starts_behind_the_gate",) for each in range(2)},
    (README, "Ansible", 0): ("tests/recipes/test_ansible.py::test_ansible_waits_for_the_proof_and_migrates",),
    **{
        (README, "What they are", each): (f"{COMPARISON}all_of_them_see_a_backup_file_that_is_damaged",)
        for each in range(3)
    },
    (README, "What they are", 3): (f"{COMPARISON}dot_backup_copies_damage_and_says_nothing",),
    (README, "What they are", 4): (
        f"{COMPARISON}the_heartbeat_of_an_idle_database_goes_on_when_its_replica_is_deleted",
    ),
    (README, "What to give it", 0): (
        "tests/recipes/test_least_privilege.py::test_the_right_to_list_and_read_the_store_is_enough",
    ),
    (README, "Development", 0): (f"{HERE}the_house_is_drawn_as_it_stands",),
    (UNITS, "Ten minutes with systemd", 0): (f"{HERE}the_program_in_a_place_of_its_own",),
    **{
        (UNITS, "Ten minutes with systemd", each): (f"{BOOTED}ten_minutes_as_the_readme_has_them",)
        for each in range(1, 5)
    },
}  # fmt: skip

# Commands inside sentences that name a program of the checkout or of the cluster.
SPOKEN: dict[str, str] = {
    ".ci/run": f"{SHIPPED}readmes_two_commands_are_the_ones_that_are_run",
    ".ci/test": f"{SHIPPED}readmes_two_commands_are_the_ones_that_are_run",
    "kubectl apply -k k8s/monitoring": "tests/ops/test_rules.py::test_kustomize_brings_rules_scrape_and_dashboard",
    "kubectl apply -k k8s/verifier": "tests/ops/test_manifests.py::test_a_verifier_has_the_bucket_and_nothing_of_the_app",
    "kubectl apply -k": "tests/ops/test_rules.py::test_links_to_an_address_of_ones_own_as_the_readme_has_it",
    "kubectl apply -f gate.yaml": f"{KUBERNETES}kubectl_reads_the_manifests",
    "promtool test rules k8s/monitoring/rules_test.yml k8s/monitoring/rules_day_test.yml": "tests/ops/test_rules.py::test_every_case_holds",
    "python -m k8s.monitoring.generate": "tests/ops/test_rules.py::test_the_operators_resource_is_made_of_the_rules_file",
    "python -m tests.bench.app": f"{COMMANDS}the_scripts_that_print_figures_run",
    "python -m tests.bench.http": f"{COMMANDS}the_scripts_that_print_figures_run",
    "python -m tests.bench.answers": f"{COMMANDS}the_scripts_that_print_figures_run",
    "python -m tests.bench.fleet": f"{COMMANDS}the_scripts_that_print_figures_run",
    "python -m tests.bench.month": f"{COMMANDS}the_scripts_that_print_figures_run",
    "python -m tests.bench.listing": f"{COMMANDS}the_scripts_that_print_figures_run",
    "python -m tests.bench.skipped": f"{COMMANDS}the_scripts_that_print_figures_run",
    "python -m tests.bench.forecast": f"{COMMANDS}the_scripts_that_print_figures_run",
    "python -m tests.bench.by_change": f"{COMMANDS}the_scripts_that_print_figures_run",
    "python -m tests.bench.pieces": f"{COMMANDS}the_scripts_that_print_figures_run",
    "python -m tests.bench.soak": "tests/e2e/test_soak.py::test_every_answer_is_what_the_model_says_and_nothing_grows",
    "python -m tests.bench.drill": f"{COMMANDS}the_scripts_that_print_figures_run",
    "python -m tests.bench.parity": f"{COMMANDS}the_scripts_that_print_figures_run",
    "python -m tests.bench.rest": f"{COMMANDS}the_scripts_that_print_figures_run",
    "python -m tests.ops.draw": "tests/ops/test_dashboard.py::test_it_can_be_drawn",
    "journalctl -u app-migrate": "tests/recipes/test_systemd.py::test_systemd_refuses_and_the_old_release_goes_on",
    "litestream restore -integrity-check": f"{COMPARISON}litestreams_check_passes_over_a_stale_wal_and_the_content_is_wrong",
    "litestream restore -integrity-check quick": "tests/faces/test_selftest.py::test_every_fault_turns_red_for_its_reason_and_green_again",
    "mypy --strict": f"{HERE}what_a_change_must_pass_is_what_ci_runs",
}
PROGRAMS = r"\.ci/|kubectl |promtool |amtool |python3? |journalctl |systemctl |litestream [a-z]+ |mypy |podman |docker [a-z]+ |pip "


@cache
def functions(file: Path) -> frozenset[str]:
    """The tests that a file defines at its top."""
    return frozenset(each.name for each in ast.parse(file.read_text()).body if isinstance(each, ast.FunctionDef))


def there_is(test: str) -> bool:
    file, _, name = test.partition("::")
    return name in functions(ROOT / file)


def headings(file: Path) -> list[str]:
    """The anchors of a file's headings, as GitHub makes them: a second one of the same name gets -1."""
    text = re.sub(r"^```.*?^```$", "", file.read_text(), flags=re.MULTILINE | re.DOTALL)
    seen: Counter[str] = Counter()
    found = []
    for title in re.findall(r"^#{1,6} (.+)$", text, re.MULTILINE):
        name = anchor(title)
        found.append(name if not seen[name] else f"{name}-{seen[name]}")
        seen[name] += 1
    return found


# Every block is run


def test_every_block_stands_in_the_register_and_nothing_else_does() -> None:
    there = {(file, each.heading, each.number) for file in (README, UNITS) for each in blocks(file)}
    assert there == set(RUN)


def test_who_is_named_there_is_a_test() -> None:
    for where, tests in (*RUN.items(), *((each, (test,)) for each, test in SPOKEN.items())):
        assert tests
        assert all(there_is(test) for test in tests), where


def test_a_register_that_names_nobody_would_be_seen() -> None:
    assert not there_is(f"{HERE}of_nothing")


def test_commands_inside_sentences_stand_in_the_register() -> None:
    found = set(re.findall(rf"`((?:{PROGRAMS})[^`\n]*)`", PROSE)) | set(re.findall(r"`(\.ci/\w+)`", PROSE))
    assert found == set(SPOKEN)


def test_our_commands_inside_sentences_are_understood() -> None:
    """With the options that there are; test_commands.py runs those that are whole."""
    found = re.findall(r"`(?:litestream-sidecar )?([a-z]+)((?: [^`\n]*)?)`", PROSE)
    spoken = [(name, rest) for name, rest in found if name in cli.cli.commands]
    assert len(spoken) > 40
    for name, rest in spoken:
        known = {opt for each in cli.cli.commands[name].params for opt in each.opts}
        given = set(re.findall(r"(?<!\S)--[a-z][a-z-]*", rest.partition(" -- ")[0]))
        assert given <= known, (name, rest)


# The road


def test_the_road_goes_from_the_first_minute_to_the_changes() -> None:
    assert re.findall(r"^## (.+)$", PROSE, re.MULTILINE) == ROAD
    (line,) = re.findall(r"^The road: (.+?)\n\n", TEXT, re.MULTILINE | re.DOTALL)
    assert re.findall(r"\]\(#([^)]+)\)", line) == [anchor(each) for each in ROAD]


def test_it_opens_with_three_sentences_and_one_picture() -> None:
    opening = TEXT.partition("\n## ")[0]
    paragraphs = opening.split("\n\n")
    said = next(each for each in paragraphs if each.startswith("Litestream"))
    assert len(re.findall(r"[.:!?](?=\s|$)", said.replace(": yes", ", yes"))) == 3
    assert opening.count("![") == 1


def test_every_link_leads_somewhere() -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", PROSE)
    assert len(targets) > 30
    here = set(headings(README))
    for each in targets:
        if each.startswith("#"):
            assert each[1:] in here, each
        elif not each.startswith("https://"):
            assert (ROOT / each).exists(), each


def test_no_two_headings_share_an_anchor() -> None:
    """A runbook's link would lead to the other one."""
    assert [each for each, times in Counter(headings(README)).items() if times > 1] == []
    assert not [each for each in headings(README) if re.search(r"-\d$", each)]


# The picture


@pytest.fixture
def picture() -> ET.Element:
    (alt, path), *_ = re.findall(r"!\[([^\]]+)\]\(([^)]+\.svg)\)", TEXT)
    assert len(alt) > 200
    root = ET.fromstring((ROOT / path).read_text())  # our own file
    assert root.tag == f"{SVG}svg"
    return root


def test_the_picture_says_in_words_what_it_shows(picture: ET.Element) -> None:
    alt = re.findall(r"!\[([^\]]+)\]", TEXT)[0]
    texts = [(each.text or "").strip() for each in picture.iter(f"{SVG}text")]
    (title,), (description,) = ([each.text or "" for each in picture.iter(f"{SVG}{tag}")] for tag in ("title", "desc"))
    assert title
    for each in ("SQLite", "Litestream", "replica", "quick_check", "/ready", "/metrics", "Prometheus", "deploy script"):
        for told in (" ".join(texts), " ".join(description.split()), alt):
            assert each in told, each


def test_the_picture_is_readable_on_any_background_and_asks_nobody(picture: ET.Element) -> None:
    (style,) = (each.text or "" for each in picture.iter(f"{SVG}style"))
    panel = next(picture.iter(f"{SVG}rect"))
    assert panel.get("class") == "panel", "drawn first, below everything"
    assert re.search(r"\.panel \{ fill: #fff", style)
    assert "@media (prefers-color-scheme: dark)" in style
    text = ET.tostring(picture, encoding="unicode")
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|<script|@import|href=", text)
