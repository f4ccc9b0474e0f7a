"""A new process takes the place of an old one on the same socket."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.fixtures.guarded import leashed
from tests.fixtures.server import ROOT, listening_url, plain_environment, running_server
from tests.fixtures.steady_client import steady_client
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """As a service manager keeps it, whoever listens at the moment."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        yield listener


@contextmanager
def process_on(
    listener: socket.socket, folder: Path, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    environment = plain_environment() | {
        "HOTLOOP_DATA_DIR": str(folder),
        "HOTLOOP_FD": str(listener.fileno()),
        "HOTLOOP_RUN_HOSTS": "1",
    }
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, str(ROOT / "main.py")],
            env=environment,
            pass_fds=(listener.fileno(),),
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        ) as process,
        leashed(process),
    ):
        try:
            listening_url(log)
            yield process
        finally:
            process.terminate()
            process.wait()


def test_no_request_fails_when_one_process_follows_another(
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
            wait_until(lambda: client.asking == 0, "nobody waits")
    assert client.failures == []


def test_requests_wait_while_nobody_listens(listener: socket.socket, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/health"
    with steady_client(url, threads=2) as client:
        for name in ("first", "second"):
            with process_on(listener, tmp_path / "data", tmp_path / name):
                enough = client.answered + 20
                wait_until(lambda enough=enough: client.answered > enough, "it answers")  # type: ignore[misc]
        with process_on(listener, tmp_path / "data", tmp_path / "third"):
            client.stop()
            wait_until(lambda: client.asking == 0, "nobody waits")
    assert client.failures == []
    assert client.answered > 40


def test_server_that_stops_is_not_ready_and_answers_for_a_while(tmp_path: Path) -> None:
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
        run = {"items_count": 10, "db": "none", "cache": "none", "kernel": "python"}
        assert server.run("sequential", **run).json()["status"] == "completed"
        # A second signal means now.
        assert server.stop(signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("command", "how"),
    [("serve", signal.SIGTERM), ("serve", signal.SIGINT), ("node", signal.SIGTERM)],
)
def test_stop_by_a_signal_is_a_success(command: str, how: signal.Signals, tmp_path: Path) -> None:
    with (
        subprocess.Popen(
            [sys.executable, str(ROOT / "main.py"), command],
            env=plain_environment() | {"HOTLOOP_DATA_DIR": str(tmp_path), "HOTLOOP_PORT": "0"},
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
        leashed(process),
    ):
        try:
            assert process.stderr is not None
            assert any("running on" in line or "takes tasks" in line for line in process.stderr)
            process.send_signal(how)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()


def test_socket_of_a_file_is_served_and_its_requests_are_told(tmp_path: Path) -> None:
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


def test_public_socket_is_refused_as_long_as_there_are_no_keys(tmp_path: Path) -> None:
    with socket.create_server(("0.0.0.0", 0)) as public:
        done = subprocess.run(
            [sys.executable, str(ROOT / "main.py")],
            env=plain_environment()
            | {"HOTLOOP_FD": str(public.fileno()), "HOTLOOP_DATA_DIR": str(tmp_path)},
            pass_fds=(public.fileno(),),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 2
    assert "which is not loopback" in done.stderr
    assert "HOTLOOP_API_KEYS" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", ["closed", "file", "deaf"])
def test_descriptor_that_is_no_listening_socket_is_refused(tmp_path: Path, kind: str) -> None:
    with (
        (tmp_path / "file").open("w") as file,
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as deaf,
    ):
        descriptor = {"closed": 999, "file": file.fileno(), "deaf": deaf.fileno()}[kind]
        done = subprocess.run(
            [sys.executable, str(ROOT / "main.py")],
            env=plain_environment()
            | {"HOTLOOP_FD": str(descriptor), "HOTLOOP_DATA_DIR": str(tmp_path)},
            pass_fds=() if kind == "closed" else (descriptor,),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert f"HOTLOOP_FD = {descriptor}" in done.stderr
    assert "Traceback" not in done.stderr
