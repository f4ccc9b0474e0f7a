"""What routes depend on: the services as they see them, and the dependencies by name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Protocol, cast

from fastapi import Depends, Path, Request

from hotloop.app.errors import TaskNotFoundError
from hotloop.app.http.access import ClientDep
from hotloop.app.names import StrategyName, TaskKind, TaskStatus, is_task_id
from hotloop.app.schemas.calibration import CalibrationState
from hotloop.app.schemas.comparison import CompareRequest, Comparison
from hotloop.app.schemas.events import TaskEvent
from hotloop.app.schemas.exports import Export
from hotloop.app.schemas.health import Readiness, Vitals
from hotloop.app.schemas.kernels import KernelList
from hotloop.app.schemas.options import StrategyChoice
from hotloop.app.schemas.recommendation import Recommendation, RecommendationQuery
from hotloop.app.schemas.results import RunResult
from hotloop.app.schemas.runs import BackgroundRequest, RunRequest, UploadQuery
from hotloop.app.schemas.tasks import AcceptedRun, ClearedTasks, TaskPage, TaskView
from hotloop.app.security.clients import Client
from hotloop.app.settings.settings import Settings
from hotloop.kernels.contract import KernelName


class RunService(Protocol):
    """Executes synchronous runs. Cancelling the call cancels the run."""

    async def run(
        self, strategy: StrategyName, request: RunRequest, idempotency_key: str | None
    ) -> RunResult | AcceptedRun:
        """The result; or the background task that the run became, because it is estimated too long
        to wait for, or because the key has one already.
        """
        ...

    async def run_upload(
        self,
        query: UploadQuery,
        media_type: str,
        chunks: AsyncIterator[bytes],
        idempotency_key: str | None,
    ) -> RunResult | AcceptedRun:
        """Store the chunks, read them as `media_type` (text/csv, application/x-ndjson), run; else
        as `run`.
        """
        ...


class TaskService(Protocol):
    """Tasks that are kept, and their results."""

    async def get(self, task_id: str) -> TaskView: ...

    async def page(
        self,
        status: TaskStatus | None,
        strategy: StrategyName | None,
        kernel: KernelName | None,
        limit: int,
        offset: int,
        kind: TaskKind | None = None,
    ) -> TaskPage: ...

    async def cancel(self, task_id: str) -> TaskView: ...

    async def clear_finished(self) -> ClearedTasks: ...

    async def delete(self, task_id: str) -> ClearedTasks:
        """Raises TaskNotFoundError, and TaskConflictError for a task that has not ended."""
        ...

    async def export(self, task_id: str, media_type: str, offset: int, limit: int | None) -> Export:
        """Results as `media_type`, of the items from position `offset` on, `limit` or all of them;
        raises before the first piece when there are none.

        Making a piece gives way to the event loop, so that a client's leaving is noticed.
        """
        ...


class BackgroundService(Protocol):
    """Tasks that are accepted now and executed later, durably."""

    async def submit(self, request: BackgroundRequest, idempotency_key: str | None) -> TaskView:
        """Accept the task: when this returns, it survives the death of the process.

        The same key with the same request is answered with the task that it has already; with
        another request it raises IdempotencyConflictError.
        """
        ...

    async def submit_upload(
        self,
        query: UploadQuery,
        strategy: StrategyChoice,
        media_type: str,
        chunks: AsyncIterator[bytes],
        idempotency_key: str | None,
    ) -> TaskView:
        """The same for a file of items; `strategy` counts, not that of `query`.

        `chunks` raises RunCancelledError when the client leaves before the file's end, and
        PayloadTooLargeError when the file is too long: nothing is accepted then.
        """
        ...

    async def resume(self, task_id: str) -> TaskView:
        """Take a failed or cancelled task up again where it ended; TaskConflictError for others."""
        ...

    async def status_of(self, task_id: str) -> TaskStatus:
        """The task's state, as `events` begins with it. Raises TaskNotFoundError."""
        ...

    def events(self, task_id: str, last_event_id: str | None) -> AsyncGenerator[TaskEvent, None]:
        """What happens to the task from `last_event_id` on; without it, or when it is none of this
        task's, first of all how the task stands now.

        Ends after the state in which the task ended; at once when the client had that already.
        The first step may raise TaskNotFoundError. Closing it, in a wait too, leaves nothing.
        """
        ...


class ComparisonService(Protocol):
    """Strategies × kernels, measured side by side."""

    async def compare(self, request: CompareRequest, base_url: str) -> Comparison:
        """Compare now; cancelling the call cancels the comparison. `base_url` is for the command
        that runs the winner.
        """
        ...

    async def submit(
        self, request: CompareRequest, base_url: str, idempotency_key: str | None
    ) -> TaskView:
        """Accept it for the background, as a BackgroundService does."""
        ...


class RecommendationService(Protocol):
    """How to run something, predicted."""

    async def recommend(self, query: RecommendationQuery, base_url: str) -> Recommendation:
        """Rank the choices. Where the machine was not calibrated yet, that is begun behind the
        answer, or waited for, as the query says. `base_url` is for the command that runs the first.
        """
        ...

    async def calibrate(self) -> CalibrationState:
        """Start a calibration, unless one is in progress; returns at once."""
        ...

    async def calibration(self) -> CalibrationState:
        """Return the state of the last calibration."""
        ...


class KernelService(Protocol):
    """Workloads and kernels."""

    async def list(self) -> KernelList: ...


class HealthService(Protocol):
    """What must work before runs are taken."""

    async def ready(self) -> Readiness: ...


class VitalsService(Protocol):
    """How the service was in the last minutes."""

    async def read(self, after: datetime | None) -> Vitals: ...


class Metrics(Protocol):
    """What is counted."""

    def request_ended(self, route: str, method: str, status: int, seconds: float) -> None:
        """An answer was given, or its client left."""
        ...

    def text(self) -> bytes:
        """In Prometheus's text format."""
        ...


class ClientServices(Protocol):
    """What concerns tasks, as one client may use it: tasks of others are not there for it."""

    @property
    def runs(self) -> RunService: ...

    @property
    def tasks(self) -> TaskService: ...

    @property
    def background(self) -> BackgroundService: ...

    @property
    def comparisons(self) -> ComparisonService: ...

    @property
    def recommendations(self) -> RecommendationService: ...


class Services(Protocol):
    """All services of one process."""

    @property
    def kernels(self) -> KernelService: ...

    @property
    def health(self) -> HealthService: ...

    @property
    def vitals(self) -> VitalsService: ...

    @property
    def metrics(self) -> Metrics: ...

    def for_client(self, client: Client) -> ClientServices: ...


@dataclass(frozen=True, slots=True)
class AppState:
    """Everything that requests share; set once, when the service has started."""

    settings: Settings
    services: Services
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server begins to stop, before it waits for the answers in progress. Whatever
    answers without an end of its own (a stream of events) ends when this is set."""


# Coroutines all of them, because FastAPI hands plain functions to its shared thread pool.


async def get_state(request: Request) -> AppState:
    return cast(AppState, request.app.state.shared)


StateDep = Annotated[AppState, Depends(get_state)]


async def get_settings(state: StateDep) -> Settings:
    return state.settings


async def get_client_services(state: StateDep, client: ClientDep) -> ClientServices:
    return state.services.for_client(client)


ClientServicesDep = Annotated[ClientServices, Depends(get_client_services)]


async def get_run_service(services: ClientServicesDep) -> RunService:
    return services.runs


async def get_task_service(services: ClientServicesDep) -> TaskService:
    return services.tasks


async def get_background_service(services: ClientServicesDep) -> BackgroundService:
    return services.background


async def get_comparison_service(services: ClientServicesDep) -> ComparisonService:
    return services.comparisons


async def get_recommendation_service(services: ClientServicesDep) -> RecommendationService:
    return services.recommendations


async def get_kernel_service(state: StateDep) -> KernelService:
    return state.services.kernels


async def get_health_service(state: StateDep) -> HealthService:
    return state.services.health


async def get_vitals_service(state: StateDep) -> VitalsService:
    return state.services.vitals


async def get_metrics(state: StateDep) -> Metrics:
    return state.services.metrics


async def get_task_id(
    task_id: Annotated[
        str,
        Path(
            description="`task_`, 8 hexadecimal digits, `_`, seconds since 1970.",
            examples=["task_4f9d02aa_1735689600"],
        ),
    ],
) -> str:
    """Raises TaskNotFoundError for what cannot be an id, so that nobody searches for it."""
    if not is_task_id(task_id):
        raise TaskNotFoundError(task_id[:40])
    return task_id


SettingsDep = Annotated[Settings, Depends(get_settings)]
RunServiceDep = Annotated[RunService, Depends(get_run_service)]
TaskServiceDep = Annotated[TaskService, Depends(get_task_service)]
BackgroundServiceDep = Annotated[BackgroundService, Depends(get_background_service)]
ComparisonServiceDep = Annotated[ComparisonService, Depends(get_comparison_service)]
RecommendationServiceDep = Annotated[RecommendationService, Depends(get_recommendation_service)]
KernelServiceDep = Annotated[KernelService, Depends(get_kernel_service)]
HealthServiceDep = Annotated[HealthService, Depends(get_health_service)]
VitalsServiceDep = Annotated[VitalsService, Depends(get_vitals_service)]
MetricsDep = Annotated[Metrics, Depends(get_metrics)]
TaskIdDep = Annotated[str, Depends(get_task_id)]
