"""Recommendations: makes a ranking with reasons from a query and the calibration."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

from hotloop import kernels
from hotloop.app.database.threads import in_store_thread
from hotloop.app.names import StrategyName
from hotloop.app.prediction.accuracy import Errors, read_errors
from hotloop.app.prediction.calibrations import Calibrations
from hotloop.app.prediction.explanation import GUIDELINES, explanation, suggested_run
from hotloop.app.prediction.plan import MOST_WORKERS, check_offered, make_plan
from hotloop.app.prediction.search_space import (
    Candidate,
    Fixed,
    lower_bound_seconds,
    ranked,
    search_space,
)
from hotloop.app.runhost.calibrate.constants import Calibration
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.schemas.comparison import HostView, IntervalView
from hotloop.app.schemas.options import AUTO, RunOptions
from hotloop.app.schemas.recommendation import (
    CalibrationState,
    CalibrationView,
    ClusterCalibration,
    KernelCalibration,
    RankedChoice,
    Recommendation,
    RecommendationQuery,
    StrategyCalibration,
)
from hotloop.app.schemas.runs import RunRequest, request_model
from hotloop.app.settings.settings import Settings
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import Plan
from hotloop.app.tasks.model import utc_now
from hotloop.app.tasks.store import TaskStore
from hotloop.app.workloads.catalogue import Catalogue

MOST_IN_FLIGHT: Final = 20_000
"""The largest `io_concurrency`."""

_MANY: Final = 1_000_000
"""Items of a call that is large enough for an item's least seconds."""


@dataclass(frozen=True, slots=True)
class RecommendationService:
    """Answers at once, and starts a calibration in the background for more exact predictions."""

    settings: Settings
    catalogue: Catalogue
    calibrations: Calibrations
    store: TaskStore
    """The store with the finished runs that predictions are compared with."""
    memory_bytes: int
    """The memory that a run may need."""

    async def recommend(self, query: RecommendationQuery) -> Recommendation:
        """Rank all ways to run a request. Raises InvalidRequestError, NotReadyError, StoreError."""
        request = run_request(query)
        if query.strategy is not None:
            check_offered(query.strategy, self.settings)
        # Refuse an invalid request before measuring anything.
        reports = await self.catalogue.reports(request.workload)
        self._plan(request, reports, await self.calibrations.known())
        basis = await self._basis(query.wait, request)
        errors = await in_store_thread(read_errors, self.store)
        plan = self._plan(request, basis.reports, basis.calibration)
        return await asyncio.to_thread(
            _answer, query, request, plan, basis, errors, self.memory_bytes
        )

    async def _basis(self, wait: bool, request: RunRequest) -> Basis:
        calibrations = self.calibrations
        await calibrations.begin_if_due()
        if wait:
            await calibrations.ended()
        found = await calibrations.found()
        asked = request.workload, request.parameters
        reports = await self.catalogue.reports(*asked, exact=True)
        calibration = await calibrations.known(*asked, exact=True)
        fingerprint, facts = await calibrations.fingerprint(), await calibrations.facts()
        calibrating = calibrations.in_progress()
        calibrated_at = None if found is None else found.calibrated_at
        return Basis(calibration, fingerprint, calibrated_at, calibrating, facts, reports)

    async def calibrate(self) -> CalibrationState:
        """Begin a calibration, unless one is in progress. Raises NotReadyError."""
        await self.calibrations.fingerprint()  # waits for a run host
        self.calibrations.begin()
        return await self.calibrations.state()

    async def calibration(self) -> CalibrationState:
        """Return the state of the last calibration. Raises NotReadyError."""
        return await self.calibrations.state()

    def _plan(
        self, request: RunRequest, reports: Sequence[KernelReport], calibration: Calibration
    ) -> Plan:
        items = GeneratedItems(request.items_count)
        return make_plan(StrategyName.HYBRID, request, items, reports, calibration, self.settings)


@dataclass(frozen=True, slots=True)
class Basis:
    """The constants and facts behind a recommendation."""

    calibration: Calibration
    fingerprint: str
    calibrated_at: datetime | None
    """Time of the calibration; None for typical constants."""
    calibrating: CalibrationState | None
    facts: dict[str, Any]
    reports: Sequence[KernelReport]


def run_request(query: RecommendationQuery) -> RunRequest:
    """Return the run that the query asks about; fields that it leaves out have their defaults."""
    names = {*RunOptions.model_fields, "items_count"} & query.model_fields_set
    given = {name: getattr(query, name) for name in names}
    # The query is validated already, and a body would be validated more strictly in places.
    return request_model(RunRequest, query.workload).model_construct(
        _fields_set=set(names),
        **{
            name: field.get_default(call_default_factory=True)
            for name, field in RunRequest.model_fields.items()
        }
        | given
        | {"parameters": query.parameters},
    )


def _fixed(query: RecommendationQuery, plan: Plan, calibration: Calibration) -> Fixed:
    given = query.model_fields_set
    names = [each.kernel for each in calibration.kernels if each.workload == plan.workload]
    if "kernel" in given and query.kernel != AUTO:
        names = [plan.kernel]
    return Fixed(
        kernels=names,
        strategy=query.strategy,
        workers=query.workers if "workers" in given else None,
        batch_size=None if query.batch_size == AUTO else query.batch_size,
        io_concurrency=query.io_concurrency if "io_concurrency" in given else None,
        query_batch_size=(
            query.query_batch_size if any(stage.batched for stage in plan.stages) else 1
        ),
    )


def _answer(
    query: RecommendationQuery,
    request: RunRequest,
    plan: Plan,
    basis: Basis,
    errors: Errors,
    memory_bytes: int,
) -> Recommendation:
    calibration, calibrated = basis.calibration, basis.calibrated_at is not None
    fixed = _fixed(query, plan, calibration)
    found = ranked(search_space(plan, fixed, calibration), calibration, memory_bytes)
    interval_around = partial(
        errors.interval,
        calibrated=calibrated,
        sampled=kernels.get_workload(plan.workload).depends_on_data,
    )
    shown = [
        _view(rank, each, interval_around(each.prediction.seconds))
        for rank, each in enumerate(found[: query.limit], 1)
    ]
    in_flight = max(fixed.io_concurrency or MOST_IN_FLIGHT, MOST_WORKERS * fixed.query_batch_size)
    bound = min(
        lower_bound_seconds(one.plan, calibration, in_flight)
        for one in {(each.plan.strategy, each.plan.kernel): each for each in found}.values()
    )
    interval = shown[0].interval_seconds
    return Recommendation(
        items_count=request.items_count,
        workload=request.workload,
        recommended=shown[0],
        explanation=explanation(found, interval.low, interval.high, bound, calibrated),
        lower_bound_seconds=bound,
        suggested=suggested_run(request, found[0]),
        ranked=shown,
        considered=len(found),
        calibrated=calibrated,
        calibrating=basis.calibrating,
        calibration=_calibration_view(basis, request),
        prediction_error=errors.view(),
        guidelines=list(GUIDELINES),
    )


def _view(rank: int, candidate: Candidate, interval: IntervalView) -> RankedChoice:
    plan, prediction = candidate.plan, candidate.prediction
    return RankedChoice(
        rank=rank,
        strategy=plan.strategy,
        kernel=plan.kernel,
        workers=plan.workers,
        batch_size=plan.batch_size,
        io_concurrency=plan.io_concurrency,
        predicted_seconds=prediction.seconds,
        interval_seconds=interval,
        setup_seconds=prediction.setup_seconds,
        memory_bytes=prediction.memory_bytes,
        limited_by=prediction.limited_by,
    )


def _calibration_view(basis: Basis, request: RunRequest) -> CalibrationView:
    calibration, made = basis.calibration, basis.calibrated_at
    return CalibrationView(
        calibrated_at=made,
        age_seconds=None if made is None else max(0.0, (utc_now() - made).total_seconds()),
        duration_seconds=None if made is None else calibration.seconds,
        fingerprint=basis.fingerprint,
        host=HostView(**basis.facts),
        kernels=[_kernel_view(report, calibration, request) for report in basis.reports],
        strategies=[
            StrategyCalibration(
                strategy=StrategyName(name),
                start_seconds=costs.start_seconds,
                batch_seconds=costs.full_batch_seconds,
                empty_batch_seconds=costs.empty_batch_seconds,
                item_seconds=costs.item_seconds,
                setup_seconds=costs.setup_seconds,
                worker_memory_bytes=costs.worker_bytes,
            )
            for name, costs in calibration.strategies.items()
        ],
        clusters=[
            ClusterCalibration(
                strategy=StrategyName(name),
                workers=costs.workers,
                setup_seconds=costs.setup_seconds,
                start_seconds=costs.start_seconds,
                parcel_seconds=costs.parcel_seconds,
                item_seconds=costs.item_seconds,
                byte_seconds=costs.byte_seconds,
                slowdown=costs.slowdown,
            )
            for name, costs in calibration.clusters.items()
        ],
    )


def _kernel_view(
    report: KernelReport, calibration: Calibration, request: RunRequest
) -> KernelCalibration:
    seconds_per_call = seconds_per_item = speedup = None
    key = report.workload, report.kernel
    costs = next(
        (each for each in calibration.kernels if (each.workload, each.kernel) == key), None
    )
    # A user's code may have changed since it was reported.
    if report.available and costs is not None:
        asked = request.parameters if report.workload == request.workload else None
        operations = kernels.get_workload(report.workload).operations(asked)
        seconds_per_call = costs.call_seconds
        seconds_per_item = (costs.seconds_of_call(operations, _MANY) - seconds_per_call) / _MANY
        # Measured in threads, or in processes for a kernel that holds the GIL.
        slowdown = costs.thread_slowdown if costs.releases_gil else costs.process_slowdown
        speedup = calibration.usable_cpus / slowdown
    return KernelCalibration(
        workload=report.workload,
        kernel=report.kernel,
        available=report.available,
        seconds_per_call=seconds_per_call,
        seconds_per_item=seconds_per_item,
        parallel_speedup=speedup,
    )
