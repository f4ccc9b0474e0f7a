"""app/check/items/: values.py, rows.py, parameters.py, constants.py."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from hotloop.app.check.items.constants import constants_of
from hotloop.app.check.items.parameters import ParameterMaker
from hotloop.app.check.items.rows import RowMaker, rows_of, take
from hotloop.app.check.items.values import edges, logarithmic, neat, spread
from hotloop.kernels import Call, Column, Implementation, Parameter, Scratch, Term, Workload
from hotloop.kernels.kernel import checked_inputs

COLUMNS = [
    Column("x", "float64", "", 0.01, 1e6),
    Column("x", "float64", "", -90.0, 90.0),
    Column("x", "float64", "", 0.0, 1.0),
    Column("x", "float64", ""),
    Column("x", "float64", "", minimum=0.0),
    Column("x", "float64", "", maximum=-3.0),
    Column("x", "float64", "", 2.0, 2.0),
    Column("x", "float32", "", 0.1, 30.0),
    Column("x", "float32", ""),
    Column("x", "int8", ""),
    Column("x", "int64", ""),
    Column("x", "uint64", ""),
    Column("x", "int64", "", 0, 9),
    Column("x", "int32", "", -5, 10**9),
    Column("x", "bool", ""),
]


def name(column: Column) -> str:
    return f"{column.dtype} {column.minimum} {column.maximum}"


@pytest.mark.parametrize("column", COLUMNS, ids=name)
@pytest.mark.parametrize("make", [spread, logarithmic, neat])
def test_values_have_the_dtype_and_are_within_the_bounds(column: Column, make: Any) -> None:
    values = make(column, 1000, np.random.default_rng(1))
    assert values.dtype == np.dtype(column.dtype)
    assert len(values) == 1000
    least, greatest = column.limits
    assert all(least <= value <= greatest for value in values.tolist())
    assert values.tolist() == make(column, 1000, np.random.default_rng(1)).tolist()


@pytest.mark.parametrize("column", COLUMNS, ids=name)
def test_edges_begin_and_end_with_the_bounds(column: Column) -> None:
    values = edges(column)
    assert values.dtype == np.dtype(column.dtype)
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    least, greatest = column.limits
    assert finite[0] == np.dtype(column.dtype).type(least) or finite[0] > least
    assert finite[-1] == np.dtype(column.dtype).type(greatest) or finite[-1] < greatest
    assert all(least <= value <= greatest for value in finite.tolist())


def test_edges_of_floats_have_both_zeros_tiny_ones_and_neighbours() -> None:
    found = edges(Column("x", "float64", "", -1.0, 1.0), [0.3]).tolist()
    assert [math.copysign(1.0, v) for v in found if v == 0.0] == [-1.0, 1.0] or sorted(
        math.copysign(1.0, v) for v in found if v == 0.0
    ) == [-1.0, 1.0]
    assert {0.3, math.nextafter(0.3, 1.0), math.nextafter(1.0, 0.0), 5e-324} <= set(found)
    assert not any(math.isnan(value) or math.isinf(value) for value in found)


def test_edges_of_a_column_without_bounds_have_what_is_not_finite() -> None:
    found = edges(Column("x", "float64", "")).tolist()
    assert {math.inf, -math.inf} <= set(found)
    assert any(math.isnan(value) for value in found)


def test_edges_of_integers_have_powers_of_two_and_constants() -> None:
    found = set(edges(Column("x", "int64", "", -(10**12), 10**12), [31_337]).tolist())
    assert {31_336, 31_337, 31_338, 2**31, 2**31 - 1, 2**32, -(2**31), 0, -1, 10**6} <= found


@pytest.mark.parametrize("share", np.linspace(0.0, 0.995, 24))
def test_every_half_per_cent_of_the_bounds_has_values(share: float) -> None:
    column = Column("x", "float64", "", 1e-3, 1e6)
    random = np.random.default_rng(1)
    even = (spread(column, 4096, random) - 1e-3) / (1e6 - 1e-3)
    assert np.sum((even >= share) & (even <= share + 0.005)) >= 10
    by_size = np.log(logarithmic(column, 4096, random) / 1e-3) / math.log(1e9)
    assert np.sum((by_size >= share) & (by_size <= share + 0.005)) >= 2


WORKLOAD = Workload(
    name="work",
    description="",
    columns_in=(
        Column("x", "float64", "", -50.0, 50.0),
        Column("y", "float64", "", -50.0, 50.0),
        Column("n", "int32", "", -1000, 100_000),
        Column("on", "bool", ""),
        Column("series", "float64", "", 0.0, 1.0, width=5),
    ),
    columns_out=(Column("total", "float64", ""),),
    parameters=(
        Parameter("turns", 20, 1, 2000, ""),
        Parameter("weight", 0.5, 0.0, 2.0, "", dtype="float64"),
        Parameter("kind", "plus", None, None, "", dtype="choice", choices=("plus", "minus")),
        Parameter("flip", False, None, None, "", dtype="bool"),
    ),
    product_bounds=(),
    calls=(Call("batch", ("x", "y", "n", "on", "series"), (), ("total",)),),
    terms=(Term("turns", "turns"),),
    kernels=(Implementation("python", "nowhere"),),
    scratch=(Scratch("room", "float64", ("turns",)),),
)


def test_batches_are_accepted_by_kernels() -> None:
    rows = RowMaker(WORKLOAD, (0.25, 31_337))
    batches = [
        rows.typical(10),
        rows.spread(10),
        rows.mixed(500),
        rows.edge_rows(2000, {"turns": 20, "weight": 0.5}),
        *rows.structures(16).values(),
    ]
    for batch in batches:
        checked_inputs(WORKLOAD.columns_in, batch)
    assert rows.fault is None
    assert rows_of(batches[2]) == 500


def test_every_edge_of_every_column_is_in_the_edge_rows() -> None:
    made = RowMaker(WORKLOAD, (31_337,)).edge_rows(10_000, {})
    for column in WORKLOAD.columns_in:
        found = set(made[column.name].reshape(-1).tolist())
        assert set(edges(column, (31_337,)).tolist()) <= found, column.name
    assert np.any(made["x"] == made["y"])
    assert np.any(made["x"] == -made["y"])
    corner = (made["x"] == 50.0) & (made["y"] == -50.0) & (made["n"] == 100_000)
    assert np.any(corner)


def test_mixed_rows_are_typical_but_for_one_column_and_any_others() -> None:
    made = RowMaker(WORKLOAD, ()).mixed(2000)
    assert len(np.unique(made["x"])) > 1000
    assert {True, False} == set(made["on"].tolist())
    assert np.any(np.abs(made["x"]) < 1e-6)
    assert np.any(np.ptp(made["series"], axis=1) == 0.0)
    assert np.any(np.all(np.diff(made["series"], axis=1) >= 0.0, axis=1))


def test_structures_keep_columns_constant_and_sort_them() -> None:
    made = RowMaker(WORKLOAD, ()).structures(32)
    assert len(np.unique(made["x constant"]["x"])) == 1
    assert len(np.unique(made["x constant"]["y"])) > 1
    assert len(np.unique(made["all but n constant"]["y"])) == 1
    assert np.all(np.diff(made["sorted by y"]["y"]) >= 0)
    assert np.all(np.diff(made["sorted by y, falling"]["y"]) <= 0)
    turns = made["two items in turn"]["x"]
    assert turns[0] == turns[2]


def test_samples_out_of_bounds_are_told_and_not_used() -> None:
    column = Column(
        "x", "float64", "", 0.0, 1.0, sample="a function", sampler=lambda ids: ids + 7.0
    )
    rows = RowMaker(dataclasses.replace(WORKLOAD, columns_in=(column,)), ())
    assert rows.typical(5)["x"].max() <= 1.0
    assert rows.fault is not None
    assert "must be from 0.0 to 1.0" in rows.fault


def test_vectors_do_not_make_batches_large() -> None:
    column = Column("x", "float64", "", 0.0, 1.0, width=10_000)
    rows = RowMaker(dataclasses.replace(WORKLOAD, columns_in=(column,)), ())
    assert rows_of(rows.mixed(4000)) == 20


def test_take_gives_items_of_a_batch() -> None:
    made = RowMaker(WORKLOAD, ()).mixed(10)
    part = take(made, np.array([3, 3]))
    assert part["series"].shape == (2, 5)
    assert part["x"].tolist() == [made["x"][3]] * 2


def sets(maker: ParameterMaker, kind: str, *arguments: int) -> list[dict[str, Any]]:
    return [values for _, values in getattr(maker, kind)(*arguments)]


@pytest.fixture
def maker() -> ParameterMaker:
    return ParameterMaker(WORKLOAD, (1234,), WORKLOAD.resolve_parameters({"turns": 8}))


def test_parameters_are_at_both_ends_alone_and_together(maker: ParameterMaker) -> None:
    found = sets(maker, "ends")
    assert {"turns": 1, "weight": 0.5, "kind": "plus", "flip": False} in found
    assert {"turns": 2000, "weight": 0.5, "kind": "plus", "flip": False} in found
    assert {"turns": 8, "weight": 2.0, "kind": "plus", "flip": False} in found
    assert {"turns": 2000, "weight": 2.0, "kind": "plus", "flip": False} in found


def test_every_choice_stands_with_every_boolean(maker: ParameterMaker) -> None:
    found = {(each["kind"], each["flip"]) for each in sets(maker, "choices")}
    assert found == {("minus", False), ("minus", True), ("plus", True)}


def test_constants_of_the_code_are_values_of_parameters(maker: ParameterMaker) -> None:
    found = {each["turns"] for each in sets(maker, "special")}
    assert {1233, 1234, 1235, 1, 2, 3, 64, 65, 2000, 1999} <= found


def test_sweep_has_every_half_per_cent_of_a_parameter(maker: ParameterMaker) -> None:
    found = np.array([each["weight"] for each in sets(maker, "sweep", 400)])
    assert np.histogram(found, bins=200, range=(0.0, 2.0))[0].min() >= 1
    assert {each["kind"] for each in sets(maker, "magnitudes", 50)} == {"plus", "minus"}


def test_sets_that_kernels_refuse_are_left_out() -> None:
    scratch = (Scratch("room", "float64", ("turns - 100",)),)
    maker = ParameterMaker(
        dataclasses.replace(WORKLOAD, scratch=scratch), (), WORKLOAD.resolve_parameters()
    )
    assert {each["turns"] for each in sets(maker, "ends")} == {2000}


SCALE = 0.75
TABLE = np.array([11.0, 12.0])


def inner(x: float) -> float:
    return x * SCALE if x > 41.5 else TABLE[0]


def outer(x: float, y: float = 6.5) -> float:
    return inner(x) + 3.0 if y != 1.5 else 0.0


def test_constants_come_from_all_functions_that_are_named() -> None:
    assert {0.75, 11.0, 12.0, 41.5, 6.5, 3.0, 1.5, 0.0} <= set(constants_of([outer]))
    assert constants_of([len, None]) == ()


def test_columns_of_whole_integers_are_made_equal_within_their_dtype() -> None:
    columns = (Column("a", "int64", ""), Column("b", "uint64", ""), Column("c", "int8", ""))
    rows = RowMaker(dataclasses.replace(WORKLOAD, columns_in=columns), ())
    checked_inputs(columns, rows.mixed(2000))
    checked_inputs(columns, rows.edge_rows(2000, {"n": 2**62, "x": 1e300, "y": math.nan}))
