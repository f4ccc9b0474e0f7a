"""Synchronous runs estimated too long to wait for: accepted in the background, or refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from hotloop.app.errors import ClientLimitError, EstimateTooLongError
from hotloop.app.execution.background import BackgroundService
from hotloop.app.execution.context import RunContext, withdraw
from hotloop.app.logs.origin import current, origin_to_json
from hotloop.app.names import LongRuns, StrategyName, TaskType
from hotloop.app.schemas.runs import BackgroundRequest, RunRequest
from hotloop.app.schemas.tasks import AcceptedRun, TaskView
from hotloop.app.strategies.base import Plan
from hotloop.app.tasks.model import Task
from hotloop.app.tasks.nodes import NodeStore
from hotloop.app.tasks.spec import InputKind, TaskSpec, input_spec
from hotloop.app.tasks.threads import in_store_thread

_NODE_ROLE: Final = "node"

_NOT_EXECUTED: Final = (
    "It is not accepted in the background either, because no process executes background tasks "
    "here: have the operator raise HOTLOOP_BACKGROUND_RUNS or start a node (`hotloop node`). Or "
    "ask for fewer items, a compiled kernel or more workers, or use hybrid, which waits for "
    "io_concurrency items at once."
)

_IN_THE_FOREGROUND: Final = (
    "To have the answer in the foreground, ask for fewer items, a compiled kernel or more workers, "
    "use hybrid, which waits for io_concurrency items at once, or have the operator raise "
    "HOTLOOP_SYNC_LIMIT_SECONDS."
)


class LongRunService:
    """Accepts in the background what a client cannot wait for, if HOTLOOP_LONG_RUNS says so."""

    def __init__(
        self, context: RunContext, background: BackgroundService, nodes: NodeStore
    ) -> None:
        self._context = context
        self._background = background
        self._nodes = nodes

    async def accepted_before(self, key: str | None, client: str | None) -> bool:
        """Whether a run with this key is to be answered with a background task: the client has one
        under it. Raises StoreError.
        """
        if self._context.settings.long_runs is LongRuns.REFUSE:
            return False
        return await self._background.knows(key, client)

    async def accept(
        self,
        strategy: StrategyName,
        request: RunRequest,
        error: EstimateTooLongError,
        key: str | None,
        client: str | None,
    ) -> AcceptedRun:
        """Accept a run of which nothing is stored yet. Raises `error`, or one like it, where it is
        not to be accepted, and whatever accepting a background task raises.
        """
        await self._check(error)
        with _explained(error):
            view = await self._background.submit(
                BackgroundRequest.of(request, strategy), key, client
            )
        return _answer(view, error)

    async def take_over(self, task: Task, plan: Plan, error: EstimateTooLongError) -> AcceptedRun:
        """Accept a synchronous task whose items were read into its item file, which the background
        task goes on with. If it is not accepted, it is withdrawn. Raises as `accept`.
        """
        try:
            await self._check(error)
        except BaseException:
            await asyncio.shield(in_store_thread(withdraw, self._context, task.task_id))
            raise
        spec = replace(
            TaskSpec.from_json(task.spec),
            kernel=plan.kernel,
            origin=origin_to_json(current()),
            input=input_spec(InputKind.ITEMS),
            needs={"bytes": self._context.memory.needed(plan)},
        )
        long = replace(
            task,
            task_type=TaskType.BACKGROUND,
            spec=spec.to_json(),
            total_items=plan.item_count,
            estimated_seconds=error.estimate_seconds,
        )
        with _explained(error):
            view = await self._background.take_over(long, plan.batch_size)
        return _answer(view, error)

    async def _check(self, error: EstimateTooLongError) -> None:
        settings = self._context.settings
        if settings.long_runs is LongRuns.REFUSE:
            raise error
        if not settings.background_runs and not await in_store_thread(self._has_nodes):
            raise EstimateTooLongError(error.estimate_seconds, error.limit_seconds, _NOT_EXECUTED)

    def _has_nodes(self) -> bool:
        alive = self._nodes.alive()
        return any(n.role == _NODE_ROLE and n.node_id in alive for n in self._nodes.list())


@contextmanager
def _explained(error: EstimateTooLongError) -> Iterator[None]:
    """Have a refusal by the client's limit say why the run was to go to the background."""
    try:
        yield
    except ClientLimitError as limit:
        raise ClientLimitError(
            f"{_why(error)} It cannot be accepted in the background now: {limit.text}. "
            f"{_IN_THE_FOREGROUND}",
            limit.retry_after_seconds,
        ) from limit


def _answer(view: TaskView, error: EstimateTooLongError) -> AcceptedRun:
    text = (
        f"{_why(error)} It was accepted as a background task. Follow it at links.status or "
        f"links.events; its results are at links.results. {_IN_THE_FOREGROUND}"
    )
    return AcceptedRun(**dict(view), message=text)


def _why(error: EstimateTooLongError) -> str:
    return (
        f"The run is estimated at {error.estimate_seconds:,.1f} s, over the limit of "
        f"{error.limit_seconds:,.0f} s for a synchronous one."
    )
