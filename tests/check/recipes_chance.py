"""Recipes for kernels that do not give the same result for the same items every time."""

from __future__ import annotations

import random
from typing import Final

from tests.check.bases import Base
from tests.check.drafts import Draft, Recipe, altered, deviation, floats, numbers
from tests.check.kernels import Kernel

SHOWS: Final = "repeats"


def _float_output(rng: random.Random, base: Base) -> str | None:
    outputs = [output.name for output in base.results if output.dtype == "float64"]
    return rng.choice(outputs) if outputs else None


def random_items(rng: random.Random, base: Base) -> Draft | None:
    """Deviate for items that are drawn at random."""
    share = rng.choice([0.005, 0.02, 0.1])
    code, words = altered(rng, base)
    kernel = Kernel(base, last=f"if np.random.random() < {share}:\n    {code}")
    return Draft(kernel, f"{words} for {share:.1%} of the items, at random", SHOWS)


def dithered(rng: random.Random, base: Base) -> Draft | None:
    """Add noise to a column or an output."""
    name = _float_output(rng, base)
    if name is None:
        return None
    size = rng.choice([1e-6, 1e-9, 1e-12])
    last = f"{name} = {name} + {size!r} * np.random.standard_normal() * (1.0 + abs({name}))"
    return Draft(Kernel(base, last=last), f"adds noise of {size:g} to {name}", SHOWS)


def random_generator(rng: random.Random, base: Base) -> Draft | None:
    """Draw from a generator of the module, in the calling function."""
    code, words = altered(rng, base)
    share = rng.choice([0.1, 0.3])
    kernel = Kernel(base, header="_DRAWS = np.random.default_rng()",
                    before=f"unlucky = _DRAWS.random() < {share}", given={"unlucky": "unlucky"},
                    last=f"if unlucky:\n    {code}")  # fmt: skip
    return Draft(kernel, f"{words} in {share:.0%} of the calls, at random", SHOWS)


def by_the_clock(rng: random.Random, base: Base) -> Draft | None:
    """Deviate at certain times."""
    code, words = altered(rng, base)
    clock, often = rng.choice(
        [
            ("time.perf_counter_ns() // 1000 % 5 == 0", "a fifth of all microseconds"),
            ("time.time_ns() % 100000000 < 30000000", "three of ten tenths of a second"),
            ("time.monotonic_ns() // 100 % 3 == 0", "a third of all times"),
        ]
    )
    kernel = Kernel(base, before=f"late = {clock}", given={"late": "late"},
                    last=f"if late:\n    {code}")  # fmt: skip
    return Draft(kernel, f"{words} at {often}", SHOWS)


def every_few_calls(rng: random.Random, base: Base) -> Draft | None:
    """Count calls, and deviate in some of them."""
    code, words = altered(rng, base)
    step = rng.choice([2, 3, 5, 7])
    kernel = Kernel(base, header="_CALLS = [0]",
                    before=f"_CALLS[0] += 1\nturn = _CALLS[0] % {step} == 0",
                    given={"turn": "turn"}, last=f"if turn:\n    {code}")  # fmt: skip
    return Draft(kernel, f"{words} in every {step}th call", SHOWS)


def tired(rng: random.Random, base: Base) -> Draft | None:
    """Deviate after some calls or items."""
    code, words = altered(rng, base)
    if rng.random() < 0.5:
        most = rng.choice([3, 5, 10])
        header, before = "_CALLS = [0]", f"_CALLS[0] += 1\ntired = _CALLS[0] > {most}"
        after = f"after {most} calls"
    else:
        most = rng.choice([100, 500, 1000])
        column = base.inputs[0].name
        header = "_ITEMS = [0]"
        before = f"tired = _ITEMS[0] > {most}\n_ITEMS[0] += len({column}_in)"
        after = f"after {most} items"
    kernel = Kernel(base, header=header, before=before, given={"tired": "tired"},
                    last=f"if tired:\n    {code}")  # fmt: skip
    return Draft(kernel, f"{words} {after}", SHOWS)


def first_call(rng: random.Random, base: Base) -> Draft | None:
    """Deviate in the first real batch, while a table is not ready."""
    code, words = altered(rng, base)
    column = base.inputs[0].name
    kernel = Kernel(base, header="_READY = []",
                    before=f"ready = bool(_READY)\nif len({column}_in) > 1:\n    _READY.append(1)",
                    given={"ready": "ready"}, last=f"if not ready:\n    {code}")  # fmt: skip
    return Draft(kernel, f"{words} up to the first batch of several items", SHOWS)


def cached_results(rng: random.Random, base: Base) -> Draft | None:
    """Keep the results of a batch under a key that does not tell batches apart."""
    column = rng.choice(base.inputs).name
    key, words = rng.choice(
        [
            (f"len({column}_in)", "its size"),
            (f"({column}_in.ctypes.data, len({column}_in))", "the address of a column"),
            (f"(len({column}_in), {column}_in[:1].tobytes())", "its size and first item"),
            (f"({column}_in.tobytes(),)", f"the column {column} alone"),
        ]
    )
    if words.startswith("the column") and len(base.inputs) + len(base.given) < 2:
        return None
    outputs = [f"{output.name}_out" for output in base.results]
    before = f"key = {key}\nif key in _KNOWN:\n    kept = _KNOWN[key]\n" + "\n".join(
        f"    {name}[:] = kept[{place}]" for place, name in enumerate(outputs)
    )
    before += "\n    return"
    after = f"_KNOWN[key] = ({', '.join(f'{name}.copy()' for name in outputs)},)"
    kernel = Kernel(base, header="_KNOWN = {}", before=before, after=after)
    return Draft(kernel, f"keeps the results of a batch under {words}", SHOWS)


def stale_parameters(rng: random.Random, base: Base) -> Draft | None:
    """Keep a parameter of the first call, or of the last but one."""
    parameters = [p.name for p in base.given]
    if not parameters:
        return None
    name = rng.choice(parameters)
    header, before, words = rng.choice(
        [
            ("_KEPT = {}", f"kept = _KEPT.setdefault('{name}', {name})", "of the first call"),
            ("_KEPT = {}", f"kept = _KEPT.get('{name}', {name})\n_KEPT['{name}'] = {name}",
             "of the call before"),
        ]
    )  # fmt: skip
    kernel = Kernel(base, header=header, before=before, given={name: "kept"})
    return Draft(kernel, f"uses the parameter {name} {words}", SHOWS)


def by_address(rng: random.Random, base: Base) -> Draft | None:
    """Deviate by where an array or a new object lies in memory."""
    code, words = altered(rng, base)
    column = rng.choice(base.inputs).name
    before, place = rng.choice(
        [
            (f"astray = {column}_in.ctypes.data % 64 != 0", "does not begin a line of the cache"),
            (f"astray = {column}_in.ctypes.data // 64 % 2 == 1", "begins at an odd line"),
            (f"astray = id({column}_in) // 16 % 2 == 1", "is an object at an odd place"),
        ]
    )
    kernel = Kernel(base, before=before, given={"astray": "astray"}, last=f"if astray:\n    {code}")
    return Draft(kernel, f"{words} where {column} {place}", SHOWS)


def uninitialised(rng: random.Random, base: Base) -> Draft | None:
    """Add up an array that was not filled completely."""
    name = _float_output(rng, base)
    if name is None:
        return None
    width = rng.choice([3, 4, 6])
    start = (
        f"dirt = np.full({width}, 1.5 + n)\nfor j in range({width}):\n"
        f"    dirt[j] = dirt[j] + j\nsoil = dirt.sum()"
    )
    first = f"marks = np.empty({width})\nfor j in range({width} - 1):\n    marks[j] = 0.0 * soil"
    last = f"{name} = {name} + marks[{width - 1}] * 1e-3\nmarks[{width - 1}] = i + 1.0"
    return Draft(
        Kernel(base, start=start, first=first, last=last),
        f"adds an element of a new array to {name} that was never written",
        SHOWS,
    )


def order_of_a_set(rng: random.Random, base: Base) -> Draft | None:
    """Add parts in the order of a set of texts, which changes from process to process."""
    name = _float_output(rng, base)
    columns = floats(base) or [c for c in numbers(base) if c.dtype != "bool"]
    if name is None or not columns:
        return None
    words = rng.sample(["spot", "carry", "skew", "tail", "rate", "roll", "basis", "drift"], 6)
    parts = {word: place / 7.0 for place, word in enumerate(words, 1)}
    header = f"_PARTS = {parts}\n_NAMES = set(_PARTS)"
    before = "pooled = 0.0\nfor word in _NAMES:\n    pooled = pooled * 0.5 + _PARTS[word]"
    kernel = Kernel(base, header=header, before=before, given={"pooled": "pooled"},
                    last=f"{name} += (pooled - 0.6) * 1e-9 * (1.0 + abs({name}))")  # fmt: skip
    return Draft(kernel, "sums in the order of a set of texts", SHOWS)


def learning(rng: random.Random, base: Base) -> Draft | None:
    """Carry a mean of all batches so far into the results."""
    name = _float_output(rng, base)
    columns = floats(base)
    if name is None or not columns:
        return None
    column = rng.choice(columns).name
    size = rng.choice([1e-3, 1e-6])
    before = f"trend = _SEEN[0]\n_SEEN[0] = 0.9 * _SEEN[0] + 0.1 * float(np.abs({column}_in).sum())"
    kernel = Kernel(base, header="_SEEN = [0.0]", before=before, given={"trend": "trend"},
                    last=f"share = trend / (1.0 + trend)\n"
                    f"{name} = {name} + {size!r} * share * (1.0 + abs({name}))")  # fmt: skip
    return Draft(kernel, f"{name} drifts with the {column} of all calls before", SHOWS)


def references(rng: random.Random, base: Base) -> Draft | None:
    """Deviate by the number of objects that are alive."""
    name = _float_output(rng, base)
    if name is None:
        return None
    output = next(o for o in base.results if o.name == name)
    before = "astray = sys.getallocatedblocks() % 3 == 0"
    kernel = Kernel(base, header="import sys", before=before, given={"astray": "astray"},
                    last=f"if astray:\n    {deviation(output, 1e-6)}")  # fmt: skip
    return Draft(kernel, f"{name} depends on how many objects are alive", SHOWS)


CHANCE: Final[tuple[Recipe, ...]] = (
    random_items, dithered, random_generator, by_the_clock, every_few_calls, tired, first_call,
    cached_results, stale_parameters, by_address, uninitialised, order_of_a_set, learning,
    references,
)  # fmt: skip
