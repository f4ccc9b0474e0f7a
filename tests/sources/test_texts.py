"""sources.texts, csv_rows, ndjson_rows: booleans and vectors in uploads, and what is none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotloop import kernels
from hotloop.app.errors import BadRowError
from hotloop.app.sources.csv_rows import CsvRows
from hotloop.app.sources.item_file import FileItems
from hotloop.app.sources.ndjson_rows import NdjsonRows
from hotloop.app.sources.row_columns import RowColumn, row_columns
from hotloop.app.sources.rows import CSV, MEDIA_TYPES, NDJSON, ingest
from hotloop.app.sources.texts import all_parts, is_number, parsed, read_text
from hotloop.app.sources.upload_lines import MAX_LINE_BYTES, most_line_bytes
from hotloop.kernels import Column, Workload

FLAG = RowColumn("flag", "bool", False, 0, 1)
LEVEL = RowColumn("level", "int8", True, -128, 127)
PAIR = RowColumn("pair", "float32", False, -1, 1, 2)
FLAGS = RowColumn("flags", "bool", False, 0, 1, 2)

HEADER = "item_id,inverted,noise,samples"
ROW = {"item_id": 7, "inverted": True, "noise": -100, "samples": [10, -10.0, 0.25]}


def written(media_type: str, row: dict[str, Any]) -> str:
    """The row in this format; a text stands for itself."""
    cells = {name: v if isinstance(v, str) else json.dumps(v) for name, v in row.items()}
    if media_type == CSV:
        vector = cells["samples"].replace("[", "").replace("]", "").replace(",", "")
        return ",".join((cells | {"samples": vector}).values())
    return "{" + ",".join(f'"{name}":{text}' for name, text in cells.items()) + "}"


def rows_of(media_type: str) -> CsvRows | NdjsonRows:
    columns = row_columns("signals")
    return CsvRows(columns, (1, HEADER.encode())) if media_type == CSV else NdjsonRows(columns)


@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        (FLAG, "true", True),
        (FLAG, "FALSE", False),
        (FLAG, "1", True),
        (FLAG, "0", False),
        (LEVEL, "-0", 0),
        (PAIR, "0.5 1e-3", [0.5, 1e-3]),
        (FLAGS, "true 0", [True, False]),
        (FLAG, "yes", None),
        (FLAG, "1.0", None),
        (FLAG, "tRUE", None),
        (FLAG, "", None),
        (LEVEL, "1.0", None),
        (LEVEL, "9" * 5_000, None),
        (PAIR, "0.5", None),
        (PAIR, "0.5  1", None),
        (PAIR, " 0.5 1", None),
        (PAIR, "0.5\t1", None),
        (PAIR, "0.5 1 2", None),
        (PAIR, "0.5 nan", None),
        (PAIR, "0.5 ١", None),
        (PAIR, "[0.5 1]", None),
        (FLAGS, "true maybe", None),
    ],
)
def test_text_is_read_as_the_column_declares(column: RowColumn, text: str, value: Any) -> None:
    found = read_text(column, text)
    assert found == value
    assert type(found) is type(value)


def test_many_texts_are_parsed_together() -> None:
    assert all_parts(PAIR, ["1 2", "3 4"]) == ["1", "2", "3", "4"]
    assert all_parts(PAIR, ["1 2 3", "4"]) is None
    assert parsed(FLAG, ["1", "true", "2"]) is None
    assert (is_number(LEVEL, "9" * 5_000), is_number(FLAG, "1")) == (True, False)


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_row_is_read_alike_alone_and_in_a_chunk(signals: Workload, media_type: str) -> None:
    rows = rows_of(media_type)
    others = [ROW | {"inverted": False, "samples": [0, 1e-300, -0.0]}, ROW | {"inverted": 1}]
    texts = [written(media_type, row) for row in (ROW, *others)]
    together = rows.parse_chunk(texts)
    assert together is not None
    alone = [rows.parse_row(line, text) for line, text in enumerate(texts, 1)]
    assert alone[0] == ROW
    for column in row_columns("signals"):
        expected = np.array([row[column.name] for row in alone], column.dtype)
        assert together[column.name].dtype == expected.dtype
        np.testing.assert_array_equal(together[column.name], expected)


@pytest.mark.parametrize(
    ("media_type", "column", "text", "words"),
    [
        (CSV, "inverted", "yes", "'yes' is neither true nor false; write true or false, or 1 or 0"),
        (CSV, "inverted", "", "'' is neither true nor false"),
        (CSV, "inverted", "2", "'2' is neither true nor false"),
        (CSV, "noise", "101", "'101' is out of bounds; give an integer from -100 to 100"),
        (CSV, "noise", "true", "'true' is not an integer"),
        (CSV, "noise", "300", "'300' is out of bounds"),
        (CSV, "samples", "1 2", "has 2 where 3 values are needed; write them in one field, parted"),
        (CSV, "samples", "1 2 3 4", "has 4 where 3 values are needed"),
        (CSV, "samples", "", "has 1 where 3 values are needed"),
        (CSV, "samples", "1  2", "'' (value 2) is not a number"),
        (CSV, "samples", "1 2 nan", "'nan' (value 3) is not a number"),
        (CSV, "samples", "1 2 11", "'11' (value 3) is out of bounds; give a number from -10 to 10"),
        (CSV, "samples", "1;2;3", "has 1 where 3 values are needed"),
        (CSV, "samples", '"1,2,3"', "has 1 where 3 values are needed"),
        (CSV, "samples", "true 1 2", "'true' (value 1) is not a number"),
        (NDJSON, "inverted", '"true"', "'true' is neither true nor false"),
        (NDJSON, "inverted", "2", "2 is neither true nor false"),
        (NDJSON, "inverted", "1.0", "1.0 is neither true nor false"),
        (NDJSON, "inverted", "null", "null is neither true nor false"),
        (NDJSON, "inverted", "[true]", "a list is neither true nor false"),
        (NDJSON, "noise", "true", "true is not an integer"),
        (NDJSON, "noise", "1.5", "1.5 is not an integer"),
        (NDJSON, "noise", "-101", "-101 is out of bounds; give an integer from -100 to 100"),
        (NDJSON, "samples", "[1,2]", "has 2 where 3 values are needed; write them as a list"),
        (NDJSON, "samples", "[]", "has 0 where 3 values are needed"),
        (NDJSON, "samples", "0.5", "has 0.5 where 3 values are needed"),
        (NDJSON, "samples", '"1 2 3"', "has '1 2 3' where 3 values are needed"),
        (NDJSON, "samples", '{"a":1}', "has an object where 3 values are needed"),
        (NDJSON, "samples", "[1,2,true]", "true (value 3) is not a number"),
        (NDJSON, "samples", "[1,[2],3]", "a list (value 2) is not a number"),
        (NDJSON, "samples", "[{},{},{}]", "an object (value 1) is not a number"),
        (NDJSON, "samples", "[1,null,3]", "null (value 2) is not a number"),
        (NDJSON, "samples", "[1,2,10.5]", "10.5 (value 3) is out of bounds; give a number from"),
        (NDJSON, "samples", f"[1,2,{'9' * 4_000}]", "999… (value 3) is out of bounds"),
    ],
)
def test_wrong_value_is_refused_with_its_place(
    signals: Workload, media_type: str, column: str, text: str, words: str
) -> None:
    rows = rows_of(media_type)
    good, bad = written(media_type, ROW), written(media_type, ROW | {column: text})
    with pytest.raises(BadRowError) as caught:
        rows.parse_row(9, bad)
    assert (caught.value.line, caught.value.column) == (9, column)
    assert words in caught.value.text
    assert len(caught.value.text) < 200
    assert rows.parse_chunk([good, bad, good]) is None


@pytest.mark.parametrize("lines", [['{"samples":[{}', "{}]}"], ['{"samples":[1', '{"noise":2}']])
def test_vector_does_not_go_on_over_a_line_end(signals: Workload, lines: list[str]) -> None:
    assert rows_of(NDJSON).parse_chunk(lines) is None
    assert rows_of(NDJSON).parse_chunk([written(NDJSON, ROW), *lines]) is None


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.fixed_dictionaries(dict.fromkeys(ROW, ANYTHING)))
def test_chunk_takes_only_what_a_row_takes(signals: Workload, row: dict[str, Any]) -> None:
    text = json.dumps(row)
    for rows, line in ((rows_of(NDJSON), text), (rows_of(CSV), written(CSV, row))):
        together = None if "\n" in line or "\r" in line else rows.parse_chunk([line])
        if together is None:
            continue
        alone = rows.parse_row(1, line)
        assert {name: values[0].tolist() for name, values in together.items()} == alone


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
@pytest.mark.parametrize("spoiled", [None, 4_500])
def test_upload_becomes_an_item_file(
    signals: Workload, tmp_path: Path, media_type: str, spoiled: int | None
) -> None:
    count = 5_000
    columns = signals.simulated_columns(np.arange(count, dtype=np.int64))
    values = {name: column.tolist() for name, column in columns.items()}
    rows = [{"item_id": i} | {n: v[i] for n, v in values.items()} for i in range(count)]
    lines = [HEADER] if media_type == CSV else []
    lines += [written(media_type, row) for row in rows]
    if spoiled is not None:
        lines[spoiled] = written(media_type, ROW | {"samples": [1, 2]})
    (tmp_path / "upload").write_text("\n".join(lines))
    arguments = (tmp_path / "upload", media_type, tmp_path / "items", "signals", count)
    if spoiled is not None:
        with pytest.raises(BadRowError, match=rf"line {spoiled + 1}, column samples: has 2"):
            ingest(*arguments)
        assert not (tmp_path / "items").exists()
        return
    assert ingest(*arguments) == count
    read = FileItems(str(tmp_path / "items"), count).load("signals", 0, count)
    for name, expected in columns.items():
        np.testing.assert_array_equal(read.columns[name], expected)


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
@pytest.mark.parametrize("width", [10_000, 100_000])
def test_line_may_hold_a_vector_of_any_width(
    signals: Workload, tmp_path: Path, media_type: str, width: int
) -> None:
    kernels.declare(replace(signals, columns_in=(Column("samples", "float64", "s", width=width),)))
    columns = kernels.get_workload("signals").simulated_columns(np.arange(3, dtype=np.int64))
    vectors = (-columns["samples"] * 1e-300).tolist()
    lines = ["item_id,samples"] if media_type == CSV else []
    lines += [
        written(media_type, {"item_id": n, "samples": vector}) for n, vector in enumerate(vectors)
    ]
    assert max(map(len, lines)) > MAX_LINE_BYTES
    (tmp_path / "upload").write_text("\n".join(lines))
    assert ingest(tmp_path / "upload", media_type, tmp_path / "items", "signals", 9) == 3
    read = FileItems(str(tmp_path / "items"), 3).load("signals", 0, 3)
    assert read.columns["samples"].tolist() == vectors
    longest = most_line_bytes(row_columns("signals"))
    with (tmp_path / "upload").open("a") as file:
        file.write("\n" + "1" * (longest + 1))
    with pytest.raises(BadRowError, match=f"is longer than {longest:,} bytes"):
        ingest(tmp_path / "upload", media_type, tmp_path / "items", "signals", 9)
