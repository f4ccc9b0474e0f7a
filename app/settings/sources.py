"""Settings of the real sources: where Redis and Pinot are, and how to read them."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any, Final, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from hotloop.app.names import RedisLayout
from hotloop.app.wording import RULE

PREFIX: Final = "HOTLOOP_"

_LIMIT: Final = re.compile(r"\blimit\b", re.IGNORECASE)
_AUTHORIZATION: Final = re.compile(r"(Basic|Bearer) [!-~]+")
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")

RESERVED_SOURCES: Final = frozenset({"simulated", "none", "redis", "pinot"})


def load_factory(target: str) -> Callable[..., Any]:
    """What `module:callable` names. ImportError, AttributeError, ValueError or TypeError when there
    is no such thing.
    """
    module, _, name = target.partition(":")
    factory = getattr(importlib.import_module(module), name)
    if not callable(factory):
        raise TypeError(f"{target} cannot be called")
    made: Callable[..., Any] = factory
    return made


def _refuse(text: str) -> PydanticCustomError:
    """The texts show no value: it may be a secret, or hold one."""
    return PydanticCustomError(RULE, text)


def _split(url: str) -> SplitResult | None:
    """None when it cannot be read; the error's own text would show it."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


class SourceSettings(BaseSettings):
    """What the stages `redis` and `pinot` need; a run that asks for neither needs none of it."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, allow_inf_nan=False
    )

    redis_url: SecretStr | None = Field(
        default=None,
        description=(
            "Redis or Valkey of the cache stage: `redis://`, `rediss://` (TLS) or `unix://`, with "
            "user and password if it wants them."
        ),
    )
    redis_key: str = Field(
        default="item:{id}",
        min_length=1,
        max_length=512,
        description="Key of an item; `{id}` stands for its id.",
    )
    redis_layout: RedisLayout = Field(
        default=RedisLayout.STRING,
        description=(
            "What is under a key: a number as text, a JSON object, or a hash with a field for each "
            "column."
        ),
    )
    redis_columns: dict[str, str] = Field(
        default={"offset": "offset"},
        min_length=1,
        max_length=64,
        description=(
            "Columns of the workload that the cache stage fills, and the field that each is read "
            "from; with the layout `string` exactly one column."
        ),
    )
    redis_defaults: dict[str, float] = Field(
        default={},
        max_length=64,
        description="What a column takes when the key or the field is missing; 0 where not said.",
    )
    pinot_url: str | None = Field(
        default=None,
        max_length=2_048,
        description="Apache Pinot broker of the database stage: `http://` or `https://`.",
    )
    pinot_authorization: SecretStr | None = Field(
        default=None,
        description="Authorization header for the broker: `Basic …` or `Bearer …`.",
    )
    pinot_sql: str = Field(
        default='SELECT item_id, "value", "offset" FROM items WHERE item_id IN ({ids})',
        min_length=1,
        max_length=10_000,
        description="Query for some items; `{ids}` stands for their ids. LIMIT is added to it.",
    )
    pinot_id_column: str = Field(
        default="item_id",
        min_length=1,
        max_length=256,
        description="Column of the query's answer that says which item a row is.",
    )
    pinot_columns: dict[str, str] = Field(
        default={"value": "value", "offset": "offset"},
        min_length=1,
        max_length=64,
        description=(
            "Columns of the workload that the database stage fills, and the column of the "
            "query's answer that each is read from."
        ),
    )
    sources: dict[str, str] = Field(
        default={},
        max_length=64,
        description=(
            "Sources of one's own: the name that a run asks for, and `module:callable`, which "
            "makes the stage."
        ),
    )
    source_timeout_seconds: float = Field(
        default=10.0,
        ge=0.01,
        le=3_600,
        description="Seconds that one attempt of a query or lookup may take.",
    )
    source_attempts: int = Field(
        default=6,
        ge=1,
        le=100,
        description="Attempts for a query or lookup whose failure may pass, before its items fail.",
    )
    source_outage_seconds: float = Field(
        default=30.0,
        ge=0,
        le=86_400,
        description=(
            "Seconds that a run waits for a source that is down; after that, items fail at once "
            "until it answers again."
        ),
    )

    @field_validator("redis_url")
    @classmethod
    def _redis_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            parts = _split(value.get_secret_value())
            where = parts and (parts.path if parts.scheme == "unix" else parts.hostname)
            if not parts or parts.scheme not in ("redis", "rediss", "unix") or not where:
                raise _refuse("must be like redis://host:6379/0, rediss://… or unix:///path")
            options = [option.partition("=")[0] for option in parts.query.split("&") if option]
            if any(name != "db" and not name.startswith("ssl_") for name in options):
                raise _refuse("must have no options but db and those that start with ssl_")
        return value

    @field_validator("redis_key")
    @classmethod
    def _has_id(cls, value: str) -> str:
        if value.count("{id}") != 1:
            raise PydanticCustomError(
                RULE, "must have {place} exactly once, where the item's id goes", {"place": "{id}"}
            )
        return value

    @field_validator("pinot_url")
    @classmethod
    def _pinot_address(cls, value: str | None) -> str | None:
        if value is not None:
            parts = _split(value)
            if not parts or parts.scheme not in ("http", "https") or not parts.hostname:
                raise _refuse("must be like http://broker:8099 or https://…")
            if parts.username is not None or parts.password is not None:
                raise _refuse(
                    f"must not hold credentials; give them as {PREFIX}PINOT_AUTHORIZATION"
                )
            if parts.query or parts.fragment:
                raise _refuse("must end with the host, the port or a path")
        return value

    @field_validator("pinot_authorization")
    @classmethod
    def _one_header(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _AUTHORIZATION.fullmatch(value.get_secret_value()):
            raise _refuse("must be one line, like Basic … or Bearer …")
        return value

    @field_validator("pinot_sql")
    @classmethod
    def _template(cls, value: str) -> str:
        if value.count("{ids}") != 1:
            raise PydanticCustomError(
                RULE,
                "must have {place} exactly once, like: WHERE item_id IN ({place})",
                {"place": "{ids}"},
            )
        if _LIMIT.search(value) or ";" in value:
            raise _refuse("must be one query without LIMIT and semicolon; LIMIT is added to it")
        return value.strip()

    @field_validator("sources")
    @classmethod
    def _can_be_loaded(cls, value: dict[str, str]) -> dict[str, str]:
        for name, target in value.items():
            if not _NAME.fullmatch(name) or name in RESERVED_SOURCES:
                raise _refuse(
                    "must have names of small letters, digits, - and _, other than "
                    f"{', '.join(sorted(RESERVED_SOURCES))}"
                )
            try:
                load_factory(target)
            except (ImportError, AttributeError, ValueError, TypeError) as error:
                raise PydanticCustomError(
                    RULE,
                    "must have module:callable for {name}, where it can be imported ({error})",
                    {"name": name, "error": f"{type(error).__name__}: {error}"},
                ) from error
        return value

    @model_validator(mode="after")
    def _string_has_one_column(self) -> Self:
        if self.redis_layout is RedisLayout.STRING and len(self.redis_columns) != 1:
            raise _refuse(
                f"{PREFIX}REDIS_COLUMNS must have exactly one column with the layout string; "
                f"set {PREFIX}REDIS_LAYOUT to json or hash for more"
            )
        return self
