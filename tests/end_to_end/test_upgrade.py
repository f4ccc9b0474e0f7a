"""This version completes the tasks in a store that an earlier version wrote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hotloop.app.tasks.tables import OLDEST_VERSION
from tests.fixtures.postgres_server import RunningPostgres
from tests.fixtures.server import Server, running_server
from tests.fixtures.waiting import wait_until
from tests.tasks.stores.make import QUICK, SLOW
from tests.tasks.stores.opening import HOST, has_all, restore, said

pytestmark = pytest.mark.long

TASKS = "/api/v1/tasks"
SAID = said(OLDEST_VERSION)


@contextmanager
def upgraded(database: str, folder: Path, postgres: RunningPostgres) -> Iterator[Server]:
    # The tasks ended long ago; keep them.
    settings = {"run_hosts": 2, "background_runs": 2, "retention_hours": 876_000}
    if database == "sqlite":
        restore(OLDEST_VERSION, folder)
        with running_server(folder, **settings) as server:
            yield server
        return
    with postgres.database() as url:
        restore(OLDEST_VERSION, folder, url)
        with running_server(folder, database_url=url, **settings) as server:
            yield server


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_tasks_stored_by_an_earlier_version_are_completed(
    database: str, tmp_path: Path, postgres: RunningPostgres
) -> None:
    ids = SAID.tasks
    waiting = {name: task_id for name, task_id in ids.items() if name not in SAID.ended}
    with upgraded(database, tmp_path, postgres) as server:

        def view(task_id: str) -> dict[str, object]:
            found: dict[str, object] = server.client.get(
                f"{TASKS}/status/{task_id}", headers={"Host": HOST}
            ).json()
            return found

        def results(task_id: str) -> str:
            return server.client.get(f"{TASKS}/results/{task_id}").text

        def have_ended() -> bool:
            return all(view(i)["status"] not in ("pending", "running") for i in waiting.values())

        wait_until(have_ended, "all tasks have ended", 90, 0.1)
        states = {name: view(task_id)["status"] for name, task_id in waiting.items()}
        assert states == dict.fromkeys(waiting, "completed") | {"interrupted": "failed"}
        assert view(ids["interrupted run"])["attempts"] == 2
        for name, body in (("interrupted run", SLOW), ("waiting run", QUICK)):
            again = server.run("sequential", **body).json()
            assert results(ids[name]) == results(again["task_id"])
        assert results(ids["waiting upload"]) == results(ids["upload"])
        for name, before in SAID.ended.items():
            assert has_all(view(ids[name]), before["view"])
