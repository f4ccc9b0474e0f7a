"""Recipes for kernels whose items depend on what else is in the batch, or where they are in it."""

from __future__ import annotations

import random
from typing import Final

from tests.check.bases import Base, middle
from tests.check.drafts import Draft, Recipe, altered, deviation, floats, numbers
from tests.check.kernels import Kernel

SHOWS: Final = "batches"


def neighbour(rng: random.Random, base: Base) -> Draft | None:
    """Look at the item before."""
    columns = numbers(base)
    if not columns:
        return None
    column = rng.choice(columns)
    code, words = altered(rng, base)
    limit = middle(column, rng.choice([0.5, 0.8, 0.95]))
    kernel = Kernel(base, last=f"if i > 0 and {column.name}_in[i - 1] > {limit!r}:\n    {code}")
    return Draft(kernel, f"{words} where {column.name} of the item before is large", SHOWS)


def wrapping(rng: random.Random, base: Base) -> Draft | None:
    """Look at the item before, which is the last one for the first item."""
    columns = floats(base)
    if not columns:
        return None
    column = rng.choice(columns)
    code, words = altered(rng, base)
    kernel = Kernel(
        base, last=f"if i == 0 and {column.name}_in[i - 1] > {column.name}:\n    {code}"
    )
    return Draft(kernel, f"{words} for the first item if the last has more {column.name}", SHOWS)


def periodic(rng: random.Random, base: Base) -> Draft | None:
    """Deviate at every so many positions."""
    step = rng.choice([8, 16, 32, 64, 100, 128])
    code, words = altered(rng, base)
    kernel = Kernel(
        base, style=rng.choice(["loop", "helper"]), last=f"if i % {step} == {step - 1}:\n    {code}"
    )
    return Draft(kernel, f"{words} for every {step}th item of a batch", SHOWS)


def far_position(rng: random.Random, base: Base) -> Draft | None:
    """Deviate behind a position."""
    position = rng.choice([50, 128, 256, 500, 1000])
    code, words = altered(rng, base)
    return Draft(
        Kernel(base, last=f"if i >= {position}:\n    {code}"),
        f"{words} for items from position {position} on",
        SHOWS,
    )


def odd_end(rng: random.Random, base: Base) -> Draft | None:
    """Treat the last item of a batch of odd size wrongly."""
    code, words = altered(rng, base)
    size = rng.choice([2, 4, 8])
    return Draft(
        Kernel(base, last=f"if i >= n - n % {size}:\n    {code}"),
        f"{words} for the rest of a batch that blocks of {size} do not fill",
        SHOWS,
    )


def repeated_rest(rng: random.Random, base: Base) -> Draft | None:
    """Compute the rest of a batch, that full blocks leave, from the item before it."""
    size = rng.choice([2, 3, 4, 8])
    kernel = Kernel(base, index="source", first=f"source = i if i < n - n % {size} or n < {size} "
                    f"else n - n % {size} - 1")  # fmt: skip
    return Draft(kernel, f"repeats an item where blocks of {size} do not fill a batch", SHOWS)


def alone(rng: random.Random, base: Base) -> Draft | None:
    """Deviate in a batch of one item."""
    code, words = altered(rng, base)
    return Draft(
        Kernel(base, last=f"if n == 1:\n    {code}"), f"{words} in a batch of one item", SHOWS
    )


def large_batch(rng: random.Random, base: Base) -> Draft | None:
    """Take a less exact way in large batches."""
    size = rng.choice([64, 200, 512, 1000])
    outputs = [output for output in base.results if output.dtype == "float64"]
    if not outputs:
        return None
    output = rng.choice(outputs)
    code = deviation(output, rng.choice([1e-6, 1e-9, 1e-12]))
    return Draft(
        Kernel(base, last=f"if n >= {size}:\n    {code}"),
        f"{output.name} is less exact in batches of {size} items and more",
        SHOWS,
    )


def scaled_by_largest(rng: random.Random, base: Base) -> Draft | None:
    """Divide a column by its largest value in the batch, and multiply again."""
    columns = [c for c in floats(base) if c.dtype == "float64"]
    if not columns:
        return None
    name = rng.choice(columns).name
    start = (f"utmost = 1e-300\nfor i in range(n):\n"
             f"    utmost = max(utmost, abs({name}_in[i]))\nutmost = utmost * 1.7")  # fmt: skip
    kernel = Kernel(base, start=start, loads={name: f"{name}_in[i] / utmost * utmost"})
    return Draft(kernel, f"scales {name} by the largest of the batch and back", SHOWS)


def centred(rng: random.Random, base: Base) -> Draft | None:
    """Subtract the mean of the batch, and add it again."""
    columns = [c for c in floats(base) if c.dtype == "float64"]
    if not columns:
        return None
    name = rng.choice(columns).name
    start = (
        f"centre = 0.0\nfor i in range(n):\n    centre = centre + abs({name}_in[i])\n"
        "centre = 3.0 * centre / max(n, 1)"
    )
    kernel = Kernel(base, start=start, loads={name: f"({name}_in[i] - centre) + centre"})
    return Draft(kernel, f"subtracts a multiple of the mean {name} and adds it again", SHOWS)


def hoisted(rng: random.Random, base: Base) -> Draft | None:
    """Read a column once for the batch, or once for a block."""
    if len(base.inputs) < 2:
        return None
    name = rng.choice(base.inputs).name
    block = rng.choice([0, 4, 16, 64])
    place = f"i - i % {block}" if block else "0"
    words = f"takes {name} from the first item of every {block}" if block else (
        f"takes {name} from the first item for all")  # fmt: skip
    return Draft(Kernel(base, loads={name: f"{name}_in[{place}]"}), words, SHOWS)


def shortcut(rng: random.Random, base: Base) -> Draft | None:
    """Repeat the results of the item before if one of several columns is equal."""
    columns = [c for c in base.inputs if c.width is None and c.high - c.low < 500]
    columns = [column for column in columns if not column.is_float]
    if not columns or len(base.inputs) < 2:
        return None
    name = rng.choice(columns).name
    same = "\n".join(f"    {o.name} = {o.name}_out[i - 1]" for o in base.results)
    kernel = Kernel(base, last=f"if i > 0 and {name}_in[i - 1] == {name}:\n{same}")
    return Draft(kernel, f"repeats the results before if only {name} is equal", SHOWS)


def sorted_wrongly(rng: random.Random, base: Base) -> Draft | None:
    """Compute in the order of a column, and store in this order, too."""
    columns = floats(base)
    if not columns:
        return None
    name = rng.choice(columns).name
    least = rng.choice([2, 33, 200])
    start = f"order = np.argsort({name}_in) if n >= {least} else np.arange(n)"
    kernel = Kernel(base, start=start, first="source = order[i]", index="source")
    words = f"stores results in the order of {name} in batches of {least} items and more"
    return Draft(kernel, words, SHOWS)


def carried(rng: random.Random, base: Base) -> Draft | None:
    """Begin with what the item before has left in a local variable."""
    begins = {
        "newton_root": ("root = 1.0\n    if a > 1.0:\n        root = a",
                        "if i == 0:\n        root = 1.0 + a"),
        "warping": ("straight = 0.0", "if i % 4 == 0:\n        straight = 0.0"),
        "norms": ("largest = -1.0", "if i % 32 == 0:\n        largest = -1.0"),
        "shares": ("top = 0.0", "if i == 0:\n        top = 0.0"),
        "digits": ("turned = 0", "if i % 16 == 0:\n        turned = 0"),
        "random_walk": ("height = 0.0", "if i == 0:\n        height = 0.0"),
        "collatz": ("peak = start", "if i % 2 == 0:\n        peak = start"),
        "ema": ("above = True", "if i == 0:\n        above = True"),
    }  # fmt: skip
    if base.name not in begins:
        return None
    old, new = begins[base.name]
    kernel = Kernel(base, body=base.body.replace(old, new, 1))
    return Draft(kernel, "begins an item with a variable of the item before", SHOWS)


def prefix_sums(rng: random.Random, base: Base) -> Draft | None:
    """Take a sum as the difference of sums over the whole batch."""
    if base.name != "norms":
        return None
    last = """
    sums = np.concatenate((np.zeros(1), np.cumsum(size)))
    manhattan = sums[16::16] - sums[:-1:16]
    """
    kernel = Kernel(base, style="numpy", last=last, releases_gil=False)
    return Draft(kernel, "takes a sum as the difference of sums over the batch", SHOWS)


def compensated(rng: random.Random, base: Base) -> Draft | None:
    """Hand the rounding errors of an item on to the next one."""
    outputs = [output for output in base.results if output.dtype == "float64"]
    if not outputs:
        return None
    name = rng.choice(outputs).name
    last = f"{name} = {name} + owed\nowed = owed * 0.5 + {name} * 1e-15"
    return Draft(
        Kernel(base, start="owed = 0.0", last=last), f"hands a rest of {name} on to the next", SHOWS
    )


def empty(rng: random.Random, base: Base) -> Draft | None:
    """Fail for an empty batch."""
    columns = floats(base)
    if not columns:
        return None
    name = rng.choice(columns).name
    before = rng.choice(
        [
            f"if not {name}_in.max() <= 1e300:\n    raise ValueError('{name} is too large')",
            f"first = {name}_in[0]\nif first != first:\n    raise ValueError('no number')",
        ]
    )
    return Draft(Kernel(base, before=before), "raises for an empty batch", SHOWS)


BATCHES: Final[tuple[Recipe, ...]] = (
    neighbour, wrapping, periodic, far_position, odd_end, repeated_rest, alone, large_batch,
    scaled_by_largest, centred, hoisted, shortcut, sorted_wrongly, carried, prefix_sums,
    compensated, empty,
)  # fmt: skip
