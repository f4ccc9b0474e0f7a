"""The parity rule of `kernels.contract` for outputs that were computed before: what breaks it."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hotloop.kernels.registry import get_workload

__all__ = ["PARITY_FACTOR", "parity_faults"]

PARITY_FACTOR: Final = 4 * 2.0**-52
"""How far a float of a compiled kernel may be from that of `python`, in `sum(|addend|)`."""

_PIECE: Final = 1 << 16
"""Addends that are computed at once: half a megabyte each of some arrays."""

Columns = Mapping[str, NDArray[Any]]


def parity_faults(
    workload: str,
    columns: Columns,
    parameters: Mapping[str, int],
    expected: Columns,
    computed: Columns,
) -> list[str]:
    """What is wrong with `computed`, the outputs of a compiled kernel, where `expected` are those
    of `python` for the same `columns`; a line for each item and output column. All of shape (n,).

    Raises `UnknownWorkloadError`, `InvalidParameterError`.
    """
    declared = get_workload(workload)
    resolved = declared.resolve_parameters(parameters)
    faults = []
    for output in declared.columns_out:
        wanted, got = expected[output.name], computed[output.name]
        if np.issubdtype(np.dtype(output.dtype), np.integer):
            bounds = np.zeros(len(wanted))
        else:
            bounds = PARITY_FACTOR * _MAGNITUDES[workload, output.name](columns, resolved)
        # Not >, so that what is no number is a fault.
        wrong = ~(np.abs(got - wanted) <= bounds)
        faults += [
            f"{output.name} of the item at position {row}: {got[row]} is not within "
            f"{bounds[row]:.3g} of {wanted[row]}"
            for row in np.flatnonzero(wrong)
        ]
    return faults


def _loop_magnitude(columns: Columns, parameters: Mapping[str, int]) -> NDArray[np.float64]:
    """`sum(|addend|)` of the floating-point loop of `loops`, float64 of shape (n,)."""
    totals = np.zeros(len(columns["value"]))
    for row, value in enumerate(columns["value"].tolist()):
        for start in range(0, parameters["cpu_iterations"], _PIECE):
            end = min(start + _PIECE, parameters["cpu_iterations"])
            angles = value + np.arange(start, end, dtype=np.float64)
            totals[row] += np.abs(np.sqrt(angles) * np.sin(angles) * np.cos(angles)).sum()
    return totals


_MAGNITUDES: Final[
    Mapping[tuple[str, str], Callable[[Columns, Mapping[str, int]], NDArray[np.float64]]]
] = MappingProxyType({("loops", "loop"): _loop_magnitude})
"""For every float output: `sum(|addend|)` over the addends of an item's sum."""
