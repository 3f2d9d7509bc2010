"""The same overlay in its bad hours: the sidecar hangs, the Pod is deleted, the volume is lost, the backup is broken."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from tests.litestreams import until
from tests.ops.kubelet import config
from tests.ops.kubelet.config import ETC, LOGS
from tests.ops.kubelet.kube import (
    POD,
    Rows,
    ask,
    command,
    documents,
    exec_in,
    get,
    is_ready,
    kubectl,
    name_service,
    on_node,
    restarts,
    rows,
    rows_of,
    statuses,
)
from tests.ops.kubelet.scenes import CONTAINERS, as_written, documented, pod_is_back
from tests.ops.pod import Document
from tests.ops.podman import K8S
from tests.recipes.tools import need

# The liveness probe gives up after three times ten seconds, the app's readiness probe after three times five.
PROBES_GIVE_UP = 40.0


@contextlib.contextmanager
def following(file: Path, words: list[str]) -> Iterator[None]:
    """What a command that goes on says meanwhile, in a file."""
    with file.open("wb") as out:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def watch() -> list[str]:
    return command("get", "pod", POD, "--watch", "-o", "json")


def versions_of_pod(file: Path) -> list[Document]:
    found = list(documents(file.read_text()))
    assert found, "a watch begins with what there is"
    return found


def unready_for(versions: list[Document]) -> float:
    """Seconds for which the Pod was out of its Service, as its Ready condition tells them."""
    changes: list[tuple[str, datetime]] = []
    for each in versions:
        (found,) = (one for one in each["status"]["conditions"] if one["type"] == "Ready")
        at = datetime.fromisoformat(found["lastTransitionTime"])
        if not changes or changes[-1] != (found["status"], at):
            changes.append((found["status"], at))
    assert changes[0][0] == changes[-1][0] == "True", changes
    return sum((after - at).total_seconds() for (status, at), (_, after) in pairwise(changes) if status == "False")


def a_hung_sidecar_is_restarted_alone() -> str:
    before, seen = restarts(), LOGS / "hung.json"
    after = before | {"sidecar": before["sidecar"] + 1}
    with following(seen, watch()):
        began = time.monotonic()
        os.kill(on_node("sidecar"), signal.SIGSTOP)
        until(lambda: ask("/livez").status == 0, within=30, every=0.5, say="it hangs")
        assert ask("/healthz", port=8080).status == 200
        until(lambda: restarts() == after, within=180, every=0.5, say="the sidecar is restarted")
        took = time.monotonic() - began
        until(lambda: ask("/ready").status == 200, within=90, every=0.5, say="/ready")
        until(lambda: is_ready(get("pod", POD)), within=30, every=0.5, say="the Pod is ready")
        time.sleep(1)  # what was just seen is in the file too
    assert restarts() == after
    said = kubectl("get", "events", "-o", "jsonpath={.items[*].message}").out
    assert "Container sidecar failed liveness probe, will be restarted" in said
    away = unready_for(versions_of_pod(seen))
    return f"the sidecar hangs: restarted, and it alone, after {took:.0f} s; the Pod was not ready for {away:.0f} s"


def a_deleted_pod_ends_cleanly_and_comes_back() -> str:
    pod, before = get("pod", POD), rows()
    grace = pod["spec"]["terminationGracePeriodSeconds"]
    seen, last = LOGS / "deleted.events", LOGS / "deleted.log"
    # The node is asked how they ended: of a Pod that it deletes, this kubelet tells the API server 137 where it does not know.
    with (
        following(seen, [need("ctr"), "-n", "k8s.io", "events"]),
        following(last, command("logs", "-f", POD, "-c", "app")),
    ):
        began = time.monotonic()
        kubectl("delete", "pod", POD, "--wait=true", within=grace + 30)
        took = time.monotonic() - began
        pod_is_back(pod["metadata"]["uid"])
    assert took < grace, f"deleting took {took:.0f} s: somebody was killed at the end of the grace period"
    assert codes(seen, pod) == dict.fromkeys(CONTAINERS, 0), codes(seen, pod)
    written = int(last.read_text().split("rows:")[1])
    after = rows(written)
    assert after.count == after.last == written
    assert after.first == before.first
    assert set(restarts().values()) == {0}
    return (
        f"Pod deleted: every container ended with 0, gone after {took:.0f} s of {grace}, back with all {written} rows"
    )


def codes(seen: Path, pod: Document) -> dict[str, int]:
    """How the containers of a Pod ended that is gone, as containerd tells it."""
    names = {each["containerID"].removeprefix("containerd://"): name for name, each in statuses(pod).items()}
    found = {}
    for line in seen.read_text().splitlines():
        if " /tasks/exit " in line:
            said = json.loads(line[line.index("{") :])
            if said["id"] == said["container_id"] in names:  # not what was run in it by exec
                found[names[said["id"]]] = said.get("exit_status", 0)
    return found


def a_new_volume_gets_the_database_from_the_replica() -> str:
    pod = get("pod", POD)
    kubectl("scale", "statefulset/app", "--replicas=0")
    until(lambda: not get("pod", POD), within=90, every=0.5, say="scaled down")
    lost = left_on(ETC / "data-app-0-1")
    kubectl("delete", "pvc", "data-app-0", "--wait=true")
    kubectl("delete", "pv", "data-app-0-1")
    shutil.rmtree(ETC / "data-app-0-1")
    kubectl("apply", "-f", "-", given=config.volume("data-app-0", 2))
    kubectl("scale", "statefulset/app", "--replicas=1")
    said = statuses(pod_is_back(pod["metadata"]["uid"]))
    assert said["restore"]["state"]["terminated"]["finishedAt"] <= said["app"]["state"]["running"]["startedAt"]
    assert rows(lost.last) == lost, "what the app had committed is there again, row for row"
    return f"a new, empty volume: all {lost.count} rows came back from the replica before the app started"


def left_on(volume: Path) -> Rows:
    """What a Pod that is gone left behind, without touching it."""
    copy = ETC / "copy"
    shutil.copytree(volume, copy)
    return rows_of(str(copy / "app.db"))


def a_broken_backup_harms_nobody() -> str:
    until(lambda: ask("/ready").status == 200, within=90, every=0.5, say="/ready")
    before, seen = restarts(), LOGS / "broken.json"
    with following(seen, watch()):
        exec_in("litestream", "sh", "-c", "rm -rf /replica/app/ltx/*")
        until(lambda: ask("/ready").status == 503, within=60, every=0.5, say="/ready sees the loss")
        time.sleep(PROBES_GIVE_UP)
        refused = ask("/ready")
        assert refused.status == 503
    assert all(is_ready(each) for each in versions_of_pod(seen))
    assert restarts() == before
    addresses = get("endpoints", "app")["subsets"][0]["addresses"]
    assert [each["ip"] for each in addresses] == [get("pod", POD)["status"]["podIP"]]
    reason = refused.document["reason"]
    return f"backup broken: /ready 503 for {PROBES_GIVE_UP:.0f} s, the Pod ready all along, nobody restarted; {reason}"


def the_gate_job_refuses() -> str:
    name_service("app-sidecar")
    code, said, took = as_written(documented(K8S / "gate" / "kustomization.yaml"), code=None)
    assert code != 0, said
    assert get("job", "app-gate")["status"]["failed"] == 1
    (pod,) = kubectl("get", "pod", "-l", "job-name=app-gate", "-o", "name").out.split()
    ended = statuses(get("pod", pod.removeprefix("pod/")))["gate"]["state"]["terminated"]
    assert ended["exitCode"] == 1, ended
    first = kubectl("logs", "job/app-gate").out.splitlines()[0]
    assert "REFUSED" in first, first
    return f"the Job of k8s/gate refuses, exit code {ended['exitCode']}, after {took:.0f} s: {first}"


def a_restarted_pod_mends_it() -> str:
    uid, began = get("pod", POD)["metadata"]["uid"], time.monotonic()
    kubectl("delete", "pod", POD, "--wait=true")
    pod_is_back(uid)
    until(lambda: ask("/ready").status == 200, within=90, every=0.5, say="/ready")
    assert exec_in("sidecar", "litestream-sidecar", "status").out.startswith("READY")
    return f"Pod deleted while the backup is broken: it comes up all the same, and /ready is 200 after {time.monotonic() - began:.0f} s"


BAD = (
    a_hung_sidecar_is_restarted_alone,
    a_deleted_pod_ends_cleanly_and_comes_back,
    a_new_volume_gets_the_database_from_the_replica,
    a_broken_backup_harms_nobody,
    the_gate_job_refuses,
    a_restarted_pod_mends_it,
)
