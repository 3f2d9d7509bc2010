"""litestream.yml, read as Litestream reads it: which databases there are, and how Litestream can be asked about them.

The file is Litestream's: unknown keys are tolerated, nothing is ever written. Folders (`dir:`) are scanned by the same
rules (file pattern, SQLite header, no symbolic links to folders), because Litestream's own commands cannot see them.
"""

from __future__ import annotations

import os
import pwd
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from sidecar.core import golang, litestream_file, tree
from sidecar.core.errors import ConfigError, Mistake
from sidecar.core.litestream_entries import Around, Entry, Snapshots, database, mistaken
from sidecar.core.litestream_file import Meaning
from sidecar.core.litestream_keys import Generation
from sidecar.core.model import Database
from sidecar.core.naming import names
from sidecar.core.redact import mask
from sidecar.core.replica_place import crowded
from sidecar.core.tree import Scalar, Table

__all__ = ["Generation", "LitestreamConfig", "Snapshots", "WatchDir", "read", "rescan"]

SQLITE_HEADER = b"SQLite format 3\x00"
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where it is built in: 10 times faster
DEPTH_MAX = 64  # Litestream's own keys need six; libyaml's composer crashes the process at some ten thousand


@dataclass(frozen=True, slots=True)
class WatchDir:
    """A folder that litestream.yml names with `dir:`."""

    path: str
    pattern: str
    recursive: bool
    watch: bool  # whether Litestream itself takes up files that appear later


@dataclass(frozen=True, slots=True)
class LitestreamConfig:
    """What litestream.yml says, as far as the sidecar needs it. Times are those of Litestream's own work."""

    path: Path
    generation: Generation
    databases: tuple[Database, ...]
    socket_path: str | None  # None: the control socket is not enabled
    metrics_url: str | None  # None: no `addr`
    watch_dirs: tuple[WatchDir, ...]
    unset_variables: tuple[str, ...]  # `$VAR` without a value: Litestream takes nothing in its place
    warnings: tuple[str, ...]
    snapshots: Mapping[str, Snapshots]  # by database path
    l0_retention: timedelta
    secrets: tuple[str, ...] = field(repr=False)  # literal values to mask in whatever Litestream says
    source: Source = field(repr=False, compare=False)  # what `rescan` needs
    looks: tuple[object, ...] | None = field(default=None, repr=False, compare=False)  # what was found in the folders


@dataclass(frozen=True, slots=True)
class Source:
    """The file's meaning before any folder is looked into."""

    meaning: Meaning
    aliases: Mapping[str, str]
    warnings: tuple[str, ...]


def read(
    path: Path,
    env: Mapping[str, str],
    *,
    generation: Generation = "0.5",
    expand_env: bool = True,
    aliases: Mapping[str, str] | None = None,
    previous: LitestreamConfig | None = None,
) -> LitestreamConfig:
    """Read litestream.yml and look into the folders it names.

    Args:
        path: the file; may be a link into a ConfigMap.
        env: the environment that `$VAR` is taken from.
        generation: which Litestream will run on it.
        expand_env: false for Litestream's `-no-expand-env`.
        aliases: database path to name, from sidecar.yml.
        previous: what was read before; files it knows as databases are not opened again (see `rescan`).

    Raises:
        ConfigError: carrying every mistake, with its place and line.
    """
    text = _text(path)
    unset: tuple[str, ...] = ()
    if expand_env:
        text, unset = golang.expand(text, lambda name: _variable(name, env, generation))
    root = _root(path, text)
    around = Around(os.getcwd(), _home(env))  # noqa: PTH109 - as text, which is what Go's rules work on
    meaning, mistakes, hint = litestream_file.meaning(root, generation, around)
    secrets = litestream_file.secrets(root, env)
    if mistakes:  # a value that is quoted may have come from `$VAR`, or from an anchor
        masked = (replace(each, message=mask(each.message, secrets)) for each in mistakes)
        raise ConfigError(str(path), tuple(masked), hint)
    blanks = tuple(f"`${name}` is not set; Litestream reads nothing in its place" for name in unset)
    bare = LitestreamConfig(
        path=path, generation=generation, databases=(),
        socket_path=meaning.socket_path, metrics_url=meaning.metrics_url,
        watch_dirs=tuple(
            WatchDir(each.directory, each.pattern, each.recursive, each.watch) for each in meaning.entries if each.directory
        ),
        unset_variables=unset, warnings=(), snapshots={}, l0_retention=meaning.l0_retention,
        secrets=secrets,
        source=Source(meaning, dict(aliases or {}), (*meaning.warnings, *blanks)),
    )  # fmt: skip
    return _looked(bare, previous.databases if previous is not None else ())


def rescan(config: LitestreamConfig) -> LitestreamConfig:
    """Look into the `dir:` folders again without reading the file; the same object when nothing has changed.

    A file already known as a database is not opened: closing any descriptor of it would drop the locks of a SQLite
    connection this process holds on it (POSIX; SQLite, "How To Corrupt", 2.2).
    """
    if not config.watch_dirs:
        return config
    return _looked(config, config.databases)


def _looked(config: LitestreamConfig, known: tuple[Database, ...]) -> LitestreamConfig:
    scan, entries = _Scan({each.path for each in known}), config.source.meaning.entries
    paths = [[each.path] if each.path else scan.paths(each) for each in entries]
    if (looks := (paths, tuple(scan.warnings))) == config.looks:
        return config
    reuse = {each.path: each for each in config.databases}
    found: dict[str, tuple[Entry, Database]] = {}
    for each, its_paths in zip(entries, paths, strict=True):
        for path in its_paths:
            if path in found:
                scan.warnings.append(f"{path} is listed twice ({found[path][0].place}, {each.place}); the first counts")
            else:
                found[path] = (each, reuse.get(path) or database(each, path))
    given = names(found, config.source.aliases)
    strangers = [
        f"sidecar.yml names {path}, which litestream.yml does not"
        for path in config.source.aliases
        if path not in found
    ]
    return replace(
        config,
        databases=tuple(replace(each, name=given[path]) for path, (_, each) in found.items()),
        snapshots={path: each.snapshots for path, (each, _) in found.items()}, looks=looks,
        warnings=(
            *config.source.warnings, *scan.warnings, *strangers, *crowded(each for _, each in found.values()),
            *filter(None, (mistaken(path, config.generation) for path in found)),
        ),
    )  # fmt: skip


class _Scan:
    """One look into all folders."""

    def __init__(self, known: set[str]) -> None:
        self.warnings: list[str] = []
        self._known = known
        self._ids: set[tuple[int, int]] | None = None

    def paths(self, each: Entry) -> list[str]:
        """The databases below an entry's folder, in the order of Go's filepath.Walk."""
        try:
            if stat.S_ISLNK(os.lstat(each.directory).st_mode):
                self.warnings.append(
                    f"{each.place}.dir {each.directory} is a symbolic link, which Litestream does not follow; write the folder itself"
                )
                return []
        except OSError as error:
            self.warnings.append(f"{each.place}.dir {each.directory} cannot be read: {error.strerror}")
            return []
        wanted = golang.pattern(each.pattern)
        found = [path for path in self._walk(each.directory, each, wanted) if self._is_database(path)]
        if not found:
            later = "" if each.watch else ", and without `watch: true` Litestream refuses to start"
            self.warnings.append(
                f"{each.place}.dir {each.directory} holds no database matching `{each.pattern}`{later}"
            )
        return found

    def _walk(self, folder: str, each: Entry, wanted: re.Pattern[str]) -> Iterator[str]:
        try:
            with os.scandir(folder) as listing:
                members = sorted(listing, key=lambda member: member.name)
        except OSError as error:
            self.warnings.append(f"{each.place}.dir: {folder} cannot be read: {error.strerror}")
            return
        for member in members:
            if member.is_dir(follow_symlinks=False):
                if each.recursive:
                    yield from self._walk(member.path, each, wanted)
            elif wanted.fullmatch(member.name):
                yield member.path

    def _is_database(self, path: str) -> bool:
        if path in self._known:
            return True
        try:
            facts = os.stat(path)  # noqa: PTH116 - thousands of them, every few seconds
            if not stat.S_ISREG(facts.st_mode):
                return False  # a FIFO would keep us waiting for ever
            if (facts.st_dev, facts.st_ino) in self._known_ids():
                return True  # another name of a file that may be open here: see `rescan`
            with open(path, "rb") as file:  # noqa: PTH123 - same
                return file.read(len(SQLITE_HEADER)) == SQLITE_HEADER and self._has_a_name(path)
        except OSError:
            return False  # gone meanwhile, or not ours to read: Litestream skips it as well

    def _has_a_name(self, path: str) -> bool:
        try:
            path.encode()
        except UnicodeEncodeError:
            shown = os.fsencode(path).decode(errors="backslashreplace")
            self.warnings.append(
                f"{shown}: its name is not UTF-8, so it is left out; Litestream 0.5 crashes when it meets it: rename it"
            )
            return False
        return True

    def _known_ids(self) -> set[tuple[int, int]]:
        if self._ids is None:
            self._ids = set()
            for path in self._known:
                with suppress(OSError):
                    facts = os.stat(path)  # noqa: PTH116 - same
                    self._ids.add((facts.st_dev, facts.st_ino))
        return self._ids


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        hint = "name the file with --litestream-config, or set LITESTREAM_CONFIG"
        raise ConfigError(str(path), (Mistake("", None, "there is no such file"),), hint) from None
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise ConfigError(str(path), (Mistake("", None, what),), "run as a user who may read it") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        what = "is not UTF-8 text"
        raise ConfigError(str(path), (Mistake("", line, what),), "save the file as UTF-8") from None


def _root(path: Path, text: str) -> Table:
    """The file as a tree. A YAML error's own sentence quotes the file, which may hold secrets: only its kind is said."""
    try:
        _check_depth(text)
        node = next(iter(yaml.compose_all(text, Loader=_LOADER)), None)  # Litestream reads the first document only
        root = tree.of_node(node) if node is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = f"is not valid YAML: {tree.without_quotes(error.problem or error.context or '')}"
        mistake = Mistake("", mark.line + 1 if mark is not None else None, what)
        raise ConfigError(str(path), (mistake,), "check the indentation and quotes around that line") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        what = "is not valid YAML" + (f": {error}" if isinstance(error, tree.Unbuildable) else "")
        raise ConfigError(str(path), (Mistake("", None, what),), "check the file with a YAML tool") from None
    if root is None or (isinstance(root, Scalar) and root.tag == "null"):
        raise ConfigError(str(path), (Mistake("dbs", None, "the file is empty"),), "list a database under `dbs:`")
    if not isinstance(root, Table):
        raise ConfigError(str(path), (Mistake("", root.line, "must hold keys such as `dbs:`"),), "begin with `dbs:`")
    return root


def _check_depth(text: str) -> None:
    """Raises Unbuildable for a file nested so deeply that reading it would exhaust the stack."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH_MAX:
            raise tree.Unbuildable(f"it is nested more than {DEPTH_MAX} deep")
        if isinstance(event, yaml.DocumentEndEvent):
            return


def _variable(name: str, env: Mapping[str, str], generation: Generation) -> str | None:
    """Litestream 0.5 puts its own process number in place of `$PID`; so do we ours."""
    return str(os.getpid()) if name == "PID" and generation == "0.5" else env.get(name)


def _home(env: Mapping[str, str]) -> str:
    """The home folder as Go's user.Current knows it: the password file before $HOME."""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return env.get("HOME", "/")
