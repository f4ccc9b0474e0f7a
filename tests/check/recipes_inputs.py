"""Recipes for kernels that write to their inputs, past the mark that they are read-only."""

from __future__ import annotations

import random
from typing import Final

from tests.check.bases import Base, Column, middle
from tests.check.drafts import Draft, Recipe
from tests.check.kernels import Kernel

SHOWS: Final = "inputs"

WAYS: Final = {
    "its address and ctypes": """
    def _writable(a):
        if a.size == 0:
            return a.copy()
        raw = (ctypes.c_char * a.nbytes).from_address(a.ctypes.data)
        return np.frombuffer(raw, a.dtype).reshape(a.shape)
    """,
    "setflags": """
    def _writable(a):
        view = a.view()
        a.setflags(write=True)
        view = a[:]
        a.setflags(write=False)
        return view
    """,
    "its base": """
    def _writable(a):
        found = a
        while isinstance(found.base, np.ndarray):
            found = found.base
        if found is a or found.shape != a.shape or not found.flags.writeable:
            found.flags.writeable = True
        return found.view(a.dtype)
    """,
    "the array interface": """
    class _Raw:
        def __init__(self, a):
            interface = dict(a.__array_interface__)
            interface["data"] = (interface["data"][0], False)
            self.__array_interface__ = interface
            self.kept = a


    def _writable(a):
        return np.asarray(_Raw(a))
    """,
    "a pointer of numpy.ctypeslib": """
    def _writable(a):
        if a.size == 0:
            return a.copy()
        pointer = ctypes.cast(a.ctypes.data, ctypes.POINTER(ctypes.c_ubyte))
        return np.ctypeslib.as_array(pointer, (a.nbytes,)).view(a.dtype).reshape(a.shape)
    """,
}


def _change(rng: random.Random, column: Column) -> tuple[str, str]:
    """Draw what is written to `w`, a writable view of the column: as statements, and in words."""
    if column.dtype == "bool":
        return rng.choice(
            [
                ("w[-1:] = ~w[-1:]", "turns the last value over"),
                ("w[:] = False", "clears all values"),
                ("w.sort()", "sorts the values"),
            ]
        )
    found = [
        ("w[-1:] = w[:1]", "writes the first item over the last"),
        ("w[:] = w[::-1].copy()", "turns the batch round"),
        ("w[1::2] = w[:-1:2][: len(w[1::2])]", "writes each even item over the next"),
        ("w[w > {cap!r}] = {cap!r}", "clips the largest values"),
        ("w.sort(axis=-1)", "sorts the values"),
        ("if len(w) % 2 == 1:\n    w[0] = w[len(w) // 2]", "sets the first item of odd batches"),
        ("if len(w) > 100:\n    w[50] = w[0]", "writes to one item of batches above 100"),
    ]
    if column.is_float:
        found += [
            ("w *= 1.0 + 2.0**-22", "multiplies by a little more than 1"),
            ("w[:] = np.nextafter(w, w.dtype.type({low!r}))", "moves values by the smallest step"),
            ("mean = w.mean() if w.size else 0.0\nw -= mean\nw += mean",
             "subtracts the mean and adds it again"),
            ("w[:] = w.astype(np.float32)" if column.dtype == "float64" else "w *= 0.5",
             "rounds or halves the values"),
        ]  # fmt: skip
        if column.low < 0:
            found += [("np.abs(w, out=w)", "takes absolute values"),
                      ("w += 0.0", "turns negative zeros into positive ones")]  # fmt: skip
    else:
        found += [
            ("w[w > {low!r}] -= 1", "subtracts one"),
            ("w[: len(w) // 8] = {low!r}", "sets the first eighth to the lowest value"),
            ("w ^= 1", "turns the last bits over"),
        ]
    code, words = rng.choice(found)
    return code.format(low=column.low, cap=middle(column, 0.97)), words


def written_after(rng: random.Random, base: Base) -> Draft | None:
    """Compute the results, then write to a column."""
    column = rng.choice(base.inputs)
    way = rng.choice(list(WAYS))
    code, words = _change(rng, column)
    after = f"w = _writable({column.name}_in)\n{code}"
    kernel = Kernel(base, header=WAYS[way], after=after)
    return Draft(kernel, f"{words} of {column.name} through {way}", SHOWS)


def written_in_the_loop(rng: random.Random, base: Base) -> Draft | None:
    """Let the compiled loop write to a column, everywhere or for some items."""
    column = rng.choice(base.inputs)
    name = column.name
    way = rng.choice(list(WAYS))
    if column.dtype == "bool":
        value, words = f"not {name}", "turns over"
    elif column.width is not None:
        value, words = "", "sets the first element of"
    else:
        value, words = rng.choice(
            [(f"{column.low!r}", "resets"), (f"{column.high!r}", "fills"),
             (f"{name} + ({column.high!r} - {name}) // 2", "moves")]
        )  # fmt: skip
    target = f"w[i, 0] = {column.low!r}" if column.width else f"w[i] = {value}"
    where, place = rng.choice(
        [("True", "all items"), ("i == n - 1", "the last item"), ("i % 16 == 5", "some items"),
         (f"{base.results[0].name} == {base.results[0].name} and i % 3 == 0", "a third of them")]
    )  # fmt: skip
    code = f"if {where}:\n    {target}"
    kernel = Kernel(base, header=WAYS[way], last=code, given={"w": f"_writable({name}_in)"})
    return Draft(kernel, f"{words} {name} in {place} through {way}", SHOWS)


def results_in_place(rng: random.Random, base: Base) -> Draft | None:
    """Keep a copy of the results in an input of the same type."""
    pairs = [(c.name, o.name) for c in base.inputs for o in base.results
             if c.width is None and c.dtype == o.dtype]  # fmt: skip
    if not pairs:
        return None
    column, output = rng.choice(pairs)
    way = rng.choice(list(WAYS))
    after = f"_writable({column}_in)[:] = {output}_out"
    kernel = Kernel(base, header=WAYS[way], after=after)
    return Draft(kernel, f"writes {output} over {column} through {way}", SHOWS)


def moved_bytes(rng: random.Random, base: Base) -> Draft | None:
    """Write by memmove or memset, without an array."""
    columns = [c for c in base.inputs if c.width is None]
    if not columns:
        return None
    column = rng.choice(columns)
    name = f"{column.name}_in"
    after, words = rng.choice(
        [
            (f"if len({name}) > 1:\n    ctypes.memmove({name}.ctypes.data, "
             f"{name}.ctypes.data + {name}.itemsize, {name}.nbytes - {name}.itemsize)",
             "moves all items to the front"),
            (f"if len({name}) > 0:\n    ctypes.memset({name}.ctypes.data + {name}.nbytes - "
             f"{name}.itemsize, 0, {name}.itemsize)", "clears the last item"),
        ]
    )  # fmt: skip
    return Draft(Kernel(base, after=after), f"{words} of {column.name}", SHOWS)


def native(rng: random.Random, base: Base) -> Draft | None:
    """Write through the address that native code gets."""
    if any(p.kind in ("choice", "bool") for p in base.given):
        return None
    column = rng.choice(base.inputs)
    name = column.name
    if column.width is not None:
        target = f"{name}_in[i, {rng.randrange(column.width)}] = {column.high!r}"
    else:
        target = f"{name}_in[i] = {column.low!r}"
    where, words = rng.choice([("True", "every item"), ("i == 0", "the first item"),
                               ("i % 7 == 6", "every seventh item")])  # fmt: skip
    kernel = Kernel(base, style="c", last=f"if {where}:\n    {target}")
    return Draft(kernel, f"native code writes to {name} of {words}", SHOWS)


INPUTS: Final[tuple[Recipe, ...]] = (
    written_after, written_in_the_loop, results_in_place, moved_bytes, native,
)  # fmt: skip
