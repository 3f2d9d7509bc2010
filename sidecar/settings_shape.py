"""Plain values to typed Settings by cattrs, and cattrs' tree of errors to places and sentences.

cattrs knows the dataclasses and collects every error; what it cannot know (spellings, units, sentences) is here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cattrs
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError, IterableValidationError
from cattrs.gen import make_dict_structure_fn, override

from sidecar.core import units
from sidecar.core.policy import Assertion, Policy
from sidecar.core.settings_model import (
    DatabaseSettings,
    Fault,
    HttpSettings,
    Listen,
    LitestreamSettings,
    Notify,
    Place,
    Resources,
    RollbackSettings,
    Settings,
    Size,
    VerifierSettings,
    parse_listen,
)

TRIES_MAX = 20  # every try takes out all mistakes that it found, and each level of the file needs one at most
_SECTIONS: Mapping[str, type] = {
    "litestream": LitestreamSettings,
    "http": HttpSettings,
    "policy": Policy,
    "resources": Resources,
    "rollback": RollbackSettings,
    "notify": Notify,
    "verifier": VerifierSettings,
}
_CLASSES = (*_SECTIONS.values(), Assertion, DatabaseSettings, Settings)
_URL = re.compile(r"https?://[^\s/?#]+\S*")


class SpellingError(ValueError):
    """A value is not written as its key wants it; the message is the sentence a person reads."""


def structured(data: dict[str, Any]) -> tuple[Settings, list[Fault]]:
    """Settings from what is right in `data` (which is used up), and a fault for everything that is wrong."""
    found: list[Fault] = []
    for _ in range(TRIES_MAX):
        try:
            made: Settings = _CONVERTER.structure(data, Settings)
        except ClassValidationError as group:
            wrong = list(_faults_of(group, ()))
            found += wrong
            for where, _sentence in wrong:
                _take_out(data, where)
        else:
            return made, found
    return Settings(), found


def _take_out(data: dict[str, Any], where: Place) -> None:
    """Remove what is wrong, so that the rest can be judged; of a list, the whole."""
    keys: list[str] = []
    for part in where:
        if isinstance(part, int):
            break
        keys.append(part)
    for key in keys[:-1]:
        data = data.get(key, {})
    data.pop(keys[-1], None)


def _faults_of(error: BaseException, at: Place) -> Iterator[Fault]:
    """The leaves of cattrs' tree of errors, each with its place."""
    if isinstance(error, ClassValidationError):
        noted, others = error.group_exceptions()
        for inner, attribute in noted:
            yield from _faults_of(inner, (*at, _spelled(attribute.name)))
        for inner in others:
            yield from _faults_of(inner, at)
    elif isinstance(error, IterableValidationError):
        for inner, item in error.group_exceptions()[0]:
            yield from _faults_of(inner, (*at, item.index))
    elif isinstance(error, ForbiddenExtraKeysError):
        for key in sorted(error.extra_fields):
            yield (*at, key), _unknown(key, error.cl)
    elif isinstance(error, KeyError):
        yield at, "is missing"
    else:
        yield at, str(error)


def _unknown(key: str, cls: type) -> str:
    spelled = _spelled(key).lower()
    elsewhere = [section for section, holder in _SECTIONS.items() if holder is not cls and spelled in _keys(holder)]
    near = difflib.get_close_matches(spelled, _keys(cls), n=1)
    if elsewhere and spelled not in near:
        return f"is not a setting here; it belongs under `{elsewhere[0]}:`"
    if near:
        return f"is not a setting; did you mean `{near[0]}`?"
    return f"is not a setting; known here: {', '.join(_keys(cls))}"


def _keys(cls: type) -> list[str]:
    return [_spelled(each.name) for each in fields(cls) if (cls, each.name) != (Settings, "state_dir")]


def _spelled(name: str) -> str:
    return name.replace("_", "-")


def _text(value: object, _type: object = None) -> str:
    if not isinstance(value, str):
        raise SpellingError("must be text" if isinstance(value, dict | list) else "must be text; put it in quotes")
    if "\0" in value or any("\ud800" <= each <= "\udfff" for each in value):
        raise SpellingError("holds a character that is none: a null byte, or half of one")
    return value


def _whole(value: object, _type: object = None) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise SpellingError("must be a whole number")
    return value


def _number(value: object, _type: object = None) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise SpellingError("must be a number")
    return value


def _equal(value: object, _type: object = None) -> str | float | None:
    if value is None or isinstance(value, str):
        return value if value is None else _text(value)
    if isinstance(value, bool):
        raise SpellingError("must be text or a number; SQLite says 1 for true and 0 for false")
    return _number(value)


def _truth(value: object, _type: object = None) -> bool:
    if not isinstance(value, bool):
        raise SpellingError("must be true or false")
    return value


def _duration(value: object, _type: object = None) -> timedelta:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise SpellingError(f"`{value}` has no unit; write `{value}s`, `{value}m` or `{value}h`")
    return units.duration(_text(value))


def _size(value: object, _type: object = None) -> Size:
    if isinstance(value, int) and not isinstance(value, bool):
        return Size(value if value < 0 else units.size(str(value)))
    return Size(units.size(_text(value)))


def _share(value: object, _type: object = None) -> float:
    return units.share(str(value) if isinstance(value, int | float) and not isinstance(value, bool) else _text(value))


def _web(value: object, _type: object = None) -> str | None:
    """An http(s) URL, which is never shown: it may hold a token."""
    if value is None:
        return None
    if not isinstance(value, str) or not _URL.fullmatch(value):
        raise SpellingError("must be a URL that begins with `http://` or `https://`")
    return _text(value)


def _asked_at(value: object, _type: object = None) -> str | None:
    """Where another daemon is asked. Userinfo would stand in every log of every proxy on the way."""
    if value is None:
        return None
    text = _text(value)
    if text.startswith("unix:/"):
        return text
    if not _URL.fullmatch(text):
        raise SpellingError("must be a URL that begins with `http://`, `https://` or `unix:/`")
    try:
        parts = urlsplit(text)
        if parts.hostname is None or parts.port == 0:
            raise SpellingError("is no URL: it names no host")
    except ValueError:  # of which a SpellingError is one
        raise SpellingError("is no URL: its host or port cannot be read") from None
    if "@" in parts.netloc:
        raise SpellingError(
            "must hold no user and no password; put a token into a file and name it as `verifier.token-file`"
        )
    if parts.query or parts.fragment:
        raise SpellingError("must end with the path: what stands behind `?` or `#` would be lost")
    return text


def _path(value: object, _type: object = None) -> Path:
    if isinstance(value, Path):
        return value  # from an option
    if not _text(value):
        raise SpellingError("must not be empty")
    if _text(value).startswith("~") and not _text(value).startswith("~/"):
        raise SpellingError("begins with `~`; write your own home folder as `~/`, any other in full")
    return Path(_text(value))


def _listen(value: object, _type: object = None) -> Listen:
    return parse_listen(_text(value) if isinstance(value, str) else str(value))


def _assertions(value: object, _type: object = None) -> tuple[Assertion, ...]:
    if not isinstance(value, list):
        raise SpellingError("must be a list: entries that begin with `- `")
    return _CONVERTER.structure(value, tuple[Assertion, ...])


def _databases(value: object, _type: object = None) -> dict[str, DatabaseSettings]:
    if not isinstance(value, dict):
        raise SpellingError("must hold one key per database, its name")
    return _CONVERTER.structure({key: each or {} for key, each in value.items()}, dict[str, DatabaseSettings])


def _differences(value: object, _type: object = None) -> dict[str, object]:
    """The thresholds that are given, typed as Policy has them."""
    whole = _CONVERTER.structure(value, Policy)
    given = value if isinstance(value, Mapping) else {}
    return {
        each.name: getattr(whole, each.name) for each in fields(Policy) if given.get(_spelled(each.name)) is not None
    }


# Where the type alone does not say how a value is written.
_HOOKS: Mapping[tuple[type, str], Callable[..., object]] = {
    (Policy, "drill_by_change_from"): _size,
    (Policy, "max_shrink"): _share,
    (Policy, "assertions"): _assertions,
    (Assertion, "min"): _number,
    (Assertion, "max"): _number,
    (Assertion, "equals"): _equal,
    (LitestreamSettings, "metrics_url"): _web,
    (Notify, "heartbeat_url"): _web,
    (Notify, "webhook_url"): _web,
    (VerifierSettings, "url"): _asked_at,
    (DatabaseSettings, "policy"): _differences,
    (Settings, "databases"): _databases,
}


def _hook(converter: cattrs.Converter, cls: type) -> Callable[[object, object], object]:
    """Structure one dataclass: kebab-case keys, none unknown, a null key counts as absent."""
    overrides = {
        each.name: override(
            rename=_spelled(each.name),
            omit=(cls, each.name) == (Settings, "state_dir"),
            struct_hook=_HOOKS.get((cls, each.name)),
        )
        for each in fields(cls)
    }
    structure: Callable[[Mapping[str, Any], Any], object]
    structure = make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True, **overrides)  # type: ignore[arg-type] # its own flags
    known = frozenset(_keys(cls))

    def hook(value: object, kind: object) -> object:
        if is_dataclass(value):
            return value
        if not isinstance(value, Mapping):
            raise SpellingError("must hold keys below it, further to the right")
        return structure({key: item for key, item in value.items() if item is not None or key not in known}, kind)

    return hook


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=True)
    for kind, hook in (
        (str, _text), (int, _whole), (bool, _truth), (timedelta, _duration), (Path, _path),
        (Listen, _listen),
    ):  # fmt: skip
        converter.register_structure_hook(kind, hook)
    converter.register_structure_hook_func(lambda kind: kind is Size, _size)
    for cls in reversed(_CLASSES[:-1]):
        converter.register_structure_hook(cls, _hook(converter, cls))
    converter.register_structure_hook(Settings, _hook(converter, Settings))
    return converter


_CONVERTER = _converter()
