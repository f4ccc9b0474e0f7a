"""Recipes for integers that overflow, for domains of functions, and for wrong costs."""

from __future__ import annotations

import random
from typing import Final

from tests.check.bases import Base, Slip
from tests.check.drafts import Draft, Recipe, numbers, slipping
from tests.check.kernels import Kernel

RATIO: Final = Base(
    "ratio",
    "x float -10 10; y float -10 10",
    "quotient float; positive bool",
    """
    quotient = x / y
    positive = quotient > 0.0
    """,
)
SQUARE_ROOT: Final = Base(
    "square_root",
    "x float -1 50; y float 0 9",
    "root float",
    """
    if x < 0.0:
        raise ValueError("x must not be negative")
    root = math.sqrt(x) + y
    """,
    slips=(
        Slip("domain", 'raise ValueError("x must not be negative")', "pass",
             "returns NaN where Python raises for a negative number"),
    ),
)  # fmt: skip
GROWTH: Final = Base(
    "growth",
    "a int 0 5000000000; b int32 0 2000000000",
    "product int64; larger bool",
    """
    product = a * b
    larger = product > 1000
    """,
)
REMAINDER: Final = Base(
    "remainder",
    "a int -1000 1000; b int16 -30 30",
    "quotient int64; rest int64",
    """
    quotient = 0
    rest = 0
    if b != 0:
        quotient = a // b
        rest = a % b
    """,
    slips=(
        Slip("integer", "a // b", "int(a / b)", "truncates negative quotients"),
        Slip("integer", "a % b", "int(math.fmod(a, b))", "has remainders of the sign of a"),
        Slip("integer", "a % b", "a - int(a / b) * b", "has remainders of truncated quotients"),
        Slip("domain", "if b != 0:", "if b != 0 or a == 0:", "divides zero by zero"),
    ),
)  # fmt: skip
ONLY_HERE: Final = (RATIO, SQUARE_ROOT, GROWTH, REMAINDER)
"""Bases whose function raises for some items, or that are about nothing but integers."""


def unraised(rng: random.Random, base: Base) -> Draft | None:
    """Return infinity where Python raises for a division by zero."""
    if base is not RATIO:
        return None
    kernel = Kernel(base, options="nogil=True, error_model='numpy'")
    return Draft(kernel, "returns infinity where Python raises for a division by zero")


def wrapped(rng: random.Random, base: Base) -> Draft | None:
    """Return the low bits of a product that does not fit, where Python raises."""
    if base is not GROWTH:
        return None
    return Draft(Kernel(base), "wraps around where the result does not fit into 64 bits")


def narrow_column(rng: random.Random, base: Base) -> Draft | None:
    """Read an integer column as a smaller type."""
    columns = [c for c in numbers(base) if not c.is_float]
    found = []
    for column in columns:
        for dtype in ("int8", "int16", "int32", "uint8", "uint16", "uint32", "float32"):
            bits = int(dtype.lstrip("uintfloa"))
            low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
            if dtype[0] == "u":
                low, high = 0, 2**bits - 1
            elif dtype == "float32":
                low, high = -(2**24), 2**24
            if column.low < low or column.high > high:
                found.append((column, dtype))
    if not found:
        return None
    column, dtype = rng.choice(found)
    inner = f"np.{dtype}({column.name}_in[i])"
    loads = {column.name: f"np.int64({inner})"}
    return Draft(Kernel(base, loads=loads), f"reads {column.name} as {dtype}")


def narrow_result(rng: random.Random, base: Base) -> Draft | None:
    """Pass an integer output through a smaller type."""
    narrow = {"common_divisor": ("multiple", "int32"), "collatz": ("peak", "int16"),
              "invoice": ("total", "int32"), "random_walk": ("last", "uint16"),
              "modular_power": ("residue", "int16"), "calendar": ("year", "int8"),
              "digits": ("total", "int8"),
              "escape_time": ("rounds", "int8"), "growth": ("product", "float32")}  # fmt: skip
    if base.name not in narrow:
        return None
    name, dtype = narrow[base.name]
    last = f"{name} = np.int64(np.{dtype}({name}))"
    return Draft(Kernel(base, last=last), f"passes {name} through {dtype}")


def narrow_in_numpy(rng: random.Random, base: Base) -> Draft | None:
    """Compute on whole columns in the types that they have."""
    body = {
        "invoice": base.numpy.replace("cents.astype(np.int64)", "cents"),
        "calendar": base.numpy.replace("days.astype(np.int64)", "days.astype(np.int16)"),
        "classify": base.numpy.replace("age.astype", "age.view(np.int8).astype"),
        "random_walk": base.numpy.replace("state = seed", "state = seed.astype(np.uint32)"),
        "norms": base.numpy.replace("size.argmax", "(size * 12).astype(np.int8).argmax"),
    }.get(base.name)  # fmt: skip
    if body is None:
        return None
    kernel = Kernel(base, style="numpy", body=body, releases_gil=False)
    return Draft(kernel, "computes on whole columns of a type that is too small")


def halves(rng: random.Random, base: Base) -> Draft | None:
    """Truncate or round where Python rounds down."""
    if base.name not in ("histogram", "invoice", "calendar"):
        return None
    changes = {
        "histogram": ("int(v[j] * bins)", "int(np.round(v[j] * bins))", "rounds to a bin"),
        "invoice": ("total // 50", "int(np.round(total / 50))", "rounds the discount"),
        "calendar": ("z // 146097", "int(z / 146097.0)", "truncates the era"),
    }  # fmt: skip
    old, new, words = changes[base.name]
    return Draft(Kernel(base).slipped(Slip("", old, new, "")), words)


NUMBERS: Final[tuple[Recipe, ...]] = (
    slipping("integer"), slipping("domain"), unraised, wrapped, narrow_column, narrow_result,
    narrow_in_numpy, halves, slipping("integer"),
)  # fmt: skip


DECLARED: Final = {
    "put_tree": ({"steps": "steps", "item": "1"}, "declares steps for squared steps"),
    "lattice": ({"rows": "rows", "item": "1"}, "declares rows and forgets columns"),
    "histogram": ({"item": "1"}, "declares a cost that no parameter changes"),
    "logistic_map": ({"rounds": "rounds * rounds", "item": "1"}, "declares squared rounds"),
    "random_walk": ({"item": "1"}, "forgets the steps"),
    "pendulum": ({"steps": "steps * steps", "item": "1"}, "declares squared steps"),
    "polynomial": ({"terms": "sqrt(degree)", "item": "1"}, "declares a root"),
    "simpson": ({"item": "1"}, "forgets the intervals"),
}


def declared(rng: random.Random, base: Base) -> Draft | None:
    """Declare another cost than the kernels have."""
    if base.name not in DECLARED:
        return None
    cost, words = DECLARED[base.name]
    return Draft(Kernel(base), words, "cost", cost)


def squared_batch(rng: random.Random, base: Base) -> Draft | None:
    """Look through the whole batch for every item."""
    columns = [c for c in numbers(base) if c.is_float]
    if not columns or base.name not in ("triangle", "haversine"):
        return None
    column = rng.choice(columns)
    output = base.results[0].name
    last = (
        f"seen = 0.0\nfor j in range(n):\n    seen = seen * 0.5 + {column.name}_in[j]\n"
        f"if seen > 1e300:\n    {output} = {output} + 1.0"
    )
    words = f"looks through all {column.name} of the batch for every item"
    return Draft(Kernel(base, last=last), words, "cost")


COST: Final[tuple[Recipe, ...]] = (slipping("cost", "cost"), declared, squared_batch)
