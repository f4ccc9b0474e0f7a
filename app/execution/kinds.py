"""Kinds of small work: a kernel with its parameters, and all that its calls have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hotloop.app.database.statements import Row
from hotloop.app.execution.context import RunContext
from hotloop.app.execution.micro_batches import MOST_ITEMS, MOST_SECONDS, CallKind, Computed
from hotloop.app.execution.specs import spec_of
from hotloop.app.logs.origin import NOWHERE
from hotloop.app.names import StrategyName, TaskKind, TaskType
from hotloop.app.prediction.plan import make_plan
from hotloop.app.records import JsonObject
from hotloop.app.runhost.measurements import KEPT_ERRORS, Measurements
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.schemas.declared import ItemRow
from hotloop.app.schemas.options import KernelChoice
from hotloop.app.schemas.runs import RunRequest, request_model
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.tasks.chunks import (
    Chunk,
    ResultColumns,
    pack_all,
    result_bytes,
    result_columns,
)
from hotloop.app.tasks.model import Task, utc_now
from hotloop.app.tasks.needs import needs_of, version_needs
from hotloop.app.tasks.recording import Recorder
from hotloop.app.tasks.small import SmallKey
from hotloop.app.tasks.spec import InputKind
from hotloop.kernels import Workload

MOST_KINDS: Final = 256
"""Kinds that are kept ready."""

KIND_SECONDS: Final = 60.0
"""Seconds after which a kind is made anew, as costs may be known better by then."""

Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kernel with its parameters, ready for calls and small tasks."""

    calls: CallKind
    workload: Workload
    reports: Sequence[KernelReport]
    until: float
    template: Row
    """The values that the stored tasks of its calls share, see `Recorder`."""
    item_bytes: int
    columns: ResultColumns
    small: SmallKey
    """The key and the needs of its small tasks."""
    count: Callable[[int, int], None]
    """Function that counts a call: its items, and how many of them failed."""

    @property
    def kernel(self) -> str:
        return self.calls.plan.kernel

    def is_short(self, count: int) -> bool:
        """Return True if `count` items are computed at once, and not as a run."""
        return count <= MOST_ITEMS and self.calls.seconds(count) <= MOST_SECONDS

    def stored(
        self, item_ids: npt.NDArray[np.int64], computed: Computed
    ) -> tuple[Chunk, JsonObject]:
        """Return the results and the measurements of a call as they are stored."""
        count = len(item_ids)
        measured = Measurements(
            checksum=computed.checksum,
            errors=computed.errors[:KEPT_ERRORS],
            duration_seconds=computed.seconds,
            setup_seconds=0.0,
            effective_workers=1,
            batch_size=count,
        )
        chunk = pack_all(item_ids, computed.columns, computed.is_failed(count), self.columns)
        return chunk, measured.to_json()


class Kinds:
    """The kinds of small work that were asked for lately."""

    def __init__(self, context: RunContext, recorder: Recorder) -> None:
        self._context = context
        self._recorder = recorder
        self._made: dict[tuple[Any, ...], Kind] = {}

    def known(
        self, workload: Workload, parameters: Parameters, kernel: KernelChoice
    ) -> Kind | None:
        """Return the kind, if it was made before and holds."""
        found = self._made.get(_key(workload, parameters, kernel))
        last = self._context.hosts.last_ready
        if (
            found is None
            or found.workload is not workload
            or time.monotonic() > found.until
            or last is None
            or found.reports is not last.kernels
        ):
            return None
        return found

    async def get(self, workload: Workload, parameters: Parameters, kernel: KernelChoice) -> Kind:
        """Return the kind. Raises InvalidRequestError, NotReadyError and
        kernels.InvalidParameterError.
        """
        if (found := self.known(workload, parameters, kernel)) is not None:
            return found
        context, asked = self._context, (workload.name, parameters)
        reports = await context.catalogue.reports(*asked)
        costs_known = await context.calibrations.known(*asked)
        run = run_request(workload, parameters, kernel, items=None)
        items, settings = GeneratedItems(1), context.settings
        plan = make_plan(StrategyName.SEQUENTIAL, run, items, reports, costs_known, settings)
        plan = replace(context.memory.bounded(plan), slice_items=None, origin=NOWHERE)
        costs = costs_known.kernel(workload.name, plan.kernel)
        operations = workload.operations(plan.parameters)
        empty = costs.seconds_of_call(operations, 0)
        columns, item_bytes = result_columns(workload.name), result_bytes(workload.name)
        spec = replace(spec_of(run, InputKind.ITEMS), needs=version_needs(plan.source))
        like = Task(
            task_id="",
            task_type=TaskType.SYNCHRONOUS,
            spec=spec.to_json(),
            workload=plan.workload,
            kernel=plan.kernel,
            strategy=plan.strategy,
            total_items=0,
            created_at=utc_now(),
            owner=context.node,
            item_bytes=item_bytes,
        )
        known_needs = {"bytes": context.memory.needed(plan)} | version_needs(plan.source)
        needed = needs_of(
            TaskKind.RUN,
            plan.workload,
            plan.kernel,
            plan.strategy,
            replace(spec, needs=known_needs).to_json(),
        )
        made = Kind(
            calls=CallKind(plan, empty, costs.seconds_of_call(operations, 1) - empty),
            workload=workload,
            reports=await context.hosts.kernels(),
            until=time.monotonic() + KIND_SECONDS,
            template=self._recorder.template(like, columns),
            item_bytes=item_bytes,
            columns=columns,
            small=SmallKey.of(plan.workload, plan.kernel, plan.parameters, needed, known_needs),
            count=context.metrics.calls_of(workload.name, plan.kernel),
        )
        while len(self._made) >= MOST_KINDS:
            del self._made[next(iter(self._made))]
        self._made[_key(workload, parameters, kernel)] = made
        return made


def run_request(
    workload: Workload,
    parameters: Parameters,
    kernel: KernelChoice,
    items: Sequence[ItemRow] | None,
) -> RunRequest:
    """Return the request of a run that does the same as a call, with one worker."""
    # Constructed, because everything has been checked.
    return request_model(RunRequest, workload.name).model_construct(
        {"workload", "parameters", "kernel", "items", "workers", "db", "cache"},
        workload=workload.name,
        parameters=parameters,
        kernel=kernel,
        items=items,
        workers=1,
        db="none",
        cache="none",
    )


def _key(workload: Workload, parameters: Parameters, kernel: KernelChoice) -> tuple[Any, ...]:
    return (workload.name, kernel, *sorted(parameters.items()))
