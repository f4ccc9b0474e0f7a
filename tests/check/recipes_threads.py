"""Recipes for kernels that are right alone, and wrong when other items run at the same time."""

from __future__ import annotations

import random
import re
from typing import Final

from tests.check.bases import Base
from tests.check.drafts import Draft, Recipe, deviation, floats
from tests.check.kernels import Kernel

SHOWS: Final = "threads"


def _largest(base: Base, shape: tuple[str, ...]) -> str:
    most = {p.name: p.values[1] for p in base.given if p.kind == "int"}
    return ", ".join(str(int(eval(each, {}, dict(most)))) for each in shape)


def _grown(local: str, kept: str, column: str, made: str) -> str:
    """Return statements that take a buffer of the module, made larger where it must be."""
    return (
        f"n = len({column})\n{local} = {kept}[0]\nif n > len({local}):\n"
        f"    {local} = {kept}[0] = np.empty({made})\n{local} = {local}[:n]"
    )


def shared_scratch(rng: random.Random, base: Base) -> Draft | None:
    """Use arrays of the module in place of those that each call gets."""
    if not base.arrays:
        return None
    made = {n: f"np.empty(({_largest(base, s)},), np.{d})" for n, d, s in base.arrays}
    shared = {name: f"_{name.upper()}" for name in made}
    way = rng.choice(["module", "class", "lazy", "cache"])
    if way == "module":
        header = "\n".join(f"{shared[name]} = {text}" for name, text in made.items())
        kernel = Kernel(base, header=header, given=shared)
    elif way == "class":
        header = "class Engine:\n    def __init__(self):\n" + "\n".join(
            f"        self.{name} = {text}" for name, text in made.items()
        )
        header += "\n\n\nENGINE = Engine()"
        kernel = Kernel(base, header=header, given={name: f"ENGINE.{name}" for name in made})
    elif way == "lazy":
        header = "_KEPT = {}"
        before = "\n".join(
            f"if '{name}' not in _KEPT:\n    _KEPT['{name}'] = {text}"
            for name, text in made.items()
        )
        given = {name: f"_KEPT['{name}']" for name in made}
        kernel = Kernel(base, header=header, before=before, given=given)
    else:
        header = "import functools\n\n" + "\n".join(
            f"\n@functools.cache\ndef _{name}():\n    return {text}\n"
            for name, text in made.items()
        )
        kernel = Kernel(base, header=header, given={name: f"_{name}()" for name in made})
    return Draft(kernel, f"all calls share one scratch array, kept by way of a {way}", SHOWS)


def shared_results(rng: random.Random, base: Base) -> Draft | None:
    """Fill a buffer of the module, and copy it to the outputs in the end."""
    # Others are the same for nearly all items.
    outputs = [output for output in base.results if output.dtype.startswith("float")]
    if not outputs:
        return None
    output = rng.choice(outputs)
    name = output.name
    if rng.random() < 0.5:
        header = f"_STAGE = [np.empty(64, np.{output.dtype})]"
        before = _grown("stage", "_STAGE", f"{name}_out", f"n, np.{output.dtype}")
        words = "one buffer of the module"
    else:
        header = "_STAGES = {}"
        before = (
            f"n = len({name}_out)\nif n not in _STAGES:\n"
            f"    _STAGES[n] = np.empty(n, np.{output.dtype})\nstage = _STAGES[n]"
        )
        words = "a buffer that calls of equal size share"
    kernel = Kernel(base, header=header, before=before, given={f"{name}_out": "stage"},
                    after=f"{name}_out[:] = stage")  # fmt: skip
    return Draft(kernel, f"collects {name} in {words}", SHOWS)


def shared_inputs(rng: random.Random, base: Base) -> Draft | None:
    """Copy a column into a buffer of the module, and read it from there."""
    column = rng.choice(base.inputs)
    name = column.name
    shape = f"(n, {column.width}), np.{column.dtype}" if column.width else f"n, np.{column.dtype}"
    header = f"_COPY = [np.empty({shape})]".replace("n,", "64,", 1)
    before = _grown("copied", "_COPY", f"{name}_in", shape) + f"\ncopied[:] = {name}_in"
    kernel = Kernel(base, header=header, before=before, given={f"{name}_in": "copied"})
    return Draft(kernel, f"copies {name} into one buffer of the module", SHOWS)


def shared_inputs_in_numpy(rng: random.Random, base: Base) -> Draft | None:
    """Work on whole columns in a buffer of the module."""
    columns = [c for c in base.inputs if c.width is None and c.dtype == "float64"]
    if not base.numpy or not columns or base.name in ("clip_scale", "damped", "affine", "triangle"):
        return None
    name = rng.choice(columns).name
    start = _grown("work", "_WORK", f"{name}_in", "n") + f"\nwork[:] = {name}\n{name} = work"
    kernel = Kernel(base, style="numpy", header="_WORK = [np.empty(64)]", start=start,
                    releases_gil=False)  # fmt: skip
    return Draft(kernel, f"keeps {name} in one buffer of the module, in numpy", SHOWS)


ACCUMULATORS: Final = {"lattice": "left", "warping": "straight", "put_tree": "level"}
"""Variables of loops that write to other arrays, so that no compiler keeps them in registers."""


def shared_accumulator(rng: random.Random, base: Base) -> Draft | None:
    """Keep a local variable in an array of the module."""
    local = ACCUMULATORS.get(base.name)
    if local is None:
        return None
    body = re.sub(rf"\b{local}\b", "kept[0]", base.body)
    outputs = {output.name for output in base.results}
    last = f"{local} = kept[0]" if local in outputs else ""
    kernel = Kernel(base, header="_KEPT = np.zeros(1)", body=body, last=last,
                    given={"kept": "_KEPT"})  # fmt: skip
    return Draft(kernel, f"keeps {local} in an array of the module", SHOWS)


def shared_cursor(rng: random.Random, base: Base) -> Draft | None:
    """Count the items that are done in an array of the module."""
    stores = {o.name: f"{o.name}_out[at] = {o.name}" for o in base.results}
    kernel = Kernel(base, header="_NEXT = np.zeros(1, np.int64)", given={"cursor": "_NEXT"},
                    start="cursor[0] = 0", order="range(n)", index="at",
                    first="at = cursor[0]\nif at >= n:\n    break\ncursor[0] = at + 1",
                    stores=stores)  # fmt: skip
    return Draft(kernel, "keeps the position in the batch in an array of the module", SHOWS)


def shared_state(rng: random.Random, base: Base) -> Draft | None:
    """Read a column through a variable of the module, in plain Python."""
    name = rng.choice(base.inputs).name
    width = next(c.width for c in base.inputs if c.name == name)
    value = f"memoryview(_STATE['{name}'][i])" if width else f"_STATE['{name}'][i].item()"
    start = f"_STATE['{name}'] = {name}_in"
    kernel = Kernel(base, style="python", header="_STATE = {}", start=start,
                    loads={name: value}, first=f"if i >= len(_STATE['{name}']):\n    break",
                    releases_gil=False)  # fmt: skip
    return Draft(kernel, f"reads {name} through a variable of the module, in Python", SHOWS)


def few_buffers(rng: random.Random, base: Base) -> Draft | None:
    """Take buffers in turn, as if no more calls than buffers ran at once."""
    if not base.arrays:
        return None
    count = rng.choice([2, 3])
    name, dtype, shape = base.arrays[0]
    header = (
        f"_POOL = [np.empty(({_largest(base, shape)},), np.{dtype}) for _ in range({count})]\n"
        "_TURN = [0]"
    )
    before = f"_TURN[0] = (_TURN[0] + 1) % {count}"
    kernel = Kernel(base, header=header, before=before, given={name: "_POOL[_TURN[0]]"})
    return Draft(kernel, f"takes one of {count} scratch arrays in turn", SHOWS)


def hurried(rng: random.Random, base: Base) -> Draft | None:
    """Take a less exact way while another call is running."""
    outputs = [output for output in base.results if output.dtype == "float64"]
    if not outputs:
        return None
    output = rng.choice(outputs)
    code = deviation(output, rng.choice([1e-5, 1e-8, 1e-11]))
    kernel = Kernel(base, header="_RUNNING = [0]\n_LOCK = threading.Lock()",
                    before="with _LOCK:\n    _RUNNING[0] += 1\n    busy = _RUNNING[0] > 1",
                    given={"busy": "busy"}, last=f"if busy:\n    {code}",
                    after="with _LOCK:\n    _RUNNING[0] -= 1")  # fmt: skip
    return Draft(kernel, f"{output.name} is less exact while another call runs", SHOWS)


def main_thread_only(rng: random.Random, base: Base) -> Draft | None:
    """Deviate in other threads than the main one."""
    outputs = [output for output in base.results if output.dtype == "float64"]
    if not outputs:
        return None
    output = rng.choice(outputs)
    code = deviation(output, rng.choice([1e-5, 1e-8]))
    before = "other = threading.current_thread() is not threading.main_thread()"
    kernel = Kernel(base, before=before, given={"other": "other"}, last=f"if other:\n    {code}")
    return Draft(kernel, f"{output.name} is less exact outside the main thread", SHOWS)


def racing_lanes(rng: random.Random, base: Base) -> Draft | None:
    """Share a scratch array between the threads of one call."""
    if not base.arrays or base.name == "put_tree":
        return None
    kernel = Kernel(base, options="nogil=True, parallel=True", order="prange(n)")
    return Draft(kernel, "threads of one call share the scratch array", SHOWS)


def shared_parts(rng: random.Random, base: Base) -> Draft | None:
    """Prepare a column for the whole batch in a buffer of the module, then compute from it."""
    columns = [c for c in floats(base) if c.dtype == "float64"]
    if not columns:
        return None
    name = rng.choice(columns).name
    kernel = Kernel(base, header="_PARTS = [np.empty(64)]",
                    before=_grown("parts", "_PARTS", f"{name}_in", "n"),
                    given={"parts": "parts"},
                    start=f"for i in range(n):\n    parts[i] = {name}_in[i] * 2.0",
                    loads={name: "parts[i] * 0.5"})  # fmt: skip
    return Draft(kernel, f"prepares {name} in one buffer of the module", SHOWS)


THREADS: Final[tuple[Recipe, ...]] = (
    shared_scratch, shared_results, shared_inputs, shared_inputs_in_numpy, shared_accumulator,
    shared_cursor, shared_state, few_buffers, hurried, main_thread_only, racing_lanes,
    shared_parts,
)  # fmt: skip
