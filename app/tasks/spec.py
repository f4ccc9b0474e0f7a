"""What a task is to do, in the form that the store keeps: enough for any node to execute it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final, Self

from hotloop.app.errors import UnreadableTaskError
from hotloop.app.records import JsonObject, from_fields

SPEC_VERSION: Final = 1
"""Version of the specs that this version writes. Raise it only if nodes that know the last one
would misread what is written: they leave such tasks to newer nodes."""

VERSION_KEY: Final = "version"
NEEDS_KEY: Final = "needs"
"""Under which a spec keeps `kernels` and `bytes`, as far as they were known at acceptance."""


class InputKind(StrEnum):
    """Where the items of a task come from."""

    GENERATED = "generated"
    ITEMS = "items"
    """Those of a body, in an item file."""
    UPLOAD = "upload"
    """The bytes as they came; the first execution reads them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """The options of a run. The names are those of the stored JSON: they stay, whatever becomes of
    the API's fields, and a new one has a default, which rows of earlier versions get. A comparison
    keeps its own options beside them.
    """

    workload: str
    kernel: str
    parameters: Mapping[str, Any]
    workers: int
    batch_size: int | str
    io_concurrency: int
    db: str
    cache: str
    cache_mode: str
    query_batch_size: int
    simulate_db_delay: bool
    simulate_redis_delay: bool
    db_delay_ms: float
    redis_delay_ms: tuple[float, float]
    timeout_seconds: float | None
    max_error_rate: float
    input: Mapping[str, Any] = field(default_factory=dict)
    """`kind`, an InputKind, and the `media_type` of an upload."""
    origin: Mapping[str, str] = field(default_factory=dict)
    """The request that asked for it, see `hotloop.app.logs.origin`."""
    needs: Mapping[str, Any] = field(default_factory=dict)
    version: int = SPEC_VERSION

    def to_json(self) -> dict[str, Any]:
        """The form in which the store keeps it."""
        optional = {name for name in ("origin", NEEDS_KEY) if not getattr(self, name)}
        return {name: value for name, value in asdict(self).items() if name not in optional}

    @classmethod
    def from_json(cls, stored: JsonObject) -> Self:
        """Read a spec of any version up to SPEC_VERSION; one without a version is of version 0.
        Fields that this version does not know are left out. Values are as they were stored.

        Raises UnreadableTaskError.
        """
        if not stored:
            raise UnreadableTaskError("its request is empty, or no JSON")
        version = stored.get(VERSION_KEY, 0)
        if not isinstance(version, int) or version > SPEC_VERSION:
            raise UnreadableTaskError(
                f"its request is of version {version!r}, and this version of the service reads "
                f"those up to {SPEC_VERSION}"
            )
        try:
            return from_fields(cls, {**stored, VERSION_KEY: version})
        except TypeError as error:
            raise UnreadableTaskError("its request lacks a field") from error


def input_spec(kind: InputKind, media_type: str | None = None) -> dict[str, Any]:
    """What a spec says of its task's input."""
    return {"kind": kind.value, "media_type": media_type}


def input_of(spec: JsonObject) -> tuple[InputKind, str | None]:
    """The kind of a stored spec's input, and its media type. Raises UnreadableTaskError."""
    try:
        return InputKind(spec["input"]["kind"]), spec["input"].get("media_type")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableTaskError("where its items are") from error


def has_files(spec: JsonObject) -> bool:
    """Whether the items of a task with this stored spec are kept in files."""
    found = spec.get("input")
    return isinstance(found, dict) and found.get("kind") != InputKind.GENERATED
