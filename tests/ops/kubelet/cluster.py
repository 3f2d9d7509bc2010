"""A cluster of one node on this machine: Debian's etcd, containerd and dnsmasq, and Kubernetes v1.20.2 that `build` has made.

Two things a cluster has are not here, since neither is in Debian. kube-proxy: the manifests' Services are headless, which is DNS alone.
CoreDNS: dnsmasq answers for it (`kube.name_service`).
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.litestreams import until
from tests.ops.kubelet import config
from tests.ops.kubelet.config import ADDRESS, ETC, HOME, KUBECONFIG, LOGS, NAME_SERVER, NAMES, NODE
from tests.ops.kubelet.kube import ctr, kubectl, shell
from tests.recipes.tools import need

ETCD = "http://127.0.0.1:2379"
KEY = ETC / "sa.key"
EXTRA = "/var/lib/kubelet/volume-plugins"  # its usual place is in /usr


def parts(programs: Path, need: Callable[[str], str] = need) -> dict[str, list[object]]:
    """The command of each part, in the order in which they start; `need` finds those that are not among `programs`."""
    return {
        "containerd": [need("containerd"), "-c", ETC / "containerd.toml"],
        "dnsmasq": [need("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--log-facility=-",
                    f"--listen-address={ADDRESS}", "--bind-interfaces", "--no-resolv", "--no-hosts", f"--addn-hosts={NAMES}",
                    f"--local=/{config.DOMAIN}/", f"--pid-file={NAME_SERVER}"],
        "etcd": [need("etcd"), "--data-dir=/var/lib/etcd", f"--listen-client-urls={ETCD}", f"--advertise-client-urls={ETCD}",
                 "--listen-peer-urls=http://127.0.0.1:2380"],
        "apiserver": [programs / "kube-apiserver", f"--etcd-servers={ETCD}", "--cert-dir=/var/lib/lab/certs",
                      f"--advertise-address={ADDRESS}", f"--token-auth-file={ETC}/tokens.csv", "--authorization-mode=RBAC",
                      "--service-account-issuer=https://lab", f"--service-account-key-file={KEY}",
                      f"--service-account-signing-key-file={KEY}", "--service-cluster-ip-range=10.79.0.0/24",
                      "--kubelet-preferred-address-types=InternalIP"],
        "controller-manager": [programs / "kube-controller-manager", f"--kubeconfig={KUBECONFIG}", "--leader-elect=false",
                               f"--service-account-private-key-file={KEY}", f"--flex-volume-plugin-dir={EXTRA}",
                               "--cert-dir=/var/lib/lab/certs"],
        "scheduler": [programs / "kube-scheduler", f"--kubeconfig={KUBECONFIG}", "--leader-elect=false"],
        "kubelet": [programs / "kubelet", f"--config={ETC}/kubelet.yaml", f"--kubeconfig={KUBECONFIG}",
                    "--container-runtime=remote", "--container-runtime-endpoint=unix:///run/containerd/containerd.sock",
                    f"--hostname-override={NODE}", f"--node-ip={ADDRESS}", f"--volume-plugin-dir={EXTRA}"],
    }  # fmt: skip


@contextlib.contextmanager
def running() -> Iterator[None]:
    """Everything up to a node that is ready. Whatever is not ended here, ends with the process namespace."""
    config.write()
    shell(need("openssl"), "genrsa", "-out", KEY, "2048")
    commands = parts(HOME / "bin")
    with contextlib.ExitStack() as started:

        def start(name: str) -> None:
            log = started.enter_context((LOGS / f"{name}.log").open("wb"))
            words = [*map(str, commands[name])]
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            started.callback(process.wait, 30)
            started.callback(process.terminate)

        start("containerd")
        start("dnsmasq")
        start("etcd")
        until(lambda: ctr("version", code=None).code == 0, within=30, say="containerd answers")
        ctr("images", "import", HOME / "run" / "images" / "all.tar", within=240)
        start("apiserver")
        until(
            lambda: kubectl("get", "--raw=/readyz", code=None).out == "ok", within=120, every=0.5, say="the API server"
        )
        for each in ("controller-manager", "scheduler", "kubelet"):
            start(each)
        words = ("wait", "--for=condition=Ready", f"node/{NODE}", "--timeout=2s")
        until(lambda: kubectl(*words, code=None).code == 0, within=120, every=0.5, say="the node is ready")
        yield
