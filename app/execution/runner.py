"""The life of a claimed shard: its kind's body executes it, it is tried again or handed over, and
its end is stored in one place, for synchronous and background tasks alike.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

from hotloop.app.database.threads import in_store_thread
from hotloop.app.errors import (
    BodyTooSlowError,
    ClientStorageError,
    ClusterLostError,
    EstimateTooLongError,
    InvalidRequestError,
    MemoryBudgetError,
    NotReadyError,
    PayloadTooLargeError,
    RunCancelledError,
    RunError,
    RunHostDiedError,
    ServiceError,
    StoreError,
    StoreUnavailableError,
    TaskConflictError,
    TaskNotFoundError,
    TooBusyError,
    UnreadableTaskError,
    WorkerCrashedError,
    internal_text,
)
from hotloop.app.execution.context import (
    DURABLE,
    ActiveRun,
    Once,
    Outcome,
    Policy,
    RunContext,
    StoredRecord,
    TaskInput,
    Work,
    drop_files,
    to_the_end,
    withdraw,
)
from hotloop.app.execution.small_tasks import SmallTaskService
from hotloop.app.logs.formatting import FIELDS
from hotloop.app.logs.origin import bind, bind_task, origin_from_json
from hotloop.app.tasks.claims import Claim
from hotloop.app.tasks.model import Shard, ShardRef, Task
from hotloop.app.tasks.rows import FAILED_BEGINNING, MAX_BEGINNINGS
from hotloop.app.tasks.shards import Summarize
from hotloop.app.tasks.small import SmallClaims
from hotloop.app.tasks.spec import has_files
from hotloop.app.tasks.work_queue import HandOver
from hotloop.kernels import InvalidInputError

T = TypeVar("T")

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 15.0
"""Longest pause between two tries; the first is FIRST_PAUSE_SECONDS, and each doubles."""

STORE_PAUSE_SECONDS: Final = 0.5
"""Pause between two tries to reach the store; short, so that work goes on soon."""

CLUSTER_PAUSE_SECONDS: Final = 1.5
"""Time in which a process that has lost a cluster claims nothing in place of the shard; meanwhile
it finds out whether it still has the ability for such shards."""

HOLD_CHECK_SECONDS: Final = 0.5
"""Time after which an execution notices that another process cancelled or took over its task."""

_REFUSALS: Final = (
    InvalidRequestError,
    PayloadTooLargeError,
    BodyTooSlowError,
    TooBusyError,
    ClientStorageError,
)
"""Errors after which a synchronous task that has not begun is deleted without a trace."""

_SURROUNDINGS: Final = (StoreUnavailableError, NotReadyError, MemoryBudgetError)
"""Errors that the shard did not cause: it waits without a limit until they are over."""

_WORTH_RETRYING: Final = (RunHostDiedError, WorkerCrashedError, ClusterLostError, StoreError)
"""Errors that may be temporary; each counts as FAILED_BEGINNING beginnings."""


class TaskRunner:
    """Executes synchronous tasks and the shards that this node claims from the queue. Call
    `execute` in the queue's threads, everything else on the event loop.
    """

    def __init__(self, context: RunContext, small: SmallTaskService) -> None:
        self.active: dict[ShardRef, ActiveRun] = {}
        """All shards that this process executes now."""
        self.context = context
        self._small = small
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()

    def execute(self, claimed: Claim | SmallClaims) -> None:
        """Execute a shard of the queue, or some small tasks, until they end. Blocks; raises
        HandOver if the process stops first.
        """
        if isinstance(claimed, SmallClaims):
            executing = self._small.execute(claimed, self.patiently)
            asyncio.run_coroutine_threadsafe(executing, self._loop).result()
            return

        async def drive(active: ActiveRun) -> Outcome | None:
            return await self.run(claimed, active)

        async def supervised() -> Outcome | None:
            with suppress(asyncio.CancelledError):
                return await self.supervise(claimed.shard.ref, DURABLE, drive)
            return None

        ended = asyncio.run_coroutine_threadsafe(supervised(), self._loop).result()
        if ended is None and self._stopping.is_set():
            raise HandOver

    async def execute_now(
        self, task: Task, policy: Once, answer: Callable[[Outcome], Awaitable[T]]
    ) -> T:
        """Execute a task that is not stored yet while its client waits, and return `answer` of its
        outcome. Cancelling the call cancels the task.
        """
        shard = Shard(task_id=task.task_id, shard=0, start=0, count=task.total_items)

        async def drive(active: ActiveRun) -> T:
            outcome = await self.run(Claim(task, shard), active)
            assert outcome is not None
            return await answer(outcome)

        return await self.supervise(shard.ref, policy, drive)

    async def supervise(
        self, ref: ShardRef, policy: Policy, drive: Callable[[ActiveRun], Coroutine[Any, Any, T]]
    ) -> T:
        """Drive a shard in its own asyncio task. If the caller is cancelled, so is the shard; its
        outcome is still stored, and its run host given back.
        """
        active = self.active[ref] = ActiveRun(policy)
        driver = active.driver = asyncio.create_task(drive(active))
        driver.add_done_callback(partial(self._forget, ref, active))
        try:
            return await asyncio.shield(driver)
        except asyncio.CancelledError:
            await active.cancel()
            raise

    def _forget(self, ref: ShardRef, active: ActiveRun, driver: asyncio.Task[Any]) -> None:
        if self.active.get(ref) is active:  # not a later execution in this process
            del self.active[ref]
        error = None if driver.cancelled() else driver.exception()
        if error is not None and not isinstance(error, ServiceError):
            # The caller may be gone, so log the fault here.
            logger.error("task %s failed by a fault", ref.task_id, exc_info=error)

    async def cancel(self, refs: list[ShardRef]) -> None:
        """Cancel these shards' executions in this process, and wait until they have ended."""
        runs = [run for ref in refs if (run := self.active.get(ref)) is not None]
        for run in runs:
            await run.cancel()
        for run in runs:
            await run.wait_ended()

    async def close(self) -> None:
        """Cancel the synchronous tasks; let each shard of the queue store its finished batches and
        hand itself over. Return once all of that is stored.
        """
        self._stopping.set()
        await self.cancel(list(self.active))

    async def run(self, claim: Claim, active: ActiveRun) -> Outcome | None:
        """Execute a shard to its end by the policy of `active`, and return its outcome; None if the
        shard is left to other processes, or they have ended it or taken it over.

        With Once, a refused task is withdrawn before this returns, except a task that is estimated
        too long. Raises StoreError if the end cannot be stored.
        """
        work = Work(self.context, claim, active, self.patiently)
        if isinstance(active.policy, Once):
            bind_task(work.task.task_id)
            return await self._run_once(work, active.policy)
        try:
            bind(origin_from_json(work.task.spec.get("origin", {}), work.task.task_id))
            return await self._run_durably(work)
        except (TaskNotFoundError, TaskConflictError) as error:
            # It has ended, or another process has taken it over.
            logger.info("the execution of shard %d ends here: %s", work.shard.shard, error)
            return None
        except StoreUnavailableError:
            return None  # and this process stops
        except StoreError:
            raise
        except Exception as fault:
            logger.exception("the shard %s cannot be executed", work.shard.ref)
            failed = Outcome.of(RunError(internal_text(fault)), StoredRecord(work.shard))
            with suppress(TaskNotFoundError, TaskConflictError):
                await self.patiently(self._end, work, failed, lambda _: {})
            return failed
        finally:
            if has_files(work.task.spec):
                with suppress(StoreError):  # upkeep removes them later
                    await asyncio.shield(in_store_thread(self._release, work.task.task_id))

    async def _run_once(self, work: Work, policy: Once) -> Outcome:
        outcome = await self._attempt(work, policy.source)
        task_id = work.task.task_id
        if not work.has_begun:
            if isinstance(outcome.error, EstimateTooLongError):
                return outcome  # the background task that takes it over needs its items
            if isinstance(outcome.error, _REFUSALS):
                await in_store_thread(withdraw, self.context, task_id)
                return outcome
        await to_the_end(self._end_for_good, work, outcome)
        if isinstance(outcome.error, RunError):
            outcome.error.task_id = task_id
        return outcome

    async def _run_durably(self, work: Work) -> Outcome | None:
        """Execute a shard, with retries, until it ends or is left to other nodes."""
        shards, ref = self.context.store.shards, work.shard.ref
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            shard = work.shard
            async with self._held(work):
                outcome = await self._attempt(work)
            progressed = outcome.items_processed > shard.items_processed
            error, stopping = outcome.error, self._stopping.is_set()
            is_innocent = isinstance(error, _SURROUNDINGS) or await self._is_down(error)
            counts_as = 0 if stopping or is_innocent else FAILED_BEGINNING
            counted = counts_as - 1 + (0 if progressed else shard.beginnings)
            if not is_innocent and not self._goes_on(error, counted):
                await self.patiently(self._end, work, outcome, work.body.summarize)
                return outcome
            needed = error.needed_bytes if isinstance(error, MemoryBudgetError) else None
            is_left = needed is not None or isinstance(error, NotReadyError | ClusterLostError)
            keeper = None if stopping or is_left else self.context.node
            goes_on = "waits in the queue" if is_left else "is tried again"
            logger.warning("shard %d of %s %s: %s", ref.shard, ref.task_id, goes_on, error)
            back = partial(shards.give_back, counts_as=counts_as, needs_bytes=needed)
            known = outcome.measured, outcome.items_processed
            await self.patiently(back, ref, shard.attempt, *known, keeper)
            if isinstance(error, ClusterLostError):
                await self._wait(CLUSTER_PAUSE_SECONDS)
            if is_left:
                return None  # it waits for a node with memory, with a run host, or with a cluster
            if isinstance(error, StoreUnavailableError):
                await self._wait(STORE_PAUSE_SECONDS)
            else:
                pause = await self._wait(FIRST_PAUSE_SECONDS if progressed else pause)
            if not self._stopping.is_set():
                again = partial(shards.begin, after=shard.attempt)
                work.shard = await self.patiently(again, ref, self.context.node)
                work.record = StoredRecord(work.shard)
        return None

    async def _is_down(self, error: ServiceError | None) -> bool:
        """Return True if the error is that a cluster is gone, and it is still gone. The shard then
        waits until a node can reach it.
        """
        clusters = self.context.clusters
        return isinstance(error, ClusterLostError) and not await clusters.is_back(error)

    def _goes_on(self, error: ServiceError | None, counted: int) -> bool:
        """Return True if the shard is executed again after this error, here or on another node.
        `counted` is its number of beginnings without progress so far.
        """
        if isinstance(error, RunCancelledError):
            return self._stopping.is_set()
        return isinstance(error, _WORTH_RETRYING) and counted < MAX_BEGINNINGS

    async def _attempt(self, work: Work, source: TaskInput | None = None) -> Outcome:
        """Execute the shard once. The outcome contains every error, a fault of this program as a
        RunError.
        """
        error: ServiceError | None = None
        try:
            if isinstance(work.policy, Once):
                await to_the_end(self.context.store.create, work.task)
            if source is not None:
                await source.receive(self.context.folder, work.task.task_id)
                work.task = replace(work.task, input_sha256=source.sha256)
            await work.body.execute(work)
        except asyncio.CancelledError:
            error = RunCancelledError()
        except ServiceError as raised:
            error = raised
        except InvalidInputError as unreadable:
            error = UnreadableTaskError(str(unreadable))
        except Exception as fault:
            logger.exception("shard %d of %s met a fault", work.shard.shard, work.task.task_id)
            error = RunError(internal_text(fault))
        return Outcome.of(error, work.record)

    def _end_for_good(self, work: Work, outcome: Outcome) -> None:
        """End a synchronous task, which cannot be resumed. Blocks; raises the errors of `_end`."""
        drop_files(self.context, work.task.task_id)
        self._end(work, outcome, work.body.summarize)

    def _end(self, work: Work, outcome: Outcome, summarize: Summarize) -> None:
        """Store how an execution ended, count it, and log it. Blocks.

        Raises StoreError, and TaskConflictError when the execution is no longer the current one.
        """
        error, shard, store = outcome.error, work.shard, self.context.store
        code, text = (None, None) if error is None else (type(error).__name__, str(error))
        if work.has_begun:
            store.shards.end(
                shard.ref,
                shard.attempt,
                outcome.status,
                outcome.measured,
                outcome.items_processed,
                summarize,
                error_code=code,
                error_message=text,
            )
        else:
            with suppress(TaskNotFoundError):  # the store never took it; the error says why
                store.finish_unbegun(shard.task_id, outcome.status, str(code), str(text))
        work.body.count_end(self.context.metrics, work.task, shard, outcome)
        # Log last, so that a task reported as ended is already in the metrics. Leave out the
        # error's text: it is for the client, and may name items.
        fields: dict[str, object] = {
            "status": outcome.status,
            "duration_seconds": outcome.duration_seconds,
            "items_processed": outcome.items_processed,
            "failed_items": outcome.failed_items,
            "shard": shard.shard,
            "attempt": shard.attempt,
        }
        if code is not None:
            fields["error"] = code
        logger.info("%s ended", work.task.kind, extra={FIELDS: fields})

    def _release(self, task_id: str) -> None:
        """Remove the task's files from the data folder, unless this node still needs them."""
        self.context.folder.sweep(self.context.store.needing_files, task_id)

    @asynccontextmanager
    async def _held(self, work: Work) -> AsyncIterator[None]:
        """Cancel the run when the store shows that the shard was cancelled or taken over."""
        watching = asyncio.create_task(self._watch(work.shard, work.active))
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self, shard: Shard, active: ActiveRun) -> None:
        while True:
            await asyncio.sleep(HOLD_CHECK_SECONDS)
            with suppress(StoreError):
                is_current = self.context.store.shards.is_current
                if not await in_store_thread(is_current, shard.ref, shard.attempt):
                    await active.cancel()
                    return

    async def patiently(self, call: Callable[..., T], *args: object) -> T:
        """Make a call in a thread, and repeat it while the store cannot be reached, until this
        process stops.
        """
        while True:
            try:
                return await in_store_thread(call, *args)
            except StoreUnavailableError:
                if self._stopping.is_set():
                    raise
            await self._wait(STORE_PAUSE_SECONDS)

    async def _wait(self, pause_seconds: float) -> float:
        """Wait, unless this process stops; return the next pause, which is longer."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), pause_seconds)
        return min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)
