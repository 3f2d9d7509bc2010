"""What the overlay `plain-containers` does on a real cluster while all goes well. Each scene asserts, and says in a line what it saw."""

from __future__ import annotations

import re
import time
from pathlib import Path

import yaml

from tests.litestreams import ROOT, until
from tests.ops.kubelet import config
from tests.ops.kubelet.config import HOME, KUBECONFIG
from tests.ops.kubelet.kube import (
    POD,
    ask,
    exec_in,
    get,
    is_ready,
    kubectl,
    name_service,
    restarts,
    rows,
    shell,
    statuses,
)
from tests.ops.pod import REVISION, TOKEN, Document, in_seconds, one
from tests.ops.podman import K8S

OVERLAY = "overlays/plain-containers"
CONTAINERS = ("app", "litestream", "sidecar")
SIDECAR_YML = (K8S / "base" / "sidecar.yml").read_text()
IN_SECONDS = f"{SIDECAR_YML}\npolicy: {{look-every: 1s, max-lag: 4s}}\nlitestream: {{command-timeout: 10s}}\n"


def manifest() -> list[Document]:
    """The overlay, with other times than a real one has and nothing else changed."""
    return in_seconds(HOME / "run" / "overlay", OVERLAY, {"sidecar.yml": IN_SECONDS})


def a_misspelt_field_is_refused() -> str:
    text = yaml.safe_dump_all(manifest())
    kubectl("apply", "--dry-run=server", "-f", "-", given=text)
    wrong = text.replace("readOnlyRootFilesystem", "readOnlyRootFilesytem")
    refused = kubectl("apply", "--dry-run=server", "-f", "-", given=wrong, code=1)
    assert 'unknown field "readOnlyRootFilesytem"' in refused.err, refused
    assert "statefulset.apps/app created" not in refused.out
    return 'a dry run on the server takes the manifests, and refuses them with "readOnlyRootFilesytem"'


def it_is_rolled_out() -> str:
    kubectl("create", "secret", "generic", "app-sidecar-token", f"--from-literal=token={TOKEN}")
    for claim in ("data-app-0", "replica-app-0"):
        kubectl("apply", "-f", "-", given=config.volume(claim, 1))
    kubectl("apply", "-f", "-", given=yaml.safe_dump_all(manifest()))
    began = time.monotonic()
    kubectl("rollout", "status", "statefulset/app", "--timeout=180s", within=200)
    took = time.monotonic() - began
    assert REVISION in get("pod", POD)["metadata"]["labels"]
    until(lambda: ask("/ready").status == 200, within=90, every=0.5, say="/ready")
    assert ask("/healthz", port=8080).status == 200
    assert set(restarts().values()) == {0}
    return f"`rollout status` after {took:.0f} s: the Pod is ready, /ready says 200, nobody was restarted"


def the_init_containers_came_first_and_in_their_order() -> str:
    said = statuses(get("pod", POD))
    ended = [said[name]["state"]["terminated"] for name in ("restore", "migrate")]
    assert [each["exitCode"] for each in ended] == [0, 0]
    began = [said[name]["state"]["running"]["startedAt"] for name in CONTAINERS]
    # RFC 3339 in UTC sorts as text; to the second.
    assert (
        ended[0]["startedAt"] <= ended[0]["finishedAt"] <= ended[1]["startedAt"] <= ended[1]["finishedAt"] <= min(began)
    )
    return f"restore ended {ended[0]['finishedAt']}, migrate {ended[1]['finishedAt']}, then {', '.join(CONTAINERS)}: {min(began)}"


def files_belong_to_the_group() -> str:
    modes = {
        ("sidecar", "/data"): "0 1000 2775",
        ("sidecar", "/scratch"): "0 1000 2777",
        ("litestream", "/run/litestream"): "0 1000 3777",
        ("litestream", "/replica"): "0 1000 2775",
        ("sidecar", "/run/secrets/sidecar/..data/token"): "0 1000 440",
        ("app", "/data/app.db"): "1000 1000 644",
    }
    seen = {(name, path): exec_in(name, "stat", "-c", "%u %g %a", path).out.strip() for name, path in modes}
    assert seen == modes, seen
    return "fsGroup: " + ", ".join(f"{path} {mode}" for (_, path), mode in seen.items())


def each_container_is_locked_up() -> str:
    for each in CONTAINERS:
        said = dict(re.findall(r"^(\w+):\s+(.*)$", exec_in(each, "cat", "/proc/1/status").out, re.MULTILINE))
        assert {said[key] for key in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")} == {"0" * 16}
        assert (said["NoNewPrivs"], said["Seccomp"]) == ("1", "2")
        assert set(said["Uid"].split()) == set(said["Gid"].split()) == {"1000"}
        assert "Read-only file system" in exec_in(each, "touch", "/made", code=None).err
        limit = exec_in(each, "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes").out.strip()
        assert limit == str(512 * 1024**2)
    assert exec_in("app", "ls", "/run/litestream", "/replica", "/run/secrets", code=None).code != 0
    assert "Read-only file system" in exec_in("sidecar", "touch", "/replica/made", code=None).err
    return "every container: CapBnd 0, NoNewPrivs 1, Seccomp 2, uid 1000, root file system read-only, 512 MiB"


APPLY = "… apply …"


def documented(file: Path) -> list[str]:
    """The lines of shell in a manifest's comment."""
    return re.findall(r"^# {3}(\S.*)$", file.read_text(), re.MULTILINE)


def as_written(lines: list[str], code: int | None = 0) -> tuple[int, str, float]:
    """Run them as somebody would who copies them: in the project's folder, ended by the first that fails; and how long it took."""
    began = time.monotonic()
    words = ("env", f"KUBECONFIG={KUBECONFIG}", f"--chdir={ROOT}", "sh", "-ec", "\n".join(lines))
    done = shell(*words, within=240, code=code)
    return done.code, done.out + done.err, time.monotonic() - began


def gate_migration_and_postcheck_by_exec() -> str:
    lines = documented(K8S / "components" / "plain-containers" / "kustomization.yaml")
    assert lines.count(APPLY) == 1
    lines[lines.index(APPLY)] = f"kubectl exec {POD} -c app -- /app/migrate"
    for _ in range(2):  # the second deploy must not trip over what the first one left
        _, said, _ = as_written(lines)
        assert "PASSED" in said
        assert "HELD" in said
    return "gate, migration and postcheck by `kubectl exec`, twice: passed, held"


def the_gate_job_passes() -> str:
    address = name_service("app-sidecar")
    _, said, took = as_written(documented(K8S / "gate" / "kustomization.yaml"))
    assert "PASSED" in said, said
    assert get("job", "app-gate")["status"]["succeeded"] == 1
    return f"the Job of k8s/gate, by the name app-sidecar ({address}): complete after {took:.0f} s"


def the_network_policy_is_taken() -> str:
    asked = one(manifest(), "NetworkPolicy")["spec"]
    there = get("networkpolicy", "app")["spec"]
    assert there == asked
    return "the NetworkPolicy is taken as it is (and not enforced: the bridge plugin knows none)"


def pod_is_back(uid: str) -> Document:
    """Another Pod than the one of this uid, ready; for at most as long as a rollout may take."""

    def found() -> Document | None:
        pod = get("pod", POD)
        return pod if is_ready(pod) and pod["metadata"]["uid"] != uid else None

    pod = until(found, within=120, every=0.5, say="the Pod is back")
    assert pod is not None
    until(lambda: rows().count > 0, within=30, every=0.5, say="the app writes")
    return pod


GOOD = (
    a_misspelt_field_is_refused,
    it_is_rolled_out,
    the_init_containers_came_first_and_in_their_order,
    files_belong_to_the_group,
    each_container_is_locked_up,
    gate_migration_and_postcheck_by_exec,
    the_gate_job_passes,
    the_network_policy_is_taken,
)
