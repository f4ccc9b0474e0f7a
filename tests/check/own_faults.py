"""A correct workload with a kernel of its own, and the faults of own_faults.txt."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CORRECT: Final = """\
import ctypes
import math
import os
import random
import time

import numpy as np
from numba import njit

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
    count = count * (np.int64(n) % 11)
    return total, count


@njit
def held(x, y, n, on, turns, weight, kind, flip, total, count, room):
    for i in range(x.size):
        total[i], count[i] = one(x[i], y[i], n[i], on[i], turns, weight, kind, flip, room)


@njit(nogil=True)  # batch
def batch(x, y, n, on, turns, weight, kind, flip, total, count, room):
    for i in range(x.size):
        total[i], count[i] = one(x[i], y[i], n[i], on[i], turns, weight, kind, flip, room)


def fast(x, y, n, on, turns, weight, kind, flip, total, count, room):
    # before
    batch(x, y, n, on, turns, weight, kind, flip, total, count, room)
    # after


work.kernel("fast", fast)
"""

ITEM: Final = "one(x[i], y[i], n[i], on[i], turns, weight, kind, flip, room)"

_PLACES: Final = {
    "start": (4, "    room[0] = x\n"),
    "end": (4, "    count = count * (np.int64(n) % 11)\n"),
    "item": (8, f"        total[i], count[i] = {ITEM}\n"),
    "before": (4, "    # before\n"),
    "after": (4, "    # after\n"),
}
"""Of each place, its indent and the line that is there."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault in the kernel `fast`; the check must find it at one of these points."""

    name: str
    points: frozenset[str]
    place: str
    code: str

    @property
    def source(self) -> str:
        """The module with the fault, which is nowhere in the plain function."""
        plain, njit, kernel = CORRECT.partition("@njit(nogil=True)\ndef one")
        if self.place == "text":
            old, new = self.code.strip().split(" => ")
        else:
            indent, old = _PLACES[self.place]
            new = textwrap.indent(self.code.replace("ITEM", ITEM), " " * indent)
            new += old if self.place == "end" else ""
        # The line of an item stands in `held`, too, which is correct.
        start = kernel.index("@njit(nogil=True)  # batch") if self.place == "item" else 0
        assert old in kernel[start:], self.name
        return plain + njit + kernel[:start] + kernel[start:].replace(old, new, 1)


def _read() -> list[Fault]:
    text = Path(__file__).with_name("own_faults.txt").read_text()
    faults = []
    for section in text.split("\n== ")[1:]:
        head, _, code = section.partition("\n")
        name, points, place = head.split(" | ")
        faults.append(Fault(name, frozenset(points.split()), place, code.rstrip("\n") + "\n"))
    return faults


FAULTS: Final = {fault.name: fault for fault in _read()}
