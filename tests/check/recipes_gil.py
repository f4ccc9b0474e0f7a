"""Recipes for kernels that keep the GIL although they say that they release it."""

from __future__ import annotations

import random
from dataclasses import replace
from textwrap import indent
from typing import Final

from tests.check.bases import Base
from tests.check.drafts import Draft, Recipe, floats, parameter_region
from tests.check.kernels import Kernel

SHOWS: Final = "gil"


def compiled_with_it(rng: random.Random, base: Base) -> Draft | None:
    """Compile without nogil."""
    options = rng.choice(["", "nogil=False", "cache=False, error_model='python'"])
    kernel = Kernel(base, style=rng.choice(["loop", "helper"]), options=options)
    return Draft(kernel, f"is compiled with the options {options or 'of Numba'}", SHOWS)


def plain(rng: random.Random, base: Base) -> Draft | None:
    """Loop in Python."""
    return Draft(Kernel(base, style="python"), "is a loop in plain Python", SHOWS)


def object_mode(rng: random.Random, base: Base) -> Draft | None:
    """Compile to calls of Python."""
    if base.name not in ("simpson", "logistic_map", "polynomial", "triangle", "phase", "pendulum"):
        return None
    kernel = Kernel(base, style="python")
    marked = kernel.text.replace("def batch(", "@jit(forceobj=True, looplift=False)\ndef batch(")
    return Draft(Kernel(base, whole=marked), "is compiled in object mode", SHOWS)


def held_by_ctypes(rng: random.Random, base: Base) -> Draft | None:
    """Call a compiled function through a prototype that keeps the GIL."""
    if any(p.kind in ("choice", "bool") for p in base.given):
        return None
    kernel = Kernel(base, style="c", holder="PYFUNCTYPE")
    return Draft(kernel, "calls native code through ctypes.PYFUNCTYPE, which keeps the GIL", SHOWS)


def _two_ways(base: Base, condition: str) -> Kernel:
    """Return a kernel that keeps the GIL only under a condition, in the names of the arguments."""
    free = Kernel(base)
    loop = indent(free._loop_text(), "    ")
    arguments = ", ".join(base.arguments)
    whole = (
        f"def loop({arguments}):\n{loop}\n\nfree = njit(nogil=True)(loop)\nheld = njit(loop)\n\n\n"
        f"def batch({arguments}):\n    n = len({base.arguments[0]})\n    if {condition}:\n"
        f"        held({arguments})\n    else:\n        free({arguments})\n"
    )
    return replace(free, whole=whole)


def held_in_large_batches(rng: random.Random, base: Base) -> Draft | None:
    """Keep the GIL in large batches, where it matters."""
    size = rng.choice([16, 100, 500])
    words = f"keeps the GIL in batches of {size} items and more"
    return Draft(_two_ways(base, f"n >= {size}"), words, SHOWS)


def held_for_parameters(rng: random.Random, base: Base) -> Draft | None:
    """Keep the GIL for one value of a parameter, the default included in others."""
    region = parameter_region(rng, base)
    if region is None:
        return None
    words = f"keeps the GIL unless {region.words}"
    return Draft(_two_ways(base, f"not ({region.code})"), words, SHOWS)


def half_held(rng: random.Random, base: Base) -> Draft | None:
    """Release the GIL for the first part of a batch only."""
    share = rng.choice([2, 3, 4])
    free = Kernel(base)
    loop = indent(free._loop_text(), "    ")
    count = len(base.inputs)
    names = base.arguments
    parameters, outputs = len(base.given), len(base.results)
    arrays = set(names[:count]) | set(names[count + parameters : count + parameters + outputs])

    def cut(part: str) -> str:
        return ", ".join(f"{name}[{part}]" if name in arrays else name for name in names)

    whole = (
        f"def loop({', '.join(names)}):\n{loop}\n\n"
        "free = njit(nogil=True)(loop)\nheld = njit(loop)\n\n\n"
        f"def batch({', '.join(names)}):\n    part = len({names[0]}) // {share}\n"
        f"    free({cut(':part')})\n    held({cut('part:')})\n"
    )
    words = f"releases the GIL for the first of {share} parts of a batch"
    return Draft(replace(free, whole=whole), words, SHOWS)


def _scalars(base: Base) -> bool:
    return not base.arrays and all(column.width is None for column in base.inputs)


def called_one_by_one(rng: random.Random, base: Base) -> Draft | None:
    """Call the scalar function for each item from Python, in one of several ways."""
    if not _scalars(base) or base.header:
        return None
    columns = [f"{column.name}_in" for column in base.inputs]
    parameters = list(base.defaults)
    outputs = [f"{output.name}_out" for output in base.results]
    listed = ", ".join(f"{name}.tolist()" for name in columns)
    rest = "".join(f", {name}" for name in parameters)
    numbers = ", ".join(f"a{place}" for place in range(len(columns)))
    way = rng.choice(["map", "comprehension", "frompyfunc"])
    lines = [f"def batch({', '.join(base.arguments)}):"]
    if way == "frompyfunc":
        lines += [
            f"    one = np.frompyfunc({base.name}.function, {len(columns) + len(parameters)}, "
            f"{len(outputs)})",
            f"    found = one({', '.join(f'{name}.astype(object)' for name in columns)}{rest})",
        ]
        lines += [
            f"    {name}[:] = found{f'[{place}]' if len(outputs) > 1 else ''}"
            for place, name in enumerate(outputs)
        ]
    else:
        if way == "map":
            lines += [
                f"    found = list(map(lambda {numbers}: {base.name}.function({numbers}{rest}), "
                f"{listed}))"
            ]
        else:
            lines += [
                f"    found = [{base.name}.function({numbers}{rest}) "
                f"for {numbers} in zip({listed})]"
            ]
        place = len(outputs) > 1
        lines += [
            f"    {name}[:] = [each{f'[{number}]' if place else ''} for each in found]"
            for number, name in enumerate(outputs)
        ]
    if len(columns) == 1 and way == "comprehension":
        return None
    kernel = Kernel(base, whole="\n".join(lines) + "\n")
    return Draft(kernel, f"calls the function by {way} for every item", SHOWS)


def checked_in_python(rng: random.Random, base: Base) -> Draft | None:
    """Look at every value in Python before the compiled loop."""
    if base.name not in ("clip_scale", "triangle", "damped", "phase", "polynomial", "affine"):
        return None
    columns = [column for column in base.inputs if column.width is None]
    before = "\n".join(
        f"for value in {c.name}_in.tolist():\n    if isinstance(value, str):\n"
        f"        raise TypeError('{c.name} must be numbers')"
        for c in columns
    )
    words = "checks the values one by one in Python, which takes longer than the rest"
    return Draft(Kernel(base, before=before), words, SHOWS)


def small_arrays(rng: random.Random, base: Base) -> Draft | None:
    """Use numpy on one item after the other."""
    if not base.numpy or base.name in ("logistic_map", "random_walk", "norms"):
        return None
    size = rng.choice([1, 2, 4])
    inner = Kernel(base, style="numpy").text.replace("def batch(", "def some(")
    cut = ", ".join(
        f"{name}[i : i + {size}]" if name.endswith(("_in", "_out")) else name
        for name in base.arguments
    )
    whole = (
        f"{inner}\n\ndef batch({', '.join(base.arguments)}):\n"
        f"    for i in range(0, len({base.arguments[0]}), {size}):\n        some({cut})\n"
    )
    return Draft(Kernel(base, whole=whole), f"uses numpy on {size} items at a time", SHOWS)


def through_lists(rng: random.Random, base: Base) -> Draft | None:
    """Release the GIL, but copy results value by value in Python."""
    columns = floats(base)
    if base.name not in ("clip_scale", "triangle", "damped", "phase", "affine") or not columns:
        return None
    outputs = [f"{output.name}_out" for output in base.results]
    after = "\n".join(f"{name}[:] = [value for value in {name}.tolist()]" for name in outputs)
    return Draft(Kernel(base, after=after), "copies its results through lists of Python", SHOWS)


GIL: Final[tuple[Recipe, ...]] = (
    compiled_with_it, plain, object_mode, held_by_ctypes, held_in_large_batches,
    held_for_parameters, half_held, called_one_by_one, checked_in_python, small_arrays,
    through_lists,
)  # fmt: skip
