"""`database.postgresql`: the service waits for a database that is down, hangs or refuses writes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.databases import MortalPostgres, mortal_postgres
from tests.fixtures.guarded import free_port
from tests.fixtures.server import logging_process, refused_start, running_server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

BACKGROUND = "/api/v1/tasks/background"
LONG: dict[str, Any] = {
    "items_count": 400,
    "batch_size": 10,
    "strategy": "sequential",
    "kernel": "python",
    "db": "simulated",
    "db_delay_ms": 40,
    "cache": "none",
    "parameters": {"cpu_iterations": 10, "outer_iterations": 1, "inner_iterations": 10},
}
"""A task of some seconds in 40 batches, each waiting for a simulated query."""

TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"

STOP_SECONDS = 20.0
"""A stop that waited for the database took 45 s and more."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[MortalPostgres]:
    with mortal_postgres() as server:
        yield server


@pytest.fixture
def url(postgres: MortalPostgres) -> Iterator[str]:
    with postgres.database() as url:
        yield url


def test_start_waits_for_the_database_and_ends_with_exit_code_3(
    postgres: MortalPostgres, url: str, tmp_path: Path
) -> None:
    text = refused_start(
        "node",
        code=3,
        data_dir=tmp_path,
        database_url=f"postgresql://u:hush-hush-1@127.0.0.1:{free_port()}/x",
        store_wait_seconds=1,
    )
    assert "waiting for it for up to 1 s" in text
    assert "Connection refused" in text
    assert "hush-hush-1" not in text

    postgres.crash()
    log = tmp_path / "node-log"
    with logging_process(log, "node", database_url=url, data_dir=tmp_path / "node") as node:
        wait_until(lambda: "waiting for it" in log.read_text(), "it waits", 60)
        postgres.restart()
        wait_until(lambda: "takes tasks" in log.read_text(), "it works", 60)
        assert node.poll() is None


def test_hanging_database_is_reported_and_does_not_delay_the_stop(
    postgres: MortalPostgres, url: str, tmp_path: Path
) -> None:
    log = tmp_path / "node-log"
    with (
        logging_process(log, "node", database_url=url, data_dir=tmp_path / "node") as node,
        running_server(tmp_path, database_url=url, run_hosts=1) as server,
    ):
        wait_until(lambda: "takes tasks" in log.read_text(), "the node works", 60)
        server.wait_ready()
        server.submit(**LONG)
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


def test_work_goes_on_when_the_database_is_back(
    postgres: MortalPostgres, url: str, tmp_path: Path
) -> None:
    with running_server(tmp_path, database_url=url, run_hosts=1) as server:
        task_id = server.submit(**LONG)

        def progress() -> int:
            return int(server.view(task_id)["items_processed"])

        wait_until(lambda: progress() > 0, "it has progress", 60)

        database = url.rsplit("/", 1)[1]
        with postgres.connect() as connection:
            connection.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
            connection.execute(TERMINATE, [database])
            wait_until(
                lambda: "it takes no writes now" in server.client.get("/health/ready").text,
                "it is not ready",
            )
            refused = server.client.post(BACKGROUND, json=LONG)
            assert refused.status_code == 503
            assert refused.headers["retry-after"]
            connection.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")
            connection.execute(TERMINATE, [database])
        before = progress()
        wait_until(lambda: progress() > before, "it goes on")

        postgres.crash()
        wait_until(lambda: not server.is_ready(), "it is not ready")
        # Wait for more than ten seconds, so that pauses between attempts would have grown.
        logged = len(server.log)
        wait_until(lambda: "repeated" in "".join(server.log[logged:]), "the outage lasts")
        postgres.restart()
        before = progress()
        # On an idle machine this takes two seconds.
        wait_until(lambda: progress() > before, "it goes on", 8)
        wait_until(lambda: server.view(task_id)["status"] == "completed", "it is completed", 60)
        assert server.view(task_id)["result"]["failed_items"] == 0
