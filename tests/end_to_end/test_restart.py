"""`serving.server`: no request fails when a process replaces another on the same socket."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.fixtures.server import (
    LITTLE,
    READY_SECONDS,
    listening_url,
    logging_process,
    running_server,
)
from tests.fixtures.steady_client import steady_client
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long


@contextmanager
def process_on(listener: socket.socket, folder: Path, log: Path) -> Iterator[subprocess.Popen[str]]:
    number = listener.fileno()
    with logging_process(
        log, descriptors=(number,), fd=number, data_dir=folder, run_hosts=1
    ) as process:
        listening_url(log)
        yield process


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A listening socket as a service manager keeps it over restarts."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        yield listener


def test_no_request_fails_when_a_process_replaces_another(
    listener: socket.socket, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/health"
    data = tmp_path / "data"
    with process_on(listener, data, tmp_path / "old") as old, steady_client(url) as client:
        wait_until(lambda: client.answered > 50, "the old one answers")
        with process_on(listener, data, tmp_path / "new"):
            old.send_signal(signal.SIGTERM)
            assert old.wait(timeout=60) == 0
            enough = client.answered + 50
            wait_until(lambda: client.answered > enough, "the new one answers")
            client.stop()
            wait_until(lambda: client.asking == 0, "no request waits")
    assert client.failures == []


def test_requests_wait_while_no_process_listens(listener: socket.socket, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/health"
    with steady_client(url, threads=2) as client:
        for name in ("first", "second"):
            with process_on(listener, tmp_path / "data", tmp_path / name):
                enough = client.answered + 20
                wait_until(lambda enough=enough: client.answered > enough, "it answers")  # type: ignore[misc]
        with process_on(listener, tmp_path / "data", tmp_path / "third"):
            client.stop()
            wait_until(lambda: client.asking == 0, "no request waits")
    assert client.failures == []
    assert client.answered > 40


def test_draining_server_is_not_ready_but_answers(tmp_path: Path) -> None:
    with running_server(tmp_path, drain_seconds=600, run_hosts=1) as server:
        ready = f"{server.url}/health/ready"
        wait_until(lambda: httpx.get(ready).is_success, "it is ready")
        server.look_below()
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: httpx.get(ready).status_code == 503, "it is not ready any more")
        answer = httpx.get(ready)
        assert "stopping" in answer.json()["detail"]
        assert answer.headers["connection"] == "close"
        assert httpx.get(f"{server.url}/health").status_code == 200
        assert server.run("sequential", **LITTLE).json()["status"] == "completed"
        # A second signal stops it at once.
        assert server.stop(signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("command", "how"),
    [("serve", signal.SIGTERM), ("serve", signal.SIGINT), ("node", signal.SIGTERM)],
)
def test_stop_by_a_signal_exits_with_0(command: str, how: signal.Signals, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with logging_process(log, command, data_dir=tmp_path, port=0) as process:
        wait_until(
            lambda: any(words in log.read_text() for words in ("running on", "takes tasks")),
            "it works",
            READY_SECONDS,
        )
        process.send_signal(how)
        assert process.wait(timeout=60) == 0


def test_unix_socket_is_served_and_its_requests_are_logged(tmp_path: Path) -> None:
    path, log = str(tmp_path / "socket"), tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        with process_on(listener, tmp_path / "data", log):
            transport = httpx.HTTPTransport(uds=path)
            with httpx.Client(transport=transport, base_url="http://localhost") as client:
                answer = client.get("/health", headers={"X-Request-ID": "file.1"})
                assert answer.status_code == 200
    (line,) = [one for one in log.read_text().splitlines() if "file.1" in one]
    assert "GET /health 200" in line
    assert f"running on unix:{path}" in log.read_text()
    assert "Traceback" not in log.read_text()
