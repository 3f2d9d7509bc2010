"""The image and the Pod, for real: built by the Containerfile, played by podman under the manifest's own security settings, with the
real Litestream and an app that writes.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from sidecar import __version__
from tests.litestreams import binary, environment, free_port, until
from tests.ops.pod import ADDRESS, TOKEN, Pod, in_seconds, playable
from tests.ops.podman import IMAGE, K8S, base_name, image, leftovers, played, podman, sweep

pytestmark = pytest.mark.timeout(540)  # the first time, the base and the wheels are made

SIDECAR_YML = (K8S / "base" / "sidecar.yml").read_text()
IN_SECONDS = f"{SIDECAR_YML}\npolicy: {{look-every: 1s, max-lag: 4s}}\nlitestream: {{command-timeout: 10s}}\n"
OURS_BYTES_MAX = 112_000_000  # Litestream 38, lz4 and fastcrc 7, obstore 16
MEMORY_MB = {"app": 512, "litestream": 512, "sidecar": 768}
BY_HAND = ("-u", "4711:4711", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none")
KEY, SECRET = "AKIDEXAMPLE", "SECRETEXAMPLE"


@pytest.fixture(scope="module", autouse=True)
def built() -> str:
    return image()


def run(*words: object, entrypoint: str = "sh") -> str:
    return podman("run", "--rm", *BY_HAND, f"--entrypoint={entrypoint}", IMAGE, *words).out


def test_the_image_says_what_it_is() -> None:
    (said,) = json.loads(podman("image", "inspect", IMAGE).out)
    config = said["Config"]
    assert config["User"] == "65532:65532"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Entrypoint"] == ["litestream-sidecar"]
    assert config["Cmd"] == ["run"]
    assert config["Labels"]["org.opencontainers.image.version"] == __version__
    assert config["Labels"]["org.opencontainers.image.base.name"] == base_name()
    assert said["Healthcheck"]["Test"][0] == "CMD"
    assert "PYTHONDONTWRITEBYTECODE=1" in config["Env"]


def test_what_the_image_adds_to_its_base_stays_small() -> None:
    sizes = [json.loads(podman("image", "inspect", each).out)[0]["Size"] for each in (IMAGE, base_name())]
    assert sizes[0] - sizes[1] < OURS_BYTES_MAX, sizes


def test_both_programs_run_as_any_user_on_a_read_only_root() -> None:
    assert __version__ in run("--version", entrypoint="litestream-sidecar")
    assert "0.5.17" in run("version", entrypoint="litestream")


def test_nothing_that_installs_or_compiles_is_left() -> None:
    tools = run("-c", "for each in pip pip3 uv gcc cc make hatchling; do command -v $each; done; true")
    assert tools == ""
    found = run("-c", "python3 -c 'import pip' 2>&1; /usr/bin/python3 -c 'import pip' 2>&1; true")
    assert found.count("No module named 'pip'") == 2


def test_no_module_is_compiled_at_a_start() -> None:
    """Python says where each module's code came from."""
    words = ("-v", "-c", "import sidecar.assembly, sidecar.commands.run")
    done = podman("run", "--rm", *BY_HAND, "--entrypoint=python3", IMAGE, *words)
    assert re.search(r"^# code object from '/\S+\.pyc'$", done.err, re.MULTILINE)
    assert not re.findall(r"^# code object from '?/\S+\.py'?$", done.err, re.MULTILINE)


def test_the_healthcheck_sees_whether_the_daemon_turns(tmp_path: Path) -> None:
    """And nothing else: there is neither a database nor a replica here."""
    config = tmp_path / "litestream.yml"
    config.write_text("dbs: [{path: /data/app.db, replica: {type: file, path: /replica}}]\n")
    name = f"health-{os.getpid()}"
    volumes = (f"--volume={config}:/etc/litestream.yml:ro", f"--volume={name}-state:/var/lib/litestream-sidecar")
    try:
        podman("run", "-d", "--name", name, *BY_HAND[2:], *volumes, IMAGE)
        until(lambda: podman("healthcheck", "run", name, code=None).code == 0, within=30, every=0.5, say="healthy")
        podman("kill", "-s", "STOP", name)
        assert podman("healthcheck", "run", name, code=None).code == 1
        podman("kill", "-s", "CONT", name)
        podman("stop", "-t", "15", name)
        assert podman("inspect", name, "--format", "{{.State.ExitCode}}").out.strip() == "0"
    finally:
        podman("rm", "-f", "-t", "0", name, code=None)
        sweep(name)


Play = Callable[[str, dict[str, str]], contextlib.AbstractContextManager[Pod]]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    @contextlib.contextmanager
    def playing(overlay: str, files: dict[str, str]) -> Iterator[Pod]:
        name = f"{Path(overlay).name}-{os.getpid()}"
        documents = in_seconds(tmp_path / "overlay", overlay, files)
        credentials = f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
        secrets = {"app-sidecar-token": {"token": TOKEN}, "app-s3": {"credentials": credentials}}
        manifest = tmp_path / "pod.yaml"
        manifest.write_text(playable(documents, name, "app-one", secrets))
        with played(manifest, name):
            yield Pod(name, documents)
        assert leftovers(name) == []
        assert name not in podman("pod", "ls").out + podman("ps", "-a").out

    return playing


def ready(pod: Pod) -> bool:
    return pod.get("/ready").status == 200


def confined(pod: Pod, container: str) -> None:
    """What the manifest asks for is what the kernel says."""
    status = pod.exec(container, "cat", "/proc/1/status").out
    said = dict(re.findall(r"^(\w+):\s+(.*)$", status, re.MULTILINE))
    assert said["CapEff"] == said["CapPrm"] == said["CapBnd"] == said["CapInh"] == "0" * 16
    assert said["NoNewPrivs"] == "1"
    assert said["Seccomp"] == "2"
    assert set(said["Uid"].split()) == set(said["Gid"].split()) == {"1000"}
    assert "Read-only file system" in pod.exec(container, "touch", "/made").err
    limit = pod.exec(container, "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes").out.strip()
    assert limit == str(MEMORY_MB[container] * 1024**2)


def test_the_pod_of_a_file_replica_from_its_start_to_a_broken_backup(play: Play) -> None:
    with play("overlays/file", {"sidecar.yml": IN_SECONDS}) as pod:
        until(lambda: ready(pod), within=60, every=0.3, say="/ready")
        for each in ("app", "litestream", "sidecar"):
            confined(pod, each)
        assert pod.exec("app", "ls", "/run/litestream", "/replica", "/run/secrets").code != 0
        assert "Read-only file system" in pod.exec("sidecar", "touch", "/replica/made").err
        assert pod.get("/healthz", port=8080).status == 200
        assert pod.get("/livez").status == 200
        assert "litestream_sidecar_ready" in pod.get("/metrics").body
        assert pod.exec("sidecar", "litestream-sidecar", "status").code == 0
        assert pod.exec("sidecar", "litestream-sidecar", "doctor").code == 0
        deploys(pod)
        asks_from_outside(pod)

        pod.exec("litestream", "sh", "-c", "rm -rf /replica/app/ltx/*")
        until(lambda: pod.get("/ready").status == 503, within=60, every=0.3, say="/ready sees the loss")
        answer = pod.get("/ready").document
        assert answer["ready"] is False
        assert "app: " in answer["reason"]
        assert pod.get("/livez").status == 200
        assert pod.exec("sidecar", "litestream-sidecar", "status").code == 1
        came_back = pod.init("gate", "sidecar", "app-one")
        assert came_back.code == 0, came_back
        assert "is deployed already" in came_back.out
        refused = pod.init("gate", "sidecar", "app-two")
        assert refused.code == 1, refused
        assert "REFUSED" in refused.out


def deploys(pod: Pod) -> None:
    """The init containers' commands, in their order, for a first revision beside a database that is there."""
    assert pod.init("restore", "litestream", "app-one").code == 0
    gate = pod.init("gate", "sidecar", "app-one")
    assert gate.code == 0, gate
    assert "PASSED" in gate.out
    assert "was let pass" in pod.init("gate", "sidecar", "app-one").out
    assert pod.init("migrate", "app", "app-one").code == 0
    held = pod.init("postcheck", "sidecar", "app-one")
    assert held.code == 0, held
    assert pod.exec("sidecar", "cat", "/data/sidecar/deployed").out == "app-one\n"
    receipt = "/data/sidecar/receipts/last.json"
    assert pod.exec("sidecar", "litestream-sidecar", "rollback", "--receipt", receipt).code == 0


def asks_from_outside(pod: Pod) -> None:
    """What the Job `app-gate` does: by the Pod's address, with the token and not without."""
    (job,) = yaml.safe_load_all((K8S / "gate" / "job.yaml").read_text())
    (gate,) = job["spec"]["template"]["spec"]["containers"]
    words = [each.replace("app-sidecar", ADDRESS).replace("/tmp/", "/scratch/") for each in gate["args"]]
    asked = pod.exec("sidecar", *gate["command"], *words)
    assert asked.code == 0, asked
    # Another configuration than the daemon's, so that no token is found there.
    alone = {"LITESTREAM_SIDECAR_CONFIG": ""}
    nobody = pod.exec("sidecar", *gate["command"], *(each for each in words if "token" not in each), env=alone)
    assert nobody.code not in {0, 1}, nobody


@contextlib.contextmanager
def store(folder: Path, port: int, *inside: str) -> Iterator[None]:
    """A real S3 server on a folder out here; `inside` runs it in a Pod's network."""
    (folder / "app-backup").mkdir(parents=True, exist_ok=True)
    rclone = Path(sysconfig.get_path("scripts")) / "rclone"
    serve = ["serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}", "--vfs-cache-mode", "off"]
    process = subprocess.Popen(
        [*inside, str(rclone), *serve, "--dir-cache-time", "10ms", "--poll-interval", "0", str(folder)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=environment(RCLONE_CONFIG="/dev/null"),
    )  # fmt: skip
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_the_pod_of_a_bucket_ends_within_its_grace_and_loses_nothing(play: Play, tmp_path: Path) -> None:
    port, folder, yml = free_port(), tmp_path / "store", tmp_path / "litestream.yml"
    config = yaml.safe_load((K8S / "overlays" / "s3" / "litestream.yml").read_text())
    config["dbs"][0]["replica"] |= {"endpoint": f"http://127.0.0.1:{port}", "force-path-style": True}
    yml.write_text(yaml.safe_dump(config))
    with play("overlays/s3", {"sidecar.yml": IN_SECONDS, "litestream.yml": yml.read_text()}) as pod:
        with store(folder, port, *pod.network):
            until(lambda: ready(pod), within=60, every=0.3, say="/ready")
            for each in ("app", "litestream", "sidecar"):
                words = pod.exec(each, "cat", "/proc/1/cmdline", "/proc/1/environ").out
                assert words
                assert SECRET not in words
                assert TOKEN not in words
            assert pod.exec("app", "cat", "/run/secrets/s3/credentials").code != 0

            loses(pod)

            began = time.monotonic()
            # As the kubelet ends a Pod with native sidecars: the containers, then the sidecars, the last one first.
            assert [pod.stop(each) for each in ("app", "sidecar", "litestream")] == [0, 0, 0]
            assert time.monotonic() - began < pod.spec["terminationGracePeriodSeconds"] / 2
        written = int(podman("logs", f"{pod.name}-app").out.split()[-1])
        with store(folder, port):
            assert written == rows_in_replica(yml, tmp_path / "restored.db")


def loses(pod: Pod) -> None:
    """A migration that empties a table: the app's container is not started on it, and the reason stays to be read."""
    more = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000)"
    sql(pod, f"{more} insert into visits (at) select 'before' from n")  # more than the app adds until it is asked after
    assert pod.init("gate", "sidecar", "app-bad").code == 0
    sql(pod, "delete from visits")
    first, again = (pod.init("postcheck", "sidecar", "app-bad") for _ in range(2))
    assert first.code == again.code == 1, first
    assert "visits" in first.out
    assert again.out == first.out
    assert pod.exec("sidecar", "cat", "/data/sidecar/deployed").code != 0


def sql(pod: Pod, statement: str) -> None:
    """As the app itself would do it."""
    program = (
        f"import sqlite3; sqlite3.connect('/data/app.db', isolation_level=None, timeout=10).execute({statement!r})"
    )
    ran = pod.exec("app", "python3", "-c", program)
    assert ran.code == 0, ran


def rows_in_replica(config: Path, target: Path) -> int:
    command = [binary(), "restore", "-config", str(config), "-o", str(target), "/data/app.db"]
    env = environment(AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET)
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    with contextlib.closing(sqlite3.connect(target)) as copy:
        return int(copy.execute("select count(*) from visits").fetchone()[0])
