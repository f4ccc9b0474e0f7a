"""Constants come back from points that were made of them (app/workloads/cost_fit.py)."""

from __future__ import annotations

from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hotloop.app.workloads.cost_fit import (
    Fit,
    Point,
    fitted,
    non_negative_least_squares,
    settings_of,
)
from tests.fixtures.own_modules import AREA, TURNS, workload_of, write

TREE = """
import hotloop

@hotloop.workload(
    columns={"x": hotloop.Float(0.0, 1.0)},
    parameters={
        "steps": hotloop.Integer(2, 10_000, default=200),
        "paths": hotloop.Integer(1, 10_000, default=50),
        "kind": hotloop.Choice("put", "call"),
    },
    cost={"nodes": "steps * (steps + 1) / 2", "start": "steps", "paths": "paths"},
)
def tree(x: float, steps: int, paths: int, kind: str) -> float:
    return x
"""


def brute_force(matrix: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    """Return the least error of all x ≥ 0, by trying each set of positive entries."""
    count = matrix.shape[1]
    best = float(np.linalg.norm(wanted))
    for chosen in chain.from_iterable(combinations(range(count), n) for n in range(1, count + 1)):
        found = np.linalg.lstsq(matrix[:, chosen], wanted, rcond=None)[0]
        if (found >= 0).all():
            best = min(best, float(np.linalg.norm(matrix[:, chosen] @ found - wanted)))
    return best


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(5, 12))
def test_least_squares_are_the_least(seed: int, unknowns: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(rows, unknowns)) * 10.0 ** random.integers(-6, 6, unknowns)
    wanted = random.normal(size=rows)
    found = non_negative_least_squares(matrix, wanted)
    assert (found >= 0).all()
    error = float(np.linalg.norm(matrix @ found - wanted))
    assert error <= brute_force(matrix, wanted) * (1 + 1e-6) + 1e-9


def test_degenerate_systems_have_an_answer() -> None:
    assert non_negative_least_squares(np.zeros((3, 2)), np.ones(3)).tolist() == [0.0, 0.0]
    twice = np.array([[1.0, 2.0], [2.0, 4.0]])
    found = non_negative_least_squares(twice, np.array([1.0, 2.0]))
    assert twice @ found == pytest.approx([1.0, 2.0])
    assert non_negative_least_squares(np.ones((2, 1)), -np.ones(2)).tolist() == [0.0]


def test_settings_go_down_from_what_was_asked(tmp_path: Path) -> None:
    workload = workload_of(write(tmp_path, "tree", TREE))
    asked = workload.resolve_parameters({"kind": "call"})
    settings = settings_of(workload, asked)
    assert settings[-1] == asked
    assert all(each["kind"] == "call" for each in settings)
    assert {each["steps"] for each in settings} >= {200, 50, 12, 3, 2}
    assert {each["paths"] for each in settings} >= {50, 12, 3, 1}
    # each term shows in some setting
    assert any(each["steps"] == 200 and each["paths"] == 1 for each in settings)
    assert any(each["steps"] == 2 and each["paths"] == 50 for each in settings)
    sums = [sum(workload.operations(each).values()) for each in settings]
    assert sums == sorted(sums)
    for each in settings:
        assert workload.resolve_parameters(each) == each
    (only,) = settings_of(workload_of(write(tmp_path, "area", AREA)), {})
    assert only == {}


def test_constants_come_back(tmp_path: Path) -> None:
    workload = workload_of(write(tmp_path, "tree", TREE))
    true = Fit(3e-8, {"nodes": 7e-11, "start": 6e-9, "paths": 2e-9})
    random = np.random.default_rng(5)

    def points(noise: float) -> list[Point]:
        settings = settings_of(workload, workload.resolve_parameters())
        operations = [workload.operations(each) for each in settings]
        errors = 1 + noise * random.normal(size=len(operations))
        return [Point(o, true.seconds(o) * e) for o, e in zip(operations, errors, strict=True)]

    exact = fitted(("nodes", "start", "paths"), points(0.0))
    assert exact.item_seconds == pytest.approx(true.item_seconds)
    assert exact.operation_seconds == pytest.approx(true.operation_seconds)
    noisy = fitted(("nodes", "start", "paths"), points(0.02))
    for parameters in ({}, {"steps": 400}, {"steps": 30, "paths": 10}, {"paths": 500}):
        operations = workload.operations(parameters)
        assert noisy.seconds(operations) == pytest.approx(true.seconds(operations), rel=0.1)


def test_last_point_is_met_exactly(tmp_path: Path) -> None:
    workload = workload_of(write(tmp_path, "turns", TURNS))
    # The declared law is wrong: the true one is of a square.
    points = [Point(workload.operations({"turns": n}), 1e-9 * n * n) for n in (10, 100, 1_000)]
    assert fitted(("turn",), points).seconds(points[-1].operations) == pytest.approx(1e-3)


def test_item_without_a_term_of_parameters_costs_what_it_takes() -> None:
    fit = fitted(("item",), [Point({"item": 1.0}, 5e-9)])
    assert fit.item_seconds == 0.0
    assert fit.operation_seconds == pytest.approx({"item": 5e-9})
    assert fitted(("item",), [Point({"item": 1.0}, 0.0)]).seconds({"item": 1.0}) >= 0.0
