"""The words that the OpenAPI document is written in: schemas, answers, paths with GET and HEAD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidecar.core.units import LENGTH_MAX

Schema = dict[str, Any]

TEXT = {"type": "string"}
DATABASE = {**TEXT, "description": "a database's name", "examples": ["app"]}
NUMBER = {"type": "number"}
SECONDS = {"type": ["number", "null"], "minimum": 0}
COUNT = {"type": ["integer", "null"], "minimum": 0}
MAYBE_TEXT = {"type": ["string", "null"]}
FLAG = {"type": "boolean"}
TIME = {"type": "string", "format": "date-time", "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$"}
POSITION = {
    "type": ["string", "null"],
    "pattern": r"^([0-9a-f]{16}|[0-9a-f]+/[0-9a-f]{8}:[0-9]+)$",
    "description": "a TXID (Litestream 0.5) or generation/index:offset (0.3)",
}
DURATION = {
    "type": "string",
    "pattern": r"^\s*([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+\s*$",
    "maxLength": LENGTH_MAX,
    "description": "30s, 5m, 1h30m, 7d; at most a hundred years",
}


def an_object(properties: Mapping[str, Schema], description: str, *optional: str) -> Schema:
    """An object whose listed fields are all there, save the optional ones; it may hold more."""
    return {
        "type": "object",
        "description": description,
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": True,
    }


def ref(name: str) -> Schema:
    """A schema by name."""
    return {"$ref": f"#/components/schemas/{name}"}


def or_null(schema: Schema) -> Schema:
    """The schema, or null."""
    return {"oneOf": [schema, {"type": "null"}]}


def a_list(schema: Schema) -> Schema:
    """A list of these."""
    return {"type": "array", "items": schema}


def maybe(time: Schema) -> Schema:
    """A time, or null."""
    return {**time, "type": ["string", "null"]}


NO_STORE = {"Cache-Control": {"required": True, "schema": {"const": "no-store"}}}
RETRY_AFTER = {"Retry-After": {"description": "only when waiting can change the answer", "schema": {"type": "string"}}}
ALLOW = {"Allow": {"schema": TEXT}}


def an_answer(description: str, *schemas: tuple[str, Schema], **headers: Schema) -> Schema:
    """A response with its headers and bodies."""
    return {
        "description": description,
        "headers": {**NO_STORE, **{name.replace("_", "-"): value for name, value in headers.items()}},
        "content": {media: {"schema": schema} for media, schema in schemas},
    }


JSON = "application/json"
PLAIN = "text/plain"
HTML = "text/html"


def an_error(description: str, **headers: Schema) -> Schema:
    """A response that says what is wrong."""
    return an_answer(description, (JSON, ref("Error")), **headers)


FAILED = {"500": an_error("the sidecar failed to answer; its log says why")}
METHOD = {"405": an_error("another method than the route has", Allow={"schema": TEXT})}


def a_get(summary: str, name: str, responses: Mapping[str, Schema], parameters: tuple[Schema, ...] = ()) -> Schema:
    """A path with GET, and HEAD that answers the same without a body."""
    every = {**responses, **METHOD, **FAILED}
    bare = {code: {key: value for key, value in each.items() if key != "content"} for code, each in every.items()}
    common: Schema = {"parameters": list(parameters)} if parameters else {}
    return {
        "get": {"operationId": name, "summary": summary, "responses": every},
        "head": {"operationId": f"{name}Head", "summary": f"{summary} (headers only)", "responses": bare},
        **common,
    }


def in_query(name: str, schema: Schema, description: str) -> Schema:
    """A parameter of the query."""
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def in_path(name: str, description: str, *examples: str) -> Schema:
    """A parameter of the path."""
    schema = {"type": "string", "minLength": 1} | ({"examples": list(examples)} if examples else {})
    return {"name": name, "in": "path", "required": True, "schema": schema, "description": description}
