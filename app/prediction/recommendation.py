"""Recommendations: from what was asked and the calibration to a ranking with its reasons."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from hotloop import kernels
from hotloop.app.names import StrategyName
from hotloop.app.prediction.accuracy import Errors, read_errors
from hotloop.app.prediction.calibrations import Calibrations
from hotloop.app.prediction.explanation import GUIDELINES, curl, explanation
from hotloop.app.prediction.lower_bound import lower_bound_seconds
from hotloop.app.prediction.plans import make_plan
from hotloop.app.prediction.search_space import MOST_WORKERS, Choice, Fixed, candidates, ranked
from hotloop.app.runhost.calibrate.constants import Calibration, KernelCosts
from hotloop.app.runhost.host_pool import RunHostPool
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.schemas.calibration import CalibrationState
from hotloop.app.schemas.comparison import HostView, IntervalView
from hotloop.app.schemas.options import AUTO, RunOptions
from hotloop.app.schemas.recommendation import (
    CalibrationView,
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
from hotloop.app.tasks.threads import in_store_thread

MOST_IN_FLIGHT: Final = 20_000
"""The bound of `io_concurrency`."""

_MANY: Final = 1_000_000
"""Items of a call that shows what one costs at its cheapest."""


class RecommendationService:
    """Predicts at once; the calibration that makes it exact is made behind the answers."""

    def __init__(
        self,
        settings: Settings,
        hosts: RunHostPool,
        calibrations: Calibrations,
        store: TaskStore,
        memory_bytes: int,
    ) -> None:
        """A run may need `memory_bytes`; `store` has the finished runs that predictions are held
        against.
        """
        self._settings = settings
        self._hosts = hosts
        self._calibrations = calibrations
        self._store = store
        self._memory_bytes = memory_bytes

    async def recommend(self, query: RecommendationQuery, base_url: str) -> Recommendation:
        """Raises InvalidRequestError, NotReadyError and StoreError."""
        request = run_request(query)
        # What cannot be met is refused before anything is measured.
        self._plan(request, await self._hosts.kernels(), await self._calibrations.known())
        basis = await self._basis(query.wait)
        facts, reports = await self._calibrations.facts()
        errors = await in_store_thread(read_errors, self._store)
        plan = self._plan(request, reports, basis.calibration)
        return await asyncio.to_thread(
            _answer,
            query,
            request,
            plan,
            basis,
            facts,
            reports,
            errors,
            base_url,
            self._memory_bytes,
        )

    async def _basis(self, wait: bool) -> Basis:
        calibrations = self._calibrations
        if await calibrations.found() is None:
            calibrations.begin_if_due()
        if wait:
            await calibrations.ended()
        found = await calibrations.found()
        return Basis(
            calibration=await calibrations.known(),
            fingerprint=await calibrations.fingerprint(),
            calibrated_at=None if found is None else found.calibrated_at,
            calibrating=calibrations.in_progress(),
        )

    async def calibrate(self) -> CalibrationState:
        """Raises NotReadyError."""
        calibrations = self._calibrations
        await self._hosts.kernels()
        calibrations.begin()
        return await calibrations.state()

    async def calibration(self) -> CalibrationState:
        """Raises NotReadyError."""
        return await self._calibrations.state()

    def _plan(
        self, request: RunRequest, reports: Sequence[KernelReport], calibration: Calibration
    ) -> Plan:
        items, settings = GeneratedItems(request.items_count), self._settings
        return make_plan(StrategyName.HYBRID, request, items, reports, calibration, settings)


@dataclass(frozen=True, slots=True)
class Basis:
    """The constants and facts that a recommendation rests on."""

    calibration: Calibration
    fingerprint: str
    calibrated_at: datetime | None
    """None for typical constants."""
    calibrating: CalibrationState | None


def run_request(query: RecommendationQuery) -> RunRequest:
    """The run that is asked about, its choices still at their defaults unless they are given."""
    names = {*RunOptions.model_fields, "items_count"} & query.model_fields_set
    given = {name: getattr(query, name) for name in names}
    # What was validated need not be validated again, and would be refused as too lax in places.
    return request_model(RunRequest, query.workload).model_construct(
        _fields_set=set(names),
        **{name: field.get_default(call_default_factory=True) for name, field in _FIELDS.items()}
        | given
        | {"parameters": query.parameters},
    )


_FIELDS: Final = RunRequest.model_fields


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
    facts: dict[str, Any],
    reports: Sequence[KernelReport],
    errors: Errors,
    base_url: str,
    memory_bytes: int,
) -> Recommendation:
    calibration, calibrated = basis.calibration, basis.calibrated_at is not None
    fixed = _fixed(query, plan, calibration)
    choices = ranked(candidates(plan, fixed, calibration), calibration, memory_bytes)
    shown = [
        _view(rank, each, errors.interval(each.prediction.seconds, calibrated=calibrated))
        for rank, each in enumerate(choices[: query.limit], 1)
    ]
    in_flight = max(fixed.io_concurrency or MOST_IN_FLIGHT, MOST_WORKERS * fixed.query_batch_size)
    bound = min(
        lower_bound_seconds(each.plan, calibration, in_flight)
        for each in {choice.plan.kernel: choice for choice in choices}.values()
    )
    interval = shown[0].interval_seconds
    return Recommendation(
        items_count=request.items_count,
        workload=request.workload,
        recommended=shown[0],
        explanation=explanation(choices, interval.low, interval.high, bound, calibrated),
        lower_bound_seconds=bound,
        curl=curl(base_url, request, choices[0]),
        ranked=shown,
        considered=len(choices),
        calibrated=calibrated,
        calibrating=basis.calibrating,
        calibration=_calibration_view(basis, facts, reports, request),
        prediction_error=errors.view(),
        guidelines=list(GUIDELINES),
    )


def _view(rank: int, choice: Choice, interval: IntervalView) -> RankedChoice:
    plan, prediction = choice.plan, choice.prediction
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


def _calibration_view(
    basis: Basis,
    facts: dict[str, Any],
    reports: Sequence[KernelReport],
    request: RunRequest,
) -> CalibrationView:
    calibration, made = basis.calibration, basis.calibrated_at
    return CalibrationView(
        calibrated_at=made,
        age_seconds=None if made is None else max(0.0, (utc_now() - made).total_seconds()),
        duration_seconds=None if made is None else calibration.seconds,
        fingerprint=basis.fingerprint,
        host=HostView(**facts),
        kernels=[_kernel_view(report, calibration, request) for report in reports],
        strategies=[
            StrategyCalibration(
                strategy=name,
                start_seconds=costs.start_seconds,
                batch_seconds=costs.full_batch_seconds,
                empty_batch_seconds=costs.empty_batch_seconds,
                item_seconds=costs.item_seconds,
                setup_seconds=costs.setup_seconds,
                worker_memory_bytes=costs.worker_bytes,
            )
            for name in StrategyName
            for costs in (calibration.strategies[name],)
        ],
    )


def _kernel_view(
    report: KernelReport, calibration: Calibration, request: RunRequest
) -> KernelCalibration:
    if not report.available:
        return KernelCalibration(
            workload=report.workload,
            kernel=report.kernel,
            available=False,
            seconds_per_call=None,
            seconds_per_item=None,
            parallel_speedup=None,
        )
    costs = calibration.kernel(report.workload, report.kernel)
    workload = kernels.get_workload(report.workload)
    asked = request.parameters if report.workload == request.workload else None
    operations = workload.operations(asked)
    many = costs.seconds_of_call(operations, _MANY) - costs.call_seconds
    return KernelCalibration(
        workload=report.workload,
        kernel=report.kernel,
        available=True,
        seconds_per_call=costs.call_seconds,
        seconds_per_item=many / _MANY,
        parallel_speedup=_speedup(costs, calibration.usable_cpus),
    )


def _speedup(costs: KernelCosts, cpus: int) -> float:
    """Of as many threads as there are CPUs, or processes for a kernel that holds the GIL."""
    return cpus / (costs.thread_slowdown if costs.releases_gil else costs.process_slowdown)
