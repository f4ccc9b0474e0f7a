"""tasks.shards, tasks.claims: of threads and processes that race for a task, one wins."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import func, select

from hotloop.app.database.engine import reading
from hotloop.app.errors import TaskConflictError
from hotloop.app.names import TaskStatus
from hotloop.app.strategies.base import BatchResult
from hotloop.app.tasks.claims import Claim, claim, put_back
from hotloop.app.tasks.model import ShardRef
from hotloop.app.tasks.store import TaskStore, open_store
from hotloop.app.tasks.tables import results
from tests.fixtures.executions import Execution, begin, check_counts, queued, summary
from tests.fixtures.results import ids, opened
from tests.fixtures.waiting import BOUND_SECONDS

pytestmark = pytest.mark.long

NewResult = Callable[..., BatchResult]
Sharded = Callable[..., str]

WORKERS = 6


@pytest.fixture
def stores(location: Path | str) -> Iterator[list[TaskStore]]:
    """Each with connections of its own, as processes have."""
    opened_stores = [open_store(location) for _ in range(WORKERS)]
    yield opened_stores
    for one in opened_stores:
        one.close()


def test_last_of_racing_executions_may_write(
    stores: list[TaskStore], sharded: Sharded, result: NewResult
) -> None:
    barrier = threading.Barrier(WORKERS, timeout=BOUND_SECONDS)

    def race(store: TaskStore, task_id: str) -> tuple[int, TaskStatus | None]:
        barrier.wait()
        execution = begin(store, task_id)
        barrier.wait()
        try:
            execution.add(result(0, 10))
            return execution.shard.attempt, execution.end()
        except TaskConflictError:
            return execution.shard.attempt, None

    with ThreadPoolExecutor(WORKERS) as pool:
        for _ in range(10):
            task_id = sharded([10])
            ends = dict(pool.map(race, stores, [task_id] * WORKERS))
            assert sorted(ends) == list(range(1, WORKERS + 1))
            assert {attempt for attempt, end in ends.items() if end is not None} == {WORKERS}
            check_counts(stores[0], task_id)


def test_one_of_end_cancel_and_failure_wins(
    stores: list[TaskStore], sharded: Sharded, result: NewResult
) -> None:
    barrier = threading.Barrier(4, timeout=BOUND_SECONDS)

    def finish(execution: Execution, status: TaskStatus) -> TaskStatus | None:
        barrier.wait()
        try:
            return execution.end(status)
        except TaskConflictError:
            return None

    def cancel(store: TaskStore, task_id: str) -> TaskStatus | None:
        barrier.wait()
        try:
            store.shards.cancel(task_id, summary)
        except TaskConflictError:
            return None
        return TaskStatus.CANCELLED

    with ThreadPoolExecutor(4) as pool:
        for _ in range(25):
            task_id = sharded([10, 10])
            first, second = begin(stores[0], task_id, 0), begin(stores[1], task_id, 1)
            won = [
                pool.submit(finish, first, TaskStatus.COMPLETED),
                pool.submit(finish, second, TaskStatus.FAILED),
                pool.submit(cancel, stores[2], task_id),
                pool.submit(cancel, stores[3], task_id),
            ]
            ends = [future.result(timeout=60) for future in won]
            # A shard of two completes without ending the task.
            assert ends[0] in (None, TaskStatus.RUNNING)
            (end,) = [end for end in ends[1:] if end is not None]
            assert stores[0].get(task_id).status is end
            states = [shard.status for shard in stores[0].shards.of_task(task_id)]
            assert states == ["completed" if ends[0] else "cancelled", end]


def test_shards_of_one_task_in_parallel_add_up(
    stores: list[TaskStore], sharded: Sharded, result: NewResult
) -> None:
    per_shard, batch = 120, 10
    task_id = sharded([per_shard] * WORKERS)
    barrier = threading.Barrier(WORKERS, timeout=BOUND_SECONDS)

    def live(store: TaskStore, number: int) -> TaskStatus:
        barrier.wait()
        execution = begin(store, task_id, number)
        for start in range(execution.shard.start, execution.shard.start + per_shard, batch):
            execution.add(result(start, batch, failed=(start,)))
            assert execution.is_current()
        return execution.end()

    with ThreadPoolExecutor(WORKERS) as pool:
        ends = list(pool.map(live, stores, range(WORKERS)))
    assert Counter(ends) == {TaskStatus.RUNNING: WORKERS - 1, TaskStatus.COMPLETED: 1}
    task = stores[0].get(task_id)
    assert task.status is TaskStatus.COMPLETED
    assert (task.items_processed, task.failed_items) == (720, 72)
    check_counts(stores[0], task_id)
    assert ids(list(opened(stores[0], task_id).blocks())) == list(range(720))


def test_failure_of_a_shard_stops_the_others(
    stores: list[TaskStore], sharded: Sharded, result: NewResult
) -> None:
    """The others add for as long as they may."""
    task_id = sharded([1_000_000] * WORKERS)
    barrier = threading.Barrier(WORKERS, timeout=BOUND_SECONDS)

    def live(store: TaskStore, number: int) -> int:
        execution = begin(store, task_id, number)
        barrier.wait()
        if number == 0:
            for start in range(5):
                execution.add(result(start, 1))
            assert execution.end(TaskStatus.FAILED) is TaskStatus.FAILED
        else:
            with pytest.raises(TaskConflictError, match="it is cancelled; results need a running"):
                add_for_ever(execution)
        return execution.processed

    def add_for_ever(execution: Execution) -> None:
        while True:
            execution.add(result(execution.shard.start + execution.processed, 1))

    with ThreadPoolExecutor(WORKERS) as pool:
        counts = list(pool.map(live, stores, range(WORKERS)))
    assert counts[0] == 5
    assert stores[0].get(task_id).items_processed == sum(counts)
    states = [shard.status for shard in stores[0].shards.of_task(task_id)]
    assert states == ["failed"] + ["cancelled"] * (WORKERS - 1)
    check_counts(stores[0], task_id)


def test_one_store_serves_many_threads(
    store: TaskStore, sharded: Sharded, result: NewResult
) -> None:
    """Tasks of their own, all through the same connections."""
    barrier = threading.Barrier(8, timeout=BOUND_SECONDS)

    def live(_: int) -> None:
        barrier.wait()
        task_id = sharded([20])
        execution = begin(store, task_id)
        for start in range(20):
            execution.add(result(start, 1))
            assert store.get(task_id).items_processed == start + 1
        assert execution.end() is TaskStatus.COMPLETED

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(live, range(8)))
    page = store.page(TaskStatus.COMPLETED, limit=100)
    assert page.total == 8
    assert {task.items_processed for task in page.tasks} == {20}


@pytest.mark.parametrize("in_all", [None, 5])
def test_of_many_that_claim_at_once_each_shard_is_got_once_and_no_limit_is_passed(
    stores: list[TaskStore], sharded: Sharded, in_all: int | None
) -> None:
    for count in (1, 4, 1, 12):
        sharded([10] * count)
    barrier = threading.Barrier(WORKERS, timeout=BOUND_SECONDS)

    def take(number: int) -> list[Claim]:
        barrier.wait()
        got = []
        while (one := claim(stores[number].engine, f"node:{number}", in_all)) is not None:
            got.append(one)
        return got

    with ThreadPoolExecutor(WORKERS) as pool:
        got = [one.shard for some in pool.map(take, range(WORKERS)) for one in some]
    assert len(got) == (in_all or 18)
    assert sorted(shard.ref for shard in got) == sorted(queued(stores[0])[: len(got)])
    assert {shard.attempt for shard in got} == {1}


def test_claims_cancels_and_adoptions_do_not_wait_for_each_other_in_a_circle(
    stores: list[TaskStore], sharded: Sharded
) -> None:
    barrier = threading.Barrier(4, timeout=BOUND_SECONDS)

    def cancel(store: TaskStore, task_id: str) -> None:
        barrier.wait()
        store.shards.cancel(task_id, summary)

    def adopt(store: TaskStore, _: str) -> None:
        barrier.wait()
        put_back(store.engine, "dead:1")

    def take(store: TaskStore, _: str) -> None:
        barrier.wait()
        while claim(store.engine, "node:1") is not None:
            pass

    with ThreadPoolExecutor(4) as pool:
        for _ in range(15):
            task_id = sharded([10] * 6)
            assert all(claim(stores[0].engine, "dead:1") for _ in range(3))
            calls = zip((cancel, adopt, take, adopt), stores, strict=False)
            done = [pool.submit(call, store, task_id) for call, store in calls]
            for future in done:
                future.result(timeout=60)
            assert stores[0].status(task_id) is TaskStatus.CANCELLED
            assert queued(stores[0]) == []


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


def test_racing_processes_end_each_task_once(
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
