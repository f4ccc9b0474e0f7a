"""The items that calls are repeated with in other batches, in other orders and in other threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hotloop.app.check.examples import example_of
from hotloop.app.check.items.rows import rows_of, take
from hotloop.app.check.plan import Plan
from hotloop.app.check.session import Session
from hotloop.app.check.subject import call
from hotloop.kernels import Kernel

__all__ = ["Base", "make_base"]

_SEED: Final = 4711
_LEAST: Final = 24
_LONGEST: Final = 0.03
"""A batch of the least size may take this share of the whole time."""

_MOST: Final = 1024


@dataclass(frozen=True, slots=True)
class Base:
    """Items under the handy parameters, and what the kernel gave for all of them in one batch.

    `item_seconds` is the time of the kernel for an item in that batch.
    """

    kernel: Kernel
    parameters: dict[str, Any]
    columns: dict[str, NDArray[Any]]
    outputs: Mapping[str, NDArray[Any]]
    item_seconds: float

    @property
    def count(self) -> int:
        """The number of items."""
        return rows_of(self.columns)

    def expected(self, rows: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
        """Return the results of the items at these positions."""
        return {name: values[rows] for name, values in self.outputs.items()}

    def example(self, row: int) -> dict[str, Any]:
        """Return an item as a finding shows it."""
        return example_of(self.columns, row, self.parameters)


def make_base(session: Session, kernel: Kernel, plan: Plan, item_seconds: float) -> Base | None:
    """Return the base of a kernel; None if `python` computed nothing, or the kernel raises."""
    cases = [each for each in plan.usable if each.parameters == plan.handy]
    if not cases:
        return None
    names = cases[0].columns
    everything = {name: np.concatenate([each.columns[name] for each in cases]) for name in names}
    size = rows_of(everything)
    # So few that a hundred passes through them take about a tenth of the time, if that is enough.
    item = max(item_seconds, 1e-9)
    count = int(session.seconds * 1e-3 / item)
    enough = min(_LEAST, int(session.seconds * _LONGEST / item))
    count = min(max(count, enough, 2), _MOST, size)
    rows = np.random.default_rng(_SEED).permutation(size)[:count]
    columns = take(everything, rows)
    with session.doing(f"a batch of {count} items", count * item_seconds):
        called = call(kernel, columns, plan.handy)
    if called.error is not None:
        return None
    return Base(kernel, plan.handy, columns, called.outputs, item_seconds)
