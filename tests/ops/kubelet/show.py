"""Starts the cluster, plays every scene on it and prints what each saw; the first that fails ends it. `run` starts this."""

from __future__ import annotations

import sys
import time

from tests.ops.kubelet.cluster import running
from tests.ops.kubelet.config import LOGS
from tests.ops.kubelet.faults import BAD
from tests.ops.kubelet.kube import kubectl
from tests.ops.kubelet.scenes import GOOD

BEGAN = time.monotonic()


def say(text: str) -> None:
    sys.stdout.write(f"{time.monotonic() - BEGAN:6.1f} s  {text}\n")
    sys.stdout.flush()


def main(wanted: list[str]) -> None:
    """All scenes, or those named: most stand on `it_is_rolled_out`."""
    LOGS.mkdir(exist_ok=True)
    with running():
        say("a node is ready: " + kubectl("get", "nodes", "--no-headers").out.strip())
        for scene in (*GOOD, *BAD):
            if wanted and scene.__name__ not in wanted:
                continue
            try:
                say(scene())
            except BaseException:
                (LOGS / "pods.txt").write_text(kubectl("describe", "pods", code=None).out)
                say(f"FAILED: {scene.__name__.replace('_', ' ')}; the cluster's logs are in {LOGS}")
                raise
        kubectl("delete", "statefulset,job", "--all", "--wait=true", within=90)
    say("all of it was seen")


if __name__ == "__main__":
    main(sys.argv[1:])
