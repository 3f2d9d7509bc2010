"""The manifests as kustomize renders them, and a Pod of them as podman 4.3 can play it.

What podman 4.3 cannot do, and what is done about it (all of it in `playable`; nothing else of the manifest is changed):

- StatefulSets: the Pod is made from the template, with the label and the claims that the controller would give it.
- Native sidecars: they become plain containers. Init containers that end are left out (playing them hangs); a test runs them by
  `Pod.init`, with the same image, environment and volumes, in the container that has them.
- Probes: a Pod's become `curl` inside the image. They are left out, the test asks as the kubelet does, and the image's own
  HEALTHCHECK stays.
- Ports: they ask for a bridge to publish them on. They only inform, so they are left out.
- Secret volumes: it writes their base64 into the files. They become ConfigMaps.
- fsGroup: ignored. A volume belongs to the first user who mounts it, and all containers have one.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tests.faces.commands import Ran
from tests.litestreams import environment
from tests.ops.podman import K8S, podman
from tests.recipes.tools import need

Document = dict[str, Any]
REVISION = "controller-revision-hash"
ADDRESS = "10.77.0.1"  # the Pod's own address: nothing that listens on loopback only is heard there
TOKEN = "of-the-test"


def rendered(folder: Path) -> list[Document]:
    """What `kubectl kustomize` makes of a folder."""
    done = subprocess.run(
        [need("kubectl"), "kustomize", str(folder)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def one(documents: Iterable[Document], kind: str, name: str | None = None) -> Document:
    (found,) = (
        each for each in documents if each["kind"] == kind and (name is None or each["metadata"]["name"] == name)
    )
    return found


def in_seconds(folder: Path, overlay: str, files: Mapping[str, str]) -> list[Document]:
    """An overlay of ours on one of the project's, as a user would write it, with other files in the ConfigMap."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    generator = {"name": "app-backup", "behavior": "merge", "files": sorted(files)}
    kustomization = {"resources": [os.path.relpath(K8S / overlay, folder)], "configMapGenerator": [generator]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return rendered(folder)


def playable(documents: list[Document], name: str, revision: str, secrets: Mapping[str, Mapping[str, str]]) -> str:
    """A Pod that podman plays, with what it needs; everything is named for it."""
    workload = copy.deepcopy(one(documents, "StatefulSet"))
    template, claims = workload["spec"]["template"], workload["spec"]["volumeClaimTemplates"]
    spec = template["spec"]
    running = [each for each in spec.pop("initContainers") if each.get("restartPolicy") == "Always"]
    spec["containers"] += running
    for each in spec["containers"]:
        for key in ("restartPolicy", "startupProbe", "livenessProbe", "readinessProbe", "lifecycle", "ports"):
            each.pop(key, None)
    for volume in spec["volumes"]:
        if "secret" in volume:
            volume["configMap"] = {"name": volume.pop("secret")["secretName"]}
        if "configMap" in volume:
            volume["configMap"]["name"] = f"{name}-{volume['configMap']['name']}"
        if "emptyDir" in volume:
            volume["name"] = f"{name}-{volume['name']}"
    for each in spec["containers"]:
        for mount in each["volumeMounts"]:
            if f"{name}-{mount['name']}" in {volume["name"] for volume in spec["volumes"]}:
                mount["name"] = f"{name}-{mount['name']}"
    spec["volumes"] += [
        {"name": each["metadata"]["name"], "persistentVolumeClaim": {"claimName": f"{name}-{each['metadata']['name']}"}}
        for each in claims
    ]
    labels = template["metadata"]["labels"] | {REVISION: revision}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}
    maps = {one(documents, "ConfigMap")["metadata"]["name"]: one(documents, "ConfigMap")["data"], **secrets}
    made = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{name}-{each}"}, "data": dict(data)}
        for each, data in maps.items()
    ]
    return yaml.safe_dump_all([pod, *made])


@dataclass(frozen=True)
class Answer:
    """What an HTTP server in the Pod answered; status 0: nobody did."""

    status: int
    body: str

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass
class Pod:
    """One that plays; `spec` is what the manifest says, untouched."""

    name: str
    documents: list[Document]

    @property
    def spec(self) -> Document:
        found: Document = one(self.documents, "StatefulSet")["spec"]["template"]["spec"]
        return found

    def container(self, name: str) -> Document:
        both = [*self.spec["containers"], *self.spec["initContainers"]]
        return next(each for each in both if each["name"] == name)

    def exec(self, container: str, *words: object, env: Mapping[str, str] | None = None, within: float = 60) -> Ran:
        given = [f"--env={key}={value}" for key, value in (env or {}).items()]
        return podman("exec", *given, f"{self.name}-{container}", *words, code=None, within=within)

    def init(self, name: str, inside: str, revision: str) -> Ran:
        """The command of an init container, in the running container that has what it mounts."""
        asked, there = self.container(name), self.container(inside)
        assert asked["image"] == there["image"]
        assert asked["securityContext"] == there["securityContext"]
        assert {each["mountPath"] for each in asked["volumeMounts"]} <= {
            each["mountPath"] for each in there["volumeMounts"]
        }
        env = {each["name"]: each.get("value", revision) for each in asked.get("env", ())}
        return self.exec(inside, *asked["command"], env=env, within=90)

    def inspect(self, container: str, what: str) -> str:
        return podman("inspect", f"{self.name}-{container}", "--format", f"{{{{{what}}}}}").out.strip()

    @cached_property
    def network(self) -> list[str]:
        """How to run a program of this machine in the Pod's network."""
        pid = self.inspect("sidecar", ".State.Pid")
        inside = [need("nsenter"), "-t", pid, "-n"]
        subprocess.run([*inside, need("ip"), "address", "add", f"{ADDRESS}/32", "dev", "lo"], check=True)
        return inside

    def get(self, path: str, *, port: int = 9810) -> Answer:
        """Ask from outside the containers, by the Pod's address, as the kubelet and Prometheus do."""
        curl = [need("curl"), "-s", "-m", "5", "-w", "\n%{http_code}", f"http://{ADDRESS}:{port}{path}"]
        done = subprocess.run([*self.network, *curl], capture_output=True, text=True, check=False, env=environment())
        body, _, status = done.stdout.rpartition("\n")
        return Answer(int(status or 0), body)

    def stop(self, container: str) -> int:
        """SIGTERM, and SIGKILL after the Pod's grace period; the exit code."""
        grace = self.spec["terminationGracePeriodSeconds"]
        podman("stop", "-t", grace, f"{self.name}-{container}", within=grace + 20)
        return int(self.inspect(container, ".State.ExitCode"))
