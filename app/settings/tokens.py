"""Settings of what is signed: tokens that others give out, and sessions of browsers."""

from __future__ import annotations

from typing import Final, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from hotloop.app.names import JwtAlgorithm
from hotloop.app.settings.sources import PREFIX, SourceSettings
from hotloop.app.wording import RULE

MIN_SECRET_BYTES: Final = 32
"""As many as SHA-256 has (RFC 7518, section 3.2)."""


class TokenSettings(SourceSettings):
    """What bearer tokens are checked against, and what sessions are signed with."""

    jwt_key: SecretStr | None = Field(
        default=None,
        description=(
            "What bearer tokens (JWT) are signed with: a secret of at least 32 bytes for HS256, "
            "the public key as PEM for the others. No tokens are taken when not set."
        ),
    )
    jwt_algorithm: JwtAlgorithm | None = Field(
        default=None, description="The only one that tokens may be signed by; with a JWT key."
    )
    jwt_audience: str | None = Field(
        default=None,
        min_length=1,
        max_length=255,
        description="What `aud` of a token must have: the name of this service; with a JWT key.",
    )
    jwt_issuer: str | None = Field(
        default=None,
        min_length=1,
        max_length=255,
        description="What `iss` of a token must be. Any when not set.",
    )
    session_secret: SecretStr | None = Field(
        default=None,
        description=(
            "What the sessions of browsers are signed with: random text of at least 32 bytes, the "
            "same on all machines. When not set, the service makes one, and sessions end with "
            "it."
        ),
    )

    @model_validator(mode="after")
    def _sessions_are_signed_well(self) -> Self:
        secret = self.session_secret
        if secret is not None and len(secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
            _refuse(f"SESSION_SECRET must be of at least {MIN_SECRET_BYTES} bytes")
        return self

    @model_validator(mode="after")
    def _tokens_can_be_checked(self) -> Self:
        needed = {"JWT_ALGORITHM": self.jwt_algorithm, "JWT_AUDIENCE": self.jwt_audience}
        if self.jwt_key is None:
            given = needed | {"JWT_ISSUER": self.jwt_issuer}
            for name in (name for name, value in given.items() if value is not None):
                _refuse(f"{name} says nothing without {PREFIX}JWT_KEY; set both, or none")
            return self
        for name in (name for name, value in needed.items() if value is None):
            _refuse(f"{name} must be set, as {PREFIX}JWT_KEY is")
        assert self.jwt_algorithm is not None
        from hotloop.app.security.tokens import (
            load_key,  # what checks signatures takes long to import
        )

        try:
            load_key(self.jwt_key.get_secret_value(), self.jwt_algorithm)
        except ValueError as error:
            _refuse(f"JWT_KEY {error}")
        return self


def _refuse(text: str) -> None:
    raise PydanticCustomError(RULE, "{text}", {"text": PREFIX + text})
