"""Comparisons as they are asked for: now, or in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from hotloop.app.comparison.execution import (
    ComparisonExecution,
    end_comparison,
    new_record,
)
from hotloop.app.comparison.measuring import HostLease
from hotloop.app.comparison.planning import exact_seconds, resolve
from hotloop.app.comparison.record import CellId, ComparisonRecord
from hotloop.app.comparison.specs import compare_hash, compare_request_of, compare_spec
from hotloop.app.errors import (
    EstimateTooLongError,
    InvalidRequestError,
    RunCancelledError,
    RunError,
    ServiceError,
    TaskNotFoundError,
    internal_text,
)
from hotloop.app.execution.active_run import ActiveRun
from hotloop.app.execution.background import BackgroundService
from hotloop.app.execution.executions import (
    AsStored,
    Outcome,
    RunContext,
    drop_files,
    to_the_end,
    withdraw,
)
from hotloop.app.execution.inputs import GeneratedInput, InlineInput
from hotloop.app.execution.items import items_of
from hotloop.app.execution.presenters import task_view
from hotloop.app.execution.runs import REFUSALS, RunService
from hotloop.app.logs.origin import bind_task, current, origin_to_json
from hotloop.app.names import TaskKind, TaskType
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.schemas.comparison import CompareRequest, Comparison
from hotloop.app.schemas.tasks import TaskView
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import Plan
from hotloop.app.tasks.model import Shard, ShardRef, Task, new_task_id, utc_now
from hotloop.app.tasks.spec import NEEDS_KEY
from hotloop.app.tasks.threads import in_store_thread

WAY_OUT: Final = (
    "Ask for it in the background (Prefer: respond-async), without exact, for fewer items, or for "
    "fewer strategies and kernels."
)


class ComparisonService:
    """Each comparison is a task, which has one run host for itself while it goes on."""

    def __init__(
        self, context: RunContext, runs: RunService, background: BackgroundService
    ) -> None:
        self._context = context
        self._runs = runs
        self._background = background

    async def compare(self, request: CompareRequest, client: str | None = None) -> Comparison:
        """Compare now, for a client, as the store names it. Cancelling the call cancels the
        comparison. Raises any of the service errors but those about tasks, and
        kernels.InvalidInputError.
        """
        limit = self._context.settings.sync_limit_seconds
        request = _within(limit, request)
        request, reports, record, _ = await self._planned(request)
        if request.exact and exact_seconds(record) > limit:
            raise EstimateTooLongError(exact_seconds(record), limit, WAY_OUT)
        task = self._task(request, record, TaskType.SYNCHRONOUS, client)
        view = await self._runs.supervise(
            task.task_id, lambda active: self._drive(active, task, request, reports)
        )
        assert view.comparison is not None
        return view.comparison

    async def submit(
        self,
        request: CompareRequest,
        idempotency_key: str | None,
        client: str | None = None,
    ) -> TaskView:
        """Accept a comparison for the background: when this returns, it survives the death of the
        process. Raises what accepting any background task raises.
        """
        request, _, record, plans = await self._planned(request)
        task = self._task(request, record, TaskType.BACKGROUND, client)
        task = replace(task, spec={**task.spec, NEEDS_KEY: self._needs(record, plans)})
        digest = None
        if idempotency_key is not None:
            digest = await asyncio.to_thread(compare_hash, request)
        task = replace(task, idempotency_key=idempotency_key)
        source = None
        if request.items is not None:
            source = InlineInput(request.workload, request.items)
        return await self._background.submit_task(task, source, digest)

    def _needs(self, record: ComparisonRecord, plans: Mapping[CellId, Plan]) -> dict[str, Any]:
        """What a node needs to measure all cells that are not skipped."""
        cells = [cell.cell for cell in record.cells if not cell.is_skipped]
        return {
            "kernels": sorted({cell.kernel for cell in cells}),
            "bytes": max((self._context.memory.needed(plans[cell]) for cell in cells), default=0),
        }

    async def _planned(
        self, request: CompareRequest
    ) -> tuple[CompareRequest, tuple[KernelReport, ...], ComparisonRecord, dict[CellId, Plan]]:
        reports = await self._context.hosts.kernels()
        request = resolve(request, reports)
        items = GeneratedItems(request.total_items)
        record, plans = await new_record(self._context, request, items, reports)
        return request, reports, record, plans

    def _task(
        self,
        request: CompareRequest,
        record: ComparisonRecord,
        kind: TaskType,
        client: str | None,
    ) -> Task:
        exact = exact_seconds(record) if record.exact else 0.0
        return Task(
            task_id=new_task_id(),
            task_type=kind,
            kind=TaskKind.COMPARISON,
            spec=compare_spec(request) | {"origin": origin_to_json(current())},
            workload=request.workload,
            kernel="",
            strategy="",
            total_items=record.planned,
            created_at=utc_now(),
            owner=self._context.node,
            estimated_seconds=max(record.budget_seconds + record.setup_budget_seconds, exact),
            client=client,
        )

    async def _drive(
        self,
        active: ActiveRun,
        task: Task,
        request: CompareRequest,
        reports: tuple[KernelReport, ...],
    ) -> TaskView:
        """The whole life of a synchronous comparison. Raises what ended it, once that is stored."""
        context, task_id = self._context, task.task_id
        bind_task(task_id)
        source: GeneratedInput | InlineInput = GeneratedInput(request.items_count)
        if request.items is not None:
            source = InlineInput(request.workload, request.items)
            await asyncio.to_thread(context.storage.check, task.client, source.size)
        lease = HostLease(context, patient=False, owner=task.client)
        error: ServiceError | None = None
        shard: Shard | None = None
        try:
            await to_the_end(context.store.create, task)
            await source.receive(context.folder, task_id)
            client = await lease.client()
            items = await source.read(client, context.folder, task_id)
            record, plans = await new_record(context, request, items, reports)
            ref = ShardRef(task_id, 0, 0)
            shard = await to_the_end(context.store.shards.begin, ref, context.node, record.planned)
            execution = ComparisonExecution(
                context, shard, active, request, record, plans, lease, in_store_thread
            )
            outcome = await execution.execute()
            await to_the_end(end_comparison, context, shard, outcome)
            error = outcome.error
        except REFUSALS:
            await in_store_thread(withdraw, context, task_id)
            raise
        except asyncio.CancelledError:
            error = RunCancelledError()
        except ServiceError as raised:
            error = raised
        except Exception as fault:
            error = RunError(internal_text(fault))
            await in_store_thread(self._end_unbegun, task_id, shard, error)
            raise
        finally:
            await lease.close()
            await asyncio.to_thread(drop_files, context, task_id)  # it cannot be resumed
        if error is None:
            return await in_store_thread(task_view, context.store, task_id)
        await in_store_thread(self._end_unbegun, task_id, shard, error)
        if isinstance(error, RunError):
            error.task_id = task_id
        raise error

    def _end_unbegun(self, task_id: str, shard: Shard | None, error: ServiceError) -> None:
        """Its execution never began; one that did has been ended."""
        if shard is None:
            status = Outcome(error, AsStored(), 0, 0).status
            text = type(error).__name__, str(error)
            with suppress(TaskNotFoundError):  # the store did not take it; the error says why
                self._context.store.finish_unbegun(task_id, status, *text)
            self._context.metrics.comparison_ended(status, 0)


def _within(limit_seconds: float, request: CompareRequest) -> CompareRequest:
    """The request with budgets that a client may wait for: those it does not give are lowered.
    Raises InvalidRequestError for one that it gives.
    """
    budget, setup = request.budget_seconds, request.setup_budget_seconds
    if budget + setup <= limit_seconds:
        return request
    given = request.model_fields_set & {"budget_seconds", "setup_budget_seconds"}
    if len(given) == 2 or any(getattr(request, name) >= limit_seconds for name in given):
        raise InvalidRequestError(
            "budget_seconds",
            f"and setup_budget_seconds must be at most {limit_seconds:g} together for a comparison "
            f"that the client waits for (got {budget:g} and {setup:g}); lower them, or send "
            "Prefer: respond-async",
        )
    if "budget_seconds" in given:
        setup = limit_seconds - budget
    else:
        setup = setup if given else min(setup, limit_seconds / 3)
        budget = min(budget, limit_seconds - setup)
    return request.model_copy(update={"budget_seconds": budget, "setup_budget_seconds": setup})


class BackgroundComparisons:
    """Executes the shards of comparisons that the queue hands to this node."""

    def __init__(self, context: RunContext) -> None:
        self._context = context

    async def attempt(self, task: Task, shard: Shard, active: ActiveRun, call: Any) -> Outcome:
        """One execution of a shard that has begun; it goes on where the last one was. Raises what
        keeps it from measuring anything.
        """
        context = self._context
        stored = ComparisonRecord.from_json(shard.details)
        request = compare_request_of(task.spec)
        lease = HostLease(context, patient=True, owner=task.client)
        try:
            client = await lease.client()
            reports = await context.hosts.kernels()
            whole = replace(task, total_items=request.items_count)
            async with items_of(context, client, whole) as items:
                record, plans = await new_record(context, request, items, reports)
                for cell in stored.cells if stored else ():
                    if cell.cell not in plans and not cell.is_skipped:
                        cell.reason = "its kernel is not available where the comparison goes on"
                execution = ComparisonExecution(
                    context, shard, active, request, stored or record, plans, lease, call
                )
                return await execution.execute()
        finally:
            await lease.close()
