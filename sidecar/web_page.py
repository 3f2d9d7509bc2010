"""`GET /`: the status page for whoever asks for HTML, as browsers do; the list of routes as text for everybody else."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import parse_qsl

from sidecar.answers import Answers
from sidecar.core.model import Database
from sidecar.page import looks, not_there, page
from sidecar.page_facts import Gatherer
from sidecar.web_requests import ECHO_MAX, PARAMETERS_MAX, Refused, Request, Response

HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
INDEX = """\
litestream-sidecar
GET  /                 this list; for a browser (Accept: text/html) the status page
GET  /ready            can every database be restored, right now? (?db= ?max_age= ?max_lag= ?format=text)
GET  /livez            does the daemon's loop turn?
GET  /metrics          for Prometheus
GET  /databases/NAME   all evidence of one database
POST /drills           {"db": NAME} restores its backup now
GET  /drills/ID        what that drill found
POST /proofs           what `gate` and `postcheck` ask for; GET /proofs/ID is what was found
GET  /openapi.json     all of this, for machines
"""


class PageRoute:
    """Answers `/`."""

    def __init__(self, answers: Answers, gatherer: Gatherer) -> None:
        self._answers, self._gatherer = answers, gatherer

    async def get(self, request: Request) -> Response:
        """The page, made in a worker thread: past drills and deploys come from a disk."""
        if not wants_html(request.headers.get("accept", "")):
            return Response(200, INDEX.encode(), TEXT, {"Vary": "Accept"})
        name = wanted_database(request.query)
        database = self._answers.keeper.fleet.named(name) if name is not None else None
        if name is not None and database is None:
            error = f"no database is called {json.dumps(name[:ECHO_MAX], ensure_ascii=False)}"
            body = not_there(
                error,
                "It may have left litestream.yml; the start page shows those that are there.",
                self._answers.version,
            )
            return Response(404, body, HTML, looks().headers)
        return Response(200, await asyncio.to_thread(self._made, database), HTML, looks().headers)

    def _made(self, database: Database | None) -> bytes:
        return page(self._gatherer.facts(database))


def wanted_database(query: str) -> str | None:
    """The `db` of the query; None where the page of all is asked for. Raises Refused."""
    try:  # Bytes of no encoding stay themselves: a database may be called so.
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=PARAMETERS_MAX, errors="surrogateescape")
    except ValueError:
        raise Refused(400, f"more than {PARAMETERS_MAX} parameters", "ask for `/` or `/?db=NAME`") from None
    for name, _ in pairs:
        if name != "db":
            raise Refused(400, f"unknown parameter {json.dumps(name[:ECHO_MAX])}", "ask for `/` or `/?db=NAME`")
    if len(pairs) > 1:
        raise Refused(400, "`db` is given more than once", "one page is about one database; /ready takes several")
    return pairs[0][1] if pairs else None


def wants_html(accept: str) -> bool:
    """Whether a browser asks. `*/*`, which curl sends, does not name HTML; where plain text is liked better, it is given."""
    liked: dict[str, float] = {}
    for each in accept.lower().split(","):
        media, *parameters = (part.strip() for part in each.split(";"))
        quality = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        try:
            liked[media] = float(quality)
        except ValueError:
            liked[media] = 0.0
    html = max(liked.get("text/html", 0.0), liked.get("application/xhtml+xml", 0.0))
    return html > 0 and html >= liked.get("text/plain", 0.0)
