"""Values of one column: everywhere within its bounds, and at the places where kernels differ.

Every function returns an array of the column's dtype, within its bounds, that depends on nothing
but its arguments.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hotloop.kernels import Column

__all__ = ["edges", "logarithmic", "neat", "spread"]

_UNBOUNDED: Final = 100.0
"""Values of a float column without bounds are spread from minus to plus this."""

_SPECIAL: Final = (
    *(0.0, 1.0, 0.5, 2.0, 3.0, 10.0, 100.0, 1e3, 1e4, 1e6, 1e9, 1e12, 1e15, 1e16, 1e22),
    *(0.25, 0.75, 1.5, 2.5, 3.5, 4.5, 0.1, 0.01, 1e-3, 1e-6, 1e-9, 1e-12, 1e-16),
    *(1 / 3, math.pi, math.pi / 2, math.pi / 4, 2 * math.pi, math.e, 355.0, math.sqrt(2)),
    *(2.0**23, 2.0**24, 2.0**31, 2.0**32, 2.0**52, 2.0**53, 2.0**63, 2.0**64),
    *(5e-324, 2.2250738585072014e-308, 1e-310, 1.1754943508222875e-38, 1e-45, 1e-40),
    *(1e38, 3.4028234663852886e38, 1e150, 1.3407807929942596e154, 1e200, 1.7976931348623157e308),
    *(709.0, 710.0, 745.0, 88.0, 89.0, 180.0, 90.0, 360.0, 45.0, 127.0, 128.0, 255.0, 256.0),
)
_WILD: Final = 0.3
"""Share of values without a bound that are of any magnitude."""

_WIDTHS: Final = (7, 8, 15, 16, 24, 30, 31, 32, 33, 47, 48, 52, 53, 62, 63, 64)
_MULTIPLES: Final = (2, 3, 5, 7, 8, 10, 16, 32, 60, 64, 100, 128, 256, 1000, 1024, 4096, 65536)
_SMALL: Final = 4096
"""An integer column with at most so many values is tried with all of them."""


def edges(column: Column, constants: Iterable[float | int] = ()) -> NDArray[Any]:
    """Return the bounds, their neighbours, and special values; each once, in rising order.

    `constants` are numbers from the code; they and their neighbours are among the values. A float
    column without bounds also has infinities and NaN.
    """
    if column.is_bool:
        return np.array([False, True])
    if column.is_integer:
        return _integer_edges(column, constants)
    least, greatest = (float(limit) for limit in column.limits)
    signed = [v for s in _SPECIAL for v in (s, -s)]
    wanted = [least, greatest, (least + greatest) / 2, -0.0, *signed, *map(_float, constants)]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        values = np.array(wanted).astype(column.dtype)
        beside = [np.nextafter(values, values.dtype.type(way)) for way in (-np.inf, np.inf)]
    found = _within(column, np.concatenate([values, *beside]))
    if column.minimum is None:
        found = np.append(found, np.array(-np.inf, dtype=column.dtype))
    if column.maximum is None:
        found = np.append(found, np.array(np.inf, dtype=column.dtype))
    if column.minimum is None and column.maximum is None:
        found = np.append(found, np.array(np.nan, dtype=column.dtype))
    # By bits, because 0 and -0 are two values here.
    _, first = np.unique(found.view(f"u{found.itemsize}"), return_index=True)
    found = found[first]
    return found[np.argsort(found, kind="stable")]


def _integer_edges(column: Column, constants: Iterable[float | int]) -> NDArray[Any]:
    least, greatest = (int(limit) for limit in column.limits)
    found = {least, greatest, (least + greatest) // 2, 0, 1, -1, 10, 100, 1000}
    for width in _WIDTHS:
        found |= {2**width, -(2**width), 3 * 2**width // 2}
    for limit in (least, greatest):
        root = math.isqrt(abs(limit))
        found |= {root, -root, limit // 2, limit // 3}
    found |= {int(constant) for constant in constants}
    found |= {value + way for value in found for way in (-1, 1)}
    return np.array(sorted(v for v in found if least <= v <= greatest), dtype=column.dtype)


def spread(column: Column, count: int, random: np.random.Generator) -> NDArray[Any]:
    """Return values in random order, one in each of `count` equal parts between the bounds."""
    if column.is_bool:
        halves: NDArray[Any] = random.permutation(count) % 2 == 0
        return halves
    least, greatest = _finite_limits(column)
    if column.is_integer:
        size = int(greatest) - int(least) + 1
        if size <= min(count, _SMALL):
            return _integers(column, [int(least) + i % size for i in random.permutation(count)])
        # In Python's integers, as a float has too few bits for large ones.
        parts = random.permutation(count).tolist()
        shares = random.integers(0, 2**32, count).tolist()
        chosen = zip(parts, shares, strict=True)
        return _integers(
            column,
            [int(least) + (p * 2**32 + s) * size // (count * 2**32) for p, s in chosen],
        )
    shares_of = (random.permutation(count) + random.random(count)) / max(count, 1)
    # Not `greatest - least`, which may be infinite.
    return _clipped(column, least * (1 - shares_of) + greatest * shares_of)


def logarithmic(column: Column, count: int, random: np.random.Generator) -> NDArray[Any]:
    """Return values of every magnitude, of both signs, and close to both bounds."""
    if column.is_bool:
        return spread(column, count, random)
    least, greatest = column.limits
    kinds = random.integers(0, 4, count)
    places = (random.permutation(count) + random.random(count)) / max(count, 1)
    if column.is_integer:
        lowest, highest = int(least), int(greatest)
        size = highest - lowest

        def one(kind: int, place: float) -> int:
            if kind == 0:
                return lowest + int(_power(1, size + 1, place)) - 1
            if kind == 1:
                return highest - int(_power(1, size + 1, place)) + 1
            sign = 1 if highest > 0 and (kind == 2 or lowest >= 0) else -1
            most = highest if sign > 0 else -lowest
            return sign * int(_power(1, max(most, 1), place))

        values = [one(k, p) for k, p in zip(kinds.tolist(), places.tolist(), strict=True)]
        return _integers(column, [min(max(v, lowest), highest) for v in values])
    tiny = float(np.finfo(column.dtype).tiny)
    lowest_of, highest_of = float(least), float(greatest)
    is_open = column.minimum is None or column.maximum is None
    width = 2 * _UNBOUNDED if is_open else highest_of - lowest_of

    def number(kind: int, place: float, is_wild: bool) -> float:
        if kind == 0 and column.minimum is not None:
            return lowest_of + _power(max(width * 1e-17, tiny), width, place)
        if kind == 1 and column.maximum is not None:
            return highest_of - _power(max(width * 1e-17, tiny), width, place)
        sign = 1.0 if highest_of > 0 and (kind % 2 == 0 or lowest_of >= 0) else -1.0
        far, near = (highest_of, lowest_of) if sign > 0 else (-lowest_of, -highest_of)
        # Between two bounds of the same sign; else down to almost nothing.
        closest = near if near > 0 else max(far * 1e-20, tiny)
        if far > 1e100 and not is_wild:  # without bounds, mostly sane magnitudes
            far, closest = 1e9, 1e-9
        return sign * _power(min(closest, far), far, place)

    wild = random.random(count) < _WILD
    numbers = [
        number(*each) for each in zip(kinds.tolist(), places.tolist(), wild.tolist(), strict=True)
    ]
    return _clipped(column, np.array(numbers, dtype=np.float64))


def neat(column: Column, count: int, random: np.random.Generator) -> NDArray[Any]:
    """Return values as people choose them: whole, half, tenth, multiples of powers of two."""
    values = spread(column, count, random)
    if column.is_bool:
        return values
    steps = random.choice(_MULTIPLES, count)
    if column.is_integer:
        least, greatest = (int(limit) for limit in column.limits)
        chosen = [
            v - v % s if v - v % s >= least else v
            for v, s in zip(values.tolist(), steps.tolist(), strict=True)
        ]
        return _integers(column, [min(max(v, least), greatest) for v in chosen])
    fractions = random.choice([1.0, 0.5, 0.25, 0.125, 0.1, 0.01, 10.0, 100.0], count)
    with np.errstate(over="ignore", invalid="ignore"):
        return _clipped(column, np.round(values.astype(np.float64) / fractions) * fractions)


def _power(low: float | int, high: float | int, place: float) -> float:
    """Return the number at a place from 0 to 1 between two positive ones, by logarithms."""
    if high <= low:
        return float(low)
    return math.exp(math.log(low) * (1 - place) + math.log(high) * place)


def _finite_limits(column: Column) -> tuple[float | int, float | int]:
    least, greatest = column.limits
    if column.is_integer:
        return least, greatest
    if column.minimum is None:
        least = -_UNBOUNDED if column.maximum is None else column.maximum - 2 * _UNBOUNDED
    if column.maximum is None:
        greatest = _UNBOUNDED if column.minimum is None else column.minimum + 2 * _UNBOUNDED
    return float(least), float(greatest)


def _float(number: float | int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.copysign(math.inf, number)


def _integers(column: Column, values: Sequence[int]) -> NDArray[Any]:
    return np.array(values, dtype=column.dtype)


def _clipped(column: Column, values: NDArray[np.float64]) -> NDArray[Any]:
    """Return finite values in the column's dtype and within its bounds, which it may not have."""
    least, greatest = column.limits
    with np.errstate(over="ignore", invalid="ignore"):
        made = np.clip(np.nan_to_num(values, nan=0.0), least, greatest).astype(column.dtype)
    # A bound may lie between two values of a small float.
    low, high = inner_limits(column)
    clipped: NDArray[Any] = np.clip(made, low, high)
    return clipped


def inner_limits(column: Column) -> tuple[Any, Any]:
    """Return the least and the greatest value of the dtype that lie within the bounds."""
    if not column.dtype.startswith("float"):
        return column.limits
    kind = np.dtype(column.dtype).type
    least, greatest = column.limits
    low, high = kind(least), kind(greatest)
    if float(low) < least:
        low = np.nextafter(low, kind(np.inf))
    if float(high) > greatest:
        high = np.nextafter(high, kind(-np.inf))
    return low, high


def _within(column: Column, values: NDArray[Any]) -> NDArray[Any]:
    least, greatest = column.limits
    wide = values.astype(np.float64)
    return values[(wide >= least) & (wide <= greatest)]
