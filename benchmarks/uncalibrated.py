"""Predictions that would have been made for runs before the machine was calibrated."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hotloop.app.names import StrategyName
from hotloop.app.prediction.machine import reported_calibration
from hotloop.app.prediction.model import predict
from hotloop.app.prediction.plan import make_plan
from hotloop.app.runhost.calibrate.constants import Calibration
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.schemas.runs import RunRequest
from hotloop.app.settings.settings import Settings
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.system import usable_cpu_count
from hotloop.app.wiring import PROCESSES_PER_CPU


class Typical:
    """The cost model with typical constants, at the pace of the kernels that a service reports."""

    def __init__(self, kernels: Sequence[Mapping[str, Any]]) -> None:
        """`kernels` are those of `GET /api/v1/tasks/kernels`."""
        self._settings = Settings()
        self._reports = [
            KernelReport(
                workload=each["workload"],
                kernel=each["kernel"],
                available=each["available"],
                reason=each["reason"],
                releases_gil=each["releases_gil"],
                instruction_set=each["instruction_set"],
                warm_up_seconds=each["warm_up_seconds"],
                ns_per_operation=each["ns_per_operation"],
            )
            for each in kernels
        ]
        self._calibration = self._made()

    def _made(self) -> Calibration:
        cpus = usable_cpu_count()
        processes = self._settings.max_worker_processes or PROCESSES_PER_CPU * cpus
        return reported_calibration(
            self._reports, cpus, self._settings.max_worker_threads, processes
        )

    def seconds(self, strategy: str, body: Mapping[str, Any]) -> float:
        """The prediction for the body of a run."""
        request = RunRequest.model_validate_json(json.dumps(body))
        items = GeneratedItems(request.items_count)
        plan = make_plan(
            StrategyName(strategy),
            request,
            items,
            self._reports,
            self._calibration,
            self._settings,
        )
        return predict(plan, self._calibration).seconds
