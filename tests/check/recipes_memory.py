"""Recipes for kernels that read what nobody wrote, and that leave their arrays."""

from __future__ import annotations

import random
from typing import Final

from tests.check.bases import Base
from tests.check.drafts import Draft, Recipe, altered, floats, rare_region, slipping
from tests.check.kernels import Kernel

SHOWS: Final = "memory"

OFTEN_ZERO: Final = {
    "put_tree": "price", "triangle": "area kind valid", "clip_scale": "clipped",
    "common_divisor": "coprime", "classify": "alarm", "histogram": "mode",
    "edit_distance": "same shared", "determinant": "singular", "calendar": "weekday",
    "phase": "quadrant", "modular_power": "odd", "digits": "palindrome", "random_walk": "height",
    "invoice": "tax_cents", "norms": "place", "smooth": "place", "ema": "crossings",
    "shares": "even",
}  # fmt: skip
"""Outputs that are zero or false for many items, or at least in edge cases."""


def added(rng: random.Random, base: Base) -> Draft | None:
    """Add to an output, as if it began at zero."""
    outputs = [output for output in base.results if output.dtype != "bool"]
    name = rng.choice(outputs).name
    return Draft(Kernel(base, stores={name: f"{name}_out[i] += {name}"}), f"adds to {name}", SHOWS)


def taken_if_larger(rng: random.Random, base: Base) -> Draft | None:
    """Keep what was in an output if it is larger."""
    name = {"norms": "largest", "histogram": "fullest", "classify": "score", "collatz": "peak",
            "modular_power": "residue", "newton_root": "root", "pendulum": "position",
            "edit_distance": "distance", "shares": "total", "ema": "level", "escape_time": "rounds",
            "haversine": "kilometres", "simpson": "area"}.get(base.name)  # fmt: skip
    if name is None:
        return None
    kernel = Kernel(base, stores={name: f"{name}_out[i] = max({name}_out[i], {name})"})
    return Draft(kernel, f"keeps what was in {name} if it is larger", SHOWS)


def zeros_left_out(rng: random.Random, base: Base) -> Draft | None:
    """Write an output only if it is not zero."""
    names = OFTEN_ZERO.get(base.name)
    if names is None:
        return None
    name = rng.choice(names.split())
    kernel = Kernel(base, stores={name: f"if {name}:\n    {name}_out[i] = {name}"})
    return Draft(kernel, f"does not write {name} where it is zero", SHOWS)


def region_left_out(rng: random.Random, base: Base) -> Draft | None:
    """Write no output in a rare region."""
    region = rare_region(rng, base)
    if region is None:
        return None
    name = rng.choice(base.results).name
    kernel = Kernel(base, stores={name: f"if not ({region.code}):\n    {name}_out[i] = {name}"})
    return Draft(kernel, f"does not write {name} where {region.words}", SHOWS)


def marked(rng: random.Random, base: Base) -> Draft | None:
    """Set a boolean output by `or`, or bits of an integer one."""
    outputs = [o for o in base.results if not o.dtype.startswith("float")]
    if not outputs:
        return None
    output = rng.choice(outputs)
    name = output.name
    return Draft(
        Kernel(base, stores={name: f"{name}_out[i] |= {name}"}), f"sets bits of {name} only", SHOWS
    )


def counted_in_place(rng: random.Random, base: Base) -> Draft | None:
    """Use an output as the variable of a sum, and do not set it to zero first."""
    places = {
        "norms": ("manhattan", "0.0"), "digits": ("total", "0"), "edit_distance": ("shared", "0"),
        "ema": ("crossings", "0"), "random_walk": ("position", "0"), "collatz": ("steps", "0"),
        "escape_time": ("rounds", "0"), "shares": ("total", "0.0"), "polynomial": ("slope", "0.0"),
        "newton_root": ("rounds", "0"), "lattice": ("total", "0.0"), "warping": ("straight", "0.0"),
    }  # fmt: skip
    if base.name not in places:
        return None
    name, zero = places[base.name]
    begin = f"    {name} = {zero}\n"
    if begin not in base.body:
        raise ValueError(f"{base.name} has no {begin!r}")
    body = base.body.replace(begin, f"    {name} = {name}_out[i]\n", 1)
    return Draft(Kernel(base, body=body), f"counts {name} from what the output holds", SHOWS)


def where_in_numpy(rng: random.Random, base: Base) -> Draft | None:
    """Compute on some items by `where=`, whose other results are what was there before."""
    outputs = [o.name for o in base.results if o.dtype == "float64"]
    if not base.numpy or not outputs:
        return None
    name = rng.choice(outputs)
    tests = {"triangle": "valid", "clip_scale": "~clipped", "affine": "known"}
    test = tests.get(base.name, f"{name} > 0.0")
    stores = {name: f"np.multiply({name}, 1.0, out={name}_out, where={test})"}
    kernel = Kernel(base, style="numpy", stores=stores, releases_gil=False)
    return Draft(kernel, f"numpy computes {name} only where {test}", SHOWS)


def stopped(rng: random.Random, base: Base) -> Draft | None:
    """Leave the batch at the first item of a kind."""
    region = rare_region(rng, base)
    if region is None:
        return None
    return Draft(
        Kernel(base, end="", last=f"if {region.code}:\n    break"),
        f"ends the batch at the first item where {region.words}",
        SHOWS,
    )


def added_in_numpy(rng: random.Random, base: Base) -> Draft | None:
    """Add whole columns to the outputs."""
    outputs = [o.name for o in base.results if o.dtype != "bool"]
    if not base.numpy:
        return None
    name = rng.choice(outputs)
    stores = {name: f"np.add({name}_out, {name}, out={name}_out, casting='unsafe')"}
    kernel = Kernel(base, style="numpy", stores=stores, releases_gil=False)
    return Draft(kernel, f"adds the column {name} to the output, in numpy", SHOWS)


MEMORY: Final[tuple[Recipe, ...]] = (
    slipping("scratch", SHOWS), added, taken_if_larger, zeros_left_out, region_left_out, marked,
    counted_in_place, where_in_numpy, stopped, added_in_numpy, slipping("scratch", SHOWS),
)  # fmt: skip


def next_item(rng: random.Random, base: Base) -> Draft | None:
    """Look at the next item, which the last one has not."""
    columns = floats(base)
    if not columns:
        return None
    column = rng.choice(columns)
    code, _ = altered(rng, base)
    last = f"ahead = {column.name}_in[i + 1]\nif ahead != ahead:\n    {code}"
    return Draft(
        Kernel(base, last=last), f"reads {column.name} of the item after the last", "bounds"
    )


def table(rng: random.Random, base: Base) -> Draft | None:
    """Look up a table that has no entry for the upper bound of a column."""
    columns = [c for c in floats(base) if c.dtype == "float64"]
    if not columns:
        return None
    column, size = rng.choice(columns), rng.choice([8, 16, 100])
    code, _ = altered(rng, base)
    last = (
        f"entry = table[int(({column.name} - {column.low!r}) / {column.high - column.low!r} * "
        f"{size})]\nif entry == -7.0:\n    {code}"
    )
    kernel = Kernel(base, header=f"_TABLE = np.linspace(0.0, 1.0, {size})",
                    given={"table": "_TABLE"}, last=last)  # fmt: skip
    words = f"reads one past the end of a table where {column.name} is at its upper bound"
    return Draft(kernel, words, "bounds")


BOUNDS: Final[tuple[Recipe, ...]] = (slipping("bounds", "bounds"), next_item, table)
