"""The five workloads of examples/workloads by hand, in Numba: batches in, one output filled.

They compute what the plain functions do, to the bit. The names that end in `side_by_side` compute
several items at once, for those workloads that gain from it.
"""

from math import asin, exp, inf, radians, sin, sqrt

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

EARTH_KM = 6371.0088
LANES = 16

compiled = njit(nogil=True, error_model="python")


@compiled
def american(
    spot: Floats,
    strike: Floats,
    years: Floats,
    steps: int,
    volatility: float,
    rate: float,
    dividends: float,
    call: bool,
    out: Floats,
) -> None:
    """Fill `out`; two levels of the tree in one pass, so that memory is crossed half as often."""
    values, even, odd = np.empty(steps + 1), np.empty(steps + 1), np.empty(steps + 1)
    sign = 1.0 if call else -1.0
    for item in range(len(out)):
        step = years[item] / steps
        up = exp(volatility * sqrt(step))
        probability = (exp((rate - dividends) * step) - 1.0 / up) / (up - 1.0 / up)
        rise = exp(-rate * step) * probability
        fall = exp(-rate * step) * (1.0 - probability)
        price = spot[item] * exp(-volatility * sqrt(step) * steps)
        for node in range(steps + 1):
            even[node] = sign * (price - strike[item])
            odd[node] = sign * (price * up - strike[item])
            values[node] = max(even[node], 0.0)
            price *= up * up
        for pair in range(steps // 2):
            last = steps - 1 - 2 * pair
            first_gains, second_gains = odd[pair:], even[pair + 1 :]
            for node in range(last):
                lower = rise * values[node + 1] + fall * values[node]
                lower = lower if lower > first_gains[node] else first_gains[node]
                upper = rise * values[node + 2] + fall * values[node + 1]
                gain = first_gains[node + 1]
                upper = upper if upper > gain else gain
                held = rise * upper + fall * lower
                values[node] = held if held > second_gains[node] else second_gains[node]
        if steps % 2:
            held = rise * values[1] + fall * values[0]
            values[0] = max(held, odd[steps // 2])
        out[item] = values[0]


@compiled
def mandelbrot(real: Floats, imaginary: Floats, max_turns: int, out: Integers) -> None:
    """Fill `out` item by item."""
    for item in range(len(out)):
        x, y, a, b = 0.0, 0.0, real[item], imaginary[item]
        turns = max_turns
        for turn in range(max_turns):
            xx, yy = x * x, y * y
            if xx + yy > 4.0:
                turns = turn
                break
            y = 2.0 * x * y + b
            x = xx - yy + a
        out[item] = turns


@compiled
def haversine(
    from_latitude: Floats,
    from_longitude: Floats,
    to_latitude: Floats,
    to_longitude: Floats,
    out: Floats,
) -> None:
    """Fill `out` item by item."""
    for item in range(len(out)):
        north = sin(radians(to_latitude[item] - from_latitude[item]) / 2.0)
        east = sin(radians(to_longitude[item] - from_longitude[item]) / 2.0)
        middle = sin(radians(to_latitude[item] + from_latitude[item]) / 2.0)
        square = north * north + (1.0 - north * north - middle * middle) * east * east
        out[item] = 2.0 * EARTH_KM * asin(sqrt(max(square, 0.0)))


@compiled
def dtw(left: Floats, right: Floats, out: Floats) -> None:
    """Fill `out`; two lines of an even number in one pass, so that two sums are on their way."""
    lines, columns = left.shape[1], right.shape[1]
    row = np.empty(columns)
    for item in range(len(out)):
        others = right[item]
        row[:] = inf
        for line in range(0, lines, 2):
            first, second = left[item, line], left[item, line + 1]
            corner = 0.0 if line == 0 else inf
            cell, corner_below, below = inf, inf, inf
            for column in range(columns):
                above, other = row[column], others[column]
                least = above if above < corner else corner
                cell = abs(first - other) + (cell if cell < least else least)
                corner = above
                least = cell if cell < corner_below else corner_below
                below = abs(second - other) + (below if below < least else least)
                corner_below = cell
                row[column] = below
        out[item] = row[columns - 1]


@compiled
def bytes_hash(data: NDArray[np.uint8], out: Integers) -> None:
    """Fill `out` item by item, in 32 bits."""
    prime = np.uint32(16777619)
    for item in range(len(out)):
        digest = np.uint32(2166136261)
        for index in range(data.shape[1]):
            digest = np.uint32((digest ^ data[item, index]) * prime)
        out[item] = digest


@compiled
def _escape(x: float, y: float, a: float, b: float, turn: int, max_turns: int) -> int:
    while turn < max_turns:
        xx, yy = x * x, y * y
        if xx + yy > 4.0:
            return turn
        y = 2.0 * x * y + b
        x = xx - yy + a
        turn += 1
    return max_turns


@compiled
def mandelbrot_side_by_side(real: Floats, imaginary: Floats, max_turns: int, out: Integers) -> None:
    """Fill `out`, two items at once; when one is done the next item takes its place."""
    count = len(out)
    if count < 2:
        return mandelbrot(real, imaginary, max_turns, out)
    first, second, following = 0, 1, 2
    x, y, turn = 0.0, 0.0, 0
    u, v, other_turn = 0.0, 0.0, 0
    while True:
        xx, yy = x * x, y * y
        if xx + yy > 4.0 or turn == max_turns:
            out[first] = turn
            if following == count:
                out[second] = _escape(u, v, real[second], imaginary[second], other_turn, max_turns)
                return None
            first, following = following, following + 1
            xx, yy, x, y, turn = 0.0, 0.0, 0.0, 0.0, 0
        y, x, turn = 2.0 * x * y + imaginary[first], xx - yy + real[first], turn + 1
        uu, vv = u * u, v * v
        if uu + vv > 4.0 or other_turn == max_turns:
            out[second] = other_turn
            if following == count:
                out[first] = _escape(x, y, real[first], imaginary[first], turn, max_turns)
                return None
            second, following = following, following + 1
            uu, vv, u, v, other_turn = 0.0, 0.0, 0.0, 0.0, 0
        v, u, other_turn = 2.0 * u * v + imaginary[second], uu - vv + real[second], other_turn + 1


@compiled
def dtw_side_by_side(left: Floats, right: Floats, out: Floats) -> None:
    """Fill `out`, sixteen items at once; the rest of the batch item by item."""
    lines, columns = left.shape[1], right.shape[1]
    row, others = np.empty((columns, LANES)), np.empty((columns, LANES))
    corner, cell, value = np.empty(LANES), np.empty(LANES), np.empty(LANES)
    whole = len(out) // LANES * LANES
    for start in range(0, whole, LANES):
        for column in range(columns):
            for lane in range(LANES):
                others[column, lane] = right[start + lane, column]
        row[:] = inf
        for line in range(lines):
            corner[:] = 0.0 if line == 0 else inf
            cell[:] = inf
            for lane in range(LANES):
                value[lane] = left[start + lane, line]
            for column in range(columns):
                cells, numbers = row[column], others[column]
                for lane in range(LANES):
                    above = cells[lane]
                    least = above if above < corner[lane] else corner[lane]
                    least = cell[lane] if cell[lane] < least else least
                    cell[lane] = abs(value[lane] - numbers[lane]) + least
                    cells[lane] = cell[lane]
                    corner[lane] = above
        out[start : start + LANES] = row[columns - 1]
    dtw(left[whole:], right[whole:], out[whole:])


@compiled
def bytes_hash_side_by_side(data: NDArray[np.uint8], out: Integers) -> None:
    """Fill `out`, four items at once; the rest of the batch item by item."""
    prime = np.uint32(16777619)
    whole = len(out) // 4 * 4
    for item in range(0, whole, 4):
        a = b = c = d = np.uint32(2166136261)
        for index in range(data.shape[1]):
            a = np.uint32((a ^ data[item, index]) * prime)
            b = np.uint32((b ^ data[item + 1, index]) * prime)
            c = np.uint32((c ^ data[item + 2, index]) * prime)
            d = np.uint32((d ^ data[item + 3, index]) * prime)
        out[item], out[item + 1], out[item + 2], out[item + 3] = a, b, c, d
    bytes_hash(data[whole:], out[whole:])
