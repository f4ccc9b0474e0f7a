"""What comes out of a run: rows to the results file, counts and measurements to the task."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any, Final

from app.errors import ServiceError
from app.runhost.messages import Batches, RunReport, RunStarted
from app.services.active_run import ActiveRun
from app.services.loop_lag import LagSummary
from app.services.sources import SourceMonitor
from app.sources.base import Stage, StageCounts
from app.strategies.checksum import MODULUS, checksum_text
from app.tasks.results import ResultsReader, ResultsWriter
from app.tasks.store import TaskStore

PROGRESS_SECONDS: Final = 0.5
"""Between two updates of the task's row."""

KEPT_ERRORS: Final = 100
KEPT_RESULTS: Final = 5


class RunCollector:
    """Takes a run's events. `add` blocks on the disk: it is called in a thread, once at a time."""

    def __init__(
        self,
        active: ActiveRun,
        writer: ResultsWriter,
        store: TaskStore,
        stages: tuple[Stage, ...],
        sources: SourceMonitor,
    ) -> None:
        self.report: RunReport | None = None
        self._stages = {stage.name: stage.source for stage in stages}
        self._counts = {stage.name: StageCounts() for stage in stages}
        self._sources = sources
        self._active = active
        self._writer = writer
        self._store = store
        self._setup: RunStarted | None = None
        self._started = time.perf_counter()
        self._stored = self._started
        self._checksum = 0
        self._io_seconds = 0.0
        self._errors: list[dict[str, Any]] = []

    def start(self, event: RunStarted) -> None:
        self._setup = event
        self._started = self._stored = time.perf_counter()

    def add(self, event: Batches) -> None:
        """Raises StoreError."""
        for result in event.results:
            self._writer.write(result)
            self._checksum = (self._checksum + result.checksum) % MODULUS
            self._io_seconds += result.io_seconds
            room = KEPT_ERRORS - len(self._errors)
            self._errors.extend(asdict(error) for error in result.errors[:room])
            for name, counts in result.counts.items():
                self._counts[name].add(counts)
                self._sources.count(self._stages[name], counts)
            self._active.items_processed += result.batch.count
            self._active.failed_items += len(result.errors)
        now = time.perf_counter()
        self._active.seconds = now - self._started
        if now - self._stored >= PROGRESS_SECONDS:
            self._stored = now
            self._store.record_progress(
                self._active.task_id, self._active.items_processed, self._active.failed_items
            )

    def measurements(self, path: str, lag: LagSummary | None) -> dict[str, Any]:
        """Everything of a run's result that only the run knows, as JSON. Of a run whose run host
        died, what the API process saw of it. Reads the first rows from the file at `path`.
        """
        with ResultsReader(path) as reader:
            results = reader.head(KEPT_RESULTS)
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
