"""Declarations of workloads as JSON, on their way from a child process to the API process."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from hotloop.app.records import from_fields
from hotloop.kernels import (
    Call,
    Column,
    Implementation,
    Parameter,
    ProductBound,
    Scratch,
    Term,
    Workload,
    WorkloadSource,
)


def to_json(workload: Workload) -> dict[str, Any]:
    """Return a declaration as JSON. The functions that make values up stay behind."""
    columns = tuple(replace(column, sampler=None) for column in workload.columns_in)
    return asdict(replace(workload, columns_in=columns))


def from_json(stored: dict[str, Any]) -> Workload:
    """Read a declaration. Raises TypeError and ValueError for other JSON."""

    def each(cls: Any, name: str) -> tuple[Any, ...]:
        return tuple(from_fields(cls, _with_tuples(one)) for one in stored[name])

    source = stored["source"]
    return from_fields(
        Workload,
        stored
        | {
            "columns_in": each(Column, "columns_in"),
            "columns_out": each(Column, "columns_out"),
            "parameters": each(Parameter, "parameters"),
            "product_bounds": each(ProductBound, "product_bounds"),
            "calls": each(Call, "calls"),
            "terms": each(Term, "terms"),
            "kernels": each(Implementation, "kernels"),
            "scratch": each(Scratch, "scratch"),
            "source": None if source is None else from_fields(WorkloadSource, source),
        },
    )


def _with_tuples(stored: dict[str, Any]) -> dict[str, Any]:
    """Make the lists of JSON tuples again, as all records have them."""
    return {name: _tuple(value) for name, value in stored.items()}


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value
