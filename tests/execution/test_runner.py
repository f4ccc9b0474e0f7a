"""execution.runner, context: the life of a claimed shard, on a real store."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from hotloop.app.errors import (
    ClusterLostError,
    EstimateTooLongError,
    InvalidRequestError,
    MemoryBudgetError,
    NotReadyError,
    RunCancelledError,
    RunError,
    RunHostDiedError,
    ServiceError,
    StoreError,
    StoreUnavailableError,
    TaskNotFoundError,
    TooBusyError,
    UnreadableTaskError,
)
from hotloop.app.execution import runner as runner_module
from hotloop.app.execution.context import Once, Work
from hotloop.app.names import StrategyName, TaskStatus
from hotloop.app.tasks import rows
from hotloop.app.tasks.claims import Claim, claim, put_back
from hotloop.app.tasks.folder import DataFolder
from hotloop.app.tasks.model import ShardRef
from hotloop.app.tasks.rows import FAILED_BEGINNING, MAX_BEGINNINGS
from hotloop.app.tasks.store import TaskStore, open_store
from hotloop.app.tasks.work_queue import HandOver
from hotloop.kernels import InvalidInputError
from tests.fixtures.guarded import free_port
from tests.fixtures.runner import (
    Body,
    World,
    add,
    claimed,
    durable,
    in_world,
    then,
    unbegun,
    wait_for_ever,
)
from tests.fixtures.waiting import until

OUTAGE: ServiceError = StoreUnavailableError("it is down")
DIED: ServiceError = RunHostDiedError(-9)
LOST: ServiceError = ClusterLostError("dask", "it is gone")
TRIES = MAX_BEGINNINGS // FAILED_BEGINNING


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TaskStore]:
    store = open_store(tmp_path)
    yield store
    store.close()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for first in ("FIRST", "STORE", "LONGEST", "CLUSTER"):
        name = f"{first}_PAUSE_SECONDS"
        monkeypatch.setattr(runner_module, name, 0.0)


# --- durable -------------------------------------------------------------------------------


def test_completed_shard_ends_its_task_and_is_counted_once(
    store: TaskStore, tmp_path: Path
) -> None:
    body = Body()
    task = durable(store, tmp_path, body)
    assert (task.status, task.measurements) == (TaskStatus.COMPLETED, {"shards": 1})
    assert body.attempts == [1]
    assert body.ends == [(TaskStatus.COMPLETED, 10)]
    assert store.shards.of_task(task.task_id)[0].details == {"done": 10}


@pytest.mark.parametrize("error", [OUTAGE])
def test_surroundings_never_fail_a_task(
    store: TaskStore, tmp_path: Path, error: ServiceError
) -> None:
    task = durable(store, tmp_path, Body(*[error] * 2 * MAX_BEGINNINGS))
    assert task.status is TaskStatus.COMPLETED


@pytest.mark.parametrize("error", [DIED, StoreError("the disk is full")])
def test_failures_without_progress_are_tried_again_a_few_times(
    store: TaskStore, tmp_path: Path, error: ServiceError
) -> None:
    body = Body(*[error] * TRIES)
    task = durable(store, tmp_path, body)
    assert (task.status, task.error_code) == (TaskStatus.FAILED, type(error).__name__)
    assert body.attempts == list(range(1, TRIES + 1))
    assert durable(store, tmp_path, Body(*[error] * (TRIES - 1))).status is TaskStatus.COMPLETED


def test_progress_makes_failures_start_anew(store: TaskStore, tmp_path: Path) -> None:
    steps = [then(add(done), DIED) for done in range(1, 2 * TRIES)]
    body = Body(*steps)
    assert durable(store, tmp_path, body).status is TaskStatus.COMPLETED
    assert len(body.attempts) == 2 * TRIES


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (InvalidRequestError("kernel", "is none"), "InvalidRequestError", "kernel: is none"),
        (InvalidInputError("item", "2 columns"), "UnreadableTaskError", "2 columns"),
        (RuntimeError("a secret"), "RunError", "an unexpected RuntimeError"),
        (UnreadableTaskError("its rows"), "UnreadableTaskError", "its rows"),
    ],
)
def test_other_errors_end_the_task_at_once(
    store: TaskStore, tmp_path: Path, error: Exception, code: str, text: str
) -> None:
    body = Body(then(add(3), error))
    task = durable(store, tmp_path, body)
    assert (task.status, task.error_code) == (TaskStatus.FAILED, code)
    assert text in str(task.error_message)
    assert "secret" not in str(task.error_message)
    assert (body.attempts, body.ends) == ([1], [(TaskStatus.FAILED, 3)])


@pytest.mark.parametrize(
    ("error", "needs_bytes"),
    [
        (MemoryBudgetError("workers", 1 << 40, 1 << 30), 1 << 40),
        (NotReadyError("no run host", 1), None),
    ],
)
def test_shard_that_this_node_cannot_execute_waits_for_another(
    store: TaskStore, tmp_path: Path, error: ServiceError, needs_bytes: int | None
) -> None:
    task = durable(store, tmp_path, Body(error))
    (shard,) = store.shards.of_task(task.task_id)
    assert (task.status, shard.node) == (TaskStatus.RUNNING, None)
    assert (shard.beginnings, shard.needs_bytes) == (0, needs_bytes)


def test_shard_waits_without_a_limit_while_its_cluster_is_down(
    store: TaskStore, tmp_path: Path
) -> None:
    address = {StrategyName.DASK: f"tcp://127.0.0.1:{free_port()}"}
    work, body = claimed(store), Body(*[LOST] * 2 * TRIES)
    for attempt in range(1, 2 * TRIES + 1):
        in_world(store, tmp_path, body, partial(execute, work), address)
        (shard,) = store.shards.of_task(work.task.task_id)
        assert (shard.status, shard.node, shard.beginnings) == (TaskStatus.RUNNING, None, 0)
        assert len(body.attempts) == attempt
        again = claim(store.engine, "this")
        assert again is not None
        work = again
    in_world(store, tmp_path, body, partial(execute, work), address)
    assert store.status(work.task.task_id) is TaskStatus.COMPLETED


def test_cluster_that_is_lost_while_its_port_is_open_fails_the_task_in_the_end(
    store: TaskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a cluster would be lost again and again, by every node."""
    monkeypatch.setattr(rows, "FIRST_PAUSE_SECONDS", 0.0)
    body, counted = Body(*[LOST] * TRIES), []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = {StrategyName.DASK: f"tcp://127.0.0.1:{listening.getsockname()[1]}"}
        work: Claim | None = claimed(store)
        while work is not None:
            in_world(store, tmp_path, body, partial(execute, work), address)
            (shard,) = store.shards.of_task(work.task.task_id)
            counted.append(shard.beginnings)
            work = claim(store.engine, "this")
    assert counted[:-1] == [FAILED_BEGINNING * n for n in range(1, TRIES)]
    (task,) = store.page(limit=1).tasks
    assert (task.status, task.error_code) == (TaskStatus.FAILED, "ClusterLostError")
    assert "the dask cluster is lost: it is gone" in str(task.error_message)


async def execute(work: Claim, world: World) -> None:
    await world.run(work)


def test_fault_outside_of_the_body_fails_the_task_and_no_other(
    store: TaskStore, tmp_path: Path
) -> None:
    work = claimed(store, spec={"origin": "no object"})
    in_world(store, tmp_path, Body(), lambda world: world.run(work))
    task = store.get(work.task.task_id)
    assert (task.status, task.error_code) == (TaskStatus.FAILED, "RunError")


def test_stopping_hands_over_and_counts_as_no_beginning(store: TaskStore, tmp_path: Path) -> None:
    work, body = claimed(store), Body(wait_for_ever)

    async def scenario(world: World) -> None:
        executing = asyncio.create_task(asyncio.to_thread(world.runner.execute, work))
        await until(lambda: body.attempts, "it has begun")
        await world.runner.close()
        with pytest.raises(HandOver):
            await executing

    in_world(store, tmp_path, body, scenario)
    (shard,) = store.shards.of_task(work.task.task_id)
    assert (shard.status, shard.node, shard.beginnings) == (TaskStatus.RUNNING, None, 0)
    assert body.ends == []


def test_nothing_begins_once_the_process_stops(store: TaskStore, tmp_path: Path) -> None:
    work, body = claimed(store), Body()

    async def scenario(world: World) -> None:
        await world.runner.close()
        with pytest.raises(HandOver):
            await asyncio.to_thread(world.runner.execute, work)

    in_world(store, tmp_path, body, scenario)
    assert body.attempts == []


def test_lost_claim_ends_the_execution_and_changes_nothing(
    store: TaskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "HOLD_CHECK_SECONDS", 0.01)
    work, body = claimed(store), Body(wait_for_ever)

    async def scenario(world: World) -> None:
        running = asyncio.create_task(world.run(work))
        await until(lambda: body.attempts, "it has begun")
        put_back(store.engine, "this")
        assert claim(store.engine, "other") is not None
        assert await running is None

    in_world(store, tmp_path, body, scenario)
    (shard,) = store.shards.of_task(work.task.task_id)
    assert (shard.status, shard.node, shard.attempt) == (TaskStatus.RUNNING, "other", 2)
    assert body.ends == []


def test_cancelled_in_the_store_it_ends_soon(
    store: TaskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "HOLD_CHECK_SECONDS", 0.01)
    work, body = claimed(store), Body(wait_for_ever)

    async def scenario(world: World) -> None:
        running = asyncio.create_task(world.run(work))
        await until(lambda: body.attempts, "it has begun")
        store.shards.cancel(work.task.task_id, body.summarize)
        await running
        assert world.runner.active == {}

    in_world(store, tmp_path, body, scenario)
    assert store.status(work.task.task_id) is TaskStatus.CANCELLED


# --- once ----------------------------------------------------------------------------------


def test_synchronous_task_is_made_begun_and_ended(store: TaskStore, tmp_path: Path) -> None:
    body = Body()

    async def scenario(world: World) -> None:
        outcome = await world.once()
        assert (outcome.error, outcome.items_processed) == (None, 10)
        assert world.runner.active == {}

    in_world(store, tmp_path, body, scenario)
    (task,) = store.page(limit=2).tasks
    assert task.status is TaskStatus.COMPLETED
    assert (body.attempts, body.ends) == ([1], [(TaskStatus.COMPLETED, 10)])


def test_synchronous_task_is_never_tried_again(store: TaskStore, tmp_path: Path) -> None:
    body = Body(then(add(3), DIED))

    async def scenario(world: World) -> None:
        outcome = await world.once()
        assert isinstance(outcome.error, RunError)
        assert outcome.error.task_id == store.page(limit=1).tasks[0].task_id

    in_world(store, tmp_path, body, scenario)
    (task,) = store.page(limit=2).tasks
    assert (task.status, task.items_processed) == (TaskStatus.FAILED, 3)
    assert body.attempts == [1]


@pytest.mark.parametrize("error", [TooBusyError("later", 1), InvalidRequestError("items", "no")])
def test_refused_before_its_beginning_it_leaves_no_trace(
    store: TaskStore, tmp_path: Path, error: ServiceError
) -> None:
    body = Body(refuses=error)

    async def scenario(world: World) -> None:
        assert (await world.once()).error is error

    in_world(store, tmp_path, body, scenario)
    assert store.page(limit=1).total == 0
    assert body.ends == []


def test_refused_after_its_beginning_it_has_failed(store: TaskStore, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.once()

    in_world(store, tmp_path, Body(InvalidRequestError("items", "no")), scenario)
    assert store.page(limit=1).tasks[0].status is TaskStatus.FAILED


def test_estimated_too_long_it_stays_for_the_background(store: TaskStore, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        await world.once()

    in_world(store, tmp_path, Body(refuses=EstimateTooLongError(9.0, 1.0, "Ask.")), scenario)
    assert store.page(limit=1).tasks[0].status is TaskStatus.PENDING


def test_failed_before_its_beginning_it_ends_without_an_execution(
    store: TaskStore, tmp_path: Path
) -> None:
    body = Body(refuses=RuntimeError("a secret"))

    async def scenario(world: World) -> None:
        assert isinstance((await world.once()).error, RunError)

    in_world(store, tmp_path, body, scenario)
    (task,) = store.page(limit=1).tasks
    assert (task.status, task.start_time) == (TaskStatus.FAILED, None)
    assert body.ends == [(TaskStatus.FAILED, 0)]


def test_cancelled_with_its_client_it_ends_in_order(store: TaskStore, tmp_path: Path) -> None:
    stored: list[Work] = []

    async def note(work: Work) -> None:
        stored.append(work)

    body = Body(then(add(4), note, wait_for_ever))

    async def scenario(world: World) -> None:
        running = asyncio.create_task(world.once())
        await until(lambda: stored, "it stores")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await until(lambda: not world.runner.active, "it has ended")

    in_world(store, tmp_path, body, scenario)
    (task,) = store.page(limit=1).tasks
    assert (task.status, task.items_processed) == (TaskStatus.CANCELLED, 4)
    assert body.ends == [(TaskStatus.CANCELLED, 4)]


def test_cancelling_by_reference_fails_the_caller(store: TaskStore, tmp_path: Path) -> None:
    body = Body(wait_for_ever)

    async def scenario(world: World) -> None:
        claim_of = unbegun()
        running = asyncio.create_task(world.run(claim_of, Once()))
        await until(lambda: body.attempts, "it has begun")
        await world.runner.cancel([ShardRef(claim_of.task.task_id, 0, 0)])
        outcome = await running
        assert outcome is not None
        assert isinstance(outcome.error, RunCancelledError)
        assert store.status(claim_of.task.task_id) is TaskStatus.CANCELLED

    in_world(store, tmp_path, body, scenario)


def test_closing_ends_waiting_requests(store: TaskStore, tmp_path: Path) -> None:
    body = Body(wait_for_ever)

    async def scenario(world: World) -> None:
        running = asyncio.create_task(world.once())
        await until(lambda: body.attempts, "it has begun")
        await world.runner.close()
        assert isinstance((await running).error, RunCancelledError)

    in_world(store, tmp_path, body, scenario)
    assert store.page(limit=1).tasks[0].status is TaskStatus.CANCELLED


def test_items_come_in_before_the_body_and_go_with_the_end(
    store: TaskStore, tmp_path: Path
) -> None:
    class Source:
        def __init__(self) -> None:
            self.size = 10
            self.sha256: str | None = "0" * 64

        async def receive(self, folder: DataFolder, task_id: str) -> None:
            folder.items_path(task_id).touch()

    found: list[tuple[str | None, bool]] = []

    async def look(work: Work) -> None:
        path = work.context.folder.items_path(work.task.task_id)
        found.append((work.task.input_sha256, path.exists()))

    async def scenario(world: World) -> None:
        await world.once(Source())

    in_world(store, tmp_path, Body(look), scenario)
    assert found == [("0" * 64, True)]
    assert list((tmp_path / "uploads").iterdir()) == []


def test_task_that_the_store_does_not_take_ends_with_the_stores_reason(
    store: TaskStore, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorname = "SQLITE_FULL"
        raise DBAPIError.instance("", (), error, sqlite3.Error)

    work = unbegun()

    async def scenario(world: World) -> None:
        outcome = await world.run(work, Once())
        assert outcome is not None
        assert "the disk is full" in str(outcome.error)

    event.listen(store.engine, "commit", full)
    in_world(store, tmp_path, Body(), scenario)
    event.remove(store.engine, "commit", full)
    with pytest.raises(TaskNotFoundError):
        store.get(work.task.task_id)
