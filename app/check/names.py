"""The points of a certificate, in the order in which they are shown: names, and what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """How a point ended for one kernel."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Point:
    """A property that every kernel must have; `advice` says what to do about a kernel without."""

    name: str
    meaning: str
    advice: str


RUNS: Final = Point(
    "runs",
    "loads, accepts its inputs, returns, and needs a sane amount of memory",
    "run this item alone in a debugger; a kernel must return for every item within the bounds",
)
PARITY: Final = Point(
    "parity",
    "gives the results of `python`, in bits or within the declared ulp",
    "follow the operations of the plain function one by one, in its order and in its precision; "
    "declare `ulp` for an output that cannot have equal bits",
)
EDGES: Final = Point(
    "edges",
    "gives the results of `python` at bounds, at 0 and -0, at NaN, at equal and at extreme values",
    "compare <, <=, signs, rounding and special values with the plain function; narrow the bounds "
    "if such values are not meant",
)
ERRORS: Final = Point(
    "errors",
    "raises where `python` raises: overflow, division by zero, values outside of a function's "
    "domain",
    "narrow the bounds so that no item raises, or handle such items in the plain function; "
    "compiled arithmetic wraps around or gives NaN where Python raises",
)
BATCH: Final = Point(
    "batch",
    "gives an item the same bits in every batch, at every position and beside every neighbour",
    "compute each item from its own values only: reset what one item leaves behind, and treat the "
    "last items of a batch like the others",
)
INPUTS: Final = Point(
    "inputs",
    "leaves its inputs as they were",
    "copy values into scratch before changing them",
)
POISON: Final = Point(
    "poison",
    "reads neither outputs nor scratch before it has written them",
    "write every element of an output or of scratch before it is read; both hold arbitrary values "
    "at the start",
)
BOUNDS: Final = Point(
    "bounds",
    "stays within its arrays when it reads and writes",
    "compare every index with the array's length, also for the largest parameters and for the last "
    "items of a batch",
)
DETERMINISM: Final = Point(
    "determinism",
    "gives the same bits again: later, after other calls, and in another process",
    "keep nothing between calls, and use neither time, random numbers, addresses nor the order of "
    "sets",
)
THREADS: Final = Point(
    "threads",
    "gives the same bits while other threads run it with other items",
    "share nothing between calls: take scratch from the arguments, not from global arrays",
)
GIL: Final = Point(
    "gil",
    "lets other Python threads work while it runs, if it is declared so",
    "release the GIL (numba: nogil=True; Cython: with nogil; ctypes: CDLL, not PyDLL), or declare "
    "releases_gil=False",
)
COST: Final = Point(
    "cost",
    "takes as long as its declared cost says, at several values of each parameter",
    'declare the terms that the loops really have, or cost="data" where the items decide',
)

POINTS: Final = (
    RUNS,
    PARITY,
    EDGES,
    ERRORS,
    BATCH,
    INPUTS,
    POISON,
    BOUNDS,
    DETERMINISM,
    THREADS,
    GIL,
    COST,
)
BY_NAME: Final = {point.name: point for point in POINTS}
