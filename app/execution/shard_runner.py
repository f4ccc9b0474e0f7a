"""Executes the shards of background tasks that the queue hands to this node."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from hotloop.app.comparison.execution import end_comparison
from hotloop.app.comparison.service import BackgroundComparisons
from hotloop.app.errors import (
    MemoryBudgetError,
    NotReadyError,
    RunCancelledError,
    RunError,
    RunHostDiedError,
    ServiceError,
    StoreError,
    StoreUnavailableError,
    TaskConflictError,
    TaskNotFoundError,
    UnreadableTaskError,
    WorkerCrashedError,
    internal_text,
)
from hotloop.app.execution.active_run import ActiveRun
from hotloop.app.execution.collecting import RunCollector
from hotloop.app.execution.executions import AsStored, Outcome, RunContext, end, execute
from hotloop.app.execution.items import items_of
from hotloop.app.execution.specs import request_of
from hotloop.app.logs.origin import bind, origin_from_json
from hotloop.app.names import StrategyName, TaskKind, TaskStatus
from hotloop.app.prediction.plans import make_plan
from hotloop.app.runhost.measurements import Measurements
from hotloop.app.runhost.messages import Batches
from hotloop.app.schemas.runs import RunRequest
from hotloop.app.tasks.claims import Claim
from hotloop.app.tasks.model import Shard, ShardRef, Task
from hotloop.app.tasks.rows import FAILED_BEGINNING, MAX_BEGINNINGS
from hotloop.app.tasks.spec import has_files
from hotloop.app.tasks.threads import in_store_thread
from hotloop.app.tasks.work_queue import HandOver
from hotloop.kernels import InvalidInputError

T = TypeVar("T")

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 15.0
"""Between two tries; doubled from the first to the second."""

STORE_PAUSE_SECONDS: Final = 0.5
"""Between two questions whether the store can be reached again: work is to go on at once."""

HOLD_CHECK_SECONDS: Final = 0.5
"""How late an execution hears that its task was cancelled, or taken over, elsewhere."""

_SURROUNDINGS = (StoreUnavailableError, NotReadyError, MemoryBudgetError)
"""What a shard has no part in: it waits until they change, however long that takes."""

_WORTH_RETRYING = (RunHostDiedError, WorkerCrashedError, StoreError)
"""What may be otherwise the next time, and counts as FAILED_BEGINNING beginnings."""


class ShardRunner:
    """`execute` is for the queue's threads, everything else for the event loop."""

    def __init__(self, context: RunContext) -> None:
        self.active: dict[ShardRef, ActiveRun] = {}
        self._context = context
        self._comparisons = BackgroundComparisons(context)
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()

    def execute(self, claimed: Claim) -> None:
        """Execute a shard to its end, whatever that is. Blocks; raises HandOver when the process
        stops before.
        """
        if not asyncio.run_coroutine_threadsafe(self._run(claimed), self._loop).result():
            raise HandOver

    async def cancel(self, refs: list[ShardRef]) -> None:
        """Stop executing these, and wait until nothing of them runs here."""
        runs = [run for ref in refs if (run := self.active.get(ref)) is not None]
        for run in runs:
            await run.cancel()
        for run in runs:
            await run.wait_ended()

    async def stop(self) -> None:
        """Have every execution store what it has finished, and hand its shard over."""
        self._stopping.set()
        await self.cancel(list(self.active))

    async def _run(self, claimed: Claim) -> bool:
        """False when the shard is not ended, and another process goes on with it."""
        if self._stopping.is_set():
            return False
        ref = claimed.shard.ref
        run = ActiveRun(ref.task_id)
        self.active[ref] = run
        run.driver = asyncio.create_task(self._drive(claimed, run))
        try:
            return await asyncio.shield(run.driver)
        except asyncio.CancelledError:
            return not self._stopping.is_set()
        finally:
            if self.active.get(ref) is run:  # and not one that has taken over in this process
                del self.active[ref]
            if has_files(claimed.task.spec):
                with suppress(StoreError):  # upkeep removes them later
                    await asyncio.shield(in_store_thread(self._release, ref.task_id))

    async def _drive(self, claimed: Claim, run: ActiveRun) -> bool:
        task, ref = claimed.task, claimed.shard.ref
        try:
            return await self._execute(claimed, run)
        except (TaskNotFoundError, TaskConflictError):
            return True  # it has ended, or is another's by now
        except StoreUnavailableError:
            return False  # and this process stops
        except StoreError:
            raise
        except Exception as fault:
            logger.exception("shard %d of %s cannot be executed", ref.shard, ref.task_id)
            with suppress(TaskNotFoundError, TaskConflictError):
                await self._patient(self._fail, task, ref, RunError(internal_text(fault)))
            return True

    async def _execute(self, claimed: Claim, run: ActiveRun) -> bool:
        """Execute a shard again and again until it ends, or is left to other nodes. False when
        this process stops before.
        """
        task, shard, ref = claimed.task, claimed.shard, claimed.shard.ref
        shards, node = self._context.store.shards, self._context.node
        pause = FIRST_PAUSE_SECONDS
        bind(origin_from_json(task.spec.get("origin", {}), task.task_id))
        while not self._stopping.is_set():
            outcome = await self._attempt(task, shard, run)
            progressed = outcome.items_processed > shard.items_processed
            error, stopping = outcome.error, self._stopping.is_set()
            counts_as = 0 if stopping or isinstance(error, _SURROUNDINGS) else FAILED_BEGINNING
            counted = counts_as - 1 + (0 if progressed else shard.beginnings)
            if not self._goes_on(error, counted):
                await self._patient(self._end, task, shard, outcome)
                return True
            needed = error.needed_bytes if isinstance(error, MemoryBudgetError) else None
            is_left = needed is not None or isinstance(error, NotReadyError)
            keeper = None if stopping or is_left else node
            goes_on = "waits in the queue" if is_left else "is tried again"
            logger.warning("shard %d of %s %s: %s", ref.shard, ref.task_id, goes_on, error)
            back = partial(shards.give_back, counts_as=counts_as, needs_bytes=needed)
            known = outcome.details.to_json(), outcome.items_processed
            await self._patient(back, ref, shard.attempt, *known, keeper)
            if is_left:
                return True  # it waits for a node with so much memory, or with a run host
            if isinstance(error, StoreUnavailableError):
                await self._wait(STORE_PAUSE_SECONDS)
            else:
                pause = await self._wait(FIRST_PAUSE_SECONDS if progressed else pause)
            if not self._stopping.is_set():
                again = partial(shards.begin, after=shard.attempt)
                shard = await self._patient(again, ref, node)
        return False

    def _release(self, task_id: str) -> None:
        """Remove the task's files from the data folder, unless they are still needed here."""
        self._context.folder.sweep(self._context.store.needing_files, task_id)

    def _goes_on(self, error: ServiceError | None, counted: int) -> bool:
        """Whether a shard is executed again after this end, here or elsewhere; it would then have
        so many beginnings without progress.
        """
        if isinstance(error, _SURROUNDINGS):
            return True
        if isinstance(error, RunCancelledError):
            return self._stopping.is_set()
        return isinstance(error, _WORTH_RETRYING) and counted < MAX_BEGINNINGS

    def _fail(self, task: Task, ref: ShardRef, error: ServiceError) -> None:
        """End a task as failed, whatever is stored of its execution."""
        shards = self._context.store.shards
        shard = shards.of_task(task.task_id)[ref.shard]
        if shard.ref == ref and shard.node == self._context.node:
            shards.end(
                ref,
                shard.attempt,
                TaskStatus.FAILED,
                shard.details or {},
                shard.items_processed,
                lambda _: {},
                error_code=type(error).__name__,
                error_message=str(error),
            )

    def _end(self, task: Task, shard: Shard, outcome: Outcome) -> None:
        if task.kind == TaskKind.COMPARISON:
            end_comparison(self._context, shard, outcome)
        else:
            end(self._context, StrategyName(task.strategy), task.kernel, shard, outcome)

    async def _attempt(self, task: Task, shard: Shard, run: ActiveRun) -> Outcome:
        """One execution of a shard that has begun."""
        context, stored = self._context, AsStored(shard.details)
        outcome = Outcome(None, stored, shard.items_processed, shard.failed_items)
        try:
            if task.kind == TaskKind.COMPARISON:
                async with self._held(shard, run):
                    return await self._comparisons.attempt(task, shard, run, self._patient)
            details, request = (
                Measurements.from_json(shard.details),
                request_of(task.spec, RunRequest),
            )
            strategy = StrategyName(task.strategy)
            lease = context.hosts.lease(patient=True, owner=task.client)
            rows = shard.start, shard.count
            async with (
                self._held(shard, run),
                lease as client,
                items_of(context, client, task, rows) as items,
            ):
                reports = await context.hosts.kernels()
                if items.count != task.total_items:
                    count = context.store.shards.count_items
                    await in_store_thread(count, shard.ref, shard.attempt, items.count)
                    shard = replace(shard, count=items.count)
                missing = [(shard.start, shard.count)]
                if shard.items_processed:
                    missing = await in_store_thread(context.store.shards.missing, shard.ref)
                known = await context.calibrations.known()
                if details.batch_size is not None:  # as before: its batches are numbered by it
                    request = request.model_copy(update={"batch_size": details.batch_size})
                settings = context.settings
                plan = make_plan(strategy, request, items, reports, known, settings, tuple(missing))
                context.memory.check(plan)  # accepted elsewhere, perhaps, or before its items came
                run.begins_on(client)
                try:
                    return await execute(context, client, plan, shard, self._add)
                finally:
                    run.ends()
        except asyncio.CancelledError:
            return replace(outcome, error=RunCancelledError())
        except ServiceError as error:
            return replace(outcome, error=error)
        except InvalidInputError as error:
            return replace(outcome, error=UnreadableTaskError(str(error)))
        except Exception as error:
            logger.exception("shard %d of %s met a fault", shard.shard, shard.task_id)
            return replace(outcome, error=RunError(internal_text(error)))

    @asynccontextmanager
    async def _held(self, shard: Shard, run: ActiveRun) -> AsyncIterator[None]:
        """Cancels the run as soon as the store says that it is another's, or was cancelled."""
        watching = asyncio.create_task(self._watch(shard, run))
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self, shard: Shard, run: ActiveRun) -> None:
        while True:
            await asyncio.sleep(HOLD_CHECK_SECONDS)
            with suppress(StoreError):
                is_current = self._context.store.shards.is_current
                if not await in_store_thread(is_current, shard.ref, shard.attempt):
                    await run.cancel()
                    return

    async def _add(self, collector: RunCollector, event: Batches) -> None:
        await self._patient(collector.add, event)

    async def _patient(self, call: Callable[..., T], *args: object) -> T:
        """Call in a thread, and again as long as the store cannot be reached and this process
        goes on.
        """
        while True:
            try:
                return await in_store_thread(call, *args)
            except StoreUnavailableError:
                if self._stopping.is_set():
                    raise
            await self._wait(STORE_PAUSE_SECONDS)

    async def _wait(self, pause_seconds: float) -> float:
        """Wait, unless this process stops; returns the next pause, which is longer."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), pause_seconds)
        return min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)
