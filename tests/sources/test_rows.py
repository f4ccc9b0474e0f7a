"""`sources.row_columns`, `sources.row_file`: from an upload to an item file, in both formats, and
the first bad row.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hotloop.app.errors import BadRowError, InvalidRequestError, StoreError
from hotloop.app.sources.csv_rows import CsvRows
from hotloop.app.sources.ndjson_rows import NdjsonRows
from hotloop.app.sources.row_columns import row_columns
from hotloop.app.sources.rows import CSV, MEDIA_TYPES, NDJSON, ingest
from hotloop.app.sources.upload_lines import CHUNK_ROWS, MAX_LINE_BYTES

Ingest = Callable[..., npt.NDArray[np.void]]


@pytest.fixture
def read(tmp_path: Path) -> Ingest:
    """Ingests bytes and returns the item file's rows; after an error, nothing may be left."""

    def read_bytes(media_type: str, body: bytes, max_rows: int = 1000) -> npt.NDArray[np.void]:
        upload = tmp_path / "upload"
        upload.write_bytes(body)
        items = tmp_path / "items.npy"
        try:
            count = ingest(upload, media_type, items, "loops", max_rows)
        except Exception:
            assert list(tmp_path.iterdir()) == [upload]
            raise
        rows: npt.NDArray[np.void] = np.load(items)
        items.unlink()
        assert len(rows) == count
        return rows

    return read_bytes


def upload(media_type: str, *rows: str) -> bytes:
    """An upload of these rows, each `item_id,value,offset` as it is to be written."""
    if media_type == CSV:
        return "\n".join(["item_id,value,offset", *rows, ""]).encode()
    names = ("item_id", "value", "offset")
    objects = [
        ", ".join(f'"{name}": {text}' for name, text in zip(names, row.split(","), strict=True))
        for row in rows
    ]
    return "".join(f"{{{text}}}\n" for text in objects).encode()


def line_of(media_type: str, row: int) -> int:
    """The line of the row with this index."""
    return row + (2 if media_type == CSV else 1)


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_rows_are_stored_to_the_bit_and_in_order(read: Ingest, media_type: str) -> None:
    rows = read(
        media_type,
        upload(media_type, "3,0.1,7", "0,1e6,0", "9223372036854775807,5e-324,2147483647", "3,2,1"),
    )
    assert rows.tolist() == [
        (3, 0.1, 7),
        (0, 1e6, 0),
        (2**63 - 1, 5e-324, 2**31 - 1),
        (3, 2.0, 1),
    ]


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_item_ids_may_repeat(read: Ingest, media_type: str) -> None:
    assert len(read(media_type, upload(media_type, "5,1,1", "5,1,1", "5,2,2"))) == 3


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
@pytest.mark.parametrize("count", [1, CHUNK_ROWS, CHUNK_ROWS + 1, 3 * CHUNK_ROWS])
def test_any_number_of_chunks_is_stored_whole(read: Ingest, media_type: str, count: int) -> None:
    body = upload(media_type, *(f"{i},{i}.25,{count - i}" for i in range(count)))
    rows = read(media_type, body, max_rows=count)
    np.testing.assert_array_equal(rows["item_id"], np.arange(count))
    np.testing.assert_array_equal(rows["value"], np.arange(count) + 0.25)
    np.testing.assert_array_equal(rows["offset"], count - np.arange(count))


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n", b"\n  \t\r\n"])
def test_line_ends_and_blank_lines(read: Ingest, media_type: str, end: bytes) -> None:
    body = upload(media_type, "1,2,3", "4,5,6").replace(b"\n", end)
    for variant in (body, body.removesuffix(end), body + end + end, end + body):
        assert read(media_type, variant).tolist() == [(1, 2.0, 3), (4, 5.0, 6)]


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_byte_order_mark_is_skipped(read: Ingest, media_type: str) -> None:
    body = b"\xef\xbb\xbf" + upload(media_type, "1,2,3")
    assert read(media_type, body).tolist() == [(1, 2.0, 3)]


BAD_NUMBERS = [
    ("-1,2,3", "item_id", "-1' is out of bounds; give an integer from 0 to"),
    ("9223372036854775808,2,3", "item_id", "from 0 to 9,223,372,036,854,775,807"),
    ("1.0,2,3", "item_id", "is not an integer; write it in plain digits, like 12"),
    ("1e3,2,3", "item_id", "is not an integer"),
    ("1,-0.5,3", "value", "is out of bounds; give a number from 0 to 1,000,000"),
    ("1,1000000.1,3", "value", "1000000.1"),
    ("1,1e999,3", "value", "is out of bounds"),
    ("1,-1e999,3", "value", "is out of bounds"),
    (f"1,{'9' * 400},3", "value", "is out of bounds"),
    ("1,2,2147483648", "offset", "give an integer from 0 to 2,147,483,647"),
    ("1,2,1.5", "offset", "is not an integer"),
    (f"1,2,{'9' * 4000}", "offset", "is out of bounds"),
]


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
@pytest.mark.parametrize(("row", "column", "words"), BAD_NUMBERS)
def test_bad_number_is_named_by_line_and_column(
    read: Ingest, media_type: str, row: str, column: str, words: str
) -> None:
    with pytest.raises(BadRowError) as caught:
        read(media_type, upload(media_type, "1,2,3", row, "-1,-1,-1"))
    assert (caught.value.line, caught.value.column) == (line_of(media_type, 1), column)
    assert words.replace("'", "" if media_type == NDJSON else "'") in caught.value.text
    assert len(caught.value.text) < 200


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
@pytest.mark.parametrize("bad", [0, 1, CHUNK_ROWS - 1, CHUNK_ROWS, 2 * CHUNK_ROWS + 5])
def test_first_bad_row_wins_wherever_it_is(read: Ingest, media_type: str, bad: int) -> None:
    rows = [f"{i},1,1" for i in range(3 * CHUNK_ROWS)]
    rows[bad] = "1,-1,1"
    rows[bad + 1] = "1,1,-1"
    body = upload(media_type, *rows).replace(b"\n", b"\r\n") + b"\xff"
    with pytest.raises(BadRowError) as caught:
        read(media_type, body, max_rows=10 * CHUNK_ROWS)
    assert (caught.value.line, caught.value.column) == (line_of(media_type, bad), "value")


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"\xff1,2,3", "byte 1 is not UTF-8; save the file as text in UTF-8"),
        (b"1,2,3\xc3", "byte 6 is not UTF-8"),
        (b"1,\xed\xa0\x80,3", "byte 3 is not UTF-8"),
        (b"1,2\0,3", "has a NUL byte"),
        (b"1" * (MAX_LINE_BYTES + 1), "is longer than 65,536 bytes"),
        (b"1" * (MAX_LINE_BYTES + 2), "is longer than 65,536 bytes"),
        (b"1" * (3 * MAX_LINE_BYTES), "is longer than 65,536 bytes"),
        (b" " * (3 * MAX_LINE_BYTES) + b"x", "is longer than 65,536 bytes"),
    ],
)
def test_bad_line_is_named_and_an_earlier_bad_row_comes_first(
    read: Ingest, media_type: str, line: bytes, words: str
) -> None:
    good = upload(media_type, "1,2,3", "1,2,3")
    for tail in (b"", b"\n", b"\r\n", b"\n" + good):
        with pytest.raises(BadRowError) as caught:
            read(media_type, good + line + tail)
        assert caught.value.line == line_of(media_type, 2)
        assert caught.value.column is None
        assert words in caught.value.text
    with pytest.raises(BadRowError) as caught:
        read(media_type, upload(media_type, "1,2,3", "1,-2,3") + line)
    assert (caught.value.line, caught.value.column) == (line_of(media_type, 1), "value")


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_line_of_the_greatest_length_is_read(read: Ingest, media_type: str) -> None:
    long = f"1,0.{'0' * (MAX_LINE_BYTES - 100)}1,3"
    body = upload(media_type, long)
    line = body.splitlines()[-1]
    padding = b"0" * (MAX_LINE_BYTES - len(line))
    for end in (b"", b"\n", b"\r\n"):
        full = body.removesuffix(b"\n").replace(b"0.0", b"0." + padding + b"0") + end
        assert len(full.splitlines()[-1]) == MAX_LINE_BYTES
        assert read(media_type, full).tolist() == [(1, 0.0, 3)]


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
@pytest.mark.parametrize("body", [b"", b"\n\n\r\n", b"\xef\xbb\xbf", b"   \n"])
def test_upload_without_lines_is_refused(read: Ingest, media_type: str, body: bytes) -> None:
    with pytest.raises(BadRowError, match=r"line 1: the (file is empty|upload has no rows)"):
        read(media_type, body)


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
@pytest.mark.parametrize("max_rows", [1, 3, CHUNK_ROWS, CHUNK_ROWS + 1])
def test_more_rows_than_allowed_are_refused(read: Ingest, media_type: str, max_rows: int) -> None:
    rows = [f"{i},1,1" for i in range(max_rows)]
    assert len(read(media_type, upload(media_type, *rows), max_rows)) == max_rows
    for extra in ("1,1,1", "1,1,-1"):
        with pytest.raises(BadRowError) as caught:
            read(media_type, upload(media_type, *rows, extra, *rows), max_rows)
        assert caught.value.line == line_of(media_type, max_rows)
        assert f"one row more than the {max_rows:,} allowed" in caught.value.text


def test_other_media_type_is_refused(read: Ingest) -> None:
    with pytest.raises(InvalidRequestError, match="send one of text/csv, application/x-ndjson"):
        read("application/json", b"")


def test_missing_upload_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="the upload cannot be read: it does not exist"):
        ingest(tmp_path / "gone", CSV, tmp_path / "items.npy", "loops", 1)
    assert list(tmp_path.iterdir()) == []


MEMORY = """
import resource, sys
from hotloop.app.errors import BadRowError
from hotloop.app.sources.rows import ingest
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print(ingest(sys.argv[1], sys.argv[2], sys.argv[3], "loops", 10**9))
except BadRowError as error:
    print(error.line)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(grown // 1024 if sys.platform == "linux" else grown >> 20)
"""


# Both formats read lines by the same code.
@pytest.mark.parametrize(
    ("media_type", "kind"),
    [(CSV, kind) for kind in ("rows", "wide rows", "one line", "blank lines", "open quotes")]
    + [(NDJSON, kind) for kind in ("rows", "wide rows")],
)
def test_memory_does_not_depend_on_the_upload(tmp_path: Path, media_type: str, kind: str) -> None:
    """Uploads many times as large as the growth that is allowed."""
    path = tmp_path / "upload"
    with path.open("wb") as file:
        file.write(upload(media_type, "1,2,3"))
        row = upload(media_type, "12345678,123456.125,1234567890").splitlines()[-1]
        if kind == "rows":
            file.write((row + b"\n") * 200_000)
        elif kind == "wide rows":
            file.write((row.replace(b".", b"." + b"0" * 65_000) + b"\n") * 1_600)
        elif kind == "one line":
            file.truncate(1 << 30)  # a hole, all NUL
        elif kind == "blank lines":
            file.write(b"\n" * 3_000_000)
        else:
            file.write(b'","\n' * 20_000_000)
    command = [sys.executable, "-c", MEMORY, str(path), media_type, str(tmp_path / "items.npy")]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    count_or_line, megabytes = map(int, answer.stdout.split())
    assert count_or_line == {
        "rows": 200_001,
        "wide rows": 1_601,
        "blank lines": 1,
    }.get(kind, line_of(media_type, 1))
    assert megabytes < 40


# --- the quick path and the exact one ------------------------------------------------------

COLUMNS = row_columns("loops")
NUMBERS = st.one_of(
    st.integers(-2, 3).map(str),
    st.integers(-(2**70), 2**70).map(str),
    st.floats(0, 1e6).map(repr),
    st.floats().map(repr),
    st.sampled_from(["0", "-0", "00", "01", "+1", "1_0", ".5", "5.", "1e3", "1E+2", "1e-400"]),
    st.sampled_from(["0x1", "١", "nan", "inf", "Infinity", "NaN", "true", "null"]),
    st.sampled_from(["", " 1", "1 ", "1\t", "1\r", "1\x0b", '"1"', '""', '1"', "[1]", "{}", "1}"]),
    st.text("0123456789.eE+-_ ,\"'{}[]:\\\ru\x85\u2028", max_size=6),
)


def checked_the_same(rows: CsvRows | NdjsonRows, texts: list[str]) -> None:
    """The quick path gives what the exact one does, or nothing."""
    quick = rows.parse_chunk(texts)
    try:
        exact = [rows.parse_row(7, text) for text in texts]
    except BadRowError:
        assert quick is None
        return
    if quick is None:
        return
    for column in COLUMNS:
        values = np.array([row[column.name] for row in exact], column.dtype)
        assert quick[column.name].dtype == values.dtype
        assert quick[column.name].tobytes() == values.tobytes()


@given(st.lists(st.lists(NUMBERS, min_size=2, max_size=4).map(",".join), min_size=1, max_size=3))
@example(['1,2,"3', '4,5,6"'])
@example(['1,2,"3', '4"'])
@example(['1,2,3,"', '"'])
@example(["1,2,3\r", "1,2,3"])
def test_csv_paths_accept_the_same(texts: list[str]) -> None:
    header = (1, b"item_id,value,offset")
    checked_the_same(CsvRows(COLUMNS, header), [text for text in texts if text.strip()] or ["1"])


NAMES = st.sampled_from(
    ['"item_id"', '"value"', '"offset"', '"\\u006fffset"', '"other"', '"a\\"b"', '"},{"', "1", ""]
)
PLAIN_ROW = '{"item_id":1,"value":2,"offset":3}'
OBJECTS = st.one_of(
    st.tuples(NUMBERS, NUMBERS, NUMBERS).map(
        lambda values: '{{"item_id":{},"value":{},"offset":{}}}'.format(*values)
    ),
    st.lists(st.tuples(NAMES, NUMBERS).map(":".join), max_size=4).map(
        lambda pairs: "{" + ",".join(pairs) + "}"
    ),
    st.just(PLAIN_ROW),
    st.just(" " + PLAIN_ROW + "\r"),
    st.sampled_from(["1", "[]", "null", '"x"', "{", "}", "{}", "{}{}", "],["]),
    # Pieces that make whole rows, or hide a row, when lines are joined by a comma.
    st.sampled_from(
        [
            '{"item_id":1',
            '"value":2,"offset":3}',
            PLAIN_ROW + "," + PLAIN_ROW,
            PLAIN_ROW + "]",
            "[" + PLAIN_ROW,
            '{"value":{}',
            '{"item_id":1,"value":2,"offset":[{}',
            "{}]}",
            '{"item_id":1,"value":2,"offset":3,"x":"}',
            '{"}',
        ]
    ),
)


@given(st.lists(OBJECTS, min_size=1, max_size=4))
@example(['{"item_id":1', '"value":2,"offset":3}', PLAIN_ROW + "," + PLAIN_ROW])
@example(['{"item_id":1,"value":2,"offset":[{}', "{}]}", PLAIN_ROW + "," + PLAIN_ROW])
@example(['{"item_id":1,"value":2,"offset":3,"x":[{}', '{"y":1,"z":1}]}'])
@example([PLAIN_ROW + ",[]," + PLAIN_ROW])
@example(['{"item_id":1,"item_id":1,"value":2,"offset":3}'])
@example(['{"item_id":1,"value":NaN,"offset":3}'])
@example(['{"item_id":true,"value":2,"offset":3}'])
@example(['{"item_id":1,"value":true,"offset":3}'])
@example(['{"item_id":1,"value":1e999,"offset":3}', PLAIN_ROW])
def test_ndjson_paths_accept_the_same(texts: list[str]) -> None:
    checked_the_same(NdjsonRows(COLUMNS), texts)


@given(
    st.lists(
        st.tuples(st.integers(0, 2**63 - 1), st.floats(0, 1e6), st.integers(0, 2**31 - 1)),
        min_size=1,
        max_size=20,
    )
)
def test_rows_as_programs_write_them_take_the_quick_path(rows: list[tuple[float, ...]]) -> None:
    names = [column.name for column in COLUMNS]
    csv = CsvRows(COLUMNS, (1, ",".join(names).encode()))
    by_csv = csv.parse_chunk([",".join(map(repr, row)) for row in rows])
    texts = [json.dumps(dict(zip(names, row, strict=True))) for row in rows]
    by_json = NdjsonRows(COLUMNS).parse_chunk(texts)
    assert by_csv is not None
    assert by_json is not None
    for position, name in enumerate(names):
        expected = [row[position] for row in rows]
        assert by_csv[name].tolist() == by_json[name].tolist() == expected


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_no_bytes_raise_another_error(read: Ingest, media_type: str) -> None:
    """A good upload, changed at random places."""
    dice = random.Random(20240229)
    good = upload(media_type, "1,2.5,3", "4,5e1,6", "7,8,9")
    lines_refused = []
    for _ in range(1500):
        body = bytearray(good)
        for _ in range(dice.choice([1, 1, 2, 5])):
            place = dice.randrange(len(body))
            body[place : place + dice.randrange(3)] = dice.choice(
                [b"", b'"', b",", b"\n", b"\r", b"{", b"[", b"\\", b"9", b"-", b"\0", b"\x80"]
            )
        try:
            read(media_type, bytes(body))
        except BadRowError as error:
            str(error).encode()
            lines_refused.append(error.line)
    assert 500 < len(lines_refused) < 1500
    assert set(lines_refused) >= {1, 2, 3}
