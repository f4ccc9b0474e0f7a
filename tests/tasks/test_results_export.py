"""tasks.results: exports as NDJSON, CSV and Arrow, read by another implementation."""

from __future__ import annotations

import csv
import json
import math
import struct
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotloop.app.errors import StoreError
from hotloop.app.strategies.base import BatchResult
from hotloop.app.tasks.chunks import CHUNK_ROWS, ResultRows, pack, result_columns, unpack
from hotloop.app.tasks.results import PIECE_ROWS, arrow_stream, csv_lines, ndjson_lines

NewResult = Callable[..., BatchResult]

COLUMNS = result_columns("loops")


def blocks(*batches: BatchResult) -> list[ResultRows]:
    return [unpack(chunk, COLUMNS) for batch in batches for chunk in pack([batch], COLUMNS)]


def exported(*batches: BatchResult) -> tuple[str, str]:
    """The results as NDJSON and as CSV."""
    ndjson = b"".join(ndjson_lines(COLUMNS, blocks(*batches))).decode("ascii")
    return ndjson, b"".join(csv_lines(COLUMNS, blocks(*batches))).decode("ascii")


def test_export_to_the_byte(result: NewResult) -> None:
    assert exported(result(0, 1), result(5, 3, failed=(6,))) == (
        '{"item_id":0,"loop":0.0,"nested":0}\n'
        '{"item_id":5,"loop":2.5,"nested":-5}\n'
        '{"item_id":6,"loop":null,"nested":null}\n'
        '{"item_id":7,"loop":3.5,"nested":-7}\n',
        "item_id,loop,nested\n0,0.0,0\n5,2.5,-5\n6,,\n7,3.5,-7\n",
    )


def test_empty_export_has_only_the_header() -> None:
    assert exported() == ("", "item_id,loop,nested\n")
    assert list(ndjson_lines(COLUMNS, [])) == []


def test_columns_are_those_of_the_task_not_of_the_workload(result: NewResult) -> None:
    (rows,) = blocks(result(1, 1))
    old = ResultRows(rows.item_ids, {"sum": np.array([7], np.uint32)}, rows.failed)
    assert list(ndjson_lines((("sum", "uint32"),), [old])) == [b'{"item_id":1,"sum":7}\n']


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**63 - 1),
            st.floats(allow_nan=False, allow_infinity=False),
            st.integers(-(2**63), 2**63 - 1),
        ),
        min_size=1,
    )
)
def test_numbers_are_read_back_to_the_bit(
    result: NewResult, rows: list[tuple[int, float, int]]
) -> None:
    ids, loop, nested = (np.array(column) for column in zip(*rows, strict=True))
    written = replace(result(0, len(rows)), item_ids=ids, columns={"loop": loop, "nested": nested})
    ndjson, as_csv = exported(written)
    from_json = [tuple(json.loads(line).values()) for line in ndjson.splitlines()]
    header, *fields = csv.reader(as_csv.splitlines(), strict=True)
    from_csv = [(int(item_id), float(loop), int(nested)) for item_id, loop, nested in fields]
    assert header == ["item_id", "loop", "nested"]
    assert from_json == from_csv == rows
    # Zeros of either sign are equal, and so need another look.
    for read in (from_json, from_csv):
        assert [struct.pack("d", row[1]) for row in read] == [
            struct.pack("d", row[1]) for row in rows
        ]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_value_that_json_cannot_hold_is_null_there(result: NewResult, value: float) -> None:
    columns = {"loop": np.array([1.0, value]), "nested": np.array([1, 2])}
    ndjson, as_csv = exported(replace(result(0, 2), columns=columns))
    assert ndjson.splitlines()[1] == '{"item_id":1,"loop":null,"nested":2}'
    assert as_csv.splitlines()[2] == f"1,{value},2"
    assert math.isclose(float(as_csv.split(",")[-2]), value) or math.isnan(value)


def test_booleans_are_words_and_bits(result: NewResult) -> None:
    columns = (("positive", "bool"),)
    values = np.arange(11) % 3 == 0
    batch = replace(result(0, 11, failed=(9,)), columns={"positive": values})
    rows = [unpack(chunk, columns) for chunk in pack([batch], columns)]
    assert b"".join(ndjson_lines(columns, rows)).splitlines()[0] == b'{"item_id":0,"positive":true}'
    assert b"".join(csv_lines(columns, rows)).split()[2:5] == [b"1,false", b"2,false", b"3,true"]
    assert b"".join(csv_lines(columns, rows)).split()[10] == b"9,"
    table = read(arrow_stream(columns, rows))
    assert table.schema.field("positive").type == pa.bool_()
    expected: list[bool | None] = values.tolist()
    expected[9] = None
    assert table.column("positive").to_pylist() == expected


@pytest.mark.parametrize("lines", [ndjson_lines, csv_lines])
def test_export_comes_in_pieces_and_takes_the_memory_of_one(
    result: NewResult, lines: Callable[..., object]
) -> None:
    rows = blocks(result(0, 40 * PIECE_ROWS))
    total = 0
    tracemalloc.start()
    for piece in lines(COLUMNS, rows):  # type: ignore[attr-defined]
        assert len(piece) <= 1 << 16
        total += len(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total > 700_000
    assert peak < 700_000


SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.int64(), nullable=False),
        pa.field("loop", pa.float64()),
        pa.field("nested", pa.int64()),
    ]
)


def read(pieces: Iterator[bytes]) -> Any:
    """The table, every buffer of which was checked."""
    table = pa.ipc.open_stream(b"".join(pieces)).read_all()
    table.validate(full=True)
    return table


def test_stream_is_read_by_another_implementation(result: NewResult) -> None:
    table = read(arrow_stream(COLUMNS, blocks(result(0, 2), result(9, 3, failed=(10,)))))
    assert table.schema == SCHEMA
    assert table.to_pydict() == {
        "item_id": [0, 1, 9, 10, 11],
        "loop": [0.0, 0.5, 4.5, None, 5.5],
        "nested": [0, -1, -9, None, -11],
    }
    assert [batch.num_rows for batch in table.to_batches()] == [2, 3]


def test_stream_of_nothing_has_a_schema(result: NewResult) -> None:
    table = read(arrow_stream(COLUMNS, []))
    assert table.schema == SCHEMA
    assert table.num_rows == 0


def test_all_failed(result: NewResult) -> None:
    table = read(arrow_stream(COLUMNS, blocks(result(0, 9, failed=tuple(range(9))))))
    assert table.column("item_id").to_pylist() == list(range(9))
    assert table.column("loop").null_count == table.column("nested").null_count == 9


def test_numbers_that_are_not_finite_stay(result: NewResult) -> None:
    columns = {"loop": np.array([math.nan, math.inf, -0.0]), "nested": np.array([1, 2, 3])}
    table = read(arrow_stream(COLUMNS, blocks(replace(result(0, 3), columns=columns))))
    values = table.column("loop")
    assert values.null_count == 0
    nan, inf, zero = values.to_pylist()
    assert math.isnan(nan)
    assert inf == math.inf
    assert math.copysign(1, zero) == -1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=40), max_size=5))
def test_validity_of_any_pattern(result: NewResult, fails: list[list[bool]]) -> None:
    batches, expected, start = [], [], 0
    for pattern in fails:
        failed = tuple(start + i for i, fail in enumerate(pattern) if fail)
        batches.append(result(start, len(pattern), failed))
        expected += [None if fail else -(start + i) for i, fail in enumerate(pattern)]
        start += len(pattern)
    table = read(arrow_stream(COLUMNS, blocks(*batches)))
    assert table.column("nested").to_pylist() == expected


@pytest.mark.parametrize(
    "dtype",
    [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)] + ["float32"],
)
def test_columns_of_every_number_type(result: NewResult, dtype: str) -> None:
    (rows,) = blocks(result(0, 3, failed=(1,)))
    old = ResultRows(rows.item_ids, {"sum": np.array([1, 2, 3], dtype)}, rows.failed)
    table = read(arrow_stream((("sum", dtype),), [old]))
    assert table.schema.field("sum").type == pa.from_numpy_dtype(dtype)
    assert table.column("sum").to_pylist() == [1, None, 3]


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


@pytest.mark.parametrize("export", [arrow_stream, ndjson_lines, csv_lines])
def test_export_holds_two_blocks_at_most(
    result: NewResult, export: Callable[..., Iterator[bytes]]
) -> None:
    """The one it writes and the one that is read next; counted by what is still alive."""
    made: list[weakref.ref[Any]] = []

    def reading() -> Iterator[ResultRows]:
        for start in range(0, 50_000, 5_000):
            (block,) = blocks(result(start, 5_000))
            made.append(weakref.ref(block.item_ids))
            assert sum(ref() is not None for ref in made) <= 2
            yield block
            del block

    assert sum(map(len, export(COLUMNS, reading()))) > 1_000_000
    assert len(made) == 10


def test_pieces_are_as_large_as_blocks(result: NewResult) -> None:
    pieces = list(arrow_stream(COLUMNS, blocks(result(0, 3 * CHUNK_ROWS))))
    assert len(pieces) == 1 + 3 + 1
    assert max(map(len, pieces)) < 25 * CHUNK_ROWS
