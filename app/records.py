"""Records that are stored as JSON, and read by versions that know fewer or more of their fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

JsonObject = Mapping[str, Any]
"""A JSON object."""

T = TypeVar("T", bound="DataclassInstance")


def from_fields(cls: type[T], stored: Any) -> T:
    """Make a record of its stored JSON. Ignore fields that this version does not know.

    Raises TypeError when a field without a default is missing, or `stored` is no object.
    """
    if not isinstance(stored, Mapping):
        raise TypeError(f"not an object: {type(stored).__name__}")
    known = {each.name for each in fields(cls)}
    return cls(**{name: value for name, value in stored.items() if name in known})
