"""The real Prometheus and Alertmanager over the real daemon, with seconds for minutes, and somebody who takes the messages."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from tests.litestreams import free_port, until
from tests.ops.monitoring import MONITORING, RULES, need

SCRAPED = """\
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [rules.yml]
alerting: {alertmanagers: [{static_configs: [{targets: ["127.0.0.1:%(alertmanager)d"]}]}]}
scrape_configs:
  - job_name: litestream-sidecar
    static_configs: [{targets: ["127.0.0.1:%(sidecar)d"]}]
"""


@dataclass
class Hook:
    """A webhook receiver: what Alertmanager sent, alert by alert. A heartbeat is welcome too."""

    received: list[dict[str, Any]] = field(default_factory=list)

    def __enter__(self) -> Self:
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"] or 0))
                if self.headers["content-type"] == "application/json":
                    received.extend(json.loads(body)["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def of(self, name: str, status: str) -> dict[str, Any]:
        """The newest message about an alert; empty where its newest is not of this status."""
        found = [each for each in list(self.received) if each["labels"]["alertname"] == name]
        return found[-1] if found and found[-1]["status"] == status else {}

    def until(self, name: str, status: str, *, within: float = 30) -> dict[str, Any]:
        return until(
            lambda: self.of(name, status),
            within=within, every=0.1, say=f"{name} {status}; received {[(m['labels']['alertname'], m['status']) for m in self.received]}",
        )  # fmt: skip


@dataclass
class Prometheus:
    """Prometheus' query API."""

    port: int

    def ask(self, path: str, **parameters: Any) -> Any:
        answer = httpx.get(f"http://127.0.0.1:{self.port}/api/v1/{path}", params=parameters, timeout=10).json()
        assert answer["status"] == "success", (parameters, answer)
        return answer["data"]

    def instant(self, expr: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("query", query=expr)["result"]
        return found

    def over(self, expr: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("query_range", query=expr, start=start, end=end, step=step)["result"]
        return found

    def firing(self) -> set[str]:
        return {each["labels"]["alertname"] for each in self.ask("alerts")["alerts"] if each["state"] == "firing"}


def hurried(text: str, to: str = "2s") -> str:
    """The rules with every `for` shortened, and nothing else changed."""
    found, count = re.subn(r"^( +for: )\w+$", rf"\g<1>{to}", text, flags=re.MULTILINE)
    assert count > 10
    return found


@contextlib.contextmanager
def _running(command: list[str], folder: Path, ready: str) -> Iterator[None]:
    log = folder / f"{Path(command[0]).name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(ready, timeout=2).status_code == 200
        return False

    try:
        until(answers, say=f"{command[0]} is ready")
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def prometheus(folder: Path, sidecar_port: int, *, alertmanager_port: int = 9) -> Iterator[Prometheus]:
    """Prometheus over one sidecar, with our rules in a hurry."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    (folder / "rules.yml").write_text(hurried(RULES.read_text()))
    (folder / "prometheus.yml").write_text(SCRAPED % {"alertmanager": alertmanager_port, "sidecar": sidecar_port})
    command = [need("prometheus"), "--config.file=prometheus.yml", f"--storage.tsdb.path={folder / 'tsdb'}",
               f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]  # fmt: skip
    with _running(command, folder, f"http://127.0.0.1:{port}/-/ready"):
        yield Prometheus(port)


def alertmanager_config(hook_port: int) -> str:
    """The example that is shipped, in a hurry, with all messages going to one place."""
    document = yaml.safe_load((MONITORING / "alertmanager.yml").read_text())
    for route in (document["route"], *document["route"].get("routes", [])):
        route |= {"group_wait": "0s", "group_interval": "1s"}
    for receiver in document["receivers"]:
        for each in receiver["webhook_configs"]:
            each["url"] = f"http://127.0.0.1:{hook_port}/"
    return yaml.safe_dump(document)


@contextlib.contextmanager
def alertmanager(folder: Path, hook_port: int) -> Iterator[int]:
    """Alertmanager with the example's routes and inhibitions; its port."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    (folder / "alertmanager.yml").write_text(alertmanager_config(hook_port))
    command = [need("prometheus-alertmanager"), "--config.file=alertmanager.yml", f"--storage.path={folder / 'am'}",
               f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]  # fmt: skip
    with _running(command, folder, f"http://127.0.0.1:{port}/-/ready"):
        yield port
