"""Answered values become columns, and what is no number within bounds fails its item alone."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotloop.app.sources.base import Positions
from hotloop.app.sources.row_columns import RowColumn, row_columns
from hotloop.app.sources.values import assign, ids_at, mapped_columns
from tests.fixtures.real_sources import UNTOUCHED, item_batch, reasons

COLUMNS = {column.name: column for column in row_columns("loops")}
VALUE, OFFSET = COLUMNS["value"], COLUMNS["offset"]

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=3,
)


@pytest.mark.parametrize("positions", [range(1, 3), [1, 2], [2, 1], (1, 2)])
def test_values_go_to_their_positions_and_nowhere_else(positions: Positions) -> None:
    batch = item_batch([5, 6, 7, 8])
    assign(batch, positions, VALUE, [1.5, 2], "db")
    first, second = positions
    assert batch.columns["value"][first] == 1.5
    assert batch.columns["value"][second] == 2
    assert batch.columns["value"][[0, 3]].tolist() == [UNTOUCHED, UNTOUCHED]
    assert batch.failed == {}
    assert ids_at(batch, positions) == [5 + first, 5 + second]


def test_no_values_change_nothing() -> None:
    batch = item_batch([1])
    assign(batch, [], OFFSET, [], "db")
    assert (batch.columns["offset"].tolist(), batch.failed) == ([UNTOUCHED], {})


@pytest.mark.parametrize(
    ("column", "bad", "shown"),
    [
        (VALUE, None, "value is missing; a number from 0 to 1,000,000 is needed"),
        (VALUE, "NaN", "value is 'NaN'; a number from 0 to 1,000,000 is needed"),
        (VALUE, math.nan, "value is nan; a number from 0 to 1,000,000 is needed"),
        (VALUE, math.inf, "value is inf; a number from 0 to 1,000,000 is needed"),
        (VALUE, -math.inf, "value is -inf; a number from 0 to 1,000,000 is needed"),
        (VALUE, True, "value is True; a number from 0 to 1,000,000 is needed"),
        (VALUE, [1.0], "value is [1.0]; a number from 0 to 1,000,000 is needed"),
        (VALUE, -0.001, "value is -0.001; a number from 0 to 1,000,000 is needed"),
        (VALUE, 1_000_000.5, "value is 1000000.5; a number from 0 to 1,000,000 is needed"),
        (OFFSET, 1.5, "offset is 1.5; an integer from 0 to 2,147,483,647 is needed"),
        (OFFSET, -1, "offset is -1; an integer from 0 to 2,147,483,647 is needed"),
        (OFFSET, 2**31, "offset is 2147483648; an integer from 0 to 2,147,483,647 is needed"),
        (OFFSET, False, "offset is False; an integer from 0 to 2,147,483,647 is needed"),
        (OFFSET, "5", "offset is '5'; an integer from 0 to 2,147,483,647 is needed"),
        (OFFSET, b"5", "offset is b'5'; an integer from 0 to 2,147,483,647 is needed"),
    ],
)
def test_bad_value_fails_its_item_alone(column: RowColumn, bad: object, shown: str) -> None:
    batch = item_batch([5, 6, 7])
    assign(batch, range(3), column, [1, bad, 2], "cache")
    assert batch.columns[column.name].tolist() == [1, UNTOUCHED, 2]
    assert reasons(batch) == {6: shown}
    assert batch.failed[1].stage == "cache"


@pytest.mark.parametrize(
    ("column", "good"),
    [(VALUE, 0), (VALUE, 1e6), (VALUE, 10**6), (OFFSET, 0), (OFFSET, 2**31 - 1), (OFFSET, 7.0)],
)
@pytest.mark.parametrize("beside", [1, None])
def test_bounds_and_whole_floats_are_accepted(column: RowColumn, good: float, beside: Any) -> None:
    """The quick and the exact way must agree on good and on bad values."""
    batch = item_batch([5, 6])
    assign(batch, range(2), column, [good, beside], "db")
    assert batch.columns[column.name][0] == good
    assert list(reasons(batch)) == ([] if beside else [6])


@pytest.mark.parametrize("digits", [400, 5_000])
def test_integers_of_any_length_fail_with_a_short_text(digits: int) -> None:
    batch = item_batch([5, 6])
    assign(batch, range(2), OFFSET, [10**digits, 1], "db")
    assign(batch, range(2), VALUE, [10**digits, 1], "db")
    assert list(reasons(batch)) == [5]
    assert len(reasons(batch)[5]) < 150


@given(st.lists(ANYTHING, max_size=6), st.sampled_from([VALUE, OFFSET]))
def test_each_value_is_stored_exactly_or_fails_its_item(
    values: list[object], column: RowColumn
) -> None:
    batch = item_batch(range(len(values)))
    before = batch.columns[column.name].copy()
    assign(batch, range(len(values)), column, values, "db")
    stored = batch.columns[column.name]
    for position, value in enumerate(values):
        if position in batch.failed:
            assert stored[position] == before[position]
            reason = batch.failed[position].reason
            assert len(reason) < 150
            assert json.loads(json.dumps(reason)) == reason
            assert reason.encode()  # no half of a surrogate pair
        else:
            assert isinstance(value, (int, float))
            assert stored[position] == value
            assert column.minimum <= value <= column.maximum
    assert np.isfinite(stored).all()


def test_columns_are_mapped_to_fields_and_unknown_ones_are_an_error() -> None:
    assert mapped_columns("loops", (("offset", "o"), ("value", "v"))) == (
        (OFFSET, "o"),
        (VALUE, "v"),
    )
    with pytest.raises(KeyError):
        mapped_columns("loops", (("nothing", "n"),))
