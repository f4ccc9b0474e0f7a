"""tasks.arrow_results: results as an Arrow stream and as Parquet, read by pyarrow."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotloop.app.errors import StoreError
from hotloop.app.tasks.arrow_results import arrow_stream, parquet_file
from hotloop.app.tasks.chunks import CHUNK_ROWS, ResultRows
from tests.tasks.test_results_export import COLUMNS, NewResult, blocks

SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.int64(), nullable=False),
        pa.field("loop", pa.float64()),
        pa.field("nested", pa.int64()),
    ]
)


def read_stream(content: bytes) -> Any:
    return pa.ipc.open_stream(content).read_all()


def read_parquet(content: bytes) -> Any:
    return pq.read_table(io.BytesIO(content))


Read = Callable[[Any, list[ResultRows]], Any]


@pytest.fixture(params=[(arrow_stream, read_stream), (parquet_file, read_parquet)])
def read(request: pytest.FixtureRequest) -> Read:
    """Export, and return the table, every buffer of which was checked."""
    export, read = request.param

    def table(columns: Any, rows: list[ResultRows]) -> Any:
        found = read(b"".join(export(columns, rows)))
        found.validate(full=True)
        return found

    return table


def test_file_is_read_by_another_implementation(result: NewResult, read: Read) -> None:
    table = read(COLUMNS, blocks(result(0, 2), result(9, 3, failed=(10,))))
    assert table.schema == SCHEMA
    assert table.to_pydict() == {
        "item_id": [0, 1, 9, 10, 11],
        "loop": [0.0, 0.5, 4.5, None, 5.5],
        "nested": [0, -1, -9, None, -11],
    }


def test_file_of_nothing_has_a_schema(read: Read) -> None:
    table = read(COLUMNS, [])
    assert table.schema == SCHEMA
    assert table.num_rows == 0


def test_all_failed(result: NewResult, read: Read) -> None:
    table = read(COLUMNS, blocks(result(0, 9, failed=tuple(range(9)))))
    assert table.column("item_id").to_pylist() == list(range(9))
    assert table.column("loop").null_count == table.column("nested").null_count == 9


def test_numbers_that_are_not_finite_stay(result: NewResult, read: Read) -> None:
    columns = {"loop": np.array([math.nan, math.inf, -0.0]), "nested": np.array([1, 2, 3])}
    table = read(COLUMNS, blocks(replace(result(0, 3), columns=columns)))
    values = table.column("loop")
    assert values.null_count == 0
    nan, inf, zero = values.to_pylist()
    assert math.isnan(nan)
    assert inf == math.inf
    assert math.copysign(1, zero) == -1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=40), max_size=5))
def test_validity_of_any_pattern(result: NewResult, read: Read, fails: list[list[bool]]) -> None:
    batches, expected, start = [], [], 0
    for pattern in fails:
        failed = tuple(start + i for i, fail in enumerate(pattern) if fail)
        batches.append(result(start, len(pattern), failed))
        expected += [None if fail else -(start + i) for i, fail in enumerate(pattern)]
        start += len(pattern)
    table = read(COLUMNS, blocks(*batches))
    assert table.column("nested").to_pylist() == expected


@pytest.mark.parametrize(
    "dtype",
    [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
    + ["float32", "float64", "bool"],
)
def test_columns_of_every_type(result: NewResult, read: Read, dtype: str) -> None:
    (rows,) = blocks(result(0, 3, failed=(1,)))
    old = ResultRows(rows.item_ids, {"sum": np.array([1, 2, 0], dtype)}, rows.failed)
    table = read((("sum", dtype),), [old])
    assert table.schema.field("sum").type == pa.from_numpy_dtype(dtype)
    assert table.column("sum").to_pylist() == [1, None, 0]


def test_stream_that_breaks_off_has_no_end_mark(result: NewResult) -> None:
    def breaking() -> Iterator[ResultRows]:
        yield from blocks(result(0, 5))
        raise StoreError("damaged")

    pieces: list[bytes] = []
    stream = arrow_stream(COLUMNS, breaking())
    with pytest.raises(StoreError, match="damaged"):
        pieces.extend(stream)
    pieces += list(stream)
    end_mark = b"\xff\xff\xff\xff\0\0\0\0"
    assert not b"".join(pieces).endswith(end_mark)
    assert b"".join(arrow_stream(COLUMNS, blocks(result(0, 5)))).endswith(end_mark)


def test_abandoned_stream_is_closed(result: NewResult) -> None:
    stream = arrow_stream(COLUMNS, blocks(result(0, 5), result(5, 5)))
    next(stream)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert list(stream) == []


def test_parquet_that_breaks_off_has_no_footer(result: NewResult) -> None:
    def breaking() -> Iterator[ResultRows]:
        yield from blocks(result(0, 5))
        raise StoreError("damaged")

    pieces: list[bytes] = []
    with pytest.raises(StoreError, match="damaged"):
        pieces.extend(parquet_file(COLUMNS, breaking()))
    with pytest.raises(pa.ArrowInvalid, match="magic bytes not found in footer"):
        read_parquet(b"".join(pieces))


@pytest.mark.parametrize(("export", "around"), [(arrow_stream, 2), (parquet_file, 1)])
def test_pieces_are_as_large_as_blocks(
    result: NewResult, export: Callable[..., Iterator[bytes]], around: int
) -> None:
    pieces = list(export(COLUMNS, blocks(result(0, 3 * CHUNK_ROWS))))
    assert len(pieces) == 3 + around
    assert max(map(len, pieces)) < 25 * CHUNK_ROWS
