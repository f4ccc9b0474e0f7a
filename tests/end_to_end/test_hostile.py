"""`schemas.base`, `schemas.problems`: bad input gets a clear 4xx, never a 500 or a hang, and leaves
nothing.
"""

from __future__ import annotations

import gzip
import json
import socket
from typing import Any

import httpx
import pytest

from tests.fixtures.server import Server, running_server
from tests.fixtures.waiting import wait_until

RUN = "/api/v1/tasks/hybrid"
JSON = {"Content-Type": "application/json"}
ROW = {"item_id": 1, "value": 0.5, "offset": 7}


def refused(response: httpx.Response, status: int = 422) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("application/problem+json")
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert "Traceback" not in response.text
    assert "/app/" not in response.text
    return problem


@pytest.fixture(autouse=True)
def nothing_left(server: Server) -> Any:
    """Check that a refused request leaves no task."""
    server.client.delete("/api/v1/tasks/results")
    yield
    assert server.client.get("/api/v1/tasks/results").json()["total"] == 0


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"item_count": 5}, "item_count", "not a known field"),
        ({"items_count": "many"}, "items_count", "integer"),
        ({"items_count": True}, "items_count", "integer"),
        ({"items_count": 1.5}, "items_count", "integer"),
        ({"items_count": None}, "items_count", "integer"),
        ({"items_count": 0}, "items_count", "at least 1"),
        ({"workers": -1}, "workers", "at least 1"),
        ({"workers": 257}, "workers", "at most 256"),
        ({"items_count": 10_000_001}, "items_count", "at most 10,000,000"),
        ({"items_count": 10**400}, "items_count", ""),
        ({"batch_size": 0}, "batch_size", "from 1 to 1,000,000"),
        ({"io_concurrency": 20_001}, "io_concurrency", "at most 20,000"),
        ({"kernel": "rust"}, "kernel", "cython"),
        ({"workload": "nothing"}, "workload", "loops"),
        ({"db": "pinot"}, "db", "simulated"),
        ({"cache": "redis"}, "cache", "simulated"),
        ({"db_delay_ms": -1}, "db_delay_ms", "at least 0"),
        ({"db_delay_ms": 60_001}, "db_delay_ms", "at most 60,000"),
        ({"redis_delay_ms": [10, 1]}, "redis_delay_ms", "low"),
        ({"redis_delay_ms": [1]}, "redis_delay_ms.1", "required"),
        ({"timeout_seconds": 0}, "timeout_seconds", "at least 0.1"),
        ({"max_error_rate": 1.1}, "max_error_rate", "at most 1"),
        ({"parameters": {"cpu_iterations": -1}}, "parameters.cpu_iterations", "at least 0"),
        ({"parameters": {"turns": 1}}, "parameters.turns", "not a known field"),
        (
            {"parameters": {"outer_iterations": 100_000, "inner_iterations": 100_000}},
            "parameters.outer_iterations",
            "1,000,000,000",
        ),
        ({"items": []}, "items", "at least 1"),
        ({"items": [ROW], "items_count": 1}, "items_count", "items"),
        ({"items": [ROW | {"value": -0.5}]}, "items.0.value", "at least 0"),
        ({"items": [ROW | {"value": 1e6 + 1}]}, "items.0.value", "at most 1,000,000"),
        ({"items": [ROW | {"offset": 2**31}]}, "items.0.offset", "at most 2,147,483,647"),
        ({"items": [ROW | {"extra": 1}]}, "items.0.extra", "not a known field"),
        ({"items": [{"item_id": 1, "value": 1.0}]}, "items.0.offset", "required"),
        ([], "body", "object"),
        ("text", "body", "object"),
        (None, "body", "object"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_body_names_the_field_and_the_bound(
    server: Server, body: Any, field: str, words: str
) -> None:
    content = json.dumps(body)
    problem = refused(server.client.post(RUN, content=content, headers=JSON))
    (error, *_) = problem["errors"]
    assert error["field"] == field
    assert words in error["message"]


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize(
    "body",
    [
        '{"db_delay_ms": %s}',
        '{"items": [{"item_id": 1, "value": %s, "offset": 7}]}',
        '{"items_count": %s}',
    ],
)
def test_numbers_that_are_not_finite_are_refused(server: Server, body: str, literal: str) -> None:
    refused(server.client.post(RUN, content=body % literal, headers=JSON))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" ",
        b'{"items_count": 5',
        b"\xff\xfe{}",
        b'{"a": "\\ud800"}',
        b"[" * 100_000,
        b'{"items":' * 20_000,
        b'{"items_count": ' + b"9" * 10_000 + b"}",
        b'{"items_count": 5} trailing',
        b"\x00",
    ],
    ids=lambda content: repr(content[:20]),
)
def test_body_that_is_not_json_is_refused(server: Server, content: bytes) -> None:
    refused(server.client.post(RUN, content=content, headers=JSON))


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "text/csv", "", "nonsense"]
)
def test_wrong_content_type_is_named(server: Server, media_type: str) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    problem = refused(server.client.post(RUN, content=b"{}", headers=headers), 415)
    assert "application/json" in problem["detail"]
    upload = server.client.post("/api/v1/tasks/upload", content=b"{}", headers=headers)
    if media_type != "text/csv":
        assert "text/csv" in refused(upload, 415)["detail"]


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "x" * 999])
@pytest.mark.parametrize("media_type", ["application/json", "text/csv"])
def test_compressed_body_is_refused_without_unpacking(
    server: Server, media_type: str, coding: str
) -> None:
    path = RUN if media_type == "application/json" else "/api/v1/tasks/upload"
    bomb = gzip.compress(bytes(64 << 20))
    headers = {"Content-Type": media_type, "Content-Encoding": coding}
    response = server.client.post(path, content=bomb, headers=headers)
    assert f"Content-Encoding must not be {coding[:60]};" in refused(response, 415)["detail"]
    assert response.headers["Accept-Encoding"] == "identity"
    # Without the header it is an ordinary, invalid body.
    refused(server.client.post(path, content=bomb, headers={"Content-Type": media_type}))


HEADER = "item_id,value,offset\n"


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("", 1, None, ""),
        ("\n", 1, None, ""),
        (HEADER, 1, None, "no rows"),
        ("item_id,value\n1,2\n", 1, "offset", ""),
        ("item_id,value,offset,extra\n1,2,3,4\n", 1, None, "'extra'"),
        ("item_id,value,value\n1,2,3\n", 1, "value", ""),
        (HEADER + "1,2\n", 2, None, ""),
        (HEADER + "1,2,3,4\n", 2, None, ""),
        (HEADER + "1,x,3\n", 2, "value", "'x'"),
        (HEADER + "1,2.0,3\n2,nan,3\n", 3, "value", ""),
        (HEADER + "1,inf,3\n", 2, "value", ""),
        (HEADER + "1,1000001,3\n", 2, "value", "1,000,000"),
        (HEADER + "1,-1,3\n", 2, "value", ""),
        (HEADER + "1,2,3.5\n", 2, "offset", ""),
        (HEADER + "1,2,2147483648\n", 2, "offset", ""),
        (HEADER + "-1,2,3\n", 2, "item_id", ""),
        (HEADER + f"{2**63},2,3\n", 2, "item_id", ""),
        (HEADER + "1,2,\n", 2, "offset", ""),
        (HEADER + '1,"2,3\n', 2, None, ""),
        (HEADER + "1,2,3\x00\n", 2, None, ""),
        (HEADER + "1," + "9" * 70_000 + ",3\n", 2, None, ""),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_bad_csv_names_line_and_column(
    server: Server, text: str, line: int, column: str | None, words: str
) -> None:
    problem = refused(server.upload(text.encode()))
    (error,) = problem["errors"]
    assert error["line"] == line
    if column is not None:
        assert error["column"] == column
    assert words in error["message"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "[]",
        '{"item_id": 1, "value": 2}',
        '{"item_id": 1, "value": NaN, "offset": 3}',
        '{"item_id": 1, "value": true, "offset": 3}',
        '{"item_id": 1, "value": 2, "offset": 3, "extra": 4}',
        '{"item_id": 1, "value": 2, "offset": 3',
        '{"item_id": 1, "item_id": 2, "value": 2, "offset": 3}',
        "[" * 50_000,
        '{"item_id": ' + "9" * 5_000 + ', "value": 2, "offset": 3}',
    ],
    ids=lambda value: repr(value)[:30],
)
def test_bad_ndjson_names_the_line(server: Server, text: str) -> None:
    problem = refused(server.upload(text.encode(), "application/x-ndjson"))
    assert problem["errors"][0]["line"] == 1


def test_bad_utf8_in_an_upload_is_refused(server: Server) -> None:
    problem = refused(server.upload(HEADER.encode() + b"1,\xff,3\n"))
    assert problem["errors"][0]["line"] == 2


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"strategy": "magic"}, "strategy"),
        ({"workers": 0}, "workers"),
        ({"colour": "red"}, "colour"),
        ({"cpu_iterations": 10_000_001}, "parameters"),
        ({"redis_delay_ms": 5}, "redis_delay_ms"),
    ],
)
def test_bad_query_of_an_upload_names_the_field(
    server: Server, query: dict[str, Any], field: str
) -> None:
    problem = refused(server.upload(b"item_id,value,offset\n1,2,3\n", **query))
    assert problem["errors"][0]["field"].split(".")[0] == field


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("POST", "/api/v1/tasks/magic", 404),
        ("GET", "/api/v1/tasks/status/task_00000000_1", 404),
        ("GET", "/api/v1/tasks/results/../../../etc/passwd", 404),
        ("GET", "/api/v1/tasks/results/..%2f..%2fetc%2fpasswd", 404),
        ("DELETE", "/api/v1/tasks/task_00000000_1", 404),
        ("PUT", "/health", 405),
        ("GET", "/api/v1/tasks/upload", 405),
        ("GET", "/api/v1/tasks/results?limit=0", 422),
        ("GET", "/api/v1/tasks/results?status=asleep", 422),
        ("GET", "/api/v1/tasks/results?nonsense=1", 422),
    ],
)
def test_every_error_is_a_problem(server: Server, method: str, path: str, status: int) -> None:
    response = server.client.request(method, path, headers=JSON, content=b"{}")
    refused(response, status)
    if status == 405:
        assert response.headers["allow"]


@pytest.mark.long
def test_bodies_over_the_bound_are_cut_off(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_server(
        tmp_path_factory.mktemp("data"),
        run_hosts=1,
        max_body_bytes=2_000,
        max_upload_bytes=3_000,
        max_upload_rows=50,
    ) as server:
        large = b'{"workload": "' + b"a" * 5_000 + b'"}'

        def in_chunks() -> Any:
            for start in range(0, len(large), 100):
                yield large[start : start + 100]

        for content in (large, in_chunks()):
            problem = refused(server.client.post(RUN, content=content, headers=JSON), 413)
            assert "HOTLOOP_MAX_BODY_BYTES" in problem["detail"]
        rows = b"item_id,value,offset\n" + b"1,2.0,3\n" * 500
        assert "HOTLOOP_MAX_UPLOAD_BYTES" in refused(server.upload(rows), 413)["detail"]
        fewer = b"item_id,value,offset\n" + b"1,2.0,3\n" * 51
        assert "50" in refused(server.upload(fewer))["detail"]
        assert server.upload(fewer[: -len(b"1,2.0,3\n")]).status_code == 200


def test_client_that_leaves_in_an_upload_leaves_nothing(server: Server) -> None:
    """Close the connection after half of the announced bytes."""
    folder = server.data_dir / "uploads"
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(
            b"POST /api/v1/tasks/upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n"
            b"Content-Length: 1000\r\n\r\nitem_id,value,offset\n1,2,"
        )
        wait_until(lambda: list(folder.glob("*.upload")), "the upload comes in")

    def cancelled() -> bool:
        (task,) = server.client.get("/api/v1/tasks/results").json()["items"]
        return bool(task["status"] == "cancelled")

    wait_until(cancelled, "its task is cancelled")
    assert list(folder.iterdir()) == []
    server.client.delete("/api/v1/tasks/results")
