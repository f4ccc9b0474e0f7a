"""`main:app` under servers of others, and mounted in other applications."""

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
from tests.fixtures.processes import tree
from tests.fixtures.server import ROOT, Server, plain_environment, server_of
from tests.fixtures.waiting import wait_until

UVICORN = (sys.executable, "-m", "uvicorn", "main:app", "--port", "0")
WORKERS = (*UVICORN, "--workers", "2", "--timeout-worker-healthcheck", "100")
ONE_HOST: dict[str, Any] = {"run_hosts": 1}
LITTLE: dict[str, Any] = {"items_count": 10, "db": "none", "cache": "none", "kernel": "python"}
WAITS: dict[str, Any] = {"items_count": 10, "db_delay_ms": 60_000, "strategy": "sequential"}
"""Nothing of it ends while a test waits."""

BUSY_SECONDS = 100.0
"""On a busy machine a process may take long to start."""
BROKEN = "broken"
"""The last line of a stream that did not come to its end."""

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
    """A client that watches a task which goes on for long, and what it was sent."""
    task = server.client.post(f"{root}/api/v1/tasks/background", json=WAITS).json()
    lines: list[str] = []

    def watch() -> None:
        events = f"{server.url}{task['links']['events']}"
        try:
            with httpx.stream("GET", events, timeout=60) as stream:
                for line in stream.iter_lines():
                    lines.append(line)  # noqa: PERF402  # seen by the test line by line
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


def wait_warm(server: Server) -> None:
    def is_warm() -> bool:
        try:
            return server.client.get("/health/ready").is_success
        except httpx.TransportError:
            return False  # a reloader has the socket before anything listens

    wait_until(is_warm, "it is warm", BUSY_SECONDS)


def is_completed(server: Server) -> bool:
    """Whether a run is answered, by whichever process: one that is not warm yet says 503."""
    answer = server.run("sequential", **LITTLE)
    return answer.is_success and bool(answer.json()["status"] == "completed")


def wait_started(server: Server, count: int) -> None:
    """Return when processes have started so often."""
    said = "Application startup complete"
    wait_until(lambda: "".join(server.log).count(said) == count, f"{count} start", BUSY_SECONDS)


def stopped(server: Server, how: signal.Signals = signal.SIGTERM) -> str:
    """The log of a server that has ended with all that was below it."""
    server.stop(how)
    return "".join(server.log)


def test_importing_it_reads_no_settings_and_starts_nothing() -> None:
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
def test_wrong_settings_end_the_server_with_the_line_that_says_so(
    data: Path, options: tuple[str, ...], settings: dict[str, Any], words: str
) -> None:
    environment = plain_environment() | {"PYTHONPATH": str(ROOT), "HOTLOOP_DATA_DIR": str(data)}
    environment |= {f"HOTLOOP_{name.upper()}": str(value) for name, value in settings.items()}
    done = subprocess.run(
        [*UVICORN, *options],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_uvicorn_serves_and_stops_although_a_client_watches_a_task(data: Path) -> None:
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
def test_mounted_it_answers_below_its_path_and_ends_with_the_server(
    data: Path, application: str
) -> None:
    """With the lifespan of the outer application, and by the first request alone."""
    command = (*UVICORN[:3], "--app-dir", str(data), f"outer_app:{application}", "--port", "0")
    with server_of(command, data, ONE_HOST) as server:
        assert server.client.get("/hot/health").json()["status"] == "alive"
        done = server.client.post("/hot/api/v1/tasks/sequential", json=LITTLE).json()
        listed = server.client.get("/hot/api/v1/tasks/results?limit=1").json()["items"][0]
        for path in listed["links"].values():
            assert path.startswith("/hot/api/v1/tasks/")
        assert server.client.get(listed["links"]["status"]).json()["task_id"] == done["task_id"]
        thread, lines = watched(server, "/hot")
        log = stopped(server)
        thread.join(30)
        assert not thread.is_alive()
        assert lines[-1] != BROKEN
        assert "Traceback" not in log


@pytest.mark.long
def test_links_and_pages_are_below_the_path_that_it_is_mounted_at(data: Path) -> None:
    command = (*UVICORN[:3], "--app-dir", str(data), "outer_app:outer", "--port", "0")
    with server_of(command, data, ONE_HOST | {"background_runs": 0}) as server:
        client = server.client
        index = client.get("/hot/").json()["links"]
        assert index["tasks"] == "/hot/api/v1/tasks"
        assert client.get(index["tasks"]).json()["links"]["results"].startswith("/hot/")
        page = client.get("/hot/", headers={"Accept": "text/html"})
        assert page.headers["location"] == "/hot/dashboard"
        dashboard = client.get("/hot/dashboard").text
        own = re.findall(r'(?:href|src)="([^"#]+)"', dashboard)
        assert "dashboard/main.js" in own
        assert all(client.get(f"/hot/{path}").status_code in (200, 503) for path in own)
        accepted = client.post("/hot/api/v1/tasks/background", json=WAITS)
        assert accepted.headers["location"] == accepted.json()["links"]["status"]
        client.post("/hot/api/v1/tasks/background", json=WAITS)
        following = client.get("/hot/api/v1/tasks/results?limit=1").json()["next"]
        assert following.startswith("/hot/api/v1/tasks/results?")
        assert len(client.get(following).json()["items"]) == 1
        conflict = client.get(accepted.json()["links"]["results"]).json()
        assert client.get(conflict["links"]["status"]).is_success
        assert "/hot/openapi.json" in client.get("/hot/docs").text


@pytest.mark.long
def test_reloader_restarts_it_and_leaves_nothing_even_when_it_is_killed(data: Path) -> None:
    (data / "watched.py").touch()
    command = (*UVICORN, "--reload", "--reload-dir", str(data))
    with server_of(command, data, ONE_HOST) as server:
        wait_warm(server)
        thread, _ = watched(server)
        first = server.look_below().copy()
        (data / "watched.py").write_text("1\n")
        wait_started(server, 2)
        thread.join(30)
        assert not thread.is_alive()
        wait_warm(server)
        servers = {p for p in first if p.is_running() and "spawn_main" in str(p.cmdline())}
        assert not servers
        # `stop` sees to it that everything below is gone, here without the reloader's help.
        stopped(server, signal.SIGKILL)


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_each_of_several_workers_has_run_hosts_of_its_own_and_all_end(
    data: Path, how: signal.Signals
) -> None:
    with server_of(WORKERS, data, ONE_HOST) as server:
        wait_started(server, 2)
        wait_until(lambda: _run_hosts(server.process.pid) == 2, "each has a run host", BUSY_SECONDS)
        wait_until(lambda: is_completed(server), "a process is warm", BUSY_SECONDS)
        watched(server)
        assert "/metrics tells of the one that answers" in stopped(server, how)


def _run_hosts(pid: int) -> int:
    return sum("hotloop.app.runhost" in process.cmdline() for process in tree(pid))


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("gunicorn") is None, reason="no gunicorn")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_gunicorn_serves_it_with_workers_of_uvicorn(data: Path, how: signal.Signals) -> None:
    worker = "uvicorn_worker.UvicornWorker"
    options = ("-k", worker, "-w", "2", "-b", "127.0.0.1:0", "--timeout", "120")
    command = (sys.executable, "-m", "gunicorn", *options, "main:app")
    with server_of(command, data, ONE_HOST) as server:
        wait_started(server, 2)
        wait_until(lambda: is_completed(server), "a process is warm", BUSY_SECONDS)
        watched(server)
        stopped(server, how)


@pytest.mark.long
def test_keys_let_it_be_reached_by_others(data: Path) -> None:
    key = make_key("alice")
    settings: dict[str, Any] = {"api_keys": keys_setting([key]), "run_hosts": 1}
    with server_of((*UVICORN, "--host", "0.0.0.0"), data, settings) as server:
        url = f"http://127.0.0.1:{server.port}/api/v1/tasks"
        assert httpx.get(url, timeout=60).status_code == 401
        assert httpx.get(url, headers=key.headers, timeout=60).status_code == 200
