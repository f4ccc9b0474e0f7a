"""Results as NDJSON and CSV."""

from __future__ import annotations

import csv
import json
import math
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import StoreError
from app.strategies.base import BatchResult
from app.tasks.export import csv_lines, ndjson_lines
from app.tasks.results import CHUNK_ROWS, ResultsReader, ResultsWriter

NewResult = Callable[..., BatchResult]


def exported(path: Path) -> tuple[str, str]:
    """The file as NDJSON and as CSV."""
    with ResultsReader(path) as reader:
        ndjson = b"".join(ndjson_lines(reader)).decode("ascii")
        return ndjson, b"".join(csv_lines(reader)).decode("ascii")


def test_export_to_the_byte(tmp_path: Path, result: NewResult) -> None:
    path = tmp_path / "r.npy"
    with ResultsWriter(path, "loops", 9) as writer:
        writer.write(result(5, 3, failed=(6,)))
        writer.write(result(0, 1))
    assert exported(path) == (
        '{"item_id":0,"loop":0.0,"nested":0}\n'
        '{"item_id":5,"loop":2.5,"nested":-5}\n'
        '{"item_id":6,"loop":null,"nested":null}\n'
        '{"item_id":7,"loop":3.5,"nested":-7}\n',
        "item_id,loop,nested\n0,0.0,0\n5,2.5,-5\n6,,\n7,3.5,-7\n",
    )


def test_export_of_nothing_has_no_lines_but_the_header(tmp_path: Path) -> None:
    path = tmp_path / "r.npy"
    ResultsWriter(path, "loops", 3 * CHUNK_ROWS).close()
    assert exported(path) == ("", "item_id,loop,nested\n")
    with ResultsReader(path) as reader:
        assert list(ndjson_lines(reader)) == []


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
    tmp_path: Path, result: NewResult, rows: list[tuple[int, float, int]]
) -> None:
    path = tmp_path / "r.npy"
    path.unlink(missing_ok=True)
    ids, loop, nested = (np.array(column) for column in zip(*rows, strict=True))
    written = replace(result(0, len(rows)), item_ids=ids, columns={"loop": loop, "nested": nested})
    with ResultsWriter(path, "loops", len(rows)) as writer:
        writer.write(written)
    ndjson, as_csv = exported(path)
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
def test_value_that_json_cannot_hold_is_missing(
    tmp_path: Path, result: NewResult, value: float
) -> None:
    path = tmp_path / "r.npy"
    columns = {"loop": np.array([1.0, value]), "nested": np.array([1, 2])}
    with ResultsWriter(path, "loops", 2) as writer:
        writer.write(replace(result(0, 2), columns=columns))
    ndjson, as_csv = exported(path)
    assert ndjson.splitlines()[1] == '{"item_id":1,"loop":null,"nested":2}'
    assert as_csv.splitlines()[2] == "1,,2"


@pytest.mark.parametrize("lines", [ndjson_lines, csv_lines])
def test_export_comes_in_pieces_and_takes_the_memory_of_one(
    tmp_path: Path, result: NewResult, lines: Callable[..., object]
) -> None:
    path = tmp_path / "r.npy"
    count = 40 * CHUNK_ROWS
    with ResultsWriter(path, "loops", count) as writer:
        writer.write(result(0, count))
    total = 0
    with ResultsReader(path) as reader:
        tracemalloc.start()
        for piece in lines(reader):  # type: ignore[attr-defined]
            assert len(piece) <= 1 << 16
            total += len(piece)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert total > 700_000
    assert peak < 700_000


def test_file_that_is_cut_meanwhile_is_a_store_error(tmp_path: Path, result: NewResult) -> None:
    path = tmp_path / "r.npy"
    with ResultsWriter(path, "loops", 3 * CHUNK_ROWS) as writer:
        writer.write(result(0, 3 * CHUNK_ROWS))
    with ResultsReader(path) as reader:
        lines = ndjson_lines(reader)
        next(lines)
        with path.open("r+b") as file:
            file.truncate(1_000)
        with pytest.raises(StoreError, match="cut short"):
            list(lines)
