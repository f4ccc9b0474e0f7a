"""Small calls inside a run host: the items of several requests, computed by one kernel call."""

from __future__ import annotations

import time

import numpy as np

from hotloop import kernels
from hotloop.app.errors import OutOfMemoryError, ServiceError, WorkloadUnusableError
from hotloop.app.logs.origin import bind
from hotloop.app.runhost.messages import CallCommand, Called
from hotloop.app.sources.base import Batch
from hotloop.app.strategies import own_code
from hotloop.app.strategies.base import Plan, StepCount
from hotloop.app.strategies.checksum import rows_checksums
from hotloop.app.strategies.worker import compute_batch


def compute_calls(command: CallCommand) -> Called:
    """Compute the items of some calls. Blocks: for longer when the kernel has to be imported and
    compiled first. The answer has the error, if there is one that is not a single item's.
    """
    plan, items, count = command.plan, command.items, sum(command.counts)
    bind(plan.origin)
    try:
        own_code.enter(plan)
        own_code.warm_up(plan)
        started = time.perf_counter()
        result = compute_batch(plan, Batch(0, 0, count), items, 0.0, StepCount())
    except ServiceError as error:
        return Called({}, {}, (), 0.0, error)
    except (kernels.KernelsError, MemoryError) as raised:
        return Called({}, {}, (), 0.0, user_error(plan, raised))
    seconds = time.perf_counter() - started
    checksums = rows_checksums(result.item_ids, result.columns, result.failed, command.counts)
    positions = np.flatnonzero(result.failed).tolist()
    failed = dict(zip(positions, result.errors, strict=True))
    return Called(result.columns, failed, tuple(checksums), seconds)


def user_error(plan: Plan, raised: kernels.KernelsError | MemoryError) -> ServiceError:
    """Return the error of a run, or a call, in which a user's code has raised this for a whole
    batch. Raises a fault of a built-in workload unchanged.
    """
    if plan.source is None:
        raise raised
    if isinstance(raised, MemoryError):
        return OutOfMemoryError(plan.workload, plan.memory_bytes)
    return WorkloadUnusableError(plan.workload, str(raised))
