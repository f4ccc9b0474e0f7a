"""The workload `loops`: a floating-point loop and a nested integer loop for every item.

    loop:    acc = 0.0;  for i in 0 … cpu_iterations-1:
                 t = value + i;  acc += sqrt(t) * sin(t) * cos(t)
    nested:  total = 0;  for i in 0 … outer_iterations-1:  for j in 0 … inner_iterations-1:
                 total += (i*j + offset) % 1000

The order of additions is part of the definition. The two results stay two columns, because adding
them would hide the low bits of `loop`.
"""

from typing import Final

from hotloop.kernels.contract import Column, Parameter, ProductBound, Term, Workload

__all__ = ["LOOPS"]

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
            simulated_modulus=1_000_000,
        ),
        Column(
            name="offset",
            dtype="int64",
            description="added to every product of the nested loop",
            minimum=0,
            maximum=2**31 - 1,
            simulated_modulus=2**31,
        ),
    ),
    columns_out=(
        Column(name="loop", dtype="float64", description="sum of the floating-point loop"),
        Column(name="nested", dtype="int64", description="sum of the nested integer loop"),
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
    terms=(
        Term(
            name="loop",
            columns=("value",),
            parameters=("cpu_iterations",),
            probe=(20_000,),
        ),
        Term(
            name="nested",
            columns=("offset",),
            parameters=("outer_iterations", "inner_iterations"),
            probe=(100, 200),
        ),
    ),
)
