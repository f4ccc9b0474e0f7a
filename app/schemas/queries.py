"""Queries that describe a run: their fields are the options of a run, and the parameters.

A parameter is the field `parameters.NAME`. People may leave `parameters.` out where no option of
the query has the name; programs should not, because later versions may have more options.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, get_origin

from hotloop.app.schemas.options import DEFAULT_WORKLOAD, RunOptions
from hotloop.app.schemas.runs import R, known_workload, request_model

PARAMETERS: Final = "parameters"
PREFIX: Final = f"{PARAMETERS}."

_LISTS: Final = frozenset(
    name for name, field in RunOptions.model_fields.items() if get_origin(field.annotation) is tuple
)
"""Fields that a query has several times, once for each value."""


def flat(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the query fields that say the same as the fields of a body."""
    rest = {name: value for name, value in body.items() if name != PARAMETERS}
    given = body.get(PARAMETERS, {})
    return rest | {PREFIX + name: _text(value) for name, value in given.items()}


def _text(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def read_query(base: type[R], fields: Iterable[tuple[str, str]]) -> R:
    """Return the request of a query. The last value counts for a field that is there several times.

    Raises ValidationError.
    """
    given: dict[str, list[str]] = {}
    for name, value in fields:
        given.setdefault(name, []).append(value)
    workload = known_workload(base, given.get("workload", [DEFAULT_WORKLOAD.name])[-1])
    short = {parameter.name for parameter in workload.parameters} - base.model_fields.keys()
    body: dict[str, Any] = {}
    inner: dict[str, str] = {}
    for name, values in given.items():
        if name in short or name.startswith(PREFIX):
            inner[name.removeprefix(PREFIX)] = values[-1]
        else:
            body[name] = values if name in _LISTS else values[-1]
    if inner:
        body[PARAMETERS] = inner
    return request_model(base, workload.name).model_validate(body)
