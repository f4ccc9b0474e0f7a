"""The error of the compiled `loop` over the whole domain."""

import math
from importlib import import_module

import numpy as np
import pytest
from mpmath import mp, mpf, pi, sin, sqrt, workdps
from numpy.typing import NDArray

from hotloop.kernels import Kernel
from tests.kernels.cases import columns_of

TERM_ULPS = 4.0
LARGEST_ANGLE = 1e6 + 1e7
# The doubles in the domain that are nearest to a multiple of pi/2, 2**-60.5 and a little more.
NEAREST = [math.ldexp(float.fromhex("0x1.6c6cbc45dc8dep+5"), power) for power in range(18)]


def near_multiples(of: float, count: int, seed: int) -> NDArray[np.float64]:
    """Return the doubles nearest to some odd multiples of pi * `of` in the domain."""
    largest = int(LARGEST_ANGLE / (2 * math.pi * of)) - 1
    factors = np.random.default_rng(seed).integers(0, largest, count)
    with workdps(40):
        return np.array([float(pi * mpf(of) * (2 * int(factor) + 1)) for factor in factors])


def angles(name: str) -> NDArray[np.float64]:
    random = np.random.default_rng(7)
    match name:
        case "anywhere":
            return random.uniform(0.0, LARGEST_ANGLE, 2000)
        case "small":
            return np.asarray(10.0 ** random.uniform(-300.0, 1.0, 2000))
        case "integers":
            return random.integers(0, int(LARGEST_ANGLE), 2000).astype(np.float64)
        case "zeros of the sine":
            return np.append(near_multiples(1.0, 1000, 8), NEAREST)
        case "zeros of the cosine":
            return near_multiples(0.5, 1000, 9)
        case _:
            return near_multiples(0.25, 1000, 10)


def error_ulps(angle: float, computed: float) -> float:
    """Return how many units in the last place `computed` is from the exact term."""
    exact = sqrt(mpf(angle)) * sin(2 * mpf(angle)) / 2
    unit = mpf(2) ** (max(math.frexp(float(exact))[1] - 53, -1074))
    return float(abs(mpf(computed) - exact) / unit)


@pytest.mark.parametrize(
    "name",
    [
        "anywhere",
        "small",
        "integers",
        "zeros of the sine",
        "zeros of the cosine",
        "edges of the quadrants",
    ],
)
def test_every_term_is_within_4_ulp(cython: Kernel, name: str) -> None:
    # Straight to the function, because terms up to 1.1e7 have no batch of one term.
    given = angles(name)
    computed = np.empty_like(given)
    import_module("hotloop.kernels.loops._cython").loop(given, 1, computed)
    with workdps(60):
        worst = max(map(error_ulps, given.tolist(), computed.tolist()))
    assert 0.5 < worst <= TERM_ULPS


def test_no_angle_is_nearer_to_a_multiple_of_half_pi() -> None:
    with workdps(60):
        nearest = NEAREST[0]
        assert nearest < LARGEST_ANGLE
        distance = abs(mpf(nearest) - mp.nint(mpf(nearest) / (pi / 2)) * pi / 2)
        assert mpf(2) ** -61 < distance < mpf(2) ** -60


def test_longest_sum_is_within_the_parity_bound_of_python(compiled: Kernel, python: Kernel) -> None:
    iterations = 3_000_000 if compiled.instruction_set != "baseline" else 100_000
    parameters = {"cpu_iterations": iterations, "outer_iterations": 0}
    columns = columns_of([1e6], [0])
    expected = python.run(columns, parameters)["loop"][0]
    t = 1e6 + np.arange(iterations)
    bound = 4 * 2.0**-52 * float(np.abs(np.sqrt(t) * np.sin(t) * np.cos(t)).sum())
    assert abs(compiled.run(columns, parameters)["loop"][0] - expected) <= bound


def test_compiled_kernels_agree_over_the_longest_sum(cython: Kernel, numba: Kernel) -> None:
    columns = columns_of([1e6, 0.1, 999_999.9], [0, 0, 0])
    parameters = {"cpu_iterations": 10_000_000, "outer_iterations": 0}
    expected = cython.run(columns, parameters)["loop"].tobytes()
    assert numba.run(columns, parameters)["loop"].tobytes() == expected
