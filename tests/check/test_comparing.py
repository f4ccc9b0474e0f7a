"""app/check/comparing.py: bits, units in the last place, and differences in words."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from hotloop.app.check.comparing import differing, in_words, same_bits, unlike
from hotloop.kernels import Column
from hotloop.kernels.loops import LOOPS
from tests.check.test_items import WORKLOAD


def floats(*values: float) -> np.ndarray:
    return np.array(values)


def test_bits_tell_zeros_apart_and_take_every_nan_for_one() -> None:
    first = floats(0.0, 0.0, math.nan, 1.0, math.inf)
    second = floats(0.0, -0.0, -math.nan, math.nextafter(1.0, 2.0), math.inf)
    assert same_bits(first, second).tolist() == [True, False, True, False, True]
    assert same_bits(np.array([True, False]), np.array([True, True])).tolist() == [True, False]
    assert unlike({"y": first}, {"y": second}).tolist() == [1, 3]


@pytest.mark.parametrize(("ulp", "wrong"), [(0, [1, 2, 3, 4]), (1, [2, 3, 4]), (2, [3, 4])])
def test_declared_ulp_is_allowed_and_no_more(ulp: int, wrong: list[int]) -> None:
    output = Column("total", "float64", "", ulp=ulp)
    workload = dataclasses.replace(WORKLOAD, columns_out=(output,))
    near = math.nextafter(1.0, 2.0)
    got = floats(1.0, near, math.nextafter(near, 2.0), 1.1, math.nan)
    found = differing(workload, {}, {}, {"total": np.ones(5)}, {"total": got})
    assert found["total"].tolist() == wrong


def test_magnitude_of_the_addends_decides_where_it_is_declared() -> None:
    columns = {"value": floats(1e5, 1e5), "offset": np.zeros(2, dtype=np.int64)}
    parameters = LOOPS.resolve_parameters({"cpu_iterations": 100})
    wanted = {"loop": floats(1000.0, 1000.0), "nested": np.zeros(2, dtype=np.int64)}
    got = {"loop": floats(1000.0 + 1e-12, 1000.1), "nested": np.array([0, 1])}
    found = differing(LOOPS, columns, parameters, wanted, got)
    assert {name: rows.tolist() for name, rows in found.items()} == {"loop": [1], "nested": [1]}


def test_differences_are_told_in_units_in_the_last_place() -> None:
    words = in_words(WORKLOAD, "total", np.float64(1.0), np.float64(math.nextafter(1.0, 0.0)))
    assert words == "total is 0.9999999999999999, python gives 1.0 (1 ulp apart)"
    assert in_words(WORKLOAD, "total", np.float64(0.0), np.float64(math.nan)) == (
        "total is nan, python gives 0.0"
    )


def test_overflow_of_integers_is_told() -> None:
    output = Column("total", "int64", "")
    workload = dataclasses.replace(WORKLOAD, columns_out=(output,))
    words = in_words(workload, "total", np.int64(2**32 + 5), np.int64(5))
    assert "an integer of fewer bits has overflowed" in words
    assert "overflowed" not in in_words(workload, "total", np.int64(6), np.int64(5))
