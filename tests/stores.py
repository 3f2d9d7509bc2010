"""Real stores besides files, as small servers on this machine: one class for each kind that Litestream replicates to."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from azure.storage.blob import BlobServiceClient, ContainerClient

from tests import litestreams
from tests.litestreams import SCRIPTS, Server
from tests.recipes.tools import need, node_modules

USER = "app"
BUCKET = "bkt"
NATS = """
import asyncio, base64, sys, nats
async def main():
    client = await nats.connect(sys.argv[1], user=sys.argv[2], password=sys.argv[3])
    jetstream = client.jetstream()
    if sys.argv[4] == "make":
        await jetstream.create_object_store("bkt")
    if sys.argv[4] == "names":
        print("\\n".join(each.name for each in await (await jetstream.object_store("bkt")).list() if not each.deleted))
    if sys.argv[4] == "read":
        sys.stdout.buffer.write((await (await jetstream.object_store("bkt")).get(sys.argv[5])).data)
    if sys.argv[4] == "write":
        await (await jetstream.object_store("bkt")).put(sys.argv[5], sys.stdin.buffer.read())
    if sys.argv[4] == "delete":
        # Without a trace: a deletion's marker as this client leaves it makes Go's client, and so Litestream's listing, wait for ever.
        name = base64.urlsafe_b64encode(sys.argv[5].encode()).decode()
        await jetstream.purge_stream("OBJ_bkt", subject=f"$O.bkt.M.{name}")
    await client.close()
asyncio.run(main())
"""


@dataclass
class Store(Server):
    """A store that holds objects. What a test does to them, it does here; the server sees it at once."""

    password: str = "SECRETEXAMPLE"

    type: str = ""  # Litestream's word
    keeps_nobody_out: bool = False  # asks for no password
    refuses_when_gone: str = "unreachable"  # what a server that is gone is called

    @property
    def at(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def env(self) -> dict[str, str]:
        """What Litestream has to be told by its environment."""
        return {}

    def replica(self, path: str = "app", *, password: str = "") -> str:
        """The `replica:` block for litestream.yml, as a YAML flow mapping."""
        return f"{{type: {self.type}, {self.keys(path, password or self.password)}, sync-interval: 200ms}}"

    def keys(self, path: str, password: str) -> str:
        """What stands in the block besides type and interval."""
        raise NotImplementedError

    def make_bucket(self) -> None:
        """Where a store has buckets: `bkt`."""

    # The objects of a store that keeps them as files

    @property
    def root(self) -> Path:
        return self.folder

    def names(self) -> list[str]:
        """What lies in the store, by its path."""
        return sorted(str(each.relative_to(self.root)) for each in self.root.rglob("*.ltx"))

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def put(self, name: str, data: bytes) -> None:
        (self.root / name).write_bytes(data)

    def delete(self, name: str) -> None:
        (self.root / name).unlink()


@dataclass
class S3(Store):
    """rclone's."""

    type: str = "s3"

    @property
    def root(self) -> Path:
        return self.folder / BUCKET

    @property
    def argv(self) -> list[str]:
        return self.rclone("s3", "--auth-key", f"AKIDEXAMPLE,{self.password}")

    def keys(self, path: str, password: str) -> str:
        block = litestreams.S3(self.folder, self.port).replica(path, secret=password)
        return block.removeprefix("{type: s3, ").removesuffix(", sync-interval: 200ms}")

    def make_bucket(self) -> None:
        self.root.mkdir(exist_ok=True)


@dataclass
class WebDav(Store):
    """rclone's."""

    type: str = "webdav"

    @property
    def argv(self) -> list[str]:
        return self.rclone("webdav", "--user", USER, "--pass", self.password)

    def keys(self, path: str, password: str) -> str:
        return f"webdav-url: 'http://{self.at}', webdav-username: {USER}, webdav-password: {password}, path: /{path}"


@dataclass
class Sftp(Store):
    """rclone's; the password stands in an address."""

    type: str = "sftp"

    @property
    def argv(self) -> list[str]:
        return self.rclone("sftp", "--user", USER, "--pass", self.password)

    def keys(self, path: str, password: str) -> str:
        return f"url: 'sftp://{USER}:{password}@{self.at}/{path}'"


@dataclass
class OpenSsh(Store):
    """OpenSSH's own: a key instead of a password, and a host key that is verified."""

    type: str = "sftp"

    @property
    def root(self) -> Path:
        return self.folder / "files"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for each in ("host", "right", "wrong"):
            if not (self.folder / each).exists():
                make = [need("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / each)]
                subprocess.run(make, check=True, stdin=subprocess.DEVNULL)
        self.root.mkdir(exist_ok=True)
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd does not start without
        (self.folder / "sshd.conf").write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {self.folder / 'host'}\nPidFile none\nUsePAM no\nStrictModes no\n"
            f"AuthorizedKeysFile {self.folder / 'right.pub'}\nPasswordAuthentication no\nSubsystem sftp internal-sftp\n"
        )
        super().start()

    @property
    def argv(self) -> list[str]:
        return [
            shutil.which("sshd", path="/usr/sbin:/usr/bin") or "/usr/sbin/sshd",
            "-D",
            "-e",
            "-f",
            str(self.folder / "sshd.conf"),
        ]

    def keys(self, path: str, password: str) -> str:
        key = "right" if password == self.password else "wrong"
        host = (self.folder / "host.pub").read_text().rsplit(" ", 1)[0]
        return f"host: '{self.at}', user: root, key-path: {self.folder / key}, host-key: '{host}', path: {self.root / path}"


@dataclass
class Nats(Store):
    """An object store of JetStream's."""

    type: str = "nats"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "nats.conf").write_text(
            f"listen: '{self.at}'\njetstream {{store_dir: '{self.folder}'}}\n"
            f"authorization {{user: {USER}, password: {self.password}}}\n"
        )
        super().start()

    @property
    def argv(self) -> list[str]:
        return [str(SCRIPTS / "nats-server"), "-c", str(self.folder / "nats.conf")]

    def keys(self, path: str, password: str) -> str:
        return f"url: 'nats://{self.at}/{BUCKET}', username: {USER}, password: {password}, path: {path}"

    def _do(self, *words: str, data: bytes = b"") -> bytes:
        argv = [sys.executable, "-c", NATS, f"nats://{self.at}", USER, self.password, *words]
        return subprocess.run(argv, check=True, input=data, stdout=subprocess.PIPE, timeout=30).stdout

    def make_bucket(self) -> None:
        self._do("make")

    def names(self) -> list[str]:
        return sorted(self._do("names").decode().split())

    def read(self, name: str) -> bytes:
        return self._do("read", name)

    def put(self, name: str, data: bytes) -> None:
        self._do("write", name, data=data)

    def delete(self, name: str) -> None:
        self._do("delete", name)


@dataclass
class GoogleCloud(Store):
    """Google Cloud Storage's emulator, which lets everybody in."""

    type: str = "gs"
    keeps_nobody_out: bool = True
    refuses_when_gone: str = (
        "timeout"  # no endpoint stands in litestream.yml, and Google's SDK tries until our time is over
    )

    @property
    def env(self) -> dict[str, str]:
        return {"STORAGE_EMULATOR_HOST": self.at}

    @property
    def argv(self) -> list[str]:
        return [str(SCRIPTS / "gcp-storage-emulator"), "start", "--host", "127.0.0.1", "--port", str(self.port)]

    def keys(self, path: str, password: str) -> str:
        del password
        return f"bucket: {BUCKET}, path: {path}"

    def _ask(self, method: str, path: str, data: bytes | None = None, kind: str = "application/json") -> bytes:
        asked = urllib.request.Request(f"http://{self.at}{path}", data, {"Content-Type": kind}, method=method)
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return bytes(answer.read())

    def make_bucket(self) -> None:
        self._ask("POST", "/storage/v1/b?project=p", json.dumps({"name": BUCKET}).encode())

    def names(self) -> list[str]:
        found = json.loads(self._ask("GET", f"/storage/v1/b/{BUCKET}/o"))
        return sorted(each["name"] for each in found.get("items", []))

    def _object(self, name: str) -> str:
        return f"/storage/v1/b/{BUCKET}/o/{urllib.parse.quote(name, safe='')}"

    def read(self, name: str) -> bytes:
        return self._ask("GET", f"{self._object(name)}?alt=media")

    def put(self, name: str, data: bytes) -> None:
        query = urllib.parse.urlencode({"uploadType": "media", "name": name})
        self._ask("POST", f"/upload/storage/v1/b/{BUCKET}/o?{query}", data, "application/octet-stream")

    def delete(self, name: str) -> None:
        self._ask("DELETE", self._object(name))


@dataclass
class Azure(Store):
    """Azure's Azurite, under an account of our own."""

    type: str = "abs"
    ends_by: signal.Signals = signal.SIGTERM  # killed, it forgets what it has acknowledged within the last seconds

    def account(self, password: str) -> str:
        """Azure's account keys are base64."""
        return base64.b64encode(hashlib.sha512(password.encode()).digest()).decode()

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        node_modules(Path(__file__).with_name("package.json"))
        super().start()

    @property
    def variables(self) -> dict[str, str]:
        return {"AZURITE_ACCOUNTS": f"{USER}:{self.account(self.password)}"}

    @property
    def argv(self) -> list[str]:
        program = (
            node_modules(Path(__file__).with_name("package.json")) / "azurite" / "dist" / "src" / "blob" / "main.js"
        )
        return [need("node"), str(program), "--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--location", str(self.folder),
                "--skipApiVersionCheck", "--silent", "--disableTelemetry"]  # fmt: skip

    def keys(self, path: str, password: str) -> str:
        endpoint = f"http://{self.at}/{USER}"
        return f"account-name: {USER}, account-key: '{self.account(password)}', endpoint: '{endpoint}', bucket: {BUCKET}, path: {path}"

    @contextlib.contextmanager
    def _container(self) -> Iterator[ContainerClient]:
        service = BlobServiceClient(
            f"http://{self.at}/{USER}", {"account_name": USER, "account_key": self.account(self.password)}
        )
        with service, service.get_container_client(BUCKET) as container:
            yield container

    def make_bucket(self) -> None:
        with self._container() as container:
            container.create_container()

    def names(self) -> list[str]:
        with self._container() as container:
            return sorted(container.list_blob_names())

    def read(self, name: str) -> bytes:
        with self._container() as container:
            return bytes(container.download_blob(name).readall())

    def put(self, name: str, data: bytes) -> None:
        with self._container() as container:
            container.upload_blob(name, data, overwrite=True)

    def delete(self, name: str) -> None:
        with self._container() as container:
            container.delete_blob(name)


KINDS: dict[str, type[Store]] = {
    "s3": S3, "webdav": WebDav, "sftp": Sftp, "openssh": OpenSsh, "nats": Nats, "gs": GoogleCloud, "abs": Azure,
}  # fmt: skip


@contextlib.contextmanager
def serving(kind: str, folder: Path, *, password: str = "SECRETEXAMPLE") -> Iterator[Store]:
    """A store that runs, with its bucket."""
    store = KINDS[kind](folder, password=password)
    store.start()
    try:
        store.make_bucket()
        yield store
    finally:
        store.stop()
