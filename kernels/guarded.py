"""A batch of a user's function in which some items fail: the others are computed nevertheless.

A `try` for each item would cost a compiled kernel its vector instructions. So a batch runs without
one, and only a batch that has raised is run again in smaller and smaller parts, which changes no
bit of any item (the contract's rule 4).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from numpy.typing import NDArray

from hotloop.kernels.contract import REFERENCE
from hotloop.kernels.errors import InvalidInputError
from hotloop.kernels.functions.derive import one_line
from hotloop.kernels.kernel import Kernel

__all__ = ["run_in_parts"]

Columns = Mapping[str, NDArray[Any]]

PARTS: Final = 16
"""Parts of a batch that has raised."""

EXPLAINED: Final = 20
"""Failed items of a batch whose reason the plain function is asked for."""

EXPLAINING_SECONDS: Final = 2.0
"""Time after which the plain function is asked no more; a batch may have items of seconds."""

SHORT_SECONDS: Final = 0.005
"""Longest call of a compiled kernel for one item that the plain function is asked about: it may
take a thousand times as long."""

Explain = Callable[[Columns, Mapping[str, Any], int], str | None]
"""Returns what the plain function raises for the item at a position, in one line."""


def run_in_parts(
    kernel: Kernel,
    columns: Columns,
    parameters: Mapping[str, Any],
    out: Columns,
    explain: Explain | None,
) -> dict[int, str]:
    """Compute a batch that has raised, part by part; fill `out`, with 0 where an item fails, and
    return the reasons of these items in one line each, by position.

    Raises `InvalidInputError` and MemoryError, for which no single item is the cause.
    """
    run = _Parts(kernel, columns, parameters, out, explain)
    run.compute(0, len(next(iter(out.values()))))
    return run.reasons


class _Parts:
    def __init__(
        self,
        kernel: Kernel,
        columns: Columns,
        parameters: Mapping[str, Any],
        out: Columns,
        explain: Explain | None,
    ) -> None:
        self.reasons: dict[int, str] = {}
        self._kernel = kernel
        self._columns = columns
        self._parameters = parameters
        self._out = out
        self._explain = explain
        self._explaining_seconds = 0.0

    def compute(self, start: int, end: int) -> None:
        size = max(1, -(-(end - start) // PARTS))
        for first in range(start, end, size):
            part = slice(first, min(first + size, end))
            started = time.perf_counter()
            try:
                self._kernel.run(
                    {name: column[part] for name, column in self._columns.items()},
                    self._parameters,
                    out={name: column[part] for name, column in self._out.items()},
                )
            except (InvalidInputError, MemoryError):
                raise
            except BaseException as fault:  # also sys.exit(), which is no reason to end the process
                if size > 1:
                    self.compute(part.start, part.stop)
                else:
                    seconds = time.perf_counter() - started
                    self.reasons[first] = self._reason(first, fault, seconds)
                    for column in self._out.values():
                        column[first] = 0

    def _reason(self, position: int, fault: BaseException, seconds: float) -> str:
        if self._kernel.name == REFERENCE:
            return one_line(fault)
        if (
            self._explain is not None
            and len(self.reasons) < EXPLAINED
            and seconds <= SHORT_SECONDS
            and self._explaining_seconds < EXPLAINING_SECONDS
        ):
            started = time.perf_counter()
            told = self._explain(self._columns, self._parameters, position)
            self._explaining_seconds += time.perf_counter() - started
            if told is not None:
                return told
        # Its traceback ends in the call of the compiled code, which says nothing of the place.
        return one_line(fault.with_traceback(None))
