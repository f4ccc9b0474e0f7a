"""The outputs that are compared with each other, and the differences that are found."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from hotloop.app.comparison.equality import compared_cells, differences, prefixes
from hotloop.app.comparison.measuring import SAMPLE_ROWS, Outputs
from hotloop.app.comparison.record import CellId, ComparisonRecord, Size
from hotloop.app.sources.base import Batch
from hotloop.app.strategies.base import BatchResult
from hotloop.app.strategies.checksum import checksum_text, rows_checksum
from tests.fixtures.made_up import record_of, sample


def record_with(**checksums: dict[str, dict[int, str]]) -> ComparisonRecord:
    """`kernel={strategy: {items: checksum}}`, a sample for each cell."""
    cells = {
        CellId(strategy, kernel): texts
        for kernel, by_strategy in checksums.items()
        for strategy, texts in by_strategy.items()
    }
    record = record_of(dict.fromkeys(cells, 1.0))
    for cell in record.cells:
        texts = {str(items): text for items, text in cells[cell.cell].items()}
        cell.samples.append(sample(1.0, checksums=texts))
    return record


def cells_of(record: ComparisonRecord) -> list[set[str]]:
    return [{str(cell) for cell in found.cells} for found in differences(record)]


def test_equal_outputs_do_not_differ() -> None:
    record = record_with(
        python={"sequential": {10: "p"}, "hybrid": {10: "p"}},
        cython={"sequential": {10: "c"}},
        numba={"sequential": {10: "c"}},
    )
    assert differences(record) == []
    assert compared_cells(record) == {cell.cell for cell in record.cells}


def test_strategy_with_other_outputs_is_named() -> None:
    record = record_with(
        python={"sequential": {10: "p"}, "hybrid": {10: "q"}, "threading": {10: "p"}}
    )
    (found,) = differences(record)
    assert CellId("hybrid", "python") in found.cells
    assert found.detail == "checksums over 10 items differ: p and q"


def test_compiled_kernels_must_be_equal_to_each_other() -> None:
    record = record_with(cython={"sequential": {10: "c"}}, numba={"sequential": {10: "n"}})
    assert cells_of(record) == [{"sequential × cython", "sequential × numba"}]


def test_python_need_not_have_the_bits_of_compiled_kernels() -> None:
    record = record_with(python={"sequential": {10: "p"}}, cython={"sequential": {10: "c"}})
    assert differences(record) == []
    assert not compared_cells(record)


def test_cell_on_few_items_is_compared_over_the_first_items_of_others() -> None:
    record = record_with(cython={"sequential": {2: "x"}, "hybrid": {2: "c", 10: "d"}})
    assert cells_of(record) == [{"sequential × cython", "hybrid × cython"}]


def test_cell_with_varying_checksums_is_found() -> None:
    record = record_with(cython={"hybrid": {10: "c"}})
    record.cells[0].samples.append(sample(1.0, checksums={"10": "d"}))
    assert cells_of(record) == [{"hybrid × cython"}]


def test_outputs_with_failed_items_are_not_compared() -> None:
    record = record_with(cython={"sequential": {10: "c"}, "hybrid": {10: "c"}})
    record.cells[0].samples[0] = sample(1.0, checksums={"10": "other"}, failed_items=1)
    assert differences(record) == []
    assert not compared_cells(record)


def test_cells_that_were_only_warmed_up_count_as_not_compared() -> None:
    record = record_with(cython={"sequential": {10: "c"}, "hybrid": {10: "c"}})
    for cell in record.cells:
        cell.samples = [sample(1.0, round_number=0, checksums={"10": "c"})]
        cell.reason = "the budget was used up"
    assert not compared_cells(record)


def test_parity_fault_is_a_difference() -> None:
    record = record_with(python={"sequential": {10: "p"}}, cython={"sequential": {10: "c"}})
    record.rows = {"python": {}, "cython": {}}
    record.parity_faults = ["python and cython: loop is wrong"]
    record.parity_checked = True
    assert cells_of(record) == [{"sequential × python", "sequential × cython"}]
    assert len(compared_cells(record)) == 2


def test_checksums_are_needed_for_all_sizes_of_equal_kernels() -> None:
    costs = dict.fromkeys([CellId("a", "python"), CellId("a", "cython"), CellId("a", "numba")], 1.0)
    record = record_of(costs)
    for cell, items in zip(record.cells, (7, 8, 9), strict=True):
        cell.sizes = (Size(items, 5_000, 1.0),)
    assert [prefixes(record, kernel) for kernel in ("python", "cython", "numba")] == [
        [7],
        [8, 9],
        [8, 9],
    ]


def batch(start: int, count: int, failed: Sequence[int] = ()) -> BatchResult:
    ids = np.arange(start, start + count, dtype=np.int64)
    columns = {"loop": ids * 0.5, "nested": ids * 3}
    mask = np.isin(ids, failed)
    return BatchResult(
        batch=Batch(start // count, start, count),
        item_ids=ids,
        columns=columns,
        failed=mask,
        errors=(),
        checksum=rows_checksum(ids[~mask], {n: c[~mask] for n, c in columns.items()}),
        io_seconds=0.0,
    )


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0, 2]])
def test_checksums_over_the_first_items_do_not_depend_on_batches(order: list[int]) -> None:
    outputs = Outputs([1, 5, 12, 15, 20])
    for index in order:
        outputs.add(batch(5 * index, 5))
    expected = {}
    for count in (1, 5, 12, 15, 20):
        whole = batch(0, count)
        expected[str(count)] = checksum_text(whole.checksum)
    assert outputs.checksums() == expected
    assert len(set(expected.values())) == 5


def test_failed_items_are_left_out_and_counted() -> None:
    outputs = Outputs([4])
    outputs.add(batch(0, 5, failed=[2, 4]))
    assert outputs.failed_items == 2
    good = np.array([0, 1, 3])
    rows = rows_checksum(good, {"loop": good * 0.5, "nested": good * 3})
    assert outputs.checksums() == {"4": checksum_text(rows)}
    assert outputs.rows == {}


def test_rows_that_are_kept_can_be_stored_as_json() -> None:
    levels = np.array([1.5, math.nan, -math.inf, math.inf, 0.0])
    outputs = Outputs([])
    columns = {"level": levels, "positive": levels > 0}
    outputs.add(replace(batch(0, 5), columns=columns))
    stored = json.loads(json.dumps(outputs.rows, allow_nan=False))
    np.testing.assert_array_equal(np.array(stored["level"], "float64"), levels)
    assert np.array(stored["positive"], "bool").tolist() == (levels > 0).tolist()


def test_first_rows_are_kept() -> None:
    outputs = Outputs([])
    outputs.add(batch(20, 20))
    outputs.add(batch(0, 20))
    assert outputs.rows["nested"] == [3 * n for n in range(SAMPLE_ROWS)]
