"""Real stores besides S3, as small servers on this machine: each can be stopped (refuses), paused (hangs) and resumed."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import sysconfig
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.litestreams import environment, free_port, until

SCRIPTS = Path(sysconfig.get_path("scripts"))
USER, PASSWORD = "app", "SECRETEXAMPLE"
MAKE_BUCKET = """
import asyncio, sys, nats
async def main():
    client = await nats.connect(sys.argv[1], user=sys.argv[2], password=sys.argv[3])
    await client.jetstream().create_object_store("bkt")
    await client.close()
asyncio.run(main())
"""


@dataclass
class Store:
    """One server over a folder. `kind` is Litestream's `type`."""

    kind: str
    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def env(self) -> dict[str, str]:
        """What Litestream has to be told by its environment."""
        return {"STORAGE_EMULATOR_HOST": f"127.0.0.1:{self.port}"} if self.kind == "gs" else {}

    @property
    def keeps_nobody_out(self) -> bool:
        """Whether it asks for no password."""
        return self.kind == "gs"

    def replica(self, path: str = "app", *, password: str = PASSWORD) -> str:
        """The `replica:` block for litestream.yml, as a YAML flow mapping."""
        at = f"127.0.0.1:{self.port}"
        keys = {
            "webdav": f"webdav-url: 'http://{at}', webdav-username: {USER}, webdav-password: {password}, path: /{path}",
            "sftp": f"host: '{at}', user: {USER}, password: {password}, path: /{path}",
            "nats": f"url: 'nats://{at}/bkt', username: {USER}, password: {password}",
            "gs": f"bucket: bkt, path: {path}",
        }  # fmt: skip
        return f"{{type: {self.kind}, {keys[self.kind]}, sync-interval: 200ms}}"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            self._argv(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, env=environment(RCLONE_CONFIG="/dev/null"),
        )  # fmt: skip
        until(self._answers, say=f"the {self.kind} server listens")

    def _argv(self) -> list[str]:
        at = f"127.0.0.1:{self.port}"
        if self.kind in {"webdav", "sftp"}:
            cached = ["--vfs-cache-mode", "off", "--dir-cache-time", "10ms", "--poll-interval", "0"]
            return [str(SCRIPTS / "rclone"), "serve", self.kind, "--addr", at, "--user", USER, "--pass", PASSWORD,
                    *cached, str(self.folder)]  # fmt: skip
        if self.kind == "gs":
            return [
                str(SCRIPTS / "gcp-storage-emulator"),
                "start",
                "--host",
                "127.0.0.1",
                "--port",
                str(self.port),
                "--in-memory",
            ]
        config = self.folder / "nats.conf"
        config.write_text(
            f"listen: '{at}'\njetstream {{store_dir: '{self.folder}'}}\nauthorization {{user: {USER}, password: {PASSWORD}}}\n"
        )
        return [str(SCRIPTS / "nats-server"), "-c", str(config)]

    def make_bucket(self) -> None:
        """Where a store has buckets: `bkt`."""
        at = f"127.0.0.1:{self.port}"
        if self.kind == "nats":
            subprocess.run([sys.executable, "-c", MAKE_BUCKET, f"nats://{at}", USER, PASSWORD], check=True)
        if self.kind == "gs":
            asked = urllib.request.Request(
                f"http://{at}/storage/v1/b?project=p",
                json.dumps({"name": "bkt"}).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(asked, timeout=10):
                pass

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def stop(self) -> None:
        if self.process is not None:
            self.resume()
            self.process.kill()
            self.process.wait()
        self.process = None

    def pause(self) -> None:
        """From here on connections are accepted by the kernel and never answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def serving(kind: str, folder: Path) -> Iterator[Store]:
    """A store that runs, with its bucket."""
    store = Store(kind, folder)
    store.start()
    try:
        store.make_bucket()
        yield store
    finally:
        store.stop()
