"""The kernels that are derived from the functions of examples/workloads, and those by hand in
benchmarks/peers/own_workloads.py, give the bits of Python.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.peers import own_workloads as by_hand
from hotloop.kernels.column import Column
from tests.examples.workloads import WORKLOADS

OTHER_PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "american": [
        {"kind": "call"},
        {"steps": 10, "volatility": 0.1, "rate": 0.1, "dividends": 0.0},
        {"steps": 37, "volatility": 1.0, "rate": 0.0, "dividends": 0.1, "kind": "call"},
    ],
    "mandelbrot": [{"max_turns": 1}, {"max_turns": 57}],
}
CASES = [
    (name, parameters) for name in WORKLOADS for parameters in [{}, *OTHER_PARAMETERS.get(name, [])]
]


def items(name: str) -> dict[str, NDArray[Any]]:
    """Made-up items, and all corners of the bounds, with values close to them."""
    declared = WORKLOADS[name].declaration
    columns: dict[str, NDArray[Any]] = declared.simulated_columns(np.arange(61, dtype=np.int64))
    corners = list(itertools.product(*map(edges, declared.columns_in)))
    for place, column in enumerate(declared.columns_in):
        values = np.array([corner[place] for corner in corners], dtype=column.dtype)
        if column.width is not None:
            values = np.repeat(values[:, None], column.width, axis=1)
        columns[column.name] = np.concatenate([columns[column.name], values])
    return columns


def edges(column: Column) -> tuple[float, ...]:
    least, greatest = column.limits
    step = 1 if column.is_integer else 5e-9 * (greatest - least)
    return least, least + step, greatest - step, greatest


@pytest.mark.parametrize(("name", "parameters"), CASES)
def test_numba_gives_the_bits_of_python(name: str, parameters: dict[str, Any]) -> None:
    columns = items(name)
    expected = WORKLOADS[name].run(columns, parameters, kernel="python")
    found = WORKLOADS[name].run(columns, parameters, kernel="numba")
    assert {each: column.tobytes() for each, column in found.items()} == {
        each: column.tobytes() for each, column in expected.items()
    }
    for column in WORKLOADS[name].declaration.columns_out:
        values = expected[column.name]
        assert np.isfinite(values).all()
        assert column.limits[0] <= values.min() <= values.max() <= column.limits[1]


BY_HAND = [
    (name, rival, parameters)
    for name, parameters in CASES
    for rival in (name, f"{name}_side_by_side")
    if hasattr(by_hand, rival)  # not every workload gains side by side
]


@pytest.mark.parametrize(("name", "rival", "parameters"), BY_HAND)
def test_kernels_by_hand_give_the_same(name: str, rival: str, parameters: dict[str, Any]) -> None:
    workload, fill = WORKLOADS[name], getattr(by_hand, rival)
    given = workload.declaration.resolve_parameters(parameters)
    if name == "american":
        given["kind"] = given["kind"] == "call"
    for count in (0, 1, 2, 65):
        columns = {key: values[:count] for key, values in items(name).items()}
        (expected,) = workload.run(columns, parameters, kernel="python").values()
        out = np.full_like(expected, 7)
        fill(*columns.values(), *given.values(), out)
        assert out.tobytes() == expected.tobytes()
