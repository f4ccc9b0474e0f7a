"""sources.arrow_rows: columns from Arrow and Parquet, and the first bad row."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from hotloop.app.errors import BadRowError
from hotloop.app.sources.arrow_rows import (
    ARROW,
    ARROW_FILE,
    ARROW_TYPES,
    CHUNK_BYTES,
    CHUNK_ROWS,
    PARQUET,
    arrow_chunks,
    has_pyarrow,
)
from hotloop.app.sources.row_columns import RowColumn, row_columns
from hotloop.kernels import Column, declare, get_workload, withdraw
from tests.fixtures.arrow_files import flights, written


def upload_columns(*columns: Column) -> tuple[RowColumn, ...]:
    """The columns of an upload for a workload with these."""
    declare(replace(get_workload("loops"), name="typed", columns_in=columns))
    try:
        return row_columns("typed")
    finally:
        withdraw("typed")


ITEM_ID, VALUE, OFFSET = LOOPS = row_columns("loops")
_, FLAG, SMALL, SERIES, LONG, WIDE = upload_columns(
    Column("flag", "bool", ""),
    Column("small", "float32", "", -10.0, 10.0),
    Column("series", "float64", "", -1.0, 1.0, width=3),
    Column("long", "float64", "", -1.0, 1.0, width=1_000),
    Column("wide", "float64", ""),
)

Read = Callable[..., dict[str, npt.NDArray[Any]]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read bytes, and return the columns of all chunks."""

    def columns(
        media_type: str,
        content: bytes,
        columns: tuple[RowColumn, ...] = LOOPS,
        max_rows: int = 1_000_000,
    ) -> dict[str, npt.NDArray[Any]]:
        path = tmp_path / "upload"
        path.write_bytes(content)
        chunks = list(arrow_chunks(path, media_type, columns, max_rows))
        assert all(len(chunk["item_id"]) for chunk in chunks)
        for chunk in chunks:
            for column in columns:
                assert chunk[column.name].dtype == column.dtype
        if not chunks:
            return {column.name: np.empty(0) for column in columns}
        return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}

    return columns


def test_pyarrow_is_looked_for_without_an_import(monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_pyarrow()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert not has_pyarrow()


@pytest.mark.parametrize("media_type", ARROW_TYPES)
@pytest.mark.parametrize("rows", [None, 1, 7])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_columns_are_read_to_the_bit(
    read: Read, media_type: str, rows: int | None, count: int
) -> None:
    table = flights(count)
    found = read(media_type, written(media_type, table, rows))
    for name in table.column_names:
        assert found[name].tobytes() == table.column(name).to_numpy().tobytes()


@pytest.mark.parametrize("media_type", ARROW_TYPES)
def test_columns_may_be_in_any_order(read: Read, media_type: str) -> None:
    table = flights(5).select(["offset", "item_id", "value"])
    found = read(media_type, written(media_type, table))
    assert found["offset"].tolist() == [0, 3, 6, 9, 12]
    assert found["value"].tolist() == [0, 0.5, 1, 1.5, 2]


@pytest.mark.parametrize("media_type", [ARROW, ARROW_FILE])
def test_stream_and_file_are_told_apart_by_their_bytes(read: Read, media_type: str) -> None:
    other = {ARROW: ARROW_FILE, ARROW_FILE: ARROW}[media_type]
    assert read(other, written(media_type, flights(3)))["item_id"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("media_type", ARROW_TYPES)
@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_compressed_files_are_read(read: Read, media_type: str, compression: str) -> None:
    content = written(media_type, flights(CHUNK_ROWS + 9), compression=compression)
    assert read(media_type, content)["item_id"].tolist() == list(range(CHUNK_ROWS + 9))


@pytest.mark.parametrize("media_type", ARROW_TYPES)
def test_large_batches_are_cut_into_chunks(tmp_path: Path, media_type: str) -> None:
    path = tmp_path / "upload"
    values = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2_000_000)), 1_000)
    path.write_bytes(written(media_type, pa.table({"item_id": np.arange(2_000), "long": values})))
    chunks = list(arrow_chunks(path, media_type, (ITEM_ID, LONG), 2_000))
    sizes = [sum(column.nbytes for column in chunk.values()) for chunk in chunks]
    assert max(sizes) <= CHUNK_BYTES
    assert min(sizes[:-1]) > CHUNK_BYTES * 0.9
    assert sum(len(chunk["item_id"]) for chunk in chunks) == 2_000


# --- types ---------------------------------------------------------------------------------

INTEGERS = [getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)]
NUMPY_NAMES = {pa.float16(): "float16", pa.float32(): "float32", pa.float64(): "float64"}
FLOATS = list(NUMPY_NAMES)


def one(column: RowColumn, values: Any) -> bytes:
    count = len(values)
    return written(ARROW, pa.table({"item_id": np.arange(count), column.name: values}))


@pytest.mark.parametrize("arrow_type", [*INTEGERS, *FLOATS], ids=str)
def test_types_that_hold_no_more_become_the_column(read: Read, arrow_type: Any) -> None:
    values = pa.array(np.array([1, 2, 3], NUMPY_NAMES.get(arrow_type, str(arrow_type))))
    assert read(ARROW, one(VALUE, values), (ITEM_ID, VALUE))["value"].tolist() == [1, 2, 3]
    if arrow_type in INTEGERS:
        assert read(ARROW, one(OFFSET, values), (ITEM_ID, OFFSET))["offset"].tolist() == [1, 2, 3]
    if arrow_type != pa.float64():
        assert read(ARROW, one(SMALL, values), (ITEM_ID, SMALL))["small"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("media_type", ARROW_TYPES)
def test_encoded_by_a_dictionary(read: Read, media_type: str) -> None:
    table = flights(4, value=pa.array([1.5, 2.5, 1.5, 1.5]).dictionary_encode())
    assert read(media_type, written(media_type, table))["value"].tolist() == [1.5, 2.5, 1.5, 1.5]


@pytest.mark.parametrize("media_type", ARROW_TYPES)
def test_booleans(read: Read, media_type: str) -> None:
    table = pa.table({"item_id": [1, 2, 3], "flag": [True, False, True]})
    found = read(media_type, written(media_type, table, 2), (ITEM_ID, FLAG))
    assert found["flag"].tolist() == [True, False, True]


@pytest.mark.parametrize("media_type", ARROW_TYPES)
@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.list_(pa.int8()),
        pa.large_list(pa.float64()),
        pa.list_(pa.float64(), 3),
    ],
    ids=str,
)
def test_vectors(read: Read, media_type: str, kind: Any) -> None:
    rows = [[0, 1, -1], [1, 0, 0], [0, 0, 1], [-1, -1, -1]]
    table = pa.table({"series": pa.array(rows, kind), "item_id": range(4)})
    found = read(media_type, written(media_type, table, 3), (ITEM_ID, SERIES))["series"]
    assert found.tolist() == rows
    assert found.flags.c_contiguous


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        (OFFSET, pa.array([1.0, 2.0]), "type double does not fit; cast it to int64 or another int"),
        (SMALL, pa.array([1.0, 2.0]), "type double does not fit; cast it to float32, a smaller"),
        (VALUE, pa.array(["1", "2"]), "its type string does not fit"),
        (VALUE, pa.array([True, False]), "its type bool does not fit"),
        (OFFSET, pa.array([True, False]), "its type bool does not fit"),
        (FLAG, pa.array([1, 0]), "its type int64 does not fit; cast it to bool"),
        (VALUE, pa.array([None, None]), "its type null does not fit"),
        (VALUE, pa.array([Decimal("1.5"), Decimal("2.5")]), "its type decimal128(2, 1)"),
        (VALUE, pa.array([1, 2], pa.timestamp("s")), "its type timestamp[s] does not fit"),
        (VALUE, pa.array([{"a": 1}, {"a": 2}]), "its type struct<a: int64> does not fit"),
        (VALUE, pa.array([[1.0], [2.0]]), "its type list<item: double> does not fit"),
        (VALUE, pa.array(["1", "1"]).dictionary_encode(), "its type string does not fit"),
        (SERIES, pa.array([1.0, 1.0]), "its type double is not a list; give each row a list of 3"),
        (SERIES, pa.array([["1"] * 3] * 2), "its type string does not fit"),
    ],
    ids=lambda value: value.name if isinstance(value, RowColumn) else str(value)[:20],
)
def test_other_types_are_refused(read: Read, column: RowColumn, values: Any, words: str) -> None:
    with pytest.raises(BadRowError) as caught:
        read(ARROW, one(column, values), (ITEM_ID, column))
    assert caught.value.field == f"column {column.name}"
    assert words in caught.value.text


# --- bad rows ------------------------------------------------------------------------------


@pytest.mark.parametrize("media_type", ARROW_TYPES)
@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        (VALUE, [1.0, 2.0, -0.5, -9.0], "-0.5 is out of bounds; give a number from 0 to 1,000,000"),
        (VALUE, [1.0, 2.0, float("nan"), 3.0], "nan is out of bounds"),
        (VALUE, [1.0, 2.0, float("inf"), 3.0], "inf is out of bounds"),
        (VALUE, pa.array(np.array([1, 2, np.inf, 3], np.float16)), "inf is out of bounds"),
        (VALUE, [1.0, 2.0, None, None], "a value is null; give every row its value"),
        (VALUE, [1, 2, -1, 3], "-1 is out of bounds"),
        (OFFSET, [1, 2, 2**31, 0], "2147483648 is out of bounds; give an integer from 0 to 2,147,"),
        (ITEM_ID, pa.array([1, 2, 2**63, 3], pa.uint64()), "9223372036854775808 is out of bounds"),
        (ITEM_ID, [1, 2, -1, None], "-1 is out of bounds; give an integer from 0 to 9,223,372,036"),
        (FLAG, [True, False, None, True], "a value is null"),
        (SMALL, [1, 2, 10.5, 3], "10.5 is out of bounds; give a number from -10 to 10"),
        (SERIES, [[0, 0, 0], [0, 0, 1], [0, 0, 2], [9, 9, 9]], "2 is out of bounds"),
        (SERIES, [[0.0, 0, 0], [0, 0, 1], [0, 0, None], [9, 9, 9]], "a value is null"),
        (SERIES, [[0, 0, 0], [0, 0, 1], None, [0, 0]], "a value is null"),
        (SERIES, [[0, 0, 0], [0, 0, 1], [0, 0], None], "has 2 values; give each row a list of 3"),
        (SERIES, [[0, 0, 0], [0, 0, 1], [0, 0, 0, 0], []], "has 4 values; give each row a list"),
        (SERIES, [[0, 0, 0], [0, 0, 1], [0, 7, 1], None], "7 is out of bounds"),
    ],
    ids=lambda value: value.name if isinstance(value, RowColumn) else "",
)
def test_first_bad_row_is_named(
    read: Read, media_type: str, column: RowColumn, values: Any, words: str
) -> None:
    if column is SMALL:
        values = pa.array(values, pa.float32())
    names = dict.fromkeys(["item_id", column.name])
    table = pa.table({name: range(4) for name in names} | {column.name: values})
    wanted = (ITEM_ID,) if column is ITEM_ID else (ITEM_ID, column)
    for rows in (None, 3, 1):  # within a batch, and over several
        content = written(media_type, table, rows)
        with pytest.raises(BadRowError) as caught:
            read(media_type, content, wanted)
        assert caught.value.field == f"row 3, column {column.name}"
        assert words in caught.value.text


def test_first_bad_row_of_all_columns_wins(read: Read) -> None:
    table = flights(4, value=[0.0, 1.0, 2.0, -1.0], offset=[0, 1, -1, 2])
    with pytest.raises(BadRowError) as caught:
        read(ARROW, written(ARROW, table))
    assert caught.value.field == "row 3, column offset"


@pytest.mark.parametrize("sign", [1, -1])
def test_integer_that_the_float_does_not_hold_exactly_is_refused(read: Read, sign: int) -> None:
    values = pa.array([0, sign * 2**53, sign * (2**53 + 1)])
    with pytest.raises(BadRowError) as caught:
        read(ARROW, one(WIDE, values), (ITEM_ID, WIDE))
    assert caught.value.field == "row 3, column wide"
    assert "is not held exactly by float64; send floats, or integers from -9,0" in str(caught.value)
    found = read(ARROW, one(WIDE, values[:2]), (ITEM_ID, WIDE))
    assert found["wide"].tolist() == [0, sign * 2**53]


@pytest.mark.parametrize("media_type", ARROW_TYPES)
@pytest.mark.parametrize(
    ("table", "column", "words"),
    [
        (flights(2).drop_columns("value"), "value", "the column is missing; give exactly item_id,"),
        (flights(2, extra=[1, 2]), None, "unknown column 'extra'; give exactly item_id, value"),
        (flights(0).select([]), "item_id", "the column is missing"),
        (flights(2).rename_columns(["item_id", "value", "value"]), "value", "appears 2 times"),
    ],
)
def test_other_columns_are_refused_as_in_csv(
    read: Read, media_type: str, table: Any, column: str | None, words: str
) -> None:
    with pytest.raises(BadRowError) as caught:
        read(media_type, written(media_type, table))
    assert (caught.value.line, caught.value.column) == (None, column)
    assert words in caught.value.text


@pytest.mark.parametrize("media_type", ARROW_TYPES)
@pytest.mark.parametrize("rows", [None, 10, 4])
def test_more_rows_than_allowed_are_refused(read: Read, media_type: str, rows: int | None) -> None:
    content = written(media_type, flights(20), rows)
    assert len(read(media_type, content, max_rows=20)["item_id"]) == 20
    with pytest.raises(BadRowError, match="row 11: is one row more than the 10 allowed"):
        read(media_type, content, max_rows=10)


# --- files that were cut short or damaged --------------------------------------------------


@pytest.mark.parametrize("media_type", ARROW_TYPES)
def test_file_cut_short_anywhere_is_refused(read: Read, media_type: str) -> None:
    content = written(media_type, flights(9), 3)
    for end in [*range(0, len(content), 13), *range(len(content) - 16, len(content))]:
        with pytest.raises(BadRowError):
            read(media_type, content[:end])


def test_stream_cut_between_batches_is_refused(read: Read) -> None:
    """pyarrow itself takes it for complete."""
    content = written(ARROW, flights(9), 3)
    assert pa.ipc.open_stream(content[:-8]).read_all().num_rows == 9
    with pytest.raises(BadRowError, match=r"row 10: .* ends without an end mark"):
        read(ARROW, content[:-8])
    with pytest.raises(BadRowError, match=r"row 10: .* bytes follow after its end mark"):
        read(ARROW, content + content)


@pytest.mark.parametrize("media_type", ARROW_TYPES)
@pytest.mark.parametrize("content", [b"", b"PAR1", b"ARROW1", b"\xff" * 8, b"item_id,value,offset"])
def test_bytes_of_another_kind_are_refused(read: Read, media_type: str, content: bytes) -> None:
    with pytest.raises(BadRowError, match="pyarrow cannot read it") as caught:
        read(media_type, content)
    assert caught.value.field == "file"


def test_parquet_that_claims_other_rows_is_refused(read: Read) -> None:
    """The number of rows of the file, in its footer, is raised by one."""
    content = written(PARQUET, flights(5), compression="none")
    length = int.from_bytes(content[-8:-4], "little")
    footer = bytearray(content[-8 - length : -8])
    schema_end = footer.index(b"offset") + len(b"offset")
    at = footer.index(bytes([0x16, 5 << 1]), schema_end)  # field 3: i64, zigzag
    footer[at + 1] = 6 << 1
    with pytest.raises(BadRowError, match=r"it has 5 rows and claims 6|pyarrow cannot read it"):
        read(PARQUET, content[: -8 - length] + bytes(footer) + content[-8:])


def test_indices_outside_of_the_dictionary_are_refused(read: Read) -> None:
    indices = pa.array([0, 1, 9], pa.int8())
    bad = pa.DictionaryArray.from_arrays(indices, pa.array([1.0, 2.0, 3.0]), safe=False)
    with pytest.raises(BadRowError, match=r"row 1: pyarrow cannot read it: .*out of bounds"):
        read(ARROW, written(ARROW, flights(3, value=bad)))
