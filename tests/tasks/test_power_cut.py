"""Answered tasks survive a power cut: files lose everything that was not written through."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Final

import httpx
import pytest

from hotloop.app.database.engine import FILE_NAME
from hotloop.app.names import Durability
from hotloop.app.tasks.store import open_store
from tests.fixtures.lossy_disk import built, power_cut, variables
from tests.fixtures.processes import is_gone
from tests.fixtures.server import ROOT, running_server
from tests.fixtures.waiting import wait_until

MOMENTS: Final = 50

WRITER: Final = """
import sys, threading
from dataclasses import replace
from pathlib import Path
from hotloop.app.names import Durability
from hotloop.app.tasks.needs import needs_of
from hotloop.app.tasks.small import NewTask, SmallKey, SmallTasks
from hotloop.app.tasks.store import open_store
from tests.fixtures.runner import new_task
store = open_store(Path(sys.argv[1]), durability=Durability(sys.argv[2]))
telling = threading.Lock()
def write():
    while True:
        task = new_task()
        store.create(task)
        with telling:
            print(task.task_id, flush=True)
def accept():
    needs = needs_of("run", "loops", "python", "sequential", {})
    small, key = SmallTasks(store.engine), SmallKey.of("loops", "python", {}, needs, {})
    while True:
        tasks = [replace(new_task(), task_type="background") for _ in range(3)]
        assert small.accept([NewTask(t, key, b"items") for t in tasks], lambda *_: 0) == [None] * 3
        with telling:
            print(*(task.task_id for task in tasks), sep="\\n", flush=True)
for work in (write, write, accept, accept):
    threading.Thread(target=work).start()
"""
"""Stores tasks, one by one and in groups, and prints the id of each once it is stored."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("library"))


def lost_tasks(library: Path, folder: Path, durability: Durability, moments: int) -> int:
    """Cut the power some times while tasks are stored; return how many told ones are lost."""
    data, log = folder / "data", folder / "log"
    data.mkdir()
    chance, told = random.Random(3), set[str]()
    environment = os.environ | variables(library, data, log) | {"PYTHONPATH": str(ROOT)}
    for _ in range(moments):
        command = [sys.executable, "-c", WRITER, str(data), durability]
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            until = len(told) + chance.randrange(1, 120)
            for line in writer.stdout:
                told.add(line.strip())
                if len(told) >= until:
                    break
            writer.kill()
            told |= {line.strip() for line in writer.stdout if line.endswith("\n")}
        power_cut(data, log, chance)
        with closing(sqlite3.connect(data / FILE_NAME)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store = open_store(data)
    try:
        return sum(store.status(task_id) is None for task_id in told)
    finally:
        store.close()


@pytest.mark.parametrize("moments", [5, pytest.param(MOMENTS, marks=pytest.mark.long)])
@pytest.mark.timeout(300)
def test_no_told_task_is_lost_in_a_power_cut(library: Path, tmp_path: Path, moments: int) -> None:
    assert lost_tasks(library, tmp_path, Durability.POWER, moments) == 0


def test_disk_of_this_test_forgets(library: Path, tmp_path: Path) -> None:
    assert lost_tasks(library, tmp_path, Durability.PROCESS, 5) > 0


@pytest.mark.long
@pytest.mark.timeout(600)
def test_service_keeps_what_it_has_answered(library: Path, tmp_path: Path) -> None:
    data, log = tmp_path / "data", tmp_path / "log"
    data.mkdir()
    chance, tasks, calls = random.Random(4), set[str](), set[str]()
    items = [{"item_id": n, "value": n / 8, "offset": n} for n in range(20)]
    few = {"parameters": {"cpu_iterations": 20, "outer_iterations": 2, "inner_iterations": 2}}
    for _ in range(3):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables(library, data, log).items():
                patch.setenv(name, value)
            with running_server(data, run_hosts=1) as server:
                server.wait_ready()
                until = len(tasks) + chance.randrange(5, 30)
                killed = threading.Event()

                def call(killed: threading.Event = killed, url: str = server.url) -> None:
                    body = {"items": [{"value": 0.5, "offset": 7}], **few}
                    while not killed.is_set():
                        try:
                            path = f"{url}/api/v1/workloads/loops"
                            answer = httpx.post(path, json=body, timeout=60)
                        except httpx.TransportError:
                            return
                        if answer.is_success:
                            calls.add(answer.json()["task_id"])

                calling = threading.Thread(target=call)
                calling.start()
                while len(tasks) < until:
                    body = few | {"items": items} if len(tasks) % 2 else few | {"items_count": 50}
                    tasks.add(server.submit(**body, db="none", cache="none"))
                wait_until(lambda: len(calls) >= 3, "some calls are answered", 60)
                below = server.look_below()
                server.process.send_signal(signal.SIGKILL)
                killed.set()
                calling.join()
                server.process.wait()
                wait_until(lambda: all(map(is_gone, below)), "all are gone", 30)  # noqa: B023
        power_cut(data, log, chance)
    with running_server(data, run_hosts=1) as server:
        server.wait_ready()
        assert calls
        for task_id in calls:
            assert server.view(task_id)["status"] == "completed"
        for task_id in tasks:
            assert server.ended(task_id)["result"]["failed_items"] == 0
