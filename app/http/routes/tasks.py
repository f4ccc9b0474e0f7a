"""Tasks: the index, the kernels, and the state of one task."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from hotloop.app import errors
from hotloop.app.http.dependencies import OwnTaskDep, ServicesDep
from hotloop.app.http.error_handlers import STORE_ERRORS, problem_responses
from hotloop.app.http.root_path import link_to
from hotloop.app.http.routes.paths import TASKS
from hotloop.app.names import StrategyName
from hotloop.app.schemas.kernels import KernelList
from hotloop.app.schemas.root import StrategyView, TaskIndex
from hotloop.app.schemas.tasks import TaskView

router = APIRouter(prefix=TASKS, tags=["tasks"])

_DESCRIPTIONS: Final = {
    StrategyName.SEQUENTIAL: "One item after another, in line: the baseline.",
    StrategyName.THREADING: (
        "Waits and computes in worker threads; computes in parallel with kernels that release "
        "the GIL."
    ),
    StrategyName.MULTIPROCESSING: "Waits and computes in the processes of a multiprocessing pool.",
    StrategyName.ASYNC_BATCH: (
        "Waits for all items of a batch at once, then computes the batch; batch after batch."
    ),
    StrategyName.CONCURRENT_FUTURES: (
        "Waits and computes in worker processes, with a window of futures and another try after "
        "a crash."
    ),
    StrategyName.HYBRID: (
        "Waits for a sliding window of items and computes finished batches meanwhile, in threads "
        "or processes as the kernel allows."
    ),
}

_LINKS: Final = {
    "kernels": f"{TASKS}/kernels",
    "upload": f"{TASKS}/upload",
    "background": f"{TASKS}/background",
    "compare": f"{TASKS}/compare",
    "recommendations": f"{TASKS}/recommendations",
    "results": f"{TASKS}/results",
    "status": f"{TASKS}/status/{{task_id}}",
    "events": f"{TASKS}/events/{{task_id}}",
    "docs": "/docs",
}


@router.get(
    "",
    operation_id="get_task_index",
    summary="The strategies",
    responses=problem_responses(),
)
async def get_task_index() -> TaskIndex:
    """The strategies with descriptions, and links to the other routes."""
    return TaskIndex(
        strategies=[
            StrategyView(
                name=name,
                description=_DESCRIPTIONS[name],
                method="POST",
                href=link_to(f"{TASKS}/{name}"),
            )
            for name in StrategyName
        ],
        links={name: link_to(path) for name, path in _LINKS.items()},
    )


@router.get(
    "/kernels",
    operation_id="list_kernels",
    summary="Workloads and kernels",
    responses=problem_responses(errors.NotReadyError),
)
async def list_kernels(services: ServicesDep) -> KernelList:
    """For each workload its kernels: available or why not, and how fast they were at start."""
    return await services.kernels.list()


@router.get(
    "/status/{task_id}",
    operation_id="get_task",
    summary="The state of a task",
    responses=problem_responses(errors.TaskNotFoundError, *STORE_ERRORS),
)
async def get_task(task_id: OwnTaskDep, services: ServicesDep) -> TaskView:
    """State, progress, an estimate of what is left, and the result once there is one."""
    return await services.tasks.get(task_id)


@router.delete(
    "/{task_id}",
    operation_id="cancel_task",
    summary="Cancel a task",
    responses=problem_responses(errors.TaskNotFoundError, *STORE_ERRORS),
)
async def cancel_task(task_id: OwnTaskDep, services: ServicesDep) -> TaskView:
    """End the task; what was finished is kept. Cancelling an ended task changes nothing."""
    return await services.tasks.cancel(task_id)
