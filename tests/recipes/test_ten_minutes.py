"""Ten minutes with Kubernetes, line by line, by a `kubectl` that has no cluster: kustomize and the Secrets are the real kubectl's,
and what would run in a Pod is run beside the real daemon and the real Litestream. The same manifests on a real cluster: tests/ops/kubelet.
"""

from __future__ import annotations

import base64
import re
import shlex
import subprocess
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from tests.e2e.stage import Sidecar
from tests.faces.commands import Ran
from tests.recipes.place import Place
from tests.recipes.snippets import ROOT, blocks_below, settled
from tests.recipes.test_kubernetes import containers, moved, run_container
from tests.recipes.tools import need

BUILD, SECRETS, APPLY, GATE, BREAK, MEND = blocks_below("Ten minutes with Kubernetes", "sh")
DONE = Ran(0, "", "")


@dataclass
class Kubectl:
    """What was applied, and what became of it."""

    place: Place
    daemon: Sidecar
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    applied: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    job: Ran | None = None

    def block(self, text: str) -> list[Ran]:
        """Its lines as `sh -e` runs them: what stands behind && only after success; all that was said."""
        said = []
        for line in text.splitlines():
            for each in line.split(" && "):
                ran = self.line(each)
                said.append(ran)
                if ran.code != 0:
                    return said
        return said

    def line(self, line: str) -> Ran:
        words = shlex.split(line)
        assert words[0] == "kubectl", line
        if words[1:3] == ["create", "secret"]:
            return self.create(line)
        return {
            "apply": self.apply, "exec": self.exec, "delete": self.delete, "wait": self.wait, "logs": self.logs, "rollout": self.rollout,
        }[words[1]](words[2:])  # fmt: skip

    def create(self, line: str) -> Ran:
        """A Secret, as the real kubectl makes it of these words."""
        ran = self.place.run("sh", "-c", line.replace("kubectl", need("kubectl"), 1) + " --dry-run=client -o yaml")
        assert ran.code == 0, ran
        made = yaml.safe_load(ran.out)
        self.secrets[made["metadata"]["name"]] = {
            key: base64.b64decode(value).decode() for key, value in made["data"].items()
        }
        return ran

    def apply(self, words: list[str]) -> Ran:
        option, folder = words
        assert option == "-k"
        done = subprocess.run(
            [need("kubectl"), "kustomize", str(ROOT / folder)], capture_output=True, text=True, check=True, timeout=30
        )
        documents = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(done.stdout)}
        for each in documents.values():
            assert self.mounted(each) <= self.secrets.keys(), "a Pod waits for ever for a Secret that there is not"
        if ("Job", "app-gate") in documents:
            assert ("Job", "app-gate") not in self.applied, "a Job's template cannot be changed: it has to be deleted"
            self.job = self.run_job(documents["Job", "app-gate"])
        self.applied |= documents
        return DONE

    @staticmethod
    def mounted(document: dict[str, Any]) -> set[str]:
        spec = document.get("spec", {}).get("template", {}).get("spec", {})
        return {each["secret"]["secretName"] for each in spec.get("volumes", ()) if "secret" in each}

    def run_job(self, job: dict[str, Any]) -> Ran:
        text = settled(moved(yaml.safe_dump(job), self.place), self.place, self.daemon.url)
        (container,) = containers(yaml.safe_load(text))
        return run_container(self.place, container)

    def exec(self, words: list[str]) -> Ran:
        pod, option, name, separator, *command = words
        assert (option, separator) == ("-c", "--")
        workload, number = pod.rsplit("-", 1)
        found = self.applied["StatefulSet", workload]
        assert int(number) < found["spec"]["replicas"]
        kinds = [*containers(found), *containers(found, "initContainers")]
        (there,) = (each for each in kinds if each["name"] == name)
        paths = re.findall(r"(?<![\w.])/[a-z]+(?=/)", " ".join(command))
        assert set(paths) <= {each["mountPath"] for each in there["volumeMounts"]}
        settled_words = [each.replace("/replica/app", str(self.place.replica)) for each in command]
        return self.place.run(*settled_words, env=self.place.environment | {"LITESTREAM_SIDECAR_URL": self.daemon.url})

    def delete(self, words: list[str]) -> Ran:
        if words[0] == "job":
            there = self.applied.pop(("Job", words[1]), None)
            assert there or "--ignore-not-found" in words
            self.job = None
            return DONE
        assert words == ["pod", "app-0"]
        self.daemon.stop()  # as its containers end and come back on the same volumes
        self.place.stop()
        self.place.start()
        self.daemon.start()
        return DONE

    def wait(self, words: list[str]) -> Ran:
        what, timeout, job = words
        assert (self.job is not None, job) == (True, "job/app-gate")
        assert timeout.startswith("--timeout=")
        either = what == "--for=jsonpath={.status.conditions[0].status}=True"
        assert either or what == "--for=condition=complete", what
        assert self.job is not None
        return DONE if either or self.job.code == 0 else Ran(1, "", "error: timed out waiting for the condition")

    def logs(self, words: list[str]) -> Ran:
        assert (self.job is not None, words) == (True, ["job/app-gate"])
        assert self.job is not None
        return Ran(0, self.job.out, self.job.err)

    def rollout(self, words: list[str]) -> Ran:
        assert words == ["status", "statefulset/app"]
        assert ("StatefulSet", "app") in self.applied
        self.daemon.until_ready()
        return DONE


@pytest.fixture
def kubectl(shop: Place, daemon: Sidecar) -> Kubectl:
    """A cluster in which nothing is yet."""
    (shop.project / "credentials").write_text("[default]\naws_access_key_id = A\naws_secret_access_key = B\n")
    (shop.folder / "secret").mkdir()
    (shop.folder / "tmp").mkdir()
    shop.sidecar_yml.write_text(shop.sidecar_yml.read_text() + f"http: {{token-file: {shop.folder}/secret/token}}\n")
    made = Kubectl(shop, daemon)
    made.block(SECRETS)
    (shop.folder / "secret" / "token").write_text(made.secrets["app-sidecar-token"]["token"])
    daemon.start()
    return made


def test_ten_minutes_with_kubernetes(kubectl: Kubectl) -> None:
    assert len(kubectl.secrets["app-sidecar-token"]["token"]) == 64
    assert "aws_secret_access_key" in kubectl.secrets["app-s3"]["credentials"]
    applied = kubectl.block(APPLY)
    assert applied[-1].code == 0
    assert applied[-1].out.startswith("READY"), applied[-1]
    *_, waited, said, complete = kubectl.block(GATE)
    assert (waited.code, complete.code) == (0, 0)
    assert said.out.startswith("PASSED"), said
    assert kubectl.block(BREAK)[-1].out.startswith("REFUSED")
    assert kubectl.line(GATE.splitlines()[-1]).code != 0, "the deploy stops here"
    assert kubectl.block(MEND)[-1].out.startswith("READY")


def test_the_gate_is_asked_as_its_manifest_says() -> None:
    """Those lines are run on a real cluster, by tests/ops/kubelet."""
    text = (ROOT / "k8s" / "gate" / "kustomization.yaml").read_text()
    assert re.findall(r"^# {3}(kubectl .*)$", text, re.MULTILINE) == GATE.splitlines()


def test_the_image_is_built_as_the_containerfile_says_and_as_the_manifests_want_it() -> None:
    """tests/ops/podman.py builds it so, on a base of this machine."""
    build, push = BUILD.splitlines()
    assert build in (ROOT / "k8s" / "Containerfile").read_text()
    words = shlex.split(build)
    made = (ROOT / "tests" / "ops" / "podman.py").read_text()
    assert '"build", "--format", "docker"' in made
    assert words[2:4] == ["--format", "docker"]
    assert words[words.index("-f") + 1] == "k8s/Containerfile"
    tag = words[words.index("-t") + 1]
    assert f'IMAGE = "{tag}"' in made
    assert push == f"podman push {tag}"
    assert f"image: {tag}\n" in (ROOT / "k8s" / "base" / "statefulset.yaml").read_text()
