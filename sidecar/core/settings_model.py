"""What sidecar.yml can say (CONTRACT 2), typed, with defaults; and the rules that hold between its values.

Defaults of thresholds stand in `policy.py`. A rule refuses what could never be met: such a fleet would be red for ever.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import NewType

from sidecar.core.policy import Assertion, Policy
from sidecar.core.units import spell

Size = NewType("Size", int)  # bytes

MAX_LAG_MIN = timedelta(seconds=2)  # Litestream syncs once a second: less cannot be told from none
LOOK_EVERY_MIN = timedelta(seconds=1)  # ten LISTs each time
COMMAND_TIMEOUT_MIN = timedelta(seconds=1)
LOOK_GRACE = timedelta(minutes=2)  # a listing that takes longer than look-every and this is old when it arrives
SEATS_MAX = 64
NICE_MAX = 19
KEEP_COUNT_MIN = 2
PORT_MAX = 65535
SCHEMA_WORDS = frozenset({"auto", "user_version"})


@dataclass(frozen=True, slots=True)
class Listen:
    """Where HTTP is served: a host and port, or a Unix socket."""

    host: str = "127.0.0.1"
    port: int = 9810
    unix: str = ""  # path of a Unix socket; host and port then mean nothing

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect: loopback, or a Unix socket."""
        if self.unix or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix:{self.unix}" if self.unix else f"{host}:{self.port}"


def parse_listen(text: str) -> Listen:
    """`host:port`, `:port` (every address), `[::1]:port` or `unix:/path`. Raises ValueError with a sentence."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/"):
            raise ValueError(f"`{text}` needs an absolute path, as in `unix:/run/litestream-sidecar.sock`")
        return Listen("", 0, path)
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]/]*)):([0-9]{1,5})", text)
    if match is None or int(match[3]) > PORT_MAX:
        raise ValueError(f"`{text}` is no address; write `127.0.0.1:9810` or `unix:/run/litestream-sidecar.sock`")
    return Listen(match[1] or match[2] or "0.0.0.0", int(match[3]))  # noqa: S104 - asked for by an empty host


@dataclass(frozen=True, slots=True, kw_only=True)
class LitestreamSettings:
    """How Litestream is run and asked."""

    binary: str = "litestream"  # name or path
    socket: str | None = None  # None: what litestream.yml says
    metrics_url: str | None = None  # None: from litestream.yml's addr
    command_timeout: timedelta = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """The HTTP server."""

    listen: Listen = Listen()
    token_file: Path | None = None  # holds the bearer token

    @property
    def post_needs_token(self) -> bool:
        """Whether a POST must carry the token: always where others than this machine can connect."""
        return self.token_file is not None or not self.listen.is_local


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """How much of the machine may be used."""

    drills: int = 1
    looks: int = 4
    nice: int = 10
    scratch_max: Size = Size(50 * 1024**3)  # bytes
    requests_per_day: int | None = None  # that looks may make of the stores


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackSettings:
    """Where the gate keeps rollback artifacts, and how many. The bounds are kept by removing what a newer good deploy made old."""

    keep_dir: Path | None = None  # None: <state-dir>/rollback
    keep_count: int = 10  # deploys
    keep_max: Size = Size(50 * 1024**3)  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """Whom to tell; both URLs may carry a token, so they never show."""

    heartbeat_url: str | None = field(default=None, repr=False)
    webhook_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierSettings:
    """Another daemon with the same replicas, whose drills are taken over."""

    url: str | None = None  # http://, https:// or unix:, without userinfo
    token_file: Path | None = None  # holds the bearer token to send, where something before that daemon asks for one


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """What differs for one database. `policy` holds only the thresholds that are given, by field name."""

    path: str | None = None
    policy: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """sidecar.yml, options and defaults together."""

    litestream: LitestreamSettings = LitestreamSettings()
    http: HttpSettings = HttpSettings()
    state_dir: Path = Path()
    scratch_dir: Path | None = None
    policy: Policy = field(default_factory=Policy)
    databases: Mapping[str, DatabaseSettings] = field(default_factory=dict)
    resources: Resources = Resources()
    rollback: RollbackSettings = RollbackSettings()
    notify: Notify = Notify()
    verifier: VerifierSettings = VerifierSettings()

    @property
    def scratch(self) -> Path:
        """Where drills restore to."""
        return self.scratch_dir if self.scratch_dir is not None else self.state_dir / "scratch"

    @property
    def keep(self) -> Path:
        """Where rollback artifacts are kept."""
        return self.rollback.keep_dir if self.rollback.keep_dir is not None else self.state_dir / "rollback"

    @property
    def aliases(self) -> dict[str, str]:
        """Database path to the name it is given under `databases:`."""
        return {each.path: name for name, each in self.databases.items() if each.path is not None}

    def policy_for(self, name: str) -> Policy:
        """The thresholds of one database: the general ones, and what differs for it."""
        own = self.databases.get(name)
        return self.policy if own is None else replace(self.policy, **own.policy)  # type: ignore[arg-type] # by name


Place = tuple[str | int, ...]  # keys as written in the file, and indexes of lists
Fault = tuple[Place, str]  # where, and a sentence


def faults(settings: Settings) -> Iterator[Fault]:
    """Everything in the settings that cannot be met."""
    yield from _policy(settings.policy, ("policy",), set())
    general = {sentence for _, sentence in _policy(settings.policy, (), set())}
    for name in settings.databases:
        yield from _policy(settings.policy_for(name), ("databases", name, "policy"), general)
    yield from _paths(settings)
    timeout, limit = settings.litestream.command_timeout, settings.policy.look_every + LOOK_GRACE
    if timeout < COMMAND_TIMEOUT_MIN:
        yield ("litestream", "command-timeout"), "must be `1s` or longer"
    elif timeout > limit:
        sentence = f"is longer than look-every and {spell(LOOK_GRACE)} ({spell(limit)}): a listing would be old when it arrives"
        yield ("litestream", "command-timeout"), sentence
    yield from _resources(settings.resources)
    if settings.rollback.keep_count < KEEP_COUNT_MIN:
        yield ("rollback", "keep-count"), f"must be {KEEP_COUNT_MIN} or more: the last good deploy's and the next one's"
    if settings.rollback.keep_max <= 0:
        yield ("rollback", "keep-max"), "must be more than nothing, such as `50GiB`"
    if settings.verifier.token_file is not None and settings.verifier.url is None:
        yield ("verifier", "token-file"), "is for `verifier.url`, which is not set"


def _resources(resources: Resources) -> Iterator[Fault]:
    for seat in ("drills", "looks"):
        if not 1 <= getattr(resources, seat) <= SEATS_MAX:
            yield ("resources", seat), f"must be between 1 and {SEATS_MAX}"
    if not 0 <= resources.nice <= NICE_MAX:
        yield ("resources", "nice"), f"must be between 0 and {NICE_MAX}"
    if resources.requests_per_day is not None and resources.requests_per_day < 1:
        yield ("resources", "requests-per-day"), "must be 1 or more, or `null` for no limit"
    if resources.scratch_max <= 0:
        yield ("resources", "scratch-max"), "must be more than nothing, such as `50GiB`"


def _paths(settings: Settings) -> Iterator[Fault]:
    seen: dict[str, str] = {}
    for name, own in settings.databases.items():
        if own.path is None:
            continue
        if not own.path.startswith("/"):
            yield ("databases", name, "path"), "must be absolute, as Litestream knows the database"
        elif own.path in seen:
            yield ("databases", name, "path"), f"is already named `{seen[own.path]}`"
        seen[own.path] = name


def _policy(policy: Policy, at: Place, known: set[str]) -> Iterator[Fault]:
    """Faults of one policy; a sentence already said about the general one is not said again for a database."""
    for where, sentence in [*_thresholds(policy), *_content(policy)]:
        if sentence not in known:
            yield (*at, *where), sentence


def _thresholds(policy: Policy) -> Iterator[Fault]:
    nothing = [
        each.name for each in fields(policy)
        if isinstance(length := getattr(policy, each.name), timedelta) and length <= timedelta(0) and each.name != "parity_every"
    ]  # fmt: skip
    for name in nothing:
        yield (name.replace("_", "-"),), f"must be longer than nothing, such as `{spell(getattr(Policy(), name))}`"
    if "max_lag" not in nothing and policy.max_lag < MAX_LAG_MIN:
        yield ("max-lag",), "must be `2s` or longer: Litestream syncs once a second"
    if "look_every" not in nothing and policy.look_every < LOOK_EVERY_MIN:
        yield ("look-every",), "must be `1s` or longer: each look lists the replica"
    if policy.drill_by_change_from is not None and policy.drill_by_change_from <= 0:
        yield ("drill-by-change-from",), "must be more than nothing, such as `1GB`"
    if policy.drill_max_age < policy.drill_every and "drill_max_age" not in nothing:
        limits = f"({spell(policy.drill_max_age)} < {spell(policy.drill_every)})"
        yield ("drill-max-age",), f"is shorter than drill-every {limits}: the proof would lapse before the next drill"


def _content(policy: Policy) -> Iterator[Fault]:
    how = policy.schema_version.strip()
    if how not in SCHEMA_WORDS and not re.match(r"(?is)(select|with|pragma|values)\b.*\S", how):
        yield ("schema-version",), "must be `auto`, `user_version` or SQL that returns one value"
    seen: set[str] = set()
    for index, each in enumerate(policy.assertions):
        at = ("assertions", index)
        if not each.name.strip():
            yield (*at, "name"), "must not be empty"
        elif each.name in seen:
            yield (*at, "name"), f"`{each.name}` is there twice"
        seen.add(each.name)
        if not each.sql.strip():
            yield (*at, "sql"), "must not be empty"
        yield from _bounds(each, at)


def _bounds(each: Assertion, at: Place) -> Iterator[Fault]:
    if each.min is None and each.max is None and each.equals is None:
        yield at, "needs a bound: `min`, `max` or `equals`"
    if each.min is not None and each.max is not None and each.min > each.max:
        yield (*at, "min"), "is more than `max`"
    if each.equals is not None and (each.min is not None or each.max is not None):
        yield (*at, "equals"), "stands alone: with it, `min` and `max` say nothing more"
