"""Clients, their API keys, and the sessions of browsers in which a key was shown.

A key is 256 random bits, so the service keeps its plain SHA-256: guessing cannot find it, and the
slow hashes that passwords need would only let strangers use up the service's time. A text that a
person made up does not have the form of a key, and is refused before it is hashed.

The service does not store sessions: a signed cookie has the hash of the shown key, and the time at
which the session ends. A session is valid as long as its key is.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from hotloop.app.errors import MissingScopeError, UnauthorizedError
from hotloop.app.names import Scope
from hotloop.app.settings.settings import ApiKeyEntry

KEY_HEADER: Final = "X-API-Key"

COOKIE: Final = "hotloop_session"

SESSION_SECONDS: Final = 8 * 3_600
"""Length of a session, a working day; then the browser must show the key again."""

_KEY: Final = re.compile(r"hl_[A-Za-z0-9_-]{43}")
_SESSION: Final = re.compile(r"([0-9a-f]{64})\.([0-9]{1,12})\.([0-9a-f]{64})")

_WAY_OUT: Final = "`hotloop key NAME` makes one"

_ORDER: Final = tuple(Scope)


@dataclass(frozen=True, slots=True)
class Client:
    """A client and its highest scope."""

    name: str
    """Name for people."""
    id: str | None
    """Name in the store, beside the client's tasks; None in a service without keys."""
    scope: Scope

    def may(self, scope: Scope) -> bool:
        """Return True if the client has the scope or a higher one."""
        return _ORDER.index(self.scope) >= _ORDER.index(scope)

    def require(self, scope: Scope) -> None:
        """Raise MissingScopeError unless the client has the scope."""
        if not self.may(scope):
            raise MissingScopeError(self.name, scope)

    @property
    def sees_all(self) -> bool:
        """True if the client may see and change the tasks of all clients."""
        return self.may(Scope.ADMIN)


ANYONE: Final = Client("anyone", None, Scope.ADMIN)
"""The client of every request to a service without keys, which only serves this machine."""


def highest(scopes: frozenset[Scope]) -> Scope | None:
    """Return the highest of some scopes; None if there are none."""
    return max(scopes, key=_ORDER.index, default=None)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key from the settings. Two keys with one name belong to one client, so that a new key can
    be handed out before the old one is removed.
    """

    name: str
    digest: str
    """SHA-256 of the key, 64 hexadecimal digits."""
    scope: Scope

    @classmethod
    def of(cls, entry: ApiKeyEntry) -> ApiKey:
        """Return the key of an entry in the settings, with the highest of its scopes."""
        scope = highest(entry.scopes)
        assert scope is not None  # there is at least one
        return cls(entry.name, entry.hash, scope)

    @property
    def client(self) -> Client:
        return Client(self.name, f"key:{self.name}", self.scope)


def new_key() -> str:
    """Make a key: `hl_` and 43 letters, digits, - and _ for 32 random bytes."""
    return f"hl_{secrets.token_urlsafe(32)}"


def digest_of(key: str) -> str:
    """Return the SHA-256 of a key, 64 hexadecimal digits."""
    return hashlib.sha256(key.encode()).hexdigest()


class KeyRing:
    """The keys that the service accepts."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._keys = tuple(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def find(self, key: str) -> ApiKey:
        """Find a key. Raises UnauthorizedError if it is not accepted.

        The search takes the same time for every key, accepted or not.
        """
        if _KEY.fullmatch(key) is None:
            raise UnauthorizedError(
                f"{KEY_HEADER} does not have the form of a key: hl_ and 43 letters, digits, - or "
                f"_; {_WAY_OUT}"
            )
        found = self._find(digest_of(key))
        if found is None:
            raise UnauthorizedError(
                f"the key in {KEY_HEADER} is not, or no longer, accepted; {_WAY_OUT}"
            )
        return found

    def with_digest(self, digest: str) -> ApiKey | None:
        """Return the accepted key with this hash, or None."""
        return self._find(digest) if digest.isascii() else None

    def _find(self, digest: str) -> ApiKey | None:
        found: ApiKey | None = None
        for key in self._keys:
            if secrets.compare_digest(key.digest.encode(), digest.encode()):
                found = key
        return found


@dataclass(frozen=True, slots=True)
class Session:
    key: ApiKey
    expires: int
    """End of the session, in seconds since 1970."""

    @property
    def expires_at(self) -> datetime:
        return datetime.fromtimestamp(self.expires, UTC)


class Sessions:
    """Signs sessions and reads them back."""

    def __init__(self, secret: str | None, keys: KeyRing) -> None:
        """Take the secret for signatures, or make a random one for this process."""
        self._secret = secrets.token_bytes(32) if secret is None else secret.encode()
        self._keys = keys

    def begin(self, key: ApiKey) -> Session:
        """Return a session that begins now."""
        return Session(key, int(time.time()) + SESSION_SECONDS)

    def token_of(self, session: Session) -> str:
        """Return the value of the session's cookie."""
        signed = f"{session.key.digest}.{session.expires}"
        return f"{signed}.{self._signature(signed)}"

    def find(self, token: str) -> Session:
        """Read a session from its cookie. Raises UnauthorizedError."""
        parts = _SESSION.fullmatch(token)
        if parts is None or not hmac.compare_digest(
            self._signature(f"{parts[1]}.{parts[2]}"), parts[3]
        ):
            raise UnauthorizedError("the session is not from this service; sign in again")
        key = self._keys.with_digest(parts[1])
        if key is None:
            raise UnauthorizedError(
                "the key of the session is no longer accepted; sign in with another key"
            )
        session = Session(key, int(parts[2]))
        if session.expires <= time.time():
            raise UnauthorizedError("the session has ended; sign in again")
        return session

    def _signature(self, text: str) -> str:
        # Sign the purpose, too, in case the secret gets another use.
        return hmac.new(self._secret, f"session {text}".encode(), hashlib.sha256).hexdigest()
