"""litestream.yml's keys and their types, per generation; a wrong type anywhere keeps Litestream from starting at all.

Source: cmd/litestream/main.go of v0.3.13 and v0.5.17 (`Config`, `DBConfig`, `ReplicaSettings`). Keys that are not here
are ignored by Litestream, so they are ignored here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import Literal, TypeAlias

from sidecar.core import golang
from sidecar.core.errors import Mistake
from sidecar.core.tree import Items, Scalar, Table, Tree

Generation: TypeAlias = Literal["0.3", "0.5"]


class Kind(Enum):
    """What Litestream wants under a key."""

    TEXT = auto()
    BOOL = auto()
    WHOLE = auto()
    DURATION = auto()
    SIZE = auto()
    TEXTS = auto()


Shape: TypeAlias = "Kind | Mapping[str, Shape] | tuple[Mapping[str, Shape]]"  # a tuple: a list of that

_T, _B, _W, _D = Kind.TEXT, Kind.BOOL, Kind.WHOLE, Kind.DURATION
_AGE: Mapping[str, Shape] = {"identities": Kind.TEXTS, "recipients": Kind.TEXTS}
_SNAPSHOT: Mapping[str, Shape] = {"interval": _D, "retention": _D}

# Texts that a replica takes from the top level where it has none of its own (ReplicaSettings.SetDefaults).
DEFAULTED_05 = (
    "access-key-id", "secret-access-key", "region", "bucket", "endpoint", "storage-class", "sse-customer-algorithm",
    "sse-customer-key", "sse-customer-key-path", "sse-kms-key-id", "account-name", "account-key", "sas-token", "host",
    "user", "password", "key-path", "jwt", "seed", "creds", "nkey", "username", "token", "client-cert", "client-key",
)  # fmt: skip
DEFAULTED_03 = ("access-key-id", "secret-access-key")

_SETTINGS_05: Mapping[str, Shape] = {
    **dict.fromkeys((*DEFAULTED_05, "host-key", "webdav-url", "webdav-username", "webdav-password"), _T),
    **dict.fromkeys(
        ("auto-recover", "force-path-style", "sign-payload", "require-content-md5", "skip-verify", "concurrent-writes",
         "tls"), _B),
    **dict.fromkeys(("max-sync-ltx-files", "concurrency", "max-reconnects"), _W),
    **dict.fromkeys(("sync-interval", "validation-interval", "reconnect-wait", "timeout"), _D),
    "part-size": Kind.SIZE, "root-cas": Kind.TEXTS, "age": _AGE,
}  # fmt: skip
_REPLICA_05: Mapping[str, Shape] = {**_SETTINGS_05, **dict.fromkeys(("type", "name", "path", "url"), _T)}
_DATABASE_05: Mapping[str, Shape] = {
    **dict.fromkeys(("path", "dir", "pattern", "meta-path", "meta-dir"), _T),
    **dict.fromkeys(("recursive", "watch", "restore-if-db-not-exists"), _B),
    **dict.fromkeys(("monitor-interval", "checkpoint-interval", "busy-timeout"), _D),
    **dict.fromkeys(("min-checkpoint-page-count", "truncate-page-n", "max-sync-wal-bytes"), _W),
    "snapshot": _SNAPSHOT, "replica": _REPLICA_05, "replicas": (_REPLICA_05,),
}  # fmt: skip
_TOP_05: Mapping[str, Shape] = {
    **_SETTINGS_05,
    **dict.fromkeys(("addr", "heartbeat-url", "exec", "mcp-addr"), _T),
    **dict.fromkeys(
        ("l0-retention", "l0-retention-check-interval", "heartbeat-interval", "shutdown-sync-timeout",
         "shutdown-sync-interval"), _D),
    "verify-compaction": _B, "retention": {"enabled": _B}, "validation": {"interval": _D}, "snapshot": _SNAPSHOT,
    "socket": {"enabled": _B, "path": _T, "permissions": _W}, "levels": ({"interval": _D},),
    "logging": {"level": _T, "type": _T, "stderr": _B, "source": _B}, "dbs": (_DATABASE_05,),
}  # fmt: skip

_REPLICA_03: Mapping[str, Shape] = {
    **dict.fromkeys(
        ("type", "name", "path", "url", "access-key-id", "secret-access-key", "region", "bucket", "endpoint",
         "account-name", "account-key", "host", "user", "password", "key-path"), _T),
    **dict.fromkeys(
        ("retention", "retention-check-interval", "sync-interval", "snapshot-interval", "validation-interval"), _D),
    "force-path-style": _B, "skip-verify": _B, "age": _AGE,
}  # fmt: skip
_DATABASE_03: Mapping[str, Shape] = {
    "path": _T, "meta-path": _T, "monitor-interval": _D, "checkpoint-interval": _D, "min-checkpoint-page-count": _W,
    "max-checkpoint-page-count": _W, "replicas": (_REPLICA_03,),
}  # fmt: skip
_TOP_03: Mapping[str, Shape] = {
    "addr": _T, "exec": _T, "access-key-id": _T, "secret-access-key": _T, "dbs": (_DATABASE_03,),
    "logging": {"level": _T, "type": _T, "stderr": _B},
}  # fmt: skip

SETTINGS: Mapping[Generation, Mapping[str, Shape]] = {
    "0.3": dict.fromkeys(DEFAULTED_03, _T),
    "0.5": _SETTINGS_05,
}
REPLICA: Mapping[Generation, Mapping[str, Shape]] = {"0.3": _REPLICA_03, "0.5": _REPLICA_05}
DEFAULTED: Mapping[Generation, tuple[str, ...]] = {"0.3": DEFAULTED_03, "0.5": DEFAULTED_05}
_TOP: Mapping[Generation, Mapping[str, Shape]] = {"0.3": _TOP_03, "0.5": _TOP_05}
# Durations that Litestream 0.5 refuses unless they are longer than nothing (Config.Validate), by the end of their place.
_POSITIVE = (
    "snapshot.interval", "snapshot.retention", "l0-retention-check-interval", "shutdown-sync-interval", "sync-interval",
)  # fmt: skip
_NOT_NEGATIVE = ("l0-retention", "shutdown-sync-timeout")
_SIZE = re.compile(r"\s*[0-9][0-9.,]*\s*([kmgtpe]i?)?b?\s*", re.IGNORECASE)
_YES, _NO = frozenset({"y", "yes", "true", "on"}), frozenset({"n", "no", "false", "off"})


def mistakes(root: Table, generation: Generation) -> list[Mistake]:
    """Every value of a wrong type, and every duration that Litestream refuses."""
    found: list[Mistake] = []
    _walk(root, _TOP[generation], "", generation, found)
    return found


def truth(tree: Tree | None) -> bool:
    """A bool as Litestream's YAML library reads it (`y` and `n` count); what is none is false."""
    return isinstance(tree, Scalar) and tree.plain and tree.text.lower() in _YES


def nanoseconds(tree: Tree | None) -> int | None:
    """A duration; a bare number counts nanoseconds, as in Go. None where there is none or it is wrong."""
    if not isinstance(tree, Scalar):
        return None
    try:
        length = int(tree.text, 0) if tree.tag == "int" else golang.duration(tree.text)
    except ValueError:
        return None
    return length if abs(length) <= golang.NANOSECONDS_MAX else None


def _walk(tree: Tree, shape: Shape, field: str, generation: Generation, found: list[Mistake]) -> None:
    if isinstance(tree, Scalar) and tree.tag == "null":
        return  # YAML's null leaves Litestream's default
    if isinstance(shape, Kind):
        wrong = _wrong(tree, shape) or _refused(tree, shape, field, generation)
        if wrong:
            found.append(Mistake(field, tree.line, wrong))
    elif isinstance(shape, tuple):
        _walk_list(tree, shape[0], field, generation, found)
    elif isinstance(tree, Table):
        for key, value in tree.entries.items():
            if key in shape:
                _walk(value, shape[key], f"{field}.{key}" if field else key, generation, found)
    else:
        found.append(Mistake(field, tree.line, "must be a mapping: keys below it, further to the right"))


def _walk_list(tree: Tree, shape: Shape, field: str, generation: Generation, found: list[Mistake]) -> None:
    if not isinstance(tree, Items):
        found.append(Mistake(field, tree.line, "must be a list: entries that begin with `- `"))
        return
    for index, each in enumerate(tree.items):
        place = f"{field}[{index}]"
        if isinstance(each, Table):
            _walk(each, shape, place, generation, found)
        else:
            found.append(Mistake(place, each.line, "must hold keys such as `path:`"))


def _wrong(tree: Tree, kind: Kind) -> str:
    """What is wrong with a value, or nothing. Values are shown for durations and numbers only, which hold no secrets."""
    if kind is Kind.TEXTS:
        fine = isinstance(tree, Items) and all(isinstance(each, Scalar) for each in tree.items)
        return "" if fine else "must be a list of texts"
    if not isinstance(tree, Scalar):
        return "must be a single value"
    if kind is Kind.TEXT and "\0" in tree.text:
        return "holds a null byte, which no path may"
    if kind is Kind.BOOL:
        plain = tree.plain and tree.text.lower() in _YES | _NO
        return "" if plain else "must be true or false, without quotes"
    if kind is Kind.WHOLE:
        return "" if tree.tag == "int" else "must be a whole number"
    if kind is Kind.DURATION and nanoseconds(tree) is None:
        return f"`{tree.text}` is not a duration; write one like `30s`, `5m` or `24h` (Litestream has no days)"
    if kind is Kind.SIZE and not _SIZE.fullmatch(tree.text):
        return f"`{tree.text}` is not a size; write one like `5MB` or `5MiB`"
    return ""


def _refused(tree: Tree, kind: Kind, field: str, generation: Generation) -> str:
    length = nanoseconds(tree) if kind is Kind.DURATION and generation == "0.5" else None
    if length is None:
        return ""
    if length <= 0 and (field.endswith(_POSITIVE) or field.startswith("levels[")):
        return "must be longer than nothing"
    if length < 0 and field in _NOT_NEGATIVE:
        return "must not be negative"
    if field == "heartbeat-interval" and length < golang.duration("1m"):
        return "must be one minute or longer"
    return ""
