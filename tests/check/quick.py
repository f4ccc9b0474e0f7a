"""A workload that is checked in seconds: its second kernel is of numpy, so nothing is compiled."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hotloop.app.check import Certificate, certify

CORRECT: Final = """\
import ctypes
import os
import time

import numpy as np

import hotloop

STATE = {}


@hotloop.workload(
    columns={"x": hotloop.Float(-10.0, 10.0), "n": hotloop.Integer(0, 1000)},
    parameters={"turns": hotloop.Integer(1, 300, default=10)},
    outputs={"y": hotloop.Float(), "m": hotloop.Integer()},
    scratch={"room": hotloop.Scratch("float64", "turns")},
    cost={"turns": "turns"},
)
def work(x, n, turns, room):
    for i in range(turns):
        room[i] = x * 0.5 + 1.0
        x = room[i]
    return x, n % 7


def fast(x, n, turns, y, m, room):
    y[:] = x
    for i in range(turns):
        np.multiply(y, 0.5, out=y)
        np.add(y, 1.0, out=y)
    np.remainder(n, 7, out=m)


work.kernel("numba", fast)
"""

KERNEL: Final = "numba"
"""The kernel of numpy has the name of the one that would be derived."""


def written(folder: Path, code: str = "", instead: str = "") -> str:
    """Write the workload, with code at the end of its kernel, or with code `instead` of a line of
    it. Return what `certify` takes.
    """
    line = "    np.remainder(n, 7, out=m)\n"
    assert line in CORRECT
    added = "".join(f"    {each}\n" for each in code.splitlines())
    (folder / "quick.py").write_text(CORRECT.replace(line, (instead or line) + added))
    return "quick.py:work"


def certified(folder: Path, code: str = "", *, seconds: float = 20.0) -> Certificate:
    """Check the workload with this code at the end of its kernel."""
    return certify(written(folder, code), seconds=seconds, folder=folder)
