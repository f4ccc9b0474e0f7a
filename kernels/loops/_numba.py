"""The `numba` kernel of `loops`: same contract as `_python`.

Nothing is compiled at import. `warm_up()` compiles each function for one signature and forbids any
other, so no request pays for compilation twice. There is no disk cache: several processes that
share one have crashed on it, so each process compiles for itself.
"""

from math import cos, sin, sqrt
from threading import Lock
from typing import Final

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

INSTRUCTION_SET: Final[str | None] = None
RELEASES_GIL: Final = True


# fastmath would reorder and contract, and so change bits between kernels and machines.
njit_kernel = njit(nogil=True, fastmath=False, cache=False, error_model="python")


@njit_kernel
def loop(value: NDArray[np.float64], cpu_iterations: int, out: NDArray[np.float64]) -> None:
    """Same contract as `_python.loop`; releases the GIL for the whole batch."""
    for index in range(value.shape[0]):
        start = value[index]
        acc = 0.0
        for i in range(cpu_iterations):
            t = start + i
            acc += sqrt(t) * sin(t) * cos(t)
        out[index] = acc


@njit_kernel
def nested(
    offset: NDArray[np.int64], outer_iterations: int, inner_iterations: int, out: NDArray[np.int64]
) -> None:
    """Same contract as `_python.nested`; releases the GIL for the whole batch."""
    # 64 bits are enough: a term is below 2**34 and a sum below 2**40.
    for index in range(offset.shape[0]):
        start = offset[index]
        total = 0
        for i in range(outer_iterations):
            for j in range(inner_iterations):
                total += (i * j + start) % 1000
        out[index] = total


def _input(dtype: types.Type) -> types.Type:
    # Inputs arrive as read-only views, which numba types apart from writable arrays.
    return types.Array(dtype, 1, "C", readonly=True)


def _output(dtype: types.Type) -> types.Type:
    return types.Array(dtype, 1, "C")


_SIGNATURES: Final = (
    (loop, (_input(types.float64), types.int64, _output(types.float64))),
    (nested, (_input(types.int64), types.int64, types.int64, _output(types.int64))),
)
_lock: Final = Lock()


def warm_up() -> None:
    """Compile every function, once in this process, while other callers wait."""
    with _lock:
        for function, signature in _SIGNATURES:
            if not function.signatures:
                function.compile(signature)
                function.disable_compile()
