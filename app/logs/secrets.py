"""Nothing secret gets into a log, whoever wrote the message: a library, an exception, a path."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote, unquote, urlsplit

MASK: Final = "***"
SHORTEST_SECRET: Final = 4
"""Shorter ones are words of other lines too, and protect nothing."""

_USER_INFO: Final = re.compile(r"(?<=://)[^\s'\"]*:[^\s'\"]*@")
"""User and password of a URL, whatever is not escaped in them: rather too much than too little."""
_AUTHORIZATION: Final = re.compile(r"\b(Basic|Bearer)(\s+)[A-Za-z0-9._~+/=-]{8,}")
_PASSWORD: Final = re.compile(r"\b(password|passwd|pwd)(\s*=\s*)[^\s&'\"]+", re.IGNORECASE)
"""In the manner of a libpq connection string."""


class SecretMask:
    """Masks passwords of URLs and authorizations of any kind, and the secrets that it is told."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        known = {part for secret in secrets for part in _parts(secret)}
        long_enough = sorted(filter(_is_long, known), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, long_enough))) if long_enough else None

    def clean(self, text: str) -> str:
        """The text, safe to be kept by whoever keeps logs."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        if "://" in text:
            text = _USER_INFO.sub(f"{MASK}@", text)
        text = _AUTHORIZATION.sub(rf"\1\2{MASK}", text)
        return _PASSWORD.sub(rf"\1\2{MASK}", text)


def _is_long(secret: str) -> bool:
    return len(secret) >= SHORTEST_SECRET


def _parts(secret: str) -> list[str]:
    """The secret as it may appear: of a URL the password, of an authorization its second word."""
    if "://" in secret:
        try:
            password = urlsplit(secret).password
        except ValueError:
            password = None
        return [] if password is None else [password, unquote(password), quote(password, safe="")]
    kind, _, rest = secret.partition(" ")
    return [rest] if kind.lower() in ("basic", "bearer") else [secret]
