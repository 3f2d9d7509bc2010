"""sidecar.yml to Settings. Strict: an unknown key is an error; all mistakes come at once, each with its place and line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from sidecar.core import tree
from sidecar.core.errors import ConfigError, EnvironmentProblem, Mistake
from sidecar.core.redact import mask
from sidecar.core.settings_model import Listen, Place, Settings, faults
from sidecar.core.tree import Items, Scalar, Table, Tree
from sidecar.settings_shape import structured

__all__ = ["Listen", "Settings", "read"]

ROOT_STATE_DIR = Path("/var/lib/litestream-sidecar")
HINT = "correct the file; README's Settings section lists every key"


def read(path: Path | None, env: Mapping[str, str], overrides: Mapping[str, object] | None = None) -> Settings:
    """The settings in force: defaults, under sidecar.yml, under what the command line says.

    Args:
        path: sidecar.yml; None for none. Relative paths in it start at its folder.
        env: for the default of the state directory.
        overrides: by dotted key (`http.listen`, `policy.drill-every`, `state-dir`); None values are ignored.

    Raises:
        ConfigError: carrying every mistake.
        EnvironmentProblem: `~` stands for a home that nobody knows.
    """
    root = _root(path) if path is not None else tree.table({})
    data = _plain(root)
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    state_dir = given.pop("state-dir", None)
    for key, value in given.items():
        _put(data, key.split("."), value)
    mistakes = [Mistake(_name(where), line, "is there twice; keep one") for where, line in _repeated(root, ())]
    settings, found = structured(data)
    found += [each for each in faults(settings) if each not in found]
    mistakes += [
        Mistake(_name(where), None if _name(where) in given else _line(root, where), what) for where, what in found
    ]
    if mistakes:
        secrets = _secrets(root)
        masked = (
            replace(each, field=mask(each.field, secrets), message=mask(each.message, secrets)) for each in mistakes
        )
        ordered = sorted(masked, key=lambda each: each.line or 0)
        raise ConfigError(str(path) if path is not None else "options", tuple(ordered), HINT)
    folder = path.absolute().parent if path is not None else Path.cwd()
    state = _home(Path(str(state_dir))).absolute() if state_dir is not None else _state_dir(env)
    return replace(
        settings,
        state_dir=state,
        scratch_dir=_at(folder, settings.scratch_dir),
        rollback=replace(settings.rollback, keep_dir=_at(folder, settings.rollback.keep_dir)),
        http=replace(settings.http, token_file=_at(folder, settings.http.token_file)),
        verifier=replace(settings.verifier, token_file=_at(folder, settings.verifier.token_file)),
    )


def _state_dir(env: Mapping[str, str]) -> Path:
    if env.get("LITESTREAM_SIDECAR_STATE_DIR"):
        return _home(Path(env["LITESTREAM_SIDECAR_STATE_DIR"])).absolute()
    if os.geteuid() == 0:
        return ROOT_STATE_DIR
    home = Path(env["HOME"]) if env.get("HOME") else Path.home()
    return Path(env.get("XDG_STATE_HOME") or home / ".local" / "state") / "litestream-sidecar"


def _at(folder: Path, path: Path | None) -> Path | None:
    return None if path is None else folder / _home(path)


def _home(path: Path) -> Path:
    """With `~` spelled out. Raises EnvironmentProblem where nobody knows that home."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise EnvironmentProblem(f"{path}: that home directory is not known here", "write the path in full") from None


def _root(path: Path) -> Table:
    made = _documents(path)
    if len(made) > 1:
        raise _refused(path, made[1].line, "holds a second document", "remove the line `---` and what follows")
    root = made[0] if made else tree.table({})
    if isinstance(root, Scalar) and root.tag == "null":
        root = tree.table({})
    if not isinstance(root, Table):
        raise _refused(path, root.line, "must hold keys such as `policy:`", HINT)
    return root


def _documents(path: Path) -> list[Tree]:
    try:
        nodes = list(yaml.compose_all(path.read_bytes().decode(), Loader=yaml.SafeLoader))
        return [tree.of_node(node) for node in nodes]
    except FileNotFoundError:
        raise _refused(path, None, "there is no such file", "name the file with --config, or leave it out") from None
    except OSError as error:
        raise _refused(path, None, f"cannot be read: {error.strerror}", "run as a user who may read it") from None
    except UnicodeDecodeError:
        raise _refused(path, None, "is not UTF-8 text", "save the file as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else None
        what = f"is not valid YAML: {tree.without_quotes(error.problem or error.context or '')}"
        raise _refused(path, line, what, "check the indentation and quotes there") from None
    except tree.Unbuildable as error:
        raise _refused(path, None, f"is not valid YAML: {error}", "write out what the anchors stand for") from None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
        raise _refused(path, None, "is not valid YAML", "check the file with a YAML tool") from None


def _refused(path: Path, line: int | None, what: str, hint: str) -> ConfigError:
    return ConfigError(str(path), (Mistake("", line, what),), hint)


def _secrets(root: Table) -> tuple[str, ...]:
    """What must not be quoted, wherever an anchor brought it."""
    urls = [*root.table("notify").entries.values(), root.table("verifier").entries.get("url")]
    return tuple(each.text for each in urls if isinstance(each, Scalar) and each.tag == "str")


def _plain(each: Tree) -> Any:
    """Python's own values; a repeated anchor is copied, since overrides are put into the result."""
    if isinstance(each, Table):
        return {key: _plain(value) for key, value in each.entries.items()}
    return [_plain(item) for item in each.items] if isinstance(each, Items) else each.value


def _put(data: dict[str, Any], keys: list[str], value: object) -> None:
    for key in keys[:-1]:
        below = data.get(key)
        data[key] = data = below if isinstance(below, dict) else {}
    data[keys[-1]] = value


def _name(where: Place) -> str:
    """`policy.max-lag`, `policy.assertions[0].min`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).lstrip(".")


def _line(root: Table, where: Place) -> int | None:
    """The line a place stands in, or the nearest key above it that is in the file."""
    here: Tree = root
    line: int | None = None
    for part in where:
        if isinstance(part, int) and isinstance(here, Items) and part < len(here.items):
            here = here.items[part]
            line = here.line
        elif isinstance(part, str) and isinstance(here, Table) and part in here.entries:
            line, here = here.line_of(part), here.entries[part]
        else:
            break
    return line


def _repeated(each: Tree, at: Place) -> Iterator[tuple[Place, int]]:
    if isinstance(each, Table):
        for key in each.repeated:
            yield (*at, key), each.line_of(key)
        for key, value in each.entries.items():
            yield from _repeated(value, (*at, key))
    elif isinstance(each, Items):
        for index, item in enumerate(each.items):
            yield from _repeated(item, (*at, index))
