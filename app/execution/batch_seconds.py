"""Predicted time until an execution stores its next results, by which a stuck shard is told from
one with long batches.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Final

from hotloop.app.execution.context import RunContext, body_of
from hotloop.app.execution.specs import request_of
from hotloop.app.names import StrategyName
from hotloop.app.prediction.model import estimate_seconds
from hotloop.app.prediction.plan import make_plan
from hotloop.app.runhost.measurements import Measurements
from hotloop.app.schemas.runs import RunRequest
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.tasks.model import Shard, Task
from hotloop.app.tasks.stuck import Predict

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS: Final = 5.0
"""Time that a prediction may take; the examination of a user's code may take longer."""


async def run_batch_seconds(context: RunContext, task: Task, shard: Shard) -> float:
    """Predict the seconds of one batch in each worker of a run, which end at about the same time.
    An upload that is not read yet counts as 0. Raises the errors of make_plan, NotReadyError,
    UnreadableTaskError.
    """
    if not shard.count:
        return 0.0
    request = request_of(task.spec, RunRequest)
    asked = request.workload, request.parameters
    reports = await context.catalogue.reports(*asked)
    known = await context.calibrations.known(*asked)
    used = Measurements.from_json(shard.details).batch_size
    if used is not None:
        request = request.model_copy(update={"batch_size": used})
    items, settings = GeneratedItems(shard.count), context.settings
    plan = make_plan(StrategyName(task.strategy), request, items, reports, known, settings)
    together = max(plan.batch_size * plan.workers, plan.io_concurrency)
    some = GeneratedItems(min(shard.count, together))
    return estimate_seconds(replace(plan, items=some), known)


def batch_predictor(context: RunContext) -> Predict:
    """Return a function that predicts for shards of all kinds. Make it on the event loop, and call
    it in other threads.
    """
    loop = asyncio.get_running_loop()

    def predict(task: Task, shard: Shard) -> float | None:
        asked = body_of(context.bodies, task.kind).batch_seconds(context, task, shard)
        predicting = asyncio.run_coroutine_threadsafe(asked, loop)
        try:
            return predicting.result(_PATIENCE_SECONDS)
        except Exception as error:  # concerns only this task: the queue must go on
            predicting.cancel()
            text = "this node leaves a stuck shard of %s, whose batches it cannot predict: %r"
            logger.warning(text, task.task_id, error)
            return None

    return predict
