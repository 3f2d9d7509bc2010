"""The routes of the deploy commands as they stand in the OpenAPI document."""

from __future__ import annotations

from sidecar.core.decision import Kind, Word
from sidecar.core.receipt import RECEIPT_ID
from sidecar.openapi_parts import (
    DATABASE,
    DURATION,
    FAILED,
    FLAG,
    JSON,
    MAYBE_TEXT,
    METHOD,
    TEXT,
    TIME,
    Schema,
    a_get,
    a_list,
    an_answer,
    an_error,
    an_object,
    in_path,
    or_null,
    ref,
)

STATES = ["queued", "running", "done", "failed"]
INSTANT: Schema = {"type": ["string", "null"], "format": "date-time", "description": "with fractions of a second"}
OPTIONAL_FLAG: Schema = {"type": ["boolean", "null"]}
RECEIPT: Schema = {"type": "string", "pattern": f"^{RECEIPT_ID.pattern}$", "description": "a receipt's id"}
MAYBE_RECEIPT: Schema = {**MAYBE_TEXT, "pattern": f"^({RECEIPT_ID.pattern})?$"}  # empty means none
KEPT_UNDER: Schema = {
    "if": {"properties": {"keep": {"const": True}}, "required": ["keep"]},
    "then": {"properties": {"receipt": RECEIPT}, "required": ["receipt"]},
}


def deploy_schemas() -> dict[str, Schema]:
    """What the bodies look like."""
    return {
        "ProofRequest": an_object(
            {
                "db": DATABASE,
                "timeout": {**DURATION, "type": ["string", "null"]},
                "receipt": {**MAYBE_RECEIPT, "description": "artifacts are kept under this id"},
                "max_age": {**DURATION, "type": ["string", "null"], "description": "absent or null: fresh proof"},
                "since": INSTANT,
                "backup": OPTIONAL_FLAG,
                "production": OPTIONAL_FLAG,
                "keep": OPTIONAL_FLAG,
                "anyway": OPTIONAL_FLAG,
                "accept_shrink": OPTIONAL_FLAG,
            },
            "what is to be proved of one database",
            "timeout", "receipt", "max_age", "since", "backup", "production", "keep", "anyway", "accept_shrink",
        ) | KEPT_UNDER,
        "ProofState": an_object(
            {"id": TEXT, "db": TEXT, "state": {"enum": STATES}, "error": MAYBE_TEXT, "proof": or_null(ref("Proof"))},
            "a proof by id; `proof` is null until it is done",
        ),
        "Proof": an_object(
            {
                "name": TEXT,
                "ready": FLAG,
                "retryable": FLAG,
                "conclusive": FLAG,
                "reason": TEXT,
                "hint": TEXT,
                "since": INSTANT,
                "database": ref("Database"),
                "litestream": TEXT,
                "max_shrink": {"type": "number"},
                "entry": {"type": "object", "description": "what becomes an entry of the receipt"},
            },
            "what was found on the road to the gate",
        ),
        "ReceiptRequest": an_object({"receipt": RECEIPT}, "the receipt that a postcheck wants to use"),
        "ReceiptTaken": an_object({"receipt": TEXT, "state": TEXT}, "it is in use now"),
        "Decision": an_object(
            {
                "kind": {"enum": [each.value for each in Kind]},
                "decision": {"enum": [each.value for each in Word]},
                "at": TIME,
                "databases": {**a_list(TEXT), "type": ["array", "null"]},
                "reason": TEXT,
                "receipt": MAYBE_RECEIPT,
                "override": MAYBE_TEXT,
            },
            "what a deploy command decided",
            "databases", "receipt", "override",
        ),
        "Recorded": an_object({"recorded": FLAG}, "it stands in the history"),
    }  # fmt: skip


def _post(name: str, summary: str, body: str, code: str, answer: Schema, **more: Schema) -> Schema:
    """A path with POST that takes and gives JSON, behind the token."""
    return {
        "post": {
            "operationId": name,
            "summary": summary,
            "security": [{}, {"bearer": []}],
            "requestBody": {"required": True, "content": {JSON: {"schema": ref(body)}}},
            "responses": {
                code: answer,
                "400": an_error("the body is not what is asked for"),
                "401": an_error("the bearer token is missing or wrong", **{"WWW-Authenticate": {"schema": TEXT}}),
                "403": an_error("no token is configured and the request may come from elsewhere"),
                "413": an_error("the body is larger than 64 KiB"),
                "415": an_error("the body is not application/json"),
                "503": an_error("the state directory cannot be used, or too much is waiting"),
                **more,
                **METHOD,
                **FAILED,
            },
        }
    }


DEPLOY_PATHS: dict[str, Schema] = {
    "/proofs": _post(
        "prove", "Walk the road to the gate for one database", "ProofRequest", "202",
        an_answer("queued", (JSON, ref("ProofState")), Location={"required": True, "schema": TEXT}),
        **{"404": an_error("no database has this name")},
    ),
    "/proofs/{id}": a_get(
        "What was found on the road", "proofState",
        {"200": an_answer("the proof", (JSON, ref("ProofState"))), "404": an_error("no proof has this id")},
        (in_path("id", "the proof's id"),),
    ),
    "/receipts": _post(
        "takeReceipt", "Use a receipt for its one postcheck", "ReceiptRequest", "200",
        an_answer("it is in use now", (JSON, ref("ReceiptTaken"))), **{"409": an_error("it was used already")},
    ),
    "/decisions": _post(
        "decide", "Record what a deploy command decided", "Decision", "200",
        an_answer("recorded", (JSON, ref("Recorded"))), **{"409": an_error("it cannot be recorded")},
    ),
}  # fmt: skip
