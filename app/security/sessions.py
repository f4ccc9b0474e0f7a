"""Sessions of browsers: who has shown a key may leave it out for a while.

A session is nothing that the service keeps: a cookie says which key was shown, as its hash, and
until when it holds, and is signed. It is good as long as that key is let in.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from hotloop.app.errors import UnauthorizedError
from hotloop.app.security.keys import ApiKey, KeyRing

COOKIE: Final = "hotloop_session"

SESSION_SECONDS: Final = 8 * 3_600
"""A day's work; then the key is asked for again."""

_TOKEN: Final = re.compile(r"([0-9a-f]{64})\.([0-9]{1,12})\.([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Session:
    key: ApiKey
    expires: int
    """Seconds since 1970."""

    @property
    def expires_at(self) -> datetime:
        return datetime.fromtimestamp(self.expires, UTC)


class Sessions:
    """Signs and reads them."""

    def __init__(self, secret: str | None, keys: KeyRing) -> None:
        """A random secret, of this process, for None."""
        self._secret = secrets.token_bytes(32) if secret is None else secret.encode()
        self._keys = keys

    def begin(self, key: ApiKey) -> Session:
        return Session(key, int(time.time()) + SESSION_SECONDS)

    def token_of(self, session: Session) -> str:
        """What the cookie has."""
        signed = f"{session.key.digest}.{session.expires}"
        return f"{signed}.{self._signature(signed)}"

    def find(self, token: str) -> Session:
        """Raises UnauthorizedError."""
        parts = _TOKEN.fullmatch(token)
        if parts is None or not hmac.compare_digest(
            self._signature(f"{parts[1]}.{parts[2]}"), parts[3]
        ):
            raise UnauthorizedError("the session is not one of ours; sign in again")
        key = self._keys.with_digest(parts[1])
        if key is None:
            raise UnauthorizedError("the key of the session is no longer one of ours")
        session = Session(key, int(parts[2]))
        if session.expires <= time.time():
            raise UnauthorizedError("the session has ended; sign in again")
        return session

    def _signature(self, text: str) -> str:
        # With its purpose, should the secret be used for anything else one day.
        return hmac.new(self._secret, f"session {text}".encode(), hashlib.sha256).hexdigest()
