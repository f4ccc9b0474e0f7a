"""`serving.asgi`: `main:app` under uvicorn and gunicorn, and mounted in other applications."""

from __future__ import annotations

import importlib.util
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fixtures.access import keys_setting, make_key
from tests.fixtures.server import (
    LITTLE,
    ROOT,
    Server,
    plain_environment,
    refused_start,
    run_hosts,
    server_of,
)
from tests.fixtures.waiting import wait_until

UVICORN = (sys.executable, "-m", "uvicorn", "main:app", "--port", "0")
WORKERS = (*UVICORN, "--workers", "2", "--timeout-worker-healthcheck", "100")
ONE_HOST: dict[str, Any] = {"run_hosts": 1}
WAITS: dict[str, Any] = {"items_count": 10, "db_delay_ms": 60_000, "strategy": "sequential"}
"""A task that does not end while a test waits."""

BUSY_SECONDS = 100.0
"""On a busy machine a process may take long to start."""
BROKEN = "broken"
"""The last line of a stream that broke."""

MOUNTED = """
from fastapi import FastAPI
import main

outer = FastAPI(lifespan=main.app.lifespan)
outer.mount("/hot", main.app)
bare = FastAPI()
bare.mount("/hot", main.app)
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "outer_app.py").write_text(MOUNTED)
    return tmp_path


def watched(server: Server, root: str = "") -> tuple[threading.Thread, list[str]]:
    """Have a client watch a long task; returns its thread and the lines that it receives."""
    task = server.client.post(f"{root}/api/v1/tasks/background", json=WAITS).json()
    lines: list[str] = []

    def watch() -> None:
        events = f"{server.url}{task['links']['events']}"
        try:
            with httpx.stream("GET", events, timeout=60) as stream:
                for line in stream.iter_lines():
                    lines.append(line)  # noqa: PERF402  # the test reads it line by line
        except httpx.HTTPError:
            lines.append(BROKEN)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    wait_until(lambda: any("event" in line for line in lines), "the client watches", BUSY_SECONDS)
    running = f"{root}/api/v1/tasks/status/{task['task_id']}"

    def is_running() -> bool:
        return bool(server.client.get(running).json()["status"] == "running")

    wait_until(is_running, "it runs", BUSY_SECONDS)
    return thread, lines


def is_completed(server: Server) -> bool:
    """True if a run completes; a process that is not warm yet answers 503."""
    answer = server.run("sequential", **LITTLE)
    return answer.is_success and bool(answer.json()["status"] == "completed")


def wait_started(server: Server, count: int) -> None:
    """Return when this many processes have started."""
    said = "Application startup complete"
    wait_until(lambda: "".join(server.log).count(said) == count, f"{count} start", BUSY_SECONDS)


def stopped(server: Server, how: signal.Signals = signal.SIGTERM) -> str:
    """Stop the server and all processes below it; returns its log."""
    server.stop(how)
    return "".join(server.log)


def test_import_reads_no_settings_and_starts_nothing() -> None:
    script = (
        "import sys, main; "
        "print(callable(main.app), 'hotloop.app.settings.settings' in sys.modules)"
    )
    environment = plain_environment() | {"HOTLOOP_PORT": "wrong", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "True False\n"


@pytest.mark.parametrize(
    ("options", "settings", "words"),
    [
        ((), {"run_hosts": 0}, "HOTLOOP_RUN_HOSTS must be at least 1"),
        pytest.param(
            *(("--host", "0.0.0.0"), {}, "--host must be a loopback address, like 127.0.0.1 (got"),
            marks=pytest.mark.long,
        ),
    ],
)
def test_server_with_wrong_settings_ends_and_says_why(
    data: Path, options: tuple[str, ...], settings: dict[str, Any], words: str
) -> None:
    text = refused_start(*options, command=UVICORN, code=3, data_dir=data, **settings)
    assert words in text


@pytest.mark.long
def test_uvicorn_stops_while_a_client_watches_a_task(data: Path) -> None:
    with server_of(UVICORN, data, {"run_hosts": 1, "shutdown_seconds": 60}) as server:
        assert server.run("sequential", **LITTLE).json()["status"] == "completed"
        thread, lines = watched(server)
        log = stopped(server, signal.SIGINT)
        thread.join(30)
        assert not thread.is_alive()
        assert lines[-1] != BROKEN
        assert "Application shutdown complete" in log
        assert "timeout graceful shutdown exceeded" not in log


@pytest.mark.long
@pytest.mark.parametrize("application", ["outer", "bare"])
def test_mounted_service_answers_below_its_path_and_ends_with_the_server(
    data: Path, application: str
) -> None:
    """The outer application passes its lifespan on; the bare one leaves it to the first request."""
    command = (*UVICORN[:3], "--app-dir", str(data), f"outer_app:{application}", "--port", "0")
    with server_of(command, data, ONE_HOST) as server:
        assert server.client.get("/hot/health").json()["status"] == "alive"
        done = server.client.post("/hot/api/v1/tasks/sequential", json=LITTLE).json()
        listed = server.client.get("/hot/api/v1/tasks/results?limit=1").json()["items"][0]
        for path in listed["links"].values():
            assert path.startswith("/hot/api/v1/tasks/")
        assert server.client.get(listed["links"]["status"]).json()["task_id"] == done["task_id"]
        check_links_and_pages(server.client)
        thread, lines = watched(server, "/hot")
        log = stopped(server)
        thread.join(30)
        assert not thread.is_alive()
        assert lines[-1] != BROKEN
        assert "Traceback" not in log


def check_links_and_pages(client: httpx.Client) -> None:
    """All of them are below the path that the service is mounted at."""
    index = client.get("/hot/").json()["links"]
    assert index["tasks"] == "/hot/api/v1/tasks"
    assert client.get(index["tasks"]).json()["links"]["results"].startswith("/hot/")
    page = client.get("/hot/", headers={"Accept": "text/html"})
    assert page.headers["location"] == "/hot/dashboard"
    own = re.findall(r'(?:href|src)="([^"#]+)"', client.get("/hot/dashboard").text)
    assert "dashboard/main.js" in own
    assert all(client.get(f"/hot/{path}").status_code in (200, 503) for path in own)
    assert "/hot/openapi.json" in client.get("/hot/docs").text
    accepted = client.post("/hot/api/v1/tasks/background", json=WAITS)
    links = accepted.json()["links"]
    assert accepted.headers["location"] == links["status"]
    following = client.get("/hot/api/v1/tasks/results?limit=1").json()["next"]
    assert following.startswith("/hot/api/v1/tasks/results?")
    assert len(client.get(following).json()["items"]) == 1
    conflict = client.get(links["results"]).json()
    assert client.get(conflict["links"]["status"]).is_success
    assert client.delete(links["cancel"]).is_success


@pytest.mark.long
def test_reloader_restarts_the_service_and_leaves_no_process(data: Path) -> None:
    (data / "watched.py").touch()
    command = (*UVICORN, "--reload", "--reload-dir", str(data))
    with server_of(command, data, ONE_HOST) as server:
        server.wait_ready()
        thread, _ = watched(server)
        first = server.look_below().copy()
        (data / "watched.py").write_text("1\n")
        wait_started(server, 2)
        thread.join(30)
        assert not thread.is_alive()
        server.wait_ready()
        servers = {p for p in first if p.is_running() and "spawn_main" in str(p.cmdline())}
        assert not servers
        # `stop` waits for the end of all processes; the killed reloader cannot end them.
        stopped(server, signal.SIGKILL)


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_each_worker_has_its_own_run_hosts_and_all_end(data: Path, how: signal.Signals) -> None:
    with server_of(WORKERS, data, ONE_HOST) as server:
        wait_started(server, 2)
        wait_until(
            lambda: len(run_hosts(server.process.pid)) == 2, "each has a run host", BUSY_SECONDS
        )
        wait_until(lambda: is_completed(server), "a process is warm", BUSY_SECONDS)
        watched(server)
        assert "/metrics tells of the one that answers" in stopped(server, how)


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("gunicorn") is None, reason="no gunicorn")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_gunicorn_serves_with_uvicorn_workers(data: Path, how: signal.Signals) -> None:
    worker = "uvicorn_worker.UvicornWorker"
    options = ("-k", worker, "-w", "2", "-b", "127.0.0.1:0", "--timeout", "120")
    command = (sys.executable, "-m", "gunicorn", *options, "main:app")
    with server_of(command, data, ONE_HOST) as server:
        wait_started(server, 2)
        wait_until(lambda: is_completed(server), "a process is warm", BUSY_SECONDS)
        watched(server)
        stopped(server, how)


@pytest.mark.long
def test_service_with_keys_listens_on_all_addresses(data: Path) -> None:
    key = make_key("alice")
    settings: dict[str, Any] = {"api_keys": keys_setting([key]), "run_hosts": 1}
    with server_of((*UVICORN, "--host", "0.0.0.0"), data, settings) as server:
        url = f"http://127.0.0.1:{server.port}/api/v1/tasks"
        assert httpx.get(url, timeout=60).status_code == 401
        assert httpx.get(url, headers=key.headers, timeout=60).status_code == 200
