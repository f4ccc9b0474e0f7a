"""Stored tasks: reading, listing, cancelling, deleting and exporting them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from types import MappingProxyType
from typing import Final

from hotloop.app.database.threads import in_store_thread
from hotloop.app.errors import TaskConflictError
from hotloop.app.execution.context import Once, RunContext, body_of
from hotloop.app.execution.maintenance import remove_finished
from hotloop.app.execution.presenters import task_summaries, task_view
from hotloop.app.execution.runner import TaskRunner
from hotloop.app.names import StrategyName, TaskKind, TaskStatus, TaskType
from hotloop.app.schemas.results import Export
from hotloop.app.schemas.tasks import ClearedTasks, TaskPage, TaskView
from hotloop.app.sources.arrow_rows import ARROW, PARQUET
from hotloop.app.sources.rows import CSV, NDJSON
from hotloop.app.tasks.arrow_results import arrow_stream, parquet_file
from hotloop.app.tasks.chunks import ResultColumns, ResultRows
from hotloop.app.tasks.model import FINISHED, ShardRef, Task
from hotloop.app.tasks.results import ResultsReader, csv_lines, ndjson_lines

Exporter = Callable[[ResultColumns, Iterable[ResultRows]], Iterator[bytes]]

EXPORTS: Final[Mapping[str, Exporter]] = MappingProxyType(
    {NDJSON: ndjson_lines, CSV: csv_lines, ARROW: arrow_stream, PARQUET: parquet_file}
)


class TaskService:
    """Serves stored tasks from the store, and cancels them with the runner."""

    def __init__(self, context: RunContext, runner: TaskRunner) -> None:
        self._context = context
        self._store = context.store
        self._runner = runner

    async def get(self, task_id: str) -> TaskView:
        """Return the task. Raises TaskNotFoundError."""
        return await in_store_thread(task_view, self._store, self._context.bodies, task_id)

    async def page(
        self,
        status: TaskStatus | None,
        strategy: StrategyName | None,
        kernel: str | None,
        limit: int,
        offset: int,
        kind: TaskKind | None = None,
        client: str | None = None,
    ) -> TaskPage:
        """Return tasks, newest first: a client's, or all if `client` is None."""
        page = await in_store_thread(
            partial(
                self._store.page,
                status,
                strategy,
                kernel,
                kind=kind,
                limit=limit,
                offset=offset,
                client=client,
            )
        )
        return TaskPage(
            items=await in_store_thread(task_summaries, self._store, self._context.bodies, page),
            total=page.total,
            limit=limit,
            offset=offset,
            next=None,
        )

    async def cancel(self, task_id: str) -> TaskView:
        """Cancel the task and wait until it has ended; leave an ended task as it is.

        Raises TaskNotFoundError, and TaskConflictError if another process executes it.
        """
        ref = ShardRef(task_id, 0, 0)
        active = self._runner.active.get(ref)
        if active is not None and isinstance(active.policy, Once):
            await self._runner.cancel([ref])
        task = await in_store_thread(self._store.get, task_id)
        if task.task_type == TaskType.BACKGROUND and task.status not in FINISHED:
            refs = await in_store_thread(self._cancel_in_background, task)
            await self._runner.cancel(refs)
        view = await in_store_thread(task_view, self._store, self._context.bodies, task_id)
        if view.status not in FINISHED:
            raise TaskConflictError(
                task_id, "another process of the service runs it; ask that one, or try again later"
            )
        return view

    def _cancel_in_background(self, task: Task) -> list[ShardRef]:
        summarize = body_of(self._context.bodies, task.kind).summarize
        try:
            return self._store.shards.cancel(task.task_id, summarize)
        except TaskConflictError:
            return []  # it has just ended

    async def clear_finished(self, client: str | None = None) -> ClearedTasks:
        """Delete the ended tasks of a client, or of all, with their files."""
        deleted = await in_store_thread(remove_finished, self._context, client=client)
        return ClearedTasks(deleted=len(deleted))

    async def delete(self, task_id: str) -> ClearedTasks:
        """Delete one task that has ended, with its files.

        Raises TaskNotFoundError, and TaskConflictError for a task that has not ended.
        """
        await in_store_thread(self._delete, task_id)
        return ClearedTasks(deleted=1)

    def _delete(self, task_id: str) -> None:
        self._store.delete(task_id)
        self._context.folder.remove(task_id)

    async def export(self, task_id: str, media_type: str, offset: int, limit: int | None) -> Export:
        """Return the results of the items at positions `offset … offset + limit - 1`, or all from
        `offset`; an incomplete task has results of its finished items only.

        Raises TaskNotFoundError, StoreError, and TaskConflictError for a task that is still running
        or has no results; all before the first piece.
        """
        reader = await in_store_thread(self._reader, task_id)
        blocks = reader.blocks(offset, limit)
        # Read the first block now, so that damage in it is answered with an error.
        first = await in_store_thread(next, blocks, None)
        read = iter(()) if first is None else iter((first,))
        pieces = EXPORTS[media_type](reader.columns, chain(read, blocks))
        next_offset = None
        if limit is not None and offset + limit < await in_store_thread(reader.end):
            next_offset = offset + limit
        return Export(_in_thread(pieces), next_offset)

    def _reader(self, task_id: str) -> ResultsReader:
        task = self._store.get(task_id)
        if task.kind == TaskKind.COMPARISON:
            raise TaskConflictError(
                task_id,
                "it is a comparison, which has no results of items; see its status for what it has "
                "measured",
            )
        if task.status not in FINISHED:
            raise TaskConflictError(
                task_id,
                f"it is {task.status}; its results can be read once it has ended. Follow its "
                "status or its events until then.",
            )
        reader = self._store.results(task_id)
        if reader is None:
            raise TaskConflictError(task_id, "it ended before its run began; it has no results")
        return reader


async def _in_thread(pieces: Iterator[bytes]) -> AsyncGenerator[bytes, None]:
    while (piece := await in_store_thread(next, pieces, None)) is not None:
        yield piece
