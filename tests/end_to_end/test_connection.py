"""`serving.connection`: clients that send nonsense, too much or too slowly, or do not read, are cut
off and told why.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from http.client import HTTPResponse
from typing import Any

import psutil
import pytest

from hotloop.app.serving.connection import MAX_HEADERS
from tests.fixtures.server import Server, running_server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

HEAD = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
RUN = b"POST /api/v1/tasks/hybrid HTTP/1.1\r\nHost: localhost\r\n"
POST = RUN + b"Content-Type: application/json\r\n"
UPLOAD = b"POST /api/v1/tasks/upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n"
LIMIT = 2_048


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(
        tmp_path_factory.mktemp("data"),
        run_hosts=1,
        max_header_bytes=LIMIT,
        header_seconds=1,
        body_seconds=1,
        write_seconds=1,
    ) as server:
        yield server


@pytest.fixture
def connection(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        yield connection
    assert server.client.get("/health").status_code == 200


def rest(connection: socket.socket) -> bytes:
    """Return all bytes that the server sends until it closes the connection."""
    pieces = []
    while piece := connection.recv(65_536):
        pieces.append(piece)
    return b"".join(pieces)


def status(connection: socket.socket) -> int:
    """The status of the next answer, which is read whole."""
    with HTTPResponse(connection) as answer:
        answer.begin()
        answer.read()
        return answer.status


def problem(answer: bytes, code: int) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % code), answer
    lines = head.lower().split(b"\r\n")
    assert b"content-type: application/problem+json" in lines
    assert b"connection: close" in lines
    assert b"x-content-type-options: nosniff" in lines
    assert not any(line.startswith(b"server:") for line in lines)
    found: dict[str, Any] = json.loads(body)
    assert found["status"] == code
    return found


@pytest.mark.parametrize(
    "nonsense",
    [
        b"nonsense\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        HEAD + b"Content-Length: x\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n",
        HEAD + b"X-A\x00B: c\r\n\r\n",
    ],
    ids=["words", "version", "tls", "length", "lengths", "both", "null"],
)
def test_nonsense_is_answered_with_a_problem(connection: socket.socket, nonsense: bytes) -> None:
    connection.sendall(nonsense)
    assert problem(rest(connection), 400)["type"] == "urn:hotloop:problem:bad-request"


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"X: " + b"a" * LIMIT + b"\r\n\r\n",
        HEAD + b"X: " + b"a" * LIMIT,
        HEAD + (b"X: %s\r\n" % (b"a" * 100)) * 30 + b"\r\n",
        b"GET /" + b"a" * LIMIT + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /" + b"a" * LIMIT,
        HEAD + b"a: b\r\n" * MAX_HEADERS + b"\r\n",
    ],
    ids=["one", "endless", "several", "path", "endless path", "many"],
)
@pytest.mark.parametrize("first", [0, 3, 50])
def test_large_headers_are_refused(
    server: Server, connection: socket.socket, head: bytes, first: int
) -> None:
    connection.sendall(head[:first])
    server.client.get("/health")  # by now the server has read the first part
    connection.sendall(head[first:])
    assert problem(rest(connection), 431)["type"] == "urn:hotloop:problem:headers-too-large"


def test_headers_up_to_the_bound_are_accepted(connection: socket.socket) -> None:
    padding = LIMIT - len(HEAD) - 100
    for _ in range(2):
        connection.sendall(HEAD + b"X: " + b"a" * padding + b"\r\n\r\n")
        assert status(connection) == 200


def test_body_does_not_count_as_header(server: Server, connection: socket.socket) -> None:
    body = b'{"items_count": 1, "db": "none", "cache": "none"}' + b" " * 3 * LIMIT
    request = POST + b"Content-Length: %d\r\n\r\n" % len(body) + body
    for first in (0, 50, len(request) - len(body), len(request) - LIMIT):
        connection.sendall(request[:first])
        server.client.get("/health")
        connection.sendall(request[first:])
        assert status(connection) == 200


@pytest.mark.parametrize("head", [b"GET", HEAD, HEAD + b"X: a"], ids=["word", "lines", "part"])
def test_unfinished_headers_are_answered_with_408(connection: socket.socket, head: bytes) -> None:
    connection.sendall(head)
    assert "did not arrive" in problem(rest(connection), 408)["detail"]


@pytest.mark.parametrize("sent", [b"", b"\r\n"], ids=["nothing", "a blank line"])
def test_connection_without_a_request_is_closed(connection: socket.socket, sent: bytes) -> None:
    connection.sendall(sent)
    assert rest(connection) == b""


def test_blank_lines_do_not_keep_an_idle_connection_open(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"\r\n")
    assert status(connection) == 200
    connection.sendall(b"\r\n")
    assert rest(connection) == b""


@pytest.mark.parametrize("head", [POST, UPLOAD], ids=["run", "upload"])
@pytest.mark.parametrize("body", [b"", b"item_id,"], ids=["nothing", "a part"])
def test_missing_body_is_answered_with_408(
    server: Server, connection: socket.socket, head: bytes, body: bytes
) -> None:
    connection.sendall(head + b"Content-Length: 1000\r\n\r\n" + body)
    assert "HOTLOOP_BODY_SECONDS" in problem(rest(connection), 408)["detail"]
    assert server.client.get("/api/v1/tasks/results?status=running").json()["total"] == 0
    assert not list((server.data_dir / "uploads").glob("*"))


def test_connection_of_a_client_that_does_not_read_is_closed(server: Server) -> None:
    done = server.run("sequential", items_count=300_000, db="none", cache="none", parameters=SMALL)
    path = f"/api/v1/tasks/results/{done.json()['task_id']}".encode()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.settimeout(30)
        connection.connect(("127.0.0.1", server.port))
        port = connection.getsockname()[1]
        connection.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: port in connected(server), "the connection is there")
        wait_until(lambda: port not in connected(server), "the connection was closed")
    assert server.client.get("/health").status_code == 200
    whole = server.client.get(path.decode())
    assert len(whole.text.splitlines()) == 300_000


SMALL = {"cpu_iterations": 1, "outer_iterations": 1, "inner_iterations": 1}


def connected(server: Server) -> set[int]:
    """The ports of connected clients."""
    process = psutil.Process(server.process.pid)
    return {c.raddr.port for c in process.net_connections("tcp") if c.raddr}
