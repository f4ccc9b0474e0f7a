"""What `python` gives: the expected results of batches, with the items for which it raises.

Python code can be stopped in the middle, so that a slow item costs no more time than it may.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hotloop.app.check.items.rows import Columns, rows_of, take
from hotloop.app.check.session import Session, TooSlow, alarm
from hotloop.app.check.subject import Called, call
from hotloop.kernels import Kernel

__all__ = ["Case", "Raised", "Reference"]

_PARTS: Final = 8
"""A call may take this part of the time of a batch."""

_LONGER: Final = 20
"""How much longer than the items before it a call may take."""

_MOST_AT_ONCE: Final = 4096
_SLOW_ITEMS: Final = 4
"""Items that are too slow, one after the other, until a batch is given up."""

_LEAST_SECONDS: Final = 0.02
"""Time that one item always gets, so that a busy machine does not make it a slow one."""


@dataclass(frozen=True, slots=True)
class Raised:
    """An item for which `python` raises, and what, in one line."""

    columns: dict[str, NDArray[Any]]
    parameters: dict[str, Any]
    error: str


@dataclass(frozen=True, slots=True)
class Case:
    """A batch of items, all of which `python` can compute, and its results.

    Without `expected`, the parameters are too costly for `python`. `seconds` is the processor time
    that `python` took for the batch.
    """

    name: str
    point: str
    parameters: dict[str, Any]
    columns: dict[str, NDArray[Any]]
    expected: dict[str, NDArray[Any]] | None
    seconds: float

    @property
    def count(self) -> int:
        """The number of items."""
        return rows_of(self.columns)


class Reference:
    """Computes cases with `python`, and collects what it raises, is slow at, or does wrong."""

    def __init__(self, session: Session, kernel: Kernel) -> None:
        self._session = session
        self._kernel = kernel
        self.raised: list[Raised] = []
        self.slow: list[tuple[dict[str, NDArray[Any]], dict[str, Any]]] = []
        """Items for which `python` took too long."""
        self.computed = 0
        """Items that were computed, or raised."""
        self.item_seconds = 0.0
        """Time that an item may always take."""

    def seconds_of(self, columns: Columns, parameters: Mapping[str, Any], limit: float) -> float:
        """Return the seconds of processor time that these items take, each alone; infinite if more
        than `limit`. An item for which `python` raises takes as long as that took.
        """
        started = time.process_time()
        for row in range(rows_of(columns)):
            left = limit - (time.process_time() - started)
            one = take(columns, slice(row, row + 1))
            if left <= 0 or self._called(one, parameters, left) is None:
                return float("inf")
        return time.process_time() - started

    def case(
        self, name: str, point: str, parameters: Mapping[str, Any], columns: Columns, limit: float
    ) -> Case:
        """Compute as many items as `limit` seconds allow; the others are left out."""
        done: list[NDArray[np.intp]] = []
        results: list[dict[str, NDArray[Any]]] = []
        count, row, size, slow = rows_of(columns), 0, 1, 0
        used = per_item = 0.0
        end = time.monotonic() + limit
        while row < count and slow < _SLOW_ITEMS and time.monotonic() < end:
            rows = np.arange(row, min(row + size, count))
            # Nothing may take all the time of the others.
            allowed = max(limit / _PARTS, _LEAST_SECONDS, self.item_seconds)
            if size > 1:
                allowed = min(allowed, max(_LONGER * per_item * size, _LEAST_SECONDS))
            started = time.process_time()
            called = self._called(take(columns, rows), parameters, allowed)
            taken = time.process_time() - started
            if size > 1 and (called is None or called.error is not None):
                # One of them is too slow, or raises; soon they are computed one by one.
                size = max(1, size // 8)
                continue
            row += len(rows)
            if called is None:
                slow += 1
                self.slow.append((take(columns, rows), dict(parameters)))
                continue
            slow = 0
            self.computed += len(rows)
            if called.error is not None:
                self.raised.append(Raised(take(columns, rows), dict(parameters), called.error))
                continue
            done.append(rows)
            results.append(called.outputs)
            used += taken
            per_item = max(taken / len(rows), 1e-7)
            left = end - time.monotonic()
            size = int(max(1, min(2 * size, _MOST_AT_ONCE, left / 4 / per_item)))
        kept = np.concatenate(done) if done else np.empty(0, dtype=np.intp)
        names = [column.name for column in self._kernel.workload.columns_out]
        expected = {
            output: np.concatenate([each[output] for each in results])
            if results
            else np.empty(0, dtype=self._dtype(output))
            for output in names
        }
        return Case(
            name,
            point,
            dict(parameters),
            take(columns, kept),
            expected,
            used,
        )

    def _dtype(self, output: str) -> str:
        return next(c.dtype for c in self._kernel.workload.columns_out if c.name == output)

    def _called(
        self, columns: Columns, parameters: Mapping[str, Any], limit: float
    ) -> Called | None:
        """Call `python`; None if it takes longer than `limit` seconds."""
        words = f"python, {rows_of(columns)} items"
        try:
            with self._session.doing(words, limit), alarm(limit):
                return call(self._kernel, columns, parameters)
        except TooSlow:
            return None
