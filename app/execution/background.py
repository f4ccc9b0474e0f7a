"""Background tasks: a request returns at once, and a node executes the task later."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace

from hotloop.app.database.threads import in_store_thread
from hotloop.app.errors import TaskConflictError
from hotloop.app.execution.acceptance import Acceptance
from hotloop.app.execution.client_limits import check_client
from hotloop.app.execution.context import RunContext, TaskInput
from hotloop.app.execution.events import EventHub, Moment
from hotloop.app.execution.items import InlineInput
from hotloop.app.execution.presenters import new_task_view, task_view
from hotloop.app.execution.small_tasks import SmallTaskService
from hotloop.app.execution.specs import plan_for, request_hash, shard_counts, spec_of
from hotloop.app.execution.webhooks import check_webhook
from hotloop.app.logs.origin import current, origin_to_json
from hotloop.app.names import TaskType
from hotloop.app.schemas.options import StrategyChoice
from hotloop.app.schemas.runs import BackgroundRequest, UploadQuery
from hotloop.app.schemas.tasks import TaskEvent, TaskView
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import Plan
from hotloop.app.tasks.chunks import result_bytes
from hotloop.app.tasks.model import Task, new_task_id, utc_now
from hotloop.app.tasks.needs import version_needs
from hotloop.app.tasks.retry import retry_failed
from hotloop.app.tasks.spec import InputKind, TaskSpec
from hotloop.app.tasks.work_queue import WorkQueue


class BackgroundService:
    """Accepts, resumes and watches background tasks. A stored task is thereby in the queue."""

    def __init__(
        self, context: RunContext, queue: WorkQueue, hub: EventHub, small: SmallTaskService
    ) -> None:
        self._context = context
        self._queue = queue
        self._hub = hub
        self._small = small
        self._acceptance = Acceptance(context, queue, small)

    async def submit(
        self,
        request: BackgroundRequest,
        idempotency_key: str | None,
        client: str | None = None,
    ) -> TaskView:
        """Accept a task; `client` is the name in the store. Raises InvalidRequestError,
        MemoryBudgetError, IdempotencyConflictError, KeyInUseError, ClientLimitError,
        ClientStorageError, NotReadyError, StoreError.
        """
        accepted = await self.accept(request, idempotency_key, client)
        if isinstance(accepted, TaskView):
            return accepted
        return new_task_view(accepted, [accepted.total_items])

    async def accept(
        self, request: BackgroundRequest, idempotency_key: str | None, client: str | None = None
    ) -> TaskView | Task:
        """Do the same as `submit`, and return a new small task as it is: its view takes as long to
        make as its acceptance.
        """
        check_webhook(self._context.settings, request.webhook)
        if (new := await self._small.new(request, idempotency_key, client)) is not None:
            return await self._acceptance.submit_small(new) or new.task
        total, digest = request.total_items, None
        plan, seconds = await self._plan(request.strategy, request, total)
        source, kind = None, InputKind.GENERATED
        if request.items is not None:
            source, kind = InlineInput(request.workload, request.items), InputKind.ITEMS
        if idempotency_key is not None:
            digest = await asyncio.to_thread(request_hash, request)
        spec = spec_of(request, kind)
        task = self._task(plan, spec, total, seconds, idempotency_key, client)
        counts = shard_counts(total, plan.batch_size, self._shard_items)
        return await self._acceptance.submit(task, counts, source, digest)

    async def submit_upload(
        self,
        query: UploadQuery,
        strategy: StrategyChoice,
        media_type: str,
        chunks: AsyncIterator[bytes],
        idempotency_key: str | None,
        client: str | None = None,
    ) -> TaskView:
        """Do the same as `submit` for a stream of rows, which the first execution reads."""
        plan, _ = await self._plan(strategy, query, 0)
        spec = spec_of(query, InputKind.UPLOAD, media_type)
        task = self._task(plan, spec, 0, None, idempotency_key, client)
        digest = upload_digest(query, strategy, media_type)
        return await self._acceptance.submit_upload(task, chunks, digest)

    async def submit_task(
        self, task: Task, source: TaskInput | None, digest: str | None
    ) -> TaskView:
        """Do the same as `submit` for a finished Task object of one shard; `digest` identifies
        the request under its key.
        """
        return await self._acceptance.submit(task, [task.total_items], source, digest)

    async def take_over(self, task: Task, batch_size: int) -> TaskView:
        """Turn a synchronous task into a background task, see `Acceptance.take_over`."""
        counts = shard_counts(task.total_items, batch_size, self._shard_items)
        return await self._acceptance.take_over(task, counts)

    async def resume(self, task_id: str) -> TaskView:
        """Queue the task's missing items again. Raises TaskNotFoundError, TaskConflictError,
        ClientLimitError, ClientStorageError, StoreError.
        """
        return await in_store_thread(self._resume, task_id)

    async def retry_failed(self, task_id: str) -> TaskView:
        """Queue the failed items of a completed task again. Raises TaskNotFoundError,
        TaskConflictError, ClientLimitError, StoreError.
        """
        return await in_store_thread(self._retry_failed, task_id)

    async def now(self, task_id: str) -> Moment:
        """Return the task as event streams show it. Raises TaskNotFoundError, StoreError."""
        return await self._hub.now(task_id)

    def events(self, task_id: str, last_event_id: str | None) -> AsyncGenerator[TaskEvent, None]:
        """Yield the task's events. The first step raises TaskNotFoundError."""
        return self._hub.events(task_id, last_event_id)

    async def _plan(
        self, choice: StrategyChoice, request: BackgroundRequest | UploadQuery, total: int
    ) -> tuple[Plan, float]:
        context = self._context
        asked = request.workload, request.parameters
        reports = await context.catalogue.reports(*asked)
        items = GeneratedItems(total)
        calibration = await context.calibrations.known(*asked)
        return plan_for(
            choice, request, items, reports, calibration, context.settings, context.memory
        )

    async def knows(self, idempotency_key: str | None, client: str | None) -> bool:
        """Return True if the client has a background task with this key. Raises StoreError."""
        if idempotency_key is None:
            return False
        return (
            await in_store_thread(self._context.store.by_key, idempotency_key, client) is not None
        )

    async def close(self) -> None:
        """Close the acceptance. Call this only after the last task was accepted."""
        await self._acceptance.close()

    @property
    def _shard_items(self) -> int | None:
        """Items in a shard; None, if no other node can help, leaves each task in one shard."""
        shared = self._context.store.inputs.is_needed
        return self._context.settings.shard_items if shared else None

    def _task(
        self,
        plan: Plan,
        spec: TaskSpec,
        total: int,
        seconds: float | None,
        key: str | None,
        client: str | None,
    ) -> Task:
        item_bytes = result_bytes(plan.workload)
        spec = replace(
            spec,
            kernel=plan.kernel,
            workers=plan.workers,
            origin=origin_to_json(current()),
            needs={"bytes": self._context.memory.needed(plan)} | version_needs(plan.source),
        )
        return Task(
            task_id=new_task_id(),
            task_type=TaskType.BACKGROUND,
            spec=spec.to_json(),
            workload=plan.workload,
            kernel=plan.kernel,
            strategy=plan.strategy,
            total_items=total,
            created_at=utc_now(),
            owner=self._context.node,
            estimated_seconds=seconds,
            client=client,
            idempotency_key=key,
            stored_bytes=total * item_bytes,
            item_bytes=item_bytes,
        )

    def _resume(self, task_id: str) -> TaskView:
        store = self._context.store
        task = store.get(task_id)
        if task.task_type != TaskType.BACKGROUND:
            text = "it was synchronous; ask for it again, in the background if it is long"
            raise TaskConflictError(task_id, text)
        if task.end_time is not None:
            check_client(self._context.settings, task, *store.unfinished(task.client))
            missing = task.total_items - task.items_processed
            self._context.storage.check(task.client, missing * task.item_bytes)
        store.shards.resume(task_id)
        view = task_view(store, self._context.bodies, task_id)
        self._queue.wake()
        return view

    def _retry_failed(self, task_id: str) -> TaskView:
        store = self._context.store
        task = store.get(task_id)
        if task.end_time is not None:
            check_client(self._context.settings, task, *store.unfinished(task.client))
        retry_failed(store.engine, task_id)
        view = task_view(store, self._context.bodies, task_id)
        self._queue.wake()
        return view


def upload_digest(query: UploadQuery, strategy: StrategyChoice, media_type: str) -> hashlib._Hash:
    """Return the digest of an upload's request, to which the caller adds the upload's bytes."""
    return hashlib.sha256(f"{query.model_dump_json()} {strategy} {media_type}".encode())
