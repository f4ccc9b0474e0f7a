"""Texts for pydantic's validation errors that name the bound and the value."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

ECHO_LENGTH: Final = 60
"""Most characters of a refused value that a message shows."""

RULE: Final = "rule"
"""Type of the service's own `PydanticCustomError`s, whose message is complete. If it concerns one
field of a model, the context names it as `field`.
"""

_BOUNDS: Final[Mapping[str, tuple[str, str]]] = {
    "greater_than": ("must be greater than", "gt"),
    "greater_than_equal": ("must be at least", "ge"),
    "less_than": ("must be less than", "lt"),
    "less_than_equal": ("must be at most", "le"),
}

_LENGTHS: Final[Mapping[str, tuple[str, str]]] = {
    "too_short": ("must have at least", "min_length"),
    "too_long": ("must have at most", "max_length"),
    "string_too_short": ("must have at least", "min_length"),
    "string_too_long": ("must have at most", "max_length"),
}

_KINDS: Final[Mapping[str, str]] = {
    "int": "must be an integer",
    "float": "must be a number",
    "bool": "must be true or false",
    "string": "must be a string",
    "list": "must be a list",
    "tuple": "must be a list",
    "dict": "must be an object",
    "model": "must be an object",
    "finite": "must be a finite number",
    "path": "must be a path",
}


def describe(error: Mapping[str, Any]) -> str:
    """Put one of pydantic's error details into words: the rule, and the given value.

    `error` has `type`, `msg`, `input` and maybe `ctx`, as in `ValidationError.errors()`. The text
    is at most a few hundred characters long and encodable as UTF-8, whatever the input was.
    """
    kind: str = error["type"]
    context: Mapping[str, Any] = error.get("ctx", {})
    if kind == RULE:
        return plain(error["msg"])
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        return "is not a known field; /docs lists the fields"
    if kind == "json_invalid":
        return f"is not valid JSON: {plain(context['error'])}"
    return f"{_demand(kind, error['msg'], context)} (got {echo(error['input'])})"


def _demand(kind: str, message: str, context: Mapping[str, Any]) -> str:
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"{words} {number(context[key])}"
    if kind in _LENGTHS:
        words, key = _LENGTHS[kind]
        noun = "characters" if kind.startswith("string") else "entries"
        if context[key] == 1:
            noun = {"characters": "character", "entries": "entry"}[noun]
        return f"{words} {number(context[key])} {noun}"
    if kind in ("enum", "literal_error"):
        return f"must be {plain(context['expected'])}"
    if kind == "string_pattern_mismatch":
        return f"must match {plain(context['pattern'])}"
    if kind == "int_parsing_size":
        return "must be an integer of fewer digits"
    # int_type, int_parsing, int_from_float, …: the first word is the wanted kind.
    wanted = _KINDS.get(kind.partition("_")[0])
    return wanted if wanted is not None else plain(message)


def number(value: Any) -> str:
    """Return a bound as text: integers with thousands separators, floats in their shortest form."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"{value:,}" if isinstance(value, int) else plain(value)


def echo(value: Any) -> str:
    """Return a refused value as short text: as JSON if possible, cut to ECHO_LENGTH characters."""
    if isinstance(value, bool | None):
        return json.dumps(value)
    if isinstance(value, int) and value.bit_length() > 128:
        # Python refuses to format integers of thousands of digits.
        return f"an integer of {value.bit_length():,} bits"
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return f'"{plain(value, ECHO_LENGTH)}"'
    if isinstance(value, Mapping):
        return "an object" if value else "{}"
    if isinstance(value, Sequence):
        return f"{len(value):,} entries" if value else "an empty list"
    return f"a {type(value).__name__}"


def plain(value: object, length: int = 4 * ECHO_LENGTH) -> str:
    """Return the text of a value: printable, encodable as UTF-8, cut to `length` characters."""
    text = str(value)
    if len(text) > length:
        text = text[:length] + "…"
    return "".join(
        character if character.isprintable() else " " if character.isspace() else "\ufffd"
        for character in text
    )
