"""What the cluster's parts are told in files. Places are the usual ones: `inside` has made /var and /run this cluster's own."""

from __future__ import annotations

from pathlib import Path

from tests.litestreams import ROOT

HOME = ROOT / ".ci-work" / "kubelet"
LOGS = HOME / "logs"
ADDRESS, NODE = "10.77.0.1", "lab"
API = f"https://{ADDRESS}:6443"
DOMAIN = "cluster.local"
ETC = Path("/var/lib/lab")  # our files, and the volumes
KUBECONFIG = ETC / "kubeconfig"
NAMES = ETC / "hosts"
NAME_SERVER = Path("/run/dnsmasq.pid")
SECRET = "of-this-cluster"

# oomScoreAdj, restrict_oom_score_adj: a machine without CAP_SYS_RESOURCE may not lower a score.
FILES = {
    "containerd.toml": """
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.6"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/var/lib/lab/cni"
""",
    "cni/lab.conflist": """
{"cniVersion": "0.4.0", "name": "lab", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true,
"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.78.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
""",
    # evictionHard: the disk of whoever runs this may be nearly full, which must not evict our Pod. syncFrequency: this kubelet sees that a
    # startup probe has passed when it looks at the Pod the next time, by default 60 to 90 s later.
    "kubelet.yaml": f"""
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
failSwapOn: false
oomScoreAdj: 0
enforceNodeAllocatable: []
evictionHard: {{memory.available: 1Mi}}
syncFrequency: 2s
address: {ADDRESS}
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
clusterDNS: [{ADDRESS}]
clusterDomain: {DOMAIN}
resolvConf: ""
""",
    "kubeconfig": f"""
apiVersion: v1
kind: Config
clusters: [{{name: lab, cluster: {{server: "{API}", insecure-skip-tls-verify: true}}}}]
users: [{{name: lab, user: {{token: {SECRET}}}}}]
contexts: [{{name: lab, context: {{cluster: lab, user: lab}}}}]
current-context: lab
""",
    "tokens.csv": f'{SECRET},lab,1,"system:masters"\n',
    "hosts": "",
}
VOLUME = """
apiVersion: v1
kind: PersistentVolume
metadata: {{name: {name}}}
spec:
  capacity: {{storage: 20Gi}}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  claimRef: {{namespace: default, name: {claim}}}
  local: {{path: {path}}}
  nodeAffinity:
    required: {{nodeSelectorTerms: [{{matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [{node}]}}]}}]}}
"""


def write() -> None:
    (ETC / "cni").mkdir(parents=True)  # containerd reads all that lies there
    for name, text in FILES.items():
        (ETC / name).write_text(text.lstrip())


def volume(claim: str, number: int, *, below: Path = ETC) -> str:
    """A folder of its own for a claim, as a local volume."""
    path = below / f"{claim}-{number}"
    path.mkdir()
    return VOLUME.format(name=path.name, claim=claim, path=path, node=NODE)
