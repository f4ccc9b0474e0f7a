"""Accepts requests for comparisons, synchronous or in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from hotloop.app.comparison.execution import new_record
from hotloop.app.comparison.planning import exact_seconds, resolve
from hotloop.app.comparison.record import CellId, ComparisonRecord
from hotloop.app.comparison.specs import compare_hash, compare_spec
from hotloop.app.database.threads import in_store_thread
from hotloop.app.errors import EstimateTooLongError, InvalidRequestError
from hotloop.app.execution.background import BackgroundService
from hotloop.app.execution.context import Once, Outcome, RunContext
from hotloop.app.execution.items import InlineInput
from hotloop.app.execution.presenters import task_view
from hotloop.app.execution.runner import TaskRunner
from hotloop.app.logs.origin import current, origin_to_json
from hotloop.app.names import TaskKind, TaskType
from hotloop.app.schemas.comparison import CompareRequest, Comparison
from hotloop.app.schemas.tasks import TaskView
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import Plan
from hotloop.app.tasks.model import Task, new_task_id, utc_now
from hotloop.app.tasks.needs import version_needs
from hotloop.app.tasks.spec import NEEDS_KEY

WAY_OUT: Final = (
    "Ask for it in the background (Prefer: respond-async), without exact, for fewer items, or for "
    "fewer strategies and kernels."
)


class ComparisonService:
    """Plans comparisons and submits them as tasks, which ComparisonBody executes."""

    def __init__(
        self, context: RunContext, runner: TaskRunner, background: BackgroundService
    ) -> None:
        self._context = context
        self._runner = runner
        self._background = background

    async def compare(self, request: CompareRequest, client: str | None = None) -> Comparison:
        """Compare while the client waits; `client` is its name in the store. Cancelling the call
        cancels the comparison. Raises any service error except those about tasks, and
        kernels.InvalidInputError.
        """
        limit = self._context.settings.sync_limit_seconds
        request = _within(limit, request)
        request, record, plans = await self._planned(request)
        if request.exact and exact_seconds(record) > limit:
            raise EstimateTooLongError(exact_seconds(record), limit, WAY_OUT)
        task = self._task(request, record, TaskType.SYNCHRONOUS, client)
        task = replace(task, spec={**task.spec, NEEDS_KEY: _version_needs(plans)})
        source = None
        if request.items is not None:
            source = InlineInput(request.workload, request.items)
            await asyncio.to_thread(self._context.storage.check, client, source.size)

        async def answer(outcome: Outcome) -> TaskView:
            if outcome.error is not None:
                raise outcome.error
            store, bodies = self._context.store, self._context.bodies
            return await in_store_thread(task_view, store, bodies, task.task_id)

        view = await self._runner.execute_now(task, Once(source), answer)
        assert view.comparison is not None
        return view.comparison

    async def submit(
        self,
        request: CompareRequest,
        idempotency_key: str | None,
        client: str | None = None,
    ) -> TaskView:
        """Accept a comparison for the background; once accepted, it survives the death of the
        process. Raises the errors of accepting a background task.
        """
        request, record, plans = await self._planned(request)
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
        """Return the needs of a node that can measure all cells that are not skipped."""
        cells = [cell.cell for cell in record.cells if not cell.is_skipped]
        return {
            "kernels": sorted({cell.kernel for cell in cells}),
            "bytes": max((self._context.memory.needed(plans[cell]) for cell in cells), default=0),
            **_version_needs(plans),
        }

    async def _planned(
        self, request: CompareRequest
    ) -> tuple[CompareRequest, ComparisonRecord, dict[CellId, Plan]]:
        asked = request.workload, request.parameters
        reports = await self._context.catalogue.reports(*asked, exact=True)
        request = resolve(request, reports)
        items = GeneratedItems(request.total_items)
        record, plans = await new_record(self._context, request, items, reports)
        return request, record, plans

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


def _version_needs(plans: Mapping[CellId, Plan]) -> dict[str, Any]:
    """Return the part of the stored needs about a user's code, which all plans share."""
    return version_needs(next((plan.source for plan in plans.values()), None))


def _within(limit_seconds: float, request: CompareRequest) -> CompareRequest:
    """Lower the request's default budgets so that together they are within the limit. Raises
    InvalidRequestError if budgets that the client gave are over it.
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
