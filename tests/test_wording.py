"""Texts of faults: bounds and values named, always short and encodable."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from hotloop.app.wording import describe, echo, plain

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (5, "5"),
        (2.5, "2.5"),
        (math.nan, "NaN"),
        (-math.inf, "-Infinity"),
        ("a", '"a"'),
        pytest.param("a" * 1_000_000, '"' + "a" * 60 + '…"', id="huge string"),
        ("\ud800\n", '"\ufffd "'),
        pytest.param(10**5_000, "an integer of 16,610 bits", id="huge integer"),
        ([1, 2], "2 entries"),
        ([], "an empty list"),
        ({"a": 1}, "an object"),
        (b"abc", "3 entries"),
        (object(), "a object"),
    ],
)
def test_echo_is_short_text(value: Any, text: str) -> None:
    assert echo(value) == text


@given(JSON_VALUES)
def test_echo_of_anything_is_short_and_encodable(value: Any) -> None:
    assert len(echo(value).encode("utf-8")) < 400


@given(st.text(), st.integers(0, 100))
def test_plain_is_cut_printable_and_encodable(text: str, length: int) -> None:
    shown = plain(text, length)
    assert len(shown) <= length + 1
    assert shown.isprintable()
    shown.encode("utf-8")


@given(JSON_VALUES, st.sampled_from([int, float, bool, str, list[int], tuple[int, int]]))
def test_describe_of_any_error_is_text(value: Any, wanted: Any) -> None:
    try:
        TypeAdapter(wanted).validate_python(value, strict=True)
    except ValidationError as error:
        for detail in error.errors():
            assert describe(detail).isprintable()
