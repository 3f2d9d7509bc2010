"""Litestream's metrics endpoint: the next best witness where there is no control socket, and the only one of 0.3.

A database's series say that Litestream knows it, and 0.5's its TXID. There is no time of the last upload and no sync error in
words, but an error counter that moves with the sync counter says that syncs fail now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import isfinite, isnan, nan
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sidecar.core.model import Claim, ClaimSource, Database
from sidecar.core.ports import Clock

if TYPE_CHECKING:
    import httpx

ANSWER_S = 2.0
BODY_MAX = 64 * 1024 * 1024  # 5,000 databases are 7 MB

_WANTED = (
    "litestream_db_size",
    "litestream_txid",
    "litestream_sync_count",
    "litestream_sync_error_count",
    "litestream_disk_full",
    "litestream_replica_wal_index",
    "litestream_replica_wal_offset",
    "litestream_shadow_wal_index",
    "litestream_shadow_wal_size",
    "process_start_time_seconds",
)


@dataclass(frozen=True, slots=True)
class WalProgress:
    """0.3 only: how far the shadow WAL has grown and how far of it the replica was sent, as Litestream counts it.

    Indexes count WAL files of the generation, offsets are bytes. `sent` at least `shadow` means that all Litestream has
    captured was uploaded, but both stand still together when Litestream captures nothing.
    """

    shadow: tuple[int, int]
    sent: tuple[int, int] | None


class _NoAnswer(Exception):
    """One sentence: why there is no answer."""


@dataclass(slots=True)
class _Counts:
    syncs: float
    errors: float
    failing: bool


class LitestreamMetrics:
    """Asks one Litestream through its metrics. For one thread at a time; never raises."""

    def __init__(self, url: str, clock: Clock) -> None:
        self._url, self._clock = url, clock
        parts = urlsplit(url)
        self.shown = f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
        self.wal_progress: Mapping[str, WalProgress] = {}
        self._client: httpx.Client | None = None
        self._counts: dict[str, _Counts] = {}
        self._started: float | None = None

    def read(self, databases: tuple[Database, ...]) -> dict[str, Claim]:
        """A claim for every database, within about `ANSWER_S`. `error` says why Litestream did not answer."""
        base = Claim(self._clock.now(), ClaimSource.METRICS)
        try:
            series = _series(self._scrape().splitlines())
            if not any(name.startswith("litestream_") for name in series):
                raise _NoAnswer(f"{self.shown} answers, but holds no metrics of a Litestream that has databases")  # noqa: TRY301
        except _NoAnswer as problem:
            self.wal_progress = {}
            down = replace(base, error=str(problem))
            return {database.path: down for database in databases}
        started = series.get("process_start_time_seconds", {}).get("")
        if started != self._started:
            self._started, self._counts = started, {}
        base = replace(base, up=True, started_at=_instant(started))
        self.wal_progress = {
            database.path: progress
            for database in databases
            if (progress := _progress(database.path, series)) is not None
        }
        return {database.path: self._claim(database.path, base, series) for database in databases}

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
        self._client = None

    def _claim(self, path: str, base: Claim, series: Mapping[str, Mapping[str, float]]) -> Claim:
        if path not in series.get("litestream_db_size", {}) and path not in series.get("litestream_txid", {}):
            return base
        txid = series.get("litestream_txid", {}).get(path)
        return replace(
            base,
            managed=True,
            txid=int(txid) if txid and not isnan(txid) else None,
            sync_error=self._sync_error(path, series),
        )

    def _sync_error(self, path: str, series: Mapping[str, Mapping[str, float]]) -> str | None:
        if series.get("litestream_disk_full", {}).get(path):
            return "Litestream's own disk is full"
        syncs = series.get("litestream_sync_count", {}).get(path, 0.0)
        errors = series.get("litestream_sync_error_count", {}).get(path, 0.0)
        before = self._counts.get(path)
        failing = False
        if before is not None:  # after an error Litestream waits longer and longer: no sync since then is no recovery
            failing = errors > before.errors if syncs > before.syncs else before.failing
        self._counts[path] = _Counts(syncs, errors, failing)
        return f"Litestream's syncs fail ({errors:.0f} so far; its log says why)" if failing else None

    def _scrape(self) -> str:
        """The text of the exposition. Raises _NoAnswer with one sentence."""
        import httpx  # noqa: PLC0415 - 16 MB, which a set-up without metrics need not pay

        if self._client is None:
            # The process next door: no proxy of the environment in between, and no CA bundle loaded for plain HTTP.
            # No connection is kept, since a restart of Litestream would break it.
            one_off = httpx.Limits(max_keepalive_connections=0)
            self._client = httpx.Client(trust_env=False, verify=self._url.startswith("https:"), limits=one_off)
        deadline = self._clock.monotonic() + ANSWER_S
        silent = f"{self.shown} accepts connections and does not answer within {ANSWER_S:g} s"
        try:
            with self._client.stream("GET", self._url, timeout=ANSWER_S) as response:
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    if self._clock.monotonic() > deadline or len(body) > BODY_MAX:
                        raise _NoAnswer(silent)
        except httpx.TimeoutException as error:
            raise _NoAnswer(silent) from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise _NoAnswer(_sentence(self.shown, error)) from error
        if not response.is_success:
            raise _NoAnswer(f"{self.shown} answers with status {response.status_code} instead of Litestream's metrics")
        return body.decode("utf-8", "replace")


def _series(lines: Iterable[str]) -> dict[str, dict[str, float]]:
    """Metric to database path to value; the lines we need are picked first, since parsing is what costs."""
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415 - 1 MB, and only here

    wanted = "\n".join(line for line in lines if line.startswith(_WANTED))
    series: dict[str, dict[str, float]] = {}
    try:
        for family in text_string_to_metric_families(wanted + "\n"):
            for sample in family.samples:
                values, path = series.setdefault(sample.name, {}), sample.labels.get("db", "")
                value = sample.value if isfinite(sample.value) else nan  # nothing of what we ask for can be infinite
                values[path] = nan if path in values else value  # 0.3: several replicas, none of them the one
    except ValueError as error:
        raise _NoAnswer(f"Litestream's metrics cannot be read: {error}") from error
    return series


def _instant(posix_s: float | None) -> datetime | None:
    """None for what is no instant of this era."""
    try:
        return datetime.fromtimestamp(posix_s, UTC) if posix_s else None
    except (ValueError, OverflowError, OSError):
        return None


def _progress(path: str, series: Mapping[str, Mapping[str, float]]) -> WalProgress | None:
    def pair(index: str, offset: str) -> tuple[int, int] | None:
        at, bytes_ = series.get(index, {}).get(path), series.get(offset, {}).get(path)
        if at is None or bytes_ is None or isnan(at) or isnan(bytes_):
            return None
        return int(at), int(bytes_)

    shadow = pair("litestream_shadow_wal_index", "litestream_shadow_wal_size")
    if shadow is None:
        return None
    return WalProgress(shadow, pair("litestream_replica_wal_index", "litestream_replica_wal_offset"))


def _sentence(shown: str, error: BaseException) -> str:
    if type(error).__name__ == "ConnectError":
        return f"nobody listens at {shown}: Litestream is stopped, or was started without this `addr`"
    return f"{shown} cannot be read: {type(error).__name__}"
