"""Small background tasks: accepted in groups, and computed beside calls, several by a kernel call.

A task is small if its items come with the request or are generated, wait for no source, and are
predicted to take no longer than a call may. It is sequential. If computing it with others fails,
it is executed by itself, as every other task.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from hotloop.app.database.threads import Groups
from hotloop.app.errors import ServiceError, TaskConflictError, TaskNotFoundError
from hotloop.app.execution.client_limits import check_client
from hotloop.app.execution.context import RunContext
from hotloop.app.execution.kinds import Kind, Kinds
from hotloop.app.execution.micro_batches import MicroBatches
from hotloop.app.execution.specs import check_code, request_hash, spec_of
from hotloop.app.logs.formatting import FIELDS
from hotloop.app.logs.origin import current, origin_to_json
from hotloop.app.names import StrategyName, TaskStatus, TaskType
from hotloop.app.schemas.item_columns import ItemColumns
from hotloop.app.schemas.options import AUTO
from hotloop.app.schemas.runs import BackgroundRequest
from hotloop.app.sources.inline import MOST_BYTES
from hotloop.app.sources.item_file import packed_items, unpacked_items
from hotloop.app.tasks.model import Task, new_task_id, utc_now
from hotloop.app.tasks.small import Ended, Member, NewTask, SmallClaims, SmallTasks
from hotloop.app.tasks.spec import InputKind
from hotloop.kernels import KernelsError, UnknownWorkloadError, get_workload

logger = logging.getLogger(__name__)

Patiently = Callable[..., Awaitable[Any]]
"""Function that makes a blocking call in a thread, and repeats it while the store is away."""


class SmallTaskService:
    """Accepts and executes small background tasks."""

    def __init__(self, context: RunContext, kinds: Kinds, batches: MicroBatches) -> None:
        self._context = context
        self._kinds = kinds
        self._batches = batches
        self._store = SmallTasks(context.store.engine)
        self._accepted = Groups(self._accept)

    async def close(self) -> None:
        """Return once all tasks that are being accepted are stored."""
        await self._accepted.close()

    async def new(
        self, request: BackgroundRequest, key: str | None, client: str | None
    ) -> NewTask | None:
        """Return the task of a request, if it is small, for `accept`. Raises InvalidRequestError,
        NotReadyError, ClientStorageError, StoreError.
        """
        kind = await self._kind(request)
        if kind is None:
            return None
        context, total, data = self._context, request.total_items, None
        if request.items is not None:
            items = ItemColumns.of(request.workload, request.items)
            data = packed_items(request.workload, items.item_ids, items.columns)
            if len(data) > MOST_BYTES:
                return None
        plan = kind.calls.plan
        spec = replace(
            spec_of(request, InputKind.GENERATED if data is None else InputKind.ITEMS),
            kernel=plan.kernel,
            origin=origin_to_json(current()),
            needs=kind.small.stored_needs,
        )
        stored = total * kind.item_bytes + (0 if data is None else len(data))
        if not context.storage.fits(client, stored):
            await asyncio.to_thread(context.storage.check, client, stored)
        task = Task(
            task_id=new_task_id(),
            task_type=TaskType.BACKGROUND,
            spec=spec.to_json(),
            workload=plan.workload,
            kernel=plan.kernel,
            strategy=StrategyName.SEQUENTIAL,
            total_items=total,
            created_at=utc_now(),
            owner=context.node,
            estimated_seconds=kind.calls.seconds(total),
            client=client,
            idempotency_key=key,
            request_hash=None if key is None else request_hash(request),
            stored_bytes=stored,
            item_bytes=kind.item_bytes,
        )
        return NewTask(task, kind.small, data)

    async def accept(self, new: NewTask) -> None:
        """Store a task, which is thereby in the queue. Raises ClientLimitError, StoreError, and
        TaskConflictError if another task has its key.
        """
        await self._accepted.add(new)

    async def _kind(self, request: BackgroundRequest) -> Kind | None:
        """Return the kind of a small task; None for another one."""
        is_plain = (
            request.strategy in (AUTO, StrategyName.SEQUENTIAL)
            and request.db_source == request.cache_source == "none"
            and request.batch_size == AUTO
            and request.timeout_seconds is None
            and request.max_error_rate >= 1.0
        )
        if not is_plain:
            return None
        try:
            workload = get_workload(request.workload)
        except UnknownWorkloadError:
            return None  # planning says what is wrong
        kind = await self._kinds.get(workload, request.parameters, request.kernel)
        return kind if kind.is_short(request.total_items) else None

    def _accept(self, new: Sequence[NewTask]) -> list[Exception | None]:
        def check(task: Task, count: int, seconds: float) -> None:
            check_client(self._context.settings, task, count, seconds)

        return self._store.accept(new, check)

    # --- execution ------------------------------------------------------------------------------

    async def execute(self, claims: SmallClaims, patiently: Patiently) -> None:
        """Compute some tasks, and store their ends. A task that could not be computed with others
        is put back, to be executed by itself. Raises StoreError if the process stops first.
        """
        members = claims.members
        try:
            check_code(claims.first)
            workload = get_workload(claims.first.workload)
            parameters = workload.resolve_parameters(claims.first.spec["parameters"])
            kind = await self._kinds.get(workload, parameters, claims.first.kernel)
        except (ServiceError, KernelsError, KeyError, TypeError) as error:
            await self._put_back(members, error, patiently)
            return
        computing = [self._computed(kind, member) for member in members]
        outcomes = await asyncio.gather(*computing, return_exceptions=True)
        ended = [each for each in outcomes if isinstance(each, Ended)]
        if ended:
            await patiently(self._store.end, ended)
            self._count(kind, ended)
        faults = [each for each in outcomes if not isinstance(each, Ended)]
        if faults:
            left = [m for m, o in zip(members, outcomes, strict=True) if not isinstance(o, Ended)]
            await self._put_back(left, faults[0], patiently)

    async def _computed(self, kind: Kind, member: Member) -> Ended:
        count = member.total_items
        if member.data is None:
            item_ids = np.arange(count, dtype=np.int64)
            columns = kind.workload.simulated_columns(item_ids)
        else:
            item_ids, columns = unpacked_items(kind.workload.name, member.data, count)
        computed = await self._batches.compute(kind.calls, item_ids, columns, patient=True)
        chunk, measured = kind.stored(item_ids, computed)
        return Ended(member, utc_now(), chunk, measured, kind.item_bytes)

    async def _put_back(
        self, members: Sequence[Member], error: BaseException | None, patiently: Patiently
    ) -> None:
        logger.warning(
            "%d small tasks are put back, each to be executed by itself: %s", len(members), error
        )
        give_back = self._context.store.shards.give_back
        for member in members:
            with suppress(TaskNotFoundError, TaskConflictError):  # another node has it by now
                await patiently(give_back, member.ref, 1, {}, 0, None)

    def _count(self, kind: Kind, ended: list[Ended]) -> None:
        for each in ended:
            self._context.metrics.run_ended(
                kind.workload.name,
                StrategyName.SEQUENTIAL,
                kind.kernel,
                TaskStatus.COMPLETED,
                each.chunk.count,
                each.chunk.failed,
                each.measured["duration_seconds"],
            )
        fields = {"tasks": len(ended), "workload": kind.workload.name, "kernel": kind.kernel}
        logger.info("small tasks ended", extra={FIELDS: fields})
