"""Evidence to JSON and back, one fact at a time: times as ISO 8601 UTC with Z, bytes as hex, enums as their values.

A fact is a field of `Evidence`. Unknown fields are ignored when read, so that an older sidecar can follow a newer one; what
cannot be read at all is an `Unstructurable`, which the ledger drops and says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_type_hints

from cattrs import BaseValidationError
from cattrs.preconf.json import JsonConverter, make_converter

from sidecar.core.evidence import Evidence
from sidecar.core.model import Drill, LookResult, Sighting

FACTS: Mapping[str, Any] = get_type_hints(Evidence)


class UnstructurableError(ValueError):
    """A stored text is not what it should be."""


def text_of_time(at: datetime) -> str:
    """ISO 8601 in UTC with Z."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _converter() -> JsonConverter:
    made = make_converter(detailed_validation=False)
    made.register_unstructure_hook(datetime, text_of_time)
    made.register_structure_hook(datetime, lambda text, _: _aware(text))
    made.register_unstructure_hook(bytes, bytes.hex)
    made.register_structure_hook(bytes, lambda text, _: bytes.fromhex(text))
    return made


def _aware(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"time without zone: {text}")
    return at.astimezone(UTC)


_CONVERTER = _converter()


def text_of_fact(name: str, value: Any) -> str:
    """The stored form of one field of Evidence. A sighting leaves its listing to the fact `listing`, which is the same."""
    if isinstance(value, Sighting):
        value = replace(value, listing=None)
    return json.dumps(_CONVERTER.unstructure(value, unstructure_as=FACTS[name]), separators=(",", ":"))


def fact_of_text(name: str, text: str) -> Any:
    """The field's value. Raises Unstructurable."""
    return _structured(text, FACTS[name])


def evidence_of_texts(path: str, texts: Mapping[str, str], now: datetime, note: Callable[[str], None]) -> Evidence:
    """Evidence of its stored facts; what cannot be read is left out and noted in a sentence."""
    values: dict[str, Any] = {"first_seen_at": now}
    shared: dict[tuple[Any, str], Any] = {}  # a passed drill stands in four facts: one object for all
    for fact, text in texts.items():
        if fact not in FACTS:
            continue
        key = (FACTS[fact], text)
        try:
            if key not in shared:
                shared[key] = fact_of_text(fact, text)
        except UnstructurableError as error:
            note(f"{path}: the stored fact {fact} cannot be read ({error}) and was dropped")
            continue
        values[fact] = shared[key]
    evidence = Evidence(**values)
    if evidence.sighting is not None and evidence.sighting.result is LookResult.OK:
        seen = replace(evidence.sighting, listing=evidence.listing) if evidence.listing is not None else None
        return replace(evidence, sighting=seen)
    return evidence


def text_of_drill(drill: Drill) -> str:
    """The stored form of one drill."""
    return json.dumps(_CONVERTER.unstructure(drill, unstructure_as=Drill), separators=(",", ":"))


def facts_of_drill(drill: Drill) -> dict[str, Any]:
    """The same as values that JSON knows, for a document around it."""
    facts: dict[str, Any] = _CONVERTER.unstructure(drill, unstructure_as=Drill)
    return facts


def drill_of_text(text: str) -> Drill:
    """One drill. Raises Unstructurable."""
    drill: Drill = _structured(text, Drill)
    return drill


def _structured(text: str, kind: Any) -> Any:
    try:
        return _CONVERTER.structure(json.loads(text), kind)
    except (BaseValidationError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UnstructurableError(type(error).__name__) from error
