"""Small calls inside a run host: the items of several requests, computed by one kernel call.

A run host for calls does nothing else, in one thread and without an event loop: the way of a call
to its kernel and back takes a fraction of a millisecond.
"""

from __future__ import annotations

import socket
import time

import numpy as np

from hotloop import kernels
from hotloop.app.errors import OutOfMemoryError, ServiceError, WorkloadUnusableError
from hotloop.app.frames import receive_frame, send_frame
from hotloop.app.runhost.config import RunHostConfig
from hotloop.app.runhost.messages import CallCommand, Called, Ready
from hotloop.app.runhost.warming import tune_interpreter, warm_up_kernels
from hotloop.app.sources.base import ItemError
from hotloop.app.strategies import own_code
from hotloop.app.strategies.base import Plan, StepCount
from hotloop.app.strategies.checksum import rows_checksums
from hotloop.app.strategies.worker import KERNEL, compute_items
from hotloop.app.strategies.worker_process import choose_instruction_set


def serve_calls(connection: socket.socket, config: RunHostConfig, pid: int, started: float) -> None:
    """Warm up, report that, and compute calls until the other end closes. `started` is as for
    `RunHost.serve`. Blocks; an unexpected error is raised, and ends the run host.
    """
    choose_instruction_set(config.instruction_set)
    reports = warm_up_kernels()
    tune_interpreter()
    plans: dict[int, Plan] = {}
    try:
        with connection.makefile("rb") as reader:
            send_frame(connection, Ready(pid, time.perf_counter() - started, reports))
            while True:
                command: CallCommand = receive_frame(reader)
                if command.plan is not None:
                    plans[command.kind] = command.plan
                send_frame(connection, compute_calls(command, plans[command.kind]))
    except (EOFError, ConnectionError):
        return


def compute_calls(command: CallCommand, plan: Plan) -> Called:
    """Compute the items of some calls. Blocks: for longer when the kernel has to be imported and
    compiled first. The answer has the error, if there is one that is not a single item's.
    """
    ids = command.item_ids
    try:
        own_code.enter(plan)
        own_code.warm_up(plan)
        started = time.perf_counter()
        columns, reasons = compute_items(plan, command.columns, len(ids), StepCount())
    except ServiceError as error:
        return Called({}, {}, (), 0.0, error)
    except (kernels.KernelsError, MemoryError) as raised:
        return Called({}, {}, (), 0.0, user_error(plan, raised))
    seconds = time.perf_counter() - started
    failed = {p: ItemError(ids[p].item(), KERNEL, reason) for p, reason in reasons.items()}
    is_failed = np.zeros(len(ids), dtype=np.bool_)
    is_failed[list(failed)] = True
    checksums = rows_checksums(ids, columns, is_failed, command.counts)
    return Called(columns, failed, tuple(checksums), seconds)


def user_error(plan: Plan, raised: kernels.KernelsError | MemoryError) -> ServiceError:
    """Return the error of a run, or a call, in which a user's code has raised this for a whole
    batch. Raises a fault of a built-in workload unchanged.
    """
    if plan.source is None:
        raise raised
    if isinstance(raised, MemoryError):
        return OutOfMemoryError(plan.workload, plan.memory_bytes)
    return WorkloadUnusableError(plan.workload, str(raised))
