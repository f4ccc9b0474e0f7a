"""Bearer tokens that others give out: JSON Web Tokens (RFC 7519), checked and never made here."""

from __future__ import annotations

import re
from typing import Any, Final

import jwt

from hotloop.app.errors import MissingScopeError, UnauthorizedError
from hotloop.app.names import JwtAlgorithm, Scope
from hotloop.app.security.clients import Client, highest
from hotloop.app.settings.rules import load_key

LEEWAY_SECONDS: Final = 30
"""By which the clocks of two machines may differ."""

_SUBJECT: Final = re.compile(r"[!-~]([ -~]{0,198}[!-~])?")
"""What the store keeps and people read."""


class TokenCheck:
    """Knows one key, one algorithm, one audience."""

    def __init__(
        self, key: str, algorithm: JwtAlgorithm, audience: str, issuer: str | None
    ) -> None:
        """ValueError for a key that is not of the algorithm."""
        self._key = load_key(key, algorithm)
        self._algorithm = algorithm
        self._audience = audience
        self._issuer = issuer

    def client_of(self, token: str) -> Client:
        """Whom the token is about, `sub`, with the highest scope in `scope`. Raises
        UnauthorizedError, and MissingScopeError for a token with none of our scopes.
        """
        required = ["exp", "sub", "aud"] + (["iss"] if self._issuer is not None else [])
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key,
                # What the token says of its own algorithm only has to agree.
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
