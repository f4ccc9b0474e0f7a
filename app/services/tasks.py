"""Tasks that are kept: their state, their results, cancelling and clearing them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import urlencode

from app.errors import TaskConflictError
from app.names import StrategyName, TaskStatus
from app.schemas.tasks import ClearedTasks, TaskPage, TaskView
from app.services.runs import RunService
from app.services.views import BASE_PATH, task_summary, task_view
from app.sources.rows import CSV, NDJSON
from app.tasks.export import csv_lines, ndjson_lines
from app.tasks.folder import DataFolder
from app.tasks.model import FINISHED
from app.tasks.results import ResultsReader
from app.tasks.store import TaskStore
from kernels import KernelName

EXPORTS: Final[Mapping[str, Callable[[ResultsReader], Iterator[bytes]]]] = MappingProxyType(
    {NDJSON: ndjson_lines, CSV: csv_lines}
)


class TaskService:
    """Reads the store; what this process drives it knows from the run service."""

    def __init__(self, store: TaskStore, folder: DataFolder, runs: RunService) -> None:
        self._store = store
        self._folder = folder
        self._runs = runs

    async def get(self, task_id: str) -> TaskView:
        """Raises TaskNotFoundError."""
        active = self._runs.active.get(task_id)
        return task_view(await asyncio.to_thread(self._store.get, task_id), active)

    async def page(
        self,
        status: TaskStatus | None,
        strategy: StrategyName | None,
        kernel: KernelName | None,
        limit: int,
        offset: int,
    ) -> TaskPage:
        """Newest first."""
        page = await asyncio.to_thread(
            self._store.page, status, strategy, kernel, limit=limit, offset=offset
        )
        following = offset + len(page.tasks)
        filters = {"status": status, "strategy": strategy, "kernel": kernel}
        query = {k: str(v) for k, v in filters.items() if v is not None}
        query |= {"limit": str(limit), "offset": str(following)}
        return TaskPage(
            items=[task_summary(t, self._runs.active.get(t.task_id)) for t in page.tasks],
            total=page.total,
            limit=limit,
            offset=offset,
            next=f"{BASE_PATH}/results?{urlencode(query)}" if following < page.total else None,
        )

    async def cancel(self, task_id: str) -> TaskView:
        """Cancel the task and wait until it has ended; one that has ended stays as it is.

        Raises TaskNotFoundError, and TaskConflictError when another process drives it.
        """
        active = self._runs.active.get(task_id)
        if active is not None:
            await active.cancel()
            await active.wait_ended()
        task = await asyncio.to_thread(self._store.get, task_id)
        if task.status not in FINISHED:
            raise TaskConflictError(
                task_id, "another process of the service runs it; ask that one, or try again later"
            )
        return task_view(task, None)

    async def clear_finished(self) -> ClearedTasks:
        """Delete all tasks that have ended, with their files."""
        return await asyncio.to_thread(self._clear_finished)

    def _clear_finished(self) -> ClearedTasks:
        deleted = self._store.delete_finished()
        for task_id in deleted:
            self._folder.remove(task_id)
        return ClearedTasks(deleted=len(deleted))

    async def export(self, task_id: str, media_type: str) -> AsyncGenerator[bytes, None]:
        """Every item's result; of a task that did not complete, those that were finished.

        Raises, before the first chunk, TaskNotFoundError, StoreError, and TaskConflictError for a
        task that is still running or has no results.
        """
        reader = await asyncio.to_thread(self._open, task_id)
        return _in_thread(reader, EXPORTS[media_type])

    def _open(self, task_id: str) -> ResultsReader:
        task = self._store.get(task_id)
        if task.status not in FINISHED:
            raise TaskConflictError(
                task_id,
                f"it is {task.status}; its results can be read once it has ended. "
                f"GET {BASE_PATH}/status/{task_id} tells.",
            )
        path = self._folder.results_path(task_id)
        if not path.exists():
            raise TaskConflictError(task_id, "it ended before its run began; it has no results")
        return ResultsReader(path)


async def _in_thread(
    reader: ResultsReader, lines: Callable[[ResultsReader], Iterator[bytes]]
) -> AsyncGenerator[bytes, None]:
    try:
        chunks = lines(reader)
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            yield chunk
    finally:
        await asyncio.to_thread(reader.close)
