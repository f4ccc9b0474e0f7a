"""Background tasks: accepted now, executed later by whichever node the queue gives them to."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

from hotloop.app.disk import file_sha256
from hotloop.app.errors import (
    ClientLimitError,
    DamagedFileError,
    StoreError,
    StoreUnavailableError,
    TaskConflictError,
    TaskNotFoundError,
)
from hotloop.app.execution.client_limits import check_client
from hotloop.app.execution.context import RunContext, to_the_end
from hotloop.app.execution.events import EventHub, Moment
from hotloop.app.execution.idempotency import answer, answer_once_complete, complete
from hotloop.app.execution.items import InlineInput, TaskInput, UploadInput
from hotloop.app.execution.presenters import new_task_view, task_view
from hotloop.app.execution.specs import plan_for, request_hash, shard_counts, spec_of
from hotloop.app.execution.withdrawals import Withdrawals
from hotloop.app.logs.origin import current, origin_to_json
from hotloop.app.names import TaskType
from hotloop.app.schemas.events import TaskEvent
from hotloop.app.schemas.options import StrategyChoice
from hotloop.app.schemas.runs import BackgroundRequest, UploadQuery
from hotloop.app.schemas.tasks import TaskView
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import Plan
from hotloop.app.tasks.acceptance import accept, move_to_background
from hotloop.app.tasks.chunks import result_bytes
from hotloop.app.tasks.model import Task, new_task_id, utc_now
from hotloop.app.tasks.spec import InputKind, TaskSpec
from hotloop.app.tasks.threads import in_store_thread
from hotloop.app.tasks.work_queue import WorkQueue


class BackgroundService:
    """Accepts, resumes, watches. What is accepted is in the store, and queued by that."""

    def __init__(self, context: RunContext, queue: WorkQueue, hub: EventHub) -> None:
        self._context = context
        self._queue = queue
        self._hub = hub
        self._withdrawals = Withdrawals(context)

    async def submit(
        self,
        request: BackgroundRequest,
        idempotency_key: str | None,
        client: str | None = None,
    ) -> TaskView:
        """Accept a task for a client, as the store names it. Raises InvalidRequestError,
        MemoryBudgetError,
        IdempotencyConflictError, ClientLimitError, ClientStorageError, NotReadyError, StoreError.
        """
        total = request.total_items
        plan, seconds = await self._plan(request.strategy, request, total)
        kind = InputKind.GENERATED if request.items is None else InputKind.ITEMS
        spec = spec_of(request, kind)
        task = self._task(plan, spec, total, seconds, idempotency_key, client)
        counts = shard_counts(total, plan.batch_size, self._shard_items)
        if request.items is None:
            if idempotency_key is not None:
                task = replace(task, request_hash=request_hash(request))
            return await self._submit(task, counts)
        digest = None
        if idempotency_key is not None:
            digest = await asyncio.to_thread(request_hash, request)
        source = InlineInput(request.workload, request.items)
        return await self._submit_items(task, counts, source, digest)

    async def submit_upload(
        self,
        query: UploadQuery,
        strategy: StrategyChoice,
        media_type: str,
        chunks: AsyncIterator[bytes],
        idempotency_key: str | None,
        client: str | None = None,
    ) -> TaskView:
        """As `submit`, for a stream of rows, which the first execution reads."""
        plan, _ = await self._plan(strategy, query, 0)
        spec = spec_of(query, InputKind.UPLOAD, media_type)
        task = self._task(plan, spec, 0, None, idempotency_key, client)
        digest = upload_digest(query, strategy, media_type)
        known = await self._create(task, [])
        if known is not None:
            async for _ in hashed(chunks, digest):
                pass
            return await answer_once_complete(self._context, known, digest.hexdigest())
        with self._context.storage.receiving(client, hashed(chunks, digest)) as bounded:
            source = UploadInput(bounded)
            async with self._receiving(task.task_id):
                await source.receive(self._context.folder, task.task_id)
                received = None if idempotency_key is None else digest.hexdigest()
                return await to_the_end(self._accept, task, [0], received, source)

    async def submit_task(
        self, task: Task, source: InlineInput | None, digest: str | None
    ) -> TaskView:
        """As `submit`, for a task of one shard that was made elsewhere; `digest` is of what was
        asked under its key.
        """
        counts = [task.total_items]
        if source is None:
            return await self._submit(replace(task, request_hash=digest), counts)
        return await self._submit_items(task, counts, source, digest)

    async def take_over(self, task: Task, batch_size: int) -> TaskView:
        """Accept a synchronous task whose execution has not begun, and whose items are in its item
        file; `task` is what it shall be. If that fails, the task is withdrawn. Raises
        IdempotencyConflictError, ClientLimitError, StoreError.
        """
        counts = shard_counts(task.total_items, batch_size, self._shard_items)
        async with self._receiving(task.task_id):
            known = await to_the_end(self._take_over, task, counts)
            if known is None:
                return new_task_view(task, counts)
            view = await answer_once_complete(self._context, known, task.request_hash)
        await self._withdrawals.withdraw(task.task_id)
        return view

    async def _submit_items(
        self, task: Task, counts: list[int], source: InlineInput, digest: str | None
    ) -> TaskView:
        if (view := await self._create_or_answer(task, [], digest, source.size)) is not None:
            return view
        async with self._receiving(task.task_id):
            await source.receive(self._context.folder, task.task_id)
            return await to_the_end(self._accept, task, counts, digest, source)

    async def resume(self, task_id: str) -> TaskView:
        """Raises TaskNotFoundError, TaskConflictError, ClientLimitError, ClientStorageError,
        StoreError.
        """
        return await in_store_thread(self._resume, task_id)

    async def now(self, task_id: str) -> Moment:
        """The task as streams of events show it. Raises TaskNotFoundError, StoreError."""
        return await self._hub.now(task_id)

    def events(self, task_id: str, last_event_id: str | None) -> AsyncGenerator[TaskEvent, None]:
        """The first step raises TaskNotFoundError."""
        return self._hub.events(task_id, last_event_id)

    async def _plan(
        self, choice: StrategyChoice, request: BackgroundRequest | UploadQuery, total: int
    ) -> tuple[Plan, float]:
        context = self._context
        reports = await context.hosts.kernels()
        items = GeneratedItems(total)
        calibration = await context.calibrations.known()
        return plan_for(
            choice, request, items, reports, calibration, context.settings, context.memory
        )

    async def knows(self, idempotency_key: str | None, client: str | None) -> bool:
        """Whether the client has a background task under this key already. Raises StoreError."""
        if idempotency_key is None:
            return False
        return (
            await in_store_thread(self._context.store.by_key, idempotency_key, client) is not None
        )

    @asynccontextmanager
    async def _receiving(self, task_id: str) -> AsyncIterator[None]:
        """What happens in the block is all of it, or the task is as if never asked for."""
        try:
            yield
        except BaseException:
            await asyncio.shield(self._withdrawals.withdraw(task_id))
            raise

    async def close(self) -> None:
        """To be called when nothing is accepted any more."""
        await self._withdrawals.close()

    async def _submit(self, task: Task, counts: list[int]) -> TaskView:
        """Accept a task whose items need not come in: it is kept and queued at once."""
        view = await self._create_or_answer(task, counts, task.request_hash)
        if view is not None:
            return view
        self._queue.wake()
        return new_task_view(task, counts)

    async def _create_or_answer(
        self, task: Task, counts: list[int], request_hash: str | None, input_bytes: int = 0
    ) -> TaskView | None:
        """Keep the task, whose input has so many bytes; or answer with the one that its key belongs
        to already, once the request for that one is complete. If that one is withdrawn, this one
        takes its place.
        """
        while (known := await self._create(task, counts, input_bytes)) is not None:
            if (first := await complete(self._context.store, known)) is not None:
                return await answer(self._context, first, request_hash)
        return None

    async def _create(self, task: Task, counts: list[int], input_bytes: int = 0) -> Task | None:
        """Keep the task, whose input has so many bytes; or return the one that its key belongs to
        already.
        """
        try:
            return await to_the_end(self._create_or_find, task, counts, input_bytes)
        except StoreError:
            if not counts:  # it may be kept nevertheless, and its items will not come
                await asyncio.shield(self._withdrawals.withdraw(task.task_id))
            raise

    @property
    def _shard_items(self) -> int | None:
        """Tasks are cut where other nodes may help."""
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
            origin=origin_to_json(current()),
            needs={"bytes": self._context.memory.needed(plan)},
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

    # What follows blocks, and is called in threads.

    def _create_or_find(self, task: Task, counts: list[int], input_bytes: int) -> Task | None:
        store = self._context.store

        def check(count: int, seconds: float) -> None:
            check_client(self._context.settings, task, count, seconds)

        key = task.idempotency_key
        if key is not None and (known := store.by_key(key, task.client)) is not None:
            return known
        self._context.storage.check(task.client, task.stored_bytes + input_bytes)
        try:
            store.create(task, counts, check)
        except (TaskConflictError, ClientLimitError):
            # Another request with this key came first.
            known = None if key is None else store.by_key(key, task.client)
            if known is None:
                raise
            return known
        except StoreUnavailableError:
            if self._kept(task.task_id) is None:
                raise
        return None

    def _kept(self, task_id: str) -> Task | None:
        """The task, if the store has it: only the answer to a commit may have been lost."""
        with suppress(StoreError, TaskNotFoundError):
            return self._context.store.get(task_id)
        return None

    def _take_over(self, task: Task, counts: list[int]) -> Task | None:
        """Make the task one for the background; or return the one that its key belongs to."""
        store, folder = self._context.store, self._context.folder
        path = folder.items_path(task.task_id)
        digest = file_sha256(path)
        if store.inputs.is_needed:
            self._save(task.task_id, path, digest)
        stored = task.total_items * task.item_bytes + path.stat().st_size
        task = replace(task, input_sha256=digest, stored_bytes=stored)

        def check(count: int, seconds: float) -> None:
            check_client(self._context.settings, task, count, seconds)

        try:
            move_to_background(store.engine, task, counts, check)
        except TaskConflictError:
            # Another request with this key came first.
            key = task.idempotency_key
            known = None if key is None else store.by_key(key, task.client)
            if known is None:
                raise
            return known
        except StoreUnavailableError:
            moved = self._kept(task.task_id)
            if moved is None or moved.task_type != TaskType.BACKGROUND:
                raise
        self._queue.wake()
        return None

    def _save(self, task_id: str, path: Path, sha256: str | None) -> None:
        """Copy the file of items into the database, for nodes that share no disk."""
        if self._context.store.inputs.save(task_id, path) != sha256:
            raise DamagedFileError("the items on disk are not as they came; send them again")

    def _accept(
        self,
        task: Task,
        counts: list[int],
        request_hash: str | None,
        source: TaskInput,
    ) -> TaskView:
        """All items of the task are in the data folder."""
        store, folder, task_id = self._context.store, self._context.folder, task.task_id
        if store.inputs.is_needed:
            paths = folder.items_path(task_id), folder.upload_path(task_id)
            path = next((path for path in paths if path.exists()), paths[0])
            self._save(task_id, path, source.sha256)
        try:
            accept(store.engine, task_id, counts, request_hash, source.sha256, source.size)
        except StoreUnavailableError:
            if not self._has_shards(task_id):
                raise
        self._queue.wake()
        return new_task_view(task, counts)

    def _has_shards(self, task_id: str) -> bool:
        """Whether the task was accepted: only the answer to a commit may have been lost."""
        with suppress(StoreError, TaskNotFoundError):
            return bool(self._context.store.shards.of_task(task_id))
        return False

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


def upload_digest(query: UploadQuery, strategy: StrategyChoice, media_type: str) -> hashlib._Hash:
    """The digest of an upload's request; `hashed` adds its bytes."""
    return hashlib.sha256(f"{query.model_dump_json()} {strategy} {media_type}".encode())


async def hashed(chunks: AsyncIterator[bytes], digest: hashlib._Hash) -> AsyncIterator[bytes]:
    """Pass the chunks on, and add each to the digest."""
    async for chunk in chunks:
        digest.update(chunk)
        yield chunk
