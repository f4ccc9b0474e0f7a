"""sources.item_file, row_file, tasks.chunks, results: booleans, small integers and vectors are kept
to the bit.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hotloop import kernels
from hotloop.app.errors import DamagedFileError
from hotloop.app.schemas.results import ResultRow
from hotloop.app.sources.base import Batch
from hotloop.app.sources.item_file import FileItems, item_dtype, new_item_file
from hotloop.app.strategies.base import BatchResult
from hotloop.app.tasks.chunks import pack, result_bytes, result_columns, unpack
from hotloop.kernels import Column, Workload

COUNT = 1_000
IDS = np.arange(COUNT, dtype=np.int64)


def write(path: Path, workload: Workload) -> dict[str, np.ndarray]:
    columns = workload.simulated_columns(IDS)
    with new_item_file(path, workload.name) as writer:
        for start in (0, 300):
            part = slice(start, 300 if start == 0 else None)
            writer.append(IDS[part], {name: values[part] for name, values in columns.items()})
    return columns


def test_items_are_read_as_they_were_written(signals: Workload, tmp_path: Path) -> None:
    path = tmp_path / "items.npy"
    columns = write(path, signals)
    batch = FileItems(str(path), COUNT).load("signals", 5, 990)
    np.testing.assert_array_equal(batch.item_ids, IDS[5:995])
    for name, values in columns.items():
        read = batch.columns[name]
        assert (read.dtype, read.shape) == (values.dtype, values[5:995].shape)
        assert read.flags.c_contiguous
        assert read.flags.owndata
        np.testing.assert_array_equal(read, values[5:995])
    kernels.get_kernel("signals", "numpy").run(batch.columns)


def test_item_takes_the_bytes_of_its_values(signals: Workload, tmp_path: Path) -> None:
    assert item_dtype("signals").itemsize == 8 + 1 + 1 + 3 * 8
    write(tmp_path / "items.npy", signals)
    rows = np.load(tmp_path / "items.npy", mmap_mode="r")
    assert rows["samples"].shape == (COUNT, 3)
    assert rows["inverted"].dtype == np.bool_


def test_items_of_another_width_are_refused(signals: Workload, tmp_path: Path) -> None:
    path = tmp_path / "items.npy"
    write(path, signals)
    wider = replace(signals.columns_in[2], width=4)
    kernels.declare(replace(signals, columns_in=(*signals.columns_in[:2], wider)))
    with pytest.raises(DamagedFileError, match="does not hold 1,000 items for the workload"):
        FileItems(str(path), COUNT).load("signals", 0, COUNT)


@pytest.mark.parametrize("width", [1, 2, 5_000])
def test_vector_may_be_of_any_width(signals: Workload, tmp_path: Path, width: int) -> None:
    column = Column("samples", "int16", "samples", width=width)
    kernels.declare(replace(signals, columns_in=(column,)))
    columns = write(tmp_path / "items.npy", kernels.get_workload("signals"))
    read = FileItems(str(tmp_path / "items.npy"), COUNT).load("signals", 0, COUNT)
    np.testing.assert_array_equal(read.columns["samples"], columns["samples"])
    assert read.columns["samples"].shape == (COUNT, width)


def test_item_may_have_hundreds_of_columns(signals: Workload, tmp_path: Path) -> None:
    columns = tuple(Column(f"{'c' * 60}{i}", "int8", "") for i in range(300))
    kernels.declare(replace(signals, columns_in=columns))
    written = write(tmp_path / "items.npy", kernels.get_workload("signals"))
    read = FileItems(str(tmp_path / "items.npy"), COUNT).load("signals", 0, COUNT)
    assert list(read.columns) == list(written)


def test_results_are_packed_and_shown(signals: Workload) -> None:
    outputs = {
        "level": np.array([1.5, np.nan, np.inf, -0.0]),
        "positive": np.array([True, False, True, False]),
    }
    failed = np.array([False, False, False, True])
    columns = result_columns("signals")
    assert columns == (("level", "float64"), ("positive", "bool"))
    assert result_bytes("signals") == 8 + 8 + 1 + 1
    result = BatchResult(Batch(0, 0, 4), IDS[:4], outputs, failed, (), 0, 0.0)
    (chunk,) = pack([result], columns)
    rows = unpack(chunk, columns)
    for name, values in outputs.items():
        np.testing.assert_array_equal(rows.columns[name], values)
        assert rows.columns[name].dtype == values.dtype


def test_value_that_json_cannot_hold_is_null() -> None:
    row = ResultRow.model_validate({"item_id": 1, "level": float("nan"), "positive": True})
    assert row.model_dump_json() == '{"item_id":1,"level":null,"positive":true}'
    other = ResultRow.model_validate({"item_id": 1, "level": float("-inf"), "count": 1, "x": 1.0})
    assert other.model_dump_json() == '{"item_id":1,"level":null,"count":1,"x":1.0}'
