"""The meaning of litestream.yml: its `dbs:` entries, its defaults, and the configuration of one database alone.

Pure: where the file is read and folders are scanned is the adapter's business. Source: cmd/litestream/main.go of
v0.3.13 and v0.5.17 (`ParseConfig`, `Validate`, `NewDBFromConfig`, `newDBFromDirectoryEntry`).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from sidecar.core import golang, replica_place, tree
from sidecar.core.errors import Mistake
from sidecar.core.litestream_keys import DEFAULTED, REPLICA, SETTINGS, Generation, nanoseconds, truth
from sidecar.core.model import Database, Replica
from sidecar.core.tree import Table, Tree

DEFAULT_RETENTION = timedelta(hours=24)
DEFAULT_SNAPSHOT_INTERVAL = timedelta(hours=24)
DEFAULT_L0_RETENTION = timedelta(minutes=5)
SEVERAL = "more than one replica, which Litestream 0.5 refuses; keep one, as `replica:`, or stay with Litestream 0.3"
AGE = (
    "age encryption is refused by Litestream 0.5, which cannot encrypt; remove `age:`, or stay with Litestream 0.3 "
    "to read an encrypted replica"
)


@dataclass(frozen=True, slots=True)
class Around:
    """What relative paths and `~` mean to the user who runs this process."""

    cwd: str
    home: str

    def is_relative(self, path: str) -> bool:
        """Whether the working directory decides what a path means."""
        return not path.startswith(("/", "~/", "sqlite:///", "sqlite3:///")) and path != "~"

    def expand(self, path: str) -> str:
        """Litestream's `expand`: an absolute path, `~` and `~/` replaced, `sqlite://` stripped."""
        for prefix in ("sqlite3://", "sqlite://"):
            path = path.removeprefix(prefix)
        if path == "~":
            return self.home
        if path.startswith("~/"):
            return golang.join(self.home, path[2:])
        return golang.absolute(path, self.cwd)


@dataclass(frozen=True, slots=True)
class Snapshots:
    """How often Litestream takes a snapshot (None: 0.3 without snapshot-interval) and how long it keeps one."""

    interval: timedelta | None = DEFAULT_SNAPSHOT_INTERVAL
    retention: timedelta = DEFAULT_RETENTION


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of `dbs:`, ready to be turned into databases. `fields` are its replica's texts, defaults filled in."""

    place: str  # dbs[0]
    line: int
    path: str  # absolute; empty where `directory` is given
    directory: str
    pattern: str
    recursive: bool
    watch: bool
    meta_path: str  # absolute, or empty
    meta_dir: str  # absolute, or empty
    snapshots: Snapshots
    replica: Table = field(repr=False)
    defaults: Mapping[str, Tree] = field(repr=False)
    fields: Mapping[str, str] = field(repr=False)
    generation: Generation
    around: Around


def entry(
    each: Table, index: int, root: Table, generation: Generation, around: Around
) -> tuple[Entry | None, list[Mistake], list[str]]:
    """One `dbs:` entry; None, and why, where Litestream would not accept it; and what deserves a warning."""
    place = f"dbs[{index}]"
    found = [
        Mistake(f"{place}.{key}" if key else place, each.line_of(key), what) for key, what in _shape(each, generation)
    ]
    replica, replica_place_name, wrong, warnings = _choose(each, place, generation)
    found += wrong
    if replica is None:
        return None, found, warnings
    fields = _fields(replica, root, generation)
    subject = fields
    if each.text("dir"):
        subject = replica_place.below(fields, "x.db", replica_place.type_of(fields, generation))
        if fields.get("url") and replica_place.parse_url(fields["url"]) is None:
            found.append(Mistake(f"{replica_place_name}.url", replica.line_of("url"), "cannot be extended per file"))
    found += [
        Mistake(f"{replica_place_name}.{key}", replica.line_of(key), what)
        for key, what in replica_place.objections(subject, generation)
    ]
    if generation == "0.5" and (_has_age(replica) or _has_age(root)):
        found.append(Mistake(f"{replica_place_name}.age", replica.line_of("age"), AGE))
    if found:
        return None, found, warnings
    path = each.text("path")
    if path and around.is_relative(path):
        warnings.append(
            f"{place}.path `{path}` is relative: Litestream takes it from its own working directory, the sidecar from "
            f"{around.cwd}; write the absolute path"
        )
    return (
        Entry(
            place, each.line,
            path=around.expand(path) if path else "",
            directory=around.expand(each.text("dir")) if each.text("dir") else "",
            pattern=each.text("pattern"), recursive=truth(each.get("recursive")), watch=truth(each.get("watch")),
            meta_path=_meta(each.text("meta-path"), generation, around),
            meta_dir=_meta(each.text("meta-dir"), generation, around),
            snapshots=_snapshots_03(replica) if generation == "0.3" else Snapshots(),
            replica=replica, fields=fields, generation=generation, around=around,
            defaults={key: root.entries[key] for key in SETTINGS[generation] if key in root.entries},
        ),
        found, warnings,
    )  # fmt: skip


def _shape(each: Table, generation: Generation) -> list[tuple[str, str]]:
    """What Config.Validate refuses about the keys of one entry."""
    path, folder = each.text("path"), each.text("dir")
    if generation == "0.3":
        if folder:
            return [("dir", "is not known to Litestream 0.3; list each file with `path:`, or move to Litestream 0.5")]
        return [] if path else [("", "has no `path:`; Litestream 0.3 would take its own working directory")]
    found = []
    if path and folder:
        found.append(("dir", "and `path` exclude each other; keep one"))
    elif not path and not folder:
        found.append(("", "needs `path:` (one file), or `dir:` and `pattern:` (a folder)"))
    if folder and not each.text("pattern"):
        found.append(("pattern", "is missing; `dir:` needs one such as `*.db`"))
    folder_only = {"watch": truth(each.get("watch")), "meta-dir": each.get("meta-dir") is not None}
    found += [(key, "works with `dir:` only") for key, given in folder_only.items() if given and not folder]
    if each.get("meta-path") is not None and each.get("meta-dir") is not None:
        found.append(("meta-dir", "and `meta-path` exclude each other; keep one"))
    try:
        golang.pattern(each.text("pattern"))
    except ValueError:
        found.append(("pattern", "is not a file pattern; write one such as `*.db`"))
    return found


def _choose(each: Table, place: str, generation: Generation) -> tuple[Table | None, str, list[Mistake], list[str]]:
    """The replica that counts, where it stands, what is wrong with there being none or several, and warnings."""
    one, several = each.get("replica"), each.items("replicas")
    tables = [(index, every) for index, every in enumerate(several) if isinstance(every, Table)]
    if generation == "0.3":
        if not tables:
            alone = each.line_of("replica")
            what = (
                "has no `replicas:`"
                if one is None
                else "`replica:` is not known to Litestream 0.3, write `replicas:` and below it `- `"
            )
            return None, place, [] if several else [Mistake(place, alone, what)], []
        warn = [f"{place} has {len(several)} replicas; only the first is watched"] if len(several) > 1 else []
        return tables[0][1], f"{place}.replicas[{tables[0][0]}]", [], warn
    if one is not None and several:
        both = Mistake(
            f"{place}.replicas", each.line_of("replicas"), "and `replica` exclude each other; keep `replica`"
        )
        return None, place, [both], []
    if len(several) > 1:
        return None, place, [Mistake(f"{place}.replicas", each.line_of("replicas"), SEVERAL)], []
    if isinstance(one, Table):
        return one, f"{place}.replica", [], []
    if tables:
        return tables[0][1], f"{place}.replicas[0]", [], []
    missing = [Mistake(place, each.line, "has no replica; add `replica:` with a `url:` or a `path:`")]
    return None, place, [] if one is not None or several else missing, []


def _fields(replica: Table, root: Table, generation: Generation) -> dict[str, str]:
    """The replica's texts; the top level's where it has none of its own."""
    fields = {key: replica.text(key) for key in replica.entries}
    for key in DEFAULTED[generation]:
        if not fields.get(key):
            fields[key] = root.text(key)
    return fields


def _has_age(holder: Table) -> bool:
    age = holder.table("age")
    return bool(age.items("identities") or age.items("recipients"))


def _meta(path: str, generation: Generation, around: Around) -> str:
    """Litestream 0.3 does not expand `~` here."""
    if not path:
        return ""
    return around.expand(path) if generation == "0.5" else golang.absolute(path, around.cwd)


def span(value: Tree | None) -> timedelta | None:
    """A Litestream duration as a timedelta."""
    length = nanoseconds(value)
    return None if length is None else timedelta(microseconds=length / 1000)


def _snapshots_03(replica: Table) -> Snapshots:
    return Snapshots(
        span(replica.get("snapshot-interval")) or None, span(replica.get("retention")) or DEFAULT_RETENTION
    )


def database(each: Entry, path: str) -> Database:
    """The database at `path`, which is the entry's own or a file found in its folder; its name is still empty."""
    fields, relative = dict(each.fields), ""
    kind = replica_place.type_of(fields, each.generation)
    if each.directory:
        relative = path.removeprefix(each.directory.rstrip("/") + "/")
        fields = replica_place.below(fields, relative, kind)
    where = replica_place.place(fields, each.generation, each.around.expand)
    entries = {key: value for key, value in each.replica.entries.items() if key in REPLICA[each.generation]}
    for key in ("url", "path"):
        if fields.get(key):
            entries[key] = tree.text(fields[key])
    if kind == "file" and fields.get("path"):
        entries["path"] = tree.text(each.around.expand(fields["path"]))
    name = ""
    if each.generation == "0.3":
        name = each.replica.text("name") or (
            "gcs" if kind == "gs" else kind
        )  # Replica.Name: its type where it has none
    meta_path = _meta_path(each, path, relative)
    alone: dict[str, Tree] = {"path": tree.text(path), "meta-path": tree.text(meta_path)}
    replica = tree.table(entries)
    alone |= {"replicas": tree.items(replica)} if each.generation == "0.3" else {"replica": replica}
    config = tree.dump(tree.table({**each.defaults, "dbs": tree.items(tree.table(alone))})) + "\n"
    return Database("", path, meta_path, Replica(where.type, where.label, name, where.endpoint, config))


def mistaken(path: str, generation: Generation) -> str:
    """A sentence where Litestream opens another file than the one it copies; empty where it does not.

    It hands the path to SQLite as a URI without escaping it: 0.5 stops at `?` and `#` and decodes `%41`, 0.3 stops at `?`.
    """
    opened = path.partition("?")[0]
    if generation == "0.5":
        opened = re.sub(r"%([0-9A-Fa-f]{2})", lambda match: chr(int(match[1], 16)), opened.partition("#")[0])
    if opened == path:
        return ""
    return (
        f"{path}: Litestream takes a part of this path for a URL's, and opens {opened} instead: it does not hold this database's "
        "WAL against checkpoints, and writes tables of its own there; rename the file"
    )


def _meta_path(each: Entry, path: str, relative: str) -> str:
    """Litestream's local folder: as configured, for a folder's files below that, else beside the database."""
    folder, file = posixpath.split(path)
    hidden = f".{file}-litestream"
    if each.meta_dir:
        return golang.join(each.meta_dir, f"{relative}-litestream")
    if each.meta_path and relative:
        return golang.join(each.meta_path, posixpath.dirname(relative), hidden)
    return each.meta_path or golang.join(folder, hidden)
