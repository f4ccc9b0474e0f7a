"""Clients, their API keys, and the sessions of browsers in which a key was shown.

A key is 256 random bits, so the service keeps its plain SHA-256: guessing cannot find it, and the
slow hashes that passwords need would only let strangers spend the service's time. A text that a
person made up does not have the form of a key, and is refused before it is hashed.

The service does not store sessions: a signed cookie has the hash of the key that was shown, and the
time at which the session ends. A session is good as long as its key is.
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

_KEY: Final = re.compile(r"hl_[A-Za-z0-9_-]{43}")
COOKIE: Final = "hotloop_session"

SESSION_SECONDS: Final = 8 * 3_600
"""A day's work; then the key is asked for again."""

_SESSION: Final = re.compile(r"([0-9a-f]{64})\.([0-9]{1,12})\.([0-9a-f]{64})")

_WAY_OUT: Final = "`python -m hotloop.app.security NAME` makes one"

_ORDER: Final = tuple(Scope)


@dataclass(frozen=True, slots=True)
class Client:
    """`id` is what the store keeps with a client's tasks, None where nobody has to say who they
    are; `name` is for people.
    """

    name: str
    id: str | None
    scope: Scope
    """The highest that it has."""

    def may(self, scope: Scope) -> bool:
        return _ORDER.index(self.scope) >= _ORDER.index(scope)

    def require(self, scope: Scope) -> None:
        """Raises MissingScopeError."""
        if not self.may(scope):
            raise MissingScopeError(self.name, scope)

    @property
    def sees_all(self) -> bool:
        """Whether the tasks of all are its own."""
        return self.may(Scope.ADMIN)


ANYONE: Final = Client("anyone", None, Scope.ADMIN)
"""Every client of a service without authentication, which is on loopback only."""


def highest(scopes: frozenset[Scope]) -> Scope | None:
    return max(scopes, key=_ORDER.index, default=None)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as the settings have it. Two keys of one name are one client: a new one is handed out
    before the old one is removed.
    """

    name: str
    digest: str
    """SHA-256 of the key, 64 hexadecimal digits."""
    scope: Scope

    @classmethod
    def of(cls, entry: ApiKeyEntry) -> ApiKey:
        """The key of an entry in the settings, with the highest of its scopes."""
        scope = highest(entry.scopes)
        assert scope is not None  # there is at least one
        return cls(entry.name, entry.hash, scope)

    @property
    def client(self) -> Client:
        return Client(self.name, f"key:{self.name}", self.scope)


def new_key() -> str:
    """`hl_` and 43 letters, digits, - and _: 32 random bytes."""
    return f"hl_{secrets.token_urlsafe(32)}"


def digest_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


class KeyRing:
    """The keys that are let in."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._keys = tuple(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def find(self, key: str) -> ApiKey:
        """Whose key this is. Raises UnauthorizedError.

        Takes the same time whichever of the keys it is, or none.
        """
        if _KEY.fullmatch(key) is None:
            raise UnauthorizedError(
                f"{KEY_HEADER} does not hold a key: that is hl_ and 43 letters, digits, - or _; "
                f"{_WAY_OUT}"
            )
        found = self._find(digest_of(key))
        if found is None:
            raise UnauthorizedError(f"the key in {KEY_HEADER} is not, or no longer, one of ours")
        return found

    def with_digest(self, digest: str) -> ApiKey | None:
        """The key of this hash, as long as it is let in."""
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
        parts = _SESSION.fullmatch(token)
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
