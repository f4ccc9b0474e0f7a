"""tasks.results: exports as NDJSON and CSV, read by another implementation."""

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
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotloop.app.strategies.base import BatchResult
from hotloop.app.tasks.arrow_results import arrow_stream, parquet_file
from hotloop.app.tasks.chunks import ResultRows, pack, result_columns, unpack
from hotloop.app.tasks.results import PIECE_ROWS, csv_lines, ndjson_lines

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


@pytest.mark.parametrize("export", [arrow_stream, parquet_file, ndjson_lines, csv_lines])
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

    assert sum(map(len, export(COLUMNS, reading()))) > 800_000
    assert len(made) == 10
