"""A function that takes as long as it is told to."""

from __future__ import annotations

import hotloop


@hotloop.workload(
    columns={"value": hotloop.Float(0.0, 100.0)},
    parameters={"rounds": hotloop.Integer(1, 10_000_000_000, default=1_000)},
)
def spin(value: float, rounds: int) -> float:
    """Iterate a contraction."""
    for _ in range(rounds):
        value = value * 0.999 + 0.001
    return value
