"""API keys: made here, kept by others as hashes only.

A key is 256 random bits, so a plain SHA-256 keeps it: there is nothing that guessing could find,
and the slow hashes that passwords need would only let strangers spend the service's time. What a
person made up does not have the form of a key, and is refused before it is hashed.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from hotloop.app.errors import UnauthorizedError
from hotloop.app.security.clients import Client, Scope

KEY_HEADER: Final = "X-API-Key"

_KEY: Final = re.compile(r"hl_[A-Za-z0-9_-]{43}")
_WAY_OUT: Final = "`hotloop key NAME` makes one"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as the settings have it. Two keys of one name are one client: a new one is handed out
    before the old one is removed.
    """

    name: str
    digest: str
    """SHA-256 of the key, 64 hexadecimal digits."""
    scope: Scope

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
