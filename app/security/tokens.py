"""Bearer tokens that others give out: JSON Web Tokens (RFC 7519), checked and never made here."""

from __future__ import annotations

import re
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from hotloop.app.errors import MissingScopeError, UnauthorizedError
from hotloop.app.names import JwtAlgorithm
from hotloop.app.security.clients import Client, Scope, highest
from hotloop.app.settings.tokens import MIN_SECRET_BYTES

Key = bytes | RSAPublicKey | EllipticCurvePublicKey

MIN_RSA_BITS: Final = 2_048
"""RFC 7518, section 3.3."""

LEEWAY_SECONDS: Final = 30
"""By which the clocks of two machines may differ."""

_SUBJECT: Final = re.compile(r"[!-~]([ -~]{0,198}[!-~])?")
"""What the store keeps and people read."""


def load_key(text: str, algorithm: JwtAlgorithm) -> Key:
    """What tokens are checked against. ValueError, which shows nothing of the key, for one that
    is not of the algorithm: a public key taken for a secret would be known to everybody.
    """
    if algorithm is JwtAlgorithm.HS256:
        if "-----BEGIN" in text:
            raise ValueError("is a PEM key; HS256 takes a secret, RS256 and ES256 public keys")
        if len(text.encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"must be a secret of at least {MIN_SECRET_BYTES} bytes for HS256")
        return text.encode()
    try:
        key = load_pem_public_key(text.encode())
    except Exception:  # of several kinds, which may quote it
        raise ValueError(f"must be a public key in PEM for {algorithm}") from None
    if algorithm is JwtAlgorithm.RS256 and isinstance(key, RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise ValueError(f"must have at least {MIN_RSA_BITS:,} bits for RS256")
        return key
    if algorithm is JwtAlgorithm.ES256 and isinstance(key, EllipticCurvePublicKey):
        if isinstance(key.curve, SECP256R1):
            return key
        raise ValueError("must be on the curve P-256 for ES256")
    raise ValueError(f"is a public key of another algorithm than {algorithm}")


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
