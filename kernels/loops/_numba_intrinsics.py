"""Operations that the numba kernel needs and numba does not offer, as LLVM instructions.

`fma` is the fused multiply-add: one instruction where the processor has it, elsewhere a call of the
C library's `fma`, slower and with the same bits.
"""

from collections.abc import Callable
from typing import Any, Final, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

__all__ = ["LANES", "flip_sign", "fma", "stack_doubles"]

# Wide enough for the compiler to vectorise the loop over it and keep the sums in registers: with
# 16 lanes it did neither well, and took 5 times as long.
LANES: Final = 64

Lowered = tuple[Any, Callable[[Any, Any, Any, Any], Any]]

_DOUBLE: Final = ir.DoubleType()
_BITS: Final = ir.IntType(64)


def _fma(typing_context: Any, a: Any, b: Any, c: Any) -> Lowered:
    """Return `a * b + c`, rounded once."""

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float64(types.float64, types.float64, types.float64), lower


def _flip_sign(typing_context: Any, x: Any, parity: Any) -> Lowered:
    """Return `x`, with its sign changed where the lowest bit of the double `parity` is set."""

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits, parity_bits = (builder.bitcast(argument, _BITS) for argument in arguments)
        sign = builder.shl(parity_bits, ir.Constant(_BITS, 63))
        return builder.bitcast(builder.xor(bits, sign), _DOUBLE)

    return types.float64(types.float64, types.float64), lower


def _stack_doubles(typing_context: Any) -> Lowered:
    """Return a pointer to LANES doubles on the caller's stack: nothing is allocated or freed.

    The compiler knows that no other pointer leads there, and so vectorises without asking.
    """

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        memory = cgutils.alloca_once(builder, ir.ArrayType(_DOUBLE, LANES))
        memory.align = 64
        return builder.bitcast(memory, _DOUBLE.as_pointer())

    return types.CPointer(types.float64)(), lower


# What the compiled functions see: an intrinsic takes no typing context there.
fma: Final = cast("Callable[[float, float, float], float]", intrinsic(_fma))
flip_sign: Final = cast("Callable[[float, float], float]", intrinsic(_flip_sign))
stack_doubles: Final = cast("Callable[[], NDArray[np.float64]]", intrinsic(_stack_doubles))
