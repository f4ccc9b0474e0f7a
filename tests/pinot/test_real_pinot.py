"""Facts about a real broker that a source of items must live with.  the facts that a source of
items must live with. They are those of Pinot 0.11. Where it is known that later releases differ,
the test says so.
"""

from __future__ import annotations

import random
from typing import Any

import httpx
import numpy as np
import pytest

from hotloop.app.strategies.checksum import checksum_text, rows_checksum
from hotloop.kernels import get_kernel
from tests.fixtures.plans import SMALL
from tests.fixtures.server import running_server
from tests.fixtures.waiting import wait_until
from tests.pinot.real import TABLE, Flight, Pinot, flights

pytestmark = pytest.mark.long

ROWS = 50_000
COLUMNS = 'item_id, value, "offset", carrier'


def ask(pinot: Pinot, sql: str, **body: Any) -> dict[str, Any]:
    """An answer, which is HTTP 200 whatever is in it."""
    response = pinot.query(sql, **body)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    answer: dict[str, Any] = response.json()
    return answer


def rows(answer: dict[str, Any]) -> list[Flight]:
    """The flights of an answer without errors, by item id."""
    assert answer["exceptions"] == []
    return sorted(Flight(*row) for row in answer["resultTable"]["rows"])


def codes(answer: dict[str, Any]) -> list[int]:
    return [error["errorCode"] for error in answer["exceptions"]]


def test_answer_has_columns_types_rows_and_how_many_servers_answered(pinot: Pinot) -> None:
    answer = ask(pinot, f"SELECT {COLUMNS} FROM flights WHERE item_id = 7")
    assert answer["resultTable"] == {
        "dataSchema": {
            "columnNames": ["item_id", "value", "offset", "carrier"],
            "columnDataTypes": ["LONG", "DOUBLE", "INT", "STRING"],
        },
        "rows": [list(flights(8)[7])],
    }
    assert answer["exceptions"] == []
    assert answer["numServersQueried"] == answer["numServersResponded"] == 2
    assert answer["totalDocs"] == ROWS
    assert isinstance(answer["timeUsedMs"], int)
    # Later releases have it.
    assert "partialResult" not in answer


def test_star_sorts_columns_by_name(pinot: Pinot) -> None:
    answer = ask(pinot, "SELECT * FROM flights LIMIT 1")
    names = answer["resultTable"]["dataSchema"]["columnNames"]
    assert names == ["carrier", "item_id", "offset", "value"]


def test_offset_is_a_keyword_and_must_be_quoted(pinot: Pinot) -> None:
    assert codes(ask(pinot, "SELECT item_id, value, offset FROM flights")) == [150]
    assert codes(ask(pinot, 'SELECT item_id, value, "offset" FROM flights')) == []


def test_names_of_tables_are_case_sensitive(pinot: Pinot) -> None:
    assert codes(ask(pinot, "SELECT item_id FROM FLIGHTS")) == [190]


def test_default_limit_is_ten(pinot: Pinot) -> None:
    answer = ask(pinot, f"SELECT {COLUMNS} FROM flights")
    assert len(rows(answer)) == 10
    assert answer["totalDocs"] == ROWS  # the only hint


@pytest.mark.parametrize("limit", [ROWS, 10 * ROWS])
def test_limit_is_honoured(pinot: Pinot, limit: int) -> None:
    assert rows(ask(pinot, f"SELECT {COLUMNS} FROM flights LIMIT {limit}")) == flights(ROWS)


def test_pages_by_item_id_contain_all_flights(pinot: Pinot) -> None:
    found: list[Flight] = []
    for start in range(0, ROWS, 20_000):
        page = f"SELECT {COLUMNS} FROM flights ORDER BY item_id LIMIT 20000 OFFSET {start}"
        found += rows(ask(pinot, page))
    assert found == flights(ROWS)


@pytest.mark.parametrize("count", [500, 5_000, 10_000, 50_000])
def test_in_returns_each_of_many_ids_once(pinot: Pinot, count: int) -> None:
    """50,000 ids are 290 KB of SQL."""
    ids = random.Random(count).sample(range(ROWS), count)
    sql = f"SELECT {COLUMNS} FROM flights WHERE item_id IN ({','.join(map(str, ids))})"
    every = flights(ROWS)
    assert rows(ask(pinot, f"{sql} LIMIT {count}")) == [every[number] for number in sorted(ids)]


def test_in_skips_absent_and_repeated_ids(pinot: Pinot) -> None:
    sql = f"SELECT {COLUMNS} FROM flights WHERE item_id IN (2, 1, 2, -1, {2**63 - 1}) LIMIT 9"
    assert rows(ask(pinot, sql)) == flights(3)[1:]


def test_empty_in_is_a_syntax_error(pinot: Pinot) -> None:
    assert codes(ask(pinot, "SELECT item_id FROM flights WHERE item_id IN ()")) == [150]


def test_types_of_columns_are_known_only_with_a_row(pinot: Pinot) -> None:
    answer = ask(pinot, f"SELECT {COLUMNS} FROM flights WHERE item_id = -1")
    assert answer["resultTable"] == {
        "dataSchema": {
            "columnNames": ["item_id", "value", "offset", "carrier"],
            "columnDataTypes": ["STRING"] * 4,
        },
        "rows": [],
    }
    assert answer["exceptions"] == []


@pytest.mark.parametrize(
    ("sql", "code", "words"),
    [
        ("SELECT item_id FROM", 150, "SQLParsingError"),
        ("SELECT item_id FROM flights; SELECT item_id FROM flights", 150, "SQLParsingError"),
        ("", 150, "SQLParsingError"),
        ("SELECT item_id FROM nowhere", 190, "TableDoesNotExistError"),
        ("SELECT nothing FROM flights", 710, "Unknown columnName 'nothing'"),
        ("SELECT item_id FROM flights WHERE nothing = 1", 710, "Unknown columnName 'nothing'"),
        ("SELECT nothing(item_id) FROM flights", 200, "Unsupported function: nothing"),
    ],
)
@pytest.mark.parametrize("headers", [None, {"Pinot-Use-Http-Status-For-Errors": "true"}])
def test_error_comes_in_the_body_of_a_200(
    pinot: Pinot, sql: str, code: int, words: str, headers: dict[str, str] | None
) -> None:
    """The header is for later releases; this one takes no notice of it."""
    answer = ask(pinot, sql, headers=headers)
    assert set(codes(answer)) == {code}
    assert words in answer["exceptions"][0]["message"]
    assert "resultTable" not in answer


@pytest.mark.parametrize("content", [b"", b"no JSON", b"{}"])
def test_body_without_sql_is_a_500_without_explanation(pinot: Pinot, content: bytes) -> None:
    response = pinot.client.post(f"{pinot.broker_url}/query/sql", content=content)
    assert (response.status_code, response.content) == (500, b"")


def test_query_options_are_separated_by_semicolons(pinot: Pinot) -> None:
    options = "timeoutMs=30000;useScanReorderPredEvalOptimization=true"
    answer = ask(pinot, f"SELECT {COLUMNS} FROM flights", queryOptions=options)
    assert len(rows(answer)) == 10


@pytest.mark.parametrize("timeout", ["0", "-1", "soon"])
def test_wrong_timeout_is_a_500_without_explanation(pinot: Pinot, timeout: str) -> None:
    response = pinot.query("SELECT item_id FROM flights", queryOptions=f"timeoutMs={timeout}")
    assert (response.status_code, response.content) == (500, b"")


def test_non_finite_numbers_are_text_and_integers_are_exact(pinot: Pinot) -> None:
    schema = {
        "schemaName": "odd",
        "dimensionFieldSpecs": [
            {"name": "item_id", "dataType": "LONG"},
            {"name": "word", "dataType": "STRING"},
        ],
        "metricFieldSpecs": [{"name": "value", "dataType": "DOUBLE"}],
    }
    lines = [
        "item_id,value,word",
        "1,NaN,a",
        "2,Infinity,b",
        "3,-Infinity,c",
        "4,1e-320,é",
        "5,-0.0,",
        "6,,d",
        "9007199254740993,1e308,e",
        f"{2**63 - 1},0.1,f",
        "",
    ]
    pinot.create_table("odd", schema)
    pinot.ingest("odd", "\n".join(lines))
    wait_until(lambda: pinot.count("odd") == len(lines) - 2, "odd values are found", interval=0.05)
    answer = ask(pinot, "SELECT item_id, value, word FROM odd ORDER BY item_id LIMIT 100")
    assert answer["resultTable"]["dataSchema"]["columnDataTypes"] == ["LONG", "DOUBLE", "STRING"]
    assert repr(answer["resultTable"]["rows"]) == repr(
        [
            [1, "NaN", "a"],
            [2, "Infinity", "b"],
            [3, "-Infinity", "c"],
            [4, 1e-320, "é"],
            [5, -0.0, "null"],  # nothing is the word null
            [6, 0.0, "d"],  # and the number nought
            [2**53 + 1, 1e308, "e"],
            [2**63 - 1, 0.1, "f"],
        ]
    )


def test_table_without_data_has_no_result_and_no_error(pinot: Pinot) -> None:
    column = {"name": "item_id", "dataType": "LONG"}
    pinot.create_table("bare", {"schemaName": "bare", "dimensionFieldSpecs": [column]})
    sql = "SELECT item_id FROM bare"
    # For a moment after its creation, the broker does not know it.
    wait_until(lambda: codes(ask(pinot, sql)) == [], "the table is known", interval=0.05)
    answer = ask(pinot, sql)
    assert "resultTable" not in answer
    assert answer["numServersQueried"] == 0


def test_silent_server_loses_its_rows_and_adds_an_error(pinot: Pinot) -> None:
    sql = f"SELECT {COLUMNS} FROM flights LIMIT {ROWS}"
    with pinot.servers[1].paused():
        answer = ask(pinot, sql, queryOptions="timeoutMs=1000")
    assert codes(answer) == [427]
    assert answer["exceptions"][0]["message"] == "1 servers [127.0.0.1_O] not responded"
    assert len(answer["resultTable"]["rows"]) == ROWS // 2
    assert (answer["numServersQueried"], answer["numServersResponded"]) == (2, 1)
    assert answer["timeUsedMs"] >= 1_000
    pinot.wait_until_whole()


def test_dead_server_is_first_an_error_and_later_silently_left_out(pinot: Pinot) -> None:
    """A client that does not count servers takes half of the rows, later none, for an answer."""
    sql = f"SELECT {COLUMNS} FROM flights LIMIT {ROWS}"
    pinot.servers[1].kill()
    answer = ask(pinot, sql)
    assert codes(answer) == [425, 427]
    assert answer["numServersResponded"] < answer["numServersQueried"] == 2

    wait_until(lambda: codes(ask(pinot, sql)) == [], "the dead server is missed", interval=0.05)
    answer = ask(pinot, sql)
    assert len(answer["resultTable"]["rows"]) == ROWS // 2
    assert answer["exceptions"] == []
    assert answer["numServersQueried"] == answer["numServersResponded"] == 1

    pinot.servers[0].kill()
    wait_until(lambda: codes(ask(pinot, sql)) == [], "both are missed", interval=0.05)
    answer = ask(pinot, sql)
    assert "resultTable" not in answer
    assert answer["exceptions"] == []
    assert answer["numServersQueried"] == 0

    for server in pinot.servers:
        server.start()
    pinot.wait_until_whole()


def test_restarted_broker_answers_all_rows(pinot: Pinot) -> None:
    pinot.broker.kill()
    with pytest.raises(httpx.ConnectError):
        pinot.query(f"SELECT item_id FROM {TABLE}")
    pinot.restart_broker()
    assert rows(ask(pinot, f"SELECT {COLUMNS} FROM flights LIMIT {ROWS}")) == flights(ROWS)


def test_run_of_the_service_computes_every_flight(
    pinot: Pinot, tmp_path_factory: pytest.TempPathFactory
) -> None:
    table = flights(ROWS)
    item_ids = np.array([flight.item_id for flight in table])
    columns = {
        "value": np.array([flight.value for flight in table], dtype=np.float64),
        "offset": np.array([flight.offset for flight in table], dtype=np.int64),
    }
    outputs = get_kernel("loops", "numba").run(columns, SMALL)
    sql = f'SELECT item_id, value, "offset" FROM {TABLE} WHERE item_id IN ({{ids}})'
    with running_server(
        tmp_path_factory.mktemp("data"), pinot_url=pinot.broker_url, pinot_sql=sql
    ) as server:
        body = {"items_count": ROWS, "db": "pinot", "cache": "none", "kernel": "numba"}
        body |= {"parameters": SMALL, "io_concurrency": 5_000}
        answer = server.client.post("/api/v1/tasks/hybrid", json=body)
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert result["failed_items"] == 0, result["errors"]
    assert result["stages"][0]["hits"] == ROWS
    assert result["checksum"] == checksum_text(rows_checksum(item_ids, outputs))
