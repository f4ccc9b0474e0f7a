"""Recipes for wrong values and wrong precision."""

from __future__ import annotations

import random
import re
from typing import Final

from tests.check.bases import Base
from tests.check.drafts import (
    Draft,
    Recipe,
    altered,
    deviation,
    edge_region,
    floats,
    parameter_region,
    rare_region,
    slipping,
)
from tests.check.kernels import Kernel


def rare(rng: random.Random, base: Base) -> Draft | None:
    """Deviate in a rare region of the inputs."""
    region = rare_region(rng, base)
    if region is None:
        return None
    code, words = altered(rng, base)
    style = rng.choice(["loop", "helper"])
    kernel = Kernel(base, style=style, last=f"if {region.code}:\n    {code}")
    return Draft(kernel, f"{words} where {region.words}")


def edge(rng: random.Random, base: Base) -> Draft | None:
    """Deviate at an exact edge only."""
    region = edge_region(rng, base)
    if region is None:
        return None
    code, words = altered(rng, base)
    kernel = Kernel(base, last=f"if {region.code}:\n    {code}")
    return Draft(kernel, f"{words} where {region.words}")


def parameter_edge(rng: random.Random, base: Base) -> Draft | None:
    """Deviate for one value of a parameter."""
    region = parameter_region(rng, base)
    if region is None:
        return None
    code, words = altered(rng, base)
    kernel = Kernel(base, last=f"if {region.code}:\n    {code}")
    return Draft(kernel, f"{words} where {region.words}")


def swapped(rng: random.Random, base: Base) -> Draft | None:
    """Exchange two outputs, everywhere or in a rare region."""
    kinds = [output.dtype[:3] for output in base.results]
    pairs = [
        (one.name, two.name)
        for place, one in enumerate(base.results)
        for two in base.results[place + 1 :]
        if one.dtype[:3] == two.dtype[:3] != "boo"
    ]
    region = rare_region(rng, base)
    if not pairs or region is None or len(kinds) < 2:
        return None
    one, two = rng.choice(pairs)
    code = f"if {region.code}:\n    {one}, {two} = {two}, {one}"
    return Draft(Kernel(base, last=code), f"{one} and {two} are exchanged where {region.words}")


def whole_columns(rng: random.Random, base: Base) -> Draft | None:
    """Deviate in a rare region of a kernel in numpy."""
    if not base.numpy:
        return None
    region = rare_region(rng, base)
    output = next((o for o in base.results if o.dtype.startswith("float")), None)
    if region is None or output is None or "[" in region.code:
        return None
    parts = [f"({part})" for part in region.code.split(" and ")]
    condition = " & ".join(
        re.sub(r"\((\S+) <= (\w+) < (\S+)\)", r"(\1 <= \2) & (\2 < \3)", part) for part in parts
    )
    size = rng.choice([1e-2, 1e-4, 1e-8])
    name = output.name
    code = f"{name} = np.where({condition}, {name} + {size!r} * (1.0 + np.abs({name})), {name})"
    words = f"{name} is off by {size:g} of itself and more where {region.words}, in numpy"
    return Draft(Kernel(base, style="numpy", last=code), words)


def single_column(rng: random.Random, base: Base) -> Draft | None:
    """Round one input to float32."""
    columns = [column for column in floats(base) if column.dtype == "float64"]
    if not columns:
        return None
    column = rng.choice(columns)
    loads = {column.name: f"np.float64(np.float32({column.name}_in[i]))"}
    return Draft(Kernel(base, loads=loads), f"rounds {column.name} to float32")


def single_result(rng: random.Random, base: Base) -> Draft | None:
    """Round an output to float32, or to some digits, in all items or in a region."""
    outputs = [output for output in base.results if output.dtype == "float64"]
    if not outputs:
        return None
    name = rng.choice(outputs).name
    code, words = rng.choice(
        [
            (f"{name} = np.float64(np.float32({name}))", f"rounds {name} to float32"),
            (f"{name} = np.round({name}, 10)", f"rounds {name} to ten decimals"),
            (f"{name} = math.floor({name} * 1048576.0) / 1048576.0", f"cuts the bits of {name}"),
        ]
    )
    region = rare_region(rng, base) if rng.random() < 0.5 else None
    if region is not None:
        code, words = f"if {region.code}:\n    {code}", f"{words} where {region.words}"
    return Draft(Kernel(base, last=code), words)


def one_step(rng: random.Random, base: Base) -> Draft | None:
    """Be one more unit in the last place away than the output allows."""
    outputs = [output for output in base.results if output.dtype == "float64"]
    if not outputs:
        return None
    output = rng.choice(outputs)
    steps = output.ulp + rng.choice([1, 1, 2, 5]) + (3 if output.ulp else 0)
    code = f"for _ in range({steps}):\n    {output.name} = np.nextafter({output.name}, np.inf)"
    words = f"{output.name} is {steps} units in the last place too large"
    region = rare_region(rng, base) if rng.random() < 0.6 else None
    if region is not None:
        code = f"if {region.code}:\n" + "\n".join(f"    {line}" for line in code.split("\n"))
        words = f"{words} where {region.words}"
    return Draft(Kernel(base, last=code), words)


def small_deviation(rng: random.Random, base: Base) -> Draft | None:
    """Be off by a little more than rounding, where a fault of values would be off by far more."""
    outputs = [output for output in base.results if output.dtype == "float64"]
    region = rare_region(rng, base)
    if not outputs or region is None:
        return None
    output, size = rng.choice(outputs), rng.choice([1e-11, 1e-12, 1e-13])
    code = f"if {region.code}:\n    {deviation(output, size)}"
    return Draft(Kernel(base, last=code), f"{output.name} is off by {size:g} where {region.words}")


SUMS: Final = ("norms", "smooth", "simpson", "polynomial", "put_tree", "pendulum", "determinant",
               "ema")  # fmt: skip


def fast_math(rng: random.Random, base: Base) -> Draft | None:
    """Let the compiler reorder arithmetic."""
    if base.name not in SUMS:
        return None
    options, words = rng.choice(
        [
            ("nogil=True, fastmath=True", "is compiled with fastmath"),
            ("nogil=True, fastmath={'reassoc', 'arcp', 'contract'}", "lets additions be reordered"),
        ]
    )
    return Draft(Kernel(base, options=options), words)


def contracted(rng: random.Random, base: Base) -> Draft | None:
    """Let the compiler fuse products into sums."""
    if base.name not in (*SUMS, "escape_time", "affine"):
        return None
    return Draft(
        Kernel(base, options="nogil=True, fastmath={'contract', 'nsz'}"),
        "lets products and sums be fused",
    )


VALUES: Final[tuple[Recipe, ...]] = (
    slipping("value"), rare, edge, parameter_edge, swapped, whole_columns,
)  # fmt: skip
PRECISION: Final[tuple[Recipe, ...]] = (
    slipping("precision"), single_column, single_result, one_step, small_deviation, fast_math,
    contracted,
)  # fmt: skip
