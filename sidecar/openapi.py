"""The HTTP interface as an OpenAPI 3.1 document, made from the same closed lists as the answers themselves.

Readers ignore fields they do not know, so every object may grow; what is listed as required is always there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidecar.core.checks import CHECKS
from sidecar.core.finding import Reason, Status
from sidecar.core.model import CheckKind, Outcome
from sidecar.web_requests import ECHO_MAX

Schema = dict[str, Any]

TEXT = {"type": "string"}
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
    "maxLength": ECHO_MAX,
    "description": "30s, 5m, 1h30m, 7d; at most a hundred years",
}
STATES = ["queued", "running", *(each.value for each in Outcome)]


def _object(properties: Mapping[str, Schema], description: str, *optional: str) -> Schema:
    """An object whose listed fields are all there, save the optional ones; it may hold more."""
    return {
        "type": "object",
        "description": description,
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": True,
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _or_null(schema: Schema) -> Schema:
    return {"oneOf": [schema, {"type": "null"}]}


def _list(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _maybe(time: Schema) -> Schema:
    return {**time, "type": ["string", "null"]}


def _schemas() -> dict[str, Schema]:
    reason = {"enum": [*(each.value for each in Reason), None]}
    version = _object({"source": TEXT, "value": TEXT}, "the version that a migration tool recorded")
    return {
        "Error": _object({"error": TEXT, "hint": TEXT}, "what is wrong and what to do about it"),
        "SchemaVersion": version,
        "Check": _object(
            {
                "name": {"enum": list(CHECKS)},
                "status": {"enum": [each.value for each in Status]},
                "reason": reason,
                "message": TEXT,
                "observed": {"type": ["number", "null"]},
                "limit": {"type": ["number", "null"]},
                "unit": MAYBE_TEXT,
                "retryable": {**FLAG, "description": "waiting alone can turn this answer"},
                "hint": MAYBE_TEXT,
            },
            "one question about one database and its answer; `reason` is null exactly when it passed",
        ),
        "Drill": _drill(reason),
        "Database": _database(),
        "DatabaseEvidence": {
            "allOf": [
                _ref("Database"),
                _object({"drills": _list(_ref("Drill"))}, "its last drills, newest first"),
            ]
        },
        "Ready": _object(
            {
                "ready": FLAG,
                "retryable": {**FLAG, "description": "waiting alone can make it ready"},
                "reason": {**TEXT, "description": "one sentence, the worst first"},
                "checked_at": TIME,
                "version": TEXT,
                "databases": _list(_ref("Database")),
            },
            "ready means that every database is ready; no database at all is not",
        ),
        "DrillRequest": _object({"db": TEXT}, "the database to drill, by name"),
        "DrillAccepted": _object({"id": TEXT, "db": TEXT, "state": {"enum": STATES}}, "the drill that was asked for"),
        "DrillState": _object(
            {"id": TEXT, "db": MAYBE_TEXT, "state": {"enum": STATES}, "drill": _or_null(_ref("Drill"))},
            "a drill by id; `drill` is null until it has ended",
        ),
    }


def _drill(reason: Schema) -> Schema:
    parity = _object({"result": TEXT, "pages": COUNT, "proven": COUNT}, "the copy against production, page by page")
    return _object(
        {
            "id": TEXT,
            "outcome": {"enum": [each.value for each in Outcome]},
            "reason": reason,
            "message": TEXT,
            "hint": MAYBE_TEXT,
            "position": POSITION,
            "started_at": TIME,
            "finished_at": TIME,
            "plan_seconds": SECONDS,
            "restore_seconds": SECONDS,
            "check_seconds": SECONDS,
            "size_bytes": COUNT,
            "check": {"enum": [each.value for each in CheckKind]},
            "parity": _or_null(parity),
            "schema_version": _or_null(_ref("SchemaVersion")),
            "rows": COUNT,
            "sqlite_version": MAYBE_TEXT,
            "litestream_version": MAYBE_TEXT,
        },
        "one restore of the newest recovery point to scratch, checked and removed",
    )


def _database() -> Schema:
    position: dict[str, Schema] = {"live": POSITION, "replica": POSITION, "lag_seconds": SECONDS}
    snapshot: dict[str, Schema] = {"position": POSITION, "created_at": _maybe(TIME)}
    return _object(
        {
            "name": TEXT,
            "path": TEXT,
            "ready": FLAG,
            "replica": _object({"type": TEXT, "label": TEXT}, "where Litestream copies it to"),
            "position": _object(position, "newest commits, and the age of the oldest one that the replica may lack"),
            "snapshot": _or_null(_object(snapshot, "the newest snapshot in the replica")),
            "last_drill": _or_null(_ref("Drill")),
            "schema_version": _or_null(_ref("SchemaVersion")),
            "checks": _list(_ref("Check")),
        },
        "one database: what is known of it and what the checks make of that",
    )


_NO_STORE = {"Cache-Control": {"schema": {"const": "no-store"}}}
_RETRY_AFTER = {"Retry-After": {"description": "only when waiting can change the answer", "schema": {"type": "string"}}}
_ALLOW = {"Allow": {"schema": TEXT}}


def _answer(description: str, *schemas: tuple[str, Schema], **headers: Schema) -> Schema:
    return {
        "description": description,
        "headers": {**_NO_STORE, **{name.replace("_", "-"): value for name, value in headers.items()}},
        "content": {media: {"schema": schema} for media, schema in schemas},
    }


_JSON = "application/json"
_PLAIN = "text/plain"


def _error(description: str, **headers: Schema) -> Schema:
    return _answer(description, (_JSON, _ref("Error")), **headers)


_FAILED = {"500": _error("the sidecar failed to answer; its log says why")}
_METHOD = {"405": _error("another method than the route has", Allow={"schema": TEXT})}


def _get(summary: str, name: str, responses: Mapping[str, Schema], parameters: tuple[Schema, ...] = ()) -> Schema:
    """A path with GET, and HEAD that answers the same without a body."""
    every = {**responses, **_METHOD, **_FAILED}
    bare = {code: {key: value for key, value in each.items() if key != "content"} for code, each in every.items()}
    common: Schema = {"parameters": list(parameters)} if parameters else {}
    return {
        "get": {"operationId": name, "summary": summary, "responses": every},
        "head": {"operationId": f"{name}Head", "summary": f"{summary} (headers only)", "responses": bare},
        **common,
    }


def _query(name: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def _in_path(name: str, description: str) -> Schema:
    schema = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "schema": schema, "description": description}


def _ready_path() -> Schema:
    both = ((_JSON, _ref("Ready")), (_PLAIN, TEXT))
    parameters = (
        _query("db", _list(TEXT), "only these databases; repeatable"),
        _query("max_age", DURATION, "the newest passed drill may be this old; tightens, never loosens"),
        _query("max_lag", DURATION, "the replica may lack this much; tightens, never loosens"),
        _query("format", {"enum": ["json", "text"], "default": "json"}, "text: one line a check"),
    )
    responses = {
        "200": _answer("every database is ready", *both),
        "400": _error("an unknown parameter, or a value that cannot be read"),
        "404": _error("no database has this name"),
        "503": _answer("not ready; the body says why", *both, **_RETRY_AFTER),
    }
    return _get("Can every database be restored, right now?", "ready", responses, parameters)


def _drills_path() -> Schema:
    responses = {
        "202": _answer("queued, or the one that is queued or running already", (_JSON, _ref("DrillAccepted")),
                       Location={"required": True, "schema": TEXT}),
        "400": _error("the body is no JSON object that names a database"),
        "401": _error("the bearer token is missing or wrong", **{"WWW-Authenticate": {"schema": TEXT}}),
        "403": _error("no token is configured and the request may come from elsewhere"),
        "404": _error("no database has this name"),
        "413": _error("the body is larger than 64 KiB"),
        "415": _error("the body is not application/json"),
        **_METHOD,
        **_FAILED,
    }  # fmt: skip
    body = {"required": True, "content": {_JSON: {"schema": _ref("DrillRequest")}}}
    return {
        "post": {
            "operationId": "drill",
            "summary": "Restore the backup now and check the copy",
            "security": [{}, {"bearer": []}],
            "requestBody": body,
            "responses": responses,
        }
    }


def openapi(version: str) -> dict[str, Any]:
    """The document for this version of the sidecar; JSON Schema 2020-12, as OpenAPI 3.1 has it."""
    plain = (_PLAIN, TEXT)
    metrics = _answer("the metrics", plain, ("application/openmetrics-text", TEXT))
    named, by_id = _in_path("name", "the database's name"), _in_path("id", "the drill's id")
    evidence = {
        "200": _answer("its evidence", (_JSON, _ref("DatabaseEvidence"))),
        "404": _error("no database has this name"),
    }
    drill = {"200": _answer("the drill", (_JSON, _ref("DrillState"))), "404": _error("no drill has this id")}
    alive = {"200": _answer("the loop turns", plain), "503": _answer("it has not turned lately", plain)}
    described = {"200": _answer("this document", (_JSON, {"type": "object"}))}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "litestream-sidecar",
            "version": version,
            "description": "Can this SQLite database be brought back, right now, and may we migrate?",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/": _get("What there is", "index", {"200": _answer("the routes", plain)}),
            "/ready": _ready_path(),
            "/livez": _get("Does the daemon's loop turn? No I/O, never about backups", "livez", alive),
            "/metrics": _get("For Prometheus, by content negotiation", "metrics", {"200": metrics}),
            "/databases/{name}": _get("All evidence of one database", "database", evidence, (named,)),
            "/drills": _drills_path(),
            "/drills/{id}": _get("What a drill found", "drillState", drill, (by_id,)),
            "/openapi.json": _get("This document", "openapi", described),
        },
        "components": {"schemas": _schemas(), "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
    }
