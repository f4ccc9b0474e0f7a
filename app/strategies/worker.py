"""The execution of a batch in a worker: threads and processes run the same functions.

This module imports kernels and sources only, so that a worker process starts quickly.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from hotloop import kernels
from hotloop.app.errors import internal_text
from hotloop.app.logs.formatting import ALIKE
from hotloop.app.logs.origin import bound
from hotloop.app.sources.base import Batch, Columns, ItemBatch, ItemFetchError, Positions, Stage
from hotloop.app.sources.breaker_reports import breaker_reports
from hotloop.app.strategies import own_code
from hotloop.app.strategies.base import BatchResult, Plan, Steps, steps_of
from hotloop.app.strategies.checksum import rows_checksum
from hotloop.kernels.errors import InvalidInputError
from hotloop.kernels.guarded import run_in_parts
from hotloop.kernels.kernel import Kernel

logger = logging.getLogger(__name__)

_FRAMES: Final = 4
"""Lines of a fault's traceback that are logged."""

KERNEL: Final = "kernel"
"""The stage in which an item fails for which a user's function raises."""

NEVER_STOPPED: Final = threading.Event()
"""The stop event of worker processes, which are killed instead."""


class RunStoppedError(Exception):
    """The run was cancelled while this batch was in work; its result is not wanted."""


def run_batch(
    plan: Plan,
    batch: Batch,
    stop: threading.Event = NEVER_STOPPED,
    steps: Steps | None = None,
) -> BatchResult:
    """Load, fetch and compute one batch, blocking: I/O group after group, then the kernel. `steps`
    counts its steps; without it, the counter of this process does.

    Raises RunStoppedError when `stop` was set before the kernel was called.
    """
    with bound(plan.origin):
        return _run_batch(plan, batch, stop, steps or steps_of(batch))


def _run_batch(plan: Plan, batch: Batch, stop: threading.Event, steps: Steps) -> BatchResult:
    own_code.enter(plan)
    inputs = plan.items.load(plan.workload, batch.start, batch.count)
    started = time.perf_counter()
    if plan.stages:
        for positions in groups(batch.count, plan.group_size):
            fetch_group(plan.stages, inputs, positions, stop, steps)
    io_seconds = time.perf_counter() - started if plan.stages else 0.0
    if stop.is_set():
        raise RunStoppedError
    return _compute_batch(plan, batch, inputs, io_seconds, steps)


def run_batch_item_by_item(
    plan: Plan, batch: Batch, stop: threading.Event, steps: Steps
) -> BatchResult:
    """Do what `run_batch` does, but compute every item right after its own I/O."""
    with bound(plan.origin):
        return _run_item_by_item(plan, batch, stop, steps)


def _run_item_by_item(plan: Plan, batch: Batch, stop: threading.Event, steps: Steps) -> BatchResult:
    if not plan.stages:
        return _run_batch(plan, batch, stop, steps)
    inputs = plan.items.load(plan.workload, batch.start, batch.count)
    kernel = kernels.get_kernel(plan.workload, plan.kernel)
    outputs = _empty_outputs(plan, batch.count)
    io_seconds = 0.0
    for position in range(batch.count):
        started = time.perf_counter()
        fetch_group(plan.stages, inputs, range(position, position + 1), stop, steps)
        io_seconds += time.perf_counter() - started
        if stop.is_set():
            raise RunStoppedError
        if position not in inputs.failed:
            one = slice(position, position + 1)
            reasons = _call(
                plan,
                kernel,
                {name: column[one] for name, column in inputs.columns.items()},
                {name: column[one] for name, column in outputs.items()},
            )
            for reason in reasons.values():
                inputs.fail(position, KERNEL, reason)
        steps.count += 1
    return _result(batch, inputs, outputs, io_seconds)


def groups(count: int, size: int) -> Iterator[range]:
    """Yield the positions of a batch of `count` items in groups of at most `size`."""
    for start in range(0, count, size):
        yield range(start, min(start + size, count))


def fetcher_count(plan: Plan, count: int) -> int:
    """Return the number of groups of `count` items that may be in flight at once: at most
    io_concurrency items, and at least one group.
    """
    return max(1, min(plan.io_concurrency // plan.group_size, -(-count // plan.group_size)))


def fetch_group(
    stages: tuple[Stage, ...],
    inputs: ItemBatch,
    positions: Positions,
    stop: threading.Event,
    steps: Steps,
) -> None:
    """Pass the items of a group that still wait through the stages, in order."""
    count = len(positions)
    for stage in stages:
        if positions := inputs.waiting(positions):
            try:
                stage.fetch(inputs, positions, stop)
            except Exception as error:
                _fail_all(stage, inputs, positions, error)
        if stop.is_set():
            return
        steps.count += count


async def fetch_group_async(
    stages: tuple[Stage, ...], inputs: ItemBatch, positions: Positions, steps: Steps
) -> None:
    """Do the same as `fetch_group` on an event loop."""
    count = len(positions)
    for stage in stages:
        if positions := inputs.waiting(positions):
            try:
                await stage.fetch_async(inputs, positions)
            except Exception as error:
                _fail_all(stage, inputs, positions, error)
        steps.count += count


def _fail_all(stage: Stage, inputs: ItemBatch, positions: Positions, error: Exception) -> None:
    reason = failure_text(error)
    if not isinstance(error, ItemFetchError):
        # The place without the message, because a custom source's message may contain items' data.
        logger.warning(
            "stage %s (%s) failed for %d items by a fault: %s at %s",
            stage.name,
            stage.source,
            len(positions),
            type(error).__name__,
            _place(error),
            extra={ALIKE: (stage.name, type(error), _place(error))},
        )
        logger.debug("the fault in full", exc_info=error)
    for position in positions:
        inputs.fail(position, stage.name, reason)


def _place(error: Exception) -> str:
    """Return the lines that led to an error, the innermost first."""
    frames = reversed(traceback.extract_tb(error.__traceback__)[-_FRAMES:])
    return " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames)


def failure_text(error: Exception) -> str:
    return str(error) if isinstance(error, ItemFetchError) else internal_text(error)


def compute_batch(
    plan: Plan, batch: Batch, inputs: ItemBatch, io_seconds: float, steps: Steps | None = None
) -> BatchResult:
    """Call the kernel for all items of the batch whose inputs could be fetched."""
    with bound(plan.origin):
        own_code.enter(plan)
        return _compute_batch(plan, batch, inputs, io_seconds, steps or steps_of(batch))


def _compute_batch(
    plan: Plan, batch: Batch, inputs: ItemBatch, io_seconds: float, steps: Steps
) -> BatchResult:
    if not inputs.failed:
        outputs, reasons = compute_items(plan, inputs.columns, batch.count, steps)
        positions: Positions = range(batch.count)
    else:
        outputs = _empty_outputs(plan, batch.count)
        good = ~_failed_mask(inputs)
        columns = {name: column[good] for name, column in inputs.columns.items()}
        steps.count += len(inputs.failed)
        computed, reasons = compute_items(plan, columns, batch.count - len(inputs.failed), steps)
        for name, column in computed.items():
            outputs[name][good] = column
        positions = np.flatnonzero(good).tolist() if reasons else ()
    for position, reason in reasons.items():
        inputs.fail(positions[position], KERNEL, reason)
    return _result(batch, inputs, outputs, io_seconds)


def compute_items(
    plan: Plan, columns: Columns, count: int, steps: Steps
) -> tuple[Columns, Mapping[int, str]]:
    """Make one kernel call, or several for slices of the items where one would take long. Return
    the outputs, and the reasons of items that failed, by position. The plan's code is imported.
    """
    kernel = kernels.get_kernel(plan.workload, plan.kernel)
    size = plan.slice_items
    reasons: dict[int, str] = {}
    if size is None or count < 2 * size:
        try:
            outputs = kernel.run(columns, plan.parameters)
        except BaseException as fault:
            outputs = _empty_outputs(plan, count)
            reasons = _call_in_parts(plan, kernel, columns, outputs, fault)
        steps.count += count
        return outputs, reasons
    outputs = _empty_outputs(plan, count)
    for start in range(0, count, size):
        part = slice(start, min(start + size, count))
        found = _call(
            plan,
            kernel,
            {name: column[part] for name, column in columns.items()},
            {name: column[part] for name, column in outputs.items()},
        )
        reasons |= {start + position: reason for position, reason in found.items()}
        steps.count += part.stop - part.start
    return outputs, reasons


def _call(plan: Plan, kernel: Kernel, columns: Columns, out: Columns) -> dict[int, str]:
    """Fill `out`, and return the reasons of items that failed, by position."""
    try:
        kernel.run(columns, plan.parameters, out=out)
    except BaseException as fault:
        return _call_in_parts(plan, kernel, columns, out, fault)
    return {}


def _call_in_parts(
    plan: Plan, kernel: Kernel, columns: Columns, out: Columns, fault: BaseException
) -> dict[int, str]:
    """Do what `_call` does, after a user's kernel has raised `fault` for some item. Raise a fault
    of which no item is the cause.
    """
    if plan.source is None or isinstance(fault, InvalidInputError | MemoryError):
        raise fault
    function = kernels.user_function(plan.workload)
    explain = None if function is None else function.explain
    reasons = run_in_parts(kernel, columns, plan.parameters, out, explain)
    if reasons:
        logger.warning(
            "kernel %s of %s failed for %d items of a batch: %s",
            plan.kernel,
            plan.workload,
            len(reasons),
            type(fault).__name__,
            extra={ALIKE: (plan.workload, plan.kernel, type(fault))},
        )
    return reasons


def _result(batch: Batch, inputs: ItemBatch, outputs: Columns, io_seconds: float) -> BatchResult:
    logger.debug(
        "batch %d is computed: %d items, %d of them failed",
        batch.index,
        batch.count,
        len(inputs.failed),
    )
    failed = _failed_mask(inputs)
    if inputs.failed:
        good = ~failed
        checksum = rows_checksum(
            inputs.item_ids[good], {name: column[good] for name, column in outputs.items()}
        )
    else:
        checksum = rows_checksum(inputs.item_ids, outputs)
    return BatchResult(
        batch=batch,
        item_ids=inputs.item_ids,
        columns=outputs,
        failed=failed,
        errors=tuple(inputs.failed[position] for position in sorted(inputs.failed)),
        checksum=checksum,
        io_seconds=io_seconds,
        counts=inputs.counts,
        breakers=breaker_reports(),
        begun_ns=inputs.begun_ns,
        ended_ns=time.time_ns(),
        pid=os.getpid(),
    )


def _failed_mask(inputs: ItemBatch) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    failed = np.zeros(len(inputs.item_ids), dtype=np.bool_)
    failed[list(inputs.failed)] = True
    return failed


def _empty_outputs(plan: Plan, count: int) -> Columns:
    workload = kernels.get_workload(plan.workload)
    return {column.name: np.zeros(count, dtype=column.dtype) for column in workload.columns_out}
