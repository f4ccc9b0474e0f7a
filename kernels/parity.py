"""The parity rule: how far a compiled kernel's outputs may be from those of `python`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hotloop.kernels.column import Column
from hotloop.kernels.contract import Workload

__all__ = ["PARITY_FACTOR", "parity_faults", "within_ulp"]

PARITY_FACTOR: Final = 4 * 2.0**-52
"""Largest distance of a compiled kernel's float from that of `python`, in `sum(|addend|)`."""


def parity_faults(
    workload: Workload,
    columns: Mapping[str, NDArray[Any]],
    parameters: Mapping[str, object],
    expected: Mapping[str, NDArray[Any]],
    computed: Mapping[str, NDArray[Any]],
) -> list[str]:
    """Return a line for each item and output column that breaks the parity rule.

    `computed` are the outputs of a compiled kernel, `expected` those of `python`, for the same
    input `columns`; all of shape (n,). Raises `InvalidParameterError`.
    """
    resolved = workload.resolve_parameters(parameters)
    faults = []
    for output in workload.columns_out:
        wanted, got = expected[output.name], computed[output.name]
        bounds = np.zeros(len(wanted))
        if output.magnitude is None:
            wrong = ~within_ulp(output, wanted, got)
        else:
            module, _, function = output.magnitude.partition(":")
            magnitude = getattr(import_module(module), function)
            bounds = PARITY_FACTOR * magnitude(columns, resolved)
            # Not >, so that NaN is a fault.
            wrong = ~(np.abs(got - wanted) <= bounds)
        faults += [
            f"{output.name} of the item at position {row}: {got[row]} is not within "
            f"{_bound_in_words(output, bounds[row])} of {wanted[row]}"
            for row in np.flatnonzero(wrong)
        ]
    return faults


def _bound_in_words(output: Column, bound: float) -> str:
    return f"{output.ulp} ulp" if output.ulp else f"{bound:.3g}"


def within_ulp(output: Column, wanted: NDArray[Any], got: NDArray[Any]) -> NDArray[np.bool_]:
    """Return bool (n,): True where values are equal, both NaN, or at most `output.ulp` apart."""
    equal: NDArray[np.bool_] = (got == wanted) | ((got != got) & (wanted != wanted))
    if output.is_integer or output.is_bool or output.ulp == 0:
        return equal
    apart: NDArray[np.bool_] = np.abs(_ordered(wanted) - _ordered(got)) <= output.ulp
    either: NDArray[np.bool_] = equal | (apart & np.isfinite(wanted) & np.isfinite(got))
    return either


def _ordered(values: NDArray[Any]) -> NDArray[Any]:
    """Return numbers that differ by 1 for neighbouring floats; exact for those that are close."""
    bits = np.ascontiguousarray(values).view(f"i{values.itemsize}").astype(np.int64)
    least = np.int64(-(2 ** (8 * values.itemsize - 1)))
    # Negative floats are ordered the other way round by their bits.
    return np.where(bits < 0, least - bits, bits).astype(np.longdouble)
