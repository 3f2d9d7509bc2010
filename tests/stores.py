"""Real stores besides S3, as small servers on this machine."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.litestreams import SCRIPTS, Server

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
class Store(Server):
    """One of these. `kind` is Litestream's `type`."""

    kind: str = "webdav"

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

    @property
    def argv(self) -> list[str]:
        at = f"127.0.0.1:{self.port}"
        if self.kind in {"webdav", "sftp"}:
            return self.rclone(self.kind, "--user", USER, "--pass", PASSWORD)
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


@contextlib.contextmanager
def serving(kind: str, folder: Path) -> Iterator[Store]:
    """A store that runs, with its bucket."""
    store = Store(folder, kind=kind)
    store.start()
    try:
        store.make_bucket()
        yield store
    finally:
        store.stop()
