"""A third opinion on `loops`, computed in another way than any kernel does."""

from fractions import Fraction

from mpmath import mpf, sin, sqrt, workdps

UNIT_ROUNDOFF = 2.0**-53


def exact_loop(value: float, cpu_iterations: int) -> tuple[float, float]:
    """Return the loop, summed in 60 digits and rounded once, and how far a kernel may be from it.

    The product of sine and cosine is taken as half the sine of twice the angle. Only the angle
    itself is rounded to binary64 first, as the definition says.

    The bound, in units of 2**-53: 8 |addend| for the rounding of each addend (square root, sine
    and cosine within 1 ulp, two products), and |partial sum| for each addition. The 1% on top
    covers the terms of second order, and the last rounding is one unit of the result.
    """
    with workdps(60):
        total, units = mpf(0), mpf(0)
        for i in range(cpu_iterations):
            angle = mpf(float(Fraction(value) + i))
            addend = sqrt(angle) * sin(2 * angle) / 2
            total += addend
            units += 8 * abs(addend) + abs(total)
        units += abs(total)
        return float(total), float(units) * 1.01 * UNIT_ROUNDOFF


def exact_nested(offset: int, outer_iterations: int, inner_iterations: int) -> int:
    """Return the nested loop by counting how often each product of remainders occurs."""
    rows = _remainders(outer_iterations)
    columns = _remainders(inner_iterations)
    total = Fraction(0)
    for row, row_count in rows.items():
        for column, column_count in columns.items():
            quotient = Fraction(row * column + offset, 1000)
            total += row_count * column_count * (quotient - quotient.__floor__()) * 1000
    assert total.denominator == 1
    return total.numerator


def _remainders(count: int) -> dict[int, int]:
    """Return how many of 0 … count-1 leave each remainder by 1000."""
    full, rest = divmod(count, 1000)
    every = {remainder: full + (remainder < rest) for remainder in range(1000)}
    return {remainder: times for remainder, times in every.items() if times}


def addends_magnitude(value: float, cpu_iterations: int) -> float:
    """Return `sum(|addend|)` of the loop, the scale of the parity bound."""
    with workdps(20):
        angles = (mpf(value + i) for i in range(cpu_iterations))
        return float(sum(abs(sqrt(angle) * sin(2 * angle) / 2) for angle in angles))
