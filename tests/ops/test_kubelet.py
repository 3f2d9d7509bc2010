"""That `tests/ops/kubelet/run` holds together, without the minutes that it takes: it runs by hand, and must not be found broken then."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from sidecar.core.units import size
from tests.ops.kubelet import cluster, config, faults, kube, scenes
from tests.ops.pod import one, rendered
from tests.ops.podman import K8S
from tests.recipes.tools import need

HERE = Path(__file__).with_name("kubelet")
SCRIPTS = ("build", "inside", "run")


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_can_be_started(name: str) -> None:
    script = HERE / name
    assert script.stat().st_mode & 0o111 == 0o111
    done = subprocess.run([need("bash"), "-n", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "set -euo pipefail" in script.read_text()


def test_a_program_that_is_used_is_installed() -> None:
    run = (HERE / "run").read_text()
    table = run[run.index("packages=(") : run.index("\n)\n")]
    installed = {Path(each).name for each in re.findall(r"\[([^]]+)\]=", table)}
    used = {program for file in HERE.glob("*.py") for program in re.findall(r'need\("([^"]+)"\)', file.read_text())}
    assert used <= installed
    assert {"etcd", "containerd", "kubectl"} <= used
    for name in ("unshare", "catatonit", "ip", "go"):
        assert name in installed


def test_what_is_built_is_what_is_started() -> None:
    built = re.search(r"^programs=\((.*)\)$", (HERE / "build").read_text(), re.MULTILINE)
    assert built is not None
    started = {Path(str(words[0])) for words in cluster.parts(Path("/programs"), need="/usr/bin/{}".format).values()}
    assert {each.name for each in started if each.parent == Path("/programs")} == set(built[1].split())


@pytest.mark.parametrize("module", [scenes, faults])
def test_every_scene_is_played(module: ModuleType) -> None:
    """A scene is what takes nothing and says what it saw."""
    played = {each.__name__ for each in (*scenes.GOOD, *faults.BAD)}
    tree = ast.parse(inspect.getsource(module))
    found = {
        each.name for each in tree.body if isinstance(each, ast.FunctionDef)
        and not each.args.args and isinstance(each.returns, ast.Name) and each.returns.id == "str"
    }  # fmt: skip
    assert found
    assert found <= played


def test_the_cluster_is_configured_in_what_its_parts_read() -> None:
    for name, text in config.FILES.items():
        if name.endswith((".yaml", "kubeconfig")):
            assert yaml.safe_load(text)["kind"]
    assert json.loads(config.FILES["cni/lab.conflist"])["plugins"]
    assert config.ADDRESS in (HERE / "inside").read_text()


def test_each_claim_gets_a_volume_that_is_large_enough(tmp_path: Path) -> None:
    workload = one(rendered(K8S / scenes.OVERLAY), "StatefulSet")
    claims = {f"{each['metadata']['name']}-{kube.POD}": each for each in workload["spec"]["volumeClaimTemplates"]}
    text = inspect.getsource(scenes.it_is_rolled_out)
    for name, claim in claims.items():
        assert f'"{name}"' in text
        volume = yaml.safe_load(config.volume(name, 1, below=tmp_path))
        assert volume["spec"]["claimRef"]["name"] == name
        asked, there = claim["spec"]["resources"]["requests"]["storage"], volume["spec"]["capacity"]["storage"]
        assert size(f"{asked}B") <= size(f"{there}B")
        assert Path(volume["spec"]["local"]["path"]).is_dir()


def test_the_comments_hold_the_commands_that_are_run() -> None:
    plain = scenes.documented(K8S / "components" / "plain-containers" / "kustomization.yaml")
    assert plain.count(scenes.APPLY) == 1
    assert ["gate" in plain[1], "postcheck" in plain[3]] == [True, True]
    gate = scenes.documented(K8S / "gate" / "kustomization.yaml")
    assert "kubectl apply -k k8s/gate" in gate[0]
    assert gate[-1].startswith("kubectl wait --for=condition=complete")
    for line in gate:  # a Job that is refused never becomes complete: nobody must wait for that
        assert "complete" not in line or "--timeout=10s" in line


def test_the_pod_is_named_as_the_stateful_set_names_it() -> None:
    workload = one(rendered(K8S / scenes.OVERLAY), "StatefulSet")
    assert f"{workload['metadata']['name']}-0" == kube.POD
    assert {each["name"] for each in workload["spec"]["template"]["spec"]["containers"]} == set(scenes.CONTAINERS)
    probe = next(
        each["livenessProbe"] for each in workload["spec"]["template"]["spec"]["containers"] if "livenessProbe" in each
    )
    assert probe["periodSeconds"] * probe["failureThreshold"] < faults.PROBES_GIVE_UP


def test_a_watch_is_read_document_by_document() -> None:
    assert list(kube.documents('{"a": 1}\n{\n "b": [2]}\n')) == [{"a": 1}, {"b": [2]}]
    assert list(kube.documents("\n")) == []


def test_the_seconds_out_of_service_are_counted() -> None:
    def version(status: str, at: str) -> dict[str, object]:
        return {"status": {"conditions": [{"type": "Ready", "status": status, "lastTransitionTime": at}]}}

    seen = [version("True", "2026-01-01T00:00:00Z"), version("False", "2026-01-01T00:01:00Z")]
    seen += [version("False", "2026-01-01T00:01:00Z"), version("True", "2026-01-01T00:01:04Z")]
    assert faults.unready_for(seen) == 4
