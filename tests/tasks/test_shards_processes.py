"""Processes at one task: one of those that race wins, and a killed one leaves nothing by half."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from hotloop.app.tasks.engine import reading
from hotloop.app.tasks.model import ShardRef
from hotloop.app.tasks.store import TaskStore
from hotloop.app.tasks.tables import results
from tests.fixtures.executions import begin, check_counts, queued

pytestmark = pytest.mark.long

Sharded = Callable[..., str]

REPOSITORY = Path(__file__).parents[2]

RACE = """
import sys
from hotloop.app.errors import TaskConflictError
from hotloop.app.tasks.store import open_store
from tests.fixtures.executions import begin, summary
from pathlib import Path

url, what, *task_ids = sys.argv[1:]
store = open_store(url if "://" in url else Path(url))
print("ready", flush=True)
sys.stdin.readline()
for task_id in task_ids if what == "execute" else reversed(task_ids):
    try:
        if what == "execute":
            execution = begin(store, task_id)
            execution.add()
            execution.end()
        else:
            store.shards.cancel(task_id, summary)
        print(task_id, what)
    except TaskConflictError:
        pass
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(location: Path | str) -> Iterator[Start]:
    """Starts a script, which waits for `go`."""
    started: list[subprocess.Popen[str]] = []

    def run(script: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(location), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def go(processes: list[subprocess.Popen[str]]) -> None:
    """All at once, when each is ready."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


def test_of_processes_that_execute_and_cancel_each_task_has_one_end(
    store: TaskStore, sharded: Sharded, start: Start
) -> None:
    task_ids = [sharded([10]) for _ in range(40)]
    processes = [start(RACE, what, *task_ids) for what in ("execute", "execute", "cancel")]
    go(processes)
    lines = [line for p in processes for line in p.communicate(timeout=60)[0].splitlines()]
    assert [process.returncode for process in processes] == [0, 0, 0]
    won = dict(line.split() for line in lines)
    assert sorted(line.split()[0] for line in lines) == sorted(task_ids)
    for task_id in task_ids:
        end = "completed" if won[task_id] == "execute" else "cancelled"
        assert store.get(task_id).status == end
        assert [shard.status for shard in store.shards.of_task(task_id)] == [end]


EXECUTE = """
import sys
import numpy as np
from pathlib import Path
from hotloop.app.sources.base import Batch
from hotloop.app.strategies.base import BatchResult
from hotloop.app.tasks.store import open_store
from tests.fixtures.executions import begin

url, task_id, number, batch = sys.argv[1:]
store = open_store(url if "://" in url else Path(url))
print("ready", flush=True)
sys.stdin.readline()
execution = begin(store, task_id, int(number))
for start, count in store.shards.missing(execution.shard.ref):
    for first in range(start, start + count, int(batch)):
        size = min(int(batch), start + count - first)
        ids = np.arange(first, first + size)
        columns = {"loop": ids / 2, "nested": -ids}
        failed = ids % 7 == 0
        execution.add(BatchResult(Batch(0, first, size), ids, columns, failed, (), 0, 0.0))
        print(first, flush=True)
print(execution.end())
"""


def test_processes_with_a_shard_each_complete_the_task(
    store: TaskStore, sharded: Sharded, start: Start
) -> None:
    task_id = sharded([100, 100, 101])
    processes = [start(EXECUTE, task_id, str(number), "7") for number in range(3)]
    go(processes)
    last = [process.communicate(timeout=60)[0].splitlines()[-1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(last) == ["completed", "running", "running"]
    task = store.get(task_id)
    assert (task.status, task.items_processed, task.failed_items) == ("completed", 301, 43)
    check_counts(store, task_id)


@pytest.mark.parametrize("lines", [1, 4, 25])
def test_killed_between_two_messages_counts_and_results_agree(
    store: TaskStore, sharded: Sharded, start: Start, lines: int
) -> None:
    """Two of three shards are executed when their processes are killed; later ones go on."""
    task_id = sharded([50_000, 50_000, 5])
    processes = [start(EXECUTE, task_id, str(number), "3") for number in range(2)]
    go(processes)
    for process in processes:
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        process.kill()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == -9

    shards = store.shards.of_task(task_id)
    assert [shard.status for shard in shards] == ["running", "running", "pending"]
    assert queued(store) == [ShardRef(task_id, number, 0) for number in range(3)]
    for shard in shards:
        inside = results.c.start >= shard.start, results.c.start < shard.start + shard.count
        counts = select(func.sum(results.c["count"]), func.sum(results.c.failed)).where(*inside)
        with reading(store.engine) as connection:
            stored = connection.execute(counts).one()
        assert (shard.items_processed, shard.failed_items) == (stored[0] or 0, stored[1] or 0)
        assert shard.items_processed >= (3 * lines if shard.shard < 2 else 0)
        begun = (shard.details or {"starts": []})["starts"]
        assert 3 * len(begun) == shard.items_processed
        missing = sum(count for _, count in store.shards.missing(shard.ref))
        assert missing == shard.count - shard.items_processed
    check_counts(store, task_id)
    again = begin(store, task_id)
    assert (again.shard.attempt, again.shard.items_processed) == (2, shards[0].items_processed)
