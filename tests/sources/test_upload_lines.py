"""Lines of an upload, and the chunks they are read in."""

from __future__ import annotations

import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hotloop.app.errors import BadRowError
from hotloop.app.sources.upload_lines import (
    CHUNK_BYTES,
    CHUNK_ROWS,
    MAX_LINE_BYTES,
    chunk_texts,
    chunks,
    line_text,
    upload_lines,
)


def lines(body: bytes) -> list[tuple[int, bytes]]:
    return list(upload_lines(io.BytesIO(body)))


def test_lines_have_their_number_in_the_file() -> None:
    assert lines(b"\xef\xbb\xbfa\n\n \t\nb\r\n\r\nc") == [(1, b"a"), (4, b"b"), (6, b"c")]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("length", [MAX_LINE_BYTES - 1, MAX_LINE_BYTES])
def test_long_line_counts_once(end: bytes, length: int) -> None:
    long = b"x" * length
    assert lines(long + end + b"y" + end) == [(1, long), (2, b"y")]


@pytest.mark.parametrize("filling", [b"x", b" "])
@pytest.mark.parametrize("beyond", [1, 2, 3, MAX_LINE_BYTES])
def test_line_that_is_too_long_is_the_last_and_refused(filling: bytes, beyond: int) -> None:
    *before, last = lines(b"a\n" + filling * (MAX_LINE_BYTES + beyond) + b"\ny\n")
    assert before == [(1, b"a")]
    assert last[0] == 2
    with pytest.raises(BadRowError, match="line 2: is longer than 65,536 bytes"):
        line_text(last)


@pytest.mark.parametrize(
    ("count", "length", "sizes"),
    [
        (0, 1, []),
        (CHUNK_ROWS, 1, [CHUNK_ROWS]),
        (2 * CHUNK_ROWS + 1, 1, [CHUNK_ROWS, CHUNK_ROWS, 1]),
        (100, CHUNK_BYTES // 32, [32, 32, 32, 4]),
        (3, CHUNK_BYTES, [1, 1, 1]),
    ],
)
def test_chunks_are_bounded_in_lines_and_in_bytes(
    count: int, length: int, sizes: list[int]
) -> None:
    given_lines = [(number, b"x" * length) for number in range(count)]
    made = list(chunks(given_lines))
    assert [len(chunk) for chunk in made] == sizes
    assert [line for chunk in made for line in chunk] == given_lines


RAW_LINES = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\n")).map(str.encode),
    st.binary().map(lambda raw: raw.replace(b"\n", b"")),
)


@given(st.lists(RAW_LINES, min_size=1, max_size=4))
@example([b"a", b"b\0"])
@example([b"a", b"b\xff"])
def test_texts_of_a_chunk_are_those_of_its_lines(raws: list[bytes]) -> None:
    chunk = list(enumerate(raws))
    expected: list[str] | None
    try:
        expected = [line_text(line) for line in chunk]
    except BadRowError:
        expected = None
    assert chunk_texts(chunk) == expected


@pytest.mark.parametrize("place", [0, 1, 2])
def test_chunk_with_a_line_that_is_too_long_has_no_texts(place: int) -> None:
    raws = [b"a", b"b", b"c"]
    raws[place] = b"x" * (MAX_LINE_BYTES + 1)
    assert chunk_texts(list(enumerate(raws))) is None
