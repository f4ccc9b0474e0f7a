"""A service whose PostgreSQL is away, hangs, or takes no writes: it says so, waits and goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos.databases import MortalPostgres, mortal_postgres
from tests.fixtures.guarded import free_port, leashed
from tests.fixtures.server import ROOT, Server, plain_environment, running_server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

BACKGROUND = "/api/v1/tasks/background"
FAST = {"cpu_iterations": 10, "outer_iterations": 1, "inner_iterations": 10}
LONG: dict[str, Any] = {
    "items_count": 400,
    "batch_size": 10,
    "strategy": "sequential",
    "kernel": "python",
    "db": "simulated",
    "db_delay_ms": 40,
    "cache": "none",
    "parameters": FAST,
}
"""40 batches that wait for a simulated query each: some seconds."""

STOP_SECONDS = 20.0
"""Far more than it takes on a machine that does other things besides; it was 45 s and more."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[MortalPostgres]:
    with mortal_postgres() as server:
        yield server


@pytest.fixture
def url(postgres: MortalPostgres) -> Iterator[str]:
    with postgres.database() as url:
        yield url


@contextmanager
def running_node(url: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    log = folder / "node-log"
    settings = {"HOTLOOP_DATABASE_URL": url, "HOTLOOP_DATA_DIR": str(folder / "node")}
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, str(ROOT / "main.py"), "node"],
            env=plain_environment() | settings,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            text=True,
        ) as node,
        leashed(node),
    ):
        try:
            yield node, log
        finally:
            node.kill()
            node.wait()


def view(server: Server, task_id: str) -> dict[str, Any]:
    answer = server.client.get(f"/api/v1/tasks/status/{task_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def submit(server: Server, **body: Any) -> str:
    answer = server.client.post(BACKGROUND, json=body)
    assert answer.status_code == 202, answer.text
    task_id: str = answer.json()["task_id"]
    return task_id


def ready(server: Server) -> httpx.Response:
    return server.client.get("/health/ready")


def test_start_waits_for_the_database_and_ends_with_its_own_status(
    postgres: MortalPostgres, url: str, tmp_path: Path
) -> None:
    refused = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "node"],
        env=plain_environment()
        | {
            "HOTLOOP_DATA_DIR": str(tmp_path),
            "HOTLOOP_DATABASE_URL": f"postgresql://u:hush-hush-1@127.0.0.1:{free_port()}/x",
            "HOTLOOP_STORE_WAIT_SECONDS": "1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 3, refused.stderr
    assert "waiting for it for up to 1 s" in refused.stderr
    assert "Connection refused" in refused.stderr
    assert "hush-hush-1" not in refused.stderr

    postgres.crash()
    with running_node(url, tmp_path) as (node, log):
        wait_until(lambda: "waiting for it" in log.read_text(), "it waits", 60)
        postgres.restart()
        wait_until(lambda: "takes tasks" in log.read_text(), "it works", 60)
        assert node.poll() is None


def test_database_that_hangs_is_told_within_seconds_and_keeps_no_process_from_ending(
    postgres: MortalPostgres, url: str, tmp_path: Path
) -> None:
    with (
        running_node(url, tmp_path) as (node, log),
        running_server(tmp_path, database_url=url, run_hosts=1) as server,
    ):
        wait_until(lambda: "takes tasks" in log.read_text(), "the node works", 60)
        wait_until(lambda: ready(server).status_code == 200, "it is ready", 60)
        submit(server, **LONG)
        postgres.freeze()
        try:
            answer = server.client.get("/health/ready", timeout=5)
            assert answer.status_code == 503
            assert "store: the task store" in answer.json()["detail"]
            assert server.client.get("/health").status_code == 200
            for process in (node, server.process):
                process.send_signal(signal.SIGTERM)
            for process in (node, server.process):
                process.wait(timeout=STOP_SECONDS)
        finally:
            postgres.thaw()


def test_work_waits_for_a_database_that_is_away_or_takes_no_writes_and_goes_on_at_once(
    postgres: MortalPostgres, url: str, tmp_path: Path
) -> None:
    with running_server(tmp_path, database_url=url, run_hosts=1) as server:
        task_id = submit(server, **LONG)

        def progress() -> int:
            items: int = view(server, task_id)["items_processed"]
            return items

        wait_until(lambda: progress() > 0, "it has progress", 60)

        database = url.rsplit("/", 1)[1]
        with postgres.connect() as connection:
            connection.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                [database],
            )
            wait_until(lambda: "it takes no writes now" in ready(server).text, "it is not ready")
            refused = server.client.post(BACKGROUND, json=LONG)
            assert refused.status_code == 503
            assert refused.headers["retry-after"]
            connection.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                [database],
            )
        before = progress()
        wait_until(lambda: progress() > before, "it goes on")

        postgres.crash()
        wait_until(lambda: ready(server).status_code == 503, "it is not ready")
        # For more than ten seconds: pauses that grow would have grown.
        logged = len(server.log)
        wait_until(lambda: "repeated" in "".join(server.log[logged:]), "the outage lasts")
        postgres.restart()
        before = progress()
        # Two seconds, where nothing else uses the machine.
        wait_until(lambda: progress() > before, "it goes on", 8)
        wait_until(lambda: view(server, task_id)["status"] == "completed", "it is completed", 60)
        assert view(server, task_id)["result"]["failed_items"] == 0
