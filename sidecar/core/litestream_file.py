"""litestream.yml as a whole: its entries, how Litestream can be asked, and every mistake in it at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from sidecar.core import golang, litestream_keys
from sidecar.core.errors import Mistake
from sidecar.core.litestream_entries import (
    AGE,
    DEFAULT_L0_RETENTION,
    DEFAULT_RETENTION,
    DEFAULT_SNAPSHOT_INTERVAL,
    SEVERAL,
    Around,
    Entry,
    Snapshots,
    entry,
    span,
)
from sidecar.core.litestream_keys import Generation, truth
from sidecar.core.redact import SECRET_LENGTH_MIN, is_secret_key
from sidecar.core.replica_place import parse_url
from sidecar.core.tree import Scalar, Table, Tree

DEFAULT_SOCKET = "/var/run/litestream.sock"
ANYWHERE = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - what Litestream listens on, not we
_ENV_SECRETS = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "LITESTREAM_ACCESS_KEY_ID",
    "LITESTREAM_SECRET_ACCESS_KEY", "LITESTREAM_AZURE_ACCOUNT_KEY", "OSS_ACCESS_KEY_SECRET",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Meaning:
    """What the file says, before any folder is looked into."""

    entries: tuple[Entry, ...]
    socket_path: str | None
    metrics_url: str | None
    l0_retention: timedelta
    warnings: tuple[str, ...]


def meaning(root: Table, generation: Generation, around: Around) -> tuple[Meaning, tuple[Mistake, ...], str]:
    """The file's meaning, its mistakes in the order of lines, and one hint about them (empty without mistakes)."""
    entries, mistakes, warnings = _entries(root, generation, around)
    socket_path, metrics_url = _asking(root, generation, around, mistakes)
    whole = Meaning(
        entries=_with_snapshots(root, entries, generation, mistakes),
        socket_path=socket_path,
        metrics_url=metrics_url,
        l0_retention=DEFAULT_L0_RETENTION if (given := span(root.get("l0-retention"))) is None else given,
        warnings=tuple(warnings),
    )
    ordered = tuple(sorted(mistakes, key=lambda each: each.line or 0))
    return whole, ordered, _hint(ordered) if ordered else ""


def _entries(root: Table, generation: Generation, around: Around) -> tuple[list[Entry], list[Mistake], list[str]]:
    mistakes = litestream_keys.mistakes(root, generation)
    warnings: list[str] = []
    entries: list[Entry] = []
    broken = {each.field for each in mistakes}
    listed = root.items("dbs")
    if not listed and "dbs" not in broken:
        mistakes.append(Mistake("dbs", root.line_of("dbs"), "no database is listed"))
    seen: dict[str, str] = {}
    for index, each in enumerate(listed):
        if not isinstance(each, Table):
            continue  # a mistake of type, found above
        made, wrong, warned = entry(each, index, root, generation, around)
        typed_wrong = any(field.startswith(f"dbs[{index}].") for field in broken)
        mistakes += [
            mistake
            for mistake in wrong
            if mistake.field not in broken and not (typed_wrong and mistake.field == f"dbs[{index}]")
        ]
        warnings += warned
        if made is None:
            continue
        if made.path in seen:
            mistakes.append(
                Mistake(f"{made.place}.path", each.line_of("path"), f"is already listed as {seen[made.path]}")
            )
        elif made.path:
            seen[made.path] = made.place
        entries.append(made)
    return entries, mistakes, warnings


def _asking(
    root: Table, generation: Generation, around: Around, mistakes: list[Mistake]
) -> tuple[str | None, str | None]:
    """The control socket and the metrics page, where they are enabled."""
    socket, addr = root.table("socket"), root.text("addr")
    enabled = generation == "0.5" and truth(socket.get("enabled"))
    socket_path = golang.absolute(socket.text("path") or DEFAULT_SOCKET, around.cwd) if enabled else None
    if not addr:
        return socket_path, None
    host, colon, port = addr.rpartition(":")
    if not colon or not port:
        mistakes.append(Mistake("addr", root.line_of("addr"), "needs a port, as in `:9090`"))
        return socket_path, None
    bare = host.strip("[]")
    at = "127.0.0.1" if bare in ANYWHERE else f"[{bare}]" if ":" in bare else bare
    return socket_path, f"http://{at}:{port}/metrics"


def _with_snapshots(
    root: Table, entries: list[Entry], generation: Generation, mistakes: list[Mistake]
) -> tuple[Entry, ...]:
    """The entries with their snapshot times. In 0.5 they are one for all: the top level's, else any database's."""
    if generation == "0.3":
        return tuple(entries)
    interval = _snapshot_time(root, "interval", mistakes) or DEFAULT_SNAPSHOT_INTERVAL
    retention = _snapshot_time(root, "retention", mistakes) or DEFAULT_RETENTION
    return tuple(replace(each, snapshots=Snapshots(interval, retention)) for each in entries)


def _snapshot_time(root: Table, key: str, mistakes: list[Mistake]) -> timedelta | None:
    first: tuple[timedelta, str] | None = None
    for index, each in enumerate(root.items("dbs")):
        table = each.table("snapshot") if isinstance(each, Table) else root.table("")
        here = span(table.get(key))
        if here is None:
            continue
        if first is None:
            first = (here, f"dbs[{index}]")
        elif here != first[0]:
            what = f"differs from {first[1]}; Litestream has one for all databases"
            mistakes.append(Mistake(f"dbs[{index}].snapshot.{key}", table.line_of(key), what))
    return span(root.table("snapshot").get(key)) or (first[0] if first is not None else None)


def secrets(root: Tree, env: Mapping[str, str]) -> tuple[str, ...]:
    """Every literal value that must not be shown, from the file and the environment, the longest first."""
    found = {env[name] for name in _ENV_SECRETS if name in env}
    stack: list[tuple[str, Tree]] = [("", root)]
    seen: set[tuple[int, bool]] = set()
    while stack:
        key, here = stack.pop()
        secret = is_secret_key(key) or key == "identities"
        if (id(here), secret) in seen:
            continue  # an anchor that is used many times
        seen.add((id(here), secret))
        if isinstance(here, Table):
            stack += [(key if secret else below, each) for below, each in here.entries.items()]
        elif not isinstance(here, Scalar):
            stack += [(key, each) for each in here.items]
        elif secret:
            found.add(here.text)
        elif "://" in here.text and (url := parse_url(here.text)) is not None:
            found |= {url.password, url.user if url.scheme == "s3" else ""}
    return tuple(sorted((each for each in found if len(each) >= SECRET_LENGTH_MIN), key=len, reverse=True))


def _hint(mistakes: tuple[Mistake, ...]) -> str:
    """The hint of the first mistake that has one of its own."""
    for each in mistakes:
        if each.message == SEVERAL:
            return "keep one replica per database, written as `replica:`"
        if each.message == AGE:
            return "encrypt at the store instead (S3: sse-kms-key-id), or run Litestream 0.3"
        if each.field == "dbs":
            return "list at least one database under `dbs:`, with `path:` and `replica:`"
    return "correct litestream.yml; Litestream itself refuses it too"
