"""sources.pinot: every answer is a table, or an error that tells whether it may pass."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hotloop.app.sources.pinot import REFUSALS, TRANSIENT, PinotTable, read_answer
from hotloop.app.sources.resilience import RefusedError, TransientError

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
KEYS = (
    "exceptions",
    "partialResult",
    "numServersQueried",
    "numServersResponded",
    "resultTable",
)
STATUSES = st.sampled_from([200, 204, 301, 400, 401, 404, 408, 429, 500, 503])


def answer(**changes: Any) -> dict[str, Any]:
    """Two rows, complete; a change to None takes the field out."""
    fields = {
        "resultTable": {
            "dataSchema": {"columnNames": ["id", "v"], "columnDataTypes": ["LONG", "DOUBLE"]},
            "rows": [[1, 0.5], [2, 1.5]],
        },
        "exceptions": [],
        "partialResult": False,
        "numServersQueried": 2,
        "numServersResponded": 2,
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}


def read(status: int = 200, **changes: Any) -> PinotTable:
    return read_answer(status, json.dumps(answer(**changes)).encode())


RIGHT = PinotTable({"id": 0, "v": 1}, [[1, 0.5], [2, 1.5]])


@pytest.mark.parametrize("left_out", ["exceptions", "numServersQueried", "partialResult"])
def test_complete_answer_is_a_table(left_out: str) -> None:
    changes: dict[str, Any] = {left_out: None}
    assert read() == read(**changes) == RIGHT


@given(STATUSES, JSON_VALUES)
@example(200, [])
@example(200, {})
@example(200, None)
def test_unexpected_json_is_a_source_error(status: int, value: Any) -> None:
    with pytest.raises((TransientError, RefusedError)) as caught:
        read_answer(status, json.dumps(value).encode())
    assert len(str(caught.value)) < 150


@given(STATUSES, st.dictionaries(st.sampled_from(KEYS), JSON_VALUES))
def test_any_answer_is_a_table_or_an_error_of_ours(status: int, changes: dict[str, Any]) -> None:
    try:
        table = read_answer(status, json.dumps(answer() | changes).encode())
    except (TransientError, RefusedError):
        return
    assert status == 200
    assert not changes.get("exceptions")
    assert all(len(row) >= len(table.columns) for row in table.rows)


@given(STATUSES, st.binary(max_size=64))
@example(200, b"")
@example(200, b"\xff\xfe")
@example(200, b"[" * 100_000)
@example(200, b'{"a":' * 100_000)
@example(200, b"1" * 5_000)
def test_any_bytes_are_an_error_of_ours(status: int, body: bytes) -> None:
    with pytest.raises((TransientError, RefusedError)):
        read_answer(status, body)


@pytest.mark.parametrize("code", sorted(TRANSIENT))
def test_codes_that_may_pass(code: int) -> None:
    with pytest.raises(TransientError, match=f"^pinot error {code}: {TRANSIENT[code]}$"):
        read(exceptions=[{"errorCode": code, "message": "secret-server"}])


@pytest.mark.parametrize("code", sorted(REFUSALS))
def test_codes_that_last(code: int) -> None:
    with pytest.raises(RefusedError, match=f"^pinot error {code}: .*HOTLOOP_PINOT_"):
        read(exceptions=[{"errorCode": code, "message": "secret-server"}])


def test_no_code_both_passes_and_lasts() -> None:
    assert not TRANSIENT.keys() & REFUSALS.keys()
    assert {250, 400, 427, 429} <= TRANSIENT.keys()
    assert {150, 180, 190, 700, 710} <= REFUSALS.keys()


@pytest.mark.parametrize(
    ("exceptions", "kind", "text"),
    [
        ([{"errorCode": 999}], RefusedError, "pinot error 999: see its log"),
        ([{"message": "x"}], RefusedError, "pinot error -1: see its log"),
        (["x"], RefusedError, "pinot error -1: see its log"),
        ("x", RefusedError, "pinot error -1: see its log"),
        ({"errorCode": 427}, TransientError, "pinot error 427: a server did not respond"),
        ([{"errorCode": 427}, {"errorCode": 190}], RefusedError, "pinot error 190: there is no"),
        ([{"errorCode": 427}, {"errorCode": 250}], TransientError, "pinot error 427"),
    ],
)
@pytest.mark.parametrize("status", [200, 404, 503])
def test_errors_decide_before_the_status_and_the_rows(
    exceptions: Any, kind: type[Exception], text: str, status: int
) -> None:
    with pytest.raises(kind, match=f"^{text}"):
        read(status, exceptions=exceptions)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, TransientError),  # no JSON
        (204, RefusedError),
        (301, RefusedError),
        (400, RefusedError),
        (401, RefusedError),
        (403, RefusedError),
        (404, RefusedError),
        (408, TransientError),
        (429, TransientError),
        (500, TransientError),
        (502, TransientError),
        (599, TransientError),
    ],
)
def test_status_decides_where_there_is_no_json(status: int, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"^pinot"):
        read_answer(status, b"<html>")


@pytest.mark.parametrize("status", [201, 404, 500])
def test_valid_table_with_an_error_status_is_refused(status: int) -> None:
    with pytest.raises((TransientError, RefusedError), match=f"HTTP {status}"):
        read(status)


def test_denied_access_names_the_setting() -> None:
    for status in (401, 403):
        with pytest.raises(RefusedError, match="HOTLOOP_PINOT_AUTHORIZATION"):
            read(status, exceptions=[{"errorCode": 427}])


@pytest.mark.parametrize(
    "changes",
    [
        {"partialResult": True},
        {"numServersResponded": 1},
        {"numServersResponded": 0},
        {"resultTable": None},
        {"resultTable": {}},
        {"resultTable": {"rows": []}},
        {"resultTable": {"dataSchema": {"columnNames": ["id"]}}},
        {"resultTable": {"dataSchema": {"columnNames": ["id"]}, "rows": [[1], 2]}},
        {"resultTable": {"dataSchema": {"columnNames": ["id"]}, "rows": [[1], [1, 2]]}},
        {"resultTable": {"dataSchema": {"columnNames": ["id", "v"]}, "rows": [[1]]}},
    ],
)
def test_incomplete_answer_is_retried(changes: dict[str, Any]) -> None:
    with pytest.raises(TransientError, match=r"^(only 1|only 0|pinot's answer)"):
        read(**changes)


def test_answer_without_rows_is_a_table() -> None:
    table = {"dataSchema": {"columnNames": ["id"]}, "rows": []}
    assert read(resultTable=table) == PinotTable({"id": 0}, [])


def test_messages_of_pinot_are_logged_and_hidden_from_clients(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(TransientError) as caught:
        read(exceptions=[{"errorCode": 427, "message": "Server_10.1.2.3" + "x" * 10_000}])
    assert "10.1.2.3" not in str(caught.value)
    assert "10.1.2.3" in caplog.text
    assert len(caplog.text) < 1_000
