"""The HTTP interface as an OpenAPI 3.1 document, made from the same closed lists as the answers themselves.

Readers ignore fields they do not know, so every object may grow; what is listed as required is always there.
"""

from __future__ import annotations

from typing import Any

from sidecar.core.checks import CHECKS
from sidecar.core.elsewhere import FORMAT, OFFERED_MAX
from sidecar.core.finding import Reason, Status
from sidecar.core.model import CheckKind, Outcome
from sidecar.core.parity import ParityResult
from sidecar.openapi_deploys import DEPLOY_PATHS, deploy_schemas
from sidecar.openapi_parts import (
    COUNT,
    DATABASE,
    DURATION,
    FAILED,
    FLAG,
    HTML,
    JSON,
    MAYBE_TEXT,
    METHOD,
    PLAIN,
    POSITION,
    RETRY_AFTER,
    SECONDS,
    TEXT,
    TIME,
    Schema,
    a_get,
    a_list,
    an_answer,
    an_error,
    an_object,
    in_path,
    in_query,
    maybe,
    or_null,
    ref,
)

STATES = ["queued", "running", *(each.value for each in Outcome)]
STOOD: Schema = {
    **TIME,
    "description": "as of when a restore would have read what the last drill had, so that none was made",
}


def _schemas() -> dict[str, Schema]:
    reason = {"enum": [*(each.value for each in Reason), None]}
    version = an_object({"source": TEXT, "value": TEXT}, "the version that a migration tool recorded")
    return {
        "Error": an_object({"error": TEXT, "hint": TEXT}, "what is wrong and what to do about it"),
        "SchemaVersion": version,
        "Check": an_object(
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
                ref("Database"),
                an_object({"drills": a_list(ref("Drill"))}, "its last drills, newest first"),
            ]
        },
        "Ready": an_object(
            {
                "ready": FLAG,
                "retryable": {**FLAG, "description": "waiting alone can make it ready"},
                "reason": {**TEXT, "description": "one sentence, the worst first"},
                "checked_at": TIME,
                "version": TEXT,
                "databases": a_list(ref("Database")),
            },
            "ready means that every database is ready; no database at all is not",
        ),
        "Evidence": _evidence(),
        **deploy_schemas(),
        "DrillRequest": an_object({"db": DATABASE}, "the database to drill"),
        "DrillAccepted": an_object({"id": TEXT, "db": TEXT, "state": {"enum": STATES}}, "the drill that was asked for"),
        "DrillState": an_object(
            {"id": TEXT, "db": MAYBE_TEXT, "state": {"enum": STATES}, "drill": or_null(ref("Drill"))},
            "a drill by id; `drill` is null until it has ended",
        ),
    }


def _drill(reason: Schema) -> Schema:
    parity = an_object(
        {
            "result": {"enum": [each.value for each in ParityResult]}, "pages": COUNT, "proven": COUNT, "excused": COUNT,
            "message": TEXT, "different": {"type": "array", "items": {"type": "integer"}},
            "owners": {"type": "array", "items": TEXT}, "kept": MAYBE_TEXT,
        },
        "the copy against production, page by page; null where that was not asked for",
    )  # fmt: skip
    return an_object(
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
            "by_change": {"type": "boolean", "description": "a kept copy was brought forward by what was new"},
            "apply_seconds": SECONDS,
            "check_seconds": SECONDS,
            "parity_seconds": SECONDS,
            "size_bytes": COUNT,
            "check": {"enum": [each.value for each in CheckKind]},
            "parity": or_null(parity),
            "schema_version": or_null(ref("SchemaVersion")),
            "rows": COUNT,
            "sqlite_version": MAYBE_TEXT,
            "litestream_version": MAYBE_TEXT,
            "verifier": {**MAYBE_TEXT, "description": "who made it, where it was another daemon"},
        },
        "one restore of the newest recovery point to scratch, checked and removed",
    )


def _evidence() -> Schema:
    drill = an_object(
        {"id": TEXT, "outcome": {"enum": [Outcome.PASSED.value, Outcome.FAILED.value, Outcome.INCONCLUSIVE.value]},
         "started_at": {**TEXT, "format": "date-time"}, "finished_at": {**TEXT, "format": "date-time"}},
        "a drill whole, as daemons keep it; only another daemon reads the rest",
    )  # fmt: skip
    return an_object(
        {
            "evidence_version": {"const": FORMAT},
            "version": TEXT,
            "name": TEXT,
            "checked_at": TIME,
            "replica": an_object({"type": TEXT, "label": TEXT}, "where Litestream copies it to"),
            "drills": {**a_list(drill), "maxItems": OFFERED_MAX},
        },
        "what this daemon's own drills found, newest first, without comparisons; taken over by a sidecar that names it as verifier",
    )


def _database() -> Schema:
    position: dict[str, Schema] = {"live": POSITION, "replica": POSITION, "lag_seconds": SECONDS}
    snapshot: dict[str, Schema] = {"position": POSITION, "created_at": maybe(TIME)}
    return an_object(
        {
            "name": TEXT,
            "path": TEXT,
            "ready": FLAG,
            "replica": an_object({"type": TEXT, "label": TEXT}, "where Litestream copies it to"),
            "production": {**FLAG, "description": "false: not in reach of this daemon, so only the backup is judged"},
            "position": an_object(position, "newest commits, and the age of the oldest one that the replica may lack"),
            "snapshot": or_null(an_object(snapshot, "the newest snapshot in the replica")),
            "last_drill": or_null(ref("Drill")),
            "proof_stood_at": maybe(STOOD),
            "schema_version": or_null(ref("SchemaVersion")),
            "checks": a_list(ref("Check")),
        },
        "one database: what is known of it and what the checks make of that",
    )


def _ready_path() -> Schema:
    both = ((JSON, ref("Ready")), (PLAIN, TEXT))
    parameters = (
        in_query("db", a_list(TEXT), "only these databases; repeatable"),
        in_query("max_age", DURATION, "the newest passed drill may be this old; tightens, never loosens"),
        in_query("max_lag", DURATION, "the replica may lack this much; tightens, never loosens"),
        in_query("format", {"enum": ["json", "text"], "default": "json"}, "text: one line a check"),
    )
    responses = {
        "200": an_answer("every database is ready", *both),
        "400": an_error("an unknown parameter, or a value that cannot be read"),
        "404": an_error("no database has this name"),
        "503": an_answer("not ready; the body says why", *both, **RETRY_AFTER),
    }
    return a_get("Can every database be restored, right now?", "ready", responses, parameters)


def _page_path() -> Schema:
    one = in_query("db", TEXT, "the page of this database; without it, of all")
    policy: Schema = {
        "Content-Security-Policy": {"description": "with the page", "schema": TEXT},
        "Vary": {"schema": TEXT},
    }
    responses = {
        "200": an_answer(
            "the status page where `Accept` names text/html, else the list of routes",
            (PLAIN, TEXT),
            (HTML, TEXT),
            **policy,
        ),
        "400": an_error("an unknown parameter, or `db` more than once"),
        "404": an_answer("no database has this name", (HTML, TEXT), **policy),
    }
    return a_get("The status page for people; the routes for everybody else", "index", responses, (one,))


def _drills_path() -> Schema:
    responses = {
        "202": an_answer("queued, or the one that is queued or running already", (JSON, ref("DrillAccepted")),
                       Location={"required": True, "schema": TEXT}),
        "400": an_error("the body is no JSON object that names a database"),
        "401": an_error("the bearer token is missing or wrong", **{"WWW-Authenticate": {"schema": TEXT}}),
        "403": an_error("no token is configured and the request may come from elsewhere"),
        "404": an_error("no database has this name"),
        "413": an_error("the body is larger than 64 KiB"),
        "415": an_error("the body is not application/json"),
        **METHOD,
        **FAILED,
    }  # fmt: skip
    body = {"required": True, "content": {JSON: {"schema": ref("DrillRequest")}}}
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
    plain = (PLAIN, TEXT)
    metrics = an_answer("the metrics", plain, ("application/openmetrics-text", TEXT))
    named, by_id = in_path("name", "the database's name", "app"), in_path("id", "the drill's id")
    evidence = {
        "200": an_answer("its evidence", (JSON, ref("DatabaseEvidence"))),
        "404": an_error("no database has this name"),
    }
    offer = {
        "200": an_answer("its drills", (JSON, ref("Evidence"))),
        "404": an_error("no database has this name"),
    }
    drill = {"200": an_answer("the drill", (JSON, ref("DrillState"))), "404": an_error("no drill has this id")}
    alive = {"200": an_answer("the loop turns", plain), "503": an_answer("it has not turned lately", plain)}
    described = {"200": an_answer("this document", (JSON, {"type": "object"}))}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "litestream-sidecar",
            "version": version,
            "description": "Can this SQLite database be brought back, right now, and may we migrate?",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/": _page_path(),
            "/ready": _ready_path(),
            "/livez": a_get("Does the daemon's loop turn? No I/O, never about backups", "livez", alive),
            "/metrics": a_get("For Prometheus, by content negotiation", "metrics", {"200": metrics}),
            "/databases/{name}": a_get("All evidence of one database", "database", evidence, (named,)),
            "/evidence/{name}": a_get("Its newest drills whole, for another daemon", "evidence", offer, (named,)),
            "/drills": _drills_path(),
            "/drills/{id}": a_get("What a drill found", "drillState", drill, (by_id,)),
            **DEPLOY_PATHS,
            "/openapi.json": a_get("This document", "openapi", described),
        },
        "components": {"schemas": _schemas(), "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
    }
