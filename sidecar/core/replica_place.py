"""Where a replica is: its type, its printable label, the host to knock at, and what Litestream would refuse about it.

Source: cmd/litestream/main.go (`ReplicaType`, `New*ReplicaFromConfig`, `cloneReplicaConfigWithRelativePath`) and
replica_url.go. Works on the texts of one replica with the top level's defaults already filled in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote

from sidecar.core import golang
from sidecar.core.litestream_keys import Generation
from sidecar.core.model import Database

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#.*)?", re.DOTALL)
_HOST = re.compile(r"(?:\[[^\[\]]*\]|[^\[\]\s:]*)(?::[0-9]*)?")
_LIKE_URL = re.compile(r"^\w+://")
_GO_VALID_PATH = re.compile(r"[A-Za-z0-9\-_.~!$&'()*+,;=:@\[\]%/]*")
_GO_PATH_SAFE = "/-_.~$&+,:;=@"  # what Go's EscapedPath leaves as it is
_PORTS = {"http": 80, "https": 443, "sftp": 22, "nats": 4222, "webdav": 80, "webdavs": 443}
_PORT_MAX = 65535
_LOCAL = re.compile(r"localhost|127\.0\.0\.1|10\..*|192\.168\..*|172\.(1[6-9]|2\d|3[01])\..*|.*\.local(host)?")

# Keys that exclude `url`, and what must be known in the end, by type.
_BESIDE_URL = {
    "file": ("path",), "s3": ("path", "bucket"), "gs": ("path", "bucket"), "abs": ("path", "bucket"),
    "oss": ("path", "bucket"), "sftp": ("path", "host"), "webdav": ("path", "webdav-url"), "nats": (),
}  # fmt: skip
_NEEDED = {
    "file": ("path",), "s3": ("bucket",), "gs": ("bucket",), "abs": ("bucket",), "oss": ("bucket",),
    "sftp": ("host", "user"), "webdav": ("webdav-url",), "nats": ("bucket",),
}  # fmt: skip
TYPES: Mapping[Generation, frozenset[str]] = {
    "0.3": frozenset({"file", "s3", "gs", "abs", "sftp"}),
    "0.5": frozenset(_NEEDED),
}


@dataclass(frozen=True, slots=True)
class Url:
    """A replica URL in the parts that Go's url.Parse makes of it; `path` is decoded."""

    scheme: str
    user: str
    password: str
    host: str
    path: str
    query: str
    raw_path: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """What a person and a probe may know of a replica."""

    type: str
    label: str
    endpoint: tuple[str, int] | None


def parse_url(text: str) -> Url | None:
    """The parts of a URL; None where Go's url.Parse refuses it."""
    match = _URL.fullmatch(text)
    if match is None or re.search(r"%(?![0-9A-Fa-f]{2})", match[3]) or re.search(r"[\x00-\x1f\x7f]", text):
        return None
    userinfo, _, host = match[2].rpartition("@")
    if not _HOST.fullmatch(host):
        return None
    user, _, password = userinfo.partition(":")
    return Url(match[1].lower(), unquote(user), unquote(password), host, unquote(match[3]), match[4] or "", match[3])


def type_of(fields: Mapping[str, str], generation: Generation) -> str:
    """The replica's type: the URL's scheme, else `type`, else file; 0.3's gcs is called gs."""
    url = fields.get("url", "")
    scheme = url.partition("://")[0].lower() if _LIKE_URL.match(url) else ""
    kind = scheme or fields.get("type", "") or "file"
    if generation == "0.3":
        return {"gcs": "gs", "gs": "unknown"}.get(kind, kind)
    return "webdav" if kind == "webdavs" else kind


def below(fields: Mapping[str, str], relative: str, kind: str) -> dict[str, str]:
    """The replica of one file found under `dir:`: its path relative to the folder is appended to `url`, else to `path`."""
    moved = dict(fields)
    url = parse_url(fields["url"]) if fields.get("url") else None
    if url is not None:
        head = re.match(r"[^:]*://[^/?#]*", fields["url"])
        tail = re.search(r"[?#].*\Z", fields["url"], re.DOTALL)
        path = "/" + golang.join(url.path, relative.lstrip("/")).lstrip("/")
        moved["url"] = (head[0] if head else "") + quote(path, safe=_GO_PATH_SAFE) + (tail[0] if tail else "")
    else:
        moved["path"] = golang.join(fields.get("path", ""), relative) if kind in _NEEDED else relative
    return moved


def objections(fields: Mapping[str, str], generation: Generation) -> list[tuple[str, str]]:
    """(key, sentence) for everything that Litestream would refuse about a replica. Never shows a value."""
    kind, url_text = type_of(fields, generation), fields.get("url", "")
    found = []
    if _LIKE_URL.match(fields.get("path", "")):
        found.append(("path", "is a URL; write it under `url:`"))
    if kind not in TYPES[generation]:
        known = ", ".join(sorted(TYPES[generation])).replace("gs", "gcs" if generation == "0.3" else "gs")
        return [
            *found,
            ("type" if not url_text else "url", f"names no replica type of Litestream {generation} ({known})"),
        ]
    url = parse_url(url_text) if url_text and not _is_arn(url_text) else None
    if url_text and url is None and not _is_arn(url_text):
        what = "cannot be read as a URL" if "://" in url_text else "needs a scheme, as in `s3://bucket/path`"
        return [*found, ("url", what)]
    if url_text:
        beside = [key for key in _BESIDE_URL[kind] if fields.get(key)]
        found += [(key, f"and `url` exclude each other for a replica of type {kind}; keep one") for key in beside]
    known_fields = {**_of_url(url, kind, generation), **{key: value for key, value in fields.items() if value}}
    if _is_arn(url_text):
        known_fields.setdefault("bucket", "arn")
    for key in _NEEDED[kind]:
        if not known_fields.get(key):
            found.append((key, f"is missing; a replica of type {kind} needs it"))
    if kind == "nats" and bool(fields.get("client-cert")) != bool(fields.get("client-key")):
        found.append(("client-cert", "and `client-key` must be given together"))
    return found


def _is_arn(url: str) -> bool:
    return url.lower().startswith("s3://arn:") and ":accesspoint/" in url.lower()


def _of_url(url: Url | None, kind: str, generation: Generation) -> dict[str, str]:
    """The settings that a URL stands for."""
    if url is None:
        return {}
    inner = golang.clean(url.path).lstrip("/") if url.path else ""
    if kind == "file":
        # Go prints the URL again without its scheme, so a folder `a b` becomes `a%20b` on the disk.
        path = url.raw_path if _GO_VALID_PATH.fullmatch(url.raw_path) else quote(url.path, safe=_GO_PATH_SAFE)
        return {"path": golang.clean(f"//{url.host}{path}" if url.host else path)}
    if kind == "sftp":
        return {"host": url.host, "user": url.user, "password": url.password, "path": url.path}
    if kind == "webdav":
        scheme = "https" if url.scheme == "webdavs" else "http"
        return {"webdav-url": f"{scheme}://{url.host}" if url.host else "", "path": url.path}
    if kind == "nats":
        return {"host": url.host, "bucket": inner}
    bucket, endpoint = url.host, ""
    if kind == "s3":
        bucket, endpoint = _s3_host(url.host, generation)
        endpoint = (parse_qs(url.query).get("endpoint") or [endpoint])[0]
    return {"bucket": bucket, "path": inner, "endpoint": endpoint}


def _s3_host(host: str, generation: Generation) -> tuple[str, str]:
    """Bucket and endpoint of an S3 URL's host: `bucket.server:9000` names both (s3.ParseHost)."""
    bare = host.partition(":")[0]
    if generation == "0.3":
        local = re.fullmatch(r"(?:(.+)\.)?localhost", bare)
        return (local[1] or "", "http://localhost" + host[len(bare) :]) if local else (bare, "")
    if ":" in host and ".com" not in host:
        bucket, dot, rest = host.partition(".")
        return (bucket, f"http://{rest}") if dot else ("", f"http://{host}")
    return host, ""


def place(fields: Mapping[str, str], generation: Generation, absolute: Callable[[str], str]) -> Place:
    """Type, label and endpoint of a replica that `objections` has none against. `absolute` resolves a file's path."""
    kind, url_text = type_of(fields, generation), fields.get("url", "")
    if _is_arn(url_text):
        return Place(kind, url_text.partition("?")[0], _host_port(fields.get("endpoint", "")))
    url = parse_url(url_text) if url_text else None
    known = {**_of_url(url, kind, generation), **{key: value for key, value in fields.items() if value}}
    path = known.get("path", "")
    if kind == "file":
        return Place(kind, f"file://{absolute(path)}", None)
    if kind == "sftp":
        return Place(kind, _label("sftp", known["host"], path), _split_port(known["host"], _PORTS["sftp"]))
    if kind == "webdav":
        site = parse_url(known["webdav-url"])
        host, base = (site.host, site.path) if site is not None else (known["webdav-url"], "")
        port = _PORTS.get(site.scheme, 80) if site is not None else 80
        return Place(kind, _label("webdav", host, golang.join(base, path)), _split_port(host, port))
    if kind == "nats":
        host = _of_url(url, kind, generation).get("host", "")
        endpoint = _split_port(host, _PORTS["nats"]) if host else None
        return Place(kind, _label("nats", host, known["bucket"]), endpoint)
    scheme = "gcs" if kind == "gs" and generation == "0.3" else kind
    endpoint = _host_port(known.get("endpoint", "")) if kind in {"s3", "oss", "abs"} else None
    return Place(kind, _label(scheme, known["bucket"], path), endpoint)


def crowded(databases: Iterable[Database]) -> list[str]:
    """A sentence for every place that two databases replicate to: Litestream does not see it, and a restore brings back a mixture."""
    there: dict[tuple[str, str, tuple[str, int] | None], list[str]] = {}
    for each in databases:
        there.setdefault((each.replica.type, each.replica.label, each.replica.endpoint), []).append(each.path)
    return [
        f"{' and '.join(paths)} replicate to the same place, {label}: what comes back is neither of them; give each "
        + ("a bucket of its own, since `path` means nothing for NATS" if kind == "nats" else "a path of its own")
        for (kind, label, _), paths in there.items()
        if len(paths) > 1
    ]


def _label(scheme: str, host: str, path: str) -> str:
    return f"{scheme}://{host.rpartition('@')[2]}/{path.strip('/')}".rstrip("/")


def _host_port(endpoint: str) -> tuple[str, int] | None:
    """Host and port of an HTTP endpoint; without a scheme Litestream takes http for local hosts, else https."""
    if not endpoint:
        return None
    url = parse_url(endpoint) or parse_url(f"{_guessed_scheme(endpoint)}://{endpoint}")
    return _split_port(url.host, _PORTS.get(url.scheme, _PORTS["https"])) if url is not None else None


def _guessed_scheme(endpoint: str) -> str:
    return "http" if _LOCAL.fullmatch(endpoint.partition("/")[0].partition(":")[0]) else "https"


def _split_port(host: str, default: int) -> tuple[str, int] | None:
    match = re.fullmatch(r"(?:\[([^\]]+)\]|([^:]+))(?::([0-9]*))?", host)
    if match is None:
        return None
    port = int(match[3]) if match[3] else default
    return (match[1] or match[2], port) if 0 < port <= _PORT_MAX else None
