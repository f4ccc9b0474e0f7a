"""`sources.csv_rows`: the rules of CSV uploads."""

from __future__ import annotations

import pytest

from hotloop.app.errors import BadRowError
from hotloop.app.sources.csv_rows import CsvRows
from hotloop.app.sources.row_columns import row_columns

COLUMNS = row_columns("loops")


def rows(header: str = "item_id,value,offset") -> CsvRows:
    return CsvRows(COLUMNS, (1, header.encode()))


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("item_id,value,offset", "1,2.5,3"),
        ("offset,item_id,value", "3,1,2.5"),
        ('"value","offset","item_id"', '"2.5","3","1"'),
        ('"value",offset,"item_id"', '2.5,"3",1'),
    ],
)
def test_columns_are_found_by_name(header: str, row: str) -> None:
    expected = {"item_id": 1, "value": 2.5, "offset": 3}
    assert rows(header).parse_row(2, row) == expected
    parsed = rows(header).parse_chunk([row])
    assert parsed is not None
    assert {name: column.tolist() for name, column in parsed.items()} == {
        name: [value] for name, value in expected.items()
    }


@pytest.mark.parametrize(
    ("header", "column", "words"),
    [
        ("item_id,value", "offset", "the column is missing; give exactly item_id, value, offset"),
        ("value,offset", "item_id", "the column is missing"),
        ("item_id,value,offset,colour", None, "unknown column 'colour'; give exactly item_id"),
        ("item_id,value,offset,value", "value", "the column appears 2 times"),
        ("item_id;value;offset", None, "unknown column 'item_id;value;offset'"),
        ("item_id, value,offset", None, "unknown column ' value'"),
        ("Item_ID,value,offset", None, "unknown column 'Item_ID'"),
        ("1,2,3", None, "unknown column '1'"),
        ("item_id,value,offset,", None, "unknown column ''"),
        ('item_id,value,"offset', None, "is not CSV: unexpected end of data"),
        ('item_id,value,"off"set', None, "is not CSV"),
        ("item_id,value,offset," + "x" * 60_000, None, "unknown column 'xxxxx"),
        ("item_id,value,\U0001f600", None, "unknown column"),
    ],
)
def test_header_that_does_not_fit_is_refused(header: str, column: str | None, words: str) -> None:
    with pytest.raises(BadRowError) as caught:
        CsvRows(COLUMNS, (3, header.encode()))
    assert (caught.value.line, caught.value.column) == (3, column)
    assert words in caught.value.text
    assert len(caught.value.text) < 200


@pytest.mark.parametrize("header", [b"\xffitem_id,value,offset", b"\0item_id,value,offset"])
def test_header_that_is_no_text_is_refused(header: bytes) -> None:
    with pytest.raises(BadRowError, match="line 1: "):
        CsvRows(COLUMNS, (1, header))


def test_missing_header_is_refused() -> None:
    with pytest.raises(BadRowError, match="start it with the line item_id,value,offset"):
        CsvRows(COLUMNS, None)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("1,2", "has 2 fields where the header has 3; give one for each column"),
        ("1,2,3,4", "has 4 fields where the header has 3"),
        ("1,2,3,", "has 4 fields"),
        ("1;2;3", "has 1 fields"),
        ('1,2,"3', "is not CSV: unexpected end of data; quote whole fields or none"),
        ('1,2,"3"4', "is not CSV"),
        ("1,2,3\r4,5,6", "is not CSV"),
    ],
)
def test_row_that_does_not_fit_is_refused(row: str, words: str) -> None:
    with pytest.raises(BadRowError) as caught:
        rows().parse_row(9, row)
    assert (caught.value.line, caught.value.column) == (9, None)
    assert words in caught.value.text
    assert rows().parse_chunk(["1,2,3", row]) is None


@pytest.mark.parametrize(
    "text",
    # Most of these `float` or `int` would take.
    [
        "",
        " 2",
        "2 ",
        "+2",
        "02",
        "2_0",
        ".5",
        "5.",
        "2e",
        "nan",
        "inf",
        "١",
        "２",
        "0x2",
        "2f",
        "2\r",
        "'2'",
        "2\u2028",
    ],
)
@pytest.mark.parametrize("column", ["item_id", "value", "offset"])
def test_other_spellings_of_numbers_are_refused(text: str, column: str) -> None:
    fields = {"item_id": "1", "value": "1", "offset": "1"} | {column: f'"{text}"'}
    row = ",".join(fields.values())
    with pytest.raises(BadRowError, match="is not a") as caught:
        rows().parse_row(2, row)
    assert caught.value.column == column
    assert repr(text) in caught.value.text
    assert rows().parse_chunk([row]) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0.0), ("-0", 0.0), ("-0.0", 0.0), ("1E5", 1e5), ("1e-999", 0.0), ("12.50e+1", 125.0)],
)
def test_numbers_are_written_as_in_json(text: str, value: float) -> None:
    assert rows().parse_row(2, f"0,{text},0")["value"] == value


def test_integer_of_too_many_digits_for_python_is_out_of_bounds() -> None:
    row = f"1,2,{'7' * 60_000}"
    with pytest.raises(BadRowError, match=r"'7777.*… is out of bounds"):
        rows().parse_row(2, row)
    assert rows().parse_chunk([row]) is None
