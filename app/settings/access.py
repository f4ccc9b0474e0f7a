"""Settings of who may ask what, and from where."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_core import PydanticCustomError

from hotloop.app.security.clients import Scope, highest
from hotloop.app.security.keys import ApiKey
from hotloop.app.settings.tokens import TokenSettings
from hotloop.app.wording import RULE

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_RATE: Final = re.compile(
    r"[1-9][0-9]{0,8}/([1-9][0-9]{0,3} ?)?(second|minute|hour|day)s?", re.IGNORECASE
)
_HOST: Final = re.compile(r"(\*\.)?[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]")


def _refuse(text: str) -> PydanticCustomError:
    """The texts show no value: somebody may have put a key where its hash belongs."""
    return PydanticCustomError(RULE, text)


class ApiKeyEntry(BaseModel):
    """A key in HOTLOOP_API_KEYS, as `hotloop key NAME` prints it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]*$")
    hash: str
    scopes: frozenset[Scope] = Field(min_length=1)

    @field_validator("hash", mode="before")
    @classmethod
    def _digest(cls, value: Any) -> Any:
        if not isinstance(value, str) or not _DIGEST.fullmatch(value):
            raise _refuse(
                "must be the SHA-256 of a key, 64 digits 0-9a-f, and never the key itself or a "
                "word that somebody made up; `hotloop key NAME` makes a key and "
                "prints this entry"
            )
        return value

    @property
    def key(self) -> ApiKey:
        scope = highest(self.scopes)
        assert scope is not None  # there is at least one
        return ApiKey(self.name, self.hash, scope)


class AccessSettings(TokenSettings):
    """Keys and tokens, which browsers' pages are served, and how much a client may ask for."""

    client_tasks: int = Field(
        default=10_000,
        ge=1,
        le=10_000_000,
        description=(
            "Background tasks of a client that may wait or run at a time; one more is refused. "
            "Where nobody needs a key, all are one client."
        ),
    )
    client_seconds: float = Field(
        default=604_800.0,
        ge=1,
        le=1e9,
        description=(
            "Seconds that the background tasks of a client, waiting and running, may be estimated "
            "at together; a task that would exceed them is refused."
        ),
    )
    client_stored_bytes: int = Field(
        default=64 << 30,
        ge=1 << 20,
        le=1 << 50,
        description=(
            "Bytes of inputs and results that the tasks of a client may have together, finished "
            "ones that are kept included; a task that would exceed them is refused."
        ),
    )

    api_keys: tuple[ApiKeyEntry, ...] = Field(
        default=(),
        max_length=1_000,
        description=(
            "Who may ask: a list of objects with `name`, `hash` and `scopes` (`read`, `run` or "
            "`admin`, each with those before it). `hotloop key NAME` makes a "
            "key and its entry. Without any, and without a JWT key, everybody may, and only this "
            "machine is served."
        ),
    )
    metrics_open: bool = Field(
        default=False,
        description="Whether `/metrics` is for everybody; else for keys with the scope `read`.",
    )
    allowed_hosts: tuple[str, ...] = Field(
        default=(),
        max_length=100,
        description=(
            "Names by which the service is asked (the header Host, without the port; `*.name` for "
            "those below a name), besides loopback ones. When empty: any with keys, none without."
        ),
    )
    cors_origins: tuple[str, ...] = Field(
        default=(),
        max_length=100,
        description=(
            "Origins, like `https://app.example`, whose pages may ask from a browser, and read "
            "the answers. The service's own pages need no entry."
        ),
    )

    rate_limit: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description=(
            "Requests that a client may send, like `600/minute`, `20/second` or `5000/2 hours`; "
            "who needs no key is counted by address. No bound when not set."
        ),
    )
    rate_limit_storage: SecretStr | None = Field(
        default=None,
        description=(
            "Redis that counts for all processes, like `redis://host:6379/1`; when not set, each "
            "process counts for itself."
        ),
    )

    @field_validator("rate_limit")
    @classmethod
    def _rate(cls, value: str | None) -> str | None:
        if value is not None and not _RATE.fullmatch(value):
            raise _refuse("must be like 600/minute, 20/second or 5000/2 hours")
        return value

    @field_validator("rate_limit_storage")
    @classmethod
    def _redis(cls, value: SecretStr | None) -> SecretStr | None:
        url = "" if value is None else value.get_secret_value()
        try:
            parts = urlsplit(url)
            is_one = parts.scheme in ("redis", "rediss") and bool(parts.hostname)
            is_one = is_one and parts.port != 0
        except ValueError:  # of the port, or of brackets
            is_one = False
        if value is not None and not is_one:
            raise _refuse("must be like redis://host:6379/1 or rediss://…")
        return value

    @field_validator("api_keys")
    @classmethod
    def _each_once(cls, value: tuple[ApiKeyEntry, ...]) -> tuple[ApiKeyEntry, ...]:
        if len({entry.hash for entry in value}) < len(value):
            raise _refuse("must not have the same hash twice; give every client a key of its own")
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _host_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not _HOST.fullmatch(name):
                raise _refuse("must be names without scheme and port, like hotloop.example")
        return tuple(name.lower() for name in value)

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            try:
                parts = urlsplit(origin)
                is_one = f"{parts.scheme}://{parts.netloc}" == origin and parts.port != 0
            except ValueError:  # of the port, or of brackets
                is_one = False
            if not is_one or parts.scheme not in ("http", "https") or not parts.hostname:
                raise _refuse(
                    "must be origins like https://app.example or http://localhost:3000, without a "
                    "path; `*` would let any page on the internet in"
                )
            if parts.username is not None or "*" in origin:
                raise _refuse("must be origins without a user, and without `*`")
        return tuple(origin.lower() for origin in value)

    @property
    def needs_authentication(self) -> bool:
        """Whether clients must say who they are."""
        return bool(self.api_keys) or self.jwt_key is not None
