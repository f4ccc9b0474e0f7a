"""Accepting background tasks. A task is stored completely or leaves no trace. Equal requests under
one idempotency key share one task and get the same answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from hotloop.app.database.threads import in_store_thread
from hotloop.app.disk import file_sha256
from hotloop.app.errors import (
    ClientLimitError,
    DamagedFileError,
    IdempotencyConflictError,
    KeyInUseError,
    StoreError,
    StoreUnavailableError,
    TaskConflictError,
    TaskNotFoundError,
)
from hotloop.app.execution.client_limits import check_client
from hotloop.app.execution.context import RunContext, TaskInput, to_the_end
from hotloop.app.execution.items import UploadInput
from hotloop.app.execution.presenters import new_task_view, task_view
from hotloop.app.execution.small_tasks import SmallTaskService
from hotloop.app.names import TaskType
from hotloop.app.schemas.tasks import TaskView
from hotloop.app.tasks.acceptance import accept, move_to_background, withdraw_unaccepted
from hotloop.app.tasks.model import Task
from hotloop.app.tasks.small import NewTask
from hotloop.app.tasks.work_queue import WorkQueue

FIRST_SECONDS: Final = 20.0
"""Longest time that a request waits until the first request with its key is complete."""

LOOK_SECONDS: Final = 0.1
"""Pause between two checks whether that first request is complete."""

RETRY_SECONDS: Final = 1.0
"""Pause between two tries to withdraw a task while the store cannot be used."""


class Acceptance:
    """Stores new tasks. A stored task is thereby in the queue."""

    def __init__(self, context: RunContext, queue: WorkQueue, small: SmallTaskService) -> None:
        self._context = context
        self._queue = queue
        self._small = small
        self._later: set[asyncio.Task[None]] = set()
        """Withdrawals that wait until the store can be used."""

    async def submit(
        self, task: Task, counts: list[int], source: TaskInput | None, digest: str | None
    ) -> TaskView:
        """Accept a task whose shards have `counts` items each. `source` brings the items; None
        means generated items. `digest` identifies the request under its key. Raises
        IdempotencyConflictError, KeyInUseError, ClientLimitError, ClientStorageError, StoreError.
        """
        if source is None:
            task = replace(task, request_hash=digest)
            if (view := await self._create_or_answer(task, counts, digest)) is not None:
                return view
            self._queue.wake()
            return new_task_view(task, counts)
        if (view := await self._create_or_answer(task, [], digest, source.size)) is not None:
            return view
        async with self._receiving(task.task_id):
            await source.receive(self._context.folder, task.task_id)
            return await to_the_end(self._accept, task, counts, digest, source)

    async def submit_small(self, new: NewTask) -> TaskView | None:
        """Accept a small task, and return None; if its key belongs to another task, return that
        task once its request is complete. Raises the errors of `submit`.
        """
        task, store = new.task, self._context.store
        while True:
            try:
                await self._small.accept(new)
            except (TaskConflictError, ClientLimitError):
                key = task.idempotency_key
                if (
                    key is None
                    or (known := await in_store_thread(store.by_key, key, task.client)) is None
                ):
                    raise
                if (first := await self._complete(known)) is not None:
                    return await self._answer(first, task.request_hash)
            except StoreUnavailableError:
                if await in_store_thread(self._kept, task.task_id) is None:
                    raise
            else:
                self._queue.wake()
                return None

    async def submit_upload(
        self, task: Task, chunks: AsyncIterator[bytes], digest: hashlib._Hash
    ) -> TaskView:
        """Accept a task over a stream of rows, which its first execution reads. Add the stream to
        `digest`. Raises the errors of `submit` and of the stream.
        """
        context, task_id = self._context, task.task_id
        known = await self._create(task, [])
        if known is not None:
            async for _ in hashed(chunks, digest):
                pass
            return await self._answer_once_complete(known, digest.hexdigest())
        with context.storage.receiving(task.client, hashed(chunks, digest)) as bounded:
            source = UploadInput(bounded)
            async with self._receiving(task_id):
                await source.receive(context.folder, task_id)
                received = None if task.idempotency_key is None else digest.hexdigest()
                return await to_the_end(self._accept, task, [0], received, source)

    async def take_over(self, task: Task, counts: list[int]) -> TaskView:
        """Make a synchronous task, whose items are in its item file and whose execution has not
        begun, the background task `task`. Withdraw it on failure. Raises the errors of `submit`.
        """
        async with self._receiving(task.task_id):
            known = await to_the_end(self._take_over, task, counts)
            if known is None:
                return new_task_view(task, counts)
            view = await self._answer_once_complete(known, task.request_hash)
        await self._withdraw(task.task_id)
        return view

    async def close(self) -> None:
        """Give up the withdrawals that are left. Other processes do them once this process is gone.
        Call this only after the last task was accepted.
        """
        later = list(self._later)
        for each in later:
            each.cancel()
        await asyncio.gather(*later, return_exceptions=True)

    @asynccontextmanager
    async def _receiving(self, task_id: str) -> AsyncIterator[None]:
        """Withdraw the task if the block fails or is cancelled."""
        try:
            yield
        except BaseException:
            await asyncio.shield(self._withdraw(task_id))
            raise

    async def _create_or_answer(
        self, task: Task, counts: list[int], request_hash: str | None, input_bytes: int = 0
    ) -> TaskView | None:
        """Store the task, and return None. If its key belongs to another task, return that task
        once its request is complete; if that task is withdrawn instead, store this one.
        """
        while (known := await self._create(task, counts, input_bytes)) is not None:
            if (first := await self._complete(known)) is not None:
                return await self._answer(first, request_hash)
        return None

    async def _create(self, task: Task, counts: list[int], input_bytes: int = 0) -> Task | None:
        """Store the task, and return None; return the task that its key belongs to, if any."""
        try:
            return await to_the_end(self._create_or_find, task, counts, input_bytes)
        except StoreError:
            if not counts:  # the store may have it nevertheless, and its items will not come
                await asyncio.shield(self._withdraw(task.task_id))
            raise

    async def _complete(self, known: Task) -> Task | None:
        """Wait until the request of a task with a key is complete, and return the task; None if
        the task is withdrawn. Raises KeyInUseError after FIRST_SECONDS, StoreError, and
        IdempotencyConflictError if the task was cancelled before its request was complete.
        """
        give_up = time.monotonic() + FIRST_SECONDS
        key = known.idempotency_key
        assert key is not None
        first: Task | None = known
        while first is not None and first.request_hash is None:
            if first.end_time is not None:
                raise IdempotencyConflictError(first.task_id)
            if time.monotonic() > give_up:
                raise KeyInUseError(first.task_id)
            await asyncio.sleep(LOOK_SECONDS)
            first = await in_store_thread(self._context.store.by_key, key, known.client)
        return first

    async def _answer(self, first: Task, request_hash: str | None) -> TaskView:
        """Answer a request whose key belongs to a complete task. Raises StoreError, and
        IdempotencyConflictError if the two requests differ.
        """
        if first.request_hash != request_hash:
            raise IdempotencyConflictError(first.task_id)
        store, bodies = self._context.store, self._context.bodies
        return await in_store_thread(task_view, store, bodies, first.task_id)

    async def _answer_once_complete(self, known: Task, request_hash: str | None) -> TaskView:
        """Wait until the task's request is complete, and answer with the task. Raises KeyInUseError
        if the task is withdrawn, because the caller's own input is used up.
        """
        first = await self._complete(known)
        if first is None:
            raise KeyInUseError(known.task_id)
        return await self._answer(first, request_hash)

    async def _withdraw(self, task_id: str) -> None:
        """Delete a task and its files, unless the task was accepted. While the store cannot be
        used, try again in the background; raise nothing.
        """
        try:
            await in_store_thread(self._forget, task_id)
        except StoreError:
            later = asyncio.create_task(self._withdraw_later(task_id))
            self._later.add(later)
            later.add_done_callback(self._later.discard)

    async def _withdraw_later(self, task_id: str) -> None:
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            with suppress(StoreError):
                await in_store_thread(self._forget, task_id)
                return

    # The methods below block; call them in threads.

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
        """Return the task if the store has it: its commit may have worked, its answer be lost."""
        with suppress(StoreError, TaskNotFoundError):
            return self._context.store.get(task_id)
        return None

    def _take_over(self, task: Task, counts: list[int]) -> Task | None:
        """Move the task to the background, and return None; return its key's other task, if any."""
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
        """Copy the file of items into the database, for nodes without this data folder."""
        if self._context.store.inputs.save(task_id, path) != sha256:
            raise DamagedFileError("the items on disk are damaged; send them again")

    def _accept(
        self,
        task: Task,
        counts: list[int],
        request_hash: str | None,
        source: TaskInput,
    ) -> TaskView:
        """Mark the task, whose items are all in the data folder, as accepted, and queue it."""
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
        """Return True if the task was accepted: the commit may have worked, its answer be lost."""
        with suppress(StoreError, TaskNotFoundError):
            return bool(self._context.store.shards.of_task(task_id))
        return False

    def _forget(self, task_id: str) -> None:
        if withdraw_unaccepted(self._context.store.engine, task_id):
            self._context.folder.remove(task_id)


async def hashed(chunks: AsyncIterator[bytes], digest: hashlib._Hash) -> AsyncIterator[bytes]:
    """Pass the chunks on, and add each to the digest."""
    async for chunk in chunks:
        digest.update(chunk)
        yield chunk
