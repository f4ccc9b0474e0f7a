"""The benchmark of own workloads, benchmarks/own_workloads.py: its cases and its page."""

from __future__ import annotations

import pytest

from benchmarks.own_workloads import BY_HAND, Case, Measured, cases, page

MEASURED = [
    Measured(
        "american",
        1_024,
        {
            "python": [1_500.0, 1_800.0, 1_000.0],
            "numba": [3.0, 3.0, 2.0],
            "by hand": [1.5, 2.0, 2.0],
            "QuantLib": [120.0, 120.0, 120.0],
        },
    ),
    Measured(
        "dtw",
        64,
        {"python": [9.0], "numba": [1.0], "by hand": [0.8], "side by side": [0.4567]},
    ),
]


def test_page_has_ratios_of_rounds_and_what_they_meet() -> None:
    lines = "\n".join(page(MEASURED, 3, ["- processor: any"])).splitlines()
    assert "- processor: any" in lines
    assert "| `american` | 1,024 | 1,500 | 3 | 2 | – | 500.0 | 1.50 | – |" in lines
    assert "| `dtw` | 64 | 9 | 1 | 0.8 | 0.457 | 9.0 | 1.25 | 2.19 |" in lines
    text = " ".join(lines)
    assert "at least 10 times as fast as `python` in 1 of 2" in text
    assert "at most 1.5 times as long as `by hand` in 2 of 2" in text
    assert "| QuantLib's tree | 120 | 40.0 |" in lines


def test_forms_are_compared_before_they_are_timed() -> None:
    five = {each.workload.name: each for each in cases()}
    assert list(five) == ["american", "mandelbrot", "haversine", "dtw", "bytes_hash"]
    haversine = five["haversine"]
    few = {name: column[:7] for name, column in haversine.columns.items()}
    wrong = Case(haversine.workload, few, {BY_HAND: lambda out: out.fill(1.0)})
    with pytest.raises(AssertionError, match=f"haversine {BY_HAND} differs by"):
        wrong.forms()
