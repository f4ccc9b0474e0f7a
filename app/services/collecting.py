"""What comes out of a run: its results, counts and measurements, into the store."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any, Final

from app.errors import ServiceError
from app.runhost.messages import Batches, RunReport, RunStarted
from app.services.active_run import ActiveRun
from app.services.loop_lag import LagSummary
from app.services.sources import SourceMonitor
from app.sources.base import StageCounts
from app.strategies.checksum import MODULUS, checksum_text
from app.tasks.chunks import pack, result_columns
from app.tasks.store import TaskStore

KEPT_ERRORS: Final = 100
KEPT_RESULTS: Final = 5


class RunCollector:
    """Takes a run's events. `add` blocks on the store: it is called in a thread, once at a time."""

    def __init__(self, active: ActiveRun, store: TaskStore, sources: SourceMonitor) -> None:
        plan = active.plan
        self.report: RunReport | None = None
        self._stages = {stage.name: stage.source for stage in plan.stages}
        self._counts = {stage.name: StageCounts() for stage in plan.stages}
        self._sources = sources
        self._active = active
        self._columns = result_columns(plan.workload)
        self._store = store
        self._setup: RunStarted | None = None
        self._started = time.perf_counter()
        self._checksum = 0
        self._io_seconds = 0.0
        self._errors: list[dict[str, Any]] = []

    def start(self, event: RunStarted) -> None:
        self._setup = event
        self._started = time.perf_counter()

    def add(self, event: Batches) -> None:
        """Store the results and the progress, at once. Raises StoreError, and TaskConflictError
        when another execution of the task has begun; then nothing has changed.
        """
        active = self._active
        processed = active.items_processed + sum(r.batch.count for r in event.results)
        failed = active.failed_items + sum(len(r.errors) for r in event.results)
        chunks = pack(event.results, self._columns)
        self._store.add_results(active.task_id, active.attempt, chunks, processed, failed)
        active.items_processed, active.failed_items = processed, failed
        active.seconds = time.perf_counter() - self._started
        for result in event.results:
            self._checksum = (self._checksum + result.checksum) % MODULUS
            self._io_seconds += result.io_seconds
            room = KEPT_ERRORS - len(self._errors)
            self._errors.extend(asdict(error) for error in result.errors[:room])
            for name, counts in result.counts.items():
                self._counts[name].add(counts)
                self._sources.count(self._stages[name], counts)

    def measurements(self, lag: LagSummary | None) -> dict[str, Any]:
        """Everything of a run's result that only the run knows, as JSON. Of a run whose run host
        died, what the API process saw of it. Reads the first rows from the store.
        """
        reader = self._store.results(self._active.task_id)
        results = [] if reader is None else reader.head(KEPT_RESULTS)
        measured: dict[str, Any] = {
            "setup_seconds": self._setup.setup_seconds if self._setup else None,
            "effective_workers": self._setup.effective_workers if self._setup else None,
            "duration_seconds": time.perf_counter() - self._started if self._setup else None,
            "io_seconds": self._io_seconds,
            "cpu_seconds": None,
            "cpu_utilization": None,
            "peak_memory_bytes": None,
        }
        if self.report is not None:
            measured |= {name: getattr(self.report, name) for name in measured}
        return measured | {
            "results": results,
            "errors": self._errors,
            "stages": [
                {"stage": name, "source": source, **asdict(self._counts[name])}
                for name, source in self._stages.items()
            ],
            "checksum": checksum_text(self._checksum),
            "event_loop_lag_ms": asdict(lag) if lag else None,
        }


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended; `measurements` is None when it never began."""

    error: ServiceError | None
    measurements: dict[str, Any] | None
