"""`sources.ndjson_rows`: the rules of NDJSON uploads."""

from __future__ import annotations

import pytest

from hotloop.app.errors import BadRowError
from hotloop.app.sources.ndjson_rows import NdjsonRows
from hotloop.app.sources.row_columns import row_columns

ROWS = NdjsonRows(row_columns("loops"))
PLAIN = '{"item_id":1,"value":2.5,"offset":3}'


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        '  { "offset" : 3 , "value" : 25e-1 , "item_id" : 1 }\t',
        '{"\\u0069tem_id":1,"value":2.5,"offset":3}',
    ],
)
def test_any_spelling_of_the_object_is_read(text: str) -> None:
    assert ROWS.parse_row(1, text) == {"item_id": 1, "value": 2.5, "offset": 3}


def test_integer_for_a_float_column_is_converted() -> None:
    parsed = ROWS.parse_chunk(['{"item_id":1,"value":2,"offset":3}'])
    assert parsed is not None
    assert parsed["value"].dtype == "float64"
    assert parsed["value"].tolist() == [2.0]


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("[1,2,3]", None, "is a list; write an object on each line"),
        ("1", None, "is 1; write an object"),
        ("null", None, "is null; write an object"),
        ('"text"', None, "is 'text'; write an object"),
        ("", None, "is not JSON: Expecting value at character 1"),
        ("item_id,value,offset", None, "is not JSON: Expecting value at character 1"),
        (PLAIN[:-1], None, "is not JSON: Expecting ',' delimiter at character 36"),
        (PLAIN + PLAIN, None, "is not JSON: Extra data at character 37"),
        (PLAIN + ",", None, "is not JSON: Extra data"),
        ("{'item_id':1}", None, "is not JSON"),
        ("{}", "item_id", "the column is missing; give exactly item_id, value, offset"),
        ('{"item_id":1,"offset":3}', "value", "the column is missing"),
        (PLAIN[:-1] + ',"x":1}', None, "unknown column 'x'; give exactly"),
        (PLAIN[:-1] + ',"\\ud800":1}', None, "unknown column '\\ud800'"),
        (PLAIN[:-1] + ',"value":2.5}', "value", "the column appears 2 times"),
        (PLAIN.replace("2.5", "NaN"), None, "NaN is not JSON; give finite numbers only"),
        (PLAIN.replace("2.5", "-Infinity"), None, "-Infinity is not JSON"),
        (PLAIN.replace("2.5", "true"), "value", "true is not a number"),
        (PLAIN.replace("3", "false"), "offset", "false is not an integer"),
        (PLAIN.replace("2.5", "null"), "value", "null is not a number"),
        (PLAIN.replace("2.5", '"2.5"'), "value", "'2.5' is not a number; write it like 12"),
        (PLAIN.replace("2.5", '"' + "x" * 9000 + '"'), "value", "…"),
        (PLAIN.replace("2.5", "[2.5]"), "value", "a list is not a number"),
        (PLAIN.replace("2.5", '{"value":2.5}'), "value", "an object is not a number"),
        (PLAIN.replace("3", "3.0"), "offset", "3.0 is not an integer"),
        (PLAIN.replace("2.5", "9" * 5000), None, "has an integer of thousands of digits"),
        (PLAIN.replace("2.5", "9" * 4000), "value", "9999… is out of bounds"),
        ("[" * 60_000, None, "is nested too deeply"),
        ('{"value":' * 100_000, None, "is nested too deeply"),
    ],
)
def test_row_that_does_not_fit_is_refused(text: str, column: str | None, words: str) -> None:
    with pytest.raises(BadRowError) as caught:
        ROWS.parse_row(9, text)
    assert (caught.value.line, caught.value.column) == (9, column)
    assert words in caught.value.text
    assert len(caught.value.text) < 200
    str(caught.value).encode()
    if text:
        assert ROWS.parse_chunk([PLAIN, text, PLAIN]) is None


def test_nesting_within_python_s_own_limit_is_refused_too() -> None:
    with pytest.raises(BadRowError, match="line 1, column value: a list is not a number"):
        ROWS.parse_row(1, PLAIN.replace("2.5", "[" * 300 + "]" * 300))
