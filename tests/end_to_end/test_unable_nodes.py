"""`tasks.rows`: tasks that a node cannot execute or read wait, and hold up no other task."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hotloop.app.tasks.rows import MAX_BEGINNINGS
from tests.fixtures.server import QUICK, Server, running_server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

DEADLY = """
import psutil
from hotloop.app.sources.simulated import SimulatedStage

class Stage(SimulatedStage):
    def fetch(self, batch, positions, stop):
        for process in psutil.Process().parents():
            if any(word.endswith("main.py") for word in process.cmdline()):
                process.kill()
                break
        stop.wait()

def make(*, name, **_):
    return Stage(name, 0.001, 0.001)
"""
"""A source that kills the service that uses it."""

WITHOUT_CYTHON = "import sys\nsys.modules['hotloop.kernels.loops._cython'] = None\n"
CYTHON: dict[str, Any] = QUICK | {"kernel": "cython", "strategy": "sequential"}
PYTHON: dict[str, Any] = QUICK | {"kernel": "python", "strategy": "sequential"}
LARGE: dict[str, Any] = QUICK | {"kernel": "python", "strategy": "multiprocessing", "workers": 2}
SMALL_BUDGET = 280_000_000


def waits_for_memory(server: Server, task_id: str) -> bool:
    task = server.view(task_id)
    waits_for = str(task["waiting_for"])
    return task["node"] is None and "those that are up allow 267 MiB" in waits_for


def submit_comparison(server: Server, kernel: str) -> str:
    body = QUICK | {"kernels": [kernel], "strategies": ["sequential"], "rounds": 1}
    return server.submit("compare", **body)


def change(folder: Path, task_id: str, change: str) -> None:
    """Change a task's row, and forget its needs, as in a store of an older version."""
    with closing(sqlite3.connect(folder / "hotloop.sqlite3", timeout=30)) as connection:
        connection.execute(f"UPDATE tasks SET {change} WHERE task_id = ?", [task_id])
        unknown = "UPDATE shards SET needs = NULL, needs_bytes = NULL WHERE task_id = ?"
        connection.execute(unknown, [task_id])
        connection.commit()


def test_task_waits_for_a_node_that_can_execute_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, code = tmp_path / "data", tmp_path / "code"
    folder.mkdir()
    code.mkdir()
    (code / "sitecustomize.py").write_text(WITHOUT_CYTHON)
    with running_server(folder, run_hosts=1, background_runs=0) as accepting:
        waiting = [accepting.submit(**CYTHON) for _ in range(5)]
        waiting.append(submit_comparison(accepting, "cython"))
        assert accepting.view(waiting[0])["waiting_for"] == "a node that executes background tasks"
        large = [accepting.submit(**LARGE) for _ in range(2)]
        change(folder, large[1], "spec = json_remove(spec, '$.needs')")
        unknown = {
            "strategy = 'warp'": "the strategy warp",
            "workload = 'other'": "the kernel python of the workload other, the workload other",
            "kind = 'sweep'": "support for tasks of the kind sweep",
            "spec = json_set(spec, '$.version', 99)": "reads stored requests of version 99",
            "spec = json_set(spec, '$.db', 'pinot')": "the database source pinot",
        }
        odd = {accepting.submit(**PYTHON): words for words in unknown.values()}
        for task_id, row in zip(odd, unknown, strict=True):
            change(folder, task_id, row)
        broken = [accepting.submit(**PYTHON), submit_comparison(accepting, "python")]
        for task_id in broken:
            change(folder, task_id, "spec = json_set(spec, '$.workers', 'many')")
        extra = accepting.submit(**PYTHON)
        change(folder, extra, "spec = json_set(spec, '$.of_a_newer_version', 1)")
        good = [extra, accepting.submit(**PYTHON), submit_comparison(accepting, "python")]
        monkeypatch.setenv("PYTHONPATH", str(code))
        with running_server(folder, run_hosts=1, memory_budget_bytes=SMALL_BUDGET) as unable:
            for task_id in good:
                unable.ended(task_id)
            for task_id in broken:
                message = unable.ended(task_id, "failed")["error_message"]
                assert "cannot read the stored task: its workers must be an integer" in message
            for task_id in waiting:
                task = unable.view(task_id)
                assert (task["status"], task["attempts"]) == ("pending", 0)
                expected = "a node with the kernel cython of the workload loops"
                assert task["waiting_for"] == expected
            for task_id, attempts in zip(large, (0, 1), strict=True):
                wait_until(partial(waits_for_memory, unable, task_id), "it waits for memory", 60)
                assert unable.view(task_id)["attempts"] == attempts
            for task_id, words in odd.items():
                assert words in unable.view(task_id)["waiting_for"]
            listed = unable.client.get("/api/v1/tasks/results", params={"limit": 100}).json()
            accepted = {*waiting, *large, *odd, *broken, *good}
            assert {task["task_id"] for task in listed["items"]} == accepted
            assert all(task["waiting_for"] for task in listed["items"] if task["task_id"] in odd)
            monkeypatch.undo()
    with running_server(folder, run_hosts=1) as able:
        for task_id in (*waiting, *large):
            able.ended(task_id)
        for task_id in odd:
            assert able.client.delete(f"/api/v1/tasks/{task_id}").json()["status"] == "cancelled"
        assert able.client.delete("/api/v1/tasks/results").json()["deleted"] == listed["total"]


def test_task_that_kills_its_service_again_and_again_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, code = tmp_path / "data", tmp_path / "code"
    folder.mkdir()
    code.mkdir()
    (code / "deadly.py").write_text(DEADLY)
    monkeypatch.setenv("PYTHONPATH", str(code))
    start = partial(running_server, folder, run_hosts=1, sources='{"deadly": "deadly:make"}')
    with start(background_runs=0) as accepting:
        task_id = accepting.submit(**PYTHON | {"db": "deadly"})
    with closing(sqlite3.connect(folder / "hotloop.sqlite3")) as connection:
        connection.execute("UPDATE shards SET beginnings = ?", [MAX_BEGINNINGS - 1])
        connection.commit()
    with start() as server:
        assert server.process.wait(timeout=60) == -signal.SIGKILL
    with start() as server:
        failed = server.ended(task_id, "failed")
        assert failed["attempts"] == 1
        assert "began again and again without storing a result" in failed["error_message"]
        assert server.run("sequential", **QUICK).status_code == 200
