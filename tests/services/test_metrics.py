"""Counters in the text format, as a Prometheus server reads them."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.names import StrategyName, TaskStatus
from app.services.metrics import Metrics
from app.services.sources import SourceMonitor
from app.sources.base import StageCounts
from app.sources.breaker_reports import BreakerReport


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Name and label values, in the order of the labels' names, to the number."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def test_service_that_did_nothing_has_sources_at_zero() -> None:
    found = samples(Metrics(SourceMonitor(("redis",))))
    assert found == {
        ("hotloop_source_calls_total", "redis"): 0,
        ("hotloop_source_retries_total", "redis"): 0,
        ("hotloop_source_hits_total", "redis"): 0,
        ("hotloop_source_misses_total", "redis"): 0,
        ("hotloop_source_breaker_openings_total", "redis"): 0,
        ("hotloop_source_breaker_state", "redis", "closed"): 1,
        ("hotloop_source_breaker_state", "redis", "open"): 0,
        ("hotloop_source_breaker_state", "redis", "half_open"): 0,
    }


def test_runs_and_items_are_counted_by_strategy_kernel_and_outcome() -> None:
    metrics = Metrics(SourceMonitor(()))
    hybrid = StrategyName.HYBRID, "python"
    metrics.run_ended(*hybrid, TaskStatus.COMPLETED, 10, 3)
    metrics.run_ended(*hybrid, TaskStatus.COMPLETED, 5, 0)
    metrics.run_ended(*hybrid, TaskStatus.FAILED, 0, 0)
    metrics.run_ended(StrategyName.THREADING, "python", TaskStatus.CANCELLED, 1, 1)
    assert samples(metrics) == {
        ("hotloop_runs_total", "python", "completed", "hybrid"): 2,
        ("hotloop_runs_total", "python", "failed", "hybrid"): 1,
        ("hotloop_runs_total", "python", "cancelled", "threading"): 1,
        ("hotloop_items_total", "python", "done", "hybrid"): 12,
        ("hotloop_items_total", "python", "failed", "hybrid"): 3,
        ("hotloop_items_total", "python", "done", "threading"): 0,
        ("hotloop_items_total", "python", "failed", "threading"): 1,
    }


def test_counts_of_sources_are_those_of_the_monitor() -> None:
    monitor = SourceMonitor(())
    metrics = Metrics(monitor)
    monitor.count("pinot", StageCounts(calls=4, retries=3, hits=2, misses=1))
    found = samples(metrics)
    names = ("calls", "retries", "hits", "misses")
    assert [found[f"hotloop_source_{name}_total", "pinot"] for name in names] == [4, 3, 2, 1]


@pytest.mark.parametrize("state", ["closed", "half_open", "open"])
def test_breaker_is_in_one_state(state: str) -> None:
    monitor = SourceMonitor(("pinot",))
    monitor.note(BreakerReport("pinot", state, 2, "secret of nobody"))
    metrics = Metrics(monitor)
    found = samples(metrics)
    states = {key[2]: value for key, value in found.items() if len(key) == 3}
    assert states == {"closed": 0, "half_open": 0, "open": 0} | {state: 1}
    assert found["hotloop_source_breaker_openings_total", "pinot"] == 2
    assert b"secret of nobody" not in metrics.text()


def test_two_services_count_apart_and_nothing_of_the_process() -> None:
    first, second = Metrics(SourceMonitor(())), Metrics(SourceMonitor(()))
    first.run_ended(StrategyName.HYBRID, "python", TaskStatus.COMPLETED, 1, 0)
    assert samples(second) == {}
    assert b"_created" not in first.text()
    assert b"python_info" not in first.text()
