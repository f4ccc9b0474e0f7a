"""Batches of items that break careless kernels: typical ones, any others, and special structures.

A batch maps the names of the input columns to arrays, each of shape (n,) or (n, width), within the
declared bounds. Equal arguments give equal batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, islice, product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hotloop.app.check.items.values import edges, inner_limits, logarithmic, neat, spread
from hotloop.kernels import Column, InvalidColumnError, Workload
from hotloop.kernels.kernel import checked_inputs

__all__ = ["Columns", "RowMaker", "rows_of", "take"]

Columns = Mapping[str, NDArray[Any]]

MOST_VALUES: Final = 200_000
"""Values of a column in one batch, so that vectors do not make batches large."""

_SEED: Final = 20_240_229
_TYPICAL, _SPREAD, _LOGARITHMIC, _NEAT, _EDGE = range(5)
_WAYS: Final = 5
_CORNERS: Final = 128


def rows_of(columns: Columns) -> int:
    """Return the number of items of a batch."""
    return len(next(iter(columns.values())))


def take(columns: Columns, rows: Any) -> dict[str, NDArray[Any]]:
    """Return the items at these positions, or in this slice, as a batch of their own."""
    return {name: np.ascontiguousarray(values[rows]) for name, values in columns.items()}


class RowMaker:
    """Makes batches for one workload. `constants` are numbers from the user's code."""

    def __init__(self, workload: Workload, constants: Sequence[float | int]) -> None:
        self._columns = workload.columns_in
        self._workload = workload
        self._random = np.random.default_rng(_SEED)
        self._edges = {column.name: edges(column, constants) for column in self._columns}
        self._taken = 0
        widest = max(column.width or 1 for column in self._columns)
        self.most = max(16, MOST_VALUES // widest)
        """Items that a batch has at most."""
        self.fault: str | None = None
        """What is wrong with the simulated items of the workload, in words."""

    def typical(self, count: int) -> dict[str, NDArray[Any]]:
        """Return simulated items, as the workload's own runs have them; each call other ones.

        If they cannot be made, or are out of bounds, `fault` says so, and others are returned.
        """
        ids = np.arange(self._taken, self._taken + min(count, self.most), dtype=np.int64)
        self._taken += len(ids)
        if self.fault is None:
            try:
                made = self._workload.simulated_columns(ids)
                checked_inputs(self._columns, made)
                return made
            except InvalidColumnError as error:
                self.fault = str(error)
        return self.spread(count)

    def spread(self, count: int) -> dict[str, NDArray[Any]]:
        """Return items that are everywhere within the bounds."""
        count = min(count, self.most)
        return {column.name: self._made(column, _SPREAD, count) for column in self._columns}

    def mixed(self, count: int) -> dict[str, NDArray[Any]]:
        """Return a mixture: typical items, typical but for one column, and any others."""
        count = min(count, self.most)
        random, width = self._random, len(self._columns)
        ways = np.full((count, width), _TYPICAL)
        kinds = random.permutation(count) % 20
        one = (kinds >= 3) & (kinds < 7)
        ways[one, random.integers(0, width, int(one.sum()))] = random.integers(
            _SPREAD, _WAYS, int(one.sum())
        )
        ways[(kinds >= 7) & (kinds < 12)] = _SPREAD
        own = (kinds >= 12) & (kinds < 17)
        ways[own] = random.choice(
            (_SPREAD, _LOGARITHMIC, _NEAT, _EDGE), (int(own.sum()), width), p=(0.3, 0.3, 0.15, 0.25)
        )
        ways[kinds == 17] = _LOGARITHMIC
        ways[kinds == 18] = _NEAT
        ways[kinds == 19] = _EDGE
        made = self._by_ways(ways)
        for row in np.flatnonzero(random.random(count) < 0.08):
            self._equal(made, int(row), None)
        return made

    def edge_rows(self, most: int, parameters: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Return items with every edge of every column, beside typical values and beside edges,
        corners of the bounds, and equal columns, also equal to `parameters`; at most `most`.
        """
        random = self._random
        wanted = [(c, value) for c in self._columns for value in self._edges[c.name]]
        fixed = [*self._plain_rows(), *islice(self._corners(), _CORNERS)]
        equals = 4 * (len(list(combinations(self._columns, 2))) + len(parameters)) + 16
        count = min(2 * len(wanted) + len(fixed) + equals, most, self.most)
        ways = np.where(random.random((count, 1)) < 0.5, _TYPICAL, _EDGE)
        made = self._by_ways(np.repeat(ways, len(self._columns), axis=1))
        places = random.permutation(count).tolist()
        for values in fixed[: count // 2]:
            row = places.pop()
            for column, value in zip(self._columns, values, strict=True):
                made[column.name][row] = value
        numbers = [v for v in parameters.values() if isinstance(v, int | float)]
        for _ in range(min(equals, len(places) // 2)):
            self._equal(made, places.pop(), numbers)
        order = random.permutation(len(wanted)).tolist()
        for place, row in enumerate(places):
            column, value = wanted[order[place % len(order)]]
            if column.width is None or random.random() < 0.5:
                made[column.name][row] = value
            else:
                made[column.name][row, random.integers(0, column.width)] = value
        return made

    def structures(self, count: int) -> dict[str, dict[str, NDArray[Any]]]:
        """Return batches whose items stand in a relation to their neighbours, by a name for each:
        sorted, alternating, or with one column, or all but one, constant.
        """
        count = min(count, self.most)
        made: dict[str, dict[str, NDArray[Any]]] = {}
        plain = self.mixed(count)
        for column in self._columns:
            name = column.name
            values = plain[name] if column.width is None else plain[name][:, 0]
            order = np.argsort(values, kind="stable")
            made[f"sorted by {name}"] = take(plain, order)
            made[f"sorted by {name}, falling"] = take(plain, order[::-1])
            if len(self._columns) > 1:
                mixture = self.mixed(count)
                made[f"{name} constant"] = {**mixture, name: self._constant(mixture[name])}
                made[f"all but {name} constant"] = {
                    other: values if other == name else self._constant(values)
                    for other, values in self.mixed(count).items()
                }
        pair = self.mixed(2)
        made["two items in turn"] = take(pair, np.arange(count) % 2)
        made["runs of equal items"] = take(self.mixed(count), np.arange(count) // 5 % count)
        return made

    def _plain_rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield items of the same value in every column, as far as the bounds allow: 0, -0, 1, the
        bounds; each with both values of boolean columns.
        """
        switches = (False, True) if any(c.is_bool for c in self._columns) else (False,)
        for number in (0.0, -0.0, 1.0, -1.0, None, math.inf):
            for is_on in switches:
                yield tuple(
                    is_on if column.is_bool else self._nearest(column, number)
                    for column in self._columns
                )

    def _nearest(self, column: Column, number: float | None) -> Any:
        found = self._edges[column.name]
        if number is None:
            return found[0]
        if number == math.inf:
            return found[-1]
        finite = found[np.isfinite(found)].astype(np.float64)
        # 0 and -0 are equally near.
        near = np.flatnonzero(np.abs(finite - number) == np.abs(finite - number).min())
        signs = np.signbit(finite[near]) == np.signbit(number)
        chosen = near[signs][0] if signs.any() else near[0]
        return found[np.isfinite(found)][chosen]

    def _corners(self) -> Iterator[tuple[Any, ...]]:
        """Yield items of bounds only, in every combination."""
        yield from product(
            *((self._edges[c.name][0], self._edges[c.name][-1]) for c in self._columns)
        )

    def _constant(self, values: NDArray[Any]) -> NDArray[Any]:
        chosen = values[self._random.integers(0, len(values))]
        return np.ascontiguousarray(np.broadcast_to(chosen, values.shape))

    def _by_ways(self, ways: NDArray[np.int_]) -> dict[str, NDArray[Any]]:
        count = len(ways)
        made: dict[str, NDArray[Any]] = dict(self.typical(count))
        for place, column in enumerate(self._columns):
            values = made[column.name] = made[column.name].copy()
            for way in range(_SPREAD, _WAYS):
                rows = np.flatnonzero(ways[:, place] == way)
                values[rows] = self._made(column, way, len(rows))
        return made

    def _made(self, column: Column, way: int, count: int) -> NDArray[Any]:
        if column.width is None:
            return self._values(column, way, count)
        values = self._values(column, way, count * column.width).reshape(count, column.width)
        # Whole vectors have structures, too.
        for row, structure in enumerate(self._random.integers(0, 8, count).tolist()):
            if structure == 0:
                values[row].sort()
            elif structure == 1:
                values[row] = values[row, 0]
            elif structure == 2:
                values[row] = np.sort(values[row])[::-1]
            elif structure == 3:
                place = int(self._random.integers(0, column.width))
                kept = values[row, place]
                values[row] = self._edges[column.name][len(self._edges[column.name]) // 2]
                values[row, place] = kept
        return values

    def _values(self, column: Column, way: int, count: int) -> NDArray[Any]:
        if way == _EDGE:
            return self._random.choice(self._edges[column.name], count)
        makers: dict[int, Callable[[Column, int, np.random.Generator], NDArray[Any]]] = {
            _SPREAD: spread,
            _LOGARITHMIC: logarithmic,
            _NEAT: neat,
        }
        return makers[way](column, count, self._random)

    def _equal(
        self, made: dict[str, NDArray[Any]], row: int, numbers: Sequence[float | int] | None
    ) -> None:
        """Make a column of this item equal, opposite or next to another one, or to a number."""
        random = self._random
        target = self._columns[int(random.integers(0, len(self._columns)))]
        if target.is_bool:
            return
        others = [c for c in self._columns if c.name != target.name and c.width == target.width]
        given: Any
        if others and not (numbers and random.random() < 0.3):
            given = made[others[int(random.integers(0, len(others)))].name][row]
        elif numbers:
            given = numbers[int(random.integers(0, len(numbers)))]
        else:
            return
        value = np.asarray(given).astype(np.float64)
        low, high = (float(limit) for limit in inner_limits(target))
        kind = int(random.integers(0, 6))
        with np.errstate(all="ignore"):
            if kind == 3:
                value = -value
            elif kind == 4:
                value = 2 * value
            elif kind == 5:
                step = np.abs(np.spacing(value.astype(target.dtype))).astype(np.float64)
                value = value + (1 if target.is_integer else step) * (-1) ** row
        value = np.where(np.isnan(value), low, np.clip(value, low, high))
        if target.is_integer:
            ends = (int(limit) for limit in target.limits)
            first, last = ends
            flat = [
                min(max(int(v), first), last) for v in np.atleast_1d(value).reshape(-1).tolist()
            ]
            value = np.array(flat, dtype=target.dtype).reshape(value.shape)
        made[target.name][row] = value
