"""Texts of modules: the decorated function of a base, and a batch kernel in one of several styles.

The styles are a compiled loop, the same with the work on an item in a function of its own, numpy
on whole columns, a loop in plain Python, and a compiled function that is called by its address.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from textwrap import dedent, indent
from typing import Final

from tests.check.bases import Base, Slip

CTYPES: Final = {
    "float64": "ctypes.c_double",
    "int64": "ctypes.c_int64",
    "float": "ctypes.c_double",
    "int": "ctypes.c_int64",
    "bool": "ctypes.c_bool",
}
IMPORTS: Final = """\
import ctypes
import math
import threading
import time

import numpy as np
from numba import carray, cfunc, jit, njit, prange, types

import hotloop
"""


@dataclass(frozen=True)
class Kernel:
    """A batch kernel of a base; as it stands a correct one, and wrong by `replace`.

    Texts are inserted as they are: `header` before the functions, `start` and `end` around the loop
    over items, `first` and `last` in it, before the columns are read and after the results are
    there. With `before`, `after` or `given` a function in plain Python calls the loop; `given` maps
    names of arguments of the loop, also further ones, to what this function hands over.
    """

    base: Base
    style: str = "loop"
    options: str = "nogil=True"
    body: str = ""
    header: str = ""
    start: str = ""
    first: str = ""
    last: str = ""
    end: str = ""
    order: str = "range(n)"
    index: str = "i"
    loads: Mapping[str, str] | None = None
    stores: Mapping[str, str] | None = None
    before: str = ""
    after: str = ""
    given: Mapping[str, str] | None = None
    whole: str = ""
    holder: str = "CFUNCTYPE"
    releases_gil: bool = True

    def slipped(self, slip: Slip) -> Kernel:
        body = self.body or self.base.body
        if slip.old not in body:
            raise ValueError(f"{self.base.name}: {slip.old!r} is not in the body")
        return replace(self, body=body.replace(slip.old, slip.new))

    @property
    def text(self) -> str:
        if self.whole:
            return _text(self.header) + _text(self.whole)
        if self.style == "c":
            return _text(self.header) + self._c_text()
        wrapped = bool(self.before or self.after or self.given is not None)
        name = "fill" if wrapped else "batch"
        text = _text(self.header)
        if self.style == "numpy":
            return text + self._numpy_text(name) + (self._wrapper_text() if wrapped else "")
        if self.style == "helper":
            text += self._helper_text()
        text += "" if self.style == "python" else f"@njit({self.options})\n"
        further = [each for each in self.given or {} if each not in self.base.arguments]
        text += f"def {name}({', '.join(self.base.arguments + further)}):\n"
        text += indent(self._loop_text(), "    ")
        return text + "\n\n" + (self._wrapper_text() if wrapped else "")

    def _loop_text(self) -> str:
        base = self.base
        first = base.arguments[0]
        inner = _text(self.first)
        for column in base.inputs:
            value = f"{column.name}_in[{self.index}]"
            if self.style == "python":
                value = f"memoryview({value})" if column.width else f"{value}.item()"
            inner += f"{column.name} = {(self.loads or {}).get(column.name, value)}\n"
        if self.style == "helper":
            names = ", ".join(output.name for output in base.results)
            inner += f"{names} = one({', '.join(base.names)})\n"
        else:
            inner += _text(self.body or base.body)
        inner += _text(self.last)
        for output in base.results:
            usual = f"{output.name}_out[i] = {output.name}"
            inner += (self.stores or {}).get(output.name, usual) + "\n"
        text = f"n = len({first})\n" + _text(self.start)
        text += f"for i in {self.order}:\n" + indent(inner, "    ")
        return text + _text(self.end)

    def _helper_text(self) -> str:
        base = self.base
        body = indent(_text(self.body or base.body), "    ")
        results = ", ".join(output.name for output in base.results)
        return f"@njit\ndef one({', '.join(base.names)}):\n{body}    return {results}\n\n\n"

    def _numpy_text(self, name: str) -> str:
        base = self.base
        text = f"n = len({base.arguments[0]})\n"
        for column in base.inputs:
            value = f"{column.name}_in"
            text += f"{column.name} = {(self.loads or {}).get(column.name, value)}\n"
        text += _text(self.start) + _text(self.body or base.numpy) + _text(self.last)
        for output in base.results:
            usual = f"{output.name}_out[:] = {output.name}"
            text += (self.stores or {}).get(output.name, usual) + "\n"
        text += _text(self.end)
        further = [each for each in self.given or {} if each not in base.arguments]
        arguments = ", ".join(base.arguments + further)
        return f"def {name}({arguments}):\n{indent(text, '    ')}\n\n"

    def _wrapper_text(self) -> str:
        base, given = self.base, self.given or {}
        further = [each for each in given if each not in base.arguments]
        handed = ", ".join(given.get(each, each) for each in base.arguments + further)
        text = _text(self.before) + f"fill({handed})\n" + _text(self.after)
        return f"def batch({', '.join(base.arguments)}):\n{indent(text, '    ')}\n\n"

    def _c_text(self) -> str:
        """Return a function that takes addresses, and one that calls it through ctypes."""
        base = self.base
        arrays = [(f"{c.name}_in", c.dtype, ("n", str(c.width))[: 2 if c.width else 1])
                  for c in base.inputs]  # fmt: skip
        results = [(f"{o.name}_out", o.dtype, ("n",)) for o in base.results]
        behind = results + [(name, dtype, shape) for name, dtype, shape in base.arrays]
        pointers = {name: _numba_type(dtype) for name, dtype, _ in arrays + behind}
        types_in = ["types.intp"]
        ctypes_in = ["ctypes.c_ssize_t"]
        handed = [f"len({base.arguments[0]})"]
        named = ["n"]
        numbers = {parameter.name: parameter.kind for parameter in base.given}
        for each in base.arguments:
            if each in numbers:
                types_in.append({"int": "types.int64", "float": "types.float64"}[numbers[each]])
                ctypes_in.append(CTYPES[numbers[each]])
                named.append(each)
                handed.append(each)
            else:
                types_in.append(f"types.CPointer({pointers[each]})")
                ctypes_in.append("ctypes.c_void_p")
                named.append(f"{each}_address")
                handed.append(f"{each}.ctypes.data")
        views = "".join(
            f"{name} = carray({name}_address, ({', '.join(shape)},))\n"
            for name, _, shape in arrays + behind
        )
        inner = indent(views + self._loop_text(), "    ")
        return (
            f"@cfunc(types.void({', '.join(types_in)}))\ndef _native({', '.join(named)}):\n{inner}"
            f"\n\n_call = ctypes.{self.holder}(None, {', '.join(ctypes_in)})(_native.address)\n\n\n"
            f"def batch({', '.join(base.arguments)}):\n"
            f"    _call({', '.join(handed)})\n\n\n"
        )


def module_text(kernel: Kernel, cost: Mapping[str, str] | str | None = None) -> str:
    """Return the module of a workload with `kernel` as its kernel `batch`."""
    base = kernel.base
    return "\n\n".join(
        [
            IMPORTS,
            _text(base.header) + base.function_text(cost),
            kernel.text.rstrip() + "\n",
            f'{base.name}.kernel("batch", batch, releases_gil={kernel.releases_gil})\n',
        ]
    )


def _text(text: str) -> str:
    """Return whole lines without the indentation that all have."""
    text = dedent(text).strip("\n")
    return f"{text}\n" if text else ""


def _numba_type(dtype: str) -> str:
    return "types.boolean" if dtype == "bool" else f"types.{dtype}"
