"""Bearer tokens: JSON Web Tokens (RFC 7519), which the service checks and never issues."""

from __future__ import annotations

import re
from typing import Any, Final

import jwt

from hotloop.app.errors import MissingScopeError, UnauthorizedError
from hotloop.app.names import JwtAlgorithm, Scope
from hotloop.app.security.clients import Client, highest
from hotloop.app.settings.rules import load_key

LEEWAY_SECONDS: Final = 30
"""Allowed difference between the clocks of two machines."""

_SUBJECT: Final = re.compile(r"[!-~]([ -~]{0,198}[!-~])?")
"""Form of `sub`: the store keeps it, and people read it."""


class TokenCheck:
    """Checks tokens against one key, one algorithm and one audience."""

    def __init__(
        self, key: str, algorithm: JwtAlgorithm, audience: str, issuer: str | None
    ) -> None:
        """Load the key. Raises ValueError for a key of another algorithm."""
        self._key = load_key(key, algorithm)
        self._algorithm = algorithm
        self._audience = audience
        self._issuer = issuer

    def client_of(self, token: str) -> Client:
        """Return the client that the token names in `sub`, with the highest scope in `scope`.
        Raises UnauthorizedError, and MissingScopeError for a token without a scope of the service.
        """
        required = ["exp", "sub", "aud"] + (["iss"] if self._issuer is not None else [])
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key,
                # A token cannot choose its algorithm: it must name this one.
                algorithms=[self._algorithm.value],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": required},
            )
        except jwt.PyJWTError as error:
            raise UnauthorizedError(f"the bearer token is refused: {error}") from None
        subject = claims["sub"]
        if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
            raise UnauthorizedError(
                "the bearer token is refused: `sub` must be 1 to 200 letters, digits and signs of "
                "ASCII"
            )
        words = claims.get("scope")
        given = words.split() if isinstance(words, str) else ()
        scope = highest(frozenset(scope for scope in Scope if scope.value in given))
        if scope is None:
            raise MissingScopeError(subject, Scope.READ)
        return Client(subject, f"jwt:{subject}", scope)
