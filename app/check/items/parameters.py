"""Sets of parameters: every one at its bounds, every choice, and a sweep through all values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Final

import numpy as np

from hotloop.app.check.items.values import edges, logarithmic, spread
from hotloop.kernels import Column, InvalidParameterError, Parameter, Workload
from hotloop.kernels.kernel import new_scratch

__all__ = ["ParameterMaker"]

Values = dict[str, Any]

_SEED: Final = 31_337
_SMALL: Final = (2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129)
_MOST_COMBINATIONS: Final = 48


class ParameterMaker:
    """Makes sets of parameters for one workload; each is resolved and allowed.

    `base` are the parameters that the others are varied from.
    """

    def __init__(
        self, workload: Workload, constants: Sequence[float | int], base: Mapping[str, Any]
    ) -> None:
        self._workload = workload
        self._constants = constants
        self._base = dict(base)
        self._random = np.random.default_rng(_SEED)

    def ends(self) -> Iterator[tuple[str, Values]]:
        """Yield sets in which one parameter is at its minimum or maximum, then all of them, each
        with its name.
        """
        numbers = [p for p in self._workload.parameters if p.is_number]
        for way in ("minimum", "maximum"):
            for parameter in numbers:
                yield from self._allowed(
                    f"{parameter.name} at its {way}", {parameter.name: getattr(parameter, way)}
                )
        for way in ("minimum", "maximum"):
            if len(numbers) > 1:
                yield from self._allowed(
                    f"all parameters at their {way}", {p.name: getattr(p, way) for p in numbers}
                )

    def choices(self) -> Iterator[tuple[str, Values]]:
        """Yield sets with every choice and every boolean, in all combinations if these are few."""
        open_ones = [p for p in self._workload.parameters if not p.is_number]
        options = [_options(p) for p in open_ones]
        if math.prod(map(len, options)) <= _MOST_COMBINATIONS:
            sets = [
                dict(zip((p.name for p in open_ones), values, strict=True))
                for values in product(*options)
            ]
        else:
            sets = [
                {p.name: v} for p, values in zip(open_ones, options, strict=True) for v in values
            ]
        for values in sets:
            if values and any(self._base[name] != value for name, value in values.items()):
                words = ", ".join(f"{name}={value!r}" for name, value in values.items())
                yield from self._allowed(words, values)

    def special(self) -> Iterator[tuple[str, Values]]:
        """Yield sets in which one numeric parameter has a special value: small integers, numbers
        from the code and their neighbours.
        """
        for parameter in self._workload.parameters:
            if not parameter.is_number:
                continue
            column = _as_column(parameter)
            found = edges(column, self._constants).tolist()
            if parameter.is_integer:
                least, greatest = column.limits
                found += [v for v in _SMALL if least <= v <= greatest]
            for value in dict.fromkeys(found):
                if math.isfinite(value):
                    yield from self._allowed(f"{parameter.name}={value!r}", {parameter.name: value})

    def sweep(self, count: int) -> Iterator[tuple[str, Values]]:
        """Yield sets in which all parameters change at once, each spread evenly."""
        columns = {
            p.name: spread(_as_column(p), count, self._random).tolist()
            for p in self._workload.parameters
            if p.is_number
        }
        yield from self._sets(count, columns)

    def magnitudes(self, count: int) -> Iterator[tuple[str, Values]]:
        """Yield sets in which all parameters change at once, by magnitude and near the base."""
        columns = {}
        for parameter in self._workload.parameters:
            if parameter.is_number:
                by_size = logarithmic(_as_column(parameter), count, self._random).tolist()
                near = self._near(parameter, count)
                ways = self._random.random(count) < 0.5
                columns[parameter.name] = [
                    one if way else other
                    for way, one, other in zip(ways.tolist(), by_size, near, strict=True)
                ]
        yield from self._sets(count, columns)

    def _sets(self, count: int, numbers: Mapping[str, list[Any]]) -> Iterator[tuple[str, Values]]:
        columns = dict(numbers)
        for parameter in self._workload.parameters:
            if not parameter.is_number:
                options = _options(parameter)
                places = self._random.integers(0, len(options), count).tolist()
                columns[parameter.name] = [options[place] for place in places]
        if columns:
            for row in range(count):
                values = {name: column[row] for name, column in columns.items()}
                yield from self._allowed("a sweep of all parameters", values)

    def _near(self, parameter: Parameter, count: int) -> list[Any]:
        """Return values near the base one, most of which cost about as much."""
        base = self._base[parameter.name]
        least, greatest = parameter.minimum, parameter.maximum
        assert least is not None
        assert greatest is not None
        shares = self._random.random(count).tolist()
        if parameter.is_integer:
            reach = max(2 * (base - int(least)), 64)
            top = min(int(greatest), int(least) + reach)
            return [min(int(least) + int(s * (top - least + 1)), top) for s in shares]
        return [min(max(base * (2 * s), float(least)), float(greatest)) for s in shares]

    def _allowed(self, name: str, changes: Mapping[str, Any]) -> Iterator[tuple[str, Values]]:
        try:
            values = self._workload.resolve_parameters({**self._base, **changes})
            for scratch in self._workload.scratch:
                new_scratch(scratch, values)
        except InvalidParameterError:  # together they are too large, or scratch is
            return
        yield name, values


def _options(parameter: Parameter) -> tuple[Any, ...]:
    return (False, True) if parameter.dtype == "bool" else parameter.choices


def _as_column(parameter: Parameter) -> Column:
    return Column(parameter.name, parameter.dtype, "", parameter.minimum, parameter.maximum)
