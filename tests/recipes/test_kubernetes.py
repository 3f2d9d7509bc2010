"""Kubernetes and Argo CD: the manifests against the schemas, and their containers' commands against a real daemon and Litestream."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.e2e.stage import Sidecar
from tests.faces.commands import Ran
from tests.recipes.place import Place
from tests.recipes.snippets import settled, snippets
from tests.recipes.tools import need

JOB, SET = snippets("Kubernetes", "yaml")
(HOOK,) = snippets("Argo CD", "yaml")
MANIFESTS = {"job": JOB, "set": SET, "hook": HOOK}
TOKEN = "a-token-of-the-daemon"
NOT_IN_A_CONTAINER = {
    "LITESTREAM_SIDECAR_LITESTREAM_CONFIG",
    "LITESTREAM_SIDECAR_CONFIG",
    "LITESTREAM_SIDECAR_STATE_DIR",
}


@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_the_manifests_are_kubernetes_own(shop: Place, version: str) -> None:
    for name, text in MANIFESTS.items():
        (shop.folder / f"{name}.yaml").write_text(text)
    files = [shop.folder / f"{name}.yaml" for name in MANIFESTS]
    ran = shop.run("kubernetes-validate", "-k", version, "--strict", *files)
    assert ran.code == 0, ran
    assert "WARN" not in ran.out + ran.err, ran


def test_the_check_of_manifests_sees_a_misspelt_key(shop: Place) -> None:
    file = shop.folder / "job.yaml"
    file.write_text(JOB.replace("backoffLimit", "backofLimit"))
    assert shop.run("kubernetes-validate", "-k", "1.29", "--strict", file).code == 1


@pytest.mark.parametrize("name", ["job", "set"])
def test_kubectl_reads_the_manifests(shop: Place, name: str) -> None:
    (shop.folder / "one.yaml").write_text(MANIFESTS[name])
    (shop.folder / "kustomization.yaml").write_text("resources: [one.yaml]\nnamespace: shop\n")
    ran = shop.run(need("kubectl"), "kustomize", shop.folder)
    assert ran.code == 0, ran
    assert yaml.safe_load(ran.out)["metadata"] == {
        "name": yaml.safe_load(MANIFESTS[name])["metadata"]["name"],
        "namespace": "shop",
    }


def test_argo_cd_runs_the_same_job_before_it_syncs() -> None:
    job, hook = yaml.safe_load(JOB), yaml.safe_load(HOOK)
    annotations = hook["metadata"]["annotations"]
    assert annotations["argocd.argoproj.io/hook"] == "PreSync"
    assert annotations["argocd.argoproj.io/hook-delete-policy"] in {"BeforeHookCreation", "HookSucceeded", "HookFailed"}
    assert hook["spec"]["backoffLimit"] == 0
    assert containers(hook)[0]["args"] == containers(job)[0]["args"]


def containers(manifest: dict[str, Any], kind: str = "containers") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = manifest["spec"]["template"]["spec"][kind]
    return found


def run_container(place: Place, container: dict[str, Any]) -> Ran:
    """Its command and arguments, with no configuration but what they say and what is mounted."""
    mounted = {each["mountPath"] for each in container.get("volumeMounts", ())}
    words = [*container["command"], *container.get("args", ())]
    for path in re.findall(r"(?<!\S)/(?:run|tmp|data|etc)\S*", " ".join(words)):
        assert any(path == each or path.startswith(f"{each}/") for each in mounted), f"{path} is on no volume"
    env = dict.fromkeys(NOT_IN_A_CONTAINER, "")
    return place.run(*words, env=env)


def moved(text: str, place: Place) -> str:
    """The manifest with its volumes in this test's folder, which the daemon's paths have not moved to yet."""
    return text.replace("/tmp", f"{place.folder}/tmp").replace("/run/secrets/sidecar", f"{place.folder}/secret")


@pytest.mark.parametrize("name", ["job", "hook"])
def test_the_job_asks_the_daemon_of_the_running_pod(shop: Place, daemon: Sidecar, name: str) -> None:
    (shop.folder / "secret").mkdir()
    (shop.folder / "tmp").mkdir()
    (shop.folder / "secret" / "token").write_text(TOKEN)
    shop.sidecar_yml.write_text(shop.sidecar_yml.read_text() + f"http: {{token-file: {shop.folder}/secret/token}}\n")
    daemon.start()
    (container,) = containers(yaml.safe_load(settled(moved(MANIFESTS[name], shop), shop, daemon.url)))
    ran = run_container(shop, container)
    assert ran.code == 0, ran
    shop.break_backup()
    ran = run_container(shop, container)
    assert ran.code == 1, ran
    assert "REFUSED" in ran.out
    (shop.folder / "secret" / "token").write_text("of somebody else")
    assert run_container(shop, container).code not in {0, 1}


@pytest.mark.parametrize("broken", [False, True], ids=["healthy", "broken"])
def test_the_init_container_migrates_behind_the_gate(shop: Place, *, broken: bool) -> None:
    """Litestream runs already, as a native sidecar; the app does not yet."""
    assert shop.app is not None
    shop.app.stop()
    if broken:
        shop.break_backup()
    litestream, migrate = containers(yaml.safe_load(settled(SET, shop)), "initContainers")
    assert litestream["restartPolicy"] == "Always"
    assert litestream["args"] == ["replicate"]
    migrate["volumeMounts"] += [{"mountPath": str(shop.folder)}]
    ran = run_container(shop, migrate)
    assert ran.code == (1 if broken else 0), ran
    shop.stop()
    shop.start()
    assert shop.version() == (1 if broken else 2)
