"""In which order cells are measured, and how much of the budget each may take."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def shuffled(cells: Sequence[T], seed: str, round_number: int) -> list[T]:
    """The cells in the order of a round: another one in each round, the same for the same seed,
    so that neither what comes before a cell nor a slow drift of the machine favours any.
    """
    order = list(cells)
    random.Random(f"{seed}:{round_number}").shuffle(order)
    return order


def shares(budget: float, costs: Sequence[float]) -> list[float]:
    """How much of the budget each may take: what it needs, or an equal part of what is left by
    those that need less than that (max-min fairness).
    """
    given = [0.0] * len(costs)
    left, open_count = max(0.0, budget), len(costs)
    for index in sorted(range(len(costs)), key=costs.__getitem__):
        given[index] = min(costs[index], left / open_count)
        left -= given[index]
        open_count -= 1
    return given
