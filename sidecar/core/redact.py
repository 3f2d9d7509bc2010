"""Masking: whatever Litestream, a URL or a library says may be shown only after its secrets are blotted out.

Litestream echoes a URL put into `path:` whole, so captured output is never shown raw. Masking too much is a nuisance,
masking too little is a leak: the patterns lean towards too much.
"""

from __future__ import annotations

import re

MASK = "***"
SECRET_LENGTH_MIN = 4  # shorter values would blot out half of every sentence

# Litestream's keys that hold secrets; `*secret*` and `*password` are matched by shape.
SECRET_KEYS = frozenset(
    {"access-key-id", "account-key", "sas-token", "sse-customer-key", "jwt", "seed", "nkey", "creds", "token"}
)
_USERINFO = re.compile(r"(\b\w[\w+.-]*://)[^\s'\"<>/@:]*(?::[^\s'\"<>]*)?@")
_PAIR = re.compile(
    r"""(?ix) \b( [\w-]*secret[\w-]* | [\w-]*password | [\w-]*access[_-]?key(?:[_-]?id)? | (?:aws|google)access(?:key)?id
        | account[_-]?key | sas[_-]token | sse[_-]customer[_-]key | jwt | seed | nkey | creds
        | (?:[\w-]+[_-])?token | sig | (?:x-amz-)?signature | x-amz-credential | authorization )
        (["']?\s*[:=]\s*["']?) (?:(bearer|basic)\s+)? [^\s"',;&}\])]+""",
)
_SHAPES = re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|AGE-SECRET-KEY-1[0-9A-Z]+|\beyJ[\w-]+\.[\w-]+\.[\w-]*")


def is_secret_key(key: str) -> bool:
    """Whether a configuration key holds a secret."""
    return key in SECRET_KEYS or "secret" in key or key.endswith("password")


def mask(text: str, secrets: tuple[str, ...]) -> str:
    """The text with the given literal secrets masked."""
    for secret in secrets:
        if len(secret) >= SECRET_LENGTH_MIN:
            text = text.replace(secret, MASK)
    return text


def redact(text: str, secrets: tuple[str, ...] = ()) -> str:
    """The text with userinfo of URLs, values of secret keys and the given literal secrets masked."""
    text = mask(text, secrets)
    text = _USERINFO.sub(rf"\1{MASK}@", text)
    text = _PAIR.sub(rf"\1\2{MASK}", text)
    return _SHAPES.sub(MASK, text)
