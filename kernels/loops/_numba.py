"""The `numba` kernel of `loops`: same contract as `_python`.

Nothing is compiled at import. `warm_up()` compiles each function for one signature and forbids any
other, so no request pays for compilation twice. There is no disk cache: several processes that
share one have crashed on it, so each process compiles for itself, or has what the process compiled
that it was forked from.

`loop` has the operations of `_lanes_arithmetic.h` in the same order, and the reasons are given
there. The compiler vectorises the short loops over `lane` and `k`, whose length it knows.
"""

from collections.abc import Mapping
from math import sqrt
from threading import Lock
from types import MappingProxyType, SimpleNamespace
from typing import Final

import numpy as np
from numba import njit, types
from numba.core.registry import cpu_target
from numpy.typing import NDArray

from hotloop.kernels.loops._numba_intrinsics import LANES, flip_sign, fma, stack_doubles

# fastmath would reorder and contract, and so change bits between kernels and machines.
njit_kernel = njit(nogil=True, fastmath=False, cache=False, error_model="python")


@njit_kernel
def _term(t: float) -> float:
    shifted = fma(t, 0.6366197723675814, 6755399441055744.0)
    q = shifted - 6755399441055744.0
    r = fma(q, -1.5707963267948966, t)
    r = fma(q, -6.123233995736766e-17, r)
    r = fma(q, 1.4973849048591833e-33, r)
    z = r * r

    sine = 1.58969099521155010221e-10
    sine = fma(sine, z, -2.50507602534068634195e-08)
    sine = fma(sine, z, 2.75573137070700676789e-06)
    sine = fma(sine, z, -1.98412698298579493134e-04)
    sine = fma(sine, z, 8.33333333332248946124e-03)
    sine = fma(sine, z, -1.66666666666666324348e-01)
    sine = fma(r * z, sine, r)

    cosine = -1.13596475577881948265e-11
    cosine = fma(cosine, z, 2.08757232129817482790e-09)
    cosine = fma(cosine, z, -2.75573143513906633035e-07)
    cosine = fma(cosine, z, 2.48015872894767294178e-05)
    cosine = fma(cosine, z, -1.38888888888741095749e-03)
    cosine = fma(cosine, z, 4.16666666666666019037e-02)
    cosine = fma(cosine, z, -0.5)
    cosine = fma(cosine, z, 1.0)

    return flip_sign(sqrt(t) * sine * cosine, shifted)


@njit_kernel
def loop(value: NDArray[np.float64], cpu_iterations: int, out: NDArray[np.float64]) -> None:
    """Same contract as `_python.loop`; releases the GIL for the whole batch."""
    size = value.shape[0]
    whole = size - size % LANES
    start = stack_doubles()
    sums = stack_doubles()
    # Items side by side.
    for index in range(0, whole, LANES):
        for lane in range(LANES):
            start[lane] = value[index + lane]
            sums[lane] = 0.0
        for i in range(cpu_iterations):
            turn = float(i)
            for lane in range(LANES):
                sums[lane] += _term(start[lane] + turn)
        for lane in range(LANES):
            out[index + lane] = sums[lane]
    # What is left over item by item, its terms side by side. Counted in doubles, for AVX2 cannot
    # convert wide integers.
    ramp = start
    terms = sums
    for k in range(LANES):
        ramp[k] = float(k)
    for index in range(whole, size):
        acc = 0.0
        for i in range(0, cpu_iterations, LANES):
            turn = float(i)
            for k in range(LANES):
                terms[k] = _term(value[index] + (turn + ramp[k]))
            for k in range(min(LANES, cpu_iterations - i)):
                acc += terms[k]
        out[index] = acc


@njit_kernel
def nested(
    offset: NDArray[np.int64], outer_iterations: int, inner_iterations: int, out: NDArray[np.int64]
) -> None:
    """Same contract as `_python.nested`; releases the GIL for the whole batch."""
    rows = np.uint32(min(outer_iterations, inner_iterations))
    row = np.uint32(max(outer_iterations, inner_iterations))
    # 32 bits are enough for a term, which is below 2**32, and for a row, which is below 10**8.
    for index in range(offset.shape[0]):
        start = np.uint32(offset[index])
        total = np.int64(0)
        for i in range(rows):
            part = np.uint32(0)
            for j in range(row):
                term = np.uint32(np.uint32(i) * np.uint32(j) + start)
                part = np.uint32(part + np.uint32(term % np.uint32(1000)))
            total += np.int64(part)
        out[index] = total


def _host_instruction_set() -> str:
    """Return the name of what this compiler uses: all that the processor has."""
    features = cpu_target.target_context.codegen().magic_tuple()[-1].split(",")
    if "+avx512f" in features:
        return "avx512f"
    if "+avx2" in features and "+fma" in features:
        return "avx2+fma"
    return "baseline"


INSTRUCTION_SETS: Final[Mapping[str, object]] = MappingProxyType(
    {_host_instruction_set(): SimpleNamespace(loop=loop, nested=nested)}
)


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
