"""The cluster as its user has it: kubectl, what the API server says of the Pod, and what the node sees of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.faces.commands import Ran
from tests.litestreams import until
from tests.ops.kubelet.config import DOMAIN, KUBECONFIG, NAME_SERVER, NAMES
from tests.ops.pod import Answer, Document
from tests.recipes.tools import need

POD = "app-0"


def shell(*words: object, within: float = 120, given: str | None = None, code: int | None = 0) -> Ran:
    """Run a command of the node; another exit code than `code` fails, None takes any."""
    done = subprocess.run(
        [*map(str, words)], input=given or "", capture_output=True, text=True, check=False, timeout=within
    )
    assert code is None or done.returncode == code, (words, done)
    return Ran(done.returncode, done.stdout, done.stderr)


def command(*words: object) -> list[str]:
    return [need("kubectl"), f"--kubeconfig={KUBECONFIG}", *map(str, words)]


def kubectl(*words: object, within: float = 120, given: str | None = None, code: int | None = 0) -> Ran:
    return shell(*command(*words), within=within, given=given, code=code)


def ctr(*words: object, within: float = 120, code: int | None = 0) -> Ran:
    return shell(need("ctr"), "-n", "k8s.io", *words, within=within, code=code)


def get(kind: str, name: str) -> Document:
    """What there is of that name; empty where nothing is."""
    said = kubectl("get", kind, name, "-o", "json", "--ignore-not-found").out
    found: Document = json.loads(said) if said.strip() else {}
    return found


def is_ready(pod: Document) -> bool:
    return any(
        each["type"] == "Ready" and each["status"] == "True" for each in pod.get("status", {}).get("conditions", ())
    )


def statuses(pod: Document) -> dict[str, Document]:
    """Containers and init containers, by name."""
    said = pod["status"]
    return {each["name"]: each for key in ("initContainerStatuses", "containerStatuses") for each in said.get(key, ())}


def restarts() -> dict[str, int]:
    return {name: each["restartCount"] for name, each in statuses(get("pod", POD)).items()}


def exec_in(container: str, *words: object, code: int | None = 0, within: float = 120) -> Ran:
    return kubectl("exec", POD, "-c", container, "--", *words, code=code, within=within)


def ask(path: str, *, port: int = 9810) -> Answer:
    """By the Pod's own address, as the kubelet and Prometheus do; status 0: nobody answered."""
    address = get("pod", POD).get("status", {}).get("podIP")
    if not address:
        return Answer(0, "")
    try:
        with urllib.request.urlopen(f"http://{address}:{port}{path}", timeout=5) as said:
            return Answer(said.status, said.read().decode())
    except urllib.error.HTTPError as refused:
        return Answer(refused.code, refused.read().decode())
    except OSError:
        return Answer(0, "")


def on_node(container: str) -> int:
    """The process that a container of the Pod is, as the node sees it."""
    mark = statuses(get("pod", POD))[container]["containerID"].removeprefix("containerd://")
    (found,) = (line.split() for line in ctr("tasks", "ls").out.splitlines() if line.startswith(mark))
    return int(found[1])


def name_service(service: str) -> str:
    """Let the name server say what the API server says of a Service, and return the address.

    Only headless ones: they need no kube-proxy, and a name server that answers with their endpoints is all there is to them.
    """
    until(lambda: get("endpoints", service).get("subsets"), within=30, every=0.5, say=f"{service} has endpoints")
    address: str = get("endpoints", service)["subsets"][0]["addresses"][0]["ip"]
    NAMES.write_text(f"{address} {service}.default.svc.{DOMAIN}\n")
    os.kill(int(NAME_SERVER.read_text()), signal.SIGHUP)
    return address


@dataclass(frozen=True)
class Rows:
    """What the app's table holds; ids have no gaps, so `count` rows up to `last` are all of them."""

    first: str
    last: int
    count: int
    digest: str


# Of another process's database, so asked by a process beside it.
ASK_ROWS = """
import hashlib, json, sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=10)
found = db.execute("select id, at from visits where id <= ?", (int(sys.argv[2]),)).fetchall()
digest = hashlib.sha256(repr(found).encode()).hexdigest()
print(json.dumps([found[0][1], found[-1][0], len(found), digest] if found else ["", 0, 0, digest]))
"""
ALL = 2**62


def rows(up_to: int = ALL) -> Rows:
    """As the app's own container sees them."""
    return Rows(*json.loads(exec_in("app", "python3", "-c", ASK_ROWS, "/data/app.db", up_to).out))


def rows_of(file: str) -> Rows:
    return Rows(*json.loads(shell(sys.executable, "-c", ASK_ROWS, file, ALL).out))


def documents(stream: str) -> Iterator[Any]:
    """The JSON documents of `kubectl get --watch -o json`, one behind the other."""
    decoder, at = json.JSONDecoder(), 0
    while (at := _next(stream, at)) < len(stream):
        document, at = decoder.raw_decode(stream, at)
        yield document


def _next(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at
