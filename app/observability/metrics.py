"""Metrics of the service, in the text format of Prometheus.

A process that answers requests or executes tasks counts for itself and for its run hosts and
workers. If several processes answer on one port, each writes its numbers to files in a folder that
they share, and any of them answers with the sums (`hotloop.app.observability.metrics_folder`).
"""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from hotloop.app.names import StrategyName, TaskStatus
from hotloop.app.observability.health import SourceMonitor
from hotloop.app.observability.metrics_folder import shared_folder
from hotloop.app.tasks.model import FINISHED
from hotloop.app.version import VERSION
from hotloop.kernels import workloads

UNDECLARED: Final = "other"
"""Label of runs whose workload is not declared any more."""

BREAKER_STATES: Final = ("closed", "open", "half_open")

_REQUEST_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300)
_RUN_SECONDS: Final = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)
_STORE_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30)

# The time at which a counter was made is only the start of the process.
disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Gauges:
    """The state of a process now."""

    queued_shards: Mapping[str, int]
    """Shards in the queue of the whole store by state: `waiting` and `held`."""
    waiting_runs: int
    """Synchronous runs that wait for a run host."""
    run_hosts: Mapping[str, int]
    """Run hosts by state: `idle`, `busy`, and `missing` for those that should exist and do not."""
    run_host_deaths: int
    """Run hosts that ended since the process started."""
    loop_lag_seconds: Mapping[str, float]
    """Lag of the event loop in the last minute: `p99` and `max`."""
    resident_bytes: int
    open_files: int


class Metrics:
    """All metrics of one application, in a registry that no other application shares."""

    def __init__(self, sources: SourceMonitor) -> None:
        self.before_text: Callable[[], None] = lambda: None
        """Function that sets the gauges. It is called in the thread that reads the metrics."""
        self._sources = sources
        self._told: dict[tuple[Counter, str], int] = {}
        """The part of a number kept elsewhere that its counter already has."""
        self._guard = threading.Lock()
        self._registry = registry = CollectorRegistry()
        self._requests = Histogram(
            "hotloop_request_seconds",
            "Seconds from a request to the end of its answer.",
            ["route", "method", "status"],
            buckets=_REQUEST_SECONDS,
            registry=registry,
        )
        run = ["workload", "strategy", "kernel"]
        self._runs = Counter(
            "hotloop_runs", "Runs that ended.", [*run, "status"], registry=registry
        )
        self._items = Counter(
            "hotloop_items",
            "Items of ended runs, by outcome.",
            [*run, "outcome"],
            registry=registry,
        )
        self._run_seconds = Histogram(
            "hotloop_run_seconds",
            "Seconds that completed runs took, set-up apart.",
            run,
            buckets=_RUN_SECONDS,
            registry=registry,
        )
        self._calls = Counter(
            "hotloop_calls",
            "Calls that were computed beside others, not as runs.",
            ["workload", "kernel"],
            registry=registry,
        )
        self._micro_batches = Counter(
            "hotloop_micro_batches", "Kernel calls for those calls.", registry=registry
        )
        self._call_items = Counter(
            "hotloop_call_items",
            "Items of those calls, by outcome.",
            ["workload", "kernel", "outcome"],
            registry=registry,
        )
        self._comparisons = Counter(
            "hotloop_comparisons", "Comparisons that ended.", ["status"], registry=registry
        )
        self._measurements = Counter(
            "hotloop_comparison_measurements",
            "Executions of cells by ended comparisons, warm-ups included.",
            registry=registry,
        )
        self._stuck_shards = Counter(
            "hotloop_stuck_shards",
            "Shards without progress that this process took over from a living node.",
            registry=registry,
        )
        self._store_seconds = Histogram(
            "hotloop_store_seconds",
            "Seconds of a transaction of the task store, waiting for its turn included.",
            ["kind"],
            buckets=_STORE_SECONDS,
            registry=registry,
        )
        self._store_errors = Counter(
            "hotloop_store_errors",
            "Transactions of the task store that failed.",
            ["kind"],
            registry=registry,
        )
        for status in sorted(FINISHED):
            self._comparisons.labels(status)
        for kind in ("read", "write"):
            self._store_seconds.labels(kind)
            self._store_errors.labels(kind)
        self._init_gauges(registry)
        self._init_sources(registry)

    def _init_gauges(self, registry: CollectorRegistry) -> None:
        def gauge(
            name: str, text: str, labels: tuple[str, ...] = (), mode: str = "livesum"
        ) -> Gauge:
            return Gauge(
                f"hotloop_{name}",
                text,
                labels,
                registry=registry,
                multiprocess_mode=mode,  # type: ignore[arg-type]
            )

        build = gauge("build_info", "1; what runs.", ("version", "python"), "max")
        build.labels(VERSION, platform.python_version()).set(1)
        gauge("processes", "Processes that are summed up here.").set(1)
        self._queued = gauge(
            "queued_shards",
            "Shards in the queue of background work, of all nodes together.",
            ("state",),
            "livemostrecent",
        )
        self._waiting = gauge("waiting_runs", "Synchronous runs that wait for a run host.")
        self._hosts = gauge("run_hosts", "Run hosts by state.", ("state",))
        self._lag = gauge(
            "loop_lag_seconds",
            "How late the event loop was in the last minute: 99th percentile and maximum.",
            ("quantile",),
            "livemax",
        )
        self._resident = gauge("process_resident_bytes", "Memory of the process, run hosts apart.")
        self._files = gauge("process_open_files", "Open descriptors of the process.")
        self._deaths = Counter(
            "hotloop_run_host_deaths", "Run hosts that ended and were replaced.", registry=registry
        )

    def _init_sources(self, registry: CollectorRegistry) -> None:
        counted = {
            "calls": "Requests sent to a source, retries included.",
            "retries": "Requests to a source that repeated a failed one.",
            "hits": "Items that a source had.",
            "misses": "Items that a source had not.",
            "breaker_openings": "Times that a breaker opened.",
        }
        self._source_counters = {
            name: Counter(f"hotloop_source_{name}", text, ["source"], registry=registry)
            for name, text in counted.items()
        }
        self._breakers = Gauge(
            "hotloop_source_breaker_state",
            "1 for the state that a source's breaker is in, else 0.",
            ["source", "state"],
            registry=registry,
            multiprocess_mode="livemax",
        )

    def request_ended(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answered request. `route` is a template."""
        self._requests.labels(route, method, str(status)).observe(seconds)

    def run_ended(
        self,
        workload: str,
        strategy: StrategyName,
        kernel: str,
        status: TaskStatus,
        items_processed: int,
        failed_items: int,
        seconds: float | None = None,
    ) -> None:
        """Count a run. `items_processed` includes failed items; `seconds` is the run's duration.

        A workload that is not declared any more counts as UNDECLARED, so that the number of labels
        has a bound.
        """
        run = workload if workload in workloads() else UNDECLARED, strategy, kernel
        self._runs.labels(*run, status).inc()
        self._items.labels(*run, "done").inc(items_processed - failed_items)
        self._items.labels(*run, "failed").inc(failed_items)
        if status is TaskStatus.COMPLETED and seconds is not None:
            self._run_seconds.labels(*run).observe(seconds)

    def calls_of(self, workload: str, kernel: str) -> Callable[[int, int], None]:
        """Return a function that counts a call that was computed: its items, failed ones included,
        and its failed items.
        """
        of = workload, kernel
        calls = self._calls.labels(*of)
        done, failed = (self._call_items.labels(*of, outcome) for outcome in ("done", "failed"))

        def ended(items: int, failed_items: int) -> None:
            calls.inc()
            done.inc(items - failed_items)
            if failed_items:
                failed.inc(failed_items)

        return ended

    def micro_batch_ended(self) -> None:
        """Count a kernel call for one or several calls."""
        self._micro_batches.inc()

    def comparison_ended(self, status: TaskStatus, measurements: int) -> None:
        """Count a comparison. `measurements` is the number made in this execution of it."""
        self._comparisons.labels(status).inc()
        self._measurements.inc(measurements)

    def stuck_shard_taken(self) -> None:
        """Count a shard that this process took over from a living node."""
        self._stuck_shards.inc()

    def transaction_ended(self, kind: str, seconds: float, failed: bool) -> None:
        """Count a transaction of the task store. `kind` is `read` or `write`."""
        self._store_seconds.labels(kind).observe(seconds)
        if failed:
            self._store_errors.labels(kind).inc()

    def set_gauges(self, now: Gauges) -> None:
        """Take over sampled gauges."""
        for state, count in now.queued_shards.items():
            self._queued.labels(state).set(count)
        self._waiting.set(now.waiting_runs)
        for state, count in now.run_hosts.items():
            self._hosts.labels(state).set(count)
        for quantile, seconds in now.loop_lag_seconds.items():
            self._lag.labels(quantile).set(seconds)
        self._resident.set(now.resident_bytes)
        self._files.set(now.open_files)
        with self._guard:
            self._raise_to(self._deaths, "", now.run_host_deaths)

    def take_sources(self) -> None:
        """Take over the counts and states of the sources."""
        with self._guard:
            for source, state in self._sources.states().items():
                for name, counter in self._source_counters.items():
                    counts = state if name == "breaker_openings" else state.counts
                    number = getattr(counts, "openings" if counts is state else name)
                    self._raise_to(counter, source, number)
                for name in BREAKER_STATES:
                    self._breakers.labels(source, name).set(float(state.state == name))

    def _raise_to(self, counter: Counter, source: str, number: int) -> None:
        key = counter, source
        child = counter.labels(source) if source else counter
        child.inc(number - self._told.get(key, 0))
        self._told[key] = number

    def text(self) -> bytes:
        """All metrics in the text exposition format, version 0.0.4. Blocks: it may read files."""
        self.before_text()
        self.take_sources()
        folder = shared_folder()
        if folder is None:
            return generate_latest(self._registry)
        summed = CollectorRegistry()
        MultiProcessCollector(summed, path=folder)  # type: ignore[no-untyped-call]
        return generate_latest(summed)
