"""Holds the functions of examples/workloads/hotloop_examples/{american,mandelbrot,haversine,dtw,
bytes_hash}.py against others: QuantLib, published values, and the definition of each.
"""

from __future__ import annotations

import csv
import itertools
import random
from functools import cache
from math import acos, cos, exp, inf, isclose, pi, radians, sin
from pathlib import Path

import pytest
from hotloop_examples.american import american
from hotloop_examples.bytes_hash import bytes_hash
from hotloop_examples.dtw import dtw
from hotloop_examples.haversine import haversine
from hotloop_examples.mandelbrot import mandelbrot

from benchmarks.peers.quantlib_options import Option
from tests.examples.workloads import FLIGHTS
from tests.fixtures.server import SAMPLE

STEPS, RATE, DIVIDENDS, STRIKE = 200, 0.03, 0.01, 100.0
KM_PER_MILE = 1.609344


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


OPTIONS = [
    (spot, days, volatility, kind)
    for spot, days, volatility, kind in itertools.product(
        (60.0, 80.0, 95.0, 100.0, 105.0, 125.0, 160.0),
        (4, 30, 91, 365, 1_460),
        (0.1, 0.2, 0.4, 1.0),
        ("put", "call"),
    )
]


def price(
    spot: float,
    years: float,
    volatility: float = 0.2,
    kind: str = "put",
    *,
    steps: int = STEPS,
    rate: float = RATE,
    dividends: float = DIVIDENDS,
) -> float:
    values, even, odd = ([0.0] * (steps + 1) for _ in range(3))
    rates = (rate, dividends)
    return american(spot, STRIKE, years, steps, volatility, *rates, kind, values, even, odd)


def quoted(spot: float, days: int, volatility: float, kind: str) -> Option:
    return Option(spot, STRIKE, days, volatility, RATE, DIVIDENDS, kind)


@pytest.mark.parametrize("kind", ["put", "call"])
def test_american_is_within_a_thousandth_of_the_strike_of_an_exact_engine(kind: str) -> None:
    for spot, days, volatility, of_kind in OPTIONS:
        if of_kind == kind:
            found = price(spot, days / 365, volatility, kind)
            exact = quoted(spot, days, volatility, kind).by_qdfp().NPV()
            assert isclose(found, exact, abs_tol=1e-3 * STRIKE), (spot, days, volatility)


def test_american_is_the_tree_of_quantlib() -> None:
    """The nodes are the same. QuantLib takes the probability of a rise to first order, which moves
    prices by far less than the error of either tree.
    """
    for spot, days, kind in itertools.product((80.0, 100.0, 125.0), (91, 1_460), ("put", "call")):
        found = price(spot, days / 365, 0.3, kind)
        other = quoted(spot, days, 0.3, kind).by_tree(STEPS).NPV()
        assert isclose(found, other, abs_tol=2e-5 * STRIKE), (spot, days, kind)


def test_american_call_without_dividends_is_the_european_one() -> None:
    """Nobody gains from exercise before expiry then; a put is worth more."""
    call = price(100.0, 1.0, kind="call", dividends=0.0, steps=2_000)
    put = price(100.0, 1.0, kind="put", dividends=0.0, steps=2_000)
    # Black and Scholes, and the parity of put and call.
    european_call = 9.4134033938
    assert isclose(call, european_call, abs_tol=2e-3)
    assert put > european_call - 100.0 + 100.0 * exp(-RATE) + 0.1


@pytest.mark.parametrize(
    ("distance", "turns"), [(1.0, 3), (0.1, 33), (0.01, 315), (0.001, 3_143), (0.0001, 31_417)]
)
def test_mandelbrot_counts_pi_above_the_neck(distance: float, turns: int) -> None:
    """Boll found in 1991 that the turns times the distance tend to pi; these are his counts."""
    found = mandelbrot(-0.75, distance, 100_000)
    assert found == turns
    assert isclose(found * distance, pi, abs_tol=distance * 2)


def test_mandelbrot_knows_points_inside_and_outside() -> None:
    for inside in (0, -1, -2, 0.25, 1j, -1.75488, -0.122561 + 0.744862j):  # centres and tips
        assert mandelbrot(complex(inside).real, complex(inside).imag, 500) == 500, inside
    assert mandelbrot(1.0, 0.0, 10) == 3  # 0, 1, 2, 5
    assert mandelbrot(0.5, 1.25, 1) == 1
    for number in range(400):  # the definition, in complex numbers
        point = complex(-2.0 + 2.5 * (number % 20) / 20, -1.25 + 2.5 * (number // 20) / 20)
        assert mandelbrot(point.real, point.imag, 50) == escape(point, 50), point


def escape(point: complex, limit: int) -> int:
    z = 0j
    for turn in range(limit):
        if abs(z) > 2:
            return turn
        z = z * z + point
    return limit


def test_haversine_of_known_places() -> None:
    quarter = 10_007.557  # of the circumference of a sphere with the mean radius of Earth
    assert isclose(haversine(0.0, 0.0, 0.0, 90.0), quarter, rel_tol=1e-7)
    assert isclose(haversine(-90.0, 17.0, 90.0, -33.0), 2 * quarter, rel_tol=1e-7)
    assert isclose(haversine(12.5, -180.0, 12.5, 180.0), 0.0, abs_tol=1e-9)
    assert isclose(
        haversine(31.0, -180.0, -31.0, 0.0), 2 * quarter, rel_tol=1e-7
    )  # the other end of Earth
    assert haversine(40.6413, -73.7781, 40.6413, -73.7781) == 0.0
    assert haversine(90.0, 0.0, 90.0 - 8.9e-7, 180.0) < 1e-3  # a root of 0, not of less
    # One minute of latitude is a nautical mile, as it was meant.
    assert isclose(haversine(0.0, 0.0, 1 / 60, 0.0), 1.852, rel_tol=2e-3)


def test_haversine_is_the_law_of_cosines() -> None:
    numbers = random.Random(1)
    for _ in range(500):
        a, b = numbers.uniform(-90, 90), numbers.uniform(-90, 90)
        turn = numbers.uniform(-180, 180)
        p, q = radians(a), radians(b)
        arc = acos(max(-1.0, min(1.0, sin(p) * sin(q) + cos(p) * cos(q) * cos(radians(turn)))))
        assert isclose(haversine(a, 10.0, b, 10.0 + turn), 6_371.0088 * arc, abs_tol=1e-3)


def test_haversine_of_flights_is_their_published_distance() -> None:
    """The airlines give miles along the ellipsoid, which a sphere meets within 0.6 %."""
    published = {row["item_id"]: float(row["value"]) for row in rows(SAMPLE)}
    flights = rows(FLIGHTS)
    assert [flight["item_id"] for flight in flights] == list(published)
    for flight in flights:
        item_id, *points = flight.values()
        miles = haversine(*map(float, points)) / KM_PER_MILE
        assert isclose(miles, published[item_id], rel_tol=6e-3), item_id


def recursive_dtw(left: list[float], right: list[float]) -> float:
    """The definition: the cheapest of the three cells before, and the difference here."""

    @cache
    def cost(line: int, column: int) -> float:
        if line < 0 or column < 0:
            return 0.0 if line == column else inf
        before = min(cost(line - 1, column), cost(line, column - 1), cost(line - 1, column - 1))
        return abs(left[line] - right[column]) + before

    return cost(len(left) - 1, len(right) - 1)


def warped(left: list[float], right: list[float]) -> float:
    return dtw(left, right, [0.0] * len(right))


def test_dtw_of_small_series() -> None:
    assert warped([1, 2, 3], [1, 2, 3]) == 0
    assert warped([1, 2, 3, 3], [1, 1, 2, 3]) == 0  # time stretches
    assert warped([0, 0, 0], [1, 1, 1]) == 3
    assert warped([0], [5]) == 5
    assert warped([1, 3, 4, 9], [1, 3, 7, 8]) == 4  # 4 to 7, and 9 to 8


def test_dtw_is_the_recursive_definition() -> None:
    numbers = random.Random(2)
    for length in (1, 2, 3, 17, 64):
        for _ in range(5):
            left, right = ([numbers.uniform(-1, 1) for _ in range(length)] for _ in range(2))
            assert warped(left, right) == recursive_dtw(left, right)


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        (b"", 0x811C9DC5),
        (b"a", 0xE40C292C),
        (b"b", 0xE70C2DE5),
        (b"fo", 0x6222E842),
        (b"foo", 0xA9F37ED7),
        (b"foob", 0x3F5076EF),
        (b"fooba", 0x39AAA18A),
        (b"foobar", 0xBF9CF968),
    ],
)
def test_bytes_hash_has_the_published_values(text: bytes, digest: int) -> None:
    assert bytes_hash(text) == digest


def test_bytes_hash_is_fnv_1a_in_whole_numbers_and_fits_int64() -> None:
    numbers = random.Random(3)
    for data in (bytes(64), b"\xff" * 64, *(numbers.randbytes(64) for _ in range(100))):
        digest = 2166136261
        for byte in data:
            assert (digest | 0xFF) * 16777619 < 2**63
            digest = ((digest ^ byte) * 16777619) % 2**32
        assert bytes_hash(data) == digest
