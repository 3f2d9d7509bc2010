"""Who may POST: whoever has the token, or where there is none, whoever is on this machine and is no foreign web page."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass

from sidecar.web_requests import BODY_EXAMPLE, JSON, Refused, Request, is_local_name


@dataclass(frozen=True, slots=True)
class Guard:
    """Stands before every route that causes work.

    Args:
        token: the bearer token that a POST must carry, or how to read it; None where none is configured.
        loopback: whether only this machine can connect (a Unix socket counts).
    """

    token: Callable[[], str | None] | str | None
    loopback: bool

    def check(self, request: Request) -> None:
        """Refuse a POST that could come from elsewhere. JSON alone as content type keeps forms of foreign pages out;
        a page that had its own name resolve to this machine would still send its own name as Host."""  # noqa: D205, D209 - one thought
        token = self.token() if callable(self.token) else self.token
        if token is None:
            if not self.loopback:
                raise Refused(403, "POST is refused: others than this machine can connect and no token is configured",
                              "set http.token-file in sidecar.yml, or listen on loopback")  # fmt: skip
            if not request.over_unix and not is_local_name(request.headers.get("host", "localhost")):
                raise Refused(403, "POST is refused: the Host header names another machine than this one",
                              "use 127.0.0.1 or localhost, or set http.token-file in sidecar.yml")  # fmt: skip
            return
        if not token.strip():
            raise Refused(403, "POST is refused: the configured token is empty", "write a token to http.token-file")
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode("latin-1"), token.strip().encode())
        if scheme.lower() != "bearer" or not right:
            hint = "send `Authorization: Bearer TOKEN` with the token that stands in http.token-file"
            raise Refused(401, "POST needs the right bearer token", hint, WWW_Authenticate="Bearer")

    @staticmethod
    def json_only(request: Request) -> None:
        """Refuse every other content type: forms of foreign pages cannot send JSON."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            raise Refused(415, "the body must be JSON", f"send `Content-Type: {JSON}` and a body like {BODY_EXAMPLE}")
