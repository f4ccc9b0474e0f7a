"""Executes the shards of background tasks that the queue hands to this node."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from app.errors import (
    NotReadyError,
    RunCancelledError,
    RunError,
    RunHostDiedError,
    ServiceError,
    StoreError,
    StoreUnavailableError,
    TaskConflictError,
    TaskNotFoundError,
    WorkerCrashedError,
    internal_text,
)
from app.logs.origin import bind, origin_from_json
from app.names import StrategyName, TaskKind
from app.runhost.messages import Batches
from app.services.active_run import ActiveRun
from app.services.collecting import RunCollector
from app.services.comparison.execution import end_comparison
from app.services.comparison.service import BackgroundComparisons
from app.services.details import Details
from app.services.executions import Outcome, RunContext, end, execute
from app.services.plans import make_plan
from app.services.specs import request_of
from app.services.task_items import items_of
from app.tasks.claims import Claim
from app.tasks.model import Shard, ShardRef, Task
from app.tasks.threads import in_store_thread
from app.tasks.work_queue import HandOver

T = TypeVar("T")

logger = logging.getLogger(__name__)

MAX_RETRIES: Final = 3
"""Of an execution whose run host or workers died, or that met a fault, without any progress."""

MAX_ATTEMPTS: Final = 1_000
"""Executions of one shard, in whatever process: a task that kills its node must end some time."""

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 15.0
"""Between two tries; doubled from the first to the second."""

STORE_PAUSE_SECONDS: Final = 0.5
"""Between two questions whether the store can be reached again: work is to go on at once."""

HOLD_CHECK_SECONDS: Final = 0.5
"""How late an execution hears that its task was cancelled, or taken over, elsewhere."""

_WORTH_RETRYING = (RunHostDiedError, WorkerCrashedError, StoreError, NotReadyError)
"""What may be otherwise the next time."""


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

    async def _drive(self, claimed: Claim, run: ActiveRun) -> bool:
        task, shard, ref = claimed.task, claimed.shard, claimed.shard.ref
        shards, node = self._context.store.shards, self._context.node
        retries, pause = 0, FIRST_PAUSE_SECONDS
        bind(origin_from_json(task.spec.get("origin", {}), task.task_id))
        try:
            while not self._stopping.is_set():
                outcome = await self._attempt(task, shard, run)
                progressed = outcome.items_processed > shard.items_processed
                is_outage = isinstance(outcome.error, StoreUnavailableError)
                if progressed:
                    retries = 0
                elif not is_outage:  # which is not the task's fault
                    retries += 1
                if self._is_last(shard, outcome, retries):
                    await self._patient(self._end, task, shard, outcome)
                    return True
                known = outcome.details.to_json(), outcome.items_processed
                keeper = None if self._stopping.is_set() else node
                await self._patient(shards.give_back, ref, shard.attempt, *known, keeper)
                logger.warning("shard %d of %s: %s", ref.shard, ref.task_id, outcome.error)
                if is_outage:
                    await self._wait(STORE_PAUSE_SECONDS)
                else:
                    pause = await self._wait(FIRST_PAUSE_SECONDS if progressed else pause)
                if not self._stopping.is_set():
                    again = partial(shards.begin, after=shard.attempt)
                    shard = await self._patient(again, ref, node)
        except (TaskNotFoundError, TaskConflictError):
            return True  # it has ended, or is another's by now
        except StoreUnavailableError:
            pass  # and this process stops
        return False

    def _is_last(self, shard: Shard, outcome: Outcome, retries: int) -> bool:
        if isinstance(outcome.error, RunCancelledError) and self._stopping.is_set():
            return False
        worth_retrying = isinstance(outcome.error, _WORTH_RETRYING) and retries <= MAX_RETRIES
        return not worth_retrying or shard.attempt >= MAX_ATTEMPTS

    def _end(self, task: Task, shard: Shard, outcome: Outcome) -> None:
        if task.kind == TaskKind.COMPARISON:
            end_comparison(self._context, shard, outcome)
        else:
            end(self._context, StrategyName(task.strategy), task.kernel, shard, outcome)

    async def _attempt(self, task: Task, shard: Shard, run: ActiveRun) -> Outcome:
        """One execution of a shard that has begun."""
        if task.kind == TaskKind.COMPARISON:
            async with self._held(shard, run):
                return await self._comparisons.attempt(task, shard, run, self._patient)
        context, details = self._context, Details.from_json(shard.details)
        outcome = Outcome(None, details, shard.items_processed, shard.failed_items)
        try:
            reports = await context.hosts.kernels()
            lease = context.hosts.lease(patient=True, owner=task.client)
            async with self._held(shard, run), lease as client:
                items = await items_of(context, client, task)
                if items.count != task.total_items:
                    count = context.store.shards.count_items
                    await in_store_thread(count, shard.ref, shard.attempt, items.count)
                    shard = replace(shard, count=items.count)
                missing = [(shard.start, shard.count)]
                if shard.items_processed:
                    missing = await in_store_thread(context.store.shards.missing, shard.ref)
                request, strategy = request_of(dict(task.spec)), StrategyName(task.strategy)
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
