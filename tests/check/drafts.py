"""What faults are drawn from: recipes, conditions under which a fault shows, and deviations."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from tests.check.bases import Base, Column, Output, middle
from tests.check.bases_floats import FLOATS
from tests.check.bases_integers import INTEGERS
from tests.check.bases_motion import MOTION
from tests.check.bases_vectors import VECTORS
from tests.check.kernels import Kernel

BASES: Final = FLOATS + MOTION + INTEGERS + VECTORS


@dataclass(frozen=True)
class Draft:
    """A faulty kernel, what is wrong in words, and which proof shows it; see test_material.py."""

    kernel: Kernel
    words: str
    shows: str = "values"
    cost: Mapping[str, str] | str | None = None


Recipe = Callable[[random.Random, Base], Draft | None]


@dataclass(frozen=True)
class Region:
    """A condition on one item, in the names of the loop, and in words."""

    code: str
    words: str


def draw(
    rng: random.Random, recipes: Sequence[Recipe], count: int, bases: Sequence[Base] = BASES
) -> list[Draft]:
    """Draw `count` drafts, each recipe in turn, never a recipe twice for one base."""
    drafts: list[Draft] = []
    left = {recipe: rng.sample(list(bases), len(bases)) for recipe in recipes}
    texts: set[str] = set()
    while len(drafts) < count:
        if not any(left.values()):
            raise ValueError(f"recipes give only {len(drafts)} of {count} faults")
        for recipe in rng.sample(list(recipes), len(recipes)):
            draft = None
            while left[recipe] and draft is None:
                draft = recipe(rng, left[recipe].pop())
                if draft is not None and draft.kernel.text in texts:
                    draft = None
            if draft is not None and len(drafts) < count:
                texts.add(draft.kernel.text)
                drafts.append(draft)
    return drafts


def slipping(kind: str, shows: str = "values") -> Recipe:
    """Return the recipe that makes one of the slips that a base knows."""

    def recipe(rng: random.Random, base: Base) -> Draft | None:
        slips = base.slips_of(kind)
        if not slips:
            return None
        slip = rng.choice(slips)
        style = rng.choice(["loop", "loop", "helper"])
        return Draft(Kernel(base, style=style).slipped(slip), slip.words, shows)

    return recipe


def numbers(base: Base) -> list[Column]:
    """Columns with one number for an item."""
    return [c for c in base.inputs if c.width is None and c.dtype != "bool"]


def floats(base: Base) -> list[Column]:
    return [column for column in numbers(base) if column.is_float and column.is_bounded]


def rare_region(rng: random.Random, base: Base) -> Region | None:
    """Draw a region of the inputs that has 0.6 to 3 % of all items."""
    columns = [column for column in base.inputs if column.dtype != "bool" and column.is_bounded]
    if not columns:
        return None
    column = rng.choice(columns)
    share: float = rng.choice([0.006, 0.01, 0.015, 0.02, 0.03])
    name = column.name
    if column.width is not None:
        if not column.is_float:
            return Region(f"{name}[0] == {name}[1] == {name}[2] == {name}[3] == {column.high}",
                          f"{name} begins with four of the largest value")  # fmt: skip
        place = rng.randrange(column.width)
        code = f"{name}[{place}] > {middle(column, 1 - share)!r}"
        return Region(code, f"element {place} of {name} is in its upper {share:.1%}")
    span = column.high - column.low
    if not column.is_float and span > 1000 and rng.random() < 0.5:
        prime = rng.choice([41, 67, 97, 127])
        code = f"{name} % {prime} == {rng.randrange(prime)}"
        return Region(code, f"{name} leaves a certain remainder by {prime}")
    if not column.is_float and span < 400:
        share = max(share, 3.0 / span)
    kind = rng.choice(["high", "low", "window", "both"])
    others = [other for other in floats(base) if other is not column]
    if kind == "both" and others:
        other = rng.choice(others)
        code = f"{name} > {middle(column, 0.9)!r} and {other.name} > {middle(other, 0.8)!r}"
        return Region(code, f"{name} and {other.name} are both large")
    if kind == "low":
        return Region(f"{name} < {middle(column, share)!r}", f"{name} is in its lower {share:.1%}")
    if kind == "window":
        begin = rng.uniform(0.1, 0.9)
        code = f"{middle(column, begin)!r} <= {name} < {middle(column, begin + share)!r}"
        return Region(code, f"{name} is in a window of {share:.1%} of its range")
    code = f"{name} > {middle(column, 1 - share)!r}"
    return Region(code, f"{name} is in its upper {share:.1%}")


def edge_region(rng: random.Random, base: Base) -> Region | None:
    """Draw an edge: a bound, a zero or its sign, equal columns or elements, or a parameter's."""
    found: list[Region] = []
    columns = [column for column in base.inputs if column.dtype != "bool" and column.is_bounded]
    for column in columns:
        name = column.name if column.width is None else f"{column.name}[0]"
        found.append(Region(f"{name} == {column.low!r}", f"{name} is at its lower bound"))
        found.append(Region(f"{name} == {column.high!r}", f"{name} is at its upper bound"))
        if column.is_float and column.low < 0 < column.high:
            found.append(Region(f"{name} == 0.0", f"{name} is zero"))
            sign = f"{name} == 0.0 and math.copysign(1.0, {name}) < 0.0"
            found.append(Region(sign, f"{name} is negative zero"))
    scalars = floats(base)
    for one, two in pairwise(scalars):
        if max(one.low, two.low) < min(one.high, two.high):
            code = f"{one.name} == {two.name}"
            found.append(Region(code, f"{one.name} and {two.name} are equal"))
    return rng.choice(found) if found else None


def parameter_region(rng: random.Random, base: Base) -> Region | None:
    """Draw a value of a parameter: a bound, another choice, or other than the default."""
    if not base.given:
        return None
    parameter = rng.choice(base.given)
    name = parameter.name
    if parameter.kind in ("choice", "bool"):
        value = next(v for v in parameter.values if v != parameter.default)
        return Region(f"{name} == {value!r}", f"the parameter {name} is {value}")
    low, high = parameter.values
    value, words = rng.choice([(low, "lowest"), (high, "highest")])
    return Region(f"{name} == {value!r}", f"the parameter {name} is {words}")


def altered(rng: random.Random, base: Base, least: float = 1e-9) -> tuple[str, str]:
    """Draw a deviation of one output: as a statement, and in words."""
    output = rng.choice(base.results)
    name = output.name
    if output.dtype == "bool":
        return f"{name} = not {name}", f"{name} is the opposite"
    if not output.dtype.startswith("float"):
        step = rng.choice([-1, 1])
        return f"{name} = {name} + {step}", f"{name} is off by one"
    size = rng.choice([size for size in (1e-1, 1e-3, 1e-5, 1e-7, 1e-9) if size >= least])
    return deviation(output, size), f"{name} is off by {size:g} of itself and more"


def deviation(output: Output, size: float) -> str:
    name = output.name
    size = max(size, 1e-5) if output.dtype == "float32" else size
    return f"{name} = {name} + {size!r} * (1.0 + abs({name}))"
