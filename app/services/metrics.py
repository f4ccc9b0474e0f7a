"""Counters of the service in the text format of Prometheus, counted in this process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.names import StrategyName, TaskStatus
from app.services.sources import SourceMonitor

BREAKER_STATES: Final = ("closed", "open", "half_open")

# When a counter was made is of no use: it is the start of the process.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """Everything that is counted; a registry of its own, so that apps do not share it."""

    def __init__(self, sources: SourceMonitor) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_SourceCollector(sources))
        self._runs = Counter(
            "hotloop_runs",
            "Runs that ended.",
            ["strategy", "kernel", "status"],
            registry=self._registry,
        )
        self._items = Counter(
            "hotloop_items",
            "Items of ended runs, by outcome.",
            ["strategy", "kernel", "outcome"],
            registry=self._registry,
        )

    def run_ended(
        self,
        strategy: StrategyName,
        kernel: str,
        status: TaskStatus,
        items_processed: int,
        failed_items: int,
    ) -> None:
        """`items_processed` includes the failed ones."""
        self._runs.labels(strategy, kernel, status).inc()
        self._items.labels(strategy, kernel, "done").inc(items_processed - failed_items)
        self._items.labels(strategy, kernel, "failed").inc(failed_items)

    def text(self) -> bytes:
        """In the text exposition format, version 0.0.4."""
        return generate_latest(self._registry)


class _SourceCollector(Collector):
    def __init__(self, sources: SourceMonitor) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        states = self._sources.states()
        counters = {
            "calls": "Requests sent to a source, retries included.",
            "retries": "Requests to a source that repeated a failed one.",
            "hits": "Items that a source had.",
            "misses": "Items that a source had not.",
        }
        for name, text in counters.items():
            family = CounterMetricFamily(f"hotloop_source_{name}", text, labels=["source"])
            for source, state in states.items():
                family.add_metric([source], getattr(state.counts, name))
            yield family
        openings = CounterMetricFamily(
            "hotloop_source_breaker_openings", "Times that a breaker opened.", labels=["source"]
        )
        breakers = GaugeMetricFamily(
            "hotloop_source_breaker_state",
            "1 for the state that a source's breaker is in, else 0.",
            labels=["source", "state"],
        )
        for source, state in states.items():
            openings.add_metric([source], state.openings)
            for name in BREAKER_STATES:
                breakers.add_metric([source, name], float(state.state == name))
        yield openings
        yield breakers
