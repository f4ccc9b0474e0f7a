"""A service that answers with comparisons and recommendations which nobody measured.

What the page makes of an answer is tested with it: of a mismatch, a skipped cell, a tie.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI, Request

from hotloop.app.comparison.cautions import cautions
from hotloop.app.errors import ServiceError
from hotloop.app.factory import create_app
from hotloop.app.http.answers import TASKS
from hotloop.app.http.routes.queries import RecommendationQueryDep
from hotloop.app.schemas.comparison import Cell, CellFlag, CellStatus, CompareRequest, Comparison
from hotloop.app.schemas.recommendation import Recommendation
from hotloop.app.settings.settings import Settings
from tests.fixtures.fake_services import START, TASK_ID, FakeServices, task_view
from tests.fixtures.waiting import wait_until

KERNELS = ("python", "cython", "numba")
STRATEGIES = ("sequential", "hybrid", "background")
SECONDS = {
    ("sequential", "python"): 75.3,
    ("sequential", "cython"): 1.29,
    ("sequential", "numba"): 1.28,
    ("hybrid", "python"): 36.8,
    ("hybrid", "cython"): 0.77,
    ("hybrid", "numba"): 0.78,
    ("background", "cython"): 0.98,
    ("background", "numba"): 1.02,
}
"""Seconds of each cell; cells that are missing here are skipped."""

LINKS = {"status": "/s", "results": "/r", "cancel": "/c", "resume": "/t", "events": "/e"}


def cell(strategy: str, kernel: str) -> Cell:
    median = SECONDS.get((strategy, kernel))
    is_projected = median is not None and median > 30
    status = CellStatus.PROJECTED if is_projected else CellStatus.MEASURED
    reason = "a round of 500 items, extrapolated" if is_projected else None
    if median is None:
        status, reason = CellStatus.SKIPPED, "would take more than its share of the budget"
    measured: dict[str, Any] = dict.fromkeys(
        ("spread", "efficiency", "throttled_seconds", "event_loop_lag_p99_ms"), None
    )
    if median is not None:
        measured |= {"spread": 0.02, "efficiency": 0.83, "event_loop_lag_p99_ms": 0.4}
    return Cell.model_validate(
        measured
        | {
            "strategy": strategy,
            "kernel": kernel,
            "status": status,
            "reason": reason,
            "median_seconds": median,
            "interval_seconds": median and {"low": 0.97 * median, "high": 1.04 * median},
            "seconds": [] if median is None else [0.97 * median, median, 1.04 * median],
            "rounds": 0 if median is None else 3,
            "batch_size": 625,
            "measured_items": 0 if median is None else 500 if is_projected else 50_000,
            "speedup": median and 75.3 / median,
            "throughput_items_per_second": median and 50_000 / median,
            "effective_workers": median and 2,
            "cpu_utilization": median and 0.97,
            "peak_memory_bytes": median and 236_000_000,
            "setup_seconds": median and 0.21,
            "checksum": None if median is None else "9f86d081884c7d65",
            "failed_items": 0,
            "flags": [CellFlag.WIDE_SPREAD] if (strategy, kernel) == ("hybrid", "numba") else [],
        }
    )


def comparison(**changes: Any) -> Comparison:
    hybrid = {"strategy": "hybrid", "kernel": "cython"}
    values: dict[str, Any] = {
        "task_id": TASK_ID,
        "task_type": "background",
        "status": "completed",
        "workload": "loops",
        "kernel": "cython",
        "items_count": 50_000,
        "workers": 2,
        "batch_size": "auto",
        "io_concurrency": 1_000,
        "rounds": 3,
        "budget_seconds": 120.0,
        "setup_budget_seconds": 60.0,
        "setup_seconds": 1.9,
        "exact": False,
        "start_time": START,
        "end_time": START,
        "duration_seconds": 58.4,
        "error_message": None,
        "sequential_time": 1.29,
        "threading_time": None,
        "multiprocessing_time": None,
        "batch_async_time": None,
        "concurrent_futures_time": None,
        "hybrid_time": 0.77,
        "background_time": 0.98,
        "best_approach": "hybrid",
        "improvement_factor": 1.68,
        "cells": [cell(strategy, kernel) for strategy in STRATEGIES for kernel in KERNELS],
        "winner": None,
        "tied": [hybrid, hybrid | {"kernel": "numba"}],
        "verdict": "hybrid × cython and hybrid × numba cannot be told apart: their intervals meet.",
        "outputs_equal": True,
        "compared_cells": 8,
        "mismatches": [],
        "host": {
            "python": "3.11.7",
            "gil": "on",
            "system": "Linux 6.18 x86_64",
            "cpu": "AMD EPYC",
            "cpus": 2,
            "usable_cpus": 2,
            "memory_bytes": 8_000_000_000,
            "load_before": 0.2,
            "load_after": 1.7,
            "throttled_seconds": None,
            "instruction_sets": {"python": None, "cython": "avx2+fma"},
            "versions": {"numpy": "2.4.6", "numba": "0.68.1"},
        },
        "curl": "curl -s localhost:8001/api/v1/tasks/hybrid -d '{}'",
        "links": LINKS,
    }
    found = Comparison.model_validate(values | changes)
    return found.model_copy(update={"cautions": cautions(found.cells)})


def calibration_state(status: str, progress: float, **changes: Any) -> dict[str, Any]:
    """The state of a calibration."""
    left = 4.0 if status == "running" else None
    state = {"status": status, "progress": progress, "estimated_remaining_seconds": left}
    times = {"started_at": START.isoformat(), "ended_at": None, "error_message": None}
    return times | state | changes


def recommendation() -> Recommendation:
    ranked = [
        {
            "rank": rank,
            "strategy": strategy,
            "kernel": "numba",
            "workers": 2,
            "batch_size": 5_000,
            "io_concurrency": 1_000,
            "predicted_seconds": predicted,
            "interval_seconds": {"low": 0.9 * predicted, "high": 1.2 * predicted},
            "setup_seconds": 0.1,
            "memory_bytes": 240_000_000,
            "limited_by": "cpu",
        }
        for rank, (strategy, predicted) in enumerate([("hybrid", 0.77), ("threading", 0.81)], 1)
    ]
    return Recommendation.model_validate(
        {
            "items_count": 50_000,
            "workload": "loops",
            "recommended": ranked[0],
            "explanation": "hybrid waits and computes at the same time; the CPUs limit it.",
            "lower_bound_seconds": 0.7,
            "curl": "curl -s localhost:8001/api/v1/tasks/hybrid -d '{}'",
            "ranked": ranked,
            "considered": 312,
            "calibrated": True,
            "calibrating": None,
            "calibration": {
                "calibrated_at": START,
                "age_seconds": 240.0,
                "duration_seconds": 3.1,
                "fingerprint": "f00d",
                "host": comparison().host,
                "kernels": [],
                "strategies": [],
            },
            "prediction_error": {
                "runs": 1,
                "median_ratio": 0.96,
                "within_25_percent": 1.0,
                "last": [
                    {
                        "task_id": TASK_ID,
                        "strategy": "hybrid",
                        "kernel": "numba",
                        "predicted_seconds": 0.77,
                        "measured_seconds": 0.8,
                        "ratio": 0.96,
                    }
                ],
            },
            "guidelines": [{"work": "I/O-heavy", "advice": "Have many items in flight."}],
        }
    )


class Stub:
    """A service whose answers can be changed; `asked` has the requests that came."""

    def __init__(self) -> None:
        self.comparison = comparison()
        self.calibrated = True
        self.ranked_backwards = False
        self.calibration = calibration_state("none", 0.0)
        self.asked: list[tuple[str, Any]] = []
        self.errors: list[ServiceError] = []
        """The problem that refuses the next recommendations."""
        self.services = FakeServices()
        self.app = create_app(Settings(), self.services.open)
        self._add_routes(self.app)

    def _add_routes(self, app: FastAPI) -> None:
        # The description has the routes of the service, which these stand before.
        router = APIRouter(prefix=TASKS, include_in_schema=False)

        @router.post("/compare", status_code=202)
        async def compare(request: Request) -> dict[str, Any]:
            body = CompareRequest.model_validate_json(await request.body())
            self.asked.append(("compare", body.model_dump(mode="json", exclude_unset=True)))
            return self.task()

        @router.get("/recommendations")
        async def recommend(query: RecommendationQueryDep) -> dict[str, Any]:
            options = query.model_dump(mode="json", exclude_unset=True, exclude={"parameters"})
            self.asked.append(("recommend", options | query.changed_parameters))
            if self.errors:
                raise self.errors.pop()
            is_running = self.calibration["status"] == "running"
            calibrating = self.calibration if is_running else None
            standing = {"calibrated": self.calibrated, "calibrating": calibrating}
            answer = recommendation().model_dump(mode="json") | standing
            if self.ranked_backwards:
                answer["ranked"].reverse()
            return answer

        @router.post("/calibration", status_code=202)
        async def calibrate() -> dict[str, Any]:
            self.asked.append(("calibrate", None))
            self.calibration = calibration_state("running", 0.0)
            return self.calibration

        @router.get("/calibration")
        async def calibration() -> dict[str, Any]:
            return self.calibration

        @router.get(f"/status/{TASK_ID}")
        async def status() -> dict[str, Any]:
            return self.task()

        app.include_router(router)
        # Before those of the service.
        app.router.routes.insert(0, app.router.routes.pop())
        model = CompareRequest.model_json_schema(ref_template="#/components/schemas/{model}")
        app.openapi()["components"]["schemas"] |= {**model.pop("$defs"), "CompareRequest": model}

    def task(self) -> dict[str, Any]:
        view = task_view().model_dump(mode="json")
        shown = self.comparison.model_dump(mode="json")
        changes = {"kind": "comparison", "strategy": None, "kernel": None, "result": None}
        ended = {"status": shown["status"], "error_message": shown["error_message"]}
        return view | changes | ended | {"comparison": shown}


@contextmanager
def running_stub() -> Iterator[tuple[Stub, str]]:
    """The stub, and where it listens."""
    stub = Stub()
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(stub.app, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        wait_until(lambda: server.started, "the stub listens")
        yield stub, f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
