"""Where a replica is, as Litestream reads it from its configuration and environment; nothing where that is not plain.

Source: cmd/litestream/main.go (`NewS3ReplicaClientFromConfig`, `newFileReplicaClientFromConfig`, `applyLitestreamEnv`,
`ReplicaSettings.SetDefaults`), s3/replica_client.go (`Init`, `ParseHost`) and the AWS SDK's environment. Only what is listed here is
understood; with any other key, variable or spelling the replica is Litestream's own business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias
from urllib.parse import parse_qs

import yaml

from sidecar.core import golang
from sidecar.core.litestream_keys import DEFAULTED_05
from sidecar.core.model import Replica
from sidecar.core.replica_place import parse_url, place

_ANY = frozenset({"type", "name", "sync-interval", "validation-interval", "max-sync-ltx-files", "auto-recover"})
_FILE = _ANY | {"path", "url"}
_S3 = _ANY | {
    "url", "bucket", "path", "endpoint", "region", "access-key-id", "secret-access-key", "force-path-style",
    "sign-payload", "skip-verify", "storage-class", "part-size", "concurrency", "require-content-md5",
}  # fmt: skip
_DEFAULT_FOR_ALL = _ANY - {"type", "name"}  # at the top level; texts of other types are no matter
_NOTHING = frozenset({"~", "null", "Null", "NULL"})
_TRUE_OR_NOT = frozenset({"", "true", "false"})

_ENV = frozenset(
    {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION",
     "AWS_EC2_METADATA_DISABLED", "AWS_PAGER"}
)  # fmt: skip
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")

_ENDPOINT = re.compile(r"(https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?)/?")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_SPECIAL_BUCKET = re.compile(r".*(?:--[a-z0-9]+-s3|-s3alias)")  # directory buckets, access points: other rules
_REGION = re.compile(r"[a-z0-9-]{1,40}")
# What obstore takes and sends as it is; other characters it would write in a way of its own.
_PATH = re.compile(r"[A-Za-z0-9_.=+@:,-]+(?:/[A-Za-z0-9_.=+@:,-]+)*")
_PROVIDER = re.compile(r"amazonaws\.com|digitaloceanspaces|backblazeb2|filebase|scw\.cloud|googleapis")
DEFAULT_REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class Folder:
    """A file replica: an absolute path."""

    path: str


@dataclass(frozen=True, slots=True)
class Store:
    """A bucket, and how it is asked. `endpoint` is empty for AWS itself, which is asked by the bucket's own host name."""

    endpoint: str
    region: str
    bucket: str
    path_style: bool
    key_id: str = field(repr=False)
    secret: str = field(repr=False)
    token: str = field(repr=False, default="")


@dataclass(frozen=True, slots=True)
class Prefix:
    """An S3 replica: below `path` (no slash at either end) lie the levels `0000/` to `0009/`."""

    store: Store
    path: str


Target: TypeAlias = Folder | Prefix


def target_of(replica: Replica, env: Mapping[str, str]) -> Target | None:
    """Where to list this replica of Litestream 0.5; None where Litestream is to be asked."""
    if replica.type not in {"file", "s3"}:
        return None
    fields = _fields(replica.config)
    if fields is None:
        return None
    if replica.type == "file":
        return _folder(fields)
    return _prefix(fields, env) if _plain(env) else None


def _fields(config: str) -> dict[str, str] | None:
    """The replica's settings as texts, the top level's filled in; None where something else than texts stands there."""
    try:
        # BaseLoader builds nothing but texts, lists and mappings: `0123` stays the text that Litestream reads.
        root = yaml.load(config, Loader=yaml.BaseLoader)  # noqa: S506
        (entry,) = root["dbs"]
        own, above = entry["replica"], {key: value for key, value in root.items() if key != "dbs"}
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not isinstance(own, dict) or any(key not in DEFAULTED_05 and key not in _DEFAULT_FOR_ALL for key in above):
        return None
    relevant = {key: value for key, value in above.items() if key in _S3 and not own.get(key)}
    fields = {**own, **relevant}
    if any(not isinstance(value, str) or value in _NOTHING for value in fields.values()):
        return None
    return {key: value for key, value in fields.items() if value}


def _folder(fields: Mapping[str, str]) -> Folder | None:
    own = {key: value for key, value in fields.items() if key not in DEFAULTED_05}
    if set(own) - _FILE:
        return None
    path = place(own, "0.5", lambda each: each).label.removeprefix("file://")
    return Folder(path) if path.startswith("/") else None


def _plain(env: Mapping[str, str]) -> bool:
    """Whether the environment asks for nothing that only the AWS SDK does: profiles, roles, own endpoints, a CA, a proxy."""
    if any(name.startswith("AWS_") and name not in _ENV and value for name, value in env.items()):
        return False
    if any(env.get(each) or env.get(each.upper()) for each in _PROXIES):
        return False
    shared = Path(env.get("HOME") or Path.home()) / ".aws"
    return not any(_is_there(shared / each) for each in ("config", "credentials"))


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # in another user's home, which the SDK cannot read either
        return False


def _prefix(fields: Mapping[str, str], env: Mapping[str, str]) -> Prefix | None:
    if set(fields) - _S3:
        return None
    if fields.get("sign-payload", "true") != "true" or fields.get("skip-verify", "false") != "false":
        return None
    said = dict(fields) if not fields.get("url") else _of_url(fields)
    if said is None:
        return None
    endpoint = said.get("endpoint", "")
    endpoint = endpoint if "://" in endpoint or not endpoint else f"https://{endpoint}"
    style = said.get("force-path-style", "")
    region = said.get("region") or (DEFAULT_REGION if endpoint else "")  # else Litestream asks where the bucket is
    keys = _credentials(fields, env)
    server, bucket, path = _ENDPOINT.fullmatch(endpoint), said.get("bucket", ""), said.get("path", "")
    if (
        keys is None
        or style not in _TRUE_OR_NOT
        or (endpoint and (server is None or style == "false" or "googleapis" in endpoint))
        or not _REGION.fullmatch(region)
        or not _BUCKET.fullmatch(bucket)
        or _SPECIAL_BUCKET.fullmatch(bucket)
        or not _PATH.fullmatch(path)
        or {".", ".."} & set(path.split("/"))
    ):
        return None
    path_style = bool(endpoint) or style == "true"
    return Prefix(Store(server[1] if server else "", region, bucket, path_style, *keys), path)


def _of_url(fields: Mapping[str, str]) -> dict[str, str] | None:
    """The settings with those of the URL under them, as Litestream lays them."""
    url = parse_url(fields["url"])
    if url is None or url.scheme != "s3" or url.user or url.password or fields.get("bucket") or fields.get("path"):
        return None
    query = parse_qs(url.query)
    if set(query) - {"endpoint", "region", "forcePathStyle"} or any(len(each) > 1 for each in query.values()):
        return None
    under = {key.replace("forcePathStyle", "force-path-style"): value for key, (value,) in query.items()}
    if under.get("endpoint") and "://" not in under["endpoint"]:  # Litestream guesses the scheme by the host
        return None
    bucket, endpoint = url.host, ""
    if ":" in url.host:
        if ".com" in url.host:
            return None
        bucket, _, server = url.host.partition(".")
        endpoint = f"http://{server}"
        under = {"region": DEFAULT_REGION, **under}
    elif _PROVIDER.search(url.host):
        return None
    return {"endpoint": endpoint, **under, **fields, "bucket": bucket, "path": golang.clean(url.path).lstrip("/")}


def _credentials(fields: Mapping[str, str], env: Mapping[str, str]) -> tuple[str, str, str] | None:
    """Key, secret and session token; None where Litestream would look for them in other places."""
    key, secret = fields.get("access-key-id", ""), fields.get("secret-access-key", "")
    if key and secret:  # then no token of the environment's belongs to them
        return key, secret, ""
    # LITESTREAM_… stands in where AWS_… is not set at all.
    key = env.get("AWS_ACCESS_KEY_ID", env.get("LITESTREAM_ACCESS_KEY_ID", ""))
    secret = env.get("AWS_SECRET_ACCESS_KEY", env.get("LITESTREAM_SECRET_ACCESS_KEY", ""))
    return (key, secret, env.get("AWS_SESSION_TOKEN", "")) if key and secret else None
