"""The stored spec of a task, from which any node can execute it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final, Self

from hotloop.app.errors import UnreadableTaskError
from hotloop.app.records import JsonObject, from_fields

SPEC_VERSION: Final = 1
"""Version of the specs that this version writes. Raise it only if older nodes would misread a new
spec: they leave tasks of a newer version to newer nodes."""

VERSION_KEY: Final = "version"
NEEDS_KEY: Final = "needs"
"""Key under which a spec keeps `kernels` and `bytes`, if they were known at acceptance."""


class InputKind(StrEnum):
    """The origin of a task's items."""

    GENERATED = "generated"
    ITEMS = "items"
    """Items from a body, in an item file."""
    UPLOAD = "upload"
    """Bytes of an upload, which the first execution reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """The options of a run, named as in the stored JSON. The names stay even if the API's fields
    change, and a new field has a default for rows of earlier versions. A comparison keeps its own
    options beside them.
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
    priority: int = 0
    webhook: str | None = None
    """The URL to which the task's end is told."""
    version: int = SPEC_VERSION

    def to_json(self) -> dict[str, Any]:
        """Return the spec as stored."""
        names = ("origin", NEEDS_KEY, "priority", "webhook")
        optional = {name for name in names if not getattr(self, name)}
        # `asdict` would copy every value.
        return {n: getattr(self, n) for n in _FIELDS if n not in optional}

    @classmethod
    def from_json(cls, stored: JsonObject) -> Self:
        """Read a spec of any version up to SPEC_VERSION; a missing version means 0. Ignore fields
        that this version does not know. Values are not checked.

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


_FIELDS: Final = [each.name for each in fields(TaskSpec)]


def input_spec(kind: InputKind, media_type: str | None = None) -> dict[str, Any]:
    """Return the part of a spec about its task's input."""
    return {"kind": kind.value, "media_type": media_type}


def input_of(spec: JsonObject) -> tuple[InputKind, str | None]:
    """Return the kind of a stored spec's input, and its media type. Raises UnreadableTaskError."""
    try:
        return InputKind(spec["input"]["kind"]), spec["input"].get("media_type")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableTaskError("where its items are") from error


def has_files(spec: JsonObject) -> bool:
    """Return True if the items of a task with this stored spec are kept in files."""
    found = spec.get("input")
    return isinstance(found, dict) and found.get("kind") != InputKind.GENERATED
