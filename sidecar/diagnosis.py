"""What `doctor` looks at: each question about the set-up is one function that answers in sentences and what to change."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from threading import Event

from sidecar.core.case import room_for
from sidecar.core.elsewhere import another_replica
from sidecar.core.errors import SidecarError
from sidecar.core.litestream_errors import NEW_SNAPSHOT_HINT
from sidecar.core.live_state import LiveState
from sidecar.core.model import Claim, ClaimSource, Database, LookResult, Sighting
from sidecar.core.policy import Policy
from sidecar.core.ports import Clock, LiveReader, Production
from sidecar.core.settings_model import Settings
from sidecar.core.units import spell
from sidecar.look import Looker
from sidecar.verifier import Elsewhere

MAX_LAG_CALM = timedelta(seconds=5)
CLOCK_SLACK = timedelta(seconds=30)
STATE_BYTES_MIN = 1_000_000  # below it evidence stops being written before long
ASKED_MAX = 50  # databases that a verifier is asked about
ADD_SOCKET = "add these two lines to litestream.yml and restart Litestream:\nsocket:\n  enabled: true"
ADD_METRICS = "add this line to litestream.yml and restart Litestream:\naddr: 127.0.0.1:9090"  # 0.3 has no socket


class Grade(StrEnum):
    """How a question is answered."""

    OK = "ok"
    WARN = "warn"
    UNKNOWN = "unknown"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One answer. `fix` may end in lines to be copied, after its first one."""

    subject: str
    grade: Grade
    message: str
    fix: str = ""


def environment(env: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Variables that break Litestream."""
    if env.get("AWS_CA_BUNDLE"):
        yield Diagnosis(
            "environment", Grade.WARN, "AWS_CA_BUNDLE is set: Litestream 0.5 fails every S3 call with it",
            "unset it for Litestream itself; the sidecar takes it out of what it runs",
        )  # fmt: skip


def http(settings: Settings) -> Iterator[Diagnosis]:
    """May a drill be asked for, and by whom?"""
    listen, file = settings.http.listen, settings.http.token_file
    if file is not None and not os.access(file, os.R_OK):
        yield Diagnosis("http", Grade.BAD, f"http.token-file {file} cannot be read", "make it readable for this user")
    elif file is None and not listen.is_local:
        yield Diagnosis("http", Grade.WARN, f"others can reach {listen}, so POST /drills is refused without a token",
                        "set http.token-file, or listen on 127.0.0.1")  # fmt: skip


def state(settings: Settings) -> Iterator[Diagnosis]:
    """Can evidence be kept? Only looks: a directory made by `sudo … doctor` would not be the daemon's."""
    folder = settings.state_dir
    above = _existing(folder)
    if above == folder and os.access(folder, os.W_OK):
        free = shutil.disk_usage(folder).free
        if free < STATE_BYTES_MIN:
            yield Diagnosis("state", Grade.BAD, f"there is no room in the state directory {folder}: {free / 1e6:.1f} MB are free",
                            "free some, or name another with --state-dir: without it a restart forgets what was proved")  # fmt: skip
    if above != folder and not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        yield Diagnosis("state", Grade.BAD, f"the state directory {folder} cannot be made by user {os.geteuid()}",
                        "make it and give it to the sidecar's user, or name another with --state-dir")  # fmt: skip
    elif above != folder:
        yield Diagnosis("state", Grade.OK, f"{folder} will be made when the sidecar first runs")


def tight(database: Database, policy: Policy) -> Iterator[Diagnosis]:
    """A limit that Litestream and the looks can just about keep while the app writes."""
    if policy.production and policy.max_lag < MAX_LAG_CALM:
        yield Diagnosis(
            database.name, Grade.WARN, f"max-lag is {policy.max_lag.total_seconds():.0f} s: it flaps while the app writes, "
            "since Litestream syncs once a second and a look takes its time", "set max-lag to 5s or more",
        )  # fmt: skip


def by_change(database: Database, policy: Policy, *, understood: bool) -> Iterator[Diagnosis]:
    """A setting that does nothing: files of this replica are not fetched one by one."""
    if policy.counts_by_change and not understood:
        yield Diagnosis(
            database.name, Grade.WARN, "drill-by-change-from is set, and its replica is not one that is read directly: each drill restores the whole",
            "only file and S3 replicas of Litestream 0.5 are (for S3 install the extra `s3`, and give keys, and region or endpoint)",
        )  # fmt: skip


def retention(database: Database, interval: timedelta | None, kept: timedelta | None) -> Iterator[Diagnosis]:
    """Snapshots must outlive the wait for the next one."""
    if interval is not None and kept is not None and kept < interval:
        yield Diagnosis(
            database.name, Grade.BAD,
            f"snapshots are kept for {spell(kept)} and made every {spell(interval)}: between them there may be none",
            "make the snapshot retention at least as long as the snapshot interval in litestream.yml",
        )  # fmt: skip


def claim(database: Database, said: Claim, *, has_socket: bool) -> Iterator[Diagnosis]:
    """Does Litestream answer, and know this database? `has_socket`: this Litestream's generation has a control socket."""
    if said.source is ClaimSource.NONE:
        lacks = (
            "neither its control socket nor its metrics are enabled" if has_socket else "its metrics are not enabled"
        )
        yield Diagnosis(
            "litestream", Grade.WARN, f"{lacks}, so it cannot be asked", ADD_SOCKET if has_socket else ADD_METRICS
        )
    elif not said.up:
        yield Diagnosis("litestream", Grade.BAD, f"does not answer: {said.error}", "start Litestream")
    elif not said.managed:
        yield Diagnosis(database.name, Grade.BAD, "Litestream runs and does not know this database",
                        "restart Litestream with this litestream.yml")  # fmt: skip
    elif said.sync_error:
        yield Diagnosis(
            database.name, Grade.BAD, f"Litestream cannot sync: {said.sync_error}", "look at Litestream's log"
        )
    else:
        yield Diagnosis(database.name, Grade.OK, "Litestream runs and knows it")


def alone(database: Database) -> Diagnosis:
    """What stands in for all that is asked about production, where it is not in reach."""
    return Diagnosis(
        database.name, Grade.OK,
        "production is not in reach (`policy.production: false`): only the backup is judged here, and nothing is asked of Litestream",
    )  # fmt: skip


def verifier(elsewhere: Elsewhere, unknown: type[SidecarError], databases: Sequence[Database]) -> Iterator[Diagnosis]:
    """Does the verifier answer, know these databases, and have their replicas?"""
    known, strange = 0, []
    for database in databases[:ASKED_MAX]:
        try:
            other = another_replica(elsewhere.ask(database.name), database.replica)
        except unknown:
            strange.append(database.name)
        except SidecarError as error:
            yield Diagnosis(
                "verifier", Grade.UNKNOWN, f"{error.message}; until it answers, drills become due here", error.hint
            )
            return
        else:
            known += other is None
            if other is not None:
                yield Diagnosis(
                    "verifier", Grade.BAD, f"none of its drills of {database.name} is taken over: {other}",
                    "give the verifier the same `replica:` in its litestream.yml",
                )  # fmt: skip
    asked = len(databases[:ASKED_MAX])
    said = f"{elsewhere.shown} answers and knows {known} of {'the first ' if asked < len(databases) else ''}{asked} databases"
    yield Diagnosis("verifier", Grade.OK, said)
    if strange:
        yield Diagnosis("verifier", Grade.WARN, f"{elsewhere.shown} does not know {', '.join(strange)}",
                        "give it the same litestream.yml; names come from the databases' file names")  # fmt: skip


def files(database: Database, live: LiveReader) -> Iterator[Diagnosis]:
    """Are production's files and Litestream's local folder in reach?"""
    seen: LiveState = live.read(database)
    why = f": {seen.error}" if seen.error else ""
    if seen.file_id is None:
        yield Diagnosis(database.name, Grade.BAD, f"{database.path}: there is no database file{why}",
                        "check the mount and the path in litestream.yml")  # fmt: skip
    elif not seen.captures:
        yield Diagnosis(
            database.name, Grade.WARN, f"nothing to read in Litestream's local folder {database.meta_path}{why}",
            "start Litestream, run as its user, and mount the folder here: without it lag cannot be told",
        )  # fmt: skip
    elif seen.error:
        yield Diagnosis(
            database.name, Grade.WARN, f"not all of its local files can be read{why}", "run as the app's user"
        )


def production(database: Database, reader: Production, policy: Policy, clock: Clock) -> Iterator[Diagnosis]:
    """May production be opened, and does it tell its schema version? Raises SidecarError where it may not."""
    content = reader.content(database.path, schema_version=policy.schema_version, now=clock.now())
    version = content.schema_version
    if version is None:
        yield Diagnosis(
            database.name,
            Grade.BAD,
            f"its schema version cannot be told: {content.error}",
            "check policy.schema-version",
        )
    else:
        yield Diagnosis(database.name, Grade.OK, f"can be read; schema version {version.value} ({version.source})")


def listing(database: Database, looker: Looker, timeout_s: float, clock: Clock) -> Iterator[Diagnosis]:
    """Can the replica be listed with these credentials, and does its clock agree with ours?"""
    seen: Sighting = looker.sight(database, timeout_s, Event())
    if seen.result is not LookResult.OK or seen.listing is None:
        unknown = seen.result in {LookResult.TIMEOUT, LookResult.UNREACHABLE}
        fix = seen.hint or "start Litestream, and check the replica's path"
        yield Diagnosis(database.name, Grade.UNKNOWN if unknown else Grade.BAD, seen.message, fix)
        return
    yield Diagnosis(
        database.name, Grade.OK, f"{database.replica.label} can be listed; newest position {seen.listing.position}"
    )
    if seen.listing.gap is not None:
        yield Diagnosis(database.name, Grade.BAD, seen.listing.gap, NEW_SNAPSHOT_HINT)
    ahead = seen.listing.at - clock.now()
    if ahead > CLOCK_SLACK:
        yield Diagnosis(database.name, Grade.WARN, f"its newest file is dated {ahead.total_seconds():.0f} s in the future",
                        "set the clocks of this machine and of the store right (NTP)")  # fmt: skip


def room(databases: Mapping[str, Database], where: Path, max_bytes: int | None) -> Iterator[Diagnosis]:
    """Is there room for the largest drill, and is scratch apart from the data? `where` need not exist yet."""
    sizes = {path: found.st_size for path in databases if (found := _stat(path)) is not None}
    above = _existing(where)
    free = shutil.disk_usage(above).free
    usable = free if max_bytes is None else min(free, max_bytes)
    need = room_for(max(sizes.values(), default=0))
    said = f"{usable / 1e6:.0f} MB free in {where}, a drill needs {need / 1e6:.0f} MB"
    if usable < need:
        fix = "free some, or move scratch-dir" if free < need else "raise resources.scratch-max"
        yield Diagnosis("scratch", Grade.BAD, said, fix)
    else:
        yield Diagnosis("scratch", Grade.OK, said)
    home = above.stat().st_dev
    if any(found.st_dev == home for path in sizes if (found := _stat(path)) is not None):
        yield Diagnosis("scratch", Grade.WARN, "scratch lies on the same volume as a database: a drill takes room from production",
                        "set scratch-dir to another volume")  # fmt: skip


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116 - a string as Litestream knows it
    except OSError:
        return None


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next((each for each in (folder, *folder.parents) if _stat(str(each)) is not None), Path("/"))
