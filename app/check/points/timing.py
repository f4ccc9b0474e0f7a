"""Times of a kernel for an item, as little disturbed by a busy machine as can be."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hotloop.app.check.items.rows import rows_of, take
from hotloop.app.check.session import Session, TooSlow, alarm
from hotloop.kernels import Kernel
from hotloop.kernels.kernel import new_outputs, new_scratch

__all__ = ["Timer", "bare_call", "in_unit"]

_LEAST_SECONDS: Final = 2e-3
"""A measurement takes at least as long."""

_REPEATS: Final = 3
_WAITING: Final = 20
"""A call that takes this much longer than its processor time is one that waits."""


def bare_call(
    kernel: Kernel, columns: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any], count: int
) -> Callable[[], None]:
    """Return a call for `count` items, these again and again, with all of its arrays made."""
    inputs = take(columns, np.arange(count) % rows_of(columns))
    for values in inputs.values():
        values.flags.writeable = False
    outputs = new_outputs(kernel.workload.columns_out, count)
    scratch = [new_scratch(each, parameters) for each in kernel.workload.scratch]

    def run() -> None:
        kernel.compute(inputs, parameters, outputs, scratch)

    return run


class Timer:
    """Measures calls of one kernel. A call takes `slow_seconds` at most, or not much longer."""

    def __init__(self, session: Session, kernel: Kernel, slow_seconds: float) -> None:
        self._session = session
        self._kernel = kernel
        self._slow_seconds = slow_seconds
        self.has_threads = False
        """True if the kernel was seen to compute in threads of its own."""

    def is_slow(self, seconds: float) -> bool:
        """Return True for a call that is too slow to be made slower."""
        return seconds > self._slow_seconds

    def seconds(
        self, columns: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any], count: int
    ) -> float | None:
        """Return the least seconds of an item; None if the kernel raises, or takes far too long."""
        limit = 20 * self._slow_seconds
        try:
            run = bare_call(self._kernel, columns, parameters, count)
            with self._session.doing(f"timing with {dict(parameters)}", limit), alarm(limit):
                first = self._timed(run, 1)
                if first > self._slow_seconds / 2:
                    return first / count
                times = max(1, int(_LEAST_SECONDS / max(first, 1e-7)))
                return min(first, *(self._timed(run, times) for _ in range(_REPEATS))) / count
        except (TooSlow, Exception):  # what a user's code raises is found elsewhere
            return None

    def _timed(self, run: Callable[[], None], times: int) -> float:
        """Return the seconds of one of several calls: of processor time, or a part of the time that
        they take if they mostly wait.
        """
        started, all_started, own_started = _clocks()
        for _ in range(times):
            run()
        ended, all_ended, own_ended = _clocks()
        used = all_ended - all_started
        others = used - (own_ended - own_started)
        self.has_threads = self.has_threads or others > max(0.3 * used, 1e-3)
        return max(used, (ended - started) / _WAITING) / times


def _clocks() -> tuple[float, float, float]:
    """Return the time, and the processor time of all threads and of this one."""
    return time.perf_counter(), time.process_time(), time.thread_time()


def in_unit(seconds: float) -> str:
    """Return a time in words, with three digits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
