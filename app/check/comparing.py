"""Results compared in bits, or within what a workload declares, and differences in words."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotloop.app.check.examples import plain_value
from hotloop.app.check.items.rows import Columns
from hotloop.kernels import Column, Workload
from hotloop.kernels.parity import PARITY_FACTOR, within_ulp

__all__ = ["differing", "in_words", "same_bits", "unlike"]


def same_bits(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.bool_]:
    """Return bool (n,): True where the bits are equal, or both values are NaN."""
    bits = f"u{first.itemsize}"
    equal: NDArray[np.bool_] = first.view(bits) == second.view(bits)
    if first.dtype.kind == "f":
        equal |= (first != first) & (second != second)
    return equal


def unlike(
    first: Mapping[str, NDArray[Any]], second: Mapping[str, NDArray[Any]]
) -> NDArray[np.intp]:
    """Return the positions of the items whose outputs do not have the same bits."""
    same = [same_bits(first[name], second[name]) for name in first]
    return np.flatnonzero(~np.logical_and.reduce(same))


def differing(
    workload: Workload,
    columns: Columns,
    parameters: Mapping[str, Any],
    expected: Mapping[str, NDArray[Any]],
    got: Mapping[str, NDArray[Any]],
) -> dict[str, NDArray[np.intp]]:
    """Return for each output the positions of the items that differ from `python` by more than the
    workload declares; outputs without any are left out.
    """
    found = {}
    for output in workload.columns_out:
        fine = _alike(output, columns, parameters, expected[output.name], got[output.name])
        if not fine.all():
            found[output.name] = np.flatnonzero(~fine)
    return found


def _alike(
    output: Column,
    columns: Columns,
    parameters: Mapping[str, Any],
    wanted: NDArray[Any],
    got: NDArray[Any],
) -> NDArray[np.bool_]:
    equal = same_bits(wanted, got)
    if equal.all() or output.dtype[0] != "f":
        return equal
    if output.magnitude is not None:
        module, _, function = output.magnitude.partition(":")
        magnitude = getattr(import_module(module), function)(columns, parameters)
        near: NDArray[np.bool_] = np.abs(got - wanted) <= PARITY_FACTOR * magnitude
        return equal | near
    return equal | within_ulp(output, wanted, got) if output.ulp else equal


def in_words(workload: Workload, name: str, wanted: Any, got: Any, whose: str = "python") -> str:
    """Return a difference of one output in words."""
    (output,) = (each for each in workload.columns_out if each.name == name)
    text = f"{name} is {plain_value(got)}, {whose} gives {plain_value(wanted)}"
    if output.dtype[0] == "f" and output.magnitude is None:
        apart = _ulps(wanted, got)
        allowed = f", {output.ulp} declared" if output.ulp else ""
        text += f" ({apart:,} ulp apart{allowed})" if apart is not None else ""
    elif output.is_integer and _wraps(int(wanted) - int(got)):
        text += ", which differ by a power of two: an integer of fewer bits has overflowed"
    return text


def _ulps(wanted: Any, got: Any) -> int | None:
    """Return how many floats lie between two; None if one is not finite."""
    if not (np.isfinite(wanted) and np.isfinite(got)):
        return None

    def place(value: Any) -> int:
        bits = int(np.asarray(value).view(f"i{value.itemsize}"))
        return bits if bits >= 0 else -(2 ** (8 * value.itemsize - 1)) - bits

    return abs(place(wanted) - place(got))


def _wraps(difference: int) -> bool:
    size = abs(difference)
    return size >= 1 << 8 and any(size % (1 << bits) == 0 for bits in (64, 32, 16))
