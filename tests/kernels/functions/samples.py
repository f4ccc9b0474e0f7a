"""Functions as users write them, for the tests of `kernels/functions`."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

import hotloop

LIMIT = 4.0


def growth(rate: float, step: float) -> float:
    return math.exp(rate * math.sqrt(step))


@hotloop.workload
def ratio(x: float, divisor: int = 2) -> float:
    """Divide a number."""
    return x / divisor


@hotloop.workload
def kinds(flag: bool, n: int, x: float, mode: Literal["up", "down"] = "up") -> tuple[int, bool]:
    return (n // 3 if mode == "up" else -n // 3), flag and x > 0.5


@hotloop.workload(
    columns={
        "spot": hotloop.Float(0.01, 1e6, unit="EUR", description="price now"),
        "strike": hotloop.Float(0.01, 1e6),
    },
    parameters={
        "steps": hotloop.Integer(1, 1_000, default=20),
        "rate": hotloop.Float(0.001, 5.0, default=0.2),
        "kind": hotloop.Choice("put", "call"),
        "early": hotloop.Bool(default=True),
    },
    outputs={"price": hotloop.Float(), "nodes": hotloop.Integer(dtype="int32")},
    scratch={"values": hotloop.Scratch("float64", "steps + 2")},
    cost={"nodes": "steps * (steps + 1) / 2", "start": "steps"},
)
def tree(  # type: ignore[no-untyped-def]  # as users write it
    spot, strike, steps, rate, kind, early, values
):
    up = growth(rate, 1.0 / steps)
    chance = (1 - 1 / up) / (up - 1 / up)
    sign = 1.0 if kind == "put" else -1.0
    count = 0
    for i in range(steps + 1):
        values[i] = max(sign * (strike - spot * up ** (2 * i - steps)), 0.0)
    for level in range(steps - 1, -1, -1):
        for i in range(level + 1):
            values[i] = chance * values[i + 1] + (1 - chance) * values[i]
            if early:
                values[i] = max(values[i], sign * (strike - spot * up ** (2 * i - level)))
            count += 1
    return values[0], count


@hotloop.workload(
    columns={
        "bytes_": hotloop.Integer(0, 255, dtype="uint8", width=5),
        "weights": hotloop.Float(-1, 1, dtype="float32", width=5),
        "scale": hotloop.Integer(-100, 100, dtype="int8"),
    },
    outputs={"total": hotloop.Float()},
)
def dot(bytes_, weights, scale):  # type: ignore[no-untyped-def]  # as users write it
    total = 0.0
    for i in range(len(bytes_)):
        # Differences of unsigned numbers are negative in Python.
        total += (bytes_[i] - bytes_[0]) * weights[i] * scale
    return total


@hotloop.workload
def fussy(x: float) -> float:
    if x < 0.25:
        raise ValueError("too small")
    return 1.0 / (x - 0.5)


@hotloop.workload
def not_for_numba(x: float) -> float:
    return float(sum(int(digit) for digit in f"{x:.3f}" if digit != "."))


@ratio.kernel("compiled")  # type: ignore[untyped-decorator]
@njit(nogil=True)
def ratio_compiled(x: NDArray[Any], divisor: int, result: NDArray[Any]) -> None:
    for i in range(x.shape[0]):
        result[i] = x[i] / divisor


def ratio_numpy(x: NDArray[Any], divisor: int, result: NDArray[Any]) -> None:
    np.divide(x, divisor, out=result)


ratio.kernel("numpy", "tests.kernels.functions.samples:ratio_numpy")
ratio.kernel("missing", "tests.kernels.functions.samples:nothing", releases_gil=False)


@hotloop.workload
def powers(x: float, n: int, y: float = 0.7) -> tuple[float, float, int]:
    cube = x
    cube **= 3
    return x**2 + x**y + pow(x, -1) + math.pow(x, 2.0), cube * x ** (n % 7), n**2


@hotloop.workload(outputs={"result": hotloop.Float()})
def power_errors(x: float):  # type: ignore[no-untyped-def]  # as users write it
    return (x - 0.5) ** -3 + 10.0 ** (x * 400)
