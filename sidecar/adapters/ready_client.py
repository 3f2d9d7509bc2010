"""Asks a running daemon for its answer, as `status` and deploy scripts do."""

from __future__ import annotations

from typing import Any

from sidecar.adapters.daemon_client import client, read_address, stranger

_ENTRY = {"name", "ready", "position", "snapshot", "last_drill", "schema_version", "checks"}


def fetch_ready(address: str) -> dict[str, Any]:
    """GET /ready of the daemon at `http://host:port`, `host:port` or `unix:/path`; its document, whatever it answers.

    Raises:
        SidecarError: nobody answers there, or what answers is no sidecar.
        BadAddress: that is no address.
    """
    where = read_address(address)
    with client(where) as asking:
        answer = asking.get(f"{where.base}/ready")
    try:
        document = answer.json()
    except ValueError as error:
        raise stranger(where) from error
    if not _is_ready_document(document):
        raise stranger(where)
    return dict(document)


def _is_ready_document(document: object) -> bool:
    if not isinstance(document, dict) or not {"ready", "reason", "databases"} <= document.keys():
        return False
    entries = document["databases"]
    return isinstance(entries, list) and all(isinstance(each, dict) and each.keys() >= _ENTRY for each in entries)
