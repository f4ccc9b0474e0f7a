"""The contract of the task store, whatever the database."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy.exc import StatementError

from app.errors import TaskConflictError, TaskNotFoundError
from app.names import TaskStatus
from app.tasks.model import FINISHED, MOVES, UNFINISHED, Task
from app.tasks.store import TaskStore, open_store

NewTask = Callable[..., Task]
BringTo = Callable[[Task, TaskStatus], None]


def test_new_task_is_read_back_as_it_was(store: TaskStore, new_task: NewTask) -> None:
    plain = new_task()
    full = new_task(
        total_items=10_000_000_000,
        measurements={"seconds": 0.1 + 0.2, "errors": [{"item_id": 2**63 - 1}]},
        error_code="code",
        error_message="ünïcode 'quotes' \U0001f600",
    )
    for task in (plain, full):
        store.create(task)
        assert store.get(task.task_id) == task
        assert store.status(task.task_id) is TaskStatus.PENDING


def test_store_keeps_tasks_when_it_is_opened_again(location: Path | str, new_task: NewTask) -> None:
    task = new_task()
    first = open_store(location)
    first.create(task)
    first.close()
    second = open_store(location)
    assert second.get(task.task_id) == task
    second.close()


def test_same_id_again_is_a_conflict(store: TaskStore, new_task: NewTask) -> None:
    task = new_task()
    store.create(task)
    with pytest.raises(TaskConflictError, match="there is such a task already"):
        store.create(replace(task, kernel="python"))
    assert store.get(task.task_id) == task


def test_times_are_utc_whatever_zone_they_came_in(store: TaskStore, new_task: NewTask) -> None:
    zone = timezone(timedelta(hours=5, minutes=30))
    moment = datetime(2024, 3, 1, 1, 2, 3, 456789, tzinfo=zone)
    task = new_task(created_at=moment)
    store.create(task)
    kept = store.get(task.task_id).created_at
    assert kept == moment
    assert kept.tzinfo is UTC


def test_time_without_zone_is_refused(store: TaskStore, new_task: NewTask) -> None:
    with pytest.raises(StatementError, match="a time without a time zone"):
        store.create(new_task(created_at=datetime(2024, 1, 1)))


def test_a_task_s_life(store: TaskStore, new_task: NewTask) -> None:
    task = new_task()
    store.create(task)
    before = datetime.now(UTC)

    assert store.mark_running(task.task_id, "77:3.5", 12) == 1
    running = store.get(task.task_id)
    assert running.start_time is not None
    assert before <= running.start_time <= datetime.now(UTC)
    assert running == replace(
        task,
        status=TaskStatus.RUNNING,
        owner="77:3.5",
        total_items=12,
        start_time=running.start_time,
        attempt=1,
    )

    store.add_results(task.task_id, 1, [], 6, 2)
    assert store.get(task.task_id) == replace(running, items_processed=6, failed_items=2)

    store.finish(
        task.task_id,
        1,
        TaskStatus.FAILED,
        items_processed=7,
        failed_items=3,
        measurements={"cpu_seconds": 1.5},
        error_code="run_timeout",
        error_message="too slow",
    )
    ended = store.get(task.task_id)
    assert ended.end_time is not None
    assert running.start_time <= ended.end_time <= datetime.now(UTC)
    assert ended == replace(
        running,
        status=TaskStatus.FAILED,
        items_processed=7,
        failed_items=3,
        end_time=ended.end_time,
        measurements={"cpu_seconds": 1.5},
        error_code="run_timeout",
        error_message="too slow",
    )


def move(store: TaskStore, task_id: str, target: TaskStatus) -> None:
    if target is TaskStatus.RUNNING:
        store.mark_running(task_id, "2:2.0", 10)
    else:
        attempt = store.get(task_id).attempt
        store.finish(task_id, attempt, target, items_processed=10, failed_items=0)


@pytest.mark.parametrize("target", sorted(FINISHED | {TaskStatus.RUNNING}))
@pytest.mark.parametrize("source", TaskStatus)
def test_moves_are_those_of_the_table(
    store: TaskStore, new_task: NewTask, bring_to: BringTo, source: TaskStatus, target: TaskStatus
) -> None:
    task = new_task()
    bring_to(task, source)
    before = store.get(task.task_id)
    if target in MOVES[source]:
        move(store, task.task_id, target)
        assert store.get(task.task_id).status is target
    else:
        words = f"task {task.task_id}: it is {source} and cannot become {target}"
        with pytest.raises(TaskConflictError, match=words):
            move(store, task.task_id, target)
        assert store.get(task.task_id) == before


@pytest.mark.parametrize("status", sorted(UNFINISHED))
def test_finish_needs_an_end(store: TaskStore, new_task: NewTask, status: TaskStatus) -> None:
    task = new_task()
    store.create(task)
    with pytest.raises(ValueError, match="is not an end"):
        store.finish(task.task_id, 0, status, items_processed=0, failed_items=0)
    assert store.get(task.task_id) == task


@pytest.mark.parametrize("status", sorted(set(TaskStatus) - {TaskStatus.RUNNING}))
def test_results_need_a_running_task(
    store: TaskStore, new_task: NewTask, bring_to: BringTo, status: TaskStatus
) -> None:
    task = new_task()
    bring_to(task, status)
    before = store.get(task.task_id)
    with pytest.raises(TaskConflictError, match=f"it is {status}; results need a running task"):
        store.add_results(task.task_id, before.attempt, [], 9, 9)
    assert store.get(task.task_id) == before


@pytest.mark.parametrize(
    "task_id", ["task_ffffffff_1700000000", "", "nonsense", "task_'; DROP", "\0", "\ud800"]
)
def test_unknown_task_is_not_found(store: TaskStore, new_task: NewTask, task_id: str) -> None:
    store.create(new_task())
    calls: list[Callable[[], object]] = [
        lambda: store.get(task_id),
        lambda: store.mark_running(task_id, "1:1.0", 10),
        lambda: store.add_results(task_id, 1, [], 1, 0),
        lambda: store.results(task_id),
        lambda: store.finish(task_id, 0, TaskStatus.FAILED, items_processed=0, failed_items=0),
        lambda: store.delete(task_id),
        lambda: store.withdraw(task_id),
    ]
    for call in calls:
        with pytest.raises(TaskNotFoundError):
            call()
    assert store.status(task_id) is None


# --- pages ---------------------------------------------------------------------------------


def test_page_is_newest_first_whatever_the_order_of_creation(
    store: TaskStore, new_task: NewTask
) -> None:
    tasks = [new_task() for _ in range(7)]
    for task in (*tasks[3:], *tasks[:3]):
        store.create(task)
    pages = [store.page(limit=3, offset=offset) for offset in (0, 3, 6, 9)]
    assert [task for page in pages for task in page.tasks] == tasks
    assert [len(page.tasks) for page in pages] == [3, 3, 1, 0]
    assert [page.total for page in pages] == [7] * 4


def test_page_has_a_fixed_order_for_tasks_of_one_moment(
    store: TaskStore, new_task: NewTask
) -> None:
    tasks = [new_task(created_at=datetime(2024, 1, 1, tzinfo=UTC)) for _ in range(5)]
    for task in tasks:
        store.create(task)
    one_by_one = [store.page(limit=1, offset=offset).tasks[0] for offset in range(5)]
    assert one_by_one == tasks[::-1]


def test_page_filters_and_counts_what_matches(
    store: TaskStore, new_task: NewTask, bring_to: BringTo
) -> None:
    done = new_task(strategy="threading", kernel="python")
    bring_to(done, TaskStatus.COMPLETED)
    waiting = new_task(strategy="threading", kernel="cython")
    bring_to(waiting, TaskStatus.PENDING)
    other = new_task(strategy="hybrid", kernel="python")
    bring_to(other, TaskStatus.COMPLETED)

    def ids(*filters: str | None) -> list[str]:
        status, strategy, kernel = filters
        page = store.page(
            None if status is None else TaskStatus(status), strategy, kernel, limit=10
        )
        assert page.total == len(page.tasks)
        return [task.task_id for task in page.tasks]

    assert ids(None, None, None) == [done.task_id, waiting.task_id, other.task_id]
    assert ids("completed", None, None) == [done.task_id, other.task_id]
    assert ids(None, "threading", None) == [done.task_id, waiting.task_id]
    assert ids(None, None, "python") == [done.task_id, other.task_id]
    assert ids("completed", "threading", "python") == [done.task_id]
    assert ids("failed", None, None) == []
    assert ids(None, "' OR 1=1", None) == []
    assert store.page(TaskStatus.COMPLETED, limit=1).total == 2


def test_page_of_an_empty_store(store: TaskStore) -> None:
    page = store.page(limit=5)
    assert (page.tasks, page.total) == ((), 0)


# --- deleting ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", TaskStatus)
def test_only_finished_tasks_can_be_deleted(
    store: TaskStore, new_task: NewTask, bring_to: BringTo, status: TaskStatus
) -> None:
    task, bystander = new_task(), new_task()
    bring_to(task, status)
    bring_to(bystander, status)
    if status in FINISHED:
        store.delete(task.task_id)
        assert store.status(task.task_id) is None
    else:
        with pytest.raises(TaskConflictError, match=f"it is {status}; cancel it first"):
            store.delete(task.task_id)
        assert store.status(task.task_id) is status
    assert store.status(bystander.task_id) is status


def test_delete_finished_leaves_the_others(
    store: TaskStore, new_task: NewTask, bring_to: BringTo
) -> None:
    tasks = {status: [new_task(), new_task()] for status in TaskStatus}
    for status, some in tasks.items():
        for task in some:
            bring_to(task, status)
    finished = {task.task_id for status in FINISHED for task in tasks[status]}
    deleted = store.delete_finished()
    assert len(deleted) == len(finished)
    assert set(deleted) == finished
    left = {task.status for task in store.page(limit=100).tasks}
    assert left == UNFINISHED
    assert store.delete_finished() == []


def test_delete_finished_of_more_than_fit_a_statement(store: TaskStore, new_task: NewTask) -> None:
    for _ in range(1_201):
        store.create(new_task(status=TaskStatus.COMPLETED))
    assert len(store.delete_finished()) == 1_201
    assert store.page(limit=1).total == 0


# --- orphans -------------------------------------------------------------------------------


def test_orphans_are_interrupted_and_others_left(
    store: TaskStore, new_task: NewTask, bring_to: BringTo
) -> None:
    tasks = {
        (status, owner): new_task(owner=owner)
        for status in TaskStatus
        for owner in ("dead:1", "live:1")
    }
    for (status, _), task in tasks.items():
        bring_to(task, status)
    before = {task.task_id: store.get(task.task_id) for task in tasks.values()}

    interrupted = store.interrupt_orphans(lambda owner: owner == "live:1")

    expected = {tasks[status, "dead:1"].task_id: status for status in UNFINISHED}
    assert sorted(interrupted) == sorted(expected)
    for task_id, old in before.items():
        new = store.get(task_id)
        if task_id not in expected:
            assert new == old
            continue
        assert new.end_time is not None
        assert new == replace(
            old,
            status=TaskStatus.FAILED,
            end_time=new.end_time,
            error_code="interrupted",
            error_message=f"the service stopped while the task was {old.status}; what was "
            "finished is kept. Ask for the rest again.",
        )
    assert store.interrupt_orphans(lambda owner: owner == "live:1") == []


def test_orphan_that_somebody_takes_meanwhile_is_left(store: TaskStore, new_task: NewTask) -> None:
    taken, ended, orphan = new_task(), new_task(), new_task(owner="3:3.0")
    for task in (taken, ended, orphan):
        store.create(task)

    def is_alive(owner: str) -> bool:
        if owner == "3:3.0":  # the last that is asked for
            store.mark_running(taken.task_id, "2:2.0", 10)
            store.finish(ended.task_id, 0, TaskStatus.CANCELLED, items_processed=0, failed_items=0)
        return False

    assert store.interrupt_orphans(is_alive) == [orphan.task_id]
    assert store.get(taken.task_id).status is TaskStatus.RUNNING
    assert store.get(ended.task_id).status is TaskStatus.CANCELLED


# --- races ---------------------------------------------------------------------------------


def test_of_threads_that_race_for_a_move_one_wins(
    location: Path | str, store: TaskStore, new_task: NewTask
) -> None:
    ends = [TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.CANCELLED]
    others = [open_store(location) for _ in ends[1:]]
    barrier = threading.Barrier(len(ends))

    def finish(racer: TaskStore, task_id: str, end: TaskStatus) -> TaskStatus | None:
        barrier.wait()
        try:
            racer.finish(task_id, 0, end, items_processed=0, failed_items=0)
        except TaskConflictError:
            return None
        return end

    with ThreadPoolExecutor(len(ends)) as pool:
        for _ in range(25):
            task = new_task(status=TaskStatus.RUNNING)
            store.create(task)
            racers = [store, *others]
            won = list(pool.map(finish, racers, [task.task_id] * len(ends), ends))
            winners = [end for end in won if end is not None]
            assert winners == [store.get(task.task_id).status]
    for other in others:
        other.close()


RACE = """
import sys
from pathlib import Path
from app.errors import TaskConflictError
from app.tasks.store import open_store
url, *ids = sys.argv[1:]
store = open_store(Path(url) if "://" not in url else url)
print("ready", flush=True)
sys.stdin.readline()
for task_id in ids:
    try:
        store.mark_running(task_id, "2:2.0", 10)
        print(task_id)
    except TaskConflictError:
        pass
"""


def test_of_processes_that_race_for_tasks_each_is_won_once(
    location: Path | str, store: TaskStore, new_task: NewTask
) -> None:
    tasks = [new_task() for _ in range(60)]
    for task in tasks:
        store.create(task)
    ids = [task.task_id for task in tasks]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(location), *ids],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    won = Counter(
        task_id for process in processes for task_id in process.communicate(timeout=60)[0].split()
    )
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert won == Counter(ids)


def test_one_store_serves_many_threads(store: TaskStore, new_task: NewTask) -> None:
    tasks = [new_task(total_items=50) for _ in range(8)]
    barrier = threading.Barrier(len(tasks))

    def live(task: Task) -> None:
        barrier.wait()
        store.create(task)
        attempt = store.mark_running(task.task_id, "1:1.0", 10)
        for processed in range(1, 21):
            store.add_results(task.task_id, attempt, [], processed, 0)
            assert store.get(task.task_id).items_processed == processed
        store.finish(
            task.task_id, attempt, TaskStatus.COMPLETED, items_processed=50, failed_items=0
        )

    with ThreadPoolExecutor(len(tasks)) as pool:
        list(pool.map(live, tasks))
    page = store.page(TaskStatus.COMPLETED, limit=100)
    assert page.total == len(tasks)
    assert {task.items_processed for task in page.tasks} == {50}
