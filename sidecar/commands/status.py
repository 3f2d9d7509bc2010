"""`status`: the daemon's answer as a table for people."""

from __future__ import annotations

import json
import threading

from sidecar.adapters.daemon_client import BadAddress
from sidecar.adapters.ready_client import fetch_ready
from sidecar.assembly_tools import address, read_settings
from sidecar.commands.render import Echo, drawn, exit_code, fleet_table, terminal
from sidecar.core.errors import SidecarError
from sidecar.core.verdict import Document
from sidecar.options import Options

REDRAW_S = 2.0
_CLEAR = "\x1b[2J\x1b[H"


def status(options: Options, url: str | None, *, as_json: bool, watch: bool, echo: Echo) -> int:
    """Ask once, or until interrupted; exit code 0 ready, 1 proved bad, 3 not known."""
    where = url or address(read_settings(options))
    document = fetch_ready(where)
    if not watch:
        echo(_shown(document, as_json=as_json))
        return exit_code(document)
    text = _shown(document, as_json=as_json)
    while echo(_CLEAR + text if terminal() and not as_json else text):
        threading.Event().wait(REDRAW_S)
        try:
            text = _shown(fetch_ready(where), as_json=as_json)
        except BadAddress:
            raise
        except SidecarError as error:  # a daemon that restarts is no reason to stop watching it
            text = drawn(f"{error.message}; asking again") if not as_json else text
    return exit_code(document)


def _shown(document: Document, *, as_json: bool) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) if as_json else fleet_table(document)
