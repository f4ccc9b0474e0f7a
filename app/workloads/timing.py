"""In a child process: timed calls of one kernel, with items that are made up."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hotloop.kernels.kernel import Kernel

SHORTEST_SECONDS: Final = 0.001
"""Least time of a measurement; shorter calls are repeated until they take it together."""

LEAST_CALLS: Final = 3
"""Calls of a measurement, of which the fastest counts, unless one takes ENOUGH_SECONDS."""

ENOUGH_SECONDS: Final = 0.03
"""Seconds of calls that are enough, however few they were."""

MOST_CALLS: Final = 500
"""Most calls of a measurement."""

BUDGET_SECONDS: Final = 1.0
"""Time for all timed calls of a kernel but the first and those that measure contention."""

MOST_BYTES: Final = 1 << 26
"""Most bytes of the input columns of a call."""

TRIED_ITEMS: Final = 64
"""Items that are tried one by one when a call with some of them raises an error."""

Parameters = Mapping[str, Any]


@dataclass(slots=True)
class KernelTimer:
    """Calls of one kernel with made-up items, timed."""

    kernel: Kernel
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    """The columns of the largest call so far."""
    good: NDArray[np.int64] | None = None
    """Ids of items that raise no error, once one did."""
    started: float = field(default_factory=time.perf_counter)

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        return BUDGET_SECONDS - (time.perf_counter() - self.started)

    @property
    def most_items(self) -> int:
        """The most items of a call, by the bytes of their columns."""
        width = sum((c.width or 1) * 8 for c in self.kernel.workload.columns_in)
        return max(1, MOST_BYTES // width)

    def call(self, count: int, parameters: Parameters, first: int = 0) -> float:
        """Compute `count` items from the item `first` on, and return the seconds. Raises what the
        kernel raises if no item can be computed.
        """
        columns = self._columns(first, count)
        try:
            started = time.perf_counter()
            self.kernel.run(columns, parameters)
            return time.perf_counter() - started
        except Exception:
            if self.good is not None:
                raise
        self._find_good(parameters)
        return self.call(count, parameters, first)

    def seconds(self, count: int, parameters: Parameters) -> float:
        """Return the seconds of the fastest of some calls, which are repeated if they are short."""
        fastest, total = inf, 0.0
        for number in range(MOST_CALLS):
            taken = self.call(count, parameters)
            fastest, total = min(fastest, taken), total + taken
            if total >= (SHORTEST_SECONDS if number + 1 >= LEAST_CALLS else ENOUGH_SECONDS):
                break
        return fastest

    def call_seconds(self, parameters: Parameters) -> float:
        """Return the seconds of a call without items, after a first one with an item that costs
        little. A kernel that cannot do without items is timed with that one.
        """
        workload = self.kernel.workload
        idle = workload.idle_parameters
        idle |= {p.name: parameters[p.name] for p in workload.parameters if not p.is_number}
        self.call(1, idle)
        self.started = time.perf_counter()
        try:
            return self.seconds(0, parameters)
        except Exception:
            return self.seconds(1, idle)

    def _columns(self, first: int, count: int) -> dict[str, NDArray[Any]]:
        name = self.kernel.workload.columns_in[0].name
        if not self.columns or len(self.columns[name]) < first + count:
            ids = np.arange(first + count, dtype=np.int64)
            if self.good is not None:
                ids = np.resize(self.good, first + count)
            self.columns = self.kernel.workload.simulated_columns(ids)
        return {name: column[first : first + count] for name, column in self.columns.items()}

    def _find_good(self, parameters: Parameters) -> None:
        last: Exception | None = None
        good, until = [], time.perf_counter() + BUDGET_SECONDS
        for number in range(TRIED_ITEMS):
            item = self.kernel.workload.simulated_columns(np.array([number], dtype=np.int64))
            try:
                self.kernel.run(item, parameters)
                good.append(number)
            except Exception as error:
                last = error
            if time.perf_counter() > until:
                break
        if not good and last is not None:
            raise last
        self.good, self.columns = np.array(good, dtype=np.int64), {}
