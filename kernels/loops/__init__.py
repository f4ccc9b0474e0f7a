"""The workload `loops`: a floating-point loop and a nested integer loop for every item.

    loop:    acc = 0.0;  for i in 0 … cpu_iterations-1:
                 t = value + i;  acc += sqrt(t) * sin(t) * cos(t)
    nested:  total = 0;  for i in 0 … outer_iterations-1:  for j in 0 … inner_iterations-1:
                 total += (i*j + offset) % 1000

The order of additions is part of the definition. The two results stay two columns, because adding
them would hide the low bits of `loop`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from hotloop.kernels.column import Column
from hotloop.kernels.contract import Call, Implementation, Parameter, ProductBound, Term, Workload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LOOPS", "loop_magnitude"]

_PIECE: Final = 1 << 16
"""Addends that `loop_magnitude` computes at once: half a megabyte for each of some arrays."""

LOOPS: Final = Workload(
    name="loops",
    description="A floating-point loop of sqrt, sin and cos, and a nested integer loop.",
    columns_in=(
        Column(
            name="value",
            dtype="float64",
            description="where the floating-point loop starts, in radians",
            minimum=0.0,
            maximum=1e6,
            unit="rad",
            examples=(0.5, 1.5),
            simulated_modulus=1_000_000,
        ),
        Column(
            name="offset",
            dtype="int64",
            description="added to every product of the nested loop",
            minimum=0,
            maximum=2**31 - 1,
            examples=(7,),
            simulated_modulus=2**31,
        ),
    ),
    columns_out=(
        Column(
            name="loop",
            dtype="float64",
            description="sum of the floating-point loop",
            examples=(-27.38,),
            magnitude="hotloop.kernels.loops:loop_magnitude",
        ),
        Column(
            name="nested",
            dtype="int64",
            description="sum of the nested integer loop",
            examples=(9_388_000,),
        ),
    ),
    parameters=(
        Parameter(
            name="cpu_iterations",
            default=20_000,
            minimum=0,
            maximum=10_000_000,
            description="turns of the floating-point loop",
        ),
        Parameter(
            name="outer_iterations",
            default=100,
            minimum=0,
            maximum=100_000,
            description="turns of the outer integer loop",
        ),
        Parameter(
            name="inner_iterations",
            default=200,
            minimum=0,
            maximum=100_000,
            description="turns of the inner integer loop, for each turn of the outer one",
        ),
    ),
    product_bounds=(ProductBound(("outer_iterations", "inner_iterations"), 1_000_000_000),),
    calls=(
        Call("loop", ("value",), ("cpu_iterations",), ("loop",)),
        Call("nested", ("offset",), ("outer_iterations", "inner_iterations"), ("nested",)),
    ),
    terms=(
        Term("loop", "cpu_iterations", probe=(("cpu_iterations", 20_000),)),
        Term(
            "nested",
            "outer_iterations * inner_iterations",
            probe=(("outer_iterations", 100), ("inner_iterations", 200)),
        ),
    ),
    kernels=(
        Implementation("python", "hotloop.kernels.loops._python", releases_gil=False),
        Implementation("cython", "hotloop.kernels.loops._cython"),
        Implementation("numba", "hotloop.kernels.loops._numba"),
    ),
)


def loop_magnitude(
    columns: Mapping[str, NDArray[Any]], parameters: Mapping[str, int]
) -> NDArray[np.float64]:
    """Return `sum(|addend|)` of the sum in the column `loop`, float64 of shape (n,)."""
    import numpy as np

    totals = np.zeros(len(columns["value"]))
    turns = parameters["cpu_iterations"]
    for row, value in enumerate(columns["value"].tolist()):
        for start in range(0, turns, _PIECE):
            angles = value + np.arange(start, min(start + _PIECE, turns), dtype=np.float64)
            totals[row] += np.abs(np.sqrt(angles) * np.sin(angles) * np.cos(angles)).sum()
    return totals
