"""A correct kernel, and faults that are put into it: each is a change of its text, and the point at
which the check must find it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SOURCE: Final = '''\
import ctypes
import math
import random
import threading
import time

import numpy as np
from numba import njit, prange

import hotloop

TABLE = np.zeros(4096)
STATE = {"calls": 0, "last": None}


@hotloop.workload(
    columns={
        "x": hotloop.Float(-50.0, 50.0),
        "y": hotloop.Float(-50.0, 50.0),
        "n": hotloop.Integer(-1000, 100_000, dtype="int32"),
        "on": hotloop.Bool(),
    },
    parameters={
        "turns": hotloop.Integer(1, 2000, default=20),
        "weight": hotloop.Float(0.0, 2.0, default=0.5),
        "kind": hotloop.Choice("plus", "minus"),
        "flip": hotloop.Bool(default=False),
    },
    outputs={"total": hotloop.Float(), "count": hotloop.Integer()},
    scratch={"room": hotloop.Scratch("float64", "turns + 1")},
    cost={"turns": "turns"},
)
def work(x, y, n, on, turns, weight, kind, flip, room):
    """Add up turns."""
    room[0] = x
    total = 0.0
    count = n // 7
    for i in range(turns):
        room[i + 1] = room[i] * 0.5 + y * weight
        total = total + room[i + 1] if kind == "plus" else total - room[i + 1]
        if room[i + 1] > x:
            count += 1
    if flip or on:
        total = -total
    if x <= y:
        total = total + 1.0
    return total, count * (n % 11)


@njit(nogil=True)
def one(x, y, n, on, turns, weight, kind, flip, room):
    room[0] = x
    total = 0.0
    count = np.int64(n) // 7
    for i in range(turns):
        room[i + 1] = room[i] * 0.5 + y * weight
        total = total + room[i + 1] if kind == "plus" else total - room[i + 1]
        if room[i + 1] > x:
            count += 1
    if flip or on:
        total = -total
    if x <= y:
        total = total + 1.0
    return total, count * (np.int64(n) % 11)


@njit(nogil=True)
def batch(x, y, n, on, turns, weight, kind, flip, total, count, room):
    for i in range(x.size):
        total[i], count[i] = one(x[i], y[i], n[i], on[i], turns, weight, kind, flip, room)


@njit
def batch_held(x, y, n, on, turns, weight, kind, flip, total, count, room):
    for i in range(x.size):
        total[i], count[i] = one(x[i], y[i], n[i], on[i], turns, weight, kind, flip, room)


def fast(x, y, n, on, turns, weight, kind, flip, total, count, room):
    # before
    batch(x, y, n, on, turns, weight, kind, flip, total, count, room)
    # after


work.kernel("fast", fast)
'''


@dataclass(frozen=True, slots=True)
class Fault:
    """Replaces `old` by `new` in the source, once, beginning at the mark."""

    name: str
    points: tuple[str, ...]
    old: str
    new: str
    mark: str = "@njit"

    @property
    def source(self) -> str:
        """The module with the fault."""
        head, mark, rest = SOURCE.partition(self.mark)
        assert self.old in rest, self.name
        return head + mark + rest.replace(self.old, self.new, 1)


def _before(name: str, points: tuple[str, ...], code: str) -> Fault:
    return Fault(name, points, "    # before\n", _indented(code))


def _after(name: str, points: tuple[str, ...], code: str) -> Fault:
    return Fault(name, points, "    # after\n", _indented(code))


def _one(name: str, points: tuple[str, ...], old: str, new: str) -> Fault:
    return Fault(name, points, old, new)


def _batch(name: str, points: tuple[str, ...], new: str) -> Fault:
    line = "        total[i], count[i] = one(x[i], y[i], n[i], on[i], turns, weight, kind, flip, room)\n"
    return Fault(name, points, line, "".join(f"        {each}\n" for each in new.splitlines()))


def _indented(code: str) -> str:
    return "".join(f"    {line}\n" for line in code.splitlines())


_ITEM: Final = "one(x[i], y[i], n[i], on[i], turns, weight, kind, flip, room)"
_PARITY: Final = ("parity", "edges")

FAULTS: Final = (
    # The results are not those of `python`.
    _one("wrong constant", _PARITY, "* 0.5 +", "* 0.5000001 +"),
    _one("fused", _PARITY, "room[i] * 0.5 + y * weight", "(room[i] + 2.0 * y * weight) * 0.5"),
    _one(
        "half a per cent of x",
        _PARITY,
        "    return total, c",
        "    if 12.0 < x < 12.5:\n        total += 1e-9\n    return total, c",
    ),
    _one(
        "half a per cent of n",
        _PARITY,
        "    return total, c",
        "    if 70_000 <= n < 70_500:\n        count += 1\n    return total, c",
    ),
    _one(
        "one value of n",
        _PARITY,
        "    return total, c",
        "    if n == 31_337:\n        count += 1\n    return total, c",
    ),
    _one(
        "one value of turns",
        _PARITY,
        "    return total, c",
        "    if turns == 1234:\n        count += 1\n    return total, c",
    ),
    _one(
        "large turns only",
        _PARITY,
        "    return total, c",
        "    if turns > 1900:\n        count += 1\n    return total, c",
    ),
    _one(
        "odd turns of many",
        _PARITY,
        "    return total, c",
        "    if turns > 64 and turns % 2:\n        count += 1\n    return total, c",
    ),
    _one(
        "weight near its maximum",
        _PARITY,
        "    return total, c",
        "    if weight > 1.99:\n        count += 1\n    return total, c",
    ),
    _one(
        "weight in half a per cent",
        _PARITY,
        "    return total, c",
        "    if 1.03 < weight < 1.04:\n        count += 1\n    return total, c",
    ),
    _one("a choice ignored", _PARITY, 'kind == "plus"', 'kind != ""'),
    _one("a boolean ignored", _PARITY, "flip or on", "on"),
    _one(
        "a choice and a boolean",
        _PARITY,
        "    return total, c",
        '    if kind == "minus" and flip:\n        count += 1\n    return total, c',
    ),
    _one("less for less or equal", _PARITY, "x <= y", "x < y"),
    _one("greater or equal", _PARITY, "> x", ">= x"),
    _one("zero's sign", _PARITY, "total = -total", "total = 0.0 - total"),
    _one("truncating division", _PARITY, "np.int64(n) // 7", "np.int64(n / 7)"),
    _one("remainder of C", _PARITY, "np.int64(n) % 11", "np.int64(n - 11 * int(n / 11))"),
    _one(
        "int32 overflow",
        _PARITY,
        "count * (np.int64(n) % 11)",
        "np.int64(np.int32(count * (np.int64(n) % 11) * 30011)) // 30011",
    ),
    _one("float32 within", _PARITY, "    room[0] = x", "    room[0] = np.float32(x)"),
    _one(
        "fastmath",
        _PARITY,
        "room[i] * 0.5 + y * weight",
        "room[i] * 0.5 + (y + y * 1e-16) * weight",
    ),
    _one(
        "at the upper bound",
        _PARITY,
        "    return total, c",
        "    if x == 50.0:\n        count += 1\n    return total, c",
    ),
    _one(
        "near the lower bound",
        _PARITY,
        "    return total, c",
        "    if x < -49.99999:\n        count += 1\n    return total, c",
    ),
    _one(
        "tiny values",
        _PARITY,
        "    return total, c",
        "    if 0.0 < abs(x) < 1e-9:\n        total += 1e-30\n        count += 1\n    return total, c",
    ),
    _one(
        "both at a corner",
        _PARITY,
        "    return total, c",
        "    if x > 49.999 and y < -49.999:\n        count += 1\n    return total, c",
    ),
    _one(
        "opposite columns",
        _PARITY,
        "    return total, c",
        "    if x == -y:\n        count += 1\n    return total, c",
    ),
    _one(
        "whole numbers",
        _PARITY,
        "    return total, c",
        "    if x == math.floor(x):\n        count += 1\n    return total, c",
    ),
    _one(
        "powers of two",
        _PARITY,
        "    return total, c",
        "    if n == 65536:\n        count += 1\n    return total, c",
    ),
    _after(
        "column of outputs swapped",
        ("batch", *_PARITY),
        "if turns == 1:\n    count[:] = count[::-1].copy()",
    ),
    # The batch has an influence.
    _batch(
        "last item of a batch of eight",
        ("batch",),
        f"a, b = {_ITEM}\nif x.size == 8 and i == 7:\n    a += 1.0\ntotal[i], count[i] = a, b",
    ),
    _batch(
        "position 1000",
        ("batch",),
        f"a, b = {_ITEM}\nif i == 1000:\n    a += 1.0\ntotal[i], count[i] = a, b",
    ),
    _batch(
        "remainder of four",
        ("batch",),
        f"a, b = {_ITEM}\nif i >= x.size - x.size % 4:\n    a = np.float64(np.float32(a))\ntotal[i], count[i] = a, b",
    ),
    _batch(
        "beyond 100,000",
        ("batch",),
        f"a, b = {_ITEM}\nif i > 100_000:\n    a += 1.0\ntotal[i], count[i] = a, b",
    ),
    _batch(
        "neighbour",
        ("batch",),
        f"a, b = {_ITEM}\nif i > 0 and x[i - 1] > 49.0:\n    a += 1e-9\ntotal[i], count[i] = a, b",
    ),
    _batch(
        "same x as before",
        ("batch",),
        f"a, b = {_ITEM}\nif i > 0 and x[i - 1] == x[i]:\n    a = total[i - 1]\ntotal[i], count[i] = a, b",
    ),
    _batch(
        "leftover scratch",
        ("batch", "poison"),
        f"a, b = {_ITEM}\na = a + 0.0 * room[turns] if i == 0 else a + 1e-12 * room[turns]\ntotal[i], count[i] = a, b",
    ),
    _after(
        "scaled by the batch",
        ("batch",),
        "total *= 1.0 if len(x) == 1 else 1.0 + 1e-15 * float(np.max(np.abs(x)))",
    ),
    _before(
        "sorted", ("batch",), "if len(x) > 2 and np.all(np.diff(x) >= 0):\n    y = y[::-1].copy()"
    ),
    _before("empty batch", ("batch",), "if len(x) == 0:\n    raise ValueError('nothing')"),
    _after("any NaN", ("batch",), "if np.any(x == 0.0):\n    total += 1e-9"),
    _after(
        "large batches otherwise",
        ("batch",),
        "if len(x) > 3000:\n    total[:] = total.astype('f4')",
    ),
    # Inputs are changed.
    _after("input written", ("inputs",), "ctypes.memset(x.ctypes.data, 0, min(8, x.nbytes))"),
    _after(
        "input written and restored",
        ("bounds", "inputs"),
        "value = ctypes.c_double.from_address(x.ctypes.data) if len(x) else None\nif value is not None:\n    kept, value.value = value.value, 1.0\n    value.value = kept",
    ),
    _before(
        "input clipped in place",
        ("inputs",),
        "y = y.view()\ny.base.flags.writeable = True if y.base is not None else True\nz = np.lib.stride_tricks.as_strided(y)\nctypes.memmove(y.ctypes.data, np.clip(y, -49.0, 49.0).ctypes.data, y.nbytes)",
    ),
    # Poison.
    _batch(
        "output added to",
        ("poison",),
        f"a, b = {_ITEM}\ncount[i] = b\ntotal[i] = 0.0 * total[i] + a",
    ),
    _batch(
        "output left out",
        ("poison",),
        f"a, b = {_ITEM}\ntotal[i] = a\nif n[i] != 0:\n    count[i] = b",
    ),
    _one(
        "scratch read first",
        ("poison",),
        "    room[0] = x",
        "    if x == y:\n        room[0] += x\n    room[0] = x if room[0] < 1e8 else x + 1e-9",
    ),
    _one(
        "scratch not cleared",
        ("poison", "batch"),
        "    room[0] = x",
        "    if turns > 500:\n        room[0] = x + 1e-9 * room[turns]\n    else:\n        room[0] = x",
    ),
    # Beyond the arrays.
    _one(
        "one past scratch",
        ("bounds",),
        "    room[0] = x",
        "    room[0] = x\n    room[turns + 1] = x",
    ),
    _batch("one past the output", ("bounds",), f"total[i], count[i] = {_ITEM}\ntotal[i + 1] = 3.0"),
    _batch(
        "one past the input",
        ("bounds",),
        f"total[i], count[i] = {_ITEM}\nif x[i + 1] == 1.2345e300:\n    total[i] = 0.0",
    ),
    _batch(
        "writes eight at a time",
        ("bounds",),
        f"total[i], count[i] = {_ITEM}\nif i % 8 == 0 and i + 8 > x.size:\n    for k in range(i, i + 8):\n        total[k] = total[i]\ntotal[i], count[i] = {_ITEM}",
    ),
    # Determinism.
    _after("random", ("determinism",), "if random.random() < 0.02:\n    total += 1e-9"),
    _after(
        "every hundredth call",
        ("determinism",),
        "STATE['calls'] += 1\nif STATE['calls'] % 100 == 0:\n    total += 1e-9",
    ),
    _after(
        "first call",
        ("determinism", "parity"),
        "if not STATE['calls']:\n    total += 1e-9\nSTATE['calls'] = 1",
    ),
    _after("hash seed", ("determinism",), "if hash('hotloop') % 2:\n    total += 1e-9"),
    _after("time", ("determinism",), "if int(time.time() * 1000) % 7 == 0:\n    total += 1e-9"),
    _before(
        "cached by address",
        ("determinism", "parity", "edges", "batch"),
        "key = (x.ctypes.data, len(x), turns)\nif STATE['last'] is not None and STATE['last'][0] == key:\n    total[:], count[:] = STATE['last'][1:]\n    return\nbatch(x, y, n, on, turns, weight, kind, flip, total, count, room)\nSTATE['last'] = key, total.copy(), count.copy()",
    ),
    _before(
        "parameters of the first call",
        ("parity", "edges", "determinism"),
        "turns = STATE.setdefault('turns', turns) if turns <= STATE.setdefault('turns', turns) else turns",
    ),
    _before(
        "uninitialised memory",
        ("determinism",),
        "y = y + 1e-300 * np.empty(len(y) + 300)[:len(y)] if len(y) else y",
    ),
    # Threads.
    _before("shared scratch", ("threads",), "room = TABLE"),
    _before(
        "shared state of Python",
        ("threads",),
        "STATE['x'] = x\ntime.sleep(0)\nx = STATE['x'] if len(STATE['x']) == len(x) else x",
    ),
    # GIL.
    Fault("keeps the GIL", ("gil",), "@njit(nogil=True)\ndef batch", "@njit\ndef batch"),
    _after(
        "keeps the GIL mostly",
        ("gil",),
        "batch_held(x, y, n, on, turns, weight, kind, flip, total, count, room)\nbatch_held(x, y, n, on, turns, weight, kind, flip, total, count, room)",
    ),
    _before(
        "a loop of Python",
        ("gil",),
        "for i in range(len(x)):\n    total[i], count[i] = one.py_func(float(x[i]), float(y[i]), int(n[i]), bool(on[i]), turns, weight, kind, flip, room)\nreturn",
    ),
    # Cost.
    _one(
        "square",
        ("cost",),
        "    room[0] = x",
        "    waste = 0.0\n    for i in range(turns * turns):\n        waste += math.sin(waste + x)\n    room[0] = x if waste != 1e300 else y",
    ),
    _one(
        "weight decides",
        ("cost",),
        "    room[0] = x",
        "    waste = 0.0\n    for i in range(int(weight * 20_000)):\n        waste += math.sin(waste + x)\n    room[0] = x if waste != 1e300 else y",
    ),
    # Runs.
    _before("crash", ("runs",), "if len(x) == 64:\n    ctypes.string_at(0)"),
    _before("abort", ("runs",), "import os\nif turns > 1000:\n    os.abort()"),
    _before("exit", ("runs",), "import os\nos._exit(0)"),
    _before("hang", ("runs",), "while turns == 1:\n    time.sleep(1)"),
    _before("memory", ("runs", "parity", "edges"), "np.ones(20 << 30, dtype=np.int8)"),
    _before("raises", ("runs",), "raise RuntimeError('never works')"),
    _before("raises for some", _PARITY, "if turns == 7:\n    raise RuntimeError('not seven')"),
)

BY_NAME: Final = {fault.name: fault for fault in FAULTS}
