"""The services as one client may use them: the only place that says whose tasks are whose.

Tasks of others are answered exactly as those that there are not. What a client makes is its own.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from hotloop.app.comparison.service import ComparisonService
from hotloop.app.errors import TaskNotFoundError
from hotloop.app.execution.background import BackgroundService
from hotloop.app.execution.runs import RunService
from hotloop.app.execution.tasks import TaskService
from hotloop.app.names import StrategyName, TaskKind, TaskStatus
from hotloop.app.prediction.recommendation import RecommendationService
from hotloop.app.schemas.calibration import CalibrationState
from hotloop.app.schemas.comparison import CompareRequest, Comparison
from hotloop.app.schemas.events import TaskEvent
from hotloop.app.schemas.exports import Export
from hotloop.app.schemas.options import StrategyChoice
from hotloop.app.schemas.recommendation import PredictionRecord, Recommendation, RecommendationQuery
from hotloop.app.schemas.results import RunResult
from hotloop.app.schemas.runs import BackgroundRequest, RunRequest, UploadQuery
from hotloop.app.schemas.tasks import AcceptedRun, ClearedTasks, TaskPage, TaskView
from hotloop.app.security.clients import Client
from hotloop.app.tasks.store import TaskStore
from hotloop.app.tasks.threads import in_store_thread
from hotloop.kernels import KernelName


@dataclass(frozen=True, slots=True)
class Ownership:
    """Which tasks a client has."""

    store: TaskStore
    client: Client

    async def check(self, task_id: str) -> None:
        """Raises TaskNotFoundError for a task that the client may not see, or that is not there."""
        if self.client.sees_all:
            return
        self.check_owner(task_id, await in_store_thread(self.store.client_of, task_id))

    def check_owner(self, task_id: str, owner: str | None) -> None:
        """The same for a task whose owner is known already."""
        if not self.client.sees_all and (owner is None or owner != self.client.id):
            raise TaskNotFoundError(task_id)

    @property
    def visible(self) -> str | None:
        """Whose tasks are listed and cleared; None for those of all."""
        return None if self.client.sees_all else self.client.id


@dataclass(frozen=True, slots=True)
class ClientRuns:
    service: RunService
    own: Ownership

    async def run(
        self, strategy: StrategyName, request: RunRequest, idempotency_key: str | None
    ) -> RunResult | AcceptedRun:
        return await self.service.run(strategy, request, idempotency_key, self.own.client.id)

    async def run_upload(
        self,
        query: UploadQuery,
        media_type: str,
        chunks: AsyncIterator[bytes],
        idempotency_key: str | None,
    ) -> RunResult | AcceptedRun:
        return await self.service.run_upload(
            query, media_type, chunks, idempotency_key, self.own.client.id
        )


@dataclass(frozen=True, slots=True)
class ClientTasks:
    service: TaskService
    own: Ownership

    async def get(self, task_id: str) -> TaskView:
        await self.own.check(task_id)
        return await self.service.get(task_id)

    async def page(
        self,
        status: TaskStatus | None,
        strategy: StrategyName | None,
        kernel: KernelName | None,
        limit: int,
        offset: int,
        kind: TaskKind | None = None,
    ) -> TaskPage:
        return await self.service.page(
            status, strategy, kernel, limit, offset, kind, self.own.visible
        )

    async def cancel(self, task_id: str) -> TaskView:
        await self.own.check(task_id)
        return await self.service.cancel(task_id)

    async def clear_finished(self) -> ClearedTasks:
        return await self.service.clear_finished(self.own.visible)

    async def delete(self, task_id: str) -> ClearedTasks:
        await self.own.check(task_id)
        return await self.service.delete(task_id)

    async def export(self, task_id: str, media_type: str, offset: int, limit: int | None) -> Export:
        await self.own.check(task_id)
        return await self.service.export(task_id, media_type, offset, limit)


@dataclass(frozen=True, slots=True)
class ClientComparisons:
    service: ComparisonService
    own: Ownership

    async def compare(self, request: CompareRequest, base_url: str) -> Comparison:
        return await self.service.compare(request, base_url, self.own.client.id)

    async def submit(
        self, request: CompareRequest, base_url: str, idempotency_key: str | None
    ) -> TaskView:
        return await self.service.submit(request, base_url, idempotency_key, self.own.client.id)


@dataclass(frozen=True, slots=True)
class ClientRecommendations:
    service: RecommendationService
    own: Ownership

    async def recommend(self, query: RecommendationQuery, base_url: str) -> Recommendation:
        found = await self.service.recommend(query, base_url)
        if self.own.visible is None:
            return found
        last = await in_store_thread(self._own_runs, found.prediction_error.last)
        error = found.prediction_error.model_copy(update={"last": last})
        return found.model_copy(update={"prediction_error": error})

    async def calibrate(self) -> CalibrationState:
        return await self.service.calibrate()

    async def calibration(self) -> CalibrationState:
        return await self.service.calibration()

    def _own_runs(self, records: Sequence[PredictionRecord]) -> list[PredictionRecord]:
        return [one for one in records if self._is_own(one.task_id)]

    def _is_own(self, task_id: str) -> bool:
        try:
            return self.own.store.client_of(task_id) == self.own.visible
        except TaskNotFoundError:
            return False  # removed meanwhile


@dataclass(frozen=True, slots=True)
class ClientBackground:
    service: BackgroundService
    own: Ownership

    async def submit(self, request: BackgroundRequest, idempotency_key: str | None) -> TaskView:
        return await self.service.submit(request, idempotency_key, self.own.client.id)

    async def submit_upload(
        self,
        query: UploadQuery,
        strategy: StrategyChoice,
        media_type: str,
        chunks: AsyncIterator[bytes],
        idempotency_key: str | None,
    ) -> TaskView:
        return await self.service.submit_upload(
            query, strategy, media_type, chunks, idempotency_key, self.own.client.id
        )

    async def resume(self, task_id: str) -> TaskView:
        await self.own.check(task_id)
        return await self.service.resume(task_id)

    async def status_of(self, task_id: str) -> TaskStatus:
        moment = await self.service.now(task_id)
        self.own.check_owner(task_id, moment.client)
        return moment.status

    async def events(
        self, task_id: str, last_event_id: str | None
    ) -> AsyncGenerator[TaskEvent, None]:
        await self.status_of(task_id)
        async with aclosing(self.service.events(task_id, last_event_id)) as events:
            async for event in events:
                yield event
