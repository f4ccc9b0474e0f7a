"""From timed calls to the constants of a kernel: a fit in which no cost is negative."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hotloop.kernels import Workload

LEVELS: Final = 5
"""Times that parameters are halved, twice each: down to a thousandth of the default."""

TOP_WEIGHT: Final = 3.0
"""Weight of the costliest setting, which is nearest to what requests ask for."""

ROUNDING: Final = 1e-12


class Point(NamedTuple):
    """What an item took under some parameters, in a call with many items."""

    operations: Mapping[str, float]
    seconds: float
    """Seconds of an item, without its share of the call."""


class Fit(NamedTuple):
    """Seconds of an item: `item_seconds`, and those of each operation by term."""

    item_seconds: float
    operation_seconds: Mapping[str, float]

    def seconds(self, operations: Mapping[str, float]) -> float:
        terms = (self.operation_seconds[term] * count for term, count in operations.items())
        return self.item_seconds + sum(terms)


def settings_of(workload: Workload, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return parameters to measure a kernel with, the cheapest first and `asked` last.

    Parameters that the terms name are lowered geometrically, together and each by itself, so that
    each term shows in some setting.
    """
    factors = {name for term in workload.terms for name in term.factors}
    lowered = [p for p in workload.parameters if p.name in factors and p.is_number]
    found = [dict(asked)]
    for level in range(1, LEVELS + 1):
        groups = [lowered] if len(lowered) == 1 else [lowered, *([p] for p in lowered)]
        for group in groups:
            found.append(dict(asked))
            for each in group:
                assert each.minimum is not None
                value = asked[each.name] / 4**level
                value = int(value) if each.is_integer else value
                found[-1][each.name] = max(each.minimum, value)
    different = {tuple(workload.operations(each).values()): each for each in reversed(found)}
    top = different.pop(tuple(workload.operations(asked).values()))
    return [*sorted(different.values(), key=lambda e: sum(workload.operations(e).values())), top]


def fitted(terms: Sequence[str], points: Sequence[Point]) -> Fit:
    """Return the costs that meet the last point exactly and the others as closely as can be.

    Errors count by their share of the measured seconds. An item's own cost is left out if a term is
    as constant as it is, because both could not be told apart.
    """
    rows = np.array([[p.operations[term] for term in terms] for p in points], dtype=np.float64)
    seconds = np.array([max(p.seconds, ROUNDING) for p in points])
    has_constant = any(np.ptp(column) == 0 and column[0] > 0 for column in rows.T)
    if not has_constant:
        rows = np.column_stack([rows, np.ones(len(points))])
    weights = 1.0 / seconds
    weights[-1] *= TOP_WEIGHT
    costs = non_negative_least_squares(rows * weights[:, np.newaxis], seconds * weights)
    top = float(rows[-1] @ costs)
    if top > 0:
        costs *= seconds[-1] / top
    item = 0.0 if has_constant else float(costs[-1])
    return Fit(item, {term: float(cost) for term, cost in zip(terms, costs, strict=False)})


def non_negative_least_squares(
    matrix: NDArray[np.float64], wanted: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the x ≥ 0 that minimises |matrix · x − wanted|, after Lawson and Hanson (1974)."""
    # Columns of one length, so that one bound fits all.
    lengths = np.linalg.norm(matrix, axis=0)
    lengths[lengths == 0] = 1.0
    scaled = matrix / lengths
    count = scaled.shape[1]
    found, active = np.zeros(count), np.zeros(count, dtype=bool)
    enough = 1e-10 * np.linalg.norm(wanted)
    for _ in range(3 * count):
        slope = scaled.T @ (wanted - scaled @ found)
        slope[active] = 0.0
        if slope.max() <= enough:
            break
        active[int(slope.argmax())] = True
        while True:
            best = np.zeros(count)
            if active.any():
                best[active] = np.linalg.lstsq(scaled[:, active], wanted, rcond=None)[0]
            wrong = active & (best <= 0)
            if not wrong.any():
                break
            share = (found[wrong] / (found[wrong] - best[wrong])).min()
            found += share * (best - found)
            active &= found > ROUNDING
        found = best
    costs: NDArray[np.float64] = found / lengths
    return costs
